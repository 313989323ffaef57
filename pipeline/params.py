"""params.yaml as typed sections. Whatever is wrong in it is one line: what, where, what was expected, what to do."""

import difflib
import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from pipeline.layout import Field as StoredField
from pipeline.seeds import derive_seed

CLONE = Path(__file__).resolve().parents[1]

Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Term = Literal["fused", "logits", "labels"]
PARTS = ("encoder", "feature_loss", "logit_loss", "balance")  # classes that a student's learning is made of


class ParamsError(Exception):
    """Something wrong in params.yaml or dvc.yaml, as one line."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ClassSpec(BaseModel):
    """A class and its constructor's arguments: `{code: plugins/flow.py, class: Flow, width: 8}`.

    `code` is a path, so that it can be a dependency: below the project folder, or else below the clone.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    code: str
    class_: str = Field(alias="class")
    _where: str = PrivateAttr("")

    @property
    def arguments(self) -> dict[str, Any]:
        return dict(self.model_extra or {})

    def as_dict(self) -> dict[str, Any]:
        return {"code": self.code, "class": self.class_, **self.arguments}

    def file(self) -> Path:
        for folder in (Path.cwd(), CLONE):
            if (folder / self.code).is_file():
                return (folder / self.code).resolve()
        raise ParamsError(f"{self._where}.code: no file {self.code} in the project folder or the clone")

    def load(self) -> Any:
        """The class."""
        module = import_file(self.file())
        if not hasattr(module, self.class_):
            raise ParamsError(f"{self._where}.class: {self.code} has no class {self.class_!r}{near(self.class_, vars(module))}")
        return getattr(module, self.class_)

    def build(self, **more: Any) -> Any:
        """An instance, from the arguments in params and some that only the caller knows."""
        cls = self.load()
        accepted = inspect.signature(cls).parameters
        for name in self.arguments:
            if name not in accepted:
                raise ParamsError(f"{self._where}.{name}: no argument of {self.class_}, which takes {', '.join(accepted)}")
        given = self.arguments | {name: value for name, value in more.items() if name in accepted}
        for name, parameter in accepted.items():
            if name not in given and parameter.default is parameter.empty:
                raise ParamsError(f"{self._where}.{name}: missing; {self.class_} needs it")
        try:
            return cls(**given)
        except (TypeError, ValueError) as error:
            raise ParamsError(f"{self._where}: {error}") from error


def import_file(file: Path) -> Any:
    """The module of a file: its real one inside this clone, so that a class is one class; else one of its own."""
    if file.is_relative_to(CLONE / "pipeline"):
        return importlib.import_module(".".join(file.relative_to(CLONE).with_suffix("").parts))
    name = "_".join(["plugin", *file.with_suffix("").parts[1:]])
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec and spec.loader
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


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


class Teacher(Section):
    """recipes: of "features/<tap>" or "logits/<task>"; what is not named is as in `extract`."""

    tasks: Annotated[list[Name], Field(min_length=1)]
    encoder: ClassSpec
    updates: Count
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
    """What is not given is as in `distill`; tasks: all."""

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
    labelled_share: Share = 1.0
    head_updates: Annotated[int, Field(ge=0)] = 0
    separate: bool = False


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


class Evaluate(Section):
    shots: list[Count]
    draws: Count


class Report(Section):
    baseline: Name
    strip: list[Name]
    strip_rows: Count


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

    def recipe(self, field: str) -> Recipe:
        """Of "features/<teacher>/<tap>" or "logits/<teacher>/<task>", or of what sparse logits are made of."""
        kind, teacher, name = field.split("/", 2)
        own = f"features/{name}" if kind == "features" else f"logits/{name.split('/')[0]}"
        return self.teachers[teacher].recipes.get(own, self.extract.features if kind == "features" else self.extract.logits)

    def source(self) -> Any:
        """The source, built; it reads no data until it is asked for some."""
        return self.prepare.source.build(seed=derive_seed(self.seed, "data"))

    def student(self, name: str) -> FilledStudent:
        student = self.students[name]
        keys = (*PARTS, "batch_size", "learning_rate")
        defaults = {key: getattr(self.distill, key) for key in keys}
        filled = {key: getattr(student, key) or value for key, value in defaults.items()}
        weights = {term: weight for term, weight in student.weights.items() if weight > 0}
        tasks = student.tasks or list(self.tasks)
        return FilledStudent.model_construct(**{**dict(student), **filled, "weights": weights, "tasks": tasks})

    def longest_on_labels(self) -> str | None:
        """The student on all labels and nothing else, in one network, with the most updates."""
        found = [name for name in self.students if self.student(name).weights.keys() == {"labels"}]
        found = [name for name in found if self.students[name].labelled_share == 1 and not self.students[name].separate]
        return max(found, key=lambda name: self.students[name].updates, default=None)


def load_params(path: Path) -> Params:
    """Read and check params.yaml; classes are not imported. Raises ParamsError."""
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ParamsError(f"{path}: not found; run this in a project folder, one with params.yaml and dvc.yaml") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ParamsError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ParamsError(f"{path}: expected sections (seed, prepare, tasks, ...), found {type(content).__name__}")
    try:
        params = Params.model_validate(content)
    except ValidationError as error:
        raise ParamsError(f"{path}: {first_problem(error, content)}") from None
    for where, problem in problems(params):
        raise ParamsError(f"{path}: {where}: {problem}")
    for where, spec in class_specs(params).items():
        spec._where = f"{path}: {where}"
        spec.file()
    return params


