"""One network's learning: its objective, optimised on its batches, with a curve of every term and of val."""

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
from torch import Tensor

from pipeline.balances.balance import Balance
from pipeline.batches import Rows, tensors
from pipeline.losses.loss import Loss
from pipeline.network import Network
from pipeline.objective import Objective
from pipeline.optimize import Recipe, optimize
from pipeline.scoring import score
from pipeline.store import Store
from pipeline.tasks.task import Task

SAMPLE = 8  # batches

Curve = list[dict[str, float]]
Methods = tuple[Loss | None, Loss | None, Callable[..., Balance] | None]


def learn(
    network: Network,
    tasks: dict[str, Task],
    weights: dict[str, float],
    recipe: Recipe,
    knowledge: Iterator[Rows] | None,
    labelled: Iterator[Rows] | None,
    *,
    val: Store,
    evaluations: int,
    advance: Callable[[int], None],
    heads_only: bool = False,
    methods: Methods = (None, None, None),
) -> Curve:
    """Train a network in place. Returns, `evaluations` times, {update, every term's mean since, "val/<task>/<metric>"}.

    heads_only: the encoder stays as it is, its normalisation too. methods: of the objective: losses, balance.
    """
    device = next(network.parameters()).device
    known, labels = (tensors(sample(source), device) if source else {} for source in (knowledge, labelled))
    objective = Objective(network, tasks, weights, known, labels, *methods).to(device)
    network.encoder.requires_grad_(not heads_only)
    every = max(1, recipe.updates // evaluations)
    curve: Curve = []
    since: list[dict[str, Tensor]] = []
    network.train(not heads_only)
    for update, terms in optimize(objective, recipe, knowledge, labelled):
        since.append(terms)
        advance(1)
        if update % every == 0:
            means = {name: sum(t[name].item() for t in since) / len(since) for name in terms}
            curve.append({"update": update, **means, **flat(score(network, tasks, val))})
            since.clear()
            network.train(not heads_only)
    return curve


def sample(source: Iterator[Rows]) -> Rows:
    """The first batches of a source, as one: enough rows to set scales by."""
    parts = [{name: x.copy() for name, x in rows.items()} for rows in islice(source, SAMPLE)]
    return {name: np.concatenate([rows[name] for rows in parts]) for name in parts[0]}


def flat(scores: dict[str, dict[str, float]]) -> dict[str, float]:
    return {f"val/{task}/{metric}": value for task, metrics in scores.items() for metric, value in metrics.items()}
