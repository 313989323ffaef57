"""A log in MovieLens' layout, with short lists and sampled negatives, through every stage by `dvc repro`."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import yaml

from pipeline.deployment.export import check_replaceable
from pipeline.project.class_spec import CLONE
from pipeline.stores.store import open_store
from tests.reported import metrics_of
from tests.samples import MOVIES, USERS, write_movielens

pytestmark = pytest.mark.slow

STILLROOM = [sys.executable, "-m", "pipeline.cli"]
TOWERS = {"code": "pipeline/encoders/two_tower.py", "class": "TwoTower", "user": [USERS + 1], "item": [MOVIES + 1, 24, 4, 2]}
SIZES = {"length": 8, "negatives": 3, "unlabelled": 100, "views": 2, "val": 0.15, "test": 0.2, "cold": 0.2, "new": 0.2}
RRD = {"code": "pipeline/losses/rrd.py", "class": "RRD"}
STUDENTS = {
    "fused": {"reads": "pca", "updates": 20, "weights": {"fused": 1, "logits": 1, "labels": 1}, "logit_loss": RRD},
    "labels": {"reads": "transfer", "updates": 20, "weights": {"labels": 1}},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own") / "project"
    shutil.copytree(CLONE / "examples" / "recsys", folder, ignore=shutil.ignore_patterns("data", "dvc.lock", "cache", "tmp"))
    write_movielens(folder / "ml")
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["prepare"] = {
        "source": {"code": "pipeline/sources/recsys/movielens.py", "class": "MovieLens", "path": "ml", "liked": 4, **SIZES},
        "shard_rows": 64,
    }
    params["tasks"]["click"]["rate"] = 0.1
    for teacher in params["teachers"].values():
        teacher |= {"encoder": {**TOWERS, "width": 16}, "updates": 150}
    params["train_teacher"]["batch_size"] = 32
    params["fusions"] = {"pca": {**params["fusions"]["pca"], "dims": 8}}
    params["distill"] |= {"encoder": {**TOWERS, "width": 8}, "seeds": 1, "batch_size": 32}
    params["students"] = STUDENTS
    params["report"] = {"baseline": "labels", "strip": ["fused"], "strip_rows": 2}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    for command in (["git", "init", "-q"], [*STILLROOM, "sync"], ["dvc", "repro"]):
        run(folder, *command)
    return folder


def run(folder: Path, *command: str, code: int = 0) -> str:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(CLONE), "DVC_NO_ANALYTICS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr if code else done.stdout


def test_a_teacher_learns_whose_movies_are_whose_from_short_lists(finished):
    scores = json.loads((finished / "data/scores/teachers/funnel/scores.json").read_text())
    assert scores["clean"]["click"]["AUC"] > 0.6
    assert set(scores) == {"clean", "cold_users", "new_items"}


def test_what_does_not_exist_is_stored_as_absent(finished):
    store = open_store(finished / "data/knowledge/pca.zarr")
    mask = store.read("inputs/mask", None)
    assert 0 < mask.mean() < 1
    assert (store.read("logits/funnel/click", None)[~mask] == -30).all()
    assert (store.read("logits/funnel/click", None)[mask] > -29).all()


def test_the_report_has_every_metric(finished):
    fused = metrics_of(finished, "students")["fused"]
    assert {"click", "conversion", "rating", "cold_users", "clean: click coverage@10"} <= fused.keys()
    assert "Other metrics on test/cold_users" in (finished / "data/report/index.html").read_text()


def test_a_user_is_answered_with_titles(finished):
    (line,) = run(finished, *STILLROOM, "predict", "fused", "7").splitlines()
    said = dict(part.split(": ", 1) for part in line.split("; "))
    assert said.keys() == {"click", "conversion", "rating"}
    best = re.findall(r"Movie (\d+) \(1999\) \(\d", said["click"])
    assert len(best) == 10
    rated = {row.split(",")[1] for row in (finished / "ml/ratings.csv").read_text().splitlines() if row.startswith("7,")}
    assert not rated & set(best)


def test_a_log_that_grew_is_no_longer_the_students(finished):
    ratings = finished / "ml/ratings.csv"
    before = ratings.read_text()
    ratings.write_text(before + "7,1,5.0,999999999\n")
    said = run(finished, *STILLROOM, "predict", "fused", "7", code=1)
    ratings.write_text(before)
    assert said.strip().endswith("prepared from other data or params than those here now; run `dvc repro`")


def test_an_exported_student_ranks_all_items_as_predict_does(finished):
    run(finished, *STILLROOM, "export", "fused")
    out = finished / "exports/fused"
    check_replaceable(out)
    users, items = (list(csv.reader((out / f"{what}.csv").read_text().splitlines()))[1:] for what in ("users", "items"))
    (user,) = [row[1:] for row in users if row[0] == "7"]
    table = np.array([row[1:] for row in items], np.int32).T
    session = onnxruntime.InferenceSession(next(out.glob("*.onnx")))
    given = {"user": np.array([user], np.int32), "item": table[None], "mask": np.ones((1, len(items)), bool)}
    (scores,) = session.run(["click"], given)[0]
    rated = {row.split(",")[1] for row in (finished / "ml/ratings.csv").read_text().splitlines() if row.startswith("7,")}
    ranked = [items[n][0] for n in np.argsort(-scores, kind="stable")]
    best = [name for name in ranked if name.split()[1] not in rated][:10]
    (line,) = run(finished, *STILLROOM, "predict", "fused", "7").splitlines()
    assert re.findall(r"(Movie \d+ \(1999\)) \(\d", line.partition("; ")[0]) == best
