"""params.yaml as typed sections."""

import re
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from pipeline.class_spec import ClassSpec
from pipeline.layout import Field as StoredField
from pipeline.seeds import derive_seed

Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Term = Literal["fused", "logits", "labels"]
PARTS = ("encoder", "feature_loss", "logit_loss", "balance")  # classes that a student's learning is made of


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Recipe(Section):
    """How a field is stored. Of each: at most one of dims (features), top_k and sampled (logits of a softmax).

    dims: coordinates in so many principal components. top_k: so many classes, and the mass of the rest. sampled: so many
    draws of a class.
    """

    dtype: Literal["float32", "float16", "bfloat16", "qint8"]
    codec: Literal["raw", "lz4", "zstd"]
    dims: Count | None = None
    top_k: Count | None = None
    sampled: Count | None = None

    def field(self, rows: np.ndarray) -> StoredField:
        """How rows like these are stored. Whole numbers are class ids, and stay what they are."""
        dtype = self.dtype if rows.dtype.kind == "f" else rows.dtype.name
        return StoredField(rows.shape[1:], dtype, self.codec, dims=self.dims or 0)


class Prepare(Section):
    source: ClassSpec
    shard_rows: Count


class TrainTeacher(Section):
    batch_size: Count
    learning_rate: Positive
    weight_decay: Weight
    evaluations: Count


class ImportedSpec(ClassSpec):
    """Knowledge that somebody else dumped: the class that reads its files, and which of its arrays are which outputs.

    files: a file or a folder. outputs: {"features/<tap>" or "logits/<task>": array}.
    """

    files: str
    outputs: Annotated[dict[str, str], Field(min_length=1)]

    def as_dict(self) -> dict[str, Any]:
        return super().as_dict() | {"outputs": self.outputs}


class Teacher(Section):
    """An encoder with a head a task, or what one said elsewhere: imported.

    tasks: none: it gives features alone. updates: 0: it is as it came. pretrained: a safetensors file, a folder, or on a hub
    "<id>@<commit>": what the encoder begins with. frozen: the heads alone are trained. learning_rate, batch_size: not given:
    as in `train_teacher`. recipes: of "features/<tap>" or "logits/<task>"; what is not named is as in `extract`.
    """

    tasks: list[Name]
    encoder: ClassSpec | None = None
    imported: ImportedSpec | None = None
    updates: Annotated[int, Field(ge=0)] = 0
    pretrained: str | None = None
    frozen: bool = False
    learning_rate: Positive | None = None
    batch_size: Count | None = None
    recipes: dict[str, Recipe] = {}


class Extract(Section):
    batch_size: Count
    features: Recipe
    logits: Recipe


class Fuse(Section):
    batch_size: Count
    fused: Recipe


class FusionSpec(ClassSpec):
    """A fusion's class, and the teachers that it fuses (all: none named)."""

    teachers: list[Name] | None = None


class Distill(Section):
    """logit_loss: for tasks that are a softmax over classes; not given: each task's own. balance: not given: static."""

    encoder: ClassSpec
    feature_loss: ClassSpec
    logit_loss: ClassSpec | None = None
    balance: ClassSpec | None = None
    seeds: Count
    batch_size: Count
    learning_rate: Positive
    weight_decay: Weight
    evaluations: Count
    memory_budget: Count


class Student(Section):
    """What is not given is as in `distill`; tasks: all; temperature: each task's own.

    labelled: tasks whose labels it learns from; none named: all of its tasks. extends: a student that this one begins as,
    with its encoder and the heads of tasks that both have. frozen: that encoder stays as it is; the heads alone are trained.
    """

    reads: Name
    updates: Count
    weights: dict[Term, Weight]
    tasks: list[Name] = []
    encoder: ClassSpec | None = None
    feature_loss: ClassSpec | None = None
    logit_loss: ClassSpec | None = None
    balance: ClassSpec | None = None
    batch_size: Count | None = None
    learning_rate: Positive | None = None
    temperature: Positive | None = None
    labelled: list[Name] = []
    labelled_share: Share = 1.0
    head_updates: Annotated[int, Field(ge=0)] = 0
    separate: bool = False
    extends: Name | None = None
    frozen: bool = False


class FilledStudent(Student):
    """A student with nothing left open; `weights` holds only what counts."""

    weights: dict[str, float]  # type: ignore[assignment]
    encoder: ClassSpec
    feature_loss: ClassSpec
    batch_size: int
    learning_rate: float

    def methods(self) -> tuple[Any, Any, Any]:
        """Losses of features and of logits, built, and what makes a balance; None: the tasks' own loss, static balance."""
        return self.feature_loss.build(), self.logit_loss and self.logit_loss.build(), self.balance and self.balance.build

    def build_task(self, spec: ClassSpec) -> Any:
        """A task, with this student's temperature if it has one, and the task knows any."""
        return spec.build(**({"temperature": self.temperature} if self.temperature else {}))


class Evaluate(Section):
    shots: list[Count]
    draws: Count


class Report(Section):
    baseline: Name
    strip: list[Name]
    strip_rows: Count


class Range(Section):
    """Numbers to search: whole ones if `low` and `high` are. log: evenly in the logarithm. step: between values."""

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None


