"""Records of text from files, with the file and line of each."""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.sources.bad import SHOWN
from pipeline.sources.parquet import naming_parquet
from pipeline.sources.separator import check_header, separator_of
from pipeline.sources.text.scripts import words_in
from pipeline.sources.text.words import as_bio, tags_of

Row = tuple[str, dict[str, Any]]  # "file, line n", {column: value}
BYTES, LEAST = 64, 4096  # that a text may have: for each word that is read; but always this many
BREAK = re.compile(r"[ \t\n\r\f\v]")  # never part of a word; other blanks may be

csv.field_size_limit(2**31 - 1)  # a text may be longer than 131072 characters


@dataclass
class Record:
    """labels: {name: class in words, or one tag per word}. where: the file and line where it was first found."""

    words: list[str]
    labels: dict[str, Any] = field(default_factory=dict)
    where: str = ""


def read_records(
    paths: list[str],
    text: str,
    classes: dict[str, list[str]],
    tags: dict[str, list[str]],
    columns: dict[str, str],
    longest: int | None,
    bad: list[str],
) -> list[Record]:
    """Records of some files, cut to `longest` words; the same text is one record. columns: {label: its column}.

    A row that cannot be used is left out; what is wrong with it, and where, is added to `bad`. Raises ValueError if a file
    cannot be read, or no row is left.
    """
    tag_column = next((columns[name] for name in tags), "")
    records_by_words: dict[tuple[str, ...], Record] = {}
    for path in paths:
        for where, row in rows_of(Path(path), text, tag_column, bad):
            try:
                labels = labels_of({name: row.get(column) for name, column in columns.items()}, classes, tags)
                record = Record(words_of(row, text, [len(labels[name]) for name in tags if name in labels]), labels, where)
                for name, kinds in tags.items():
                    check_tags(record, name, kinds)
                cut(record, tags, longest)
                check_bytes(record, text, longest)
                join(records_by_words.setdefault(tuple(record.words), record), record, longest)
            except ValueError as error:
                bad.append(f"{where}: {error}")
    if not records_by_words:
        raise ValueError("; ".join([f"{', '.join(paths)}: no row", *bad[:SHOWN]]))
    return list(records_by_words.values())


def columns_of(paths: list[str], text: str, tags: str) -> list[str]:
    return list(dict.fromkeys(column for path in paths for _, row in rows_of(Path(path), text, tags, []) for column in row))


def rows_of(path: Path, text: str | None, tags: str, bad: list[str]) -> Iterator[Row]:
    """Rows of a file of any kind; what is wrong with one is added to `bad`. text: a column that must be there."""
    ending = path.suffix.lower()
    if ending == ".conll":
        yield from conll_rows(path, text or "text", tags, bad)
    elif ending in READERS:
        yield from READERS[ending](path, text, bad)
    else:
        raise ValueError(f"{path}: not a kind of file that is read; there are {', '.join(ENDINGS)}")


def lines_of(path: Path) -> list[str]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
        return text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")  # splitlines also cuts at U+2028
    except (FileNotFoundError, IsADirectoryError):
        raise ValueError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}, line {line}: is not text in UTF-8: {error.reason}") from None


