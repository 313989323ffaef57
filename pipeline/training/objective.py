"""What a network's loss is made of: labels, cached logits, cached features. A teacher's is made of labels alone."""

from collections.abc import Callable, Container, Mapping
from typing import Any, final

import torch
from torch import Tensor, nn

from pipeline.balances.balance import Balance
from pipeline.balances.static import constant_loss
from pipeline.batches.batches import MASK, Batch, Existing, part
from pipeline.losses.loss import Loss
from pipeline.losses.sparse import Sparse
from pipeline.network import Network, Outputs
from pipeline.tasks.task import Task


@final
class Objective(nn.Module):
    """Terms of the loss, named as fields: "labels/<task>", "logits/<teacher>/<task>", "fused/<target>".

    Each is divided by the loss of its best constant predictor (not features, which are standardised already), averaged over
    the terms of its kind, and multiplied by `weights[kind]`. Holds the adapters of the feature loss, which are trained with
    the network and then dropped.

    knowledge, labelled: samples of the batches that will come; empty where there will be none. Of knowledge on the grid of
    "inputs/mask" only positions that exist count, each as a row of its own. feature_loss: for fused features. logit_loss: for
    the logits of softmax tasks, instead of the task's own. balance: makes one for `terms`; without it the terms keep their
    scales. scales: those of an objective with the same terms and losses, if there is one. precision: of the network's
    arithmetic; terms are float32.
    """

    def __init__(
        self,
        network: Network,
        tasks: dict[str, Task],
        weights: Mapping[str, float],
        knowledge: Batch,
        labelled: Batch,
        feature_loss: Loss | None = None,
        logit_loss: Loss | None = None,
        balance: Callable[..., Balance] | None = None,
        scales: Mapping[str, float] | None = None,
        precision: str = "float32",
    ):
        super().__init__()
        self.network, self.tasks = network, tasks
        self.feature_loss, self.logit_loss = feature_loss, logit_loss
        self.precision = getattr(torch, precision)
        names = list(dict.fromkeys(term(field) for field in knowledge if wanted(field, tasks, weights)))
        names += [f"labels/{task}" for task in tasks if f"labels/{task}" in labelled and weights.get("labels")]
        kinds = [name.split("/")[0] for name in names]
        self.weights = {name: weights[kind] / kinds.count(kind) for name, kind in zip(names, kinds, strict=True)}
        self.balance = balance(terms=names) if balance else None
        targets = {name: knowledge[name] for name in names if name.startswith("fused/")}
        assert feature_loss or not targets, "a student of fused features needs a feature_loss"
        self.adapters = nn.ModuleDict(
            {name: feature_loss.adapter(network.width, target.shape[1]) for name, target in targets.items() if feature_loss}
        )
        self.scales = {}
        for name in [name for name in names if name not in targets]:
            shape_and_target = (
                self.fit_labels(name, labelled) if name.startswith("labels/") else self.fit_logits(name, knowledge)
            )
            self.scales[name] = scales[name] if scales else constant_loss(self.loss_of(name), *shape_and_target)

    def first_row(self, name: str, batch: Batch) -> tuple[Tensor, Batch]:
        """What the network predicts of the first row for the task of a term, (1, C, *grid), and that row. Raises ValueError."""
        task, row = name.split("/")[-1], {key: tensor[:1] for key, tensor in batch.items()}
        with torch.no_grad():
            pred = self.network.eval()(part(row, "inputs")).logits[task]
        if pred.dim() < 2:
            raise ValueError(f"tasks.{task}: the head gives {tuple(pred.shape)} for a row, expected (1, C, *grid)")
        return pred, row

    def fit_labels(self, name: str, batch: Batch) -> tuple[tuple[int, ...], Tensor]:
        """A row's prediction shape, and the labels to compare it with. Raises ValueError if they do not fit."""
        task, (pred, _) = name.split("/")[-1], self.first_row(name, batch)
        label = batch[name][batch[f"labelled/{task}"]]
        misfit = self.tasks[task].misfit(label, tuple(pred.shape[2:]))
        if misfit:
            raise ValueError(f"{name}: {misfit}; see tasks.{task} in params.yaml")
        check_by_row(task, self.tasks[task], pred, label)
        return tuple(pred.shape[1:]), label

    def fit_logits(self, name: str, batch: Batch) -> tuple[tuple[int, ...], Tensor | Sparse]:
        """As `fit_labels`, with a teacher's logits."""
        pred, row = self.first_row(name, batch)
        target, shape = cached(batch, name, Existing(batch.get(MASK))), tuple(Existing(row.get(MASK))(pred).shape[1:])
        if self.logit_loss and isinstance(target, Sparse):
            raise ValueError(f"{name}: sparse logits have a loss of their own; remove this student's logit_loss")
        if isinstance(target, Sparse):  # of some classes: grids alone
            teacher_shape, student_shape = target.ids.shape[2:], shape[1:]
        else:
            teacher_shape, student_shape = target.shape[1:], shape
        if teacher_shape != student_shape:
            raise ValueError(
                f"{name}: the teacher's are {tuple(teacher_shape)} per row, the student's {student_shape}; give the "
                "student an encoder whose last tap has that teacher's grid, or drop the weight of logits"
            )
        return shape, target

    def loss_of(self, name: str) -> Callable[[Tensor, Any], Tensor]:
        task = self.tasks[name.split("/")[-1]]
        if name.startswith("labels/"):
            return task.loss
        return self.logit_loss if self.logit_loss and task.temperature is not None else task.distill_loss

    def forward(self, knowledge: Batch, labelled: Batch) -> dict[str, Tensor]:
        """The weighted terms, scalars. Both batches go through the network in one pass, knowledge first."""
        inputs = [part(batch, "inputs") for batch in (knowledge, labelled) if batch]
        features, logits = self.outputs(
            {name: torch.cat([batch_inputs[name] for batch_inputs in inputs]) for name in inputs[0]}
        )
        knowledge_rows, existing = len(next(iter(knowledge.values()))) if knowledge else 0, Existing(knowledge.get(MASK))
        terms = {}
        for name in self.weights:
            task = name.split("/")[-1]
            if name in self.adapters:
                terms[name] = self.feature_term(name, features[self.network.tap][:knowledge_rows], knowledge[name], existing)
            elif name.startswith("labels/"):
                terms[name] = self.label_term(name, logits[task][knowledge_rows:], labelled[name], labelled[f"labelled/{task}"])
            else:
                pred, target = existing(logits[task][:knowledge_rows]), cached(knowledge, name, existing)
                terms[name] = self.loss_of(name)(pred, target).mean() / self.scales[name]
        if self.balance:
            terms = dict(zip(terms, self.balance(torch.stack(list(terms.values()))), strict=True))
        return {name: self.weights[name] * term for name, term in terms.items()}

    def outputs(self, inputs: Batch) -> Outputs:
        if self.precision == torch.float32:
            return self.network(inputs)
        device = next(iter(inputs.values())).device.type
        with torch.autocast(device, self.precision, cache_enabled=False):  # the cache is shared by all threads
            outputs = self.network(inputs)
        return outputs.map(Tensor.float)

    def backward(self, terms: Mapping[str, Tensor]) -> None:
        """Compute gradients of the terms that `forward` returned: of their sum, unless the balance looks at each one's."""
        if not self.balance:
            return torch.stack(list(terms.values())).sum().backward()
        encoder_parameters = [p for p in self.network.encoder.parameters() if p.requires_grad]
        self.balance.backward(list(terms.values()), encoder_parameters)

    def label_term(self, name: str, pred: Tensor, label: Tensor, labelled: Tensor) -> Tensor:
        """Mean over the rows that carry the label; 0 if none does."""
        rows = labelled.nonzero().squeeze(1).to(pred.device, non_blocking=True)  # a mask would be counted on the device
        if not len(rows):
            return pred.new_zeros(())
        return self.loss_of(name)(pred[rows], label[rows]).mean() / self.scales[name]

    def feature_term(self, name: str, feature: Tensor, target: Tensor, existing: Existing) -> Tensor:
        if feature.shape[2:] != target.shape[2:]:
            raise ValueError(
                f"{name}: the target's grid is {tuple(target.shape[2:])}, the student's {tuple(feature.shape[2:])}; give the "
                f"teachers' encoders grid: {[*feature.shape[2:]]}, or taps of that size"
            )
        assert self.feature_loss
        return self.feature_loss(*self.adapters[name](existing(feature), existing(target))).mean()


