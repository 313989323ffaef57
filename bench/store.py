"""Reading a store against what memory allows: shuffled batches, one thread, beside `np.take` from a memory-mapped file.

    python bench/store.py    # writes bench/store.json and bench/store.md; about five minutes, 2 GB of scratch

Every round runs each arm once, one after another, on the same rows; a ratio is of one round, and its median and quartiles
are of all rounds. Warm: from the page cache, in CPU seconds, for other programs to disturb it less. Cold: the files are
dropped from it before every pass, in seconds of the clock.
"""

import gc
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median, quantiles

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pipeline.batches.batches import cut  # noqa: E402
from pipeline.batches.pools import blocks_of, streamed  # noqa: E402
from pipeline.stores.layout import Field  # noqa: E402
from pipeline.stores.store import Store, open_store  # noqa: E402
from pipeline.stores.writer import StoreWriter  # noqa: E402

ROUNDS = 11
MACHINE = "one core of an AMD EPYC (Zen 3, 32 MB L3), NumPy 2, virtual disk"
ROWS = {  # of a row: name -> (shape, rows, batch)
    "10 logits, 20 B": ((10,), 2**21, 256),
    "pooled feature, 512 B": ((256,), 2**18, 256),
    "fused map of the demo, 4.5 KB": ((64, 6, 6), 2**16, 256),
    "map, 16 KB": ((128, 8, 8), 2**14, 256),
    "map, 256 KB": ((128, 32, 32), 2**11, 64),
}
SHARDS = 8


