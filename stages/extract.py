"""extract@teacher: dump one teacher's features and logits on the whole transfer set, once; or import an existing dump."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch

from pipeline.batches.pools import Rows
from pipeline.checkpoints import load_network
from pipeline.cost import bytes_in, measured
from pipeline.device import pick_device
from pipeline.manners import one_line_errors, progress
from pipeline.project.dependencies import code_digest
from pipeline.project.lineage import open_project
from pipeline.project.params import Params
from pipeline.seeds import derive_seed
from pipeline.stores.store import Store, sha256
from pipeline.stores.trust import open_verified
from pipeline.stores.writer import StoreWriter
from pipeline.teachers.extraction import Forward, calibrate, check_recipes, forward_on, outputs_on
from pipeline.teachers.imported import import_for


@click.command()
@click.argument("name")
@click.option("--transfer", type=Path, required=True)
@click.option("--teacher", type=Path, required=True)
@click.option("--out", type=Path, required=True)
@click.option("--cost", type=Path, required=True)
@one_line_errors
def main(name: str, transfer: Path, teacher: Path, out: Path, cost: Path) -> None:
    params = open_project()
    settings, store, device = params.extract, open_verified(transfer), pick_device(params.device)
    forward, teacher_identity = open_teacher(params, name, teacher, store, device)
    seed = derive_seed(params.seed, "extract", name)
    dump = partial(outputs_on, forward, name, recipe=params.recipe, seed=seed)
    sample = dump(slice(0, 2), batch_size=2)
    check_recipes(params, name, sample)
    fields = {field: params.recipe(field).field(array) for field, array in sample.items()}
    identity = {
        "teacher": {"name": name, **teacher_identity},
        "input": store.digest,
        "batch_size": settings.batch_size,
        "precision": "float32",
        "device": device.type,
        "seed": seed,
    }
    with measured(cost) as ledger, progress(f"dump {name}", total=store.n_rows, unit="rows") as advance:
        bases, calibrated_on = calibrate(forward, name, store, fields, seed)
        identity |= {"calibrated_on": calibrated_on} if bases else {}
        ids, code = (store.sample_id, store.view), code_digest("extract", params, name)
        writer = StoreWriter(out, *ids, fields, identity=identity, code=code, shard_rows=store.shard_rows, bases=bases)
        rows_to_dump = writer.rows_left
        advance(store.n_rows - rows_to_dump, skipped=True)

        def dump_shard(rows: slice) -> Rows:
            arrays = dump(rows, settings.batch_size)
            advance(rows.stop - rows.start)
            return arrays

        writer.write_rest(dump_shard)
        writer.publish()
        ledger |= {"bytes": bytes_in(out), "rows": rows_to_dump}


def open_teacher(params: Params, name: str, folder: Path, store: Store, device: torch.device) -> tuple[Forward, dict[str, Any]]:
    """The function that gives the teacher's outputs on rows of a store, and what identifies this teacher."""
    imported = params.teachers[name].imported
    if imported:
        return import_for(imported, store)[0].forward, json.loads((folder / "imported.json").read_text())
    weights = folder / "teacher.safetensors"
    network, _, header = load_network(weights, device)
    return forward_on(network, store), {"weights": sha256(weights), "header": header}


if __name__ == "__main__":
    main()
