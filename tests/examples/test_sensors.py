"""The example of a modality of one's own: its classes obey the laws, and the whole pipeline runs with them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from pipeline.network import Network
from pipeline.project.class_spec import CLONE, import_file
from pipeline.project.lineage import open_project
from pipeline.stores.store import open_store
from tests.laws import check_fusion, check_task
from tests.reported import metrics_of

FOLDER = CLONE / "examples/sensors"
Motion, WaveEncoder, Jolts, Loudest = (
    getattr(import_file(FOLDER / f"{name.lower()}.py"), made)
    for name, made in (("motion", "Motion"), ("waves", "WaveEncoder"), ("jolts", "Jolts"), ("loudest", "Loudest"))
)

SIZES = {"labelled": {"activity": 30, "jolts": 30}, "unlabelled": 20, "val": 20, "test": 24, "unseen": 20}


def test_the_task_obeys_the_laws():
    label = torch.zeros(4, 32, dtype=torch.uint8)
    label[0, 3:9] = label[1, 20:] = label[2, :5] = 1
    check_task(Jolts(), label, grid=(8,))


def test_the_fusion_obeys_the_laws():
    draw = torch.Generator().manual_seed(0)
    check_fusion(
        lambda: Loudest(dims=5), {f"t{i}/trunk": (i + 1) * torch.randn(64, 4, 8, generator=draw) + i for i in range(2)}
    )


def test_the_loudest_channels_are_picked():
    x = torch.randn(64, 4, 8, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 9, 2, 5])[:, None]
    picked = Loudest(dims=2).fit([{"t/trunk": x}]).projections["channels"]
    assert picked.nonzero().tolist() == [[1, 0], [3, 1]]


def test_spans_of_a_task_are_drawn_where_they_are():
    label = np.zeros((1, 32), np.uint8)
    label[0, 8:16] = 1
    assert Jolts().truth(label) == {"spans": [[(8, 16)]]}
    assert Jolts().answers(torch.where(torch.from_numpy(label)[:, None, ::4] > 0, 1.0, -1.0)) == {"spans": [[(8, 16)]]}


def test_the_source_gives_what_the_encoder_takes():
    source = Motion(**SIZES, seed=1)
    splits = source.splits()
    transfer = splits["transfer"]
    assert transfer.labelled["activity"].sum() == transfer.labelled["jolts"].sum() == 30
    rows, few = source.preview()
    assert rows == len(transfer.view) and few.fields().keys() == transfer.fields().keys()
    ids = np.concatenate([splits[name].sample_id for name in ("transfer", "val", "test/clean", "unseen/train", "unseen/test")])
    assert len(np.unique(ids, axis=0)) == len(ids)
    x = {"signal": torch.from_numpy(few.inputs["signal"])}
    outputs = Network(WaveEncoder(width=8), {"jolts": Jolts()}, x)(x)
    assert outputs.logits["jolts"].shape == (len(few.view), 1, 32)


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.py")), ids=lambda file: file.stem)
def test_a_plug_in_is_short(file):
    assert len(file.read_text().splitlines()) < 60


def test_its_dvc_yaml_is_in_sync(monkeypatch):
    monkeypatch.chdir(FOLDER)
    assert open_project().tasks.keys() == {"activity", "jolts"}


def tiny(params):
    params["prepare"] |= {"source": params["prepare"]["source"] | SIZES, "shard_rows": 32}
    params["train_teacher"]["batch_size"] = params["distill"]["batch_size"] = 16
    for teacher in params["teachers"].values():
        teacher["updates"] = 8
    for student in params["students"].values():
        student["updates"] = 8
    params["distill"]["seeds"] = 2
    params["evaluate"] = {"shots": [10], "draws": 2}


@pytest.mark.slow
def test_the_whole_pipeline_runs_on_signals(tmp_path):
    clone = tmp_path / "clone"
    for name in ("pipeline", "stages", "examples/sensors"):
        shutil.copytree(CLONE / name, clone / name, ignore=shutil.ignore_patterns("data", "__pycache__", "dvc.lock"))
    for name in (".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore"):
        (clone / name).parent.mkdir(exist_ok=True)
        shutil.copy(CLONE / name, clone / name)
    folder = clone / "examples/sensors"
    params = yaml.safe_load((folder / "params.yaml").read_text())
    tiny(params)
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(clone), "DVC_NO_ANALYTICS": "1", "OMP_NUM_THREADS": "1"}

    def run(*command):
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    run("git", "init", "-q", str(clone))
    assert len(re.findall(r"Running stage '(.+)'", run("dvc", "repro"))) == 1 + 2 + 2 + 3 + 5 + 5 + 1
    assert re.findall(r"Running stage '(.+)'", run("dvc", "repro")) == []
    store = open_store(folder / "data/knowledge/loudest.zarr")
    assert store.fields["fused/channels"].shape == (32, 32) and store.fields["inputs/signal"].shape == (3, 128)
    assert metrics_of(folder, "students").keys() == params["students"].keys()
    assert (folder / "data/report/plots/strip.png").stat().st_size > 10_000
