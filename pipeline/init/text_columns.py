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
    rows_by_file = {path: rows_in(path, None) for path in paths if path.suffix.lower() != ".conll"}
    text_column = text_among(rows_by_file)
    rows_by_file = {path: rows_by_file[path] if path in rows_by_file else rows_in(path, text_column) for path in paths}
    left_out_paths = [path for path, rows in rows_by_file.items() if text_column not in names_of(rows)]
    rows_by_file = {path: rows for path, rows in rows_by_file.items() if path not in left_out_paths}
    columns = dict.fromkeys(column for rows in rows_by_file.values() for column in names_of(rows) if column != text_column)
    label_columns = [column for column in columns if labels_of_column(filled(column, *rows_by_file.values()))[0]]
    files: dict[str, list[str]] = {}
    for path, rows in rows_by_file.items():
        has_labels = any(filled(column, rows) for column in label_columns)  # files without labels are to learn from
        files.setdefault(place_of(path, data) if has_labels else "transfer", []).append(str(path))
    texts = [listed(row.get(text_column) or "") for rows in rows_by_file.values() for row in rows]
    lengths = [len(words) for words in texts]
    proposal = Proposal(
        settled(files), text_column, lengths, sum(len(word) for words in texts for word in words) / max(1, sum(lengths))
    )
    for split, split_files in proposal.files.items():
        proposal.said.append(
            f"{split}: column {text_column!r} of {', '.join(split_files[:SHOWN])}{' ...' if len(split_files) > SHOWN else ''}"
        )
    proposal.said += [f"{path}: no column {text_column!r}; left out" for path in left_out_paths]
    labels_among(
        proposal, [[row for path in split_files for row in rows_by_file[Path(path)]] for split_files in proposal.files.values()]
    )
    if not (proposal.classes or proposal.tags):
        raise ValueError("; ".join([f"{paths[0]}: a text, but no column of classes or tags", *proposal.said[-SHOWN:]]))
    return proposal


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


def text_among(rows_by_file: dict[Path, Rows]) -> str:
    """The column with the most words per cell; "text" if there are only CoNLL files. Raises ValueError."""
    if not rows_by_file:
        return "text"
    columns = list(dict.fromkeys(column for rows in rows_by_file.values() for column in names_of(rows)))
    cells_by_column = {column: filled(column, *rows_by_file.values()) for column in columns}
    words_per_cell = {column: words_a_cell(cells) for column, cells in cells_by_column.items() if not all(map(are_tags, cells))}
    text_column = max(words_per_cell, key=lambda column: words_per_cell[column], default="")
    if words_per_cell.get(text_column, 0) <= WORDS:
        known_columns = ", ".join([*columns[:COLUMNS], *["..."] * (len(columns) > COLUMNS)]) or "none"
        raise ValueError(
            f"{', '.join(map(str, list(rows_by_file)[:SHOWN]))}: no column is a text, of more than {WORDS:g} words a row, and "
            f"no log has columns called user, item and time; there are {known_columns}; for data of another kind copy the "
            "clone's examples/sensors, whose source is a file of yours"
        )
    return text_column


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
    word_lists = list(map(listed, cells))
    are_texts = all(isinstance(words, list) and all(isinstance(word, str) for word in words) for words in word_lists)
    return sum(map(len, word_lists)) / len(word_lists) if word_lists and are_texts else 0.0


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


def labels_among(proposal: Proposal, rows_by_split: list[Rows]) -> None:
    """Columns of classes become tasks, and one of tags, if every split has enough of them."""
    row_count = sum(map(len, rows_by_split))
    for column in dict.fromkeys(column for rows in rows_by_split for column in names_of(rows) if column != proposal.text):
        cells = filled(column, *rows_by_split)
        is_tags = hold_tags(cells)
        label_names, description = labels_of_column(cells)
        if column in label_names:
            raise ValueError(
                f"{proposal.said[0]}: {column!r} is the name of a column and in its cells: name the columns in line 1"
            )
        if len(cells) < row_count:
            description += f" in {len(cells)} of {row_count} rows"
        reason = why_not(proposal, is_tags, [len(filled(column, rows)) for rows in rows_by_split])
        if label_names and not reason:
            label = unused(task_name(column), {**proposal.classes, **proposal.tags})
            (proposal.tags if is_tags else proposal.classes)[label] = label_names
            proposal.columns |= {label: column} if label != column else {}
            proposal.said.append(f"{label}: {description}" if label == column else f"{label}, column {column!r}: {description}")
        else:
            proposal.said.append(f"column {column!r}: {description}{f': {reason}' if label_names else ''}; left out")


def why_not(proposal: Proposal, is_tags: bool, row_counts: list[int]) -> str:
    """What keeps a column of labels from being a task; row_counts: of each split, those that have it."""
    if min(row_counts) == 0:
        return "in no row of some split"
    if len(row_counts) == 1 and row_counts[0] < FEWEST:
        return f"fewer than {FEWEST} rows to divide into splits"
    return "one task of tags is read" if is_tags and proposal.tags else ""


def hold_tags(cells: list[Any]) -> bool:
    return bool(cells) and all(map(are_tags, cells))


def labels_of_column(cells: list[Any]) -> tuple[list[str], str]:
    """Classes, or kinds of tags, none if the column is not a label; and what it is, in words."""
    return tags_of_column(cells) if hold_tags(cells) else classes_of_column(cells)


def classes_of_column(cells: list[Any]) -> tuple[list[str], str]:
    if not all(isinstance(cell, str | int | float) for cell in cells):
        return [], "lists or objects"
    keys, description = label_of_column([str(cell).strip() for cell in cells])
    if keys.get("gives", "class") != "class":
        return [], f"{description.rstrip(',')}: what is read of texts is one class a cell"
    names = keys.get("classes", [])
    if names and {name.lower() for name in names} <= SPLITS.keys():
        return [], "names of splits: have a file for each, called train, val or test"
    return (names, description) if len(names) <= CLASSES else ([], f"{len(names)} classes, more than {CLASSES}")


def tags_of_column(cells: list[Any]) -> tuple[list[str], str]:
    tags = {tag for cell in cells for tag in listed(cell, str.split)}
    kinds = sorted({match[1] for tag in tags if (match := TAG.fullmatch(tag)) and match[1]})
    return kinds, f"tags of {', '.join(kinds) or 'no kind'}"
