"""The rules of the house (CONTRIBUTING.md), kept by a test."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.project.class_spec import CLONE
from pipeline.project.dependencies import closure, code_deps, imports
from pipeline.project.lineage import open_project

# A file imports from its own room, or from those before it. `pipeline/` is left out of names.
NO_TORCH = ["atomic", "seeds", "cost", "stores", "project", "manners", "sources", "dumps"]
ROOMS = [
    *NO_TORCH,
    *("device", "batches", "losses", "balances", "fusions", "tasks", "to_logits", "network", "encoders", "evaluation"),
    *("checkpoints", "teachers", "training", "reports", "deployment", "sweeps", "planning", "init", "cli", "stages"),
]
FILES = sorted(
    file for folder in ("pipeline", "stages") for file in (CLONE / folder).rglob("*.py") if file.name != "__init__.py"
)


def room(file: Path) -> str:
    return file.relative_to(CLONE).with_suffix("").as_posix().removeprefix("pipeline/").split("/")[0]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(CLONE).as_posix())
def test_a_file_imports_from_its_room_or_from_those_before(file):
    for found in imports(file, CLONE):
        assert ROOMS.index(room(found)) <= ROOMS.index(room(file)), f"{file} imports {found}"


def test_the_map_has_every_file_and_the_rooms_in_their_order():
    map_of = (CLONE / "README.md").read_text().partition("\npipeline/ ")[2].partition("\nexamples/ ")[0]
    _, *parts = re.split(r"^  (\w+)(?=/|\.py)", map_of, flags=re.MULTILINE)
    said = dict(zip(parts[::2], parts[1::2], strict=True))
    assert [*said, "stages"] == ROOMS
    for file in FILES:
        if file.parent.parent.name != CLONE.name:  # in a room, whose part names it
            assert file.name in re.findall(r"\w+\.py", said[room(file)]), file


def test_imports_form_no_circle():
    for file in FILES:
        assert file not in closure(imports(file, CLONE))


@pytest.mark.parametrize("file", [f for f in FILES if f.parent.name == "stages"], ids=lambda file: file.stem)
def test_stages_are_short_and_know_no_other_stage(file):
    assert len(file.read_text().splitlines()) <= 80
    assert not [found for found in imports(file, CLONE) if found.parent.name == "stages"]


def test_init_files_are_empty():
    assert all(file.stat().st_size == 0 for folder in ("pipeline", "stages") for file in (CLONE / folder).rglob("__init__.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(CLONE).as_posix())
def test_no_function_body_is_over_45_lines(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            assert not body or body[-1].end_lineno - body[0].lineno < 45, f"{file}:{node.lineno} {node.name}"


def test_stores_sources_and_params_need_no_torch():
    modules = [".".join(f.relative_to(CLONE).with_suffix("").parts) for f in FILES if room(f) in NO_TORCH]
    script = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], cwd=CLONE, check=True)


def test_code_deps_are_what_a_stage_really_imports(monkeypatch):
    """Against the interpreter: everything of ours in sys.modules after importing a stage is a dependency of it."""
    monkeypatch.chdir(CLONE)
    params = open_project()  # dvc.yaml is as `stillroom sync` writes it
    for stage in ("prepare", "extract", "distill"):
        ours = "[m.__file__ for n, m in sys.modules.items() if n.startswith(('pipeline.', 'stages.')) and m.__file__]"
        script = f"import sys, stages.{stage}; print(*{ours})"
        loaded = subprocess.run(
            [sys.executable, "-c", script], cwd=CLONE, check=True, capture_output=True, text=True
        ).stdout.split()
        loaded = {os.path.relpath(file, CLONE) for file in loaded if not file.endswith("__init__.py")}
        assert loaded <= set(code_deps(stage, params))


def test_what_students_need_reaches_no_teacher():
    for stage in ("distill", "evaluate"):
        names = {file.name for file in closure({CLONE / "stages" / f"{stage}.py"})}
        assert not names & {"train_teacher.py", "extract.py", "fuse.py"}


DOMAINS = re.compile(
    r"(image|vision|pixel|scene|digit|text|token|sentence|review|language|click|rating|movie|user)s?",
    re.IGNORECASE,
)
COMMON = [
    *(f"pipeline/{room}/*.py" for room in ("stores", "batches", "losses", "balances", "fusions", "training")),
    *("pipeline/network.py", "stages/*.py"),
]


def words_in(file: Path) -> set[str]:
    """Names, and what docstrings and comments say; `click` is a library here, and a cache a user's."""
    text = re.sub(r"import click|click\.\w+|(read|write)_text|user_cache_path", "", file.read_text())
    return {word.lower() for name in re.findall(r"[A-Za-z]+", text) for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}


@pytest.mark.parametrize("pattern", COMMON)
def test_no_stage_fusion_loss_loop_or_store_names_a_domain(pattern):
    files = list(CLONE.glob(pattern))
    assert files
    for file in files:
        assert not {word for word in words_in(file) if DOMAINS.fullmatch(word)}, file


@pytest.mark.parametrize("folder", sorted((CLONE / "examples").iterdir()), ids=lambda folder: folder.name)
def test_an_example_is_in_step_with_the_code(folder, monkeypatch):
    monkeypatch.chdir(folder)
    open_project()
