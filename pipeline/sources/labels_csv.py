"""A CSV of labels: a column names the image, others its class, its classes or a number."""

import csv
import io
import math
from pathlib import Path
from typing import Any

from pipeline.sources.labels import Found, ImageFolder, Part, listed, no_class, text_of


def read_csv(part: Part) -> Found:
    """Lines that begin with # and empty ones count as none. Of several columns a class is there if it is 1. An empty cell is no
    label."""
    assert part.csv and part.images
    images, found = ImageFolder(part.images), Found()
    wanted = listed(part, images, found.bad)
    seen: dict[Path, str] = {}
    names = [part.label] if isinstance(part.label, str) else part.label
    for where, row in rows_of(part, [part.path, *names]):
        image = images.find(row[part.path])
        if image is None:
            found.bad.append(f"{where}: no image {row[part.path]!r} in {part.images}")
        elif image in seen:
            found.bad.append(f"{where}: {image} has a label already, in {seen[image]}")
        elif image in wanted and any(row[name] for name in names):
            seen[image] = where
            try:
                found.labels.append((image, label_of(part, names, row)))
            except ValueError as error:
                found.bad.append(f"{where}: {error}")
    if part.kind == "number":
        return found
    said = {name for _, label in found.labels for name in ([label] if part.kind == "class" else label)}
    found.classes = part.names or (list(names) if not isinstance(part.label, str) else sorted(said))
    return found


def table(text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    """Rows of a CSV, each with the line that it ends on; a cell in quotes may go over several. Raises csv.Error."""
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True, strict=True)
    rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    return [(line, row) for line, row in rows if any(row) and not row[0].startswith("#")]


def rows_of(part: Part, needed: list[str]) -> list[tuple[str, dict[str, str]]]:
    """(file and line, {column: value}). Raises ValueError if there is no such column."""
    assert part.csv
    try:
        rows = table(text_of(Path(part.csv)), part.delimiter)
    except csv.Error as error:
        raise ValueError(f"{part.csv}: cannot be read as CSV: {error}") from None
    header = part.columns or (rows.pop(0)[1] if rows else [])
    for column in needed:
        if column not in header:
            known = ", ".join(header) or "none"
            raise ValueError(f"{part.csv}: no column {column!r}; there are {known}; say which with path, label or columns")
    if not rows:
        raise ValueError(f"{part.csv}: no line below the header")
    for line, row in rows:
        if len(row) != len(header):
            raise ValueError(f"{part.csv}, line {line}: {len(row)} cells, the header has {len(header)}")
    return [(f"{part.csv}, line {line}", dict(zip(header, row, strict=True))) for line, row in rows]


def label_of(part: Part, names: list[str], row: dict[str, str]) -> Any:
    if not isinstance(part.label, str):
        for name in names:
            if row[name] not in ("0", "1"):
                raise ValueError(f"column {name!r} is {row[name]!r}, expected 0 or 1")
        return [name for name in names if row[name] == "1"]
    text = row[part.label]
    if part.kind == "number":
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(f"{text!r} is no finite number")
        return value
    labels = [text] if part.kind == "class" else [name.strip() for name in text.split(part.separator) if name.strip()]
    for name in labels:
        if part.names and name not in part.names:
            raise ValueError(no_class(name, part.names))
    return text if part.kind == "class" else labels
