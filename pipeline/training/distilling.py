"""Students that learn from one store together: every batch is read once for all of them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pipeline.batches.batches import batches, input_fields, labelled_batches
from pipeline.checkpoints import about_inputs, begin_as, build_network, input_shapes
from pipeline.device import pick_device
from pipeline.evaluation.held_out import check_held_out
from pipeline.network import Network
from pipeline.project.params import Params
from pipeline.project.sections import KNOWLEDGE, PARTS, FilledStudent
from pipeline.seeds import derive_seed
from pipeline.stores.store import Store
from pipeline.training.learning import Curve, Lesson, learn_together
from pipeline.training.objective import term, wanted
from pipeline.training.optimize import Schedule

LONGEST = "longest"  # an attribute of inputs whose rows differ in length


def stream_key(student: FilledStudent) -> tuple[Any, ...]:
    """What students must have in common to learn from the same batches."""
    kinds = bool(student.weights.keys() & KNOWLEDGE), "labels" in student.weights
    rows = student.reads, student.tasks, student.batch_size, student.labelled, student.labelled_share
    return *rows, student.head_updates, student.frozen, kinds


def loss_key(student: FilledStudent) -> str:
    """What students of a stream must have in common to have the same terms, on the same scales."""
    specs = {key: getattr(student, key) for key in PARTS if key != "encoder"}
    parts = {key: spec.as_dict() for key, spec in specs.items() if spec}
    return json.dumps([parts, student.temperature, student.labelled, sorted(student.weights)], sort_keys=True)


def stack_key(student: FilledStudent) -> str:
    """What students of a stream must have in common to be stacked: all but rates, weights and temperatures."""
    return json.dumps([student.encoder.as_dict(), loss_key(student.model_copy(update={"temperature": None}))], sort_keys=True)


def distil(
    params: Params,
    students: list[tuple[FilledStudent, int]],
    tasks: list[str],
    store: Store,
    val: Store,
    advance: Callable[[int], None],
    hurdles: Sequence[float] = (),
    finished: Path | None = None,
) -> list[tuple[Network, Curve]]:
    """A network and its curve for each: trained on knowledge and labels, then, for `head_updates`, its heads alone on labels.

    Each learns what it would learn alone, except for the order of streamed rows, which depends on the fields of all.

    students: of one `stream_key`, each with the number of the seed that it is initialised from. tasks: those of their tasks
    that these networks have. advance: called with the number of updates done, over all networks. hurdles: as in
    `learn_together`, which also says what a curve is. finished: the folder of the students that these extend.
    """
    settings, first = params.distill, students[0][0]
    for student, _ in students:
        check_taught(params, student, tasks, store)
    seed, augment, budget = derive_seed(params.seed, "batches"), params.source().augment, settings.memory_budget
    kinds = {kind: 1.0 for student, _ in students for kind in student.weights}
    fields = input_fields(store) + [field for field in store.fields if wanted(field, tasks, kinds)]
    knowledge = batches(store, fields, first.batch_size, seed=seed, memory_budget=budget)  # read when it is drawn from
    labelled_tasks, share = [task for task in tasks if task in (first.labelled or tasks)], first.labelled_share
    labelled = labelled_batches(store, labelled_tasks, first.batch_size, augment, seed=seed, share=share, memory_budget=budget)
    lessons = [lesson(params, *student, tasks, store, finished) for student in students]
    study = partial(learn_together, val=val, evaluations=settings.evaluations, advance=advance)
    sources = knowledge if kinds.keys() & KNOWLEDGE else None, labelled if "labels" in kinds else None
    curves = study(lessons, *sources, hurdles=hurdles, heads_only=first.frozen)
    if first.head_updates:
        head_lessons = [
            replace(lesson, weights={"labels": 1.0}, schedule=replace(lesson.schedule, updates=first.head_updates))
            for lesson in lessons
        ]
        head_curves = study(head_lessons, None, labelled, heads_only=True)
        curves = [joined(lesson.schedule.updates, *pair) for lesson, *pair in zip(lessons, curves, head_curves, strict=True)]
    return [(lesson.network, curve) for lesson, curve in zip(lessons, curves, strict=True)]


def joined(updates: int, before: Curve, after: Curve) -> Curve:
    """A curve of so many updates and the one that follows it; empty if either is."""
    return before + [{**point, "update": updates + point["update"]} for point in after] if before and after else []


def check_foreign(store: Store, val: Store, tasks: list[str]) -> None:
    """Raises ValueError if another project's store has other inputs or classes, or holds rows that `val` measures by.

    Where rows differ in length, two stores may differ in the longest.
    """
    of_any_length = any(LONGEST in val.fields[name].attributes for name in input_fields(val))
    for name in input_fields(val):
        their_field, our_field = store.fields.get(name), val.fields[name]
        alike = their_field and their_field.dtype == our_field.dtype and len(their_field.shape) == len(our_field.shape)
        if (
            not their_field
            or not alike
            or (their_field.shape != our_field.shape and not (of_any_length and len(our_field.shape) == 1))
        ):
            have = f"{their_field.dtype} {their_field.shape}" if their_field else "absent"
            raise ValueError(
                f"{store.path}: {name} is {have}, here it is {our_field.dtype} {our_field.shape}; prepare inputs alike"
            )
        their_attributes, our_attributes = (
            {key: value for key, value in f.attributes.items() if key != LONGEST} for f in (their_field, our_field)
        )
        if their_attributes != our_attributes:
            attributes = f"{json.dumps(their_attributes):.100}, here {json.dumps(our_attributes):.100}"
            raise ValueError(f"{store.path}: {name} has attributes {attributes}; prepare inputs alike")
    for name in [f"labels/{task}" for task in tasks]:
        their_classes, our_classes = (
            (s.fields[name].attributes if name in s.fields else {}).get("classes") for s in (store, val)
        )
        if their_classes and our_classes and their_classes != our_classes:
            raise ValueError(
                f"{store.path}: {name} has classes {', '.join(their_classes)}, here {', '.join(our_classes)}; order them alike"
            )
    check_held_out(store, val)


def check_taught(params: Params, student: FilledStudent, tasks: list[str], store: Store) -> None:
    """Raises ValueError if the store lacks a kind of knowledge, or a head would stay untrained."""
    for kind in sorted(student.weights.keys() & KNOWLEDGE):
        if not any(wanted(field, student.tasks, {kind: 1}) for field in store.fields):
            raise ValueError(f"{store.path}: holds nothing for the weight of {kind}; drop that weight, or read another store")
    labelled_tasks = student.labelled or tasks if "labels" in student.weights or student.head_updates else []
    begun_tasks = params.student(student.extends).tasks if student.extends else []
    dumped_tasks = [term(field).split("/")[-1] for field in store.fields if field.startswith("logits/")]
    for task in tasks:
        if task not in [*labelled_tasks, *begun_tasks] and not (task in dumped_tasks and "logits" in student.weights):
            raise ValueError(f"{store.path}: no logits of task {task!r}, nor are its labels used; weight labels, or drop it")


def lesson(params: Params, student: FilledStudent, seed: int, tasks: list[str], store: Store, finished: Path | None) -> Lesson:
    torch.manual_seed(derive_seed(params.seed, "student", seed))
    built_tasks = {task: student.build_task(params.tasks[task]) for task in tasks}
    shapes, device = input_shapes(store), pick_device(params.device)
    network = build_network(student.encoder, built_tasks, shapes, device, about=about_inputs(store))
    if student.extends and finished:
        begin_as(network, extended(finished, student.extends, seed))
    schedule = Schedule(student.updates, student.learning_rate, params.distill.weight_decay, params.distill.precision)
    return Lesson(network, built_tasks, student.weights, schedule, student.methods(), loss_key(student), stack_key(student))


def extended(finished: Path, name: str, seed: int) -> Path:
    """The file of a student that another extends; it is one network."""
    (file,) = (finished / name / f"seed-{seed}").glob("*.safetensors")
    return file
