"""dvc.yaml as params.yaml would have it: what each stage depends on, and lists of stores.

DVC cannot unroll a list into dependencies, so `stillroom sync` writes these into dvc.yaml, and every stage checks that
they are current: a teacher added without `sync` is an error, never "up to date". What one teacher, fusion or student alone is
made of (its classes, its stores, its weights) DVC can index: `foreach` has it by name (foreach.py), and changing it re-runs
no other.
"""

from pathlib import Path
from typing import Any

from ruamel.yaml.error import YAMLError

from pipeline.atomic import write_whole
from pipeline.project.class_spec import CLONE, ParamsError
from pipeline.project.commented import dumped, loaded, plain, round_trip
from pipeline.project.dependencies import OWN, USES, code_deps, data_deps, library, outside
from pipeline.project.foreach import foreach, list_templates
from pipeline.project.params import Params
from pipeline.project.validation import load_params

OPTIONAL = {"sweep"}  # a project may do without
BY_NAME = {"tasks", "teachers", "fusions", "${item"}  # keys of params that a stage of one has for itself
CODE = Path("code.yaml")  # of a project outside of the clone: digests of the clone's code, by stage


def keys(stage: str, section: str, params: Params) -> list[str]:
    """What a list holds of a section of params: all, but of a sweep what its students read, and are measured against.

    Nothing, where each of the section has a list of its own.
    """
    if stage in OWN:
        return []
    if stage != "sweep":
        return list(getattr(params, section)) if section else [""]
    reads, baseline = params.swept_reads(), [params.report.baseline] if params.sweep else []
    return {"": [""] * ("transfer" in reads), "fusions": sorted(reads - {"transfer"}), "students": baseline}[section]


def derived_deps(stage: str, stages: dict[str, Any], params: Params) -> list[str]:
    """What `sync` writes of a stage's dependencies: whole lists of other stages' outputs, then code."""
    lists = [
        template.replace("${key}", key)
        for section, template in list_templates(stage, stages)
        for key in keys(stage, section, params)
    ]
    return sorted(lists) + code_deps(stage, params)


def is_derived(dep: str, templates: list[tuple[str, str]]) -> bool:
    """Whether a dependency was written by `sync`, and may go."""
    affixes = [template.partition("${key}")[::2] for _, template in templates]
    is_listed = any(dep.startswith(before) and dep.endswith(after) for before, after in affixes)
    return is_listed or dep.endswith(".py") or ("${item." in dep and "[" in dep)


def ours(stages: dict[str, Any]) -> dict[str, Any]:
    """Without those that a user added."""
    return {stage: definition for stage, definition in stages.items() if stage in USES}


def synced(stages: dict[str, Any], params: Params) -> dict[str, dict[str, Any]]:
    """{stage: {"deps": [...], "params": [...]}} as dvc.yaml should have them; what is written by hand comes first.

    Of the stages of a teacher, fusion or student also "foreach": what is each one's own.
    """
    result: dict[str, dict[str, Any]] = {}
    for stage, entry in ours(stages).items():
        definition, templates = entry.get("do", entry), list_templates(stage, stages)
        by_hand = [dep for dep in definition["deps"] if not is_derived(dep, templates)]
        if stage == "prepare":  # the first stage: all that it reads is named in params
            by_hand = data_deps(params, by_hand)
        param_keys = [key for key in definition["params"] if isinstance(key, str)]
        result[stage] = {"deps": by_hand + derived_deps(stage, stages, params), "params": param_keys}
    for stage in OWN:
        result[stage]["foreach"] = iterated = foreach(stage, params, stages)
        lists = next(iter(iterated.values())) if isinstance(iterated, dict) else {}
        items = {key: [f"${{item.{key}[{number}]}}" for number in range(len(entries))] for key, entries in lists.items()}
        result[stage]["deps"] += items.get("deps", []) + items.get("extends", [])
        if "params" in items:
            other_keys = [key for key in result[stage]["params"] if key.split(".")[0] not in BY_NAME]
            result[stage]["params"] = other_keys + items["params"]
    if "sweep" in result:
        other_keys = [key for key in result["sweep"]["params"] if not key.startswith("students.")]
        result["sweep"]["params"] = other_keys + ([f"students.{params.sweep.start}"] if params.sweep else [])
    if outside():
        for stage, expected_lists in result.items():
            expected_lists["params"].append({CODE.name: [f"{stage}.${{key}}" if stage in OWN else stage]})
    return result


