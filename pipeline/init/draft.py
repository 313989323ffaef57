"""What a project for your own data begins with: params with comments, and how long it should train."""

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ruamel.yaml.comments import CommentedMap

from pipeline.project.class_spec import CLONE, ClassSpec
from pipeline.project.commented import flow, round_trip

UPDATES = (300, 2000)  # of a teacher, at least and at most
BATCH = 64
STUDENT = 600  # updates, at most


@dataclass
class Draft:
    """params: as `round_trip` loads them. said: what was found, in words. bad: labels that cannot be used."""

    params: Any
    said: list[str]
    bad: list[str] = field(default_factory=list)


def first_params() -> Any:
    """The demo's params, with their comments; each domain then sets its own."""
    text = (CLONE / "params.yaml").read_text("utf-8")
    params = round_trip().load(text)
    comment = re.search(r"((?:^# .*\n)+)^sweep:", text, re.MULTILINE)  # YAML attaches it to students, which are replaced here
    assert comment
    params.yaml_set_comment_before_after_key("sweep", before="\n" + re.sub("^# ", "", comment[1].strip(), flags=re.MULTILINE))
    del params["distill"]["logit_loss"]  # chosen on the demo's maps, untried on other data
    params["fusions"] = {name: params["fusions"][name] for name in ("none", "pca")}
    params["report"] |= {"baseline": "single", "strip": flow(["labels", "fused"])}
    return params


def set_sizes(params: Any, rows: dict[str, float], passes: int) -> int:
    """Set the batch size, and the updates of teachers; returns those of a student.

    rows: {task: labelled rows to learn from}. passes: of a teacher over them.
    """
    batch = int(min(BATCH, 2 ** np.floor(np.log2(max(4, 0.7 * min(rows.values()))))))
    params["train_teacher"]["batch_size"] = params["distill"]["batch_size"] = batch
    for teacher in params["teachers"].values():
        labelled_rows = max(rows[task] for task in teacher["tasks"])
        teacher["updates"] = int(np.clip(passes * labelled_rows // batch, *UPDATES) // 100 * 100)
    return min(STUDENT, max(teacher["updates"] for teacher in params["teachers"].values()))


def students(updates: int, logits: float) -> dict[str, Any]:
    """On fused features, on logits, on labels in one network, on labels in one network per task. logits: their weight."""
    return {
        "fused": flow({"reads": "pca", "updates": updates, "weights": {"fused": 1, "logits": logits, "labels": 1}}),
        "logits": flow({"reads": "none", "updates": updates, "weights": {"logits": logits, "labels": 1}}),
        "labels": flow({"reads": "transfer", "updates": updates, "weights": {"labels": 1}}),
        "single": flow({"reads": "transfer", "updates": updates, "weights": {"labels": 1}, "separate": True}),
    }


def baseline(updates: int, **encoder: Any) -> Any:
    """A student on labels alone, with another encoder."""
    return flow({"reads": "transfer", "updates": updates, "weights": {"labels": 1}, "encoder": encoder})


def built(source: dict[str, Any]) -> Any:
    """The source that params name. Raises ParamsError."""
    spec = ClassSpec.model_validate(source)
    spec._where = "prepare.source"
    return spec.build(seed=0)


def commented(source: dict[str, Any], comments: dict[str, str]) -> CommentedMap:
    """A source with lists, and mappings two levels down, on one line, and comments after some keys."""
    mapping = CommentedMap({key: flow(value) if isinstance(value, list) else value for key, value in source.items()})
    for key, value in mapping.items():
        if isinstance(value, dict):
            mapping[key] = CommentedMap({name: inner_flow(inner) for name, inner in value.items()})
    for key, comment in comments.items():
        if key in mapping:
            mapping.yaml_add_eol_comment(comment, key, column=0)
    return mapping


def inner_flow(value: Any) -> Any:
    has_mappings = isinstance(value, list) and any(isinstance(item, dict) for item in value)
    return [flow(item) for item in value] if has_mappings else flow(value) if isinstance(value, dict | list) else value
