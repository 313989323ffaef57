"""Training the module of a learned fusion as if it were a student: teachers' features in, features and logits out."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from pipeline.batches.batches import MASK, Batch, in_order, part, tensors, with_prefix
from pipeline.batches.pools import Rows
from pipeline.device import pick_device
from pipeline.fusions.fusion import Fusion
from pipeline.fusions.learned import LearnedFusion
from pipeline.losses.mse import MSE
from pipeline.network import Network
from pipeline.project.dependencies import tasks_of
from pipeline.project.params import Params
from pipeline.seeds import derive_seed
from pipeline.stores.store import Selection, Store
from pipeline.tasks.task import Task
from pipeline.training.objective import Objective
from pipeline.training.optimize import Schedule, optimize


def identity_of(fusion: Fusion, params: Params, name: str) -> dict[str, Any]:
    """What else a fusion's output depends on: nothing, unless it is learned."""
    tasks = {task: params.tasks[task].as_dict() for task in tasks_of("fuse", name, params)}
    return {"seed": params.seed, "tasks": tasks} if isinstance(fusion, LearnedFusion) else {}


def training_rows(fusion: Fusion) -> int:
    """How many rows a fusion will be trained on after the pass of `fit`."""
    return fusion.updates * fusion.batch_size if isinstance(fusion, LearnedFusion) else 0


def refine(
    fusion: Fusion,
    params: Params,
    name: str,
    inputs: Store,
    stores: list[Store],
    seen_rows: np.ndarray,
    held_rows: np.ndarray,
    advance: Callable[[int], None],
) -> dict[str, float]:
    """Train a fitted fusion on `seen_rows`, if it is a learned one; returns what `learn_fusion` does, on `held_rows`."""
    if not isinstance(fusion, LearnedFusion):
        return {}
    torch.manual_seed(derive_seed(params.seed, "fusion", name))
    tasks = params.build_tasks(tasks_of("fuse", name, params))
    rows = partial(taught_rows, inputs, stores, fusion.batch_size)
    return learn_fusion(fusion, tasks, partial(rows, seen_rows), rows(held_rows), pick_device(params.device), advance)


def taught_rows(inputs: Store, stores: list[Store], batch_size: int, rows: Selection) -> Iterator[Rows]:
    """Features, logits and which positions exist, of aligned stores, row by row together, once and in order.

    In order, because rows of a transfer set are in random order anyway, and stores with other chunks have no other in common.
    """
    fields = {store: with_prefix(store, "features/") + with_prefix(store, "logits/") for store in stores}
    fields |= {inputs: [MASK]} if MASK in inputs.fields else {}
    for rows_by_store in zip(*(in_order(store, names, batch_size, rows) for store, names in fields.items()), strict=True):
        yield {name: array for store_rows in rows_by_store for name, array in store_rows.items()}


def learn_fusion(
    fusion: LearnedFusion,
    tasks: dict[str, Task],
    read_batches: Callable[[], Iterator[Rows]],
    held_batches: Iterator[Rows],
    device: torch.device,
    advance: Callable[[int], None],
) -> dict[str, float]:
    """Train a fitted fusion's module and have the fusion adopt it. Rows are as `taught_rows` reads them.

    read_batches: gives those to learn from, at every call. held_batches: those to be judged by. advance: called with the rows
    learned from.
    Returns {"logits/<teacher>/<task>": loss of a linear head on held rows, as a share of the best constant predictor's}.
    """
    with torch.inference_mode(False), torch.enable_grad():
        first = next(taught(fusion, read_batches(), device))
        names = dict.fromkeys(name.split("/")[2] for name in first if name.startswith("logits/"))
        network = Network(fusion.module(), {name: tasks[name] for name in names}, part(first, "inputs")).to(device)
        check_grids(network, first)
        objective = Objective(network, tasks, {"fused": 1.0, "logits": 1.0}, first, {}, MSE()).to(device).train()
        for _ in optimize(
            objective, Schedule(fusion.updates, fusion.learning_rate, 0.0), endless(fusion, read_batches, device), None
        ):
            advance(fusion.batch_size)
        fusion.adopt(network.encoder)
    return readable(objective, taught(fusion, held_batches, device))


def taught(fusion: LearnedFusion, source: Iterator[Rows], device: torch.device) -> Iterator[Batch]:
    """Rows as an objective expects them: features are inputs, and what has to be kept of them is a target."""
    for rows in source:
        batch = tensors(rows, device)
        features = part(batch, "features")
        targets = {name: tensor for name, tensor in batch.items() if not name.startswith("features/")}
        targets |= {f"inputs/{name}": tensor for name, tensor in features.items()}
        yield targets | {f"fused/{name}": tensor for name, tensor in fusion.goal(features).items()}


def endless(fusion: LearnedFusion, read_batches: Callable[[], Iterator[Rows]], device: torch.device) -> Iterator[Batch]:
    while True:
        yield from taught(fusion, read_batches(), device)


def check_grids(network: Network, batch: Batch) -> None:
    predictions = network(part(batch, "inputs")).logits
    for name, target in batch.items():
        if name.startswith("logits/") and target.shape[2:] != (grid := predictions[name.split("/")[2]].shape[2:]):
            raise ValueError(
                f"{name}: the teacher's grid is {tuple(target.shape[2:])}, that of a head on fused features {tuple(grid)}: "
                "tap features on the grid of the teachers' heads, or take a fusion that is not learned"
            )


@torch.no_grad()
def readable(objective: Objective, source: Iterator[Batch]) -> dict[str, float]:
    """The mean over rows of each logit term, without its weight."""
    sums, count = dict.fromkeys((name for name in objective.weights if name.startswith("logits/")), 0.0), 0
    for batch in source:
        rows, terms = len(next(iter(batch.values()))), objective.eval()(batch, {})
        sums = {name: total + terms[name].item() * rows for name, total in sums.items()}
        count += rows
    return {name: total / count / objective.weights[name] for name, total in sums.items()}
