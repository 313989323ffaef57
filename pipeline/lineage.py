"""What each stage depends on, derived: the code that it imports, the classes that its params name, lists of stores.

DVC cannot unroll a list into dependencies, so `stillroom sync` writes these into dvc.yaml, and every stage checks that
they are current: a teacher added without `sync` is an error, never "up to date".
"""

import ast
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.params import CLONE, Params, ParamsError, class_specs, load_params

# Whose classes a stage needs: prefixes of dotted keys in params.
USES = {
    "prepare": ("prepare.",),
    "train_teacher": ("prepare.", "tasks.", "teachers."),
    "extract": ("tasks.", "teachers."),
    "fuse": ("fusions.", "tasks."),
    "distill": ("prepare.", "tasks.", "distill.", "students."),
    "evaluate": ("tasks.", "distill.", "students."),
    "report": ("prepare.", "tasks."),
}
# Lists of other stages' outputs that a stage needs whole: (stage, what the path holds).
LISTS = {
    "fuse": [("extract", ".zarr")],
    "report": [
        ("train_teacher", "/scores/"),
        ("evaluate", "/scores/"),
        *((stage, "/costs/") for stage in ("prepare", "train_teacher", "extract", "fuse", "distill")),
    ],
}


def imports(file: Path) -> set[Path]:
    """Files of this clone's packages that a file imports, itself."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    files = (
        CLONE / Path(*name.split(".")).with_suffix(".py") for name in names if name.split(".")[0] in ("pipeline", "stages")
    )
    return {found for found in files if found.is_file()}


def closure(files: Iterable[Path]) -> set[Path]:
    """Files, and whatever of this clone's packages they import, however far."""
    reached: set[Path] = set()
    frontier = set(files)
    while frontier:
        reached |= frontier
        frontier = {found for file in frontier for found in imports(file)} - reached
    return reached


def code_deps(stage: str, params: Params) -> list[str]:
    """The code that can change what a stage writes, relative to the project folder."""
    specs = class_specs(params).items()
    classes = {spec.file() for key, spec in specs if key.startswith(USES[stage])}
    return sorted(os.path.relpath(file, Path.cwd()) for file in closure({CLONE / "stages" / f"{stage}.py", *classes}))


def data_deps(params: Params, listed: list[str]) -> list[str]:
    """Files and folders that an argument of the source names, however deep: what `prepare` reads.

    Those that are there, or that dvc.yaml lists already: a clone that pulled its knowledge has no data.
    """

    def paths(value: Any) -> Iterator[str]:
        if isinstance(value, dict | list):
            for inner in value.values() if isinstance(value, dict) else value:
                yield from paths(inner)
        elif isinstance(value, str) and value and (os.path.normpath(value) in listed or Path(value).exists()):
            yield os.path.normpath(value)

    return sorted(set(paths(params.prepare.source.arguments)))


def digest_of_data(paths: list[str]) -> str:
    """SHA-256, in hex, of files and of what is below folders, by name and content."""
    running = hashlib.sha256()
    for path in map(Path, paths):
        for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
            name = file.relative_to(path).as_posix()
            with file.open("rb") as opened:
                running.update(f"{name} {hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode())
    return running.hexdigest()


def list_templates(stage: str, stages: dict[str, Any]) -> list[tuple[str, str]]:
    """(section of params that is iterated over, path with ${key}) of every list that a stage needs."""
    found = []
    for other, part in LISTS.get(stage, []):
        definition = stages[other].get("do", stages[other])
        section = stages[other].get("foreach", "").strip("${}")
        found += [(section, out) for out in definition["outs"] if part in out]
    return found


def derived_deps(stage: str, stages: dict[str, Any], params: Params) -> list[str]:
    lists = [
        template.replace("${key}", key)
        for section, template in list_templates(stage, stages)
        for key in (getattr(params, section) if section else [""])
    ]
    return sorted(lists) + code_deps(stage, params)


def is_derived(dep: str, templates: list[tuple[str, str]]) -> bool:
    before_after = [template.partition("${key}")[::2] for _, template in templates]
    return dep.endswith(".py") or any(dep.startswith(before) and dep.endswith(after) for before, after in before_after)


def synced(stages: dict[str, Any], params: Params) -> dict[str, dict[str, list[str]]]:
    """{stage: {"deps": [...], "params": [...]}} as dvc.yaml should have them; what is written by hand comes first."""
    taught = sorted({task for teacher in params.teachers.values() for task in teacher.tasks})
    result = {}
    for stage, whole in stages.items():
        definition, templates = whole.get("do", whole), list_templates(stage, stages)
        by_hand = [dep for dep in definition["deps"] if not is_derived(dep, templates)]
        if stage == "prepare":  # the first stage: all that it reads is named in params
            by_hand = data_deps(params, by_hand)
        result[stage] = {"deps": by_hand + derived_deps(stage, stages, params), "params": list(definition["params"])}
    # A teacher depends on the tasks that are taught, one by one: dropping a task re-trains no other's teacher.
    others = [key for key in result["train_teacher"]["params"] if not key.startswith("tasks.")]
    result["train_teacher"]["params"] = others + [f"tasks.{task}" for task in taught]
    return result


def read_stages(path: Path) -> tuple[YAML, Any]:
    yaml = YAML()
    yaml.width = 1000
    yaml.indent(mapping=2, sequence=4, offset=2)
    try:
        content = yaml.load(path.read_text())
    except FileNotFoundError:
        raise ParamsError(f"{path}: not found; run this in a project folder, one with params.yaml and dvc.yaml") from None
    missing = USES.keys() - content["stages"].keys()
    if missing:
        raise ParamsError(f"{path}: no stage {min(missing)}; take dvc.yaml from the clone's root as a pattern")
    return yaml, content


def differences(params: Params, stages: Any) -> dict[str, list[str]]:
    """{stage: ["+ added", "- removed"]} between dvc.yaml and what it should hold."""
    changes = {}
    for stage, wanted in synced(stages, params).items():
        definition = stages[stage].get("do", stages[stage])
        lines = [f"+ {x}" for key in wanted for x in wanted[key] if x not in definition[key]]
        lines += [f"- {x}" for key in wanted for x in definition[key] if x not in wanted[key]]
        if lines:
            changes[stage] = lines
    return changes


def sync() -> dict[str, list[str]]:
    """Bring the dvc.yaml of the project in this folder up to date with its params.yaml; returns what changed, by stage."""
    params, path = load_params(Path("params.yaml")), Path("dvc.yaml")
    yaml, content = read_stages(path)
    changes = differences(params, content["stages"])
    for stage, wanted in synced(content["stages"], params).items():
        content["stages"][stage].get("do", content["stages"][stage]).update(wanted)
    if changes:
        draft = path.with_suffix(".tmp")
        with draft.open("w") as file:
            yaml.dump(content, file)
        os.replace(draft, path)
    return changes


def open_project() -> Params:
    """The params of the project in this folder, whose dvc.yaml is known to be current. Raises ParamsError."""
    params = load_params(Path("params.yaml"))
    _, content = read_stages(Path("dvc.yaml"))
    for stage, lines in differences(params, content["stages"]).items():
        raise ParamsError(f"dvc.yaml is behind params.yaml ({stage}: {lines[0]}): run `stillroom sync`")
    return params
