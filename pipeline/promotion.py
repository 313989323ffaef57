"""A winner of the sweep becomes one of the project's students."""

import json
import os
from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedMap

from pipeline.class_spec import ParamsError, near
from pipeline.commented import round_trip
from pipeline.validation import load_params


def promote(name: str, new_name: str, leaderboard: Path, path: Path) -> None:
    """Write the student that a leaderboard calls `name` into the params at `path`; all else there stays. Raises ParamsError."""
    try:
        found = {line["name"]: line for line in json.loads(leaderboard.read_text())}
    except FileNotFoundError:
        raise ParamsError(f"{leaderboard}: not found; make it: dvc repro sweep") from None
    except ValueError as error:
        raise ParamsError(f"{leaderboard}: cannot be read as JSON ({error}); make it again: dvc repro sweep") from None
    if name not in found:
        raise ParamsError(f"{leaderboard}: no student named {name!r}{near(name, found)}")
    if new_name in load_params(path).students:
        raise ParamsError(f"{path}: students.{new_name}: there is one already; choose another name: --as NAME")
    yaml = round_trip()
    content = yaml.load(path.read_text())
    content["students"].insert(0, new_name, in_flow(found[name]["student"]))
    draft = path.with_suffix(".tmp")
    with draft.open("w") as file:
        yaml.dump(content, file)
    try:
        load_params(draft)
    except ParamsError:
        draft.unlink()
        raise
    os.replace(draft, path)


def in_flow(value: Any) -> Any:
    """A mapping as one line, {like: this}."""
    if not isinstance(value, dict):
        return value
    flow = CommentedMap({key: in_flow(x) for key, x in value.items()})
    flow.fa.set_flow_style()
    return flow
