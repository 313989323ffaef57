"""What is wrong in params.yaml that no single section can know, as (where, what): names that lead nowhere, students that could
not learn."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.project.class_spec import near
from pipeline.project.params import Params
from pipeline.project.sections import KNOWLEDGE, LONGEST_NAME, FilledStudent

Problem = tuple[str, str]  # where, what


def student_problems(params: Params, where: str, student: FilledStudent) -> list[Problem]:
    knowledge = student.weights.keys() & KNOWLEDGE
    problems = [(f"{where}.tasks", no_such(task, params.tasks, "task")) for task in student.tasks if task not in params.tasks]
    problems += [
        (f"{where}.labelled", no_such(task, student.tasks, "task")) for task in student.labelled if task not in student.tasks
    ]
    if not student.separate and (length := len("+".join(student.tasks))) > LONGEST_NAME:
        problems.append(
            (f"{where}.tasks", f"joined, their names are its file's: {length} characters; shorten them to {LONGEST_NAME}")
        )
    if student.separate and student.labelled:
        problems.append((f"{where}.labelled", "one network per task (separate) learns from its own labels; drop this key"))
    untaught = [task for task in student.tasks if task not in student.labelled] if student.labelled else []
    if untaught and not student.separate and "logits" not in student.weights and not student.extends:
        problems.append(
            (f"{where}.labelled", f"nothing trains the head of {untaught[0]}; weight logits, or take it out of tasks")
        )
    if student.reads not in stores(params):
        problems.append((f"{where}.reads", no_store(student.reads, params)))
    if student.temperature and student.logit_loss and "logits" in student.weights:
        problems.append((f"{where}.temperature", "the logit_loss has its own or none; give logit_loss: null, or drop this key"))
    if not student.weights:
        problems.append((f"{where}.weights", "all are zero: nothing to learn from; give fused, logits or labels a weight"))
    if student.reads == "transfer" and knowledge:
        problems.append(
            (f"{where}.reads", f"transfer holds no knowledge for the weight of {min(knowledge)}; read a fusion's store")
        )
    if not student.weights.keys() & {"logits", "labels"} and not student.head_updates:
        problems.append(
            (f"{where}.head_updates", "fused features alone train no head; give head_updates, or weight logits or labels")
        )
    return problems


def extension_problems(params: Params, name: str) -> list[Problem]:
    """Problems of a student that begins as another, which must exist before it and be like it."""
    where, student = f"students.{name}", params.student(name)
    if student.frozen and "fused" in student.weights:
        return [(f"{where}.weights.fused", "teaches the encoder, which is frozen; leave it out")]
    if not student.extends:
        return [(f"{where}.frozen", "keeps the encoder of a student that it extends; name that one")] if student.frozen else []
    chain, where = [name], f"{where}.extends"
    while (earlier := params.students[chain[-1]].extends) in params.students:
        if earlier in chain:
            return [(where, f"a circle: {' extends '.join([*chain, earlier])}")]
        chain.append(earlier)
    if earlier:
        return [(where, no_such(earlier, params.students, "student"))]
    extended = params.student(student.extends)
    if student.separate or extended.separate:
        return [(where, "one network per task (separate) neither extends another nor is extended")]
    if student.encoder.as_dict() != extended.encoder.as_dict():
        return [(where, f"the encoder of {student.extends} differs; give both the same")]
    return []


def teacher_problems(params: Params, name: str) -> list[Problem]:
    where, teacher = f"teachers.{name}", params.teachers[name]
    problems = [(f"{where}.tasks", no_such(task, params.tasks, "task")) for task in teacher.tasks if task not in params.tasks]
    if (teacher.encoder is None) == (teacher.imported is None):
        problems.append((where, "expected either encoder or imported; give one of them"))
    elif teacher.imported:
        training_keys = teacher.model_fields_set - {"tasks", "imported", "recipes"}
        problems += [(f"{where}.{key}", "an imported teacher is not trained; drop this key") for key in sorted(training_keys)]
        task_outputs = {f"logits/{task}" for task in teacher.tasks}
        logit_outputs = {output for output in teacher.imported.outputs if not output.startswith("features/")}
        mismatches = sorted(task_outputs ^ logit_outputs)
        problems += [
            (f"{where}.imported.outputs", f"{output} is only here or only in tasks; name it in both") for output in mismatches
        ]
    elif teacher.encoder and "pretrained" in teacher.encoder.arguments:
        problems.append(
            (f"{where}.encoder.pretrained", f"belongs one level up, as {where}.pretrained, where it is a dependency")
        )
    elif teacher.updates and not teacher.tasks:
        problems.append((f"{where}.updates", "there is no task to train it on; name tasks, or give 0 updates"))
    return problems


def recipe_problems(params: Params) -> list[Problem]:
    """Recipes for tasks that a teacher lacks, or for fields of another kind."""
    recipes = {f"extract.{kind}": (kind, getattr(params.extract, kind)) for kind in ("features", "logits")}
    recipes["fuse.fused"] = "fused", params.fuse.fused
    problems = []
    for teacher, spec in params.teachers.items():
        for field, recipe in spec.recipes.items():
            where, (kind, _, name) = f"teachers.{teacher}.recipes.{field}", field.partition("/")
            recipes[where] = kind, recipe
            if kind not in ("features", "logits") or not name:
                problems.append((where, "expected features/<tap> or logits/<task>"))
            elif kind == "logits" and name not in spec.tasks:
                problems.append((where, no_such(name, spec.tasks, "task of this teacher")))
    for where, (kind, recipe) in recipes.items():
        keys = [key for key in ("dims", "top_k", "sampled") if getattr(recipe, key)]
        allowed_keys = {"features": ["dims"], "logits": ["top_k", "sampled"]}.get(kind, [])
        choices = " or ".join(allowed_keys) or "neither"
        problems += [
            (f"{where}.{key}", f"not for such a field, which takes {choices}") for key in keys if key not in allowed_keys
        ]
        if len(keys) > 1:
            problems.append((where, f"{' and '.join(keys)}: give one of them"))
    return problems


def stores(params: Params) -> set[str]:
    """What a student may read: the transfer set, what fusions make, and what `dvc import` brought beside them."""
    imported = {file.name.removesuffix(".zarr.dvc") for file in Path("data/knowledge").glob("*.zarr.dvc")}
    return {"transfer", *params.fusions, *imported}


def no_store(name: str, params: Params) -> str:
    path = Path(f"data/knowledge/{name}.zarr")
    if path.exists():
        return f"{path} is not known to DVC: run `dvc add {path}`"
    return f"{no_such(name, stores(params), 'store')}; fetch one of another project by `dvc import URL PATH -o {path}`"


def no_such(name: str, names: Any, what: str) -> str:
    return f"no {what} named {name!r}{near(name, names)}; there are {', '.join(sorted(names))}"


def first_problem(error: ValidationError, content: Any) -> str:
    """pydantic's first complaint, in our words."""
    problem = min(error.errors(), key=lambda entry: entry["type"] != "extra_forbidden")  # a typo makes another key missing
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
