"""What is wrong in params.yaml that no single section can know, as (where, what): names that lead nowhere, students that could
not learn."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.project.class_spec import near
from pipeline.project.params import Params
from pipeline.project.sections import KNOWLEDGE, LONGEST, FilledStudent

Problem = tuple[str, str]  # where, what


def student_problems(params: Params, where: str, student: FilledStudent) -> list[Problem]:
    knowledge = student.weights.keys() & KNOWLEDGE
    found = [(f"{where}.tasks", no_such(task, params.tasks, "task")) for task in student.tasks if task not in params.tasks]
    found += [
        (f"{where}.labelled", no_such(task, student.tasks, "task")) for task in student.labelled if task not in student.tasks
    ]
    if not student.separate and (joined := len("+".join(student.tasks))) > LONGEST:
        found.append((f"{where}.tasks", f"joined, their names are its file's: {joined} characters; shorten them to {LONGEST}"))
    if student.separate and student.labelled:
        found.append((f"{where}.labelled", "one network per task (separate) learns from its own labels; drop this key"))
    untaught = [task for task in student.tasks if task not in student.labelled] if student.labelled else []
    if untaught and not student.separate and "logits" not in student.weights and not student.extends:
        found.append((f"{where}.labelled", f"nothing trains the head of {untaught[0]}; weight logits, or take it out of tasks"))
    if student.reads not in stores(params):
        found.append((f"{where}.reads", no_store(student.reads, params)))
    if student.temperature and student.logit_loss and "logits" in student.weights:
        found.append((f"{where}.temperature", "the logit_loss has its own or none; give logit_loss: null, or drop this key"))
    if not student.weights:
        found.append((f"{where}.weights", "all are zero: nothing to learn from; give fused, logits or labels a weight"))
    if student.reads == "transfer" and knowledge:
        found.append(
            (f"{where}.reads", f"transfer holds no knowledge for the weight of {min(knowledge)}; read a fusion's store")
        )
    if not student.weights.keys() & {"logits", "labels"} and not student.head_updates:
        found.append(
            (f"{where}.head_updates", "fused features alone train no head; give head_updates, or weight logits or labels")
        )
    return found


def extension_problems(params: Params, name: str) -> list[Problem]:
    """Problems of a student that begins as another, which must exist before it and be like it."""
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
        return [(where, no_such(earlier, params.students, "student"))]
    other = params.student(student.extends)
    if student.separate or other.separate:
        return [(where, "one network per task (separate) neither extends another nor is extended")]
    if student.encoder.as_dict() != other.encoder.as_dict():
        return [(where, f"the encoder of {student.extends} differs; give both the same")]
    return []


def teacher_problems(params: Params, name: str) -> list[Problem]:
    where, teacher = f"teachers.{name}", params.teachers[name]
    found = [(f"{where}.tasks", no_such(task, params.tasks, "task")) for task in teacher.tasks if task not in params.tasks]
    if (teacher.encoder is None) == (teacher.imported is None):
        found.append((where, "expected either encoder or imported; give one of them"))
    elif teacher.imported:
        trained = teacher.model_fields_set - {"tasks", "imported", "recipes"}
        found += [(f"{where}.{key}", "an imported teacher is not trained; drop this key") for key in sorted(trained)]
        wanted = {f"logits/{task}" for task in teacher.tasks}
        logits = {output for output in teacher.imported.outputs if not output.startswith("features/")}
        odd = sorted(wanted ^ logits)
        found += [(f"{where}.imported.outputs", f"{output} is only here or only in tasks; name it in both") for output in odd]
    elif teacher.encoder and "pretrained" in teacher.encoder.arguments:
        found.append((f"{where}.encoder.pretrained", f"belongs one level up, as {where}.pretrained, where it is a dependency"))
    elif teacher.updates and not teacher.tasks:
        found.append((f"{where}.updates", "there is no task to train it on; name tasks, or give 0 updates"))
    return found


def recipe_problems(params: Params) -> list[Problem]:
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
                found.append((where, no_such(name, spec.tasks, "task of this teacher")))
    for where, (kind, recipe) in recipes.items():
        given = [key for key in ("dims", "top_k", "sampled") if getattr(recipe, key)]
        fit = {"features": ["dims"], "logits": ["top_k", "sampled"]}.get(kind, [])
        known = " or ".join(fit) or "neither"
        found += [(f"{where}.{key}", f"not for such a field, which takes {known}") for key in given if key not in fit]
        if len(given) > 1:
            found.append((where, f"{' and '.join(given)}: give one of them"))
    return found


def stores(params: Params) -> set[str]:
    """What a student may read: the transfer set, what fusions make, and what `dvc import` brought beside them."""
    imported = {file.name.removesuffix(".zarr.dvc") for file in Path("data/knowledge").glob("*.zarr.dvc")}
    return {"transfer", *params.fusions, *imported}


def no_store(name: str, params: Params) -> str:
    path = Path(f"data/knowledge/{name}.zarr")
    if path.exists():
        return f"{path} is not known to DVC: run `dvc add {path}`"
    return f"{no_such(name, stores(params), 'store')}; fetch one of another project by `dvc import URL PATH -o {path}`"


def no_such(name: str, known: Any, what: str) -> str:
    return f"no {what} named {name!r}{near(name, known)}; there are {', '.join(sorted(known))}"


def first_problem(error: ValidationError, content: Any) -> str:
    """pydantic's first complaint, in our words."""
    problem = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")  # a typo makes another key missing
    path = [part for part in problem["loc"] if part != "[key]"]
    where = ".".join(map(str, path))
    if problem["type"] == "extra_forbidden":
        return f"{where}: unknown key{near(str(path[-1]), known_keys(path[:-1]))}"
    if problem["type"] == "missing":
        return f"{where}: missing; it must be given"
    if "[key]" in problem["loc"] and problem["type"] == "string_pattern_mismatch":
        return f"{where}: a name has letters, digits, - and _ alone, since it names files"
    if "[key]" in problem["loc"] and problem["type"] == "string_type":
        return f"{where}: YAML reads this name as {problem['input']!r}; put it in quotes"
    return f"{where}: {problem['msg'].lower()}, got {problem['input']!r}"


def known_keys(path: list[Any]) -> list[str]:
    """Keys of the section at a path of params.yaml."""
    model: Any = Params
    for part in path:
        if isinstance(part, str) and part in getattr(model, "model_fields", {}):
            annotation = model.model_fields[part].annotation
            model = next((a for a in getattr(annotation, "__args__", [])[::-1] if hasattr(a, "model_fields")), annotation)
    return [f.alias or name for name, f in getattr(model, "model_fields", {}).items()]