def read_stages(path: Path) -> Any:
    """dvc.yaml, with its comments. Raises ParamsError."""
    content = loaded(round_trip(), path)
    if not isinstance(content, dict) or not isinstance(content.get("stages"), dict):
        raise ParamsError(f"{path}: has no stages; take dvc.yaml from the clone's root as a pattern")
    missing = USES.keys() - OPTIONAL - content["stages"].keys()
    if missing:
        raise ParamsError(f"{path}: no stage {min(missing)}; take dvc.yaml from the clone's root as a pattern")
    return content


def differences(params: Params, stages: Any) -> dict[str, list[str]]:
    """{stage: ["+ added", "- removed"]} between dvc.yaml and what it should hold."""
    changes = {}
    for stage, expected_lists in synced(stages, params).items():
        actual_lists = stages[stage].get("do", stages[stage]) | {"foreach": stages[stage].get("foreach")}
        pairs = [(listed(actual_lists[key]), listed(expected_lists[key])) for key in expected_lists]
        lines = [f"+ {item}" for actual, expected in pairs for item in expected if item not in actual]
        lines += [f"- {item}" for actual, expected in pairs for item in actual if item not in expected]
        if lines:
            changes[stage] = lines
    return changes


def listed(value: Any) -> list[str]:
    """A list as it is; what is by name of a teacher, fusion or student, as lines "name: file"."""
    if not isinstance(value, dict):
        return [value] if isinstance(value, str) else list(value)
    return [f"{name}: {line}" for name, item in value.items() for key in item for line in dict.fromkeys(listed(item[key]))]


def check_sweep(params: Params, stages: dict[str, Any]) -> None:
    """Raises ParamsError if only one of params.yaml and dvc.yaml has a sweep."""
    if params.sweep and "sweep" not in stages:
        raise ParamsError(f"dvc.yaml: no stage sweep, but params.yaml has one; copy that stage from {CLONE / 'dvc.yaml'}")
    if "sweep" in stages and "sweep" not in params.model_fields_set:
        raise ParamsError("dvc.yaml: a stage sweep, but params.yaml has none; drop the stage, or fill in `sweep:`")


def sync() -> dict[str, list[str]]:
    """Bring the dvc.yaml of the project in this folder up to date with its params.yaml; returns what changed, by stage."""
    if outside() and Path("pipeline/project/lineage.py").is_file():  # stages would run its code, and this would name another's
        raise ParamsError(
            f"{Path.cwd()} is a clone itself, but this is the stillroom of {CLONE}: `make setup` here, and use that"
        )
    params, path = load_params(Path("params.yaml")), Path("dvc.yaml")
    content = read_stages(path)
    check_sweep(params, content["stages"])
    changes = differences(params, content["stages"])
    for stage, expected_lists in synced(content["stages"], params).items():
        if "foreach" in expected_lists:
            content["stages"][stage]["foreach"] = expected_lists.pop("foreach")
        content["stages"][stage].get("do", content["stages"][stage]).update(expected_lists)
    if changes:
        write_whole(path, dumped(content).encode())
    if outside():
        old_digests, new_digests = read_code(), library(ours(content["stages"]), params)
        if old_digests != new_digests:
            write_whole(CODE, dumped(new_digests).encode())
        for stage in new_digests:
            if new_digests[stage] != old_digests.get(stage):
                changes.setdefault(stage, []).append(other_code(old_digests.get(stage), new_digests[stage]))
    return changes


def other_code(old: Any, new: Any) -> str:
    """What has to run again: all of a stage, or these teachers, fusions or students."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return "other code"
    return f"other code: {', '.join(name for name in {**new, **old} if new.get(name) != old.get(name))}"


def read_code() -> dict[str, Any]:
    """What code.yaml holds; nothing if it is not there, or is no YAML, such as after a merge: `sync` writes it anew."""
    try:
        content = plain().load(CODE.read_text("utf-8"))
    except (FileNotFoundError, UnicodeDecodeError, YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def open_project() -> Params:
    """The params of the project in this folder, whose dvc.yaml is known to be current. Raises ParamsError."""
    params = load_params(Path("params.yaml"))
    content = read_stages(Path("dvc.yaml"))
    check_sweep(params, content["stages"])
    for stage, lines in differences(params, content["stages"]).items():
        raise ParamsError(f"dvc.yaml is behind params.yaml ({stage}: {lines[0]}): run `stillroom sync`")
    if outside() and read_code() != library(ours(content["stages"]), params):
        raise ParamsError(f"{CODE} is of other code than {CLONE} has now: run `stillroom sync`")
    return params
