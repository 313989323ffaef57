"""params.yaml read and checked. Whatever is wrong in it is one line: what, where, what was expected, what to do."""

from pathlib import Path

from pydantic import ValidationError

from pipeline.project.class_spec import ParamsError
from pipeline.project.commented import loaded, plain
from pipeline.project.params import Params, class_specs
from pipeline.project.problems import (
    Problem,
    extension_problems,
    first_problem,
    no_such,
    recipe_problems,
    student_problems,
    teacher_problems,
)
from pipeline.project.sweep_problems import sweep_problems


def load_params(path: Path, text: str | None = None) -> Params:
    """Read and check params.yaml, or the text that it will have; classes are not imported. Raises ParamsError."""
    content = loaded(plain(), path, text)
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
        for part in spec.nested():
            part.file()
    return params


def problems(params: Params) -> list[Problem]:
    """What no single section can know: names that lead nowhere, students that could not learn."""
    found = [
        problem for name in params.students for problem in student_problems(params, f"students.{name}", params.student(name))
    ]
    found += [problem for name in params.students for problem in extension_problems(params, name)]
    found += sweep_problems(params)
    for key in ("tasks", "teachers", "fusions", "students"):
        if not getattr(params, key):
            found.append((key, "empty; name at least one"))
    found += [problem for name in params.teachers for problem in teacher_problems(params, name)]
    taught_tasks = {task for teacher in params.teachers.values() for task in teacher.tasks}
    found += [
        (f"tasks.{task}", "no teacher has this task; add one under teachers")
        for task in params.tasks
        if task not in taught_tasks
    ]
    found += recipe_problems(params)
    for name, fusion in params.fusions.items():
        if name == "transfer":
            found.append(("fusions.transfer", "this name is the transfer set's; choose another"))
        unknown_teachers = [teacher for teacher in fusion.teachers or [] if teacher not in params.teachers]
        found += [(f"fusions.{name}.teachers", no_such(teacher, params.teachers, "teacher")) for teacher in unknown_teachers]
    names_by_key = {"report.baseline": [params.report.baseline], "report.strip": params.report.strip}
    found += [
        (key, no_such(name, params.students, "student"))
        for key, names in names_by_key.items()
        for name in names
        if name not in params.students
    ]
    return found
