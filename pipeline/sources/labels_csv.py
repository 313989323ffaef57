"""A CSV of labels: a column names the image, others its class, its classes or a number."""

import csv
import math
from pathlib import Path
from typing import Any

from pipeline.sources.labels import Found, ImageFolder, Part, listed, no_class, text_of


def read_csv(part: Part) -> Found:
    """Lines that begin with # and empty ones count as none. Of several columns a class is there if it is 1."""
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
        elif image in wanted:
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


def rows_of(part: Part, needed: list[str]) -> list[tuple[str, dict[str, str]]]:
    """(file and line, {column: value}). Raises ValueError if there is no such column."""
    assert part.csv
    lines = [(n, line) for n, line in enumerate(text_of(Path(part.csv)).splitlines(), 1) if line.strip() and line[0] != "#"]
    cells = list(csv.reader((line for _, line in lines), delimiter=part.delimiter, skipinitialspace=True))
    numbers = [number for number, _ in lines]
    header = part.columns or (cells.pop(0) if cells else [])
    if not part.columns and numbers:
        numbers.pop(0)
    for column in needed:
        if column not in header:
            known = ", ".join(header) or "none"
            raise ValueError(f"{part.csv}: no column {column!r}; there are {known}; say which with path, label or columns")
    if not cells:
        raise ValueError(f"{part.csv}: no line below the header")
    rows = []
    for number, row in zip(numbers, cells, strict=True):
        if len(row) != len(header):
            raise ValueError(f"{part.csv}, line {number}: {len(row)} cells, the header has {len(header)}")
        rows.append((f"{part.csv}, line {number}", dict(zip(header, map(str.strip, row), strict=True))))
    return rows


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
    if part.kind == "class":
        if not text:
            raise ValueError("no label")
        return text
    return labels
