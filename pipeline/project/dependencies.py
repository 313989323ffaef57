"""What stages are made of: the code that they import, the classes that their params name, the files that a source reads."""

import ast
import hashlib
import os
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.project.class_spec import CLONE, ClassSpec, ParamsError
from pipeline.project.params import Params, class_specs, specs_in
from pipeline.project.sections import on_a_hub
from pipeline.seeds import derive_seed

# Whose classes a stage needs: prefixes of dotted keys in params.
USES = {
    "prepare": ("prepare.",),
    "train_teacher": ("prepare.",),
    "extract": (),
    "fuse": (),
    "distill": ("prepare.", "tasks.", "distill."),
    "evaluate": ("tasks.", "distill.encoder"),
    "report": ("prepare.", "tasks."),
    "sweep": ("prepare.", "tasks.", "distill."),
}
# And of one teacher or fusion, with their tasks, or of one student, where a stage is of one.
OWN = {
    "train_teacher": "teachers.{}.",
    "extract": "teachers.{}.",
    "fuse": "fusions.{}.",
    "distill": "students.{}.",
    "evaluate": "students.{}.encoder",
}
SECTIONS = {stage: prefix.split(".")[0] for stage, prefix in OWN.items()}  # of the names that such a stage is run for
WRITTEN = {".", "data", "exports", "predictions"}  # by stages and commands


@cache
def imports(file: Path, project: Path) -> set[Path]:
    """Files of this clone's packages, and of the project's folder, that a file imports, itself. Raises ParamsError."""
    names: set[str] = set()
    try:
        tree = ast.parse(file.read_text("utf-8"))
    except SyntaxError as error:
        raise ParamsError(f"{file}, line {error.lineno}: {error.msg}; mend it") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    clone_names = {name for name in names if name.split(".")[0] in ("pipeline", "stages")}
    files = {CLONE.joinpath(*name.split(".")).with_suffix(".py") for name in clone_names}
    for path in (project.joinpath(*name.split(".")) for name in names - clone_names):
        files |= {path.with_suffix(".py"), path / "__init__.py"}
    return {path for path in files if path.is_file()}


def closure(files: Iterable[Path]) -> set[Path]:
    """Files, and whatever of this clone's packages and of the project in this folder they import, however far."""
    reached: set[Path] = set()
    frontier = set(files)
    while frontier:
        reached |= frontier
        frontier = {imported for file in frontier for imported in imports(file, Path.cwd())} - reached
    return reached


def check_classes(params: Params) -> None:
    """Load every class that params name, and those of students of a sweep, and check their arguments. Raises ParamsError."""
    extremes = params.sweep.extremes() if params.sweep else {}
    choices = [{key: value} for key, values in extremes.items() for value in values if key != "seed"]
    specs = [part for spec in class_specs(params).values() for part in spec.nested()]
    for choice in choices:
        for where, spec in specs_in(f"sweep.vary: {choice}", params.varied(choice)).items():
            spec._where = where
            specs.append(spec)
    for spec in specs:
        spec.given(spec.load())
    for task in params.tasks:
        if torchs_own(task):
            raise ParamsError(f"params.yaml: tasks.{task}: torch has this name for something else; choose another")


def torchs_own(name: str) -> bool:
    """Whether torch refuses a task's head this name, since its modules have it already: `type`, `values`, `update`."""
    from torch.nn import ModuleDict  # two seconds, which commands that load no class do without

    return hasattr(ModuleDict(), name)


def code_of(stage: str, params: Params, name: str | None = None) -> set[Path]:
    """The code that can change what a stage writes, for one of its names if given; of a sweep all that it may train."""
    prefixes: tuple[str, ...] = (
        (OWN[stage].format(name), *(f"tasks.{task}." for task in tasks_of(stage, name, params))) if name else ()
    )
    if stage == "sweep" and params.sweep:
        prefixes = ("sweep.", f"students.{params.sweep.start}.")
    return code_under(stage, params, USES[stage] + prefixes)


def tasks_of(stage: str, name: str, params: Params) -> list[str]:
    """Of the teacher, or of those of the fusion, that a stage is run for. Students have `tasks.` in USES."""
    if SECTIONS[stage] == "students":
        return []
    teachers = params.fused(name) if SECTIONS[stage] == "fusions" else [name]
    return list(dict.fromkeys(task for teacher in teachers for task in params.teachers[teacher].tasks))


