"""distill@student: train one student, on several seeds, from one store and nothing else."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import torch

from pipeline.batches import batches, input_fields, labelled_batches
from pipeline.checkpoints import build_network, input_shapes, save_network
from pipeline.cost import measured, write_json
from pipeline.learning import Curve, learn
from pipeline.lineage import open_project
from pipeline.manners import one_line_errors, progress
from pipeline.network import Network
from pipeline.objective import wanted
from pipeline.optimize import Recipe, pick_device
from pipeline.params import Params
from pipeline.seeds import derive_seed
from pipeline.store import Store, open_store
from pipeline.tasks.task import Task
from pipeline.trust import ensure_verified


@click.command()
@click.argument("name")
@click.option("--store", type=Path, required=True)
@click.option("--val", type=Path, required=True)
@click.option("--out", type=Path, required=True)
@click.option("--cost", type=Path, required=True)
@one_line_errors
def main(name: str, store: Path, val: Path, out: Path, cost: Path) -> None:
    params = open_project()
    student = params.student(name)
    knowledge, val_store = open_store(store), open_store(val)
    ensure_verified(knowledge)
    tasks = {task: params.tasks[task].build() for task in student.tasks}
    groups = [{task: tasks[task]} for task in tasks] if student.separate else [tasks]
    updates = params.distill.seeds * len(groups) * (student.updates + student.head_updates)
    curves = []
    with measured(cost) as ledger, progress(f"distill {name}", total=updates, unit="updates") as advance:
        for number in range(params.distill.seeds):
            for group in groups:
                seed = derive_seed(params.seed, "student", number)
                network, curve = train(params, name, group, knowledge, val_store, seed, advance)
                curves += [{"seed": number, **point} for point in curve]
                path = out / f"seed-{number}" / f"{'+'.join(group)}.safetensors"
                about = {"learned_from": knowledge.digest}
                save_network(path, network, student.encoder, params.tasks, input_shapes(knowledge), **about)
        drawn = student.updates * student.batch_size if student.weights.keys() & {"fused", "logits"} else 0
        ledger |= {"updates": updates, "knowledge_rows": params.distill.seeds * len(groups) * drawn}
    write_json(out / "curve.json", curves)


def train(
    params: Params, name: str, tasks: dict[str, Task], store: Store, val: Store, seed: int, advance: Callable[[int], None]
) -> tuple[Network, Curve]:
    """One network on one seed: on its knowledge and labels, then, for `head_updates`, its heads alone on labels."""
    student, settings = params.student(name), params.distill
    torch.manual_seed(seed)
    network = build_network(student.encoder, tasks, input_shapes(store), pick_device(params.device))
    fields = input_fields(store) + [field for field in store.fields if wanted(field, tasks, student.weights)]
    augment = params.source().augment
    knowledge = batches(store, fields, student.batch_size, seed=seed, memory_budget=settings.memory_budget)
    labelled = labelled_batches(store, tasks, student.batch_size, augment, seed=seed, share=student.labelled_share)
    phases = [(student.updates, student.weights, False)]
    if student.head_updates:
        phases.append((student.head_updates, {"labels": 1.0}, True))
    study = partial(learn, network, tasks, methods=student.methods(), val=val, evaluations=settings.evaluations)
    curve: Curve = []
    for updates, weights, heads_only in phases:
        recipe = Recipe(updates, student.learning_rate, settings.weight_decay)
        sources = knowledge if weights.keys() & {"fused", "logits"} else None, labelled if "labels" in weights else None
        curve += study(weights, recipe, *sources, advance=advance, heads_only=heads_only)
    return network, curve


if __name__ == "__main__":
    main()
