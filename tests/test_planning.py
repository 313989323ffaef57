import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from pipeline.cli import main
from pipeline.planning import Plan, make_plan, planned_field
from pipeline.project.class_spec import CLONE
from pipeline.project.sections import Recipe
from pipeline.project.validation import load_params
from pipeline.stores.writer import StoreWriter


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
    assert narrow.field.shape == (8, 6, 6)
    assert narrow.row_bytes == pytest.approx(2 * 36 * 2, rel=0.02)  # the basis is written once a shard
    compact = [f for f in plan.fields if f.field.codec != "raw" or f.field.max_items]
    full = -(-18000 // plan.shard_rows) * plan.shard_rows  # rows: a raw shard is written whole
    raw = sum(f.row_bytes for f in plan.fields if f not in compact)
    assert plan.bytes == pytest.approx(18000 * sum(f.row_bytes for f in compact) + full * raw)
    assert plan.dump_seconds.keys() == {"classification", "detection", "segmentation"}
    assert all(seconds > 0 for seconds in plan.dump_seconds.values()) and plan.write_rate > 0
    assert not (project / "data").exists()


def test_a_plan_counts_the_files_that_there_will_be(tmp_path):
    rows = {
        "inputs/x": np.ones((300, 8), np.uint8),
        "labels/b": [np.ones((n % 3, 4), np.float32) for n in range(300)],
        "features/a/t": np.random.default_rng(0).normal(size=(300, 8, 3)).astype(np.float32),
        "features/a/q": np.random.default_rng(0).normal(size=(300, 8, 3)).astype(np.float32),
    }
    recipes = {
        "features/a/t": Recipe(dtype="float16", codec="zstd", dims=4),
        "features/a/q": Recipe(dtype="qint8", codec="lz4"),
    }
    params = SimpleNamespace(prepare=SimpleNamespace(shard_rows=64))
    planned = [planned_field(params, 300, "s", name, x[:16], recipes.get(name)) for name, x in rows.items()]
    ids, fields = (np.zeros((300, 16), np.uint8), np.zeros(300, np.int32)), {f.name: f.field for f in planned}
    bases = {"features/a/t": np.eye(5, 8, dtype=np.float32)}
    writer = StoreWriter(tmp_path / "s.zarr", *ids, fields, identity={}, shard_rows=64, bases=bases)
    writer.write_rest(lambda part: {name: x[part] for name, x in rows.items()})
    writer.publish()
    plan = Plan(300, 64, planned, {}, 1.0, 10**9)
    assert plan.files == sum(path.is_file() for path in (tmp_path / "s.zarr").rglob("*"))


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
        ("detection", {"features/trunk": {"dims": 8}}, "8 principal components need floats of one array"),
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


def test_a_grid_that_no_student_has_is_told_before_any_work(project):
    """The trunk of the demo is at stride 4; a teacher that is at stride 8 makes all targets of a fusion as coarse."""
    (project / "net.py").write_text(COARSE)
    params = yaml.safe_load((project / "params.yaml").read_text())
    encoder = {"code": "pipeline/encoders/foreign.py", "class": "Foreign", "module": {"code": "net.py", "class": "Net"}}
    params["teachers"]["own"] = {"tasks": [], "encoder": {**encoder, "taps": ["body"], "mean": [0.5], "std": [0.5]}}
    message = r"students.fused: its trunk's grid is \(6, 6\), and that of .*, which pca makes, is \(3, 3\); .*grid: \[6, 6\]"
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    with pytest.raises(ValueError, match=message):
        make_plan(load_params(project / "params.yaml"), project / "data")
    params["teachers"]["own"]["encoder"]["grid"] = [6, 6]
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    make_plan(load_params(project / "params.yaml"), project / "data")


COARSE = """
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Conv2d(1, 4, 8, stride=8)
    def forward(self, x):
        return self.body(x)
"""
