import shutil
from types import SimpleNamespace

import pytest
import yaml
from click.testing import CliRunner

from pipeline.class_spec import CLONE
from pipeline.cli import main
from pipeline.planning import make_plan
from pipeline.validation import load_params


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The demo with small teachers; float32 logits, so that recipes show."""
    monkeypatch.chdir(tmp_path)
    params = yaml.safe_load((CLONE / "params.yaml").read_text())
    for teacher in params["teachers"].values():
        teacher["encoder"] |= {"width": 8, "blocks": 1}
    params["fusions"]["pca"]["dims"] = 4
    params["extract"] |= {"batch_size": 16, "logits": {"dtype": "qint8", "codec": "raw"}}
    params["teachers"]["classification"]["recipes"] = {"features/trunk": {"dtype": "float16", "codec": "raw", "dims": 2}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    shutil.copy(CLONE / "dvc.yaml", tmp_path)
    assert CliRunner().invoke(main, ["sync"]).exit_code == 0
    return tmp_path


def test_a_plan_counts_rows_fields_and_bytes(project):
    plan = make_plan(load_params(project / "params.yaml"), project / "data")
    assert plan.rows == 18000
    fields = {f.name: f for f in plan.fields}
    trunk, logits = fields["features/detection/trunk"], fields["logits/segmentation/segmentation"]
    assert trunk.field.shape == (8, 6, 6) and trunk.row_bytes == pytest.approx(8 * 36 * 2, rel=0.02)
    assert logits.field.shape == (11, 12, 12) and logits.row_bytes == pytest.approx(11 * 144, rel=0.02)
    assert fields["fused/components"].field.shape == (4, 6, 6)
    narrow = fields["features/classification/trunk"]
    assert narrow.field.shape == (8, 6, 6) and narrow.files == 2 * (18 + 1) + 1
    assert narrow.row_bytes == pytest.approx(2 * 36 * 2, rel=0.02)  # the basis is written once a shard
    assert trunk.files == 18 + 1 and logits.files == 2 * (18 + 1) + 1
    assert plan.bytes == pytest.approx(18000 * sum(f.row_bytes for f in plan.fields))
    assert plan.dump_seconds.keys() == {"classification", "detection", "segmentation"}
    assert all(seconds > 0 for seconds in plan.dump_seconds.values()) and plan.write_rate > 0
    assert not (project / "data").exists()


def test_a_disk_that_will_not_hold_it_is_refused_before_any_work(project, monkeypatch):
    assert CliRunner().invoke(main, ["plan"]).exit_code == 0
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**6))
    result = CliRunner().invoke(main, ["plan"])
    assert result.exit_code == 1
    assert "data: the disk will not hold it: free" in result.stderr


@pytest.mark.parametrize(
    ("teacher", "recipes", "message"),
    [
        (
            "classification",
            {"logits/classification": {"top_k": 3}},
            "logits/classification/classification: top_k and sampled are for",
        ),
        ("segmentation", {"logits/segmentation": {"top_k": 3}}, "set tasks.segmentation.temperature to 1, or name a recipe"),
        (
            "segmentation",
            {"features/trnk": {}},
            "teachers.segmentation.recipes.features/trnk: no such output; there are features/trunk",
        ),
        ("detection", {"features/trunk": {"dims": 8}}, "8 principal components are for floats of one array"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_before_any_work(project, teacher, recipes, message):
    params = yaml.safe_load((project / "params.yaml").read_text())
    raw = {"dtype": "float16", "codec": "raw"}
    params["teachers"][teacher]["recipes"] = {field: raw | more for field, more in recipes.items()}
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    assert CliRunner().invoke(main, ["sync"]).exit_code == 0
    result = CliRunner().invoke(main, ["plan"])
    assert result.exit_code == 1 and result.stderr.count("\n") == 1
    assert message in result.stderr
