"""What lies in a folder that is looked at."""

from pathlib import Path


def below(data: Path) -> list[Path]:
    """A file, or all files of a folder but hidden ones."""
    if data.is_file():
        return [data]
    found = (path for path in data.rglob("*") if path.is_file())
    return sorted(path for path in found if not any(part[0] == "." for part in path.relative_to(data).parts))
