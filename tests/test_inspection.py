import json
import shutil

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from pipeline.checkpoints import file_digest
from pipeline.cli import main
from pipeline.extraction import against_teacher
from pipeline.inspection import differences
from pipeline.layout import Field
from pipeline.network import Outputs
from pipeline.shard import StoreError
from pipeline.store import open_store
from pipeline.writer import create_store

FIELDS = {"features/a/trunk": Field((3, 2), "float16"), "labels/boxes": Field((5,), "float32", max_items=2)}


def make(path, change=lambda arrays: arrays, fields=FIELDS, identity="A", first_id=0):
    ids = np.arange(first_id, first_id + 20 * 16, dtype=np.uint8).reshape(20, 16)
    arrays = {
        "features/a/trunk": np.arange(120, dtype=np.float32).reshape(20, 3, 2),
        "labels/boxes": [np.full((n % 3, 5), n, np.float32) for n in range(20)],
    }
    arrays = change(arrays)
    writer = create_store(path, ids, np.zeros(20, "i4"), fields, identity={"teacher": {"name": identity}}, shard_rows=8)
    writer.write_rest(lambda rows: {name: arrays[name][rows] for name in fields})
    writer.publish()
    return open_store(path)


def run(*arguments, code=0):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_inspect_tells_what_is_in_a_store(tmp_path):
    store = make(tmp_path / "a.zarr")
    text = run("inspect", store.path)
    assert f"{store.path}: 20 rows in shards of 8" in text
    assert "teacher.name: A" in text and "3 x 2" in text and "<=2 x 5" in text
    told = json.loads(run("inspect", store.path, "--json"))
    assert told["digest"] == store.digest and told["identity"] == {"teacher": {"name": "A"}}
    assert told["bytes"] == sum((store.path / file).stat().st_size for file in store.attributes["files"])
    assert told["fields"]["features/a/trunk"]["bytes"] == store.nbytes("features/a/trunk")


def test_verify_passes_what_is_whole_and_names_what_is_not(tmp_path):
    store = make(tmp_path / "a.zarr")
    assert store.digest in run("verify", store.path)
    a, b = (store.path / f"features/a/trunk/c/{shard}/0/0" for shard in (0, 1))
    whole = a.read_bytes()
    a.write_bytes(b.read_bytes())
    assert "features/a/trunk/c/0/0/0: damaged" in run("verify", store.path, code=1)
    a.write_bytes(whole)
    run("verify", store.path)


def doubled(row):
    def change(arrays):
        arrays["features/a/trunk"][row] *= 2
        return arrays

    return change


def one_box_less(arrays):
    arrays["labels/boxes"][5] = arrays["labels/boxes"][5][:1]
    return arrays


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({}, []),
        ({"identity": "B"}, ["identity teacher.name: A | B"]),
        ({"change": doubled(19)}, ["field features/a/trunk: 1 of 20 rows differ, by at most 119"]),
        ({"change": one_box_less}, ["field labels/boxes: 1 of 20 rows differ, by at most inf"]),
        ({"fields": {**FIELDS, "features/a/trunk": Field((3, 2), "float32")}}, ["dtype float16 | float32"]),
        ({"fields": {"labels/boxes": FIELDS["labels/boxes"]}}, ["field features/a/trunk: only in"]),
        ({"first_id": 1}, ["rows: not the same samples"]),
    ],
)
def test_diff_names_every_difference(tmp_path, other, told):
    a, b = make(tmp_path / "a.zarr"), make(tmp_path / "b.zarr", **other)
    found = list(differences(a, b))
    assert len(found) == len(told)
    assert all(expected in line for expected, line in zip(told, found, strict=True))
    assert ("the same content" in run("diff", a.path, b.path, code=bool(told))) == (not told)


class Doubler(torch.nn.Module):
    def forward(self, inputs):
        return Outputs({"trunk": inputs["image"].float()[:, :, None] * 2}, {})


@pytest.fixture
def dumped(tmp_path, monkeypatch):
    """Inputs, a file of weights, and a function that makes a store of what a teacher gives for those inputs."""
    monkeypatch.setattr("pipeline.extraction.load_network", lambda path, device: (teacher, {}, {}))
    teacher = Doubler()
    teacher.bias = torch.nn.Parameter(torch.zeros(1))
    weights = tmp_path / "teacher.safetensors"
    weights.write_bytes(b"weights")
    ids = np.arange(100 * 16, dtype=np.uint16).astype(np.uint8).reshape(100, 16), np.zeros(100, "i4")
    images = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)

    def make(path, fields, arrays, identity):
        writer = create_store(tmp_path / path, *ids, fields, identity=identity, shard_rows=16)
        writer.write_rest(lambda rows: {name: arrays[name][rows] for name in fields})
        writer.publish()
        return open_store(tmp_path / path)

    inputs = make("in.zarr", {"inputs/image": Field((3,), "float32")}, {"inputs/image": images}, {})

    def dump(values, dtype="float16", by="t"):
        identity = {"teacher": {"name": by, "weights": file_digest(weights)}, "input": inputs.digest}
        name = f"features/{by}/trunk"
        return make(f"{dtype}.zarr", {name: Field((3, 1), dtype)}, {name: values}, identity)

    return inputs, weights, images[:, :, None] * 2, dump


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "qint8"])
def test_a_live_teacher_agrees_with_what_it_dumped_and_with_nothing_else(dumped, dtype):
    inputs, weights, values, dump = dumped
    (found,) = against_teacher(dump(values, dtype), inputs, weights, 1000, torch.device("cpu"))
    assert (found.rows, found.differing) == (100, 0)
    wrong = values.copy()
    wrong[40] += 1
    shutil.rmtree(inputs.path.parent / f"{dtype}.zarr")
    (found,) = against_teacher(dump(wrong, dtype), inputs, weights, 1000, torch.device("cpu"))
    assert found.differing == 1 and found.furthest == pytest.approx(1, rel=0.05)


def test_only_the_teacher_and_inputs_of_a_store_can_speak_for_it(dumped):
    inputs, weights, values, dump = dumped
    store = dump(values)
    with pytest.raises(StoreError, match=r"in\.zarr: no teacher made it"):
        next(against_teacher(inputs, inputs, weights, 10, torch.device("cpu")))
    with pytest.raises(StoreError, match="not the inputs"):
        next(against_teacher(store, store, weights, 10, torch.device("cpu")))
    weights.write_bytes(b"other weights")
    with pytest.raises(StoreError, match="not the weights"):
        next(against_teacher(store, inputs, weights, 10, torch.device("cpu")))
