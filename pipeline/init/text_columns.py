"""What files of text hold, found by looking into them: which column is the text, which are labels, each file's split."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.init.label_columns import label_of_column, task_name, unused
from pipeline.init.splits import SPLITS, split_around
from pipeline.sources.text.records import rows_of
from pipeline.sources.text.scripts import words_in

TAG = re.compile(r"O|[BI]-(\S+)")
CLASSES = 100  # a column with more, such as an author or a day, makes no task
COLUMNS = 10  # named in an error
FEWEST = 30  # labelled rows, if splits are drawn from them
SHOWN = 3  # files, or problems, per line
WORDS = 2.0  # cells of the text column have more on average
PLACES = {"train": "transfer", "val": "val", "test": "test/clean", None: "transfer"}

Rows = list[dict[str, Any]]


@dataclass
class Proposal:
    """files, text, classes, tags, columns: as in params of `TextFiles`. lengths: words of each text. letters: of a word, on
    average. said: what was found, in words."""

    files: dict[str, list[str]]
    text: str
    lengths: list[int]
    letters: float
    classes: dict[str, list[str]] = field(default_factory=dict)
    tags: dict[str, list[str]] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)


def propose(paths: list[Path], data: Path) -> Proposal:
    """Tasks for files of text in the folder `data`. Raises ValueError if no column is a text, or none is a label."""
    tables = {path: rows_in(path, None) for path in paths if path.suffix.lower() != ".conll"}
    text = text_among(tables)
    tables = {path: tables[path] if path in tables else rows_in(path, text) for path in paths}
    left_out = [path for path, rows in tables.items() if text not in names_of(rows)]
    tables = {path: rows for path, rows in tables.items() if path not in left_out}
    names = dict.fromkeys(name for rows in tables.values() for name in names_of(rows) if name != text)
    labels = [name for name in names if labels_of_column(filled(name, *tables.values()))[0]]
    files: dict[str, list[str]] = {}
    for path, rows in tables.items():
        labelled = any(filled(name, rows) for name in labels)  # files without labels are to learn from
        files.setdefault(place_of(path, data) if labelled else "transfer", []).append(str(path))
    texts = [listed(row.get(text) or "") for rows in tables.values() for row in rows]
    lengths = [len(words) for words in texts]
    seen = Proposal(settled(files), text, lengths, sum(len(word) for words in texts for word in words) / max(1, sum(lengths)))
    for split, inside in seen.files.items():
        seen.said.append(f"{split}: column {text!r} of {', '.join(inside[:SHOWN])}{' ...' if len(inside) > SHOWN else ''}")
    seen.said += [f"{path}: no column {text!r}; left out" for path in left_out]
    labels_among(seen, [[row for path in inside for row in tables[Path(path)]] for inside in seen.files.values()])
    if not (seen.classes or seen.tags):
        raise ValueError("; ".join([f"{paths[0]}: a text, but no column of classes or tags", *seen.said[-SHOWN:]]))
    return seen


def place_of(path: Path, data: Path) -> str:
    """The split that a file, or a folder around it, is named after."""
    return PLACES[split_around(path, data)]


def rows_in(path: Path, text: str | None) -> Rows:
    """The rows that can be read. text: the name for the words of a CoNLL file. Raises ValueError if none can."""
    bad: list[str] = []
    rows = [row for _, row in rows_of(path, text, "tags", bad)]
    if bad and not rows:
        raise ValueError("; ".join(bad[:SHOWN]))
    return rows


def text_among(tables: dict[Path, Rows]) -> str:
    """The column with the most words per cell; "text" if there are only CoNLL files. Raises ValueError."""
    if not tables:
        return "text"
    names = list(dict.fromkeys(name for rows in tables.values() for name in names_of(rows)))
    cells = {name: filled(name, *tables.values()) for name in names}
    lengths = {name: words_a_cell(x) for name, x in cells.items() if not all(map(are_tags, x))}
    text = max(lengths, key=lambda name: lengths[name], default="")
    if lengths.get(text, 0) <= WORDS:
        there = ", ".join([*names[:COLUMNS], *["..."] * (len(names) > COLUMNS)]) or "none"
        raise ValueError(
            f"{', '.join(map(str, list(tables)[:SHOWN]))}: no column is a text, of more than {WORDS:g} words a row, and no log "
            f"has columns called user, item and time; there are {there}; for data of another kind copy the clone's "
            "examples/sensors, whose source is a file of yours"
        )
    return text


def names_of(rows: Rows) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row if name))


def filled(name: str, *tables: Rows) -> list[Any]:
    """The cells of a column that are not empty."""
    cells = [row.get(name) for rows in tables for row in rows]
    return [cell for cell in cells if cell not in (None, []) and str(cell).strip()]


def listed(cell: Any, split: Callable[[str], list[str]] = words_in) -> Any:
    """A cell as a list, if it is a text or a list."""
    return split(cell) if isinstance(cell, str) else cell


def words_a_cell(cells: list[Any]) -> float:
    """The mean number of words per cell; 0 if cells are not texts."""
    words = list(map(listed, cells))
    are_texts = all(isinstance(some, list) and all(isinstance(word, str) for word in some) for some in words)
    return sum(map(len, words)) / len(words) if words and are_texts else 0.0


def are_tags(cell: Any) -> bool:
    """Whether a cell is one tag per word; a single "O" is one too."""
    tags = listed(cell, str.split)
    return isinstance(tags, list) and all(isinstance(tag, str) and TAG.fullmatch(tag) for tag in tags)


def settled(files: dict[str, list[str]]) -> dict[str, list[str]]:
    """Without test files, those called val become test; val is then drawn from what is learned from."""
    if "transfer" not in files:
        return {"transfer": [path for paths in files.values() for path in paths]}
    if "val" in files and "test/clean" not in files:
        files["test/clean"] = files.pop("val")
    return files


def labels_among(seen: Proposal, splits: list[Rows]) -> None:
    """Columns of classes become tasks, and one of tags, if every split has enough of them."""
    total = sum(map(len, splits))
    for name in dict.fromkeys(name for rows in splits for name in names_of(rows) if name != seen.text):
        cells = filled(name, *splits)
        tagged = hold_tags(cells)
        found, said = labels_of_column(cells)
        if name in found:
            raise ValueError(f"{seen.said[0]}: {name!r} is the name of a column and in its cells: name the columns in line 1")
        if len(cells) < total:
            said += f" in {len(cells)} of {total} rows"
        why = why_not(seen, tagged, [len(filled(name, rows)) for rows in splits])
        if found and not why:
            label = unused(task_name(name), {**seen.classes, **seen.tags})
            (seen.tags if tagged else seen.classes)[label] = found
            seen.columns |= {label: name} if label != name else {}
            seen.said.append(f"{label}: {said}" if label == name else f"{label}, column {name!r}: {said}")
        else:
            seen.said.append(f"column {name!r}: {said}{f': {why}' if found else ''}; left out")


def why_not(seen: Proposal, tagged: bool, labelled: list[int]) -> str:
    """What keeps a column of labels from being a task; labelled: rows of each split."""
    if min(labelled) == 0:
        return "in no row of some split"
    if len(labelled) == 1 and labelled[0] < FEWEST:
        return f"fewer than {FEWEST} rows to divide into splits"
    return "one task of tags is read" if tagged and seen.tags else ""


def hold_tags(cells: list[Any]) -> bool:
    return bool(cells) and all(map(are_tags, cells))


def labels_of_column(cells: list[Any]) -> tuple[list[str], str]:
    """Classes, or kinds of tags, none if the column is not a label; and what it is, in words."""
    return tags_of_column(cells) if hold_tags(cells) else classes_of_column(cells)


def classes_of_column(cells: list[Any]) -> tuple[list[str], str]:
    if not all(isinstance(cell, str | int | float) for cell in cells):
        return [], "lists or objects"
    keys, said = label_of_column([str(cell).strip() for cell in cells])
    if keys.get("gives", "class") != "class":
        return [], f"{said.rstrip(',')}: what is read of texts is one class a cell"
    found = keys.get("classes", [])
    if found and {name.lower() for name in found} <= SPLITS.keys():
        return [], "names of splits: have a file for each, called train, val or test"
    return (found, said) if len(found) <= CLASSES else ([], f"{len(found)} classes, more than {CLASSES}")


def tags_of_column(cells: list[Any]) -> tuple[list[str], str]:
    tags = {tag for cell in cells for tag in listed(cell, str.split)}
    kinds = sorted({found[1] for tag in tags if (found := TAG.fullmatch(tag)) and found[1]})
    return kinds, f"tags of {', '.join(kinds) or 'no kind'}"
