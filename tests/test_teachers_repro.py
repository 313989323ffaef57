"""Real `dvc repro` with teachers of every origin, fused end to end; what a change of one runs again."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
import transformers
import yaml
from safetensors import safe_open
from safetensors.torch import save_file

from pipeline.project.class_spec import CLONE, import_file
from pipeline.stores.store import open_store
from tests.reported import metrics_of

pytestmark = pytest.mark.slow

shared = import_file(CLONE / "tests" / "test_repro.py")
run, edit = shared.run, shared.edit

MODULE = """
import torch
class Net(torch.nn.Module):
    def __init__(self, *, width):
        super().__init__()
        self.body = torch.nn.Conv2d(1, width, 4, stride=4)
        self.idle = torch.nn.Identity()
    def forward(self, x):
        return self.body(x).mean((2, 3))
"""
VIT = transformers.ViTConfig(
    hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=24, patch_size=4
)
SETTINGS = {"size": {"height": 24, "width": 24}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
TEACHERS = {
    "trained": {"tasks": ["classification", "detection"], "encoder": shared.ENCODER, "updates": 8},
    "vit": {
        "tasks": [],
        "pretrained": "models/vit",
        "encoder": {"code": "pipeline/encoders/huggingface.py", "class": "HuggingFace", "taps": ["layers.1"]},
    },
    "own": {
        "tasks": ["segmentation"],
        "pretrained": "models/own.safetensors",
        "frozen": True,
        "updates": 8,
        "encoder": {"code": "pipeline/encoders/foreign.py", "class": "Foreign", "module": {"code": "net.py", "class": "Net"}}
        | {"taps": ["body"], "mean": [0.5], "std": [0.25]},
    },
    "outside": {
        "tasks": ["classification"],
        "imported": {"code": "pipeline/dumps/npy.py", "class": "Npy", "files": "dumps"}
        | {"outputs": {"features/trunk": "trunk", "logits/classification": "said"}},
    },
    "words": {
        "tasks": ["classification"],
        "imported": {"code": "pipeline/dumps/npy.py", "class": "Npy", "files": "spoken"}
        | {"outputs": {"logits/classification": "said"}},
    },
}


def make_models(folder):
    torch.manual_seed(0)
    transformers.ViTModel(VIT).save_pretrained(folder / "models/vit")
    (folder / "models/vit/preprocessor_config.json").write_text(json.dumps(SETTINGS))
    (folder / "net.py").write_text(MODULE)
    tune(folder, 0)


def tune(folder, seed):
    torch.manual_seed(seed)
    body = torch.nn.Conv2d(1, 6, 4, stride=4)
    save_file({f"body.{name}": x.detach() for name, x in body.state_dict().items()}, folder / "models/own.safetensors")


def dump(folder, scale=1.0):
    """What someone else would do: read the inputs and their ids, and write arrays, of the test split too."""
    stores = [open_store(folder / f"data/{path}.zarr") for path in ("knowledge/transfer", "splits/test/clean")]
    images = np.concatenate([store.read("inputs/image") for store in stores]).astype("f4")
    blocks = images.reshape(len(images), 6, 4, 6, 4) / 255
    arrays = {
        "sample_id": np.concatenate([store.sample_id for store in stores]),
        "view": np.concatenate([store.view for store in stores]),
        "trunk": scale * np.stack([blocks.mean((2, 4)), blocks.max((2, 4)), blocks.std((2, 4))], 1),
        "said": np.random.default_rng(0).normal(size=(len(images), 10)).astype("f4"),
    }
    order = np.random.default_rng(1).permutation(len(images))
    (folder / "dumps").mkdir(exist_ok=True)
    for name, x in arrays.items():
        np.save(folder / "dumps" / f"{name}.npy", x[order])


def make_small(params):
    shared.make_small(params)
    params["prepare"]["source"] |= {"unlabelled": 20, "labelled": dict.fromkeys(params["tasks"], 40)}
    params["teachers"] = json.loads(json.dumps(TEACHERS))
    params["teachers"]["own"]["encoder"]["module"]["width"] = 6
    none = {"code": "pipeline/fusions/none.py", "class": "NoFusion"}
    params["fusions"] = {"none": {**none, "teachers": list(TEACHERS)[:4]}, "said": {**none, "teachers": ["words"]}}
    params["students"] = {
        "fused": {"reads": "none", "updates": 4, "weights": {"fused": 1, "logits": 1, "labels": 1}},
        "labels": {"reads": "transfer", "updates": 4, "weights": {"labels": 1}},
        "told": {"reads": "said", "updates": 4, "weights": {"logits": 1}, "tasks": ["classification"]},
    }
    params["sweep"]["start"] = "fused"


def repro(folder, *arguments):
    return shared.repro(folder, *(arguments or ["report"]))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "project"
    folder.mkdir()
    for name in ("pipeline", "stages", ".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore", "dvc.yaml", "params.yaml"):
        (folder / name).parent.mkdir(exist_ok=True)
        copy = shutil.copytree if (CLONE / name).is_dir() else shutil.copy
        copy(CLONE / name, folder / name)
    make_models(folder)
    edit(folder, make_small)
    run(folder, "git", "init", "-q")
    run(folder, sys.executable, "-m", "pipeline.cli", "sync")
    assert repro(folder, "prepare") == ["prepare"]  # whose samples someone else then looks at
    dump(folder)
    shutil.copytree(folder / "dumps", folder / "spoken")
    ran = repro(folder)
    assert len(ran) == 5 + 5 + 2 + 3 + 3 + 1
    assert repro(folder) == []
    return folder


@pytest.fixture
def project(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "project", symlinks=True)


def test_teachers_of_every_origin_are_fused(finished):
    store = open_store(finished / "data/knowledge/none.zarr")
    store.verify()
    logits = {"trained/classification", "trained/detection", "own/segmentation", "outside/classification"}
    fused = {"trained/trunk", "vit/layers-1", "own/body", "outside/trunk"}
    assert {name for name in store.fields if name.startswith("logits/")} == {f"logits/{name}" for name in logits}
    assert {name for name in store.fields if name.startswith("fused/")} == {f"fused/{name}" for name in fused}
    assert store.fields["fused/vit/layers-1"].shape == (8, 6, 6)


def test_teachers_that_only_speak_teach_by_logits_alone(finished):
    store = open_store(finished / "data/knowledge/said.zarr")
    assert [name for name in store.fields if name.split("/")[0] in ("fused", "logits")] == ["logits/words/classification"]
    assert (finished / "data/students/told/seed-0/classification.safetensors").exists()


def test_imported_rows_are_those_of_their_samples(finished):
    transfer, outside = (open_store(finished / f"data/{path}.zarr") for path in ("knowledge/transfer", "features/outside"))
    image = transfer.read("inputs/image").astype("f4").reshape(-1, 6, 4, 6, 4) / 255
    assert np.allclose(outside.read("features/outside/trunk")[:, 0], image.mean((2, 4)), atol=1e-3)


def test_only_those_are_scored_who_said_something(finished):
    metrics = metrics_of(finished, "teachers")
    assert {"classification", "detection", "clean"} & metrics["trained"].keys() == {"classification", "detection"}
    assert metrics["vit"] == {} and metrics["own"].keys() >= {"segmentation"}
    assert metrics["outside"].keys() == {"classification"}  # its predictions of the clean split alone were imported


def test_a_frozen_encoder_is_as_it_came(finished):
    with safe_open(finished / "data/teachers/own/teacher.safetensors", "pt") as file:
        trained = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    with safe_open(finished / "models/own.safetensors", "pt") as file:
        assert all(torch.equal(trained[f"encoder.module.{name}"], file.get_tensor(name)) for name in file.keys())  # noqa: SIM118


def test_a_change_runs_one_teacher_the_fusions_and_who_reads_them(project):
    torch.manual_seed(1)
    transformers.ViTModel(VIT).save_pretrained(project / "models/vit")
    teacher = ("train_teacher@vit", "extract@vit", "fuse@none")  # not fuse@said, which fuses another alone
    assert set(repro(project)) == {*teacher, "distill@fused", "evaluate@fused", "report"}


def processor(project):
    (project / "models/vit/preprocessor_config.json").write_text(json.dumps({**SETTINGS, "image_mean": [0.4] * 3}))


def code(project):
    (project / "net.py").write_text(MODULE.replace("self.body(x)", "self.body(2 * x)"))


def storage(project):
    raw = {"dtype": "float32", "codec": "raw"}
    edit(project, lambda p: p["teachers"]["vit"].update(recipes={"features/layers-1": raw}))


@pytest.mark.parametrize(
    ("change", "stages"),
    [
        (processor, {"train_teacher@vit"}),
        (lambda project: tune(project, 1), {"train_teacher@own"}),
        (code, {"train_teacher@own", "extract@own"}),
        (lambda project: dump(project, scale=2.0), {"train_teacher@outside", "extract@outside"}),
        (storage, {"extract@vit", "report"}),  # the latter knows every teacher's keys
    ],
)
def test_dvc_knows_whom_a_change_concerns(project, change, stages):
    change(project)
    said = run(project, "dvc", "status", "--json").splitlines()
    (found,) = [json.loads(line) for line in said if line.startswith("{")]
    assert found.keys() - {"sweep"} == stages


def test_a_teacher_that_is_wrong_is_one_line(project):
    shutil.rmtree(project / "models/vit")
    assert "models/vit" in run(project, "dvc", "repro", "train_teacher@vit", fails=True)  # DVC's own words
    (project / "models/vit").mkdir()
    (project / "models/vit/config.json").write_text("{}")
    output = run(project, "dvc", "repro", "train_teacher@vit", fails=True)
    assert "teachers.vit.encoder: models/vit: no weights; write it as safetensors" in output
    np.save(project / "dumps/trunk.npy", np.full_like(np.load(project / "dumps/trunk.npy"), np.nan))
    output = run(project, "dvc", "repro", "extract@outside", fails=True)
    assert "error: data/features/outside.zarr: field 'features/outside/trunk', row 0: nan is not finite" in output


def test_taps_are_listed_with_their_shapes(finished):
    listed = run(finished, sys.executable, "-m", "pipeline.cli", "taps", "vit")
    assert "layers.0.mlp.fc1" in listed and "16 x 6 x 6" in listed and "is never called" in listed
    listed = run(finished, sys.executable, "-m", "pipeline.cli", "taps", "own")
    assert "body" in listed and "6 x 6 x 6" in listed
    assert "3 x 6 x 6" in run(finished, sys.executable, "-m", "pipeline.cli", "taps", "outside")
    assert "16 x 6 x 6" in run(finished, sys.executable, "-m", "pipeline.cli", "taps", "trained")
    assert "did you mean 'vit'" in run(finished, sys.executable, "-m", "pipeline.cli", "taps", "vitt", fails=True)
    assert "dumps" not in yaml.safe_load((finished / "dvc.yaml").read_text())["stages"]["extract"]["do"]["deps"]


def test_a_plan_knows_them_all(finished):
    planned = run(finished, sys.executable, "-m", "pipeline.cli", "plan")
    assert "features/outside/trunk" in planned and "outside 0 s" in planned and "features/vit/layers-1" in planned
