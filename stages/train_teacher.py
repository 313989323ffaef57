"""train_teacher@teacher: train one teacher on the labels of its tasks, or take it as it is, and score it."""

from functools import partial
from pathlib import Path

import click
import torch
from safetensors.torch import save

from pipeline.atomic import write_json, write_whole
from pipeline.batches.batches import labelled_batches
from pipeline.checkpoints import about_inputs, input_shapes, save_network, teacher_network
from pipeline.cost import measured
from pipeline.device import pick_device
from pipeline.evaluation.scoring import predictions, score
from pipeline.manners import named, one_line_errors, progress
from pipeline.network import Network
from pipeline.project.lineage import open_project
from pipeline.project.params import Params
from pipeline.seeds import derive_seed
from pipeline.stores.store import Store, open_store
from pipeline.stores.trust import open_verified
from pipeline.tasks.task import Task
from pipeline.teachers.acceptance import accept
from pipeline.training.learning import Curve, learn
from pipeline.training.optimize import Schedule


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
    teacher, store = params.teachers[name], open_verified(transfer)
    splits = {path.stem: open_store(path) for path in sorted(test.glob("*.zarr"))}
    tasks = params.build_tasks(teacher.tasks)
    curve = Curve()
    if teacher.imported:
        with measured(cost):
            tested, strip = accept(teacher.imported, tasks, store, splits, out / "imported.json")
    else:
        with measured(cost):
            network, curve = train(params, name, tasks, store, open_store(val), out)
        tested = {split: score(network, tasks, s) for split, s in splits.items()}
        strip = predictions(network, splits["clean"]) if tasks else {}
    write_json(scores / "scores.json", tested)
    write_json(scores / "curve.json", curve)
    write_whole(scores / "predictions.safetensors", save(strip))


def train(params: Params, name: str, tasks: dict[str, Task], store: Store, val: Store, out: Path) -> tuple[Network, Curve]:
    """Train a teacher, for no updates at all if it has none, and save it to `out`."""
    settings, teacher = params.train_teacher, params.teachers[name]
    assert teacher.encoder
    seed, shapes = derive_seed(params.seed, "teacher", name), input_shapes(store)
    torch.manual_seed(seed)
    network = teacher_network(params, name, shapes, pick_device(params.device), about_inputs(store))
    curve, rate = Curve(), teacher.learning_rate or settings.learning_rate
    schedule = Schedule(teacher.updates, rate, settings.weight_decay, settings.precision)
    size, augment = teacher.batch_size or settings.batch_size, params.source().augment
    with progress(f"train teacher {name}", total=teacher.updates, unit="updates") as advance:
        if teacher.updates:
            labelled = labelled_batches(store, tasks, size, augment, seed=seed)
            study = partial(learn, val=val, evaluations=settings.evaluations, advance=advance, heads_only=teacher.frozen)
            with named(f"teachers.{name}"):
                curve = study(network, tasks, {"labels": 1.0}, schedule, None, labelled)
    save_network(out / "teacher.safetensors", network, teacher.encoder, params.tasks, shapes, learned_from=store.digest)
    return network, curve


if __name__ == "__main__":
    main()
