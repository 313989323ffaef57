"""params.yaml read and checked. Whatever is wrong in it is one line: what, where, what was expected, what to do."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml.error import YAMLError

from pipeline.class_spec import ParamsError, near
from pipeline.commented import plain
from pipeline.params import Params, class_specs
from pipeline.sections import FilledStudent, Range


def load_params(path: Path) -> Params:
    """Read and check params.yaml; classes are not imported. Raises ParamsError."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise ParamsError(f"{path}: not found; run this in a project folder, one with params.yaml and dvc.yaml") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    return parse_params(text, path)


def parse_params(text: str, path: Path) -> Params:
    """Check the text of a params.yaml that lies, or will lie, at `path`. Raises ParamsError."""
    try:
        content = plain().load(text)
    except YAMLError as error:
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


def first_problem(error: ValidationError, content: Any) -> str:
    """pydantic's first complaint in our words."""
    problem = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")  # a typo makes another key missing
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


def problems(params: Params) -> list[tuple[str, str]]:
    """What no single section can know: names that lead nowhere, students that could not learn."""
    found = [p for name in params.students for p in student_problems(params, f"students.{name}", params.student(name))]
    found += [p for name in params.students for p in extension_problems(params, name)]
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
    if start.extends:
        found.append(("sweep.start", f"{sweep.start} extends another student; those of a sweep begin afresh"))
    for key in sweep.vary:
        inside = [other for other in sweep.vary if other.startswith(f"{key}.")]
        found += [(f"sweep.vary.{key}", f"{other} is part of it; vary one of the two") for other in inside]
    if sweep.keep < 1 and (start.head_updates or "head_updates" in sweep.vary or sweep.sampler == "nsga2"):
        found.append(
            ("sweep.keep", "stops students by what their heads score early, for one number: not with head_updates or nsga2")
        )
    return found


def value_problems(params: Params, key: str, value: Any) -> list[tuple[str, str]]:
    where = f"sweep.vary.{key}"
    if key in ("extends", "frozen", "separate"):
        return [(where, "those of a sweep begin afresh, as single networks; drop this key")]
    if key == "tasks":
        return [(where, "students of other tasks cannot be ranked with one another; drop this key")]
    if key == "seed":
        return (
            [] if isinstance(value, int) and value >= 0 else [(where, f"expected numbers of seeds, 0, 1, ..., got {value!r}")]
        )
    try:
        student = params.varied({key: value})
        return [] if student.reads in stores(params) else [(where, no_store(student.reads, params))]
    except ValidationError as error:
        return [(where, f"{first_problem(error, {})}, for {value!r}")]
    except (KeyError, TypeError, AttributeError):
        return [(where, "not a parameter of a student")]


def student_problems(params: Params, where: str, student: FilledStudent) -> list[tuple[str, str]]:
    knowledge = student.weights.keys() & {"fused", "logits"}
    found = [(f"{where}.tasks", lead(task, params.tasks, "task")) for task in student.tasks if task not in params.tasks]
    found += [
        (f"{where}.labelled", lead(task, student.tasks, "task")) for task in student.labelled if task not in student.tasks
    ]
    if student.separate and student.labelled:
        found.append((f"{where}.labelled", "one network a task (separate) learns from the labels of its own"))
    untaught = [task for task in student.tasks if task not in student.labelled] if student.labelled else []
    if untaught and not student.separate and "logits" not in student.weights and not student.extends:
        found.append((f"{where}.labelled", f"nothing trains the head of {untaught[0]}; weigh logits, or take it out of tasks"))
    if student.reads not in stores(params):
        found.append((f"{where}.reads", no_store(student.reads, params)))
    if student.temperature and student.logit_loss and "logits" in student.weights:
        found.append((f"{where}.temperature", "the logit_loss has its own, if any; give logit_loss: null, or drop this key"))
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


def extension_problems(params: Params, name: str) -> list[tuple[str, str]]:
    """Of a student that begins as another, which must be there before it, and be alike."""
    where, student = f"students.{name}", params.student(name)
    if student.frozen and "fused" in student.weights:
        return [(f"{where}.weights.fused", "teaches the encoder, which is frozen; leave it out")]
    if not student.extends:
        return [(f"{where}.frozen", "keeps the encoder of a student that it extends; name that one")] if student.frozen else []
    before, where = [name], f"{where}.extends"
    while (earlier := params.students[before[-1]].extends) in params.students:
        if earlier in before:
            return [(where, f"a circle: {' extends '.join([*before, earlier])}")]
        before.append(earlier)
    if earlier:
        return [(where, lead(earlier, params.students, "student"))]
    other = params.student(student.extends)
    if student.separate or other.separate:
        return [(where, "one network a task (separate) neither extends another nor is extended")]
    if student.encoder.as_dict() != other.encoder.as_dict():
        return [(where, f"the encoder of {student.extends} is another; give both the same")]
    return []


def stores(params: Params) -> set[str]:
    """What a student may read: the transfer set, what fusions make, and what `dvc import` brought beside them."""
    imported = {file.name.removesuffix(".zarr.dvc") for file in Path("data/knowledge").glob("*.zarr.dvc")}
    return {"transfer", *params.fusions, *imported}


def no_store(name: str, params: Params) -> str:
    path = Path(f"data/knowledge/{name}.zarr")
    if path.exists():
        return f"{path} is not known to DVC: run `dvc add {path}`"
    return lead(name, stores(params), "store")


def lead(name: str, known: Any, what: str) -> str:
    return f"no {what} named {name!r}{near(name, known)}; there are {', '.join(sorted(known))}"
