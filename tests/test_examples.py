"""Real `dvc repro` of the examples, made small."""

import shutil
import sys

import pytest

from pipeline.project.class_spec import CLONE
from pipeline.stores.store import open_store
from tests.reported import metrics_of
from tests.test_repro import edit, repro, run

pytestmark = pytest.mark.slow


def make_small(params):
    params["prepare"]["source"] |= {"unlabelled": 80, "val": 20, "test": 24, "unseen": 30}
    params["prepare"]["source"]["labelled"] = dict.fromkeys(params["tasks"], 100)
    params["prepare"]["shard_rows"] = 64
    for teacher in params["teachers"].values():
        teacher["updates"] = 8
    params["fusions"]["pca"]["dims"] = 8
    params["distill"] |= {"seeds": 1, "batch_size": 16}
    params["students"] = {name: params["students"][name] | {"updates": 8} for name in ("fused", "second_few", "bag_of_words")}
    params["evaluate"] |= {"shots": [20], "draws": 2}
    params["report"] |= {"baseline": "bag_of_words", "strip": ["fused"], "strip_rows": 2}


def test_text(tmp_path):
    for name in ("pipeline", "stages", ".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore", "examples/text"):
        copy = shutil.copytree if (CLONE / name).is_dir() else shutil.copy
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        copy(CLONE / name, tmp_path / name, **({"ignore": shutil.ignore_patterns("data")} if copy is shutil.copytree else {}))
    folder = tmp_path / "examples" / "text"
    edit(folder, make_small)
    run(tmp_path, "git", "init", "-q")
    run(folder, sys.executable, "-m", "pipeline.cli", "sync")
    assert len(repro(folder)) == 1 + 3 + 3 + 1 + 3 + 3 + 1
    students = metrics_of(folder, "students")
    assert students.keys() == {"fused", "second_few", "bag_of_words"}
    assert {"topic", "sentiment", "entities", "novel", "intent@20", "stars@20"} <= students["second_few"].keys()
    pca = open_store(folder / "data/knowledge/pca.zarr")
    assert pca.fields["fused/components"].shape[1:] == pca.fields["inputs/mask"].shape
    assert (folder / "data/report/plots/strip.png").stat().st_size > 10_000
    assert repro(folder) == []