def code_under(stage: str, params: Params, prefixes: tuple[str, ...]) -> set[Path]:
    """What a stage imports, and the classes that params name under these keys."""
    specs = [spec for key, spec in class_specs(params).items() if f"{key}.".startswith(prefixes)]
    return closure({CLONE / "stages" / f"{stage}.py", *files_of(specs)})


def files_of(specs: Iterable[ClassSpec]) -> set[Path]:
    """The files of some classes, and of those among their arguments."""
    return {part.file() for spec in specs for part in spec.nested()}


def library(stages: Iterable[str], params: Params) -> dict[str, Any]:
    """{stage: SHA-256, in hex, of this clone's code that can change what it writes}, or {name: ...} of those in OWN."""

    def ours(stage: str, name: str | None = None) -> str:
        return digest({file for file in code_of(stage, params, name) if file.is_relative_to(CLONE)})

    return {
        stage: {name: ours(stage, name) for name in getattr(params, SECTIONS[stage])} if stage in OWN else ours(stage)
        for stage in stages
    }


def outside() -> bool:
    """Whether the project in this folder lies outside the clone, which may lie elsewhere on another machine."""
    return not Path.cwd().is_relative_to(CLONE)


def listed_code(files: Iterable[Path]) -> set[str]:
    """The files of code that dvc.yaml names, relative to the project folder; outside of the clone, the project's own."""
    return {os.path.relpath(file, Path.cwd()) for file in files if not (outside() and file.is_relative_to(CLONE))}


def code_deps(stage: str, params: Params) -> list[str]:
    return sorted(listed_code(code_of(stage, params)))


def own_files(stage: str, name: str, params: Params) -> set[str]:
    """Files and folders that one name of a stage alone is made of, relative to the project folder, or absolute as named."""
    files = listed_code(code_of(stage, params, name) - code_of(stage, params))
    teacher = params.teachers.get(name) if SECTIONS[stage] == "teachers" else None
    if teacher is None:
        return files
    if teacher.imported:
        files.add(teacher.imported.files)
    elif stage == "train_teacher" and teacher.pretrained and not on_a_hub(teacher.pretrained):
        files.add(teacher.pretrained)
    return files


def code_digest(stage: str, params: Params, name: str | None = None) -> str:
    """SHA-256, in hex, of the code that can change what a stage writes, for one of its names if given."""
    return digest(code_of(stage, params, name))


def common_code_digest(params: Params) -> str:
    """SHA-256, in hex, of the code that all students of a sweep are made of, whatever classes vary."""
    return digest(code_under("sweep", params, USES["sweep"]))


def class_code_digest(specs: Iterable[ClassSpec]) -> str:
    """SHA-256, in hex, of the code of some classes, and of those among their arguments."""
    return digest(closure(files_of(specs)))


def digest(files: Iterable[Path]) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(files))).hexdigest()


def data_deps(params: Params, listed: list[str]) -> list[str]:
    """Files and folders that an argument of the source names, however deep: what `prepare` reads.

    Those that are there, or that dvc.yaml lists already: a clone that pulled its knowledge has no data. Names of classes are
    no files, nor is what stages and commands write.
    """

    def paths(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            value = [inner for key, inner in value.items() if key != "classes"]
        if isinstance(value, list):
            for inner in value:
                yield from paths(inner)
        elif isinstance(value, str) and value:
            path = os.path.normpath(value)
            if path not in WRITTEN and (path in listed or Path(path).exists()):
                yield path

    return sorted(set(paths(params.prepare.source.arguments)))


def digest_of_data(paths: Iterable[str]) -> str:
    """SHA-256, in hex, of files and of what is below folders, by name and content."""
    hasher = hashlib.sha256()
    for path in map(Path, paths):
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            name = file.relative_to(path).as_posix()
            with file.open("rb") as opened:
                hasher.update(f"{name} {hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode())
    return hasher.hexdigest()


def source_identity(params: Params) -> dict[str, Any]:
    """What the splits of a source are made of: the class and its arguments, the seed, the content of files that it reads."""
    identity = {"source": params.prepare.source.as_dict(), "seed": derive_seed(params.seed, "data")}
    paths = data_deps(params, [])
    return identity | ({"data": digest_of_data(paths)} if paths else {})