def make(folder: Path, shape: tuple[int, ...], rows: int, codec: str) -> tuple[Store, np.memmap]:
    """The same half floats as a store and as one plain file: the positive part of smooth noise, as after a ReLU."""
    rng = np.random.default_rng(0)
    values = np.maximum(rng.standard_normal((rows, *shape), dtype=np.float32), 0).astype(np.float16)
    ids = np.zeros((rows, 16), np.uint8)
    ids[:, :8] = np.arange(rows, dtype="<u8").view(np.uint8).reshape(-1, 8)
    path = folder / f"{codec}.zarr"
    fields = {"x": Field(shape, "float16", codec)}
    writer = StoreWriter(path, ids, np.zeros(rows, np.int32), fields, identity={}, shard_rows=rows // SHARDS)
    for shard in writer.unfinished:
        writer.write(shard, {"x": values[writer.rows(shard)]})
    writer.publish()
    values.tofile(folder / "plain.bin")
    return open_store(path), np.memmap(folder / "plain.bin", np.float16, "r", shape=values.shape)


def taken(plain: np.memmap, batch: int) -> None:
    order = np.random.default_rng(1).permutation(len(plain))
    out = np.empty((batch, *plain.shape[1:]), plain.dtype)
    for first in range(0, len(plain) - batch + 1, batch):
        np.take(plain, order[first : first + batch], axis=0, out=out, mode="clip")


def pooled(store: Store, batch: int) -> None:
    """One epoch in pools of an eighth of the store, filled in this thread."""
    pool_rows = store.n_rows // 8
    blocks = blocks_of(store, ["x"], 0, pool_rows)
    pools = streamed(store, ["x"], blocks, seed=0, skip=0, pool_rows=pool_rows)
    drain(islice(cut(pools, batch), store.n_rows // batch))


def gathered(store: Store, batch: int) -> None:
    order = np.random.default_rng(1).permutation(store.n_rows)
    out = store.empty("x", batch)
    for first in range(0, len(order) - batch + 1, batch):
        store.gather("x", order[first : first + batch], out)


def decoded(store: Store) -> None:
    """Every chunk through numcodecs alone, into one buffer."""
    for shard in store.shards["x"]:
        buffer = np.empty(shard.layout.chunk_bytes, np.uint8)
        for offset, size in shard.index:
            shard.layout.coder.decode(shard.data[offset : offset + size - 4], out=buffer)


def drain(items: Iterator) -> None:
    for _ in items:
        pass


def forget(folder: Path) -> None:
    """Drop a folder's files from the page cache."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as handle:
                os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def seconds(work: Callable[[], None], clock: Callable[[], float]) -> float:
    start = clock()
    work()
    return clock() - start


def rounds(
    arms: dict[str, Callable[[], None]],
    before: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.thread_time,
) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(ROUNDS + 1):
        for name, work in arms.items():
            before()
            spent = seconds(work, clock)
            if number:  # the first round warms up
                found[name].append(spent)
    return found


def against(found: dict[str, list[float]], base: str, name: str) -> dict[str, float]:
    ratios = [b / a for a, b in zip(found[name], found[base], strict=True)]
    low, middle, high = quantiles(ratios, n=4)
    return {"ratio": middle, "low": low, "high": high}


def warm_arms(store: Store, plain: np.memmap, batch: int) -> dict[str, Callable[[], None]]:
    return {
        "take": partial(taken, plain, batch),
        "pooled": partial(pooled, store, batch),
        "first touch": lambda: pooled(open_store(store.path), batch),
        "gather": partial(gathered, store, batch),
    }


def measure(shape: tuple[int, ...], rows: int, batch: int) -> dict:
    with tempfile.TemporaryDirectory(dir=ROOT / "bench") as scratch:
        folder = Path(scratch)
        path, total = folder / "raw.zarr", 2 * rows * math.prod(shape)
        warm = rounds(warm_arms(*make(folder, shape, rows, "raw"), batch))
        gc.collect()  # pages that are still mapped would stay in the cache
        cold = rounds(
            {
                "take": lambda: taken(np.memmap(folder / "plain.bin", np.float16, "r", shape=(rows, *shape)), batch),
                "pooled": lambda: pooled(open_store(path), batch),
                "gather": lambda: gathered(open_store(path), batch),
            },
            before=lambda: forget(folder),
            clock=time.perf_counter,
        )
        result = {
            "take GB/s": {"warm": total / median(warm["take"]) / 1e9, "cold": total / median(cold["take"]) / 1e9},
            "warm": {name: against(warm, "take", name) for name in ("pooled", "first touch", "gather")},
            "cold": {name: against(cold, "take", name) for name in ("pooled", "gather")},
        }
        for codec in ("lz4", "zstd"):
            packed, _ = make(folder, shape, rows, codec)
            found = rounds({"numcodecs": partial(decoded, packed), "pooled": partial(pooled, packed, batch)})
            result[codec] = {"size": packed.nbytes("x") / total, **against(found, "numcodecs", "pooled")}
            result[codec]["decode GB/s"] = total / median(found["numcodecs"]) / 1e9
        return result


def table(results: dict[str, dict]) -> str:
    def cell(x: dict) -> str:
        return f"{x['ratio']:.2f} ({x['low']:.2f}-{x['high']:.2f})"

    lines = [
        "# Reading a store",
        "",
        f"{MACHINE}; median of {ROUNDS} interleaved rounds, with quartiles; warm in CPU seconds.",
        "Ratio to `np.take(memmap, permutation, out=reused)` of the same rows, batch by batch; above 1 is faster.",
        "",
        "| row | take, GB/s | pooled shuffle | with checksums, first touch | gather | cold: take, GB/s | pooled | gather |",
        "|---" * 8 + "|",
    ]
    for name, r in results.items():
        warm, cold, speed = r["warm"], r["cold"], r["take GB/s"]
        cells = [name, f"{speed['warm']:.1f}", *(cell(warm[a]) for a in ("pooled", "first touch", "gather"))]
        cells += [f"{speed['cold']:.2f}", cell(cold["pooled"]), cell(cold["gather"])]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "Compressed: pooled shuffle against numcodecs alone decoding the same chunks into one buffer.", ""]
    lines += ["| row | codec | size | decode, GB/s | pooled shuffle |", "|---" * 5 + "|"]
    for name, r in results.items():
        for codec in ("lz4", "zstd"):
            lines.append(f"| {name} | {codec} | {r[codec]['size']:.2f} | {r[codec]['decode GB/s']:.1f} | {cell(r[codec])} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if "--help" in sys.argv:
        sys.exit(print(__doc__))
    os.sched_setaffinity(0, {0})
    results = {name: measure(*row) for name, row in ROWS.items()}
    (ROOT / "bench" / "store.json").write_text(json.dumps({"machine": MACHINE, "rows": results}, indent=1) + "\n")
    (ROOT / "bench" / "store.md").write_text(table(results))
    print(table(results))
