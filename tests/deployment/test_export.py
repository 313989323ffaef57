"""What leaves a project: answers about single inputs, and a student as ONNX."""

import json
import re
import shutil

import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from matplotlib import image as pixels
from PIL import Image

from pipeline.checkpoints import build_network, load_network, save_network
from pipeline.cli import main
from pipeline.deployment import export
from pipeline.deployment.export import check_replaceable
from pipeline.deployment.model_card import BESIDE, SAID
from pipeline.project.class_spec import CLONE
from pipeline.project.dependencies import source_identity
from pipeline.project.validation import load_params
from pipeline.stores.layout import Field
from pipeline.stores.store import open_store, sha256
from pipeline.stores.writer import StoreWriter

NAME = "classification+detection+segmentation"


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_bytes((CLONE / name).read_bytes())
    assert CliRunner().invoke(main, ["sync"]).exit_code == 0
    params = load_params(tmp_path / "params.yaml")
    torch.manual_seed(0)
    shapes = {"image": [[1, 24, 24], "uint8"]}
    tasks = params.build_tasks()
    network = build_network(params.distill.encoder, tasks, shapes, torch.device("cpu"))
    out = tmp_path / "data/students/fused/seed-0" / f"{NAME}.safetensors"
    save_network(out, network, params.distill.encoder, params.tasks, shapes, learned_from="abc")
    image = np.random.default_rng(0).integers(0, 256, (40, 1, 24, 24), np.uint8)
    named = {"classes": ["zero"]}
    fields = {"inputs/image": Field((1, 24, 24), "uint8"), "labels/segmentation": Field((24, 24), "uint8", attributes=named)}
    ids = np.arange(640, dtype=np.uint8).reshape(40, 16)
    val, identity = tmp_path / "data/splits/val.zarr", source_identity(params)
    writer = StoreWriter(val, ids, np.zeros(40, "i4"), fields, identity=identity, shard_rows=40)
    labels = (image[:, 0] % 3).astype("u1")
    writer.write_rest(lambda rows: {"inputs/image": image[rows], "labels/segmentation": labels[rows]})
    writer.publish()
    return tmp_path


def run(*command, fails=False):
    result = CliRunner().invoke(main, command)
    assert (result.exit_code != 0) == fails, result.output
    return result.output


def test_onnx_answers_as_the_student_does_for_any_batch(project):
    file = f"{NAME}.safetensors"
    weights = {file: sha256(project / "data/students/fused/seed-0" / file)}
    scores = {"weights": weights, "test": {"clean": {"segmentation": {"mIoU": 0.5}}}}
    (project / "data/scores/students/fused").mkdir(parents=True)
    (project / "data/scores/students/fused/scores.json").write_text(json.dumps([scores]))
    told = run("export", "fused", "--int8")
    said = re.search(r"\.int8\.onnx: off by at most .*; segmentation (0\.\d+) on val, (0\.\d+) as torch$", told, re.MULTILINE)
    files = {path.name for path in (project / "exports/fused").iterdir()}
    assert files == {"README.md", *(f"{NAME}.{kind}" for kind in ("onnx", "int8.onnx", "safetensors"))}
    assert not (project / "exports/fused.tmp").exists()
    network, _, _ = load_network(project / f"exports/fused/{NAME}.safetensors", torch.device("cpu"))
    session = onnxruntime.InferenceSession(project / f"exports/fused/{NAME}.onnx")
    for size in (1, 3):
        image = np.random.default_rng(size).integers(0, 256, (size, 1, 24, 24), np.uint8)
        with torch.no_grad():
            wanted = network({"image": torch.from_numpy(image)}).logits
        for (name, x), y in zip(wanted.items(), session.run(list(wanted), {"image": image}), strict=True):
            np.testing.assert_allclose(y, x, atol=1e-4, err_msg=name)
    answered = onnxruntime.InferenceSession(project / f"exports/fused/{NAME}.int8.onnx")
    val = open_store(project / "data/splits/val.zarr")
    task = load_params(project / "params.yaml").tasks["segmentation"].build()
    x = answered.run(["segmentation"], {"image": val.read("inputs/image")})[0]
    tally = task.tally(torch.from_numpy(x), torch.from_numpy(val.read("labels/segmentation")))
    mIoU = task.summarize([tally])["mIoU"]
    assert said[1] == f"{mIoU:.3f}"
    card = (project / "exports/fused/README.md").read_text()
    assert f"| {NAME}.int8.onnx | segmentation | {mIoU:.4f} | " in card
    assert (
        "44,468 parameters" in card
        and "those of seed-0 alone" in card
        and "digest `abc`" in card
        and "| segmentation | mIoU | 0.5000 |" in card
    )
    assert (
        "classes in order: background, zero" in card and "> Predictions: (B, C + 4, h, w): heatmap logits, then the box" in card
    )


OTHERS = {"weights": {f"{NAME}.safetensors": "0" * 64}, "test": {"clean": {"segmentation": {"mIoU": 0.5}}}}


@pytest.mark.parametrize("scores", [[OTHERS], []])
def test_scores_of_other_weights_are_not_on_a_card(project, scores):
    (project / "data/scores/students/fused").mkdir(parents=True)
    (project / "data/scores/students/fused/scores.json").write_text(json.dumps(scores))
    said = run("export", "fused", fails=True)
    assert "scores of other weights than those in data/students/fused/seed-0; run `dvc repro evaluate@fused`" in said
    assert not (project / "exports").exists()


