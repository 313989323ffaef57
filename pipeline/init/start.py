"""A project folder for your own data: params with comments, stages, git and DVC, from what the data look like."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.init.draft import Draft
from pipeline.planning import Plan, make_plan
from pipeline.project.class_spec import CLONE
from pipeline.project.commented import dumped
from pipeline.project.lineage import sync
from pipeline.project.validation import load_params
from pipeline.sources.vision.images import ENDINGS as IMAGES

PARAMS = Path("params.yaml")
DVC_CONFIG = """[core]
    analytics = false
    check_update = false
[cache]
    type = "reflink,hardlink,copy"
"""


def start(folder: Path, data: Path, domain: str | None = None) -> tuple[Draft, Plan]:
    """Make a project in a folder. data: a file, or a folder of them. domain: see `first_draft`. Returns its draft, and the
    run's plan.

    Raises ValueError, and then leaves nothing behind.
    """
    if folder.is_file():
        raise ValueError(f"{folder}: is a file; name a folder for the project, and give the file with --data")
    if any((folder / name).exists() for name in ("params.yaml", "dvc.yaml")):
        raise ValueError(f"{folder}: has a params.yaml or dvc.yaml already; choose another folder, or remove them")
    if not data.exists():
        raise ValueError(f"{data}: no such file or folder; give that of your images, texts or log with --data")
    is_new = not folder.exists()
    data = data.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    earlier_paths = set(folder.iterdir())
    try:
        with contextlib.chdir(folder):
            is_near = data.is_relative_to(Path.cwd().parent)
            draft = first_draft(Path(os.path.relpath(data)) if is_near else data, domain)
            write(draft.params)
            shutil.copyfile(CLONE / "dvc.yaml", "dvc.yaml")
            sync()
            plan = make_plan(load_params(PARAMS), Path("data"))
            plan = replace(plan, shard_rows=plan.better_shard_rows)
            draft.params["prepare"]["shard_rows"] = plan.shard_rows
            write(draft.params)
            under_version_control()
    except BaseException:
        for path in set(folder.iterdir()) - earlier_paths:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if is_new:
            folder.rmdir()
        raise
    return draft, plan


def first_draft(data: Path, domain: str | None) -> Draft:
    """domain: vision, text or recsys; if None, of images if there are any, else of a log if a table has users, items and times,
    else of texts. Raises ValueError."""
    files = below(data)
    has_images = any(path.suffix.lower() in IMAGES for path in files)
    if domain == "vision" and not has_images:
        raise ValueError(f"{data}: no image below this folder")
    if has_images and domain in ("vision", None):
        from pipeline.init import vision  # each needs libraries of its domain alone

        return vision.draft(data, files)
    if files_in_data := [path for path in files if path.resolve().is_relative_to(Path("data").resolve())]:
        raise ValueError(f"{files_in_data[0]}: is where the project's stores would be; make the project in another folder")
    if domain != "text":
        from pipeline.init import recsys

        if log := recsys.draft(files):
            return log
        if domain:
            raise ValueError(f"{data}: no log, a table whose columns are called user, item and time")
    from pipeline.init import text

    return text.draft(files, data)


def below(data: Path) -> list[Path]:
    """A file, or all files of a folder except hidden ones."""
    if data.is_file():
        return [data]
    paths = (path for path in data.rglob("*") if path.is_file())
    return sorted(path for path in paths if not any(part[0] == "." for part in path.relative_to(data).parts))


def write(params: Any) -> None:
    text = re.sub(r"^( .*)\n(?=[a-z_]+:)", r"\1\n\n", dumped(params), flags=re.MULTILINE)  # ruamel drops blank lines
    PARAMS.write_text(text, "utf-8")


def under_version_control() -> None:
    """git and DVC, unless the folder is inside a repository of theirs already."""

    def run(*command: str) -> None:
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            raise ValueError(f"`{' '.join(command)}` failed: {result.stderr or result.stdout}")

    folders = [Path.cwd(), *Path.cwd().parents]
    root = next((path for path in folders if (path / ".git").exists()), None)
    if root is None:
        run("git", "init", "-q")
        root = Path.cwd()
    if not any((path / ".dvc").is_dir() for path in folders[: folders.index(root) + 1]):
        run(sys.executable, "-m", "dvc", "init", "-q", *([] if root == Path.cwd() else ["--subdir"]))
        Path(".dvc/config").write_text(DVC_CONFIG)
    if not Path(".gitignore").exists():
        ignored_folders = "/predictions/\n/exports/\n/dvc_plots/\n"
        # folders are walked: DVC looks for what it was told to import as git does
        Path(".gitignore").write_text(f"/data/**\n!/data/**/\n!/data/knowledge/*.dvc\n{ignored_folders}")
