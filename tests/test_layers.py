"""The house rules of DESIGN.md, section 3, kept by a test."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.class_spec import CLONE
from pipeline.dependencies import closure, code_deps, imports
from pipeline.lineage import open_project

FLOORS = [
    {"atomic", "checks", "encoding", "frames", "layout", "mapped", "recipes", "root", "shard", "store", "writer"}
    | {"inspection", "trust"}
    | {
        "seeds",
        "cost",
        "class_spec",
        "commented",
        "params",
        "sections",
        "validation",
        "problems",
        "sweep_problems",
        "dependencies",
        "lineage",
        "promotion",
        "manners",
        "sources/*",
        "dumps/*",
    },
    {"sparse", "losses/*", "tasks/*", "encoders/*", "to_logits/*", "network", "fusions/*", "balances/*"},
    {
        "device",
        "pools",
        "batches",
        "extraction",
        "agreement",
        "fitting",
        "objective",
        "optimize",
        "checkpoints",
        "learning",
        "scoring",
        "unseen",
    }
    | {"staging", "stack", "distilling", "sweeping", "leaderboard", "taps", "imported", "acceptance"}
    | {"planning", "summary", "pictures", "page", "prediction", "export", "model_card", "project"},
    {"cli", "stages/*"},
]
FILES = sorted(
    file for folder in ("pipeline", "stages") for file in (CLONE / folder).rglob("*.py") if file.name != "__init__.py"
)


def floor(file: Path) -> int:
    name = file.relative_to(CLONE).with_suffix("").as_posix().removeprefix("pipeline/")
    (found,) = [n for n, names in enumerate(FLOORS) if name in names or f"{Path(name).parent}/*" in names]
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(CLONE).as_posix())
def test_a_file_imports_from_its_floor_or_below(file):
    for found in imports(file, CLONE):
        assert floor(found) <= floor(file), f"{found} is above {file}"


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


def test_the_first_floor_needs_no_torch():
    modules = [".".join(f.relative_to(CLONE).with_suffix("").parts) for f in FILES if floor(f) == 0]
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
COMMON = ["stages/*", *(f"pipeline/{name}" for name in ("fusions/*", "losses/*", "balances/*"))] + [
    f"pipeline/{name}.py"
    for name in ("optimize", "learning", "objective", "batches", "network", "store", "writer", "shard", "layout", "recipes")
]


def words_in(file: Path) -> set[str]:
    """Names, and what docstrings and comments say; `click` is a library here."""
    text = re.sub(r"import click|click\.\w+|(read|write)_text", "", file.read_text())
    return {word.lower() for name in re.findall(r"[A-Za-z]+", text) for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}


@pytest.mark.parametrize("pattern", COMMON)
def test_no_stage_fusion_loss_loop_or_store_names_a_domain(pattern):
    files = [file for file in CLONE.glob(pattern) if file.suffix == ".py"]
    assert files
    for file in files:
        assert not {word for word in words_in(file) if DOMAINS.fullmatch(word)}, file


@pytest.mark.parametrize("folder", sorted((CLONE / "examples").iterdir()), ids=lambda folder: folder.name)
def test_an_example_is_in_step_with_the_code(folder, monkeypatch):
    monkeypatch.chdir(folder)
    open_project()