def class_specs(params: Params) -> dict[str, ClassSpec]:
    """{dotted key: spec} of every class that params name."""
    return {
        "prepare.source": params.prepare.source,
        **specs_in("distill", params.distill),
        **{f"tasks.{name}": spec for name, spec in params.tasks.items()},
        **{f"teachers.{name}.encoder": teacher.encoder for name, teacher in params.teachers.items()},
        **{f"fusions.{name}": spec for name, spec in params.fusions.items()},
        **{
            key: spec
            for name, student in params.students.items()
            for key, spec in specs_in(f"students.{name}", student).items()
        },
    }


def specs_in(where: str, section: Distill | Student) -> dict[str, ClassSpec]:
    """{dotted key: spec} of what a student's learning is made of."""
    found = {f"{where}.{key}": getattr(section, key) for key in PARTS}
    return {key: spec for key, spec in found.items() if spec}


def first_problem(error: ValidationError, content: Any) -> str:
    """pydantic's first complaint in our words."""
    problem = error.errors()[0]
    path = [part for part in problem["loc"] if part != "[key]"]
    where = ".".join(map(str, path))
    if problem["type"] == "extra_forbidden":
        return f"{where}: unknown key{near(str(path[-1]), known_keys(path[:-1]))}"
    if problem["type"] == "missing":
        return f"{where}: missing; it must be given"
    if "[key]" in problem["loc"] and problem["type"] == "string_pattern_mismatch":
        return f"{where}: a name is of letters, digits, - and _, since it names files"
    return f"{where}: {problem['msg'].lower()}, got {problem['input']!r}"


def known_keys(path: list[Any]) -> list[str]:
    """Keys of the section at a path of params.yaml."""
    model: Any = Params
    for part in path:
        if isinstance(part, str) and part in getattr(model, "model_fields", {}):
            annotation = model.model_fields[part].annotation
            model = next((a for a in getattr(annotation, "__args__", [])[::-1] if hasattr(a, "model_fields")), annotation)
    return [f.alias or name for name, f in getattr(model, "model_fields", {}).items()]


def near(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, [k for k in known if not k.startswith("_")], 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def problems(params: Params) -> list[tuple[str, str]]:
    """What no single section can know: names that lead nowhere, students that could not learn."""
    found = [problem for name in params.students for problem in student_problems(params, name)]
    for key in ("tasks", "teachers", "fusions", "students"):
        if not getattr(params, key):
            found.append((key, "empty; name at least one"))
    for name, teacher in params.teachers.items():
        found += [
            (f"teachers.{name}.tasks", lead(task, params.tasks, "task")) for task in teacher.tasks if task not in params.tasks
        ]
    taught = {task for teacher in params.teachers.values() for task in teacher.tasks}
    found += [
        (f"tasks.{task}", "no teacher has this task; add one under teachers") for task in params.tasks if task not in taught
    ]
    found += recipe_problems(params)
    for name, fusion in params.fusions.items():
        if name == "transfer":
            found.append(("fusions.transfer", "this name is the transfer set's; choose another"))
        wrong = [teacher for teacher in fusion.teachers or [] if teacher not in params.teachers]
        found += [(f"fusions.{name}.teachers", lead(teacher, params.teachers, "teacher")) for teacher in wrong]
    shown = {"report.baseline": [params.report.baseline], "report.strip": params.report.strip}
    found += [
        (key, lead(s, params.students, "student")) for key, names in shown.items() for s in names if s not in params.students
    ]
    return found


def recipe_problems(params: Params) -> list[tuple[str, str]]:
    """Recipes for tasks that a teacher lacks, or for fields of another kind."""
    recipes = {f"extract.{kind}": (kind, getattr(params.extract, kind)) for kind in ("features", "logits")}
    recipes["fuse.fused"] = "fused", params.fuse.fused
    found = []
    for teacher, spec in params.teachers.items():
        for field, recipe in spec.recipes.items():
            where, (kind, _, name) = f"teachers.{teacher}.recipes.{field}", field.partition("/")
            recipes[where] = kind, recipe
            if kind not in ("features", "logits") or not name:
                found.append((where, "expected features/<tap> or logits/<task>"))
            elif kind == "logits" and name not in spec.tasks:
                found.append((where, lead(name, spec.tasks, "task of this teacher")))
    for where, (kind, recipe) in recipes.items():
        given = [key for key in ("dims", "top_k", "sampled") if getattr(recipe, key)]
        fit = {"features": ["dims"], "logits": ["top_k", "sampled"]}.get(kind, [])
        known = " or ".join(fit) or "none of the kind"
        found += [(f"{where}.{key}", f"not for such a field; there is {known}") for key in given if key not in fit]
        if len(given) > 1:
            found.append((where, f"{' and '.join(given)}: give one of them"))
    return found


def student_problems(params: Params, name: str) -> list[tuple[str, str]]:
    where, student = f"students.{name}", params.student(name)
    knowledge = student.weights.keys() & {"fused", "logits"}
    found = [(f"{where}.tasks", lead(task, params.tasks, "task")) for task in student.tasks if task not in params.tasks]
    if student.reads not in {"transfer", *params.fusions}:
        found.append((f"{where}.reads", lead(student.reads, {"transfer", *params.fusions}, "fusion makes a store")))
    if not student.weights:
        found.append((f"{where}.weights", "all are zero: nothing to learn from; give fused, logits or labels a weight"))
    if student.reads == "transfer" and knowledge:
        found.append(
            (f"{where}.reads", f"transfer holds no knowledge for the weight of {min(knowledge)}; read a fusion's store")
        )
    if not student.weights.keys() & {"logits", "labels"} and not student.head_updates:
        found.append(
            (f"{where}.head_updates", "fused features alone train no head; give head_updates, or weigh logits or labels")
        )
    return found


def lead(name: str, known: Any, what: str) -> str:
    return f"no {what} named {name!r}{near(name, known)}; there are {', '.join(sorted(known))}"