def csv_rows(path: Path, text: str | None, bad: list[str]) -> Iterator[Row]:
    """Rows below a header, with commas, semicolons or tabs between cells; a cell in quotes may span several lines, and the
    last of these is reported. In a .tsv quotes are plain characters: many are written so."""
    lines = lines_of(path)
    dialect: dict[str, Any] = {"delimiter": separator_of(lines[0])}
    if path.suffix.lower() == ".tsv":
        dialect = {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
    reader = csv.reader(io.StringIO("\n".join(lines) + "\n"), strict=True, **dialect)
    try:
        header = next(reader, [])
        check_header(path, header)
        if text is not None and text not in header:
            raise ValueError(f"{path}, line 1: no column {text!r}; there are {', '.join(header) or 'none'}")
        for cells in reader:
            where = f"{path}, line {reader.line_num}"
            if len(cells) == len(header):
                yield where, dict(zip(header, cells, strict=True))
            elif cells:
                bad.append(f"{where}: {len(cells)} cells, the header has {len(header)}")
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from None


def jsonl_rows(path: Path, text: str | None, bad: list[str]) -> Iterator[Row]:
    for number, line in enumerate(lines_of(path), 1):
        where = f"{path}, line {number}"
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            bad.append(f"{where}: is not JSON: {error.msg} at column {error.colno}")
            continue
        if isinstance(row, dict) and (text is None or text in row):
            yield where, row
        else:
            bad.append(f"{where}: expected an object{f' with the key {text!r}' if text is not None else ''}")


def parquet_rows(path: Path, text: str | None, bad: list[str]) -> Iterator[Row]:
    """Rows, which have no lines, by number from 1."""
    from pyarrow import parquet

    with naming_parquet(path):
        table = parquet.read_table(path)
    if text is not None and text not in table.column_names:
        raise ValueError(f"{path}: no column {text!r}; there are {', '.join(table.column_names) or 'none'}")
    for number, row in enumerate(table.to_pylist(), 1):
        yield f"{path}, row {number}", row


def conll_rows(path: Path, text: str, tags: str, bad: list[str]) -> Iterator[Row]:
    """Sentences with empty lines between them: a word per line, first in it, its tag last. IOB1, as in CoNLL-2003, or BIO.

    Columns are separated by tabs, or by blanks in a line without any; a no-break blank, as in 10 000, is part of its word.
    """
    where, width, is_whole = "", 0, True
    words: list[str] = []
    word_tags: list[str] = []
    for number, line in enumerate([*lines_of(path), ""], 1):
        cells = [cell.strip(" ") for cell in line.strip(" \t").split("\t" if "\t" in line else " ") if cell]
        if not line.strip() or cells[0] == "-DOCSTART-":
            if words and is_whole:
                yield where, {text: words, tags: as_bio(word_tags)}
            words, word_tags, is_whole = [], [], True
            continue
        width = width or len(cells)
        if len(cells) != width or width < 2:
            bad.append(f"{path}, line {number}: {len(cells)} columns, expected {max(width, 2)}: a word first, its tag last")
            is_whole = False
        where = where if words else f"{path}, line {number}"
        words.append(cells[0])
        word_tags.append(cells[-1])


READERS = {".csv": csv_rows, ".tsv": csv_rows, ".jsonl": jsonl_rows, ".parquet": parquet_rows}
ENDINGS = (*READERS, ".conll")


def words_of(row: dict[str, Any], text: str, tags: Iterable[int] = ()) -> list[str]:
    """A row's words. tags: numbers of tags; if a text has as many parts between blanks, these are its words, in any script."""
    value = row[text]
    words = value
    if isinstance(value, str):
        words = value.split() if len(value.split()) in tags else words_in(value)
    if not isinstance(words, list) or not all(
        isinstance(word, str) and word.strip() and not BREAK.search(word) for word in words
    ):
        raise ValueError(f"{text!r} is {value!r:.80}, expected a text or a list of words")
    if not words:
        raise ValueError(f"{text!r} is empty; drop the row, or name the column of the text in prepare.source.text")
    return words


def labels_of(row: dict[str, Any], classes: dict[str, list[str]], tags: dict[str, list[str]]) -> dict[str, Any]:
    """The labels of a row, {label: its cell}; empty cells say nothing."""
    cells = {name: cell.strip() if isinstance(cell, str) else cell for name, cell in row.items()}
    labels = {name: value for name, value in cells.items() if value not in (None, "", [])}
    for name, class_names in classes.items():
        if name in labels:
            labels[name] = str(labels[name])
            if labels[name] not in class_names:
                raise ValueError(f"{name!r} is {labels[name]!r}, expected one of {', '.join(class_names)}")
    for name in tags.keys() & labels.keys():
        row_tags = labels[name].split() if isinstance(labels[name], str) else labels[name]
        if not isinstance(row_tags, list) or not all(isinstance(tag, str) for tag in row_tags):
            raise ValueError(f"{name!r} is {row_tags!r:.80}, expected one tag per word, by name, such as B-PER")
        labels[name] = as_bio(row_tags)
    return labels


def check_tags(record: Record, name: str, kinds: list[str]) -> None:
    tags = record.labels.get(name)
    if tags is None:
        return
    tag_names = tags_of(kinds)
    if len(tags) != len(record.words):
        raise ValueError(f"{name!r}: {len(tags)} tags for {len(record.words)} words")
    for tag in tags:
        if tag not in tag_names:
            raise ValueError(f"{name!r}: tag {tag!r}, expected one of {', '.join(tag_names)}")


def cut(record: Record, tags: Iterable[str], longest: int | None) -> None:
    """Keep this many words, and their tags: words that are not read tell no two records apart."""
    record.words = record.words[:longest]
    record.labels |= {name: record.labels[name][:longest] for name in tags if name in record.labels}


def check_bytes(record: Record, text: str, longest: int | None) -> None:
    """Raises ValueError if a text is absurdly long in bytes: a link of 20 KB is one word. Every row is made as wide as the
    widest, in bytes and in tokens, so that one such line would fill memory and slow all networks down."""
    if longest is None:
        return
    byte_count, byte_limit = len(" ".join(record.words).encode()), max(LEAST, BYTES * longest)
    if byte_count > byte_limit:
        word = max(record.words, key=len)
        raise ValueError(
            f"{text!r} has {byte_count} bytes, with words such as {word!r:.40}, expected at most {byte_limit} with "
            f"longest: {longest}; drop the row, cut its long words, or raise prepare.source.longest"
        )


def join(record: Record, other: Record, longest: int | None) -> None:
    """Add the labels of the same text. Raises ValueError where they differ."""
    same_text = (
        f"same first {longest} words (raise longest if they differ later)" if len(record.words) == longest else "same text"
    )
    for name, label in other.labels.items():
        if record.labels.get(name, label) != label:
            raise ValueError(
                f"{name!r} is {label!r}, but {record.labels[name]!r} of the {same_text} in {record.where}; drop one of them"
            )
    record.labels |= other.labels
