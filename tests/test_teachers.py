"""Teachers as their training begins: whose weights they carry, and which are refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from safetensors.torch import save_file
from sklearn.decomposition import PCA

from pipeline.batches.batches import MASK
from pipeline.checkpoints import load_network, save_network, teacher_network
from pipeline.cli import main
from pipeline.encoders.pretrained import located
from pipeline.network import Network, Outputs
from pipeline.project.class_spec import CLONE, ClassSpec, ParamsError
from pipeline.project.lineage import sync
from pipeline.project.validation import load_params
from pipeline.stores.layout import Field
from pipeline.stores.store import open_store
from pipeline.stores.writer import StoreWriter
from pipeline.teachers.extraction import calibrate

CPU = torch.device("cpu")
SHAPES = {"image": [[1, 24, 24], "uint8"]}
IMAGES = {"image": torch.zeros(2, 1, 24, 24, dtype=torch.uint8)}
MODULE = """
import torch
class Net(torch.nn.Module):
    def __init__(self, *, width, inner=None):
        super().__init__()
        self.body = torch.nn.Conv2d(1, width, 4, stride=4)
        self.inner = inner
    def forward(self, inputs):
        return {"body": self.body(inputs["image"] / 255)}
"""
OWN = {"tasks": [], "pretrained": "own.safetensors", "encoder": {"code": "net.py", "class": "Net", "width": 6}}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with a teacher of one's own module, which knows of taps."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(MODULE)
    save(6)
    (tmp_path / "dvc.yaml").write_text((CLONE / "dvc.yaml").read_text())
    write(**OWN)
    return tmp_path


def save(width):
    torch.manual_seed(0)
    body = torch.nn.Conv2d(1, width, 4, stride=4)
    save_file({f"body.{name}": x.detach() for name, x in body.state_dict().items()}, "own.safetensors")


def write(**teacher):
    content = yaml.safe_load((CLONE / "params.yaml").read_text())
    content["teachers"]["own"] = teacher
    with open("params.yaml", "w") as file:
        yaml.safe_dump(content, file, sort_keys=False)


def network():
    return teacher_network(load_params_here(), "own", SHAPES, CPU)


def load_params_here():
    return load_params(Path("params.yaml"))


def test_a_module_begins_with_its_weights_and_is_rebuilt_without_their_file(project):
    made = network().eval()
    save_network(project / "teacher.safetensors", made, load_params_here().teachers["own"].encoder, {}, SHAPES)
    (project / "own.safetensors").unlink()
    back, _, header = load_network(project / "teacher.safetensors", CPU)
    assert header["encoder"] == OWN["encoder"]
    (feature,), (again,) = made(IMAGES).features.values(), back(IMAGES).features.values()
    assert feature.shape == (2, 6, 6, 6) and torch.equal(feature, again)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"pretrained": "gone.safetensors"}, "teachers.own: pretrained: no file gone.safetensors; name a safetensors file"),
        ({"pretrained": "net.py"}, "teachers.own: net.py: cannot be read as safetensors"),
        ({"encoder": {**OWN["encoder"], "width": 5}}, "own.safetensors: not the weights of Net: size mismatch for body.weight"),
        ({"tasks": ["detection"]}, "teachers.own.updates: 0 would leave the head of detection untrained"),
    ],
)
def test_a_teacher_that_cannot_be_is_one_line(project, changed, message):
    write(**OWN | changed)
    with pytest.raises(ValueError, match=message) as error:
        network()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (torch.zeros(2, 3), "the encoder gives Tensor, expected a dict of taps; .* class Foreign"),
        ({}, "the encoder has no taps; name some of those that `stillroom taps` lists"),
        ({"x": torch.zeros(2)}, r"tap 'x': torch.float32 of shape \(2,\) for 2 rows, expected floats"),
        ({"x": torch.zeros(3, 4)}, r"tap 'x': .* of shape \(3, 4\) for 2 rows"),
        ({"x": torch.zeros(2, 4).long()}, "tap 'x': torch.int64"),
    ],
)
def test_what_an_encoder_may_not_give(output, message):
    encoder = torch.nn.Identity()
    encoder.forward = lambda inputs: output
    with pytest.raises(ValueError, match=message):
        Network(encoder, {}, IMAGES)


def test_an_input_that_an_encoder_asks_for_and_no_sample_has_is_one_line():
    encoder = torch.nn.Identity()
    encoder.forward = lambda inputs: {"trunk": inputs["imgae"]}
    with pytest.raises(ValueError, match="the encoder asks for 'imgae'; the inputs are image"):
        Network(encoder, {}, IMAGES)


def test_a_class_may_be_an_argument_of_another(project):
    inner = {"code": "net.py", "class": "Net", "width": 2}
    write(**OWN | {"encoder": {**OWN["encoder"], "inner": {"deep": inner}}})
    spec = load_params_here().teachers["own"].encoder
    _, found = spec.nested()
    assert found._where.endswith("teachers.own.encoder.inner.deep") and found.as_dict() == inner
    given = spec.build().inner["deep"]
    assert isinstance(given, ClassSpec) and given.build().body.out_channels == 2
    assert json.loads(json.dumps(spec.as_dict())) == spec.as_dict()


def test_what_one_teacher_is_made_of_is_a_dependency_of_it_alone(project):
    sync()
    stages = yaml.safe_load((project / "dvc.yaml").read_text())["stages"]
    training, extraction = (stages[stage] for stage in ("train_teacher", "extract"))
    assert set(training["foreach"]["own"]["deps"]) == {"net.py", "own.safetensors"}
    assert set(extraction["foreach"]["own"]["deps"]) == {"net.py"}  # the weights are in data/teachers
    assert set(training["foreach"]["own"]["params"]) == {f"teachers.own.{key}" for key in ("tasks", "pretrained", "encoder")}
    others = [item for name, item in training["foreach"].items() if name != "own"]
    assert not any("own.safetensors" in item["deps"] for item in others)
    assert not any(dep in ("net.py", "own.safetensors") for dep in training["do"]["deps"])
    slots = [dep for dep in training["do"]["deps"] if dep.startswith("${item")]
    assert len(slots) == len(training["foreach"]["own"]["deps"]) == len(others[0]["deps"])


FOREIGN = {"code": "pipeline/encoders/foreign.py", "class": "Foreign", "module": OWN["encoder"]}


@pytest.mark.parametrize(
    ("encoder", "tap", "message"),
    [
        (OWN["encoder"], "body", None),
        (FOREIGN, "body", None),
        ({**FOREIGN, "taps": ["bodi"], "mean": [0.5], "std": [0.2]}, "body", "no module 'bodi'; did you mean 'body'"),
    ],
)
def test_taps_are_listed_before_any_is_named(project, encoder, tap, message):
    (project / "net.py").write_text(
        MODULE + "class Plain(Net):\n    def forward(self, x):\n        return self.body(x.float())\n"
    )
    module = {**OWN["encoder"], "class": "Plain"}
    write(**OWN | {"encoder": {**encoder, "module": module} if "module" in encoder else encoder})
    sync()
    listed = CliRunner().invoke(main, ["taps", "own"])
    assert listed.exit_code == 0, listed.output
    assert tap in listed.output and "6 x 6 x 6" in listed.output
    if message:
        with pytest.raises(ParamsError, match=message):
            network()


def test_a_model_on_a_hub_is_named_with_its_commit():
    commit = "0123456789" * 4
    assert located(f"org/model@{commit}") == ("org/model", {"revision": commit})
    with pytest.raises(ValueError, match="no folder org/model@main; for a model on a hub give its commit too"):
        located("org/model@main")


def test_components_are_of_positions_that_exist(tmp_path):
    """Of sequences of 1 to 5; where they have ended, a feature is so large that it would be the first component."""
    rng, ids = np.random.default_rng(0), np.arange(90 * 16, dtype=np.uint16).astype(np.uint8).reshape(90, 16)
    mask = np.arange(5) < rng.integers(1, 6, (90, 1))
    x = np.where(mask[:, None], rng.normal(size=(90, 4, 5)), 1e3).astype(np.float32)
    writer = StoreWriter(tmp_path / "in.zarr", ids, np.zeros(90, "i4"), {MASK: Field((5,), "bool")}, identity={}, shard_rows=64)
    writer.write_rest(lambda rows: {MASK: mask[rows]})
    writer.publish()

    def forward(rows, batch_size):
        yield Outputs({"trunk": torch.from_numpy(x[rows])}, {})

    fields = {"features/t/trunk": Field((4, 5), "float32", dims=2)}
    bases, _ = calibrate(forward, "t", open_store(tmp_path / "in.zarr"), fields, 0)
    wanted = PCA(2).fit(x.transpose(0, 2, 1)[mask])
    np.testing.assert_allclose(bases["features/t/trunk"][0], wanted.mean_, atol=1e-5)
    np.testing.assert_allclose(abs(bases["features/t/trunk"][1:] @ wanted.components_.T), np.eye(2), atol=1e-4)
