"""The sections of params.yaml, typed, and what their keys mean."""

import re
from itertools import product
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from pipeline.project.class_spec import ClassSpec, Count, Positive, Share, Weight
from pipeline.stores.layout import Field as StoredField

LONGEST_NAME = 200  # characters of a name, since it names files: these may have 255, ours add some
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=LONGEST_NAME)]
Term = Literal["fused", "logits", "labels"]
Precision = Literal["float32", "bfloat16"]
SHOWN = 16  # rows of "clean" whose predictions are kept for pictures
KNOWLEDGE = {"fused", "logits"}  # terms that a fusion's store is read for
PARTS = ("encoder", "feature_loss", "logit_loss", "balance")  # classes that a student's training is made of


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Recipe(Section):
    """How a field is stored, with at most one of dims (features), top_k and sampled (logits of a softmax).

    dims: as coordinates in this many principal components. top_k: this many classes, and the mass of the rest. sampled: this
    many draws of a class.
    """

    dtype: Literal["float32", "float16", "bfloat16", "qint8"]
    codec: Literal["raw", "lz4", "zstd"]
    dims: Count | None = None
    top_k: Count | None = None
    sampled: Count | None = None

    def field(self, rows: np.ndarray) -> StoredField:
        """How rows like these are stored. Whole numbers are class ids, and keep their type."""
        dtype = self.dtype if rows.dtype.kind == "f" else rows.dtype.name
        return StoredField(rows.shape[1:], dtype, self.codec, dims=self.dims or 0)


class Prepare(Section):
    source: ClassSpec
    shard_rows: Count


class TrainTeacher(Section):
    """precision: of the network's arithmetic while it learns; its weights and losses are float32."""

    batch_size: Count
    learning_rate: Positive
    weight_decay: Weight
    evaluations: Count
    precision: Precision = "float32"


class ImportedSpec(ClassSpec):
    """Knowledge that somebody else dumped: the class that reads its files, and which of its arrays are which outputs.

    files: a file or a folder. outputs: {"features/<tap>" or "logits/<task>": array}.
    """

    files: str
    outputs: Annotated[dict[str, str], Field(min_length=1)]

    def as_dict(self) -> dict[str, Any]:
        return super().as_dict() | {"outputs": self.outputs}


class Teacher(Section):
    """An encoder with a head per task, or an imported dump of one that ran elsewhere.

    tasks: if empty, it gives features alone. updates: if 0, it is used as it is. pretrained: what the encoder begins with: a
    safetensors file, a folder, or "<id>@<commit>" on a hub. frozen: only the heads are trained. learning_rate, batch_size: by
    default as in `train_teacher`. recipes: of "features/<tap>" or "logits/<task>"; by default as in `extract`.
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
    """A fusion's class, and the teachers that it fuses (by default all)."""

    teachers: list[Name] | None = None


class Distill(Section):
    """logit_loss: for tasks that are a softmax over classes; by default each task's own. balance: by default static.

    precision: as in `train_teacher`.
    """

    encoder: ClassSpec
    feature_loss: ClassSpec
    logit_loss: ClassSpec | None = None
    balance: ClassSpec | None = None
    seeds: Count
    batch_size: Count
    learning_rate: Positive
    weight_decay: Weight
    evaluations: Count
    precision: Precision = "float32"
    memory_budget: Count


class Student(Section):
    """Keys not given are as in `distill`; tasks: all; temperature: each task's own. A null logit_loss or balance means none.

    labelled: tasks whose labels it learns from; by default all of its tasks. extends: a student that this one begins as, with
    its encoder and the heads of tasks that both have. frozen: that encoder stays as it is; only the heads are trained.
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

    def methods(self) -> dict[str, Any]:
        """An objective's losses for features and logits, and what makes its balance; None: the tasks' own losses, static."""
        return {
            "feature_loss": self.feature_loss.build(),
            "logit_loss": self.logit_loss and self.logit_loss.build(),
            "balance": self.balance and self.balance.build,
        }

    def build_task(self, spec: ClassSpec) -> Any:
        """A task, with this student's temperature if it has one and the task takes one."""
        return spec.build(**({"temperature": self.temperature} if self.temperature else {}))


class Evaluate(Section):
    shots: list[Count]
    draws: Count


class Report(Section):
    baseline: Name
    strip: list[Name]
    strip_rows: Annotated[int, Field(gt=0, le=SHOWN)]


class Range(Section):
    """Numbers to search: whole ones if `low` and `high` are. log: evenly in the logarithm. step: between values."""

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None


class Sweep(Section):
    """Students that are `start` with other values of what varies: {dotted key of a student, or seed: list or range}.

    sampler: every combination, or a search by Optuna of this many `students`: by quality, or by quality against size.
    together: how many train at a time. keep: at each evaluation, the best share of earlier students that one must be among.
    """

    start: Name
    vary: Annotated[dict[str, Annotated[list[Any], Field(min_length=1)] | Range], Field(min_length=1)]
    sampler: Literal["grid", "tpe", "nsga2"] = "grid"
    students: Count | None = None
    together: Count = 16
    keep: Share = 1.0

    def extremes(self) -> dict[str, list[Any]]:
        """{dotted key: all values of a list, the ends of a range}."""
        return {key: [values.low, values.high] if isinstance(values, Range) else values for key, values in self.vary.items()}

    def combinations(self) -> list[dict[str, Any]]:
        """All combinations of values, [{dotted key: value}]: the students of a grid."""
        lists = [values for values in self.vary.values() if isinstance(values, list)]
        return [dict(zip(self.vary, values, strict=True)) for values in product(*lists)]


def on_a_hub(pretrained: str) -> bool:
    """Whether weights are named as "<id>@<commit>"; else they are a file or folder here."""
    return re.fullmatch(r"[^@]+@[0-9a-f]{40}", pretrained) is not None
