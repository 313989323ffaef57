"""A winner of the sweep becomes one of the project's students."""

import json
import os
from pathlib import Path

from pipeline.atomic import locked, write_whole
from pipeline.project.class_spec import ParamsError, near
from pipeline.project.commented import dumped, flow, round_trip
from pipeline.project.validation import load_params


def promote(name: str, new_name: str, leaderboard: Path, path: Path) -> None:
    """Write the student that a leaderboard calls `name` into the params at `path`; all else there stays. Raises ParamsError."""
    try:
        entries = {entry["name"]: entry for entry in json.loads(leaderboard.read_text())}
    except FileNotFoundError:
        raise ParamsError(f"{leaderboard}: not found; make it: dvc repro sweep") from None
    except ValueError as error:
        raise ParamsError(f"{leaderboard}: cannot be read as JSON ({error}); make it again: dvc repro sweep") from None
    if name not in entries:
        first_names = ", ".join(list(entries)[:3])
        raise ParamsError(
            f"{leaderboard}: no student named {name!r}{near(name, entries)}; the first of {len(entries)} are {first_names}"
        )
    load_params(path)
    with os.fdopen(locked(path, wait=True)):  # two at once would each write what both had read, and one student would be lost
        if new_name in load_params(path).students:
            raise ParamsError(f"{path}: students.{new_name}: there is one already; choose another name: --as NAME")
        content = round_trip().load(path.read_text("utf-8"))
        content["students"].insert(0, new_name, flow(entries[name]["student"]))
        text = dumped(content)
        load_params(path, text)
        write_whole(path, text.encode())
