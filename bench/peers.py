"""Shuffled batches of cached features: a store against what others cache with, each at its best setting that we found.

    python bench/peers.py PYTHON LITDATA_PYTHON    # writes bench/peers.json and peers.md; six minutes

PYTHON has torch, pylance, webdataset and datasets installed; LITDATA_PYTHON litdata: environments of their own, since none of
these is a dependency of ours. Each arm is a process that opens its copy of the same 16,384 rows of 16 KB, draws shuffled
batches of 256, and times them after a first epoch or 2,048 rows of warming up; rounds go through all arms.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from statistics import median, quantiles

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SHAPE, ROWS, BATCH, ROUNDS = (128, 8, 8), 16_384, 256, 9
MACHINE = "2 cores of an AMD EPYC (Zen 3, 32 MB L3), torch 2.13.0 CPU, page cache warm"


def rows() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.maximum(rng.standard_normal((ROWS, *SHAPE), dtype=np.float32), 0).astype(np.float16)


# One writer and one reader an arm. A reader yields batches for ever.


def write_store(folder: Path, x: np.ndarray, codec: str = "raw") -> None:
    sys.path.insert(0, str(ROOT))
    from pipeline.stores.layout import Field
    from pipeline.stores.writer import StoreWriter

    ids = np.arange(4 * ROWS, dtype=np.uint32).view(np.uint8).reshape(ROWS, 16)
    fields = {"x": Field(SHAPE, "float16", codec)}
    writer = StoreWriter(folder / "s.zarr", ids, np.zeros(ROWS, np.int32), fields, identity={}, shard_rows=4096)
    writer.write_rest(lambda r: {"x": x[r]})
    writer.publish()


def read_store(folder: Path, budget: int = 2**26) -> Iterator:
    sys.path.insert(0, str(ROOT))
    from pipeline.batches.batches import batches
    from pipeline.stores.store import open_store

    return (batch["x"] for batch in batches(open_store(folder / "s.zarr"), ["x"], BATCH, seed=0, memory_budget=budget))


def write_lz4(folder: Path, x: np.ndarray) -> None:
    write_store(folder, x, "lz4")


def write_plain(folder: Path, x: np.ndarray) -> None:
    np.save(folder / "x.npy", x)


def read_loader(folder: Path, workers: int = 0) -> Iterator:
    import torch
    from torch.utils.data import DataLoader, Dataset

    class Mapped(Dataset):
        x = np.load(folder / "x.npy", mmap_mode="r")

        def __len__(self) -> int:
            return len(self.x)

        def __getitem__(self, row: int) -> torch.Tensor:
            return torch.from_numpy(self.x[row].copy())

    while True:
        yield from DataLoader(Mapped(), BATCH, shuffle=True, drop_last=True, num_workers=workers)


def write_files(folder: Path, x: np.ndarray) -> None:
    import torch

    for number, row in enumerate(x):
        torch.save(torch.from_numpy(row), folder / f"{number}.pt")


def read_files(folder: Path) -> Iterator:
    import torch
    from torch.utils.data import DataLoader, Dataset

    class Files(Dataset):
        def __len__(self) -> int:
            return ROWS

        def __getitem__(self, row: int) -> torch.Tensor:
            return torch.load(folder / f"{row}.pt", weights_only=True)

    while True:
        yield from DataLoader(Files(), BATCH, shuffle=True, drop_last=True)


def write_webdataset(folder: Path, x: np.ndarray) -> None:
    import webdataset

    with webdataset.ShardWriter(f"{folder}/%04d.tar", maxcount=4096, verbose=0) as sink:
        for number, row in enumerate(x):
            sink.write({"__key__": f"{number:06d}", "x.npy": row})


def read_webdataset(folder: Path) -> Iterator:
    import webdataset

    urls = sorted(str(file) for file in folder.glob("*.tar"))
    data = webdataset.WebDataset(urls, shardshuffle=len(urls), empty_check=False).shuffle(4096).decode().to_tuple("x.npy")
    while True:
        yield from (batch for (batch,) in data.batched(BATCH))


def write_datasets(folder: Path, x: np.ndarray) -> None:
    from datasets import Array3D, Dataset, Features

    features = Features({"x": Array3D(SHAPE, "float16")})
    Dataset.from_dict({"x": list(x)}, features=features).save_to_disk(str(folder / "d"))


def read_datasets(folder: Path) -> Iterator:
    from datasets import load_from_disk

    data = load_from_disk(str(folder / "d")).with_format("numpy")
    while True:
        yield from (batch["x"] for batch in data.shuffle(seed=0).iter(BATCH, drop_last_batch=True))


def write_lance(folder: Path, x: np.ndarray) -> None:
    import lance
    import pyarrow as pa

    flat = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), int(np.prod(SHAPE)))
    lance.write_dataset(pa.table({"x": flat}), str(folder / "d.lance"))


def read_lance(folder: Path) -> Iterator:
    import lance

    data, rng = lance.dataset(str(folder / "d.lance")), np.random.default_rng(0)
    while True:
        order = rng.permutation(ROWS)
        for first in range(0, ROWS, BATCH):
            column = data.take(order[first : first + BATCH], columns=["x"])["x"].combine_chunks()
            yield column.values.to_numpy(zero_copy_only=False).reshape(-1, *SHAPE)


def write_litdata(folder: Path, x: np.ndarray) -> None:
    from litdata import optimize

    np.save(folder / "x.npy", x)
    optimize(
        fn=Row(str(folder / "x.npy")), inputs=list(range(ROWS)), output_dir=str(folder / "d"), chunk_bytes="64MB", num_workers=1
    )


class Row:
    def __init__(self, path: str):
        self.path = path

    def __call__(self, number: int) -> np.ndarray:
        return np.array(np.load(self.path, mmap_mode="r")[number])


def read_litdata(folder: Path) -> Iterator:
    from litdata import StreamingDataLoader, StreamingDataset

    data = StreamingDataset(str(folder / "d"), shuffle=True, drop_last=True)
    while True:
        yield from StreamingDataLoader(data, batch_size=BATCH, num_workers=0, drop_last=True)


ARMS: dict[str, tuple[Callable, Callable, int]] = {  # writer, reader, rows timed a round
    "store, raw": (write_store, read_store, 4 * ROWS),
    "store, lz4": (write_lz4, read_store, 4 * ROWS),
    "store, in RAM": (write_store, lambda folder: read_store(folder, 2**30), 4 * ROWS),
    "DataLoader over a memmap": (write_plain, read_loader, ROWS),
    "DataLoader over a memmap, 2 workers": (write_plain, lambda folder: read_loader(folder, 2), ROWS),
    "Lance": (write_lance, read_lance, ROWS),
    "LitData": (write_litdata, read_litdata, ROWS),
    "one .pt file a sample": (write_files, read_files, ROWS // 4),
    "WebDataset": (write_webdataset, read_webdataset, ROWS // 4),
    "HF datasets": (write_datasets, read_datasets, ROWS // 4),
}


def rate(name: str, folder: Path) -> float:
    """Rows a second."""
    _, reader, count = ARMS[name]
    stream = reader(folder)
    for _ in islice(stream, max(2048, count // 4) // BATCH):
        pass
    total, start = 0, time.perf_counter()
    for batch in islice(stream, count // BATCH):
        assert tuple(batch.shape) == (BATCH, *SHAPE)
        total += BATCH
    return total / (time.perf_counter() - start)


def main(python: str, litdata_python: str) -> None:
    def call(action: str, name: str, folder: Path) -> str:
        interpreter = sys.executable if "store" in name else litdata_python if name == "LitData" else python
        command = [interpreter, "-W", "ignore", __file__, action, name, str(folder)]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    found: dict[str, list[float]] = {name: [] for name in ARMS}
    with tempfile.TemporaryDirectory(dir=ROOT / "bench") as scratch:
        for name in ARMS:
            folder = Path(scratch) / name.replace(" ", "_")
            folder.mkdir()
            call("write", name, folder)
        for _ in range(ROUNDS):
            for name, rates in found.items():
                rates.append(float(call("read", name, Path(scratch) / name.replace(" ", "_")).split()[-1]))
                print(f"{name}: {rates[-1]:.0f} rows/s", flush=True)
    results = {}
    for name, rates in found.items():
        low, middle, high = quantiles([a / b for a, b in zip(found["store, raw"], rates, strict=True)], n=4)
        results[name] = {"rows_a_second": median(rates), "store_is_faster_by": middle, "low": low, "high": high}
    (ROOT / "bench" / "peers.json").write_text(json.dumps({"machine": MACHINE, "arms": results}, indent=1) + "\n")
    lines = [
        "# Reading cached features",
        "",
        f"{ROWS} rows of 16 KB, batches of {BATCH}; {MACHINE}; median of {ROUNDS} rounds, with quartiles.",
        "",
    ]
    lines += ["| | rows a second | the raw store is faster by |", "|---|---|---|"]
    lines += [
        f"| {n} | {r['rows_a_second']:.0f} | {r['store_is_faster_by']:.1f} ({r['low']:.1f}-{r['high']:.1f}) |"
        for n, r in results.items()
    ]
    (ROOT / "bench" / "peers.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    if "--help" in sys.argv:
        sys.exit(print(__doc__))
    if sys.argv[1] == "write":
        ARMS[sys.argv[2]][0](Path(sys.argv[3]), rows())
    elif sys.argv[1] == "read":
        print(rate(sys.argv[2], Path(sys.argv[3])))
    else:
        main(*sys.argv[1:3])
