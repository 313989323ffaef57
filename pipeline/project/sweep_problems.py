"""What is wrong with a sweep, before any of its students is made."""

from math import inf
from typing import Any

from pydantic import ValidationError

from pipeline.project.class_spec import ParamsError, near
from pipeline.project.params import Params
from pipeline.project.problems import Problem, first_problem, no_store, no_such, stores, student_problems
from pipeline.project.sections import FilledStudent, Range, Student


def sweep_problems(params: Params) -> list[Problem]:
    """Problems of the sweep as a whole, and of each of its values by itself."""
    sweep = params.sweep
    if not sweep:
        return []
    if sweep.start not in params.students:
        return [("sweep.start", no_such(sweep.start, params.students, "student"))]
    problems = []
    for key, extremes in sweep.extremes().items():
        values = sweep.vary[key]
        if isinstance(values, Range):
            problems += [(f"sweep.vary.{key}", problem) for problem in range_problems(values, sweep.sampler)]
        problems += [problem for value in extremes for problem in value_problems(params, key, value)]
    if sweep.sampler != "grid" and not sweep.students:
        problems.append(("sweep.students", f"missing; say how many {sweep.sampler} may try"))
    if sweep.sampler == "nsga2" and sweep.together < 2:
        problems.append(("sweep.together", "is a generation of nsga2, which needs parents; give 2 or more"))
    start = params.student(sweep.start)
    if start.separate:
        problems.append(("sweep.start", f"{sweep.start} is one network per task (separate); a sweep is of single networks"))
    if start.extends:
        problems.append(("sweep.start", f"{sweep.start} extends another student; those of a sweep begin afresh"))
    for key in sweep.vary:
        nested_keys = [nested_key for nested_key in sweep.vary if nested_key.startswith(f"{key}.")]
        problems += [(f"sweep.vary.{key}", f"{nested_key} is part of it; vary one of the two") for nested_key in nested_keys]
    if sweep.keep < 1 and (start.head_updates or "head_updates" in sweep.vary or sweep.sampler == "nsga2"):
        problems.append(
            ("sweep.keep", "stops students by one number, an early score of their heads: not with head_updates or nsga2")
        )
    updates = sweep.vary.get("updates", [])
    if sweep.keep < 1 and (isinstance(updates, Range) or len(updates) > 1):
        problems.append(("sweep.keep", "compares students after the same share of their updates: not where these vary"))
    return problems


def swept(params: Params, choice: dict[str, Any]) -> tuple[Student, FilledStudent]:
    """The student of one combination of values, as params would have it and with nothing left open. Raises ParamsError."""
    spec = params.varied({key: value for key, value in choice.items() if key != "seed"})
    student = params.filled(spec)
    for where, problem in student_problems(params, f"sweep, {choice}", student):
        raise ParamsError(f"{where}: {problem}")
    return spec, student


def check_grid(params: Params) -> None:
    """Raises ParamsError for a student of a grid that could not learn. Of a search nobody knows which students it will try."""
    if params.sweep and params.sweep.sampler == "grid":
        for choice in params.sweep.combinations():
            swept(params, choice)


def range_problems(values: Range, sampler: str) -> list[str]:
    low, high, step = values.low, values.high, values.step
    whole = isinstance(low, int) and isinstance(high, int)
    problems = []
    if not -inf < low <= high < inf:
        problems.append(f"nothing lies between {low} and {high}; give low below high")
    if values.log and low <= 0:
        problems.append(f"log needs numbers above 0, got low {low}")
    if values.log and step is not None:
        problems.append("log and step: give one of them")
    if step is not None and (not 0 < step < inf or (whole and step % 1)):
        problems.append(f"expected a step above 0, whole between whole numbers, got {step}")
    if sampler == "grid":
        problems.append("a grid takes lists of values; for a range choose sampler tpe or nsga2")
    return problems


def value_problems(params: Params, key: str, value: Any) -> list[Problem]:
    where = f"sweep.vary.{key}"
    if key in ("extends", "frozen", "separate"):
        return [(where, "those of a sweep begin afresh, as single networks; drop this key")]
    if key == "tasks":
        return [(where, "students of different tasks cannot be ranked together; drop this key")]
    if key == "seed":
        return [] if isinstance(value, int) and value >= 0 else [(where, f"expected seed numbers, 0, 1, ..., got {value!r}")]
    if (name := key.split(".")[0]) not in Student.model_fields:
        return [(where, f"not a parameter of a student{near(name, Student.model_fields)}")]
    try:
        student = params.varied({key: value})
        return [] if student.reads in stores(params) else [(where, no_store(student.reads, params))]
    except ValidationError as error:
        return [(where, f"{first_problem(error, {})}, for {value!r}")]
    except (KeyError, TypeError, AttributeError):
        return [(where, "not a parameter of a student")]
