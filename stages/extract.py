"""extract@teacher: dump one teacher's features and logits on the whole transfer set, once."""

from pathlib import Path

import click
import numpy as np
import torch

from pipeline.batches import in_order, input_fields, part, tensors
from pipeline.checkpoints import file_digest, load_network
from pipeline.cost import bytes_in, measured
from pipeline.lineage import open_project
from pipeline.manners import one_line_errors, progress
from pipeline.network import Network
from pipeline.optimize import pick_device
from pipeline.store import Field, Store, create_store, open_store


@click.command()
@click.argument("name")
@click.option("--transfer", type=Path, required=True)
@click.option("--teacher", type=Path, required=True)
@click.option("--out", type=Path, required=True)
@click.option("--cost", type=Path, required=True)
@one_line_errors
@torch.inference_mode()
def main(name: str, transfer: Path, teacher: Path, out: Path, cost: Path) -> None:
    params = open_project()
    settings, weights = params.extract, teacher / "teacher.safetensors"
    store, device = open_store(transfer), pick_device(params.device)
    network, _, header = load_network(weights, device)
    recipes = {"features": settings.features, "logits": settings.logits}
    sample = dump(name, network, store, slice(0, 2), batch_size=2)
    fields = {field: Field(tuple(x.shape[1:]), **recipes[field.split("/")[0]].model_dump()) for field, x in sample.items()}
    identity = {
        "teacher": {"name": name, "weights": file_digest(weights), "header": header},
        "input": store.digest,
        "batch_size": settings.batch_size,
        "precision": "float32",
        "device": device.type,
    }
    with measured(cost) as ledger, progress(f"dump {name}", total=store.n_rows, unit="rows") as advance:
        writer = create_store(out, store.sample_id, store.view, fields, identity=identity, shard_rows=store.shard_rows)
        for shard in writer.unfinished:
            writer.write(shard, dump(name, network, store, writer.rows(shard), settings.batch_size))
            advance(writer.rows(shard).stop - writer.rows(shard).start)
        writer.publish()
        ledger |= {"bytes": bytes_in(out), "rows": store.n_rows}


def dump(name: str, network: Network, store: Store, rows: slice, batch_size: int) -> dict[str, np.ndarray]:
    """The teacher's features and logits on some rows of one shard, float32."""
    device = next(network.parameters()).device
    outputs: dict[str, list[np.ndarray]] = {}
    for batch in in_order(store, input_fields(store), batch_size, rows):
        features, logits = network(part(tensors(batch, device), "inputs"))
        named = {f"features/{name}/{tap}": x for tap, x in features.items()}
        named |= {f"logits/{name}/{task}": x for task, x in logits.items()}
        for field, x in named.items():
            outputs.setdefault(field, []).append(x.cpu().numpy())
    return {field: np.concatenate(arrays) for field, arrays in outputs.items()}


if __name__ == "__main__":
    main()