def test_an_export_takes_the_place_of_one_unless_it_answers_otherwise(project, monkeypatch):
    for _ in range(2):
        run("export", "fused", "--out", "exports/fused")
    assert len(list((project / "exports").iterdir())) == 1
    before = (project / f"exports/fused/{NAME}.onnx").read_bytes()
    monkeypatch.setattr(export, "CLOSE", 0.0)
    assert "its ONNX is off by" in run("export", "fused", fails=True)
    assert (project / f"exports/fused/{NAME}.onnx").read_bytes() == before


@pytest.mark.parametrize(("factor", "message"), [(0.0, None), (float("nan"), "output 'segmentation' is not finite on 1 rows")])
def test_a_head_that_answers_otherwise_is_told_beside_larger_ones(project, factor, message):
    network = load_network(project / f"data/students/fused/seed-0/{NAME}.safetensors", torch.device("cpu"))[0].eval()
    rows = {"image": np.random.default_rng(0).integers(0, 256, (8, 1, 24, 24), np.uint8)}
    small = [p.data.mul_(1e-5) for p in network.heads["segmentation"].parameters()]
    before = [p.clone() for p in small]
    for p in small:
        p *= factor
    with export.quiet():
        export.write_onnx(network, {"image": torch.from_numpy(rows["image"][:2])}, project / "other.onnx")
    for p, was in zip(small, before, strict=True):
        p.copy_(was)
    if message:
        with pytest.raises(ValueError, match=message):
            export.check(network, project / "other.onnx", rows)
    else:
        assert export.check(network, project / "other.onnx", rows).furthest == 1


def test_a_student_that_is_not_there_is_one_line(project):
    untrained = "no student fused/seed-3; there are fused/seed-0; `dvc repro distill@fused` trains it"
    shutil.copytree("data/students/fused", "data/students/fuse")  # left of a student that was renamed
    for command, *given in (["export"], ["predict", "x.png"]):
        assert "no student named 'fuse'; did you mean 'fused'?" in run(command, "fuse", *given, fails=True)
        assert untrained in run(command, "--seed", "3", "fused", *given, fails=True)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (".", "which no export wrote"),
        ("..", "which no export"),
        ("params.yaml", "is a file"),
        ("data/students/fused/seed-0", "holds"),
    ],
)
def test_an_export_removes_nothing_but_exports(project, out, message):
    before = sorted(project.rglob("*"))
    assert message in run("export", "fused", "--out", out, fails=True)
    assert sorted(project.rglob("*")) == before


def test_answers_are_drawn_for_a_file_and_for_a_folder(project):
    (project / "scenes").mkdir()
    for name in ("a", "b"):
        Image.fromarray(np.full((50, 70, 3), 90, np.uint8)).save(project / f"scenes/{name}.png")
    lines = run("predict", "fused", "scenes").splitlines()
    assert [line.split(":")[0] for line in lines] == ["predictions/a.png", "predictions/b.png"]
    assert all(f"{task}: " in line for task in NAME.split("+") for line in lines)
    assert run("predict", "fused", "scenes/b.png").splitlines() == lines[1:]
    assert pixels.imread(project / "predictions/a.png").shape[0] > 100
    (project / "scenes/more").mkdir()
    for name in ("a.jpg", "more/c.png"):
        Image.fromarray(np.full((50, 70, 3), 90, np.uint8)).save(project / "scenes" / name)
    names = [line.split(":")[0] for line in run("predict", "fused", "scenes").splitlines()]
    assert names == [f"predictions/{name}.png" for name in ("a.jpg", "a.png", "b", "more/c")]


def test_an_image_that_cannot_be_read_keeps_no_other_from_its_answer(project):
    (project / "scenes").mkdir()
    Image.fromarray(np.full((50, 70, 3), 90, np.uint8)).save(project / "scenes/b.png")
    for name in ("a", "c"):
        (project / f"scenes/{name}.png").write_bytes(b"\x89PNG no")
    answered, failed = run("predict", "fused", "scenes", fails=True).splitlines()
    assert answered.startswith("predictions/b.png: ")
    assert failed.startswith("error: scenes: 2 of 3 images could not be read: scenes/a.png: not an image of a known format")


def test_answers_of_other_params_than_were_prepared_are_refused(project):
    Image.fromarray(np.full((50, 70, 3), 90, np.uint8)).save(project / "a.png")
    params = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(params.replace("unlabelled: 4500", "unlabelled: 4000"))
    assert "prepared from other data or params than those here now; run `dvc repro`" in run(
        "predict", "fused", "a.png", fails=True
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("none.png", "none.png: no such file"),
        ("empty", "empty: no image in this folder"),
        ("broken.png", "broken.png: not an image of a known format, or damaged"),
    ],
)
def test_what_is_no_image_is_one_line(project, given, message):
    (project / "empty").mkdir()
    (project / "broken.png").write_bytes(b"\x89PNG no")
    output = run("predict", "fused", given, fails=True)
    assert message in output and output.count("\n") == 1


def test_what_lies_beside_an_export_and_is_none_stays(tmp_path):
    (tmp_path / "README.md").write_text(f"{SAID}\n\n## a\n{BESIDE.format('t.json')}\n| file | x |\n| a.onnx | 1 |\n")
    for name in ("a.safetensors", "a.onnx", "t.json"):
        (tmp_path / name).touch()
    check_replaceable(tmp_path)
    for name in ("mine.safetensors", "b.onnx", "notes_README.md"):
        (tmp_path / name).touch()
        with pytest.raises(ValueError, match=f"holds {name}, which no export wrote"):
            check_replaceable(tmp_path)
        (tmp_path / name).unlink()
