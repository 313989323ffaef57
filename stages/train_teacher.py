"""train_teacher@teacher: train one teacher on the labels of its tasks, and score it."""

from pathlib import Path

import click
import torch
from safetensors.torch import save_file

from pipeline.batches import labelled_batches
from pipeline.checkpoints import build_network, input_shapes, save_network
from pipeline.cost import measured, write_json
from pipeline.learning import learn
from pipeline.lineage import open_project
from pipeline.manners import one_line_errors, progress
from pipeline.optimize import Recipe, pick_device
from pipeline.scoring import predictions, score
from pipeline.seeds import derive_seed
from pipeline.store import open_store


@click.command()
@click.argument("name")
@click.option("--transfer", type=Path, required=True)
@click.option("--val", type=Path, required=True)
@click.option("--test", type=Path, required=True)
@click.option("--out", type=Path, required=True)
@click.option("--scores", type=Path, required=True)
@click.option("--cost", type=Path, required=True)
@one_line_errors
def main(name: str, transfer: Path, val: Path, test: Path, out: Path, scores: Path, cost: Path) -> None:
    params = open_project()
    settings, teacher = params.train_teacher, params.teachers[name]
    store, val_store = open_store(transfer), open_store(val)
    tasks = {task: params.tasks[task].build() for task in teacher.tasks}
    seed = derive_seed(params.seed, "teacher", name)
    torch.manual_seed(seed)
    shapes = input_shapes(store)
    network = build_network(teacher.encoder, tasks, shapes, pick_device(params.device))
    augment = params.source().augment
    with measured(cost), progress(f"train teacher {name}", total=teacher.updates, unit="updates") as advance:
        curve = learn(
            network,
            tasks,
            {"labels": 1.0},
            Recipe(teacher.updates, settings.learning_rate, settings.weight_decay),
            knowledge=None,
            labelled=labelled_batches(store, tasks, settings.batch_size, augment, seed=seed),
            val=val_store,
            evaluations=settings.evaluations,
            advance=advance,
        )
    save_network(out / "teacher.safetensors", network, teacher.encoder, params.tasks, shapes, learned_from=store.digest)
    splits = {path.stem: open_store(path) for path in sorted(test.glob("*.zarr"))}
    write_json(scores / "scores.json", {split: score(network, tasks, store) for split, store in splits.items()})
    write_json(scores / "curve.json", curve)
    save_file(predictions(network, splits["clean"], params.report.strip_rows), scores / "predictions.safetensors")


if __name__ == "__main__":
    main()
