"""What one teacher, fusion or student alone is made of: the lists that `foreach` in dvc.yaml goes over."""

from typing import Any

from pipeline.project.class_spec import CLONE, ParamsError
from pipeline.project.dependencies import SECTIONS, own_files, tasks_of
from pipeline.project.params import Params

# Other stages' outputs that a stage needs lists of: (stage, what the path holds).
LISTS = {
    "fuse": [("extract", ".zarr")],
    "report": [
        ("train_teacher", "/scores/"),
        ("evaluate", "/scores/"),
        *((stage, "/costs/") for stage in ("prepare", "train_teacher", "extract", "fuse", "distill")),
    ],
    "sweep": [("prepare", "/knowledge/"), ("fuse", "/knowledge/"), ("evaluate", "/scores/")],
}
TAUGHT_FROM = "data/knowledge/transfer.zarr"


def foreach(stage: str, params: Params, stages: dict[str, Any]) -> str | dict[str, dict[str, Any]]:
    """What a stage of OWN goes over."""
    if SECTIONS[stage] == "teachers":
        return by_teacher(stage, params)
    if SECTIONS[stage] == "fusions":
        return by_fusion(stage, params, stages)
    return by_student(stage, params, stages[stage]["do"])


def by_teacher(stage: str, params: Params) -> dict[str, dict[str, list[str]]]:
    """{teacher: lists of its own}: "deps"; of train_teacher also "params": its keys, but for recipes, and its tasks."""
    lists_by_key = {"deps": {name: sorted(own_files(stage, name, params)) for name in params.teachers}}
    if stage == "train_teacher":
        lists_by_key["params"] = {
            name: [f"teachers.{name}.{key}" for key in sorted(teacher.model_fields_set - {"recipes"})]
            + [f"tasks.{task}" for task in teacher.tasks]
            for name, teacher in params.teachers.items()
        }
    return equally_long(lists_by_key, dict.fromkeys(params.teachers, TAUGHT_FROM))


def by_fusion(stage: str, params: Params, stages: dict[str, Any]) -> dict[str, dict[str, list[str]]]:
    """{fusion: lists of its own}: "deps", with its teachers' stores; "params": itself, and its teachers' tasks.

    And "teachers", if it fuses all: DVC does not notice that a dependency is gone.
    """
    dumps = [store for _, store in list_templates(stage, stages)]
    lists_by_key: dict[str, dict[str, list[str]]] = {"deps": {}, "params": {}}
    for name, fusion in params.fusions.items():
        stores = [dump.replace("${key}", teacher) for teacher in params.fused(name) for dump in dumps]
        lists_by_key["deps"][name] = stores + sorted(own_files(stage, name, params))
        tasks = [f"tasks.{task}" for task in tasks_of(stage, name, params)]
        lists_by_key["params"][name] = [f"fusions.{name}", *([] if fusion.teachers else ["teachers"]), *tasks]
    return equally_long(lists_by_key, dict.fromkeys(params.fusions, TAUGHT_FROM))


def by_student(stage: str, params: Params, definition: dict[str, Any]) -> str | dict[str, dict[str, Any]]:
    """{student: "reads", its own code as "deps", the student that it "extends"}; all students, where none has any."""
    template = next((dep for dep in definition["deps"] if "${item.reads}" in dep), None)
    if not template:
        raise ParamsError(
            f"dvc.yaml: stage {stage} depends on no store ${{item.reads}}; take that stage from {CLONE / 'dvc.yaml'}"
        )
    stores = {name: template.replace("${item.reads}", student.reads) for name, student in params.students.items()}
    lists_by_key = {"deps": {name: sorted(own_files(stage, name, params)) for name in params.students}}
    if stage == "distill":
        folders = {
            name: definition["outs"][0].replace("${key}", student.extends or "") for name, student in params.students.items()
        }
        lists_by_key["extends"] = {
            name: [folders[name]] if student.extends else [] for name, student in params.students.items()
        }
    lists_by_key = {key: lists for key, lists in lists_by_key.items() if any(lists.values())}
    if not lists_by_key:
        return "${students}"
    lists = equally_long(lists_by_key, stores)
    return {name: {"reads": student.reads, **lists[name]} for name, student in params.students.items()}


def equally_long(lists_by_key: dict[str, dict[str, list[str]]], common: dict[str, str]) -> dict[str, dict[str, list[str]]]:
    """{name: {key: list}} of {key: {name: list}}; what is too short says its last item again, or what each has in common."""
    longest = {key: max(map(len, lists.values())) for key, lists in lists_by_key.items()}
    return {
        name: {
            key: lists[name] + (lists[name] or [common[name]])[-1:] * (longest[key] - len(lists[name]))
            for key, lists in lists_by_key.items()
        }
        for name in common
    }


def list_templates(stage: str, stages: dict[str, Any]) -> list[tuple[str, str]]:
    """(section of params that is iterated over, path with ${key}) of every list that a stage, or each of its names, needs."""
    templates = []
    for other_stage, part in LISTS.get(stage, []):
        definition = stages[other_stage].get("do", stages[other_stage])
        section = SECTIONS.get(other_stage) or stages[other_stage].get("foreach", "").strip("${}")
        templates += [(section, out) for out in definition["outs"] if part in out]
    return templates
