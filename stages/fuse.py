"""fuse@fusion: fuse the teachers' features into one store that students learn from, and that needs no other."""

from functools import partial
from pathlib import Path

import click
import torch

from pipeline.batches.batches import features_of, narrowed, with_prefix
from pipeline.batches.pools import Rows
from pipeline.cost import measured
from pipeline.device import pick_device
from pipeline.fusions.linear import AffineFusion
from pipeline.fusions.quality import assess, lines, split_rows
from pipeline.manners import named, one_line_errors, progress
from pipeline.project.dependencies import code_digest
from pipeline.project.lineage import open_project
from pipeline.stores.store import open_aligned, open_store
from pipeline.stores.trust import ensure_verified
from pipeline.stores.writer import StoreWriter
from pipeline.training.learned_fusion import identity_of, refine, training_rows


@click.command()
@click.argument("name")
@click.option("--transfer", type=Path, required=True)
@click.option("--features", type=Path, required=True)
@click.option("--out", type=Path, required=True)
@click.option("--cost", type=Path, required=True)
@one_line_errors
@torch.inference_mode()
def main(name: str, transfer: Path, features: Path, out: Path, cost: Path) -> None:
    params = open_project()
    settings, spec, device = params.fuse, params.fusions[name], pick_device(params.device)
    fusion, teachers = spec.build(), params.fused(name)
    inputs, *stores = open_aligned(transfer, *(features / f"{teacher}.zarr" for teacher in teachers))
    for store in (inputs, *stores):
        ensure_verified(store)
    identity = {
        "fusion": {**spec.as_dict(), "teachers": teachers},
        "input": inputs.digest,
        "features": {teacher: store.digest for teacher, store in zip(teachers, stores, strict=True)},
        "batch_size": settings.batch_size,
        "device": device.type,
        **identity_of(fusion, params, name),
    }
    seen_rows, held_rows = split_rows(inputs.sample_id)
    total = 2 * inputs.n_rows + (0 if isinstance(fusion, AffineFusion) else len(seen_rows)) + training_rows(fusion)
    with measured(cost) as ledger, progress(f"fuse {name}", total=total, unit="rows read") as advance:
        stream = partial(features_of, inputs, stores, settings.batch_size, device, advance)
        sample, quality = {}, None  # stays so if the teachers gave logits alone
        if any(with_prefix(store, "features/") for store in stores):
            with named(f"fusions.{name}"):
                fusion.fit(stream(seen_rows, masked=True))
            readable = refine(fusion, params, name, inputs, stores, seen_rows, held_rows, advance)
            quality = assess(fusion, stream(seen_rows, masked=True), stream(held_rows, masked=True))._replace(readable=readable)
            sample = fusion.transform(next(stream(slice(0, 2))))
        fields = {f"fused/{k}": settings.fused.field(narrowed(tensor, "float32")) for k, tensor in sample.items()}
        names_by_store = {inputs: list(inputs.fields)} | {store: with_prefix(store, "logits/") for store in stores}
        fields |= {field: store.fields[field] for store, names in names_by_store.items() for field in names}
        ids, code = (inputs.sample_id, inputs.view), code_digest("fuse", params, name)
        writer = StoreWriter(out, *ids, fields, identity=identity, code=code, shard_rows=inputs.shard_rows)
        advance(inputs.n_rows - writer.rows_left, skipped=True)
        for store, names in names_by_store.items():
            writer.link(store, names)

        def fuse_shard(rows: slice) -> Rows:
            fused = [fusion.transform(batch) for batch in stream(rows)] if sample else []
            return {f"fused/{k}": narrowed(torch.cat([batch[k] for batch in fused]), settings.fused.dtype) for k in sample}

        writer.write_rest(fuse_shard)
        writer.publish()
        size = sum(open_store(out).nbytes(field) for field in fields if field.startswith("fused/"))
        ledger |= {"bytes": size, "quality": quality and quality._asdict()}
    for line in lines(quality):
        click.echo(f"fuse {name}: {line}", err=True)


if __name__ == "__main__":
    main()
