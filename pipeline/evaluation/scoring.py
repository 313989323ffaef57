"""What a network predicts on a split, and its metrics there."""

import math
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from pipeline.batches.batches import MASK, Batch, in_line, in_order, input_fields, part, tensors
from pipeline.network import Network, Outputs
from pipeline.project.sections import SHOWN
from pipeline.stores.store import Store
from pipeline.tasks.task import Task

BATCH = 256

Scores = dict[str, dict[str, float]]


@torch.no_grad()
def forward(network: Network, split: Store, fields: list[str]) -> Iterator[tuple[Outputs, Batch]]:
    """Outputs on every row in order, in evaluation mode, with these fields of the same rows."""
    device = next(network.parameters()).device
    network.eval()
    for rows in in_order(split, input_fields(split) + fields, BATCH):
        batch = tensors(rows, device)
        yield network(part(batch, "inputs")), batch


def score(network: Network, tasks: dict[str, Task], split: Store) -> Scores:
    """{task: {metric: value}} of the tasks that the network has a head for, each on the rows that carry its label."""
    headed_tasks = {name: task for name, task in tasks.items() if name in network.heads}
    return judged(headed_tasks, forward(network, split, label_fields(headed_tasks, split))) if headed_tasks else {}


def label_fields(tasks: Iterable[str], split: Store) -> list[str]:
    """Labels of tasks, and which rows carry them where not all do."""
    return [field for name in tasks for field in (f"labels/{name}", f"labelled/{name}") if field in split.fields]


def judged(tasks: dict[str, Task], outputs_and_batches: Iterable[tuple[Outputs, Batch]]) -> Scores:
    """Metrics of outputs, batch by batch, beside labels of the same rows."""
    tallies: dict[str, list] = {name: [] for name in tasks}
    for outputs, batch in outputs_and_batches:
        for name in tasks:
            labelled = batch.get(f"labelled/{name}", slice(None))
            pred, label = outputs.logits[name][labelled], batch[f"labels/{name}"][labelled]
            if len(label):
                tallies[name].append(tasks[name].tally(pred, label))
    for name, tally in tallies.items():
        if not tally:
            raise ValueError(f"no row of this split carries a label of task {name!r}; give it some, or drop the task")
    scores = {name: task.summarize(tallies[name]) for name, task in tasks.items()}
    for name, metrics in scores.items():
        check_metrics(name, tasks[name], metrics)
    return scores


def check_metrics(name: str, task: Task, metrics: dict[str, float]) -> None:
    """Raises ValueError for what no student could be chosen by."""
    if task.primary not in metrics:
        message = f"{type(task).__name__}.summarize gives {', '.join(metrics)}"
        raise ValueError(f"task {name!r}: {message}, but not its primary {task.primary}")
    for metric, value in metrics.items():
        if not math.isfinite(value):
            raise ValueError(f"task {name!r}: its {metric} is {value}; {type(task).__name__}.summarize must give numbers")


def predictions(network: Network, split: Store) -> dict[str, Tensor]:
    """Logits {task: (R, C, *grid)} of the first rows, those that pictures may show, on the CPU."""
    outputs, _ = next(forward(network, split, []))
    return {task: logits[:SHOWN].cpu().contiguous() for task, logits in outputs.logits.items()}


def pooled_features(networks: list[Network], split: Store) -> np.ndarray:
    """Mean and maximum over the positions that exist of each network's last feature, side by side: (N, sum 2 D)."""
    features = [
        torch.cat([pooled(outputs.features[network.tap], batch.get(MASK)) for outputs, batch in forward(network, split, [])])
        for network in networks
    ]
    return torch.cat(features, 1).cpu().numpy()


def pooled(x: Tensor, mask: Tensor | None) -> Tensor:
    """(B, D, *grid) -> (B, 2 D). mask: (B, *grid), if there is one for this grid; a row without positions is 0."""
    x_BDP = in_line(x)
    if mask is None or mask.shape[1:] != x.shape[2:]:
        return torch.cat([x_BDP.mean(2), x_BDP.amax(2)], 1)
    absent = ~mask.flatten(1)[:, None]
    mean = x_BDP.masked_fill(absent, 0).sum(2) / (~absent).sum(2).clamp(min=1)
    return torch.cat([mean, x_BDP.masked_fill(absent, -torch.inf).amax(2).masked_fill(absent.all(2), 0)], 1)
