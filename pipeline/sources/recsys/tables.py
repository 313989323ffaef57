"""Your own tables, read whole or not at all: CSV and the like, Parquet."""

import csv
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from pipeline.sources.parquet import naming_parquet
from pipeline.sources.separator import check_header, separator_of

csv.field_size_limit(2**31 - 1)  # another column, of no concern here, may hold long texts


@dataclass(frozen=True)
class Table:
    """Columns as text, with the line (in Parquet: the row) that each row is from. Raises ValueError, with file and line."""

    path: Path
    columns: dict[str, list[str]]
    lines: list[int]

    def __len__(self) -> int:
        return len(self.lines)

    def texts(self, name: str) -> list[str]:
        """A column without gaps."""
        for line, text in zip(self.lines, self.columns[name], strict=True):
            if not text:
                raise self.problem(line, f"{name} is empty, expected a value")
        return self.columns[name]

    def numbers(self, name: str, low: float = -math.inf, high: float = math.inf, gap: float | None = None) -> np.ndarray:
        """Finite numbers from low to high: (N,). gap: what stands for an empty value; by default there must be none."""
        return self.parsed(name, float, f"a number from {low:g} to {high:g}", low, high, gap)

    def flags(self, name: str) -> np.ndarray:
        """Each 0 or 1: (N,)."""
        return self.parsed(name, flag, "0 or 1, true or false", 0, 1, None)

    def times(self, name: str) -> np.ndarray:
        """Seconds, from numbers or from dates in ISO 8601, UTC if they do not say: (N,)."""
        return self.parsed(name, seconds, "seconds, or a date such as 2024-05-31T12:00", -math.inf, math.inf, None)

    def parsed(
        self, name: str, parse: Callable[[str], float], expected: str, low: float, high: float, gap: float | None
    ) -> np.ndarray:
        numbers = np.empty(len(self))
        for row, (line, text) in enumerate(zip(self.lines, self.columns[name], strict=True)):
            try:
                numbers[row] = gap if gap is not None and not text else parse(text)
            except ValueError:
                numbers[row] = math.nan
            if (text or gap is None) and not (math.isfinite(numbers[row]) and low <= numbers[row] <= high):
                raise self.problem(line, f"{name} is {text!r}, expected {expected}")
        return numbers

    def rows_of(self, key: str, other: "Table", column: str) -> np.ndarray:
        """Which row of this table each row of another is about, (N,): the one whose unique `key` equals `column` there."""
        row_by_name = {name: row for row, name in enumerate(self.texts(key))}
        if len(row_by_name) < len(self):
            raise ValueError(f"{self.path}: {len(self)} rows of {len(row_by_name)} different {key}; expected each once")
        for line, name in zip(other.lines, other.texts(column), strict=True):
            if name not in row_by_name:
                raise other.problem(line, f"{column} {name!r} is not in {self.path}; add it, or drop the row")
        return np.array([row_by_name[name] for name in other.columns[column]])

    def problem(self, line: int, what: str) -> ValueError:
        return ValueError(f"{self.path}, {'row' if self.path.suffix == '.parquet' else 'line'} {line}: {what}")


def flag(text: str) -> float:
    number = float({"true": "1", "false": "0"}.get(text.lower(), text))
    if number not in (0, 1):
        raise ValueError(text)
    return number


def seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        date = datetime.fromisoformat(text.removesuffix(" UTC"))
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


def codes(values: list[str]) -> tuple[np.ndarray, list[str]]:
    """Numbers of values, from 1 on in their order, 0 for an empty one: (N,) int64; and what each number stands for."""
    names = ["", *sorted(set(values) - {""}, key=natural)]
    number_by_value = {value: n for n, value in enumerate(names)}
    return np.array([number_by_value[value] for value in values], np.int64), names


def natural(text: str) -> tuple[float, str]:
    return (float(text), text) if text.isdecimal() else (math.inf, text)


def read_table(path: Path, columns: list[str]) -> Table:
    """These columns of a CSV file with a header, its cells between commas, semicolons or tabs, or of a Parquet file."""
    if path.suffix == ".parquet":
        return read_parquet(path, columns)
    return read_lines(path, separator_of(first_line(path)), columns, header=True)


def header_of(path: Path) -> list[str]:
    """Names of the columns of a CSV or Parquet file. Raises ValueError."""
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        with naming_parquet(path):
            return list(pq.read_schema(path).names)
    line = first_line(path)
    return next(csv.reader([line], delimiter=separator_of(line)), [])


def first_line(path: Path) -> str:
    try:
        with path.open(encoding="utf-8-sig") as file:
            return file.readline()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as text: {error}") from None


def read_parquet(path: Path, columns: list[str]) -> Table:
    import pyarrow.parquet as pq

    check_columns(path, columns, header_of(path))
    with naming_parquet(path):
        arrow_table = pq.read_table(path, columns=columns)
    texts = {name: ["" if cell is None else as_text(cell) for cell in arrow_table[name].to_pylist()] for name in columns}
    return filled(Table(path, texts, list(range(1, arrow_table.num_rows + 1))))


def as_text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else f"{value:g}" if isinstance(value, bool) else str(value)


def read_lines(path: Path, separator: str, columns: list[str], *, header: bool, encoding: str = "utf-8-sig") -> Table:
    """Columns of a text file: some of those that its header names, or, without one, all, in order; more may follow.

    separator: a character, or several if the file has no tabs.
    """
    rows, lines = [], []
    try:
        with path.open(newline="", encoding=encoding) as file:
            text: Iterable[str] = file
            delimiter = separator
            if len(separator) > 1:  # csv takes one character
                text, delimiter = (line.replace(separator, "\t") for line in file), "\t"
            reader = csv.reader(text, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if header else csv.QUOTE_NONE, strict=True)
            names = next(reader, []) if header else columns
            check_header(path, names)
            check_columns(path, columns, names)
            indices = [names.index(name) for name in columns]
            for row in reader:
                if not row:
                    continue
                if len(row) < len(names) or (header and len(row) > len(names)):
                    raise ValueError(f"{path}, line {reader.line_num}: {len(row)} columns, expected {len(names)}")
                rows.append([row[index].strip() for index in indices])
                lines.append(reader.line_num)
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as text: {error}") from None
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from None
    return filled(Table(path, {name: [row[n] for row in rows] for n, name in enumerate(columns)}, lines))


def check_columns(path: Path, columns: list[str], known_columns: list[str]) -> None:
    for name in columns:
        if name not in known_columns:
            raise ValueError(f"{path}: no column {name!r}; there are {', '.join(known_columns) or 'none'}")


def filled(table: Table) -> Table:
    if not len(table):
        raise ValueError(f"{table.path}: no rows")
    return table
