"""Unseen tasks: how much a student knows of what nobody trained it for, probed with a few examples."""

from collections.abc import Callable
from typing import Any, Self, final

import numpy as np
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipeline.evaluation.scoring import forward, pooled_features
from pipeline.network import Network
from pipeline.stores.store import Store
from pipeline.tasks.task import Task

STRENGTHS = np.logspace(-1, 5, 13)  # of the ridge penalty; chosen by leave-one-out among the shots

Examples = tuple[np.ndarray, np.ndarray]  # features (N, D), labels (N,)
Probe = tuple[Callable[[], Any], Examples, Examples]  # a model, few-shot examples, test examples


def unseen_examples(networks: list[Network], tasks: dict[str, Task], train: Store, test: Store) -> dict[str, Probe]:
    """{name: probe} of every label with one number per row that belongs to no task.

    The features are all networks' pooled last features. Labels that follow from a prediction are answered from it as well,
    which shows what needs no probe.
    """
    labels = [name.split("/")[1] for name, field in train.fields.items() if name.startswith("labels/") and not field.shape]
    labels = [label for label in labels if label not in tasks]
    features = [pooled_features(networks, split) for split in (train, test)]
    implied_by_split = [implied(networks, tasks, split) for split in (train, test)]
    probes: dict[str, Probe] = {}
    for label in labels:
        train_examples = examples(train, label, features[0])
        model = regressor if np.issubdtype(train_examples[1].dtype, np.floating) else classifier
        probes[label] = (model, train_examples, examples(test, label, features[1]))
    for label, task in implied_by_split[0]:
        if label in labels:
            train_examples, test_examples = (
                examples(split, label, candidates[label, task])
                for split, candidates in zip((train, test), implied_by_split, strict=True)
            )
            probes[f"{label}_from_{task}"] = (BestColumn, train_examples, test_examples)
    return probes


def examples(split: Store, label: str, features: np.ndarray) -> Examples:
    """The rows of features (N, D) that carry a label, and their labels."""
    labelled = split.read(f"labelled/{label}") if f"labelled/{label}" in split.fields else slice(None)
    return features[labelled], split.read(f"labels/{label}")[labelled]


def implied(networks: list[Network], tasks: dict[str, Task], split: Store) -> dict[tuple[str, str], np.ndarray]:
    """{(label, task): candidates (N, T)}: what predictions of a task imply about another label."""
    candidates: dict[tuple[str, str], np.ndarray] = {}
    for network in networks:
        batches = [
            {
                (label, name): values
                for name, pred in outputs.logits.items()
                for label, values in tasks[name].implied(pred).items()
            }
            for outputs, _ in forward(network, split, [])
        ]
        candidates |= {key: torch.cat([batch[key] for batch in batches]).cpu().numpy() for key in batches[0]}
    return candidates


def few_shot(model: Callable[[], Any], train: Examples, test: Examples, shots: int, draws: int, seed: int) -> list[float]:
    """Scores of a model fitted on `shots` examples, one for each of `draws` draws of them: accuracy, or R^2 >= -1."""
    features, labels = train
    if len(features) < shots:
        raise ValueError(
            f"evaluate.shots: {shots} shots asked of {len(features)} unseen examples; prepare more, or ask for fewer"
        )
    rng = np.random.default_rng(seed)
    picks = [rng.permutation(len(features))[:shots] for _ in range(draws)]
    class_counts = [len(np.unique(labels[pick])) for pick in picks]
    if model is classifier and not all(1 < classes < shots for classes in class_counts):
        raise ValueError(
            f"evaluate.shots: {shots} examples drawn at random have {min(class_counts)} to {max(class_counts)} classes; "
            f"a probe needs two of them and more examples than classes: ask for more shots"
        )
    return [max(-1.0, float(model().fit(features[pick], labels[pick]).score(*test))) for pick in picks]


def regressor() -> Any:
    return make_pipeline(StandardScaler(), RidgeCV(alphas=STRENGTHS))


def classifier() -> Any:
    """Shrunken covariance needs no tuning: 85 % where ridge and logistic regression reach 73 and 80 at 50 shots."""
    return make_pipeline(StandardScaler(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"))


@final
class BestColumn:
    """Answers with one column of x as it is: the one that is right most often on the examples."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> Self:
        self.column = int((x == y[:, None]).mean(0).argmax())
        return self

    def score(self, x: np.ndarray, y: np.ndarray) -> float:
        return float((x[:, self.column] == y).mean())
