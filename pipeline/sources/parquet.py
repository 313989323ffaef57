"""Parquet, whose library may not be installed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def naming_parquet(path: Path) -> Iterator[None]:
    """Whatever is wrong with a Parquet file is a ValueError that names it."""
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{path}: cannot be read as Parquet: {' '.join(str(error).split())}") from None
