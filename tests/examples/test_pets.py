"""The example of the Oxford-IIIT Pet layout, on a small folder of the same layout."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
import yaml
from PIL import Image

from pipeline.project.class_spec import CLONE
from pipeline.project.lineage import open_project
from pipeline.project.validation import load_params
from tests.reported import metrics_of
from tests.samples import box_of, save, shapes, write_voc

FOLDER = CLONE / "examples/pets"
BREEDS = [("Abyssinian", 1, 1), ("american_bulldog", 2, 2), ("basset_hound", 3, 2)]  # of species 1, cat, or 2, dog


def make_pets(root, number=60):
    """images/Breed_1.jpg, annotations/{list.txt, xmls/, trimaps/}, with the download's odd files."""
    lines = ["#Image CLASS-ID SPECIES BREED ID", "#ID: 1:37 Class ids"]
    for i, (image, kind, mask) in enumerate(shapes(number)):
        breed, number_of, species = BREEDS[kind]
        name = f"{breed}_{i}"
        (root / "images").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / f"images/{name}.jpg")
        lines.append(f"{name} {number_of} {species} 1")
        rim = mask ^ (np.roll(mask, 1, 0) & np.roll(mask, 1, 1))
        trimap = Path(root / f"annotations/trimaps/{name}.png")
        save(trimap, np.where(rim, 3, np.where(mask, 1, 2)).astype(np.uint8))
        if i % 2:
            write_voc(root / f"annotations/xmls/{name}.xml", mask.shape, [(("cat", "dog")[species - 1], box_of(mask), 0)])
    (root / "annotations/list.txt").write_text("\n".join(lines) + "\n")
    (root / "annotations/trimaps/._Abyssinian_0.png").write_bytes(b"of a Mac")
    (root / "images/Abyssinian_0.mat").write_bytes(b"of another program")


def make_dinov2(folder):
    """A model of the class that the example names, of few numbers."""
    config = transformers.Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)
    torch.manual_seed(0)
    transformers.Dinov2Model(config).save_pretrained(folder)
    settings = {"size": {"height": 28, "width": 28}, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))


@pytest.fixture
def project(tmp_path, monkeypatch):
    for name in ("params.yaml", "dvc.yaml"):
        text = (FOLDER / name).read_text().replace("../../", f"{CLONE}/")
        (tmp_path / name).write_text(text)
    make_pets(tmp_path / "pets")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_its_dvc_yaml_is_in_sync(monkeypatch):
    monkeypatch.chdir(FOLDER)
    assert open_project().tasks.keys() == {"breed", "head", "body"}


def test_the_layout_is_read(project):
    params = load_params(Path("params.yaml"))
    splits = params.source().splits()
    every = [splits[name] for name in ("transfer", "val", "test/clean")]
    has = {task: sum(int(split.labelled[task].sum()) for split in every) for task in params.tasks}
    assert has == {"breed": 60, "head": 30, "body": 60}
    assert splits["unseen/test"].labels.keys() == {"species"}
    clean = splits["test/clean"]
    maps = clean.labels["body"][:]
    assert set(np.unique(maps)) == {0, 1, 255}
    for row in np.flatnonzero(clean.labelled["head"]):
        ((kind, x0, y0, x1, y1),) = clean.labels["head"][row]
        assert (kind == 0) == (clean.labels["breed"][row] == 0)
        body = box_of(maps[row] > 0)
        np.testing.assert_allclose([x0, y0, x1, y1], body, atol=3)


@pytest.mark.slow
def test_it_runs_from_the_download_to_the_report(project):
    make_dinov2(project / "models/dinov2")
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["prepare"]["source"] |= {"size": [32, 32], "val": 0.25}
    params["teachers"]["dino"]["encoder"]["grid"] = [8, 8]
    params["train_teacher"]["batch_size"] = params["distill"]["batch_size"] = 8
    params["distill"]["seeds"] = 1
    params["extract"]["features"]["dims"] = params["fusions"]["pca"]["dims"] = 8
    params["evaluate"]["shots"] = [12]
    for group in ("teachers", "students"):
        for one in params[group].values():
            one["updates"] = 4
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(CLONE), "DVC_NO_ANALYTICS": "1"}
    sync = [sys.executable, "-m", "pipeline.cli", "sync"]
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"], sync, ["dvc", "repro"]):
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"Running stage '(.+)'", done.stdout)) == 1 + 2 + 2 + 2 + 4 + 4 + 1
    assert {"breed", "body", "head", "species@12"} <= metrics_of(Path(), "students")["fused"].keys()
