"""What the cells of a column are: a class, classes, a number, or no label; and that in words."""

import re
import unicodedata
from collections import Counter
from collections.abc import Container, Iterable
from itertools import chain, count
from typing import Any

import numpy as np

from pipeline.project.dependencies import torchs_own

MOST = 0.5  # of the filled cells: a column with more different values is no class
NAMED = 8  # classes, in words
LONGEST = 40  # characters of a task's name


def label_of_column(cells: list[str]) -> tuple[dict[str, Any], str]:
    """Keys of a part, none if the column is not a label; and what it is, in words. An empty cell is no label."""
    filled_cells = [cell for cell in cells if cell]
    names = [word.strip() for cell in filled_cells for word in cell.split(";") if word.strip()]
    values = sorted(set(filled_cells))
    if any(";" in value for value in values):
        values = sorted(set(names))
        return {"gives": "classes", "classes": values}, f"{len(values)} labels{counted(names)}, any of them,"
    if all(is_number(value) for value in values) and not all(float(value).is_integer() for value in values):
        return {"gives": "number"}, "a number"
    if 1 < len(values) <= max(2, MOST * len(filled_cells)):
        return {"gives": "class", "classes": values}, f"one of {len(values)} classes{counted(filled_cells)}"
    return {}, f"{len(values)} different values in {len(cells)} lines: no label"


def is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def counted(names: Iterable[str]) -> str:
    """Names with how often each occurs, the rarest first: misspelled ones are among them."""
    counts = sorted(Counter(names).items(), key=lambda pair: (pair[1], pair[0]))
    more = f", and {len(counts) - NAMED} more" if len(counts) > NAMED else ""
    return f" ({', '.join(f'{name} {count}' for name, count in counts[:NAMED])}{more})" if counts else ""


def task_name(column: str) -> str:
    """A column's name as params allow it, since it names files, and torch; of a question, the first words."""
    ascii_name = unicodedata.normalize("NFKD", column).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9-]+", "_", ascii_name)[:LONGEST].strip("_-") or "label"
    return f"{name}_label" if torchs_own(name) else name


def unused(name: str, taken_names: Container[str]) -> str:
    """The name, with a number after it if it is taken."""
    return next(candidate for candidate in chain([name], (f"{name}{n}" for n in count(2))) if candidate not in taken_names)
