"""params.yaml as a whole: its sections, and what follows from several of them."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from pipeline.project.class_spec import ClassSpec
from pipeline.project.sections import (
    PARTS,
    Distill,
    Evaluate,
    Extract,
    FilledStudent,
    Fuse,
    FusionSpec,
    Name,
    Prepare,
    Recipe,
    Report,
    Section,
    Student,
    Sweep,
    Teacher,
    TrainTeacher,
)
from pipeline.seeds import derive_seed


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
        """The recipe of "features/<teacher>/<tap>" or "logits/<teacher>/<task>", or of a field of sparse logits."""
        kind, teacher, name = field.split("/", 2)
        output = f"features/{name}" if kind == "features" else f"logits/{name.split('/')[0]}"
        return self.teachers[teacher].recipes.get(output, self.extract.features if kind == "features" else self.extract.logits)

    def source(self) -> Any:
        """The source, built; it reads no data until it is asked for some."""
        return self.prepare.source.build(seed=derive_seed(self.seed, "data"))

    def build_tasks(self, names: Iterable[str] | None = None) -> dict[str, Any]:
        """{name: task} of these tasks; by default all."""
        return {name: self.tasks[name].build() for name in (self.tasks if names is None else names)}

    def student(self, name: str) -> FilledStudent:
        return self.filled(self.students[name])

    def filled(self, student: Student) -> FilledStudent:
        """A student with what it leaves open taken from `distill`."""
        keys = (*PARTS, "batch_size", "learning_rate")
        null_keys = student.model_fields_set & {"logit_loss", "balance"}  # given, so not as in `distill` even if null
        filled = {key: getattr(student, key) or (None if key in null_keys else getattr(self.distill, key)) for key in keys}
        weights = {term: weight for term, weight in student.weights.items() if weight > 0}
        tasks = student.tasks or list(self.tasks)
        return FilledStudent.model_construct(**{**dict(student), **filled, "weights": weights, "tasks": tasks})

    def varied(self, choice: dict[str, Any]) -> Student:
        """The student that the sweep starts from, with {dotted key: value} of what varies. Raises ValueError, KeyError."""
        assert self.sweep
        content = self.students[self.sweep.start].model_dump(by_alias=True, exclude_unset=True)
        for key, value in choice.items():
            *parents, last = key.split(".")
            section = content
            for parent in parents:
                if parent in PARTS and parent not in section:
                    section[parent] = getattr(self.distill, parent).as_dict()
                section = section[parent]
            section[last] = value
        student = Student.model_validate(content)
        for where, spec in specs_in(f"a student of the sweep with {choice}", student).items():
            spec._where = where
        return student

    def fused(self, fusion: str) -> list[str]:
        """The teachers of a fusion, in the order of their features."""
        return self.fusions[fusion].teachers or sorted(self.teachers)

    def foreign(self, store: str) -> bool:
        """Whether a store that students read was made by another project."""
        return store not in {"transfer", *self.fusions}

    def swept_reads(self) -> set[str]:
        """Stores that students of the sweep learn from."""
        if not self.sweep:
            return set()
        reads = self.sweep.vary.get("reads")
        return set(reads) if isinstance(reads, list) else {self.students[self.sweep.start].reads}

    def longest_on_labels(self) -> str | None:
        """The student on all labels and nothing else, in one network, with the most updates."""
        names = [name for name in self.students if self.student(name).weights.keys() == {"labels"}]
        excluded = [
            name
            for name, student in self.students.items()
            if student.labelled_share < 1 or student.separate or student.labelled or student.extends
        ]
        names = [name for name in names if name not in excluded]
        return max(names, key=lambda name: self.students[name].updates, default=None)


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
    """{dotted key: spec} of classes among the values that vary."""
    lists = {key: sweep.vary[key] for key in PARTS if key in sweep.vary} if sweep else {}
    return {
        f"sweep.vary.{key}.{index}": ClassSpec.model_validate(value)
        for key, values in lists.items()
        if isinstance(values, list)
        for index, value in enumerate(values)
        if value is not None
    }


def specs_in(where: str, section: Distill | Student) -> dict[str, ClassSpec]:
    """{dotted key: spec} of the classes that a student's training is made of."""
    specs = {f"{where}.{key}": getattr(section, key) for key in PARTS}
    return {key: spec for key, spec in specs.items() if spec}
