"""What a network's loss is made of: labels, cached logits, cached features. A teacher's is labels alone."""

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.balance import constant_loss
from pipeline.batches import Batch, part
from pipeline.losses import cosine_smooth_l1
from pipeline.network import Network
from pipeline.tasks.task import Task


@final
class Objective(nn.Module):
    """Terms of the loss, named "labels/<task>", "logits/<teacher>/<task>" and "fused/<target>".

    Each term is divided by the loss of its best constant predictor (features are standardised as they are), averaged
    over the terms of its kind, and counted by `weights[kind]`. Holds the adapters (1x1, student -> target), which are
    trained with the network and then dropped.

    knowledge, labelled: a sample of the batches that will come, fields as in a store; None where there will be none.
    """

    def __init__(
        self, network: Network, tasks: dict[str, Task], weights: Mapping[str, float], knowledge: Batch | None, labelled: Batch | None
    ):
        super().__init__()
        self.network, self.tasks = network, tasks
        self.names = [name for name in (knowledge or {}) if wanted(name, tasks, weights)]
        if labelled and weights.get("labels"):
            self.names += [f"labels/{task}" for task in tasks]
        kinds = [name.split("/")[0] for name in self.names]
        self.weights = {name: weights[kind] / kinds.count(kind) for name, kind in zip(self.names, kinds, strict=True)}
        targets = {name: knowledge[name] for name in self.names if knowledge and name.startswith("fused/")}
        self.adapters = nn.ModuleDict({name: nn.Linear(network.width, x.shape[1]) for name, x in targets.items()})
        self.scales = {name: self.scale(name, knowledge, labelled) for name in self.names if name not in targets}

    def scale(self, name: str, knowledge: Batch | None, labelled: Batch | None) -> float:
        kind, *_, task = name.split("/")
        batch = labelled if kind == "labels" else knowledge
        assert batch is not None
        with torch.no_grad():
            pred = self.network.eval()({k: x[:2] for k, x in part(batch, "inputs").items()}).logits[task]
        target = batch[name]
        if kind == "labels":
            target = target[batch[f"labelled/{task}"]]
        return constant_loss(self.loss_of(name), tuple(pred.shape[1:]), target)

    def loss_of(self, name: str):
        kind, *_, task = name.split("/")
        return self.tasks[task].loss if kind == "labels" else self.tasks[task].distill_loss

    def forward(self, knowledge: Batch | None, labelled: Batch | None) -> dict[str, Tensor]:
        """The weighted terms, scalars. Both batches go through the network in one pass."""
        parts = [batch for batch in (knowledge, labelled) if batch is not None]
        inputs = [part(batch, "inputs") for batch in parts]
        features, logits = self.network({name: torch.cat([x[name] for x in inputs]) for name in inputs[0]})
        split = len(next(iter(inputs[0].values()))) if knowledge is not None else 0
        terms = {}
        for name in self.names:
            if name.startswith("labels/"):
                terms[name] = self.label_term(name, logits, labelled, split)
            elif name in self.adapters:
                terms[name] = self.feature_term(name, features[self.network.tap][:split], knowledge[name])
            else:
                task = name.split("/")[-1]
                terms[name] = self.loss_of(name)(logits[task][:split], knowledge[name]).mean() / self.scales[name]
        return {name: self.weights[name] * term for name, term in terms.items()}

    def label_term(self, name: str, logits: dict[str, Tensor], labelled: Batch, split: int) -> Tensor:
        """Mean over the rows that carry the label; 0 if none does."""
        task = name.split("/")[-1]
        here = labelled[f"labelled/{task}"]
        if not here.any():
            return logits[task].new_zeros(())
        return self.loss_of(name)(logits[task][split:][here], labelled[name][here]).mean() / self.scales[name]

    def feature_term(self, name: str, feature: Tensor, target: Tensor) -> Tensor:
        adapted = self.adapters[name](feature.flatten(2).transpose(1, 2)).transpose(1, 2)
        return cosine_smooth_l1(adapted.view(len(feature), -1, *feature.shape[2:]), target).mean()


def wanted(field: str, tasks: Mapping[str, Task], weights: Mapping[str, float]) -> bool:
    """Whether a store's field is knowledge that these weights ask for: fused features, or logits of a task at hand."""
    kind, *_, last = field.split("/")
    return bool(weights.get(kind)) and (kind == "fused" or kind == "logits" and last in tasks)
