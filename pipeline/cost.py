"""What a stage's work cost, for the report's ledger. Kept apart from the results, which must not depend on it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.atomic import write_json


@contextmanager
def measured(path: Path) -> Iterator[dict[str, Any]]:
    """Time a block of work and write {"seconds", "cpu_seconds", ...} when it ends well; the block may add more keys."""
    extra_costs: dict[str, Any] = {}
    wall_start, cpu_start = time.perf_counter(), time.process_time()
    yield extra_costs
    costs = {"seconds": time.perf_counter() - wall_start, "cpu_seconds": time.process_time() - cpu_start}
    write_json(path, {**costs, **extra_costs})


def bytes_in(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
