"""Networks that lack room for the columns of one's own log are refused before anything is trained, with what to give."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner

from pipeline.checkpoints import about_inputs, input_shapes, teacher_network
from pipeline.cli import main
from pipeline.project.class_spec import CLONE, ParamsError
from pipeline.project.validation import load_params
from pipeline.stores.store import open_store
from pipeline.training.distilling import distil
from stages.prepare import main as prepare

CPU = torch.device("cpu")
SIZES = {"user": [21, 4], "item": [31, 24, 6]}
SOURCE = {
    "code": "pipeline/sources/recsys/interaction_files.py",
    "class": "InteractionFiles",
    "log": "log.csv",
    "columns": {"user": "user", "item": "item", "time": "at"},
    "users": {"path": "users.csv", "id": "user", "columns": ["region"]},
    "items": {"path": "items.csv", "id": "item", "columns": ["kind"]},
    **{"length": 6, "negatives": 3, "unlabelled": 20, "views": 1, "val": 0.2, "test": 0.2, "cold": 0.2, "new": 0.2},
}
FIT = {"code": "pipeline/encoders/two_tower.py", "class": "TwoTower", "width": 4, **SIZES}
SMALL = {**FIT, "item": [31, 17, 6]}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The example with a log of twenty users and thirty items, whose networks fit."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    lines = [f"{rng.integers(20)},{rng.integers(30)},{n}" for n in range(900)]
    (tmp_path / "log.csv").write_text("user,item,at\n" + "\n".join(lines) + "\n")
    (tmp_path / "users.csv").write_text("user,region\n" + "".join(f"{n},r{n % 3}\n" for n in range(20)))
    (tmp_path / "items.csv").write_text("item,kind\n" + "".join(f"{n},k{n % 5}\n" for n in range(30)))
    shutil.copy(CLONE / "examples" / "recsys" / "dvc.yaml", tmp_path)
    give(FIT, FIT, 24)
    return tmp_path


def give(teacher, student, buckets):
    params = yaml.safe_load((CLONE / "examples" / "recsys" / "params.yaml").read_text())
    params["prepare"] = {"source": SOURCE, "shard_rows": 64}
    params["tasks"] = {"click": params["tasks"]["click"]}
    params["teachers"] = {"funnel": {"tasks": ["click"], "encoder": teacher, "updates": 1}}
    del params["fusions"]["pca"]
    params["distill"]["encoder"] = student
    popular = {"code": "pipeline/encoders/popularity.py", "class": "Popularity", "buckets": buckets}
    learns = {"reads": "transfer", "updates": 1, "weights": {"labels": 1}}
    params["students"] = {"labels": learns, "popularity": {**learns, "encoder": popular}}
    params["report"] |= {"baseline": "labels", "strip": []}
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    assert CliRunner().invoke(main, ["sync"]).exit_code == 0
    return load_params(Path("params.yaml"))


TEACHER = "teachers.funnel.encoder: item: [31, 17, 6]: smaller than what the store's columns hold; give item: [31, 24, 6]"
STUDENT = TEACHER.replace("teachers.funnel", "distill")
POPULARITY = "students.popularity.encoder: buckets: 17: fewer than the store's, the last would be a mixture; give buckets: 24"
TOO_SMALL = [((SMALL, FIT, 24), TEACHER), ((FIT, SMALL, 24), STUDENT), ((FIT, FIT, 17), POPULARITY)]


@pytest.mark.parametrize(("given", "message"), TOO_SMALL, ids=["teacher", "student", "popularity"])
def test_a_plan_refuses_what_has_no_room_for_a_columns_values(project, given, message):
    assert CliRunner().invoke(main, ["plan"]).exit_code == 0
    give(*given)
    result = CliRunner().invoke(main, ["plan"])
    assert result.exit_code == 1 and message in result.stderr


@pytest.mark.parametrize("sparse", ["top_k", "sampled"])
def test_a_softmax_over_candidates_is_not_stored_sparsely(project, sparse):
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["extract"]["logits"] |= {sparse: 2}
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    result = CliRunner().invoke(main, ["plan"])
    assert result.exit_code == 1
    assert "logits/funnel/click: top_k and sampled are for a softmax over classes" in result.stderr.splitlines()[-1]


def test_training_refuses_by_what_the_store_says_of_its_columns(project):
    places = {name: f"data/{name}" for name in ("transfer", "val", "test", "unseen")} | {"cost": "data/cost.json"}
    result = CliRunner().invoke(prepare, [x for name, path in places.items() for x in (f"--{name}", path)])
    assert result.exit_code == 0, result.output
    store, val = open_store(project / "data/transfer"), open_store(project / "data/val")
    assert all(about_inputs(x)[side] == {"sizes": sizes} for x in (store, val) for side, sizes in SIZES.items())
    with pytest.raises(ParamsError, match="smaller than what the store's columns hold"):
        teacher_network(give(SMALL, FIT, 24), "funnel", input_shapes(store), CPU, about_inputs(store))
    for given, name, message in ((TOO_SMALL[1][0], "labels", STUDENT), (TOO_SMALL[2][0], "popularity", POPULARITY)):
        params = give(*given)
        with pytest.raises(ParamsError) as caught:
            distil(params, [(params.student(name), 0)], ["click"], store, val, lambda updates: None)
        assert str(caught.value).endswith(message)
    params = give(FIT, FIT, 24)
    distil(params, [(params.student("labels"), 0)], ["click"], store, val, lambda updates: None)
