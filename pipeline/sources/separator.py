"""What separates the cells of a table, and what its columns are called."""

from pathlib import Path

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}


def separator_of(header: str) -> str:
    """The separator that a table's first line has most of."""
    return max(SEPARATORS, key=header.count)


def check_header(path: Path, names: list[str]) -> None:
    """Raises ValueError if two columns have the same name; columns without one are ignored."""
    for name in names:
        if name and names.count(name) > 1:
            raise ValueError(f"{path}: {names.count(name)} columns are called {name!r}; rename all but one")
