"""What files of text hold, found out by looking: which column is the text, which are labels, of which split each file is."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.sources.label_columns import label_of_column, task_name
from pipeline.sources.splits import split_of
from pipeline.sources.text.records import rows_of

TAG = re.compile(r"O|[BI]-(\S+)")
CLASSES = 100  # of a column with more, such as an author or a day, no task is made
WORDS = 2.0  # a cell of the text has more on average
SPLITS = {"train": "transfer", "val": "val", "test": "test/clean", None: "transfer"}

Rows = list[dict[str, Any]]


@dataclass
class Proposal:
    """files, text, classes, tags: as params have them, of `TextFiles`. lengths: words of each text. said: what was found, in
    words."""

    files: dict[str, list[str]]
    text: str
    lengths: list[int]
    classes: dict[str, list[str]] = field(default_factory=dict)
    tags: dict[str, list[str]] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)


def propose(paths: list[Path]) -> Proposal:
    """Of files of text. Raises ValueError if no column is a text, or none is a label."""
    files: dict[str, list[str]] = {}
    tables: dict[str, Rows] = {}
    bad: list[str] = []
    for path in paths:
        tables[str(path)] = [row for _, row in rows_of(path, None, "tags", bad)]
        if path.suffix == ".conll":  # its text is called as that of other files is
            tables[str(path)] = [{"tags": row["tags"]} for row in tables[str(path)]]
        if bad:
            raise ValueError("; ".join(bad[:3]))
        files.setdefault(SPLITS[split_of(path) or split_of(path.parent)], []).append(str(path))
    text = text_among({path: rows for path, rows in tables.items() if not path.endswith(".conll")})
    lengths = [len(words_of(row.get(text) or row.get("tags") or "")) for rows in tables.values() for row in rows]
    seen = Proposal(settled(files), text, lengths)
    seen.said.append(f"text: column {text!r} of {', '.join(list(tables)[:3])}{' ...' if len(tables) > 3 else ''}")
    splits = [[row for path in paths for row in tables[path]] for paths in seen.files.values()]
    labels_among(seen, splits)
    if not (seen.classes or seen.tags):
        raise ValueError("; ".join([f"{paths[0]}: a text, but no column of classes or tags", *seen.said[1:4]]))
    return seen


def text_among(tables: dict[str, Rows]) -> str:
    """The column that is in every table and has the most words a cell; "text" of CoNLL files alone. Raises ValueError."""
    if not tables:
        return "text"
    named = [names_of(rows) for rows in tables.values()]
    cells = {name: filled(name, *tables.values()) for name in named[0] if all(name in names for names in named)}
    lengths = {name: words_a_cell(x) for name, x in cells.items() if not all(map(are_tags, x))}
    text = max(lengths, key=lambda name: lengths[name], default="")
    if lengths.get(text, 0) <= WORDS:
        there = ", ".join(dict.fromkeys(name for names in named for name in names)) or "none"
        raise ValueError(
            f"{', '.join(list(tables)[:3])}: no column is a text in every file, of more than {WORDS:g} words a row; "
            f"there are {there}"
        )
    return text


def names_of(rows: Rows) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row if name))


def filled(name: str, *tables: Rows) -> list[Any]:
    """The cells of a column that say something."""
    return [row[name] for rows in tables for row in rows if row.get(name) not in (None, "", [])]


def words_of(cell: Any) -> Any:
    """A list, if the cell is a text or a list."""
    return cell.split() if isinstance(cell, str) else cell


def words_a_cell(cells: list[Any]) -> float:
    """0 where cells are no texts."""
    words = list(map(words_of, cells))
    are_texts = all(isinstance(some, list) and all(isinstance(word, str) for word in some) for some in words)
    return sum(map(len, words)) / len(words) if words and are_texts else 0.0


def are_tags(cell: Any) -> bool:
    """A tag a word; "O" alone is one too."""
    words = words_of(cell)
    return isinstance(words, list) and all(isinstance(word, str) and TAG.fullmatch(word) for word in words)


def settled(files: dict[str, list[str]]) -> dict[str, list[str]]:
    """Without a test of their own, what is called val is it: val is then drawn from what is learnt from."""
    if "transfer" not in files:
        return {"transfer": [path for paths in files.values() for path in paths]}
    if "val" in files and "test/clean" not in files:
        files["test/clean"] = files.pop("val")
    return files


def labels_among(seen: Proposal, splits: list[Rows]) -> None:
    """Columns of classes become tasks, and one of tags, if every split has some."""
    total = sum(map(len, splits))
    for name in dict.fromkeys(name for rows in splits for name in names_of(rows) if name != seen.text):
        cells = filled(name, *splits)
        tagged = bool(cells) and all(map(are_tags, cells))
        found, said = tags_of_column(cells) if tagged else classes_of_column(cells)
        if found and not all(filled(name, rows) for rows in splits):
            found, said = [], f"{said}, but in no row of some split"
        elif found and name != task_name(name):
            found, said = [], f"{said}, but its name is to name a task: call it {task_name(name)}"
        elif found and tagged and seen.tags:
            found, said = [], f"{said}, but one task of tags is read"
        if found:
            (seen.tags if tagged else seen.classes)[name] = found
        where = "" if len(cells) == total else f" in {len(cells)} of {total} rows"
        seen.said.append(f"{name}: {said}{where}" if found else f"column {name!r}: {said}; left out")


def classes_of_column(cells: list[Any]) -> tuple[list[str], str]:
    keys, said = label_of_column([str(cell).strip() for cell in cells])
    if keys.get("gives") != "class":
        return [], said
    return (keys["classes"], said) if len(keys["classes"]) <= CLASSES else ([], f"{len(keys['classes'])} classes")


def tags_of_column(cells: list[Any]) -> tuple[list[str], str]:
    words = {word for cell in cells for word in words_of(cell)}
    kinds = sorted({found[1] for word in words if (found := TAG.fullmatch(word)) and found[1]})
    return kinds, f"tags of {', '.join(kinds) or 'no kind'}"
