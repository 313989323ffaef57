"""prepare: get the samples; write the transfer set, and the splits that students are measured on."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from pipeline.cost import bytes_in, measured
from pipeline.manners import Advance, one_line_errors, progress
from pipeline.project.dependencies import code_digest, source_identity
from pipeline.project.lineage import open_project
from pipeline.sources.checks import check_splits
from pipeline.sources.source import Split
from pipeline.stores.layout import field_of
from pipeline.stores.writer import StoreWriter


@click.command()
@click.option("--transfer", type=Path, required=True)
@click.option("--val", type=Path, required=True)
@click.option("--test", type=Path, required=True)
@click.option("--unseen", type=Path, required=True)
@click.option("--cost", type=Path, required=True)
@one_line_errors
def main(transfer: Path, val: Path, test: Path, unseen: Path, cost: Path) -> None:
    params = open_project()
    source, identity, code = params.source(), source_identity(params), code_digest("prepare", params)
    places = {"transfer": transfer, "val": val}
    unseen.mkdir(parents=True, exist_ok=True)
    with measured(cost) as ledger:
        splits = source.splits()
        check_splits(splits, params.tasks)
        total = sum(len(split.view) for split in splits.values())
        with progress("write stores", total=total, unit="rows") as advance:
            for name, split in splits.items():
                kind, _, rest = name.partition("/")
                path = places.get(kind) or {"test": test, "unseen": unseen}[kind] / f"{rest}.zarr"
                options = {"identity": {**identity, "split": name}, "shard_rows": params.prepare.shard_rows, "code": code}
                write(path, split, source.names, options, advance)
        if not any(unseen.iterdir()):  # DVC keeps warning about an empty folder
            (unseen / "README").write_text("The source has no unseen tasks.\n")
        ledger["bytes"] = bytes_in(transfer)


def write(path: Path, split: Split, names: Mapping[str, list[str]], options: dict[str, Any], advance: Advance) -> None:
    """names: {task: class names}, kept with the labels so that another project can check that its classes are the same."""
    arrays = split.fields()
    attributes_by_field: dict[str, Any] = {f"labels/{task}": {"classes": classes} for task, classes in names.items() if classes}
    attributes_by_field |= {f"inputs/{name}": attributes for name, attributes in split.about.items()}
    fields = {name: replace(field_of(array), attributes=attributes_by_field.get(name, {})) for name, array in arrays.items()}
    writer = StoreWriter(path, split.sample_id, split.view, fields, **options)
    advance(len(split.view) - writer.rows_left, skipped=True)

    def rows_of(rows: slice) -> dict[str, Any]:
        shard = {name: array[rows] for name, array in arrays.items()}
        advance(rows.stop - rows.start)
        return shard

    writer.write_rest(rows_of)
    writer.publish()


if __name__ == "__main__":
    main()