def check_by_row(name: str, task: Task, pred: Tensor, label: Tensor) -> None:
    """Refuse a row's loss that depends on other rows, as of labels (B,) against predictions (B, 1). Raises ValueError."""
    pred, label = pred.expand(2, *pred.shape[1:]), label[[0, -1]]
    with torch.no_grad():
        pair_losses, row_losses = task.loss(pred, label), [task.loss(pred[:1], label[k : k + 1]) for k in range(2)]
    if pair_losses.shape != (2,) or not torch.allclose(
        pair_losses, torch.cat(row_losses).to(pair_losses), rtol=1e-3, atol=1e-5, equal_nan=True
    ):
        shapes = f"predictions {tuple(pred.shape)} and labels {tuple(label.shape)}"
        raise ValueError(
            f"tasks.{name}: the loss of {shapes} is {tuple(pair_losses.shape)}, expected (2,), each of its own row alone"
        )


def wanted(field: str, tasks: Container[str], weights: Mapping[str, float]) -> bool:
    """Whether a store's field is knowledge that these weights ask for: fused features, or logits of a task at hand."""
    kind = field.split("/")[0]
    return bool(weights.get(kind)) and (kind == "fused" or (kind == "logits" and field.split("/")[2] in tasks))


def term(field: str) -> str:
    """The term that a field belongs to: sparse logits are several fields."""
    return "/".join(field.split("/")[:3]) if field.startswith("logits/") else field


def cached(batch: Batch, name: str, existing: Existing) -> Tensor | Sparse:
    """A teacher's logits as they were stored, all of them or sparse, at the positions that exist."""
    if name in batch:
        return existing(batch[name])
    return Sparse(**{key: existing(tensor) for key, tensor in part(batch, name).items()})
