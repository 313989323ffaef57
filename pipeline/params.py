"""params.yaml as typed sections. Whatever is wrong in it is one line: what, where, what was expected, what to do."""

import difflib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError

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

    def without(self, argument: str) -> Self:
        """The same, with the default of one argument."""
        spec = self.model_copy()
        spec.__pydantic_extra__ = {key: value for key, value in self.arguments.items() if key != argument}
        return spec

    def file(self) -> Path:
        for folder in (Path.cwd(), CLONE):
            if (folder / self.code).is_file():
                return (folder / self.code).resolve()
        raise ParamsError(f"{self._where}.code: no file {self.code} in the project folder or the clone")

    def inner(self) -> dict[str, "ClassSpec"]:
        """{dotted key: spec} of classes among the arguments, however deep: `module: {code: ..., class: ...}`."""
        return dict(specs_among(self._where, self.arguments))

    def load(self) -> Any:
        """The class."""
        module = import_file(self.file())
        if not hasattr(module, self.class_):
            raise ParamsError(f"{self._where}.class: {self.code} has no class {self.class_!r}{near(self.class_, vars(module))}")
        return getattr(module, self.class_)

    def build(self, **more: Any) -> Any:
        """An instance, from the arguments in params and some that only the caller knows.

        An argument that is itself a class with arguments comes as a ClassSpec, for the instance to build.
        """
        cls = self.load()
        accepted = inspect.signature(cls).parameters
        for name in self.arguments:
            if name not in accepted:
                raise ParamsError(f"{self._where}.{name}: no argument of {self.class_}, which takes {', '.join(accepted)}")
        given = {name: as_specs(f"{self._where}.{name}", value) for name, value in self.arguments.items()}
        given |= {name: value for name, value in more.items() if name in accepted}
        for name, parameter in accepted.items():
            if name not in given and parameter.default is parameter.empty:
                raise ParamsError(f"{self._where}.{name}: missing; {self.class_} needs it")
        try:
            return cls(**given)
        except (TypeError, ValueError) as error:
            raise ParamsError(f"{self._where}: {error}") from error


def as_specs(where: str, value: Any) -> Any:
    """An argument with every {code, class} in it as a ClassSpec."""
    if not isinstance(value, dict):
        return value
    if {"code", "class"} <= value.keys():
        spec = ClassSpec.model_validate(value)
        spec._where = where
        return spec
    return {key: as_specs(f"{where}.{key}", item) for key, item in value.items()}


def specs_among(where: str, arguments: dict[str, Any]) -> Iterator[tuple[str, ClassSpec]]:
    for key, value in arguments.items():
        found = as_specs(f"{where}.{key}", value)
        if isinstance(found, ClassSpec):
            yield f"{where}.{key}", found
        nested = found.arguments if isinstance(found, ClassSpec) else found
        if isinstance(nested, dict):
            yield from specs_among(f"{where}.{key}", nested)


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
    """What is not given is as in `distill`; tasks: all; temperature: each task's own."""

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
        for named in (spec, *spec.inner().values()):
            named.file()
    return params


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
    found = [p for name in params.students for p in student_problems(params, f"students.{name}", params.student(name))]
    found += sweep_problems(params)
    for key in ("tasks", "teachers", "fusions", "students"):
        if not getattr(params, key):
            found.append((key, "empty; name at least one"))
    found += [problem for name in params.teachers for problem in teacher_problems(params, name)]
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


def teacher_problems(params: Params, name: str) -> list[tuple[str, str]]:
    where, teacher = f"teachers.{name}", params.teachers[name]
    found = [(f"{where}.tasks", lead(task, params.tasks, "task")) for task in teacher.tasks if task not in params.tasks]
    if (teacher.encoder is None) == (teacher.imported is None):
        found.append((where, "give it an encoder, or what is imported: one of them"))
    elif teacher.imported:
        trained = teacher.model_fields_set - {"tasks", "imported", "recipes"}
        found += [(f"{where}.{key}", "what is imported is not trained; drop this key") for key in sorted(trained)]
        wanted = {f"logits/{task}" for task in teacher.tasks}
        logits = {output for output in teacher.imported.outputs if not output.startswith("features/")}
        odd = sorted(wanted ^ logits)
        found += [(f"{where}.imported.outputs", f"{output} is either here or in tasks, but not in both") for output in odd]
    elif teacher.encoder and "pretrained" in teacher.encoder.arguments:
        found.append((f"{where}.encoder.pretrained", f"belongs one level up, as {where}.pretrained, where it is a dependency"))
    elif teacher.updates and not teacher.tasks:
        found.append((f"{where}.updates", "there is no task to train it on; name tasks, or give 0 updates"))
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


def sweep_problems(params: Params) -> list[tuple[str, str]]:
    """Of the sweep as such, and of each of its values by itself; combinations are judged when they are made."""
    sweep = params.sweep
    if not sweep:
        return []
    if sweep.start not in params.students:
        return [("sweep.start", lead(sweep.start, params.students, "student"))]
    found = []
    for key, values in sweep.vary.items():
        if isinstance(values, Range) and sweep.sampler == "grid":
            found.append((f"sweep.vary.{key}", "a grid takes lists of values; for a range choose sampler tpe or nsga2"))
        for value in values if isinstance(values, list) else (values.low, values.high):
            found += value_problems(params, key, value)
    if sweep.sampler != "grid" and not sweep.students:
        found.append(("sweep.students", f"missing; say how many {sweep.sampler} may try"))
    start = params.student(sweep.start)
    if start.separate:
        found.append(("sweep.start", f"{sweep.start} is one network a task (separate); a sweep is of single networks"))
    if sweep.keep < 1 and (start.head_updates or sweep.sampler == "nsga2"):
        found.append(
            ("sweep.keep", "stops students by what their heads score early, for one number: not with head_updates or nsga2")
        )
    return found


def value_problems(params: Params, key: str, value: Any) -> list[tuple[str, str]]:
    where = f"sweep.vary.{key}"
    if key == "seed":
        return (
            [] if isinstance(value, int) and value >= 0 else [(where, f"expected numbers of seeds, 0, 1, ..., got {value!r}")]
        )
    try:
        student = params.varied({key: value})
        known = {"transfer", *params.fusions}
        return [] if student.reads in known else [(where, lead(student.reads, known, "fusion makes a store"))]
    except ValidationError as error:
        return [(where, f"{first_problem(error, {})}, for {value!r}")]
    except (KeyError, TypeError, AttributeError):
        return [(where, "not a parameter of a student")]


def student_problems(params: Params, where: str, student: FilledStudent) -> list[tuple[str, str]]:
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
