"""A sweep in one pass over a store, and the same sweep the usual way: a process a student, from a cache of one file a sample.

    python bench/usual.py    # after `make repro`; writes bench/usual.json and usual.md

The usual way is torchdistill's: every sample's tensors by torch.save in a file of their own, a shuffling DataLoader, one
student a process, as many processes at once as there are cores. Networks, losses, labelled batches and updates are the same;
start-up counts. Bytes read: what read calls returned (imports apart, which both pay), and, of the store, the fields it maps.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, median

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.sweep import KNOWLEDGE, Case  # noqa: E402
from pipeline.batches.batches import input_fields  # noqa: E402
from pipeline.stores.store import Store  # noqa: E402
from pipeline.training.learning import learn_together, quality  # noqa: E402
from pipeline.training.objective import wanted  # noqa: E402

STUDENTS, UPDATES, ROUNDS = 8, 300, 3


class Files(Dataset):
    """A sample a file."""

    def __init__(self, folder: Path):
        self.files = sorted(folder.iterdir())

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        return torch.load(self.files[row], weights_only=True)


def read_files(folder: Path) -> Iterator[dict[str, torch.Tensor]]:
    while True:
        yield from DataLoader(Files(folder), 64, shuffle=True, drop_last=True)


def fields_of(case: Case) -> list[str]:
    return input_fields(case.store) + [field for field in case.store.fields if wanted(field, case.tasks, KNOWLEDGE)]


def write_files(case: Case, folder: Path) -> None:
    store: Store = case.store
    for first in range(0, store.n_rows, 1024):
        rows = np.arange(first, min(first + 1024, store.n_rows))
        block = {name: torch.from_numpy(store.read(name, rows)) for name in fields_of(case)}
        for place, row in enumerate(rows):
            torch.save({name: x[place].clone() for name, x in block.items()}, folder / f"{row:06d}.pt")


def train(way: str, seeds: list[int], folder: Path) -> None:
    """In a process of its own: these students; prints their quality and the bytes that it read."""
    case = Case("conv", UPDATES)
    if way == "usual":
        torch.set_num_threads(1)
    before = read_calls()
    knowledge, labelled = case.sources({})
    if way == "usual":
        knowledge = ({name: x.numpy() for name, x in batch.items()} for batch in read_files(folder))
    lessons = [case.lesson(seed) for seed in seeds]
    curves = learn_together(lessons, knowledge, labelled, val=case.val, evaluations=1, advance=lambda updates: None)
    mapped = sum(case.store.nbytes(name) for name in fields_of(case)) if way == "sweep" else 0
    found = [100 * quality(case.tasks, curve[-1]) for curve in curves]
    print(json.dumps({"quality": mean(found), "bytes": read_calls() - before + mapped}))


def read_calls() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


def run(way: str, groups: list[list[int]], folder: Path, at_once: int) -> dict[str, float]:
    """Processes, so many at once: {seconds, cpu_seconds, peak_mb: of those that run together, gb: read, quality}."""
    began, waiting, running, ended = time.perf_counter(), list(groups), {}, []
    while waiting or running:
        while waiting and len(running) < at_once:
            seeds = ",".join(map(str, waiting.pop(0)))
            process = subprocess.Popen(
                [sys.executable, __file__, way, seeds, str(folder)], stdout=subprocess.PIPE, text=True, env=environment(way)
            )
            running[process.pid] = process
        pid, status, used = os.wait4(-1, 0)
        process = running.pop(pid)
        if status:
            raise SystemExit(f"{way}: a process failed")
        ended.append((used, json.loads(process.stdout.read())))
    return {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": sum(used.ru_utime + used.ru_stime for used, _ in ended),
        "peak_mb": sum(sorted(used.ru_maxrss / 1e3 for used, _ in ended)[-at_once:]),
        "gb": sum(said["bytes"] for _, said in ended) / 1e9,
        "quality": mean(said["quality"] for _, said in ended),
    }


def environment(way: str) -> dict[str, str]:
    return {**os.environ, **({"OMP_NUM_THREADS": "1"} if way == "usual" else {})}


def main() -> None:
    if len(sys.argv) > 1:
        train(sys.argv[1], list(map(int, sys.argv[2].split(","))), Path(sys.argv[3]))
        return
    case, cores, load = Case("conv", UPDATES), torch.get_num_threads(), os.getloadavg()[0]
    seeds = list(range(STUDENTS))
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        write_files(case, Path(folder))
        written = time.perf_counter() - began
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
        rounds = [
            {"sweep": run("sweep", [seeds], Path(folder), 1), "usual": run("usual", [[s] for s in seeds], Path(folder), cores)}
            for _ in range(ROUNDS)
        ]
    found = {way: {key: median(r[way][key] for r in rounds) for key in rounds[0][way]} for way in ("sweep", "usual")}
    ratios = {key: [r["usual"][key] / r["sweep"][key] for r in rounds] for key in found["sweep"]}
    sizes = {"usual": size, "sweep": sum(case.store.nbytes(name) for name in fields_of(case))}
    about = {"load_before": load, "cores": cores, "seconds_to_write_files": written, "bytes_kept": sizes}
    (ROOT / "bench" / "usual.json").write_text(json.dumps({**about, "rounds": rounds}, indent=1) + "\n")
    lines = ["# A sweep, and the usual way", ""]
    lines += [
        f"{STUDENTS} students of {UPDATES} updates, {cores} cores of an Intel Xeon (AVX-512), torch 2.13.0 CPU; medians of"
    ]
    lines += [
        f"{ROUNDS} rounds, start-up and all; load average before {load:.1f}. usual: a process a student, one a core, from one"
    ]
    lines += [f"file a sample ({written:.0f} s to write them, of {case.store.n_rows:,} rows).", ""]
    lines += ["| | seconds | CPU seconds | peak memory, MB | read, GB | kept, MB | quality on val |", "|---" * 7 + "|"]
    for way, x in found.items():
        cells = [f"{x['seconds']:.1f}", f"{x['cpu_seconds']:.1f}", f"{x['peak_mb']:,.0f}", f"{x['gb']:.2f}"]
        lines.append(f"| {way} | {' | '.join(cells)} | {sizes[way] / 1e6:,.0f} | {x['quality']:.1f} |")
    cells = [
        f"{median(ratios[key]):.2f} ({min(ratios[key]):.2f} to {max(ratios[key]):.2f})" for key in list(found["sweep"])[:4]
    ]
    lines.append(f"| usual over sweep | {' | '.join(cells)} | {size / sizes['sweep']:.2f} | |")
    (ROOT / "bench" / "usual.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    if "--help" in sys.argv:
        sys.exit(print(__doc__))
    os.chdir(ROOT)
    main()
