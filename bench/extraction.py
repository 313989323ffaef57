"""Dumping a teacher against its bare forward passes on the same rows.

    python bench/extraction.py    # after `make repro`; writes bench/extraction.json; about four minutes

Rounds alternate between the two, in one process. The demo's detection teacher, and a residual network of the size and work of
a ResNet-50 (24 million parameters, 3 GFLOP a row) on images of 32 pixels.
"""

import json
import sys
import tempfile
import time
from functools import partial
from os import chdir
from pathlib import Path
from statistics import median, quantiles

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pipeline.batches.batches import in_order, input_fields, part, tensors  # noqa: E402
from pipeline.checkpoints import load_network  # noqa: E402
from pipeline.encoders.image import ImageEncoder  # noqa: E402
from pipeline.network import Network  # noqa: E402
from pipeline.project.sections import Recipe  # noqa: E402
from pipeline.stores.layout import Field  # noqa: E402
from pipeline.stores.store import Store, open_store  # noqa: E402
from pipeline.stores.writer import StoreWriter  # noqa: E402
from pipeline.teachers.extraction import forward_on, outputs_on  # noqa: E402

CPU = torch.device("cpu")
MACHINE = "2 cores of an AMD EPYC (Zen 4), torch 2.13.0 CPU, two threads"
HALF = Recipe(dtype="float16", codec="raw")


@torch.inference_mode()
def bare(network: Network, store: Store, rows: int, batch: int) -> float:
    start = time.perf_counter()
    for x in in_order(store, input_fields(store), batch, slice(0, rows)):
        network(part(tensors(x, CPU), "inputs"))
    return time.perf_counter() - start


def dumped(network: Network, store: Store, rows: int, batch: int, shard_rows: int) -> tuple[float, float]:
    """Seconds, and bytes a row."""
    with tempfile.TemporaryDirectory(dir=ROOT / "bench") as scratch:
        start = time.perf_counter()
        dump = partial(outputs_on, forward_on(network, store), "t", batch_size=batch, recipe=lambda field: HALF)
        fields = {name: Field(tuple(x.shape[1:]), "float16") for name, x in dump(slice(0, 2)).items()}
        ids = store.sample_id[:rows], store.view[:rows]
        writer = StoreWriter(Path(scratch) / "t.zarr", *ids, fields, identity={}, shard_rows=shard_rows)
        writer.write_rest(dump)
        writer.publish()
        spent = time.perf_counter() - start
        out = open_store(Path(scratch) / "t.zarr")
        return spent, sum(out.nbytes(name) for name in out.fields) / rows


def compare(name: str, network: Network, store: Store, rows: int, batch: int, shard_rows: int, rounds: int) -> dict:
    pairs = []
    for number in range(rounds + 1):
        a, (b, size) = bare(network, store, rows, batch), dumped(network, store, rows, batch, shard_rows)
        if number:  # the first round warms up
            pairs.append((a, b))
    low, middle, high = quantiles([b / a for a, b in pairs], n=4)
    found = {"teacher": name, "parameters": sum(p.numel() for p in network.parameters()), "bytes_a_row": size}
    found |= {"ms_a_row": 1e3 * median(a for a, _ in pairs) / rows, "ratio": middle, "low": low, "high": high}
    print(found, flush=True)
    return found


def images(folder: Path, rows: int) -> Store:
    writer = StoreWriter(
        folder / "in.zarr",
        np.arange(4 * rows, dtype=np.uint32).view(np.uint8).reshape(rows, 16),
        np.zeros(rows, np.int32),
        {"inputs/image": Field((3, 32, 32), "uint8")},
        identity={},
        shard_rows=rows,
    )
    pixels = np.random.default_rng(0).integers(0, 256, (rows, 3, 32, 32), dtype=np.uint8)
    writer.write_rest(lambda r: {"inputs/image": pixels[r]})
    writer.publish()
    return open_store(folder / "in.zarr")


if __name__ == "__main__":
    if "--help" in sys.argv:
        sys.exit(print(__doc__))
    chdir(ROOT)
    torch.set_num_threads(2)
    network, _, _ = load_network(Path("data/teachers/detection/teacher.safetensors"), CPU)
    transfer = open_store(Path("data/knowledge/transfer.zarr"))
    results = [compare("detection teacher of the demo", network, transfer, 8192, 256, 1024, rounds=9)]
    with tempfile.TemporaryDirectory(dir=ROOT / "bench") as scratch:
        store = images(Path(scratch), 768)
        encoder = ImageEncoder(width=256, blocks=20, channels=3)
        large = Network(encoder, {}, {"image": torch.zeros(2, 3, 32, 32, dtype=torch.uint8)}).eval()
        large = large.to(memory_format=torch.channels_last)
        results.append(compare("as large as a ResNet-50", large, store, 768, 64, 128, rounds=9))
    (ROOT / "bench" / "extraction.json").write_text(json.dumps({"machine": MACHINE, "teachers": results}, indent=1) + "\n")
