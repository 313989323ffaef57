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

from pipeline.balances.balance import Balance
from pipeline.batches import Batch, tensors
from pipeline.losses.loss import Loss
from pipeline.network import Network
from pipeline.objective import Objective
from pipeline.optimize import Diverged, Recipe, optimize
from pipeline.pools import Rows
from pipeline.scoring import score
from pipeline.stack import (
    batched_attention,
    draws,
    optimize_stack,
    shared,
    side_by_side,
    stackable,
    threads_for,
    with_own_random,
)
from pipeline.store import Store
from pipeline.tasks.task import Task

SAMPLE = 8  # batches
FEW = 8  # rows

Curve = list[dict[str, float]]
Batches = Generator[Batch, None, None] | None
Methods = tuple[Loss | None, Loss | None, Callable[..., Balance] | None]


@dataclass(frozen=True)
class Lesson:
    """What one network is to learn.

    methods: of the objective: losses, balance. losses: lessons with the same name for them, if any, have equal terms and
    losses. shape: lessons with the same name differ in rates, weights and temperatures alone. random: where random numbers
    stood, for the adapters to be drawn from.
    """

    network: Network
    tasks: dict[str, Task]
    weights: dict[str, float]
    recipe: Recipe
    methods: Methods = (None, None, None)
    losses: str = ""
    shape: str = ""
    random: Tensor = field(default_factory=torch.get_rng_state)

    def objective(self, known: Batch, labels: Batch, scales: dict[str, dict[str, float]]) -> Objective:
        """scales: of objectives made before on the same batches, by their losses."""
        device, found = next(self.network.parameters()).device, scales.get(self.losses)
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self.random)
            parts = self.network, self.tasks, self.weights, known, labels, *self.methods
            made = Objective(*parts, found, self.recipe.precision).to(device)
        if self.losses:
            scales[self.losses] = made.scales
        return made


def learn(
    network: Network,
    tasks: dict[str, Task],
    weights: dict[str, float],
    recipe: Recipe,
    knowledge: Iterator[Rows] | None,
    labelled: Iterator[Rows] | None,
    *,
    methods: Methods = (None, None, None),
    **more: Any,
) -> Curve:
    """Train one network in place, as `learn_together` does several. Raises Diverged."""
    (curve,) = learn_together([Lesson(network, tasks, weights, recipe, methods)], knowledge, labelled, **more)
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
    """Train networks in place, all on the same batches; a curve each, empty if a loss or gradient was not finite.

    A curve has, `evaluations` times, {update, every term's mean since, "val/<task>/<metric>"}. heads_only: encoders stay as
    they are, their normalisation too. hurdles: of the first evaluations: what scores less (`quality`) stops there. advance:
    told of every update of a network.
    """
    device = next(lessons[0].network.parameters()).device
    known, labels = (tensors(sample(source), device) if source else {} for source in (knowledge, labelled))
    scales: dict[str, dict[str, float]] = {}
    students = [Student(lesson, lesson.objective(known, labels, scales), evaluations, hurdles) for lesson in lessons]
    for lesson in lessons:
        lesson.network.train(not heads_only)
        lesson.network.encoder.requires_grad_(not heads_only)
    for student in students:
        taught = {name.split("/")[-1] for name in student.objective.weights if not name.startswith("fused/")}
        for task, head in student.lesson.network.heads.items():
            head.requires_grad_(task in taught)  # a stack would decay the others
    groups = stacks(students, *({name: x[:FEW] for name, x in batch.items()} for batch in (known, labels)))
    sources = [shared(source, len(groups), device) if source else [None] * len(groups) for source in (knowledge, labelled)]
    trainings = [train(group, val, *own) for group, *own in zip(groups, *sources, strict=True)]
    with batched_attention(device.type == "cpu" and len(groups) < len(students)):
        side_by_side(trainings, threads_for([student.objective for student in students]), advance)
    for student in students:
        if student.kept:
            student.lesson.network.load_state_dict(student.kept)
    return [student.curve for student in students]


@final
class Student:
    """A network at its lesson, and its curve so far."""

    def __init__(self, lesson: Lesson, objective: Objective, evaluations: int, hurdles: Sequence[float]):
        self.lesson, self.objective, self.hurdles = lesson, objective, hurdles
        self.curve: Curve = []
        updates = lesson.recipe.updates
        self.evaluated = {round(number * updates / evaluations) for number in range(1, evaluations + 1)}
        self.done = False
        self.kept: dict[str, Tensor] = {}  # of a student that a hurdle stopped: others of its stack go on

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
            self.kept = {name: x.clone() for name, x in network.state_dict().items()}

    def diverge(self) -> None:
        self.done = True
        self.curve.clear()


def quality(tasks: Mapping[str, Task], point: dict[str, float]) -> float:
    """Mean over the tasks at hand of the primary metric on val, the better the higher."""
    found = {name: point.get(f"val/{name}/{task.primary}") for name, task in tasks.items()}
    return mean(x if tasks[name].higher_is_better else -x for name, x in found.items() if x is not None)


def stacks(students: list[Student], knowledge: Batch, labelled: Batch) -> list[list[Student]]:
    """Students of one shape together, if there are several and stacking them pays; else each by itself."""
    groups: dict[Any, list[Student]] = {}
    for student in students:
        lesson = student.lesson
        shape = (lesson.shape, lesson.recipe.updates, *student.objective.weights)
        groups.setdefault(shape if lesson.shape else student, []).append(student)
    found = []
    for group in groups.values():
        together = len(group) > 1 and stackable(group[0].objective, knowledge, labelled)
        found += [group] if together else [[student] for student in group]
    return found


def train(students: list[Student], val: Store, knowledge: Batches, labelled: Batches) -> Iterator[int]:
    """Students of one shape, until all are done; yields how many did an update."""
    objectives, recipes = [s.objective for s in students], [s.lesson.recipe for s in students]
    alone = len(students) == 1
    updates = (
        optimize(objectives[0], recipes[0], knowledge, labelled)
        if alone
        else optimize_stack(objectives, recipes, knowledge, labelled)
    )
    if alone and draws(objectives[0]):
        updates = with_own_random(updates, students[0].lesson.random)
    since: list[dict[str, Tensor]] = []
    try:
        for update, terms in updates:
            since.append(terms)
            if update in students[0].evaluated:
                means = {name: torch.stack([t[name] for t in since]).double().mean(0).reshape(-1).tolist() for name in terms}
                for k, student in [(k, student) for k, student in enumerate(students) if not student.done]:
                    student.record(update, {name: values[k] for name, values in means.items()}, val)
                since.clear()
            yield len(students)
            if all(student.done for student in students):
                return
    except Diverged:
        students[0].diverge()
    finally:
        for source in (knowledge, labelled):
            if source:
                source.close()


def sample(source: Iterator[Rows]) -> Rows:
    """The first batches of a source, as one: enough rows to set scales by, and a row of each label however rare it is."""
    parts = [{name: x.copy() for name, x in rows.items()} for rows in islice(source, SAMPLE)]
    missing = {name for name in parts[0] if name.startswith("labelled/") and not any(rows[name].any() for rows in parts)}
    while missing:
        rows = next(source)
        found = {name for name in missing if rows[name].any()}
        parts += [{name: x.copy() for name, x in rows.items()}] if found else []
        missing -= found
    return {name: np.concatenate([rows[name] for rows in parts]) for name in parts[0]}


def flat(scores: dict[str, dict[str, float]]) -> dict[str, float]:
    return {f"val/{task}/{metric}": value for task, metrics in scores.items() for metric, value in metrics.items()}
