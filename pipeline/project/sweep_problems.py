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
    found = []
    for key, tried in sweep.extremes().items():
        values = sweep.vary[key]
        if isinstance(values, Range):
            found += [(f"sweep.vary.{key}", problem) for problem in range_problems(values, sweep.sampler)]
        found += [problem for value in tried for problem in value_problems(params, key, value)]
    if sweep.sampler != "grid" and not sweep.students:
        found.append(("sweep.students", f"missing; say how many {sweep.sampler} may try"))
    if sweep.sampler == "nsga2" and sweep.together < 2:
        found.append(("sweep.together", "is a generation of nsga2, which needs parents; give 2 or more"))
    start = params.student(sweep.start)
    if start.separate:
        found.append(("sweep.start", f"{sweep.start} is one network per task (separate); a sweep is of single networks"))
    if start.extends:
        found.append(("sweep.start", f"{sweep.start} extends another student; those of a sweep begin afresh"))
    for key in sweep.vary:
        inside = [other for other in sweep.vary if other.startswith(f"{key}.")]
        found += [(f"sweep.vary.{key}", f"{other} is part of it; vary one of the two") for other in inside]
    if sweep.keep < 1 and (start.head_updates or "head_updates" in sweep.vary or sweep.sampler == "nsga2"):
        found.append(
            ("sweep.keep", "stops students by one number, an early score of their heads: not with head_updates or nsga2")
        )
    updates = sweep.vary.get("updates", [])
    if sweep.keep < 1 and (isinstance(updates, Range) or len(updates) > 1):
        found.append(("sweep.keep", "compares students after the same share of their updates: not where these vary"))
    return found


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
    found = []
    if not -inf < low <= high < inf:
        found.append(f"nothing lies between {low} and {high}; give low below high")
    if values.log and low <= 0:
        found.append(f"log needs numbers above 0, got low {low}")
    if values.log and step is not None:
        found.append("log and step: give one of them")
    if step is not None and (not 0 < step < inf or (whole and step % 1)):
        found.append(f"expected a step above 0, whole between whole numbers, got {step}")
    if sampler == "grid":
        found.append("a grid takes lists of values; for a range choose sampler tpe or nsga2")
    return found


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
