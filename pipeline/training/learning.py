"""Networks that learn: an objective each, optimised on the same batches, with a curve of every term and of val."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import inf, isfinite
from statistics import mean
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from pipeline.batches.batches import Batch, tensors
from pipeline.batches.pools import Rows
from pipeline.evaluation.scoring import score
from pipeline.network import Network
from pipeline.stores.store import Store
from pipeline.tasks.task import Task
from pipeline.training.objective import Objective
from pipeline.training.optimize import Diverged, Schedule, optimize
from pipeline.training.stack import (
    batched_attention,
    draws,
    optimize_stack,
    shared,
    side_by_side,
    stackable,
    threads_for,
    with_own_random,
)

SAMPLE = 8  # batches
FEW = 8  # rows
LEAST = 4  # students of a stack that is one of several

Curve = list[dict[str, float]]
Batches = Generator[Batch, None, None] | None


@dataclass(frozen=True)
class Lesson:
    """What one network is to learn.

    methods: arguments of the objective: feature_loss, logit_loss, balance. loss_key: lessons with the same key, if not empty,
    have equal terms and losses. stack_key: lessons with the same key, if not empty, differ in rates, weights and temperatures
    alone. random: the state of the random generator that adapters are drawn from.
    """

    network: Network
    tasks: dict[str, Task]
    weights: dict[str, float]
    schedule: Schedule
    methods: Mapping[str, Any] = field(default_factory=dict)
    loss_key: str = ""
    stack_key: str = ""
    random: Tensor = field(default_factory=torch.get_rng_state)

    def objective(self, knowledge: Batch, labels: Batch, scales: dict[str, dict[str, float]]) -> Objective:
        """scales: those of objectives made before on the same batches, by `loss_key`."""
        device, known_scales = next(self.network.parameters()).device, scales.get(self.loss_key)
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self.random)
            parts = self.network, self.tasks, self.weights, knowledge, labels
            objective = Objective(*parts, **self.methods, scales=known_scales, precision=self.schedule.precision).to(device)
        if self.loss_key:
            scales[self.loss_key] = objective.scales
        return objective


def learn(
    network: Network,
    tasks: dict[str, Task],
    weights: dict[str, float],
    schedule: Schedule,
    knowledge: Iterator[Rows] | None,
    labelled: Iterator[Rows] | None,
    *,
    methods: Mapping[str, Any] | None = None,
    **more: Any,
) -> Curve:
    """Train one network in place, as `learn_together` does several. Raises Diverged."""
    (curve,) = learn_together([Lesson(network, tasks, weights, schedule, methods or {})], knowledge, labelled, **more)
    if not curve:
        raise Diverged("the loss is not finite; lower the learning rate")
    return curve


def learn_together(
    lessons: list[Lesson],
    knowledge: Iterator[Rows] | None,
    labelled: Iterator[Rows] | None,
    *,
    val: Store,
    evaluations: int,
    advance: Callable[[int], None],
    heads_only: bool = False,
    hurdles: Sequence[float] = (),
) -> list[Curve]:
    """Train networks in place, all on the same batches; returns each one's curve, empty if a loss or gradient was not finite.

    A curve has, `evaluations` times, {update, every term's mean since, "val/<task>/<metric>"}. heads_only: encoders stay as
    they are, their normalisation too. hurdles: one for each of the first evaluations: a network of lower `quality` stops
    there. advance: called with the number of updates done, over all networks.
    """
    device = next(lessons[0].network.parameters()).device
    knowledge_sample, labelled_sample = (tensors(sample(source), device) if source else {} for source in (knowledge, labelled))
    scales: dict[str, dict[str, float]] = {}
    learners = [
        Learner(lesson, lesson.objective(knowledge_sample, labelled_sample, scales), evaluations, hurdles) for lesson in lessons
    ]
    for lesson in lessons:
        lesson.network.train(not heads_only)
        lesson.network.encoder.requires_grad_(not heads_only)
    for learner in learners:
        taught_tasks = {name.split("/")[-1] for name in learner.objective.weights if not name.startswith("fused/")}
        for task, head in learner.lesson.network.heads.items():
            head.requires_grad_(task in taught_tasks)  # a stack would decay the others
    threads = threads_for([learner.objective for learner in learners])
    groups = stacks(
        learners,
        threads,
        *({name: tensor[:FEW] for name, tensor in batch.items()} for batch in (knowledge_sample, labelled_sample)),
    )
    sources = [shared(source, len(groups), device) if source else [None] * len(groups) for source in (knowledge, labelled)]
    trainings = [train(group, val, *group_sources) for group, *group_sources in zip(groups, *sources, strict=True)]
    with batched_attention(device.type == "cpu" and len(groups) < len(learners)):
        side_by_side(trainings, threads, advance)
    for learner in learners:
        if learner.kept:
            learner.lesson.network.load_state_dict(learner.kept)
    return [learner.curve for learner in learners]


@final
class Learner:
    """A network at its lesson, and its curve so far."""

    def __init__(self, lesson: Lesson, objective: Objective, evaluations: int, hurdles: Sequence[float]):
        self.lesson, self.objective, self.hurdles = lesson, objective, hurdles
        self.curve: Curve = []
        updates = lesson.schedule.updates
        self.evaluated = {round(number * updates / evaluations) for number in range(1, evaluations + 1)}
        self.done = False
        self.kept: dict[str, Tensor] = {}  # if a hurdle stopped it: the rest of its stack goes on

    def record(self, update: int, means: dict[str, float], val: Store) -> None:
        network, training = self.lesson.network, self.lesson.network.training
        if not all(map(isfinite, means.values())) or not all(p.isfinite().all() for p in network.parameters()):
            self.diverge()
            return
        self.curve.append({"update": update, **means, **flat(score(network, self.lesson.tasks, val))})
        network.train(training)
        hurdle = self.hurdles[len(self.curve) - 1] if len(self.curve) <= len(self.hurdles) else -inf
        if quality(self.lesson.tasks, self.curve[-1]) < hurdle:
            self.done = True
            self.kept = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    def diverge(self) -> None:
        self.done = True
        self.curve.clear()


def quality(tasks: Mapping[str, Task], point: dict[str, float]) -> float:
    """Mean over the tasks at hand of the primary metric on val, signed so that higher is better."""
    metrics = {name: point.get(f"val/{name}/{task.primary}") for name, task in tasks.items()}
    return mean(tasks[name].sign * value for name, value in metrics.items() if value is not None)


def stacks(learners: list[Learner], threads: int, knowledge: Batch, labelled: Batch) -> list[list[Learner]]:
    """Students of one shape together, if there are several and stacking them pays; else each by itself.

    One stack per thread, if they do not get too small: a core is faster on a stack of its own than on a share of one.
    """
    groups: dict[Any, list[Learner]] = {}
    for learner in learners:
        lesson = learner.lesson
        key = (lesson.stack_key, lesson.schedule.updates, *learner.objective.weights)
        groups.setdefault(key if lesson.stack_key else learner, []).append(learner)
    stacked_groups = []
    for group in groups.values():
        is_stackable = len(group) > 1 and stackable(group[0].objective, knowledge, labelled)
        parts = max(1, min(threads, len(group) // LEAST)) if is_stackable else len(group)
        stacked_groups += [group[part::parts] for part in range(parts)]
    return stacked_groups


def train(learners: list[Learner], val: Store, knowledge: Batches, labelled: Batches) -> Iterator[int]:
    """Train students of one shape until all are done; yields how many did an update."""
    objectives, schedules = [learner.objective for learner in learners], [learner.lesson.schedule for learner in learners]
    if len(learners) > 1:
        updates = optimize_stack(objectives, schedules, knowledge, labelled)
    else:
        updates = optimize(objectives[0], schedules[0], knowledge, labelled)
        if draws(objectives[0]):
            updates = with_own_random(updates, learners[0].lesson.random)
    terms_since: list[dict[str, Tensor]] = []
    try:
        for update, terms in updates:
            terms_since.append(terms)
            if update in learners[0].evaluated:
                means = {
                    name: torch.stack([step_terms[name] for step_terms in terms_since]).double().mean(0).reshape(-1).tolist()
                    for name in terms
                }
                for k, learner in enumerate(learners):
                    if not learner.done:
                        learner.record(update, {name: values[k] for name, values in means.items()}, val)
                terms_since.clear()
            yield len(learners)
            if all(learner.done for learner in learners):
                return
    except Diverged:
        learners[0].diverge()
    finally:
        for source in (knowledge, labelled):
            if source:
                source.close()


def sample(source: Iterator[Rows]) -> Rows:
    """The first batches of a source, as one: enough rows to set scales by, and a row of each label however rare it is."""
    parts = [{name: array.copy() for name, array in rows.items()} for rows in islice(source, SAMPLE)]
    missing = {name for name in parts[0] if name.startswith("labelled/") and not any(rows[name].any() for rows in parts)}
    while missing:
        rows = next(source)
        present = {name for name in missing if rows[name].any()}
        parts += [{name: array.copy() for name, array in rows.items()}] if present else []
        missing -= present
    return {name: np.concatenate([rows[name] for rows in parts]) for name in parts[0]}


def flat(scores: dict[str, dict[str, float]]) -> dict[str, float]:
    return {f"val/{task}/{metric}": value for task, metrics in scores.items() for metric, value in metrics.items()}