class Sweep(Section):
    """Students that are `start` with other values of what varies: {dotted key of a student, or seed: list or range}.

    sampler: every combination, or a search by Optuna for so many `students`: by quality, or by quality against size.
    together: how many train at a time. keep: at each evaluation, the share of those before it that a student must be among.
    """

    start: Name
    vary: Annotated[dict[str, Annotated[list[Any], Field(min_length=1)] | Range], Field(min_length=1)]
    sampler: Literal["grid", "tpe", "nsga2"] = "grid"
    students: Count | None = None
    together: Count = 16
    keep: Share = 1.0


class Params(Section):
    seed: Annotated[int, Field(ge=0)]
    device: Literal["auto", "cpu", "cuda"]
    prepare: Prepare
    tasks: dict[Name, ClassSpec]
    train_teacher: TrainTeacher
    teachers: dict[Name, Teacher]
    extract: Extract
    fuse: Fuse
    fusions: dict[Name, FusionSpec]
    distill: Distill
    students: dict[Name, Student]
    evaluate: Evaluate
    report: Report
    sweep: Annotated[Sweep | None, BeforeValidator(lambda section: section or None)] = None

    def recipe(self, field: str) -> Recipe:
        """Of "features/<teacher>/<tap>" or "logits/<teacher>/<task>", or of what sparse logits are made of."""
        kind, teacher, name = field.split("/", 2)
        own = f"features/{name}" if kind == "features" else f"logits/{name.split('/')[0]}"
        return self.teachers[teacher].recipes.get(own, self.extract.features if kind == "features" else self.extract.logits)

    def source(self) -> Any:
        """The source, built; it reads no data until it is asked for some."""
        return self.prepare.source.build(seed=derive_seed(self.seed, "data"))

    def student(self, name: str) -> FilledStudent:
        return self.filled(self.students[name])

    def filled(self, student: Student) -> FilledStudent:
        keys = (*PARTS, "batch_size", "learning_rate")
        defaults = {key: getattr(self.distill, key) for key in keys}
        filled = {key: getattr(student, key) or value for key, value in defaults.items()}
        weights = {term: weight for term, weight in student.weights.items() if weight > 0}
        tasks = student.tasks or list(self.tasks)
        return FilledStudent.model_construct(**{**dict(student), **filled, "weights": weights, "tasks": tasks})

    def varied(self, choice: dict[str, Any]) -> Student:
        """The student that the sweep starts from, with {dotted key: value} of what varies. Raises ValueError, KeyError."""
        assert self.sweep
        plain = self.students[self.sweep.start].model_dump(by_alias=True, exclude_defaults=True)
        for key, value in choice.items():
            *parents, last = key.split(".")
            place = plain
            for parent in parents:
                if parent in PARTS and parent not in place:
                    place[parent] = getattr(self.distill, parent).as_dict()
                place = place[parent]
            place[last] = value
        student = Student.model_validate(plain)
        for where, spec in specs_in(f"a student of the sweep with {choice}", student).items():
            spec._where = where
        return student

    def swept_reads(self) -> set[str]:
        """Stores that students of the sweep learn from."""
        if not self.sweep:
            return set()
        chosen = self.sweep.vary.get("reads")
        return set(chosen) if isinstance(chosen, list) else {self.students[self.sweep.start].reads}

    def longest_on_labels(self) -> str | None:
        """The student on all labels and nothing else, in one network, with the most updates."""
        found = [name for name in self.students if self.student(name).weights.keys() == {"labels"}]
        partly = [name for name, s in self.students.items() if s.labelled_share < 1 or s.separate or s.labelled or s.extends]
        found = [name for name in found if name not in partly]
        return max(found, key=lambda name: self.students[name].updates, default=None)


def on_a_hub(pretrained: str) -> bool:
    """Whether weights are named as "<id>@<commit>"; else they are a file or folder here."""
    return re.fullmatch(r"[^@]+@[0-9a-f]{40}", pretrained) is not None


def class_specs(params: Params) -> dict[str, ClassSpec]:
    """{dotted key: spec} of every class that params name."""
    return {
        "prepare.source": params.prepare.source,
        **specs_in("distill", params.distill),
        **{f"tasks.{name}": spec for name, spec in params.tasks.items()},
        **{
            f"teachers.{name}.{key}": spec
            for name, teacher in params.teachers.items()
            for key, spec in (("encoder", teacher.encoder), ("imported", teacher.imported))
            if spec
        },
        **{f"fusions.{name}": spec for name, spec in params.fusions.items()},
        **{
            key: spec
            for name, student in params.students.items()
            for key, spec in specs_in(f"students.{name}", student).items()
        },
        **swept_specs(params.sweep),
    }


def swept_specs(sweep: Sweep | None) -> dict[str, ClassSpec]:
    """Classes among what varies."""
    lists = {key: sweep.vary[key] for key in PARTS if key in sweep.vary} if sweep else {}
    return {
        f"sweep.vary.{key}.{place}": ClassSpec.model_validate(value)
        for key, values in lists.items()
        if isinstance(values, list)
        for place, value in enumerate(values)
        if value is not None
    }


def specs_in(where: str, section: Distill | Student) -> dict[str, ClassSpec]:
    """{dotted key: spec} of what a student's learning is made of."""
    found = {f"{where}.{key}": getattr(section, key) for key in PARTS}
    return {key: spec for key, spec in found.items() if spec}
