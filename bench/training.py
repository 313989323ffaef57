"""Training from a streamed store against training from RAM; and memory while a store grows tenfold.

    python bench/training.py    # writes bench/training.json; about four minutes, 3 GB of scratch

A student of the demo's kind regresses onto cached maps of 4.5 KB and 50 KB a row. Stretches of updates alternate between the
two sources in one process; a ratio is of two neighbouring stretches.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from statistics import median, quantiles

import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pipeline.batches.batches import batches, tensors  # noqa: E402
from pipeline.encoders.image import ImageEncoder  # noqa: E402
from pipeline.stores.layout import Field  # noqa: E402
from pipeline.stores.store import Store, open_store  # noqa: E402
from pipeline.stores.writer import StoreWriter  # noqa: E402

STRETCH, ROUNDS = 40, 15
MACHINE = "2 cores of an AMD EPYC (Zen 4), torch 2.13.0 CPU"
CPU = torch.device("cpu")
FIELDS = ["inputs/image", "fused/map"]
STEPS = {"10 ms": (32, 1, 64), "30 ms": (40, 2, 128)}  # width, blocks, batch


def make(path: Path, rows: int, channels: int, codec: str) -> Store:
    rng = np.random.default_rng(0)
    fields = {"inputs/image": Field((1, 24, 24), "uint8"), "fused/map": Field((channels, 6, 6), "float16", codec)}
    ids = np.arange(16 * rows, dtype=np.uint32).view(np.uint8)[: 16 * rows].reshape(rows, 16)
    writer = StoreWriter(path, ids, np.zeros(rows, np.int32), fields, identity={}, shard_rows=2048)
    image = rng.integers(0, 256, (2048, 1, 24, 24), dtype=np.uint8)
    target = np.maximum(rng.standard_normal((2048, channels, 6, 6), dtype=np.float32), 0).astype(np.float16)
    writer.write_rest(lambda _: {"inputs/image": image, "fused/map": target})
    writer.publish()
    return open_store(path)


def updates(store: Store, budget: int, width: int, blocks: int, batch: int) -> Iterator[None]:
    """Endless updates of a fresh student."""
    torch.manual_seed(0)
    channels = store.fields["fused/map"].shape[0]
    student = nn.ModuleDict({"encoder": ImageEncoder(width=width, blocks=blocks), "adapter": nn.Conv2d(width, channels, 1)})
    optimizer = torch.optim.AdamW(student.to(memory_format=torch.channels_last).parameters())
    for rows in batches(store, FIELDS, batch, seed=0, memory_budget=budget):
        x = tensors(rows, CPU)
        loss = (student["adapter"](student["encoder"]({"image": x["inputs/image"]})["trunk"]) - x["fused/map"]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield


def compare(store: Store, step: tuple[int, int, int]) -> dict:
    whole = store.n_rows * sum(store.fields[name].row_bytes for name in FIELDS)
    ram, streamed = updates(store, 2 * whole, *step), updates(store, whole // 8, *step)
    for source in (ram, streamed):
        stretch(source)
    pairs = [(stretch(ram), stretch(streamed)) for _ in range(ROUNDS)]
    low, middle, high = quantiles([a / b for a, b in pairs], n=4)
    return {"step_ms": 1e3 * median(a for a, _ in pairs) / STRETCH, "ratio": middle, "low": low, "high": high}


def stretch(source: Iterator[None]) -> float:
    start = time.perf_counter()
    for _ in islice(source, STRETCH):
        pass
    return time.perf_counter() - start


def anonymous_memory(path: str) -> float:
    """MB of RssAnon that streaming two epochs of a store takes, in this process."""
    store = open_store(Path(path))

    def now() -> float:
        return int(re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1e3

    before, most = now(), 0.0
    for _ in islice(batches(store, FIELDS, 256, seed=0, memory_budget=2**25), 2 * store.n_rows // 256):
        most = max(most, now())
    return most - before


def main() -> None:
    results: dict = {"machine": MACHINE, "training": [], "anonymous_MB": {}}
    with tempfile.TemporaryDirectory(dir=ROOT / "bench") as scratch:
        for codec in ("raw", "lz4"):
            store = make(Path(scratch) / f"{codec}.zarr", 2**16, 64, codec)
            for threads, (name, step) in [(t, item) for t in (1, 2) for item in STEPS.items()]:
                torch.set_num_threads(threads)
                found = {"codec": codec, "torch_threads": threads, "student": name, **compare(store, step)}
                results["training"].append(found)
                print(found, flush=True)
        for rows in (2**14, 10 * 2**14):
            make(Path(scratch) / f"{rows}.zarr", rows, 64, "lz4")
            command = [sys.executable, __file__, "memory", f"{scratch}/{rows}.zarr"]
            results["anonymous_MB"][f"{rows} rows"] = float(subprocess.check_output(command))
    print(results["anonymous_MB"])
    (ROOT / "bench" / "training.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    if "--help" in sys.argv:
        sys.exit(print(__doc__))
    if sys.argv[1:2] == ["memory"]:
        print(anonymous_memory(sys.argv[2]))
    else:
        main()
