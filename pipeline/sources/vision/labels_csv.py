"""A CSV of labels: a column names the image, others its class, its classes or a number."""

import csv
import io
import math
from pathlib import Path
from typing import Any

from pipeline.sources.separator import check_header
from pipeline.sources.vision.labels import Found, ImageFolder, Part, listed, no_class, text_of


def read_csv(part: Part) -> Found:
    """Empty lines, and those that begin with #, are skipped. With several columns, a class is present if its column is 1."""
    assert part.csv and part.images
    images, found = ImageFolder(part.images), Found()
    listed_images = listed(part, images, found.bad)
    where_by_image: dict[Path, str] = {}
    columns = [part.label] if isinstance(part.label, str) else part.label
    for where, row in rows_of(part, [part.path, *columns]):
        image = images.find(row[part.path])
        if image is None:
            found.bad.append(f"{where}: no image {row[part.path]!r} in {part.images}")
        elif image in where_by_image:
            found.bad.append(f"{where}: {image} has a label already, in {where_by_image[image]}")
        elif image in listed_images:
            where_by_image[image] = where
            try:
                label = label_of(part, columns, row)
                if label is not None:
                    found.labels.append((image, label))
            except ValueError as error:
                found.bad.append(f"{where}: {error}")
    if part.kind == "number":
        return found
    class_names = {name for _, label in found.labels for name in ([label] if part.kind == "class" else label)}
    found.classes = part.names or (list(columns) if not isinstance(part.label, str) else sorted(class_names))
    return found


def rows_of(part: Part, needed: list[str]) -> list[tuple[str, dict[str, str]]]:
    """(file and line, {column: value}). Raises ValueError if there is no such column."""
    assert part.csv
    header, rows = read_rows(Path(part.csv), part.delimiter, part.columns)
    for column in needed:
        if column not in header:
            known_columns = ", ".join(header)
            raise ValueError(
                f"{part.csv}: no column {column!r}; there are {known_columns}; say which with path, label or columns"
            )
    return [(f"{part.csv}, line {line}", dict(zip(header, cells, strict=True))) for line, cells in rows]


def read_rows(path: Path, delimiter: str, columns: list[str] | None = None) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, by default the first row; (line, cells) of each row. A cell in quotes may go over several lines, and is
    named by its last. Raises ValueError if there are no rows, or one is of another length than the header."""
    lines = [(n, line) for n, line in enumerate(io.StringIO(text_of(path)), 1) if line.strip() and line[0] != "#"]
    reader = csv.reader((line for _, line in lines), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        rows = [(lines[reader.line_num - 1][0], [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise ValueError(f"{path}, line {lines[reader.line_num - 1][0]}: {error}") from None
    header = columns or (rows.pop(0)[1] if rows else [])
    check_header(path, header)
    if not rows:
        raise ValueError(f"{path}: no line below the header")
    for line, cells in rows:
        if len(cells) != len(header):
            raise ValueError(f"{path}, line {line}: {len(cells)} cells, the header has {len(header)}")
    return header, rows


def label_of(part: Part, columns: list[str], row: dict[str, str]) -> Any:
    """None where the cells are empty: no label. In a column of several classes an empty cell means that none is present."""
    if not any(row[name] for name in columns):
        return [] if part.kind == "classes" and isinstance(part.label, str) else None
    if not isinstance(part.label, str):
        for name in columns:
            if row[name] not in ("0", "1"):
                raise ValueError(f"column {name!r} is {row[name]!r}, expected 0 or 1")
        return [name for name in columns if row[name] == "1"]
    text = row[part.label]
    if part.kind == "number":
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(f"{text!r} is not a finite number")
        return value
    names = [text] if part.kind == "class" else [name.strip() for name in text.split(part.separator) if name.strip()]
    for name in names:
        if part.names and name not in part.names:
            raise ValueError(no_class(name, part.names))
    return text if part.kind == "class" else names
