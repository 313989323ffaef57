import json
import shutil

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from pipeline.cli import main
from pipeline.network import Outputs
from pipeline.project.sections import Recipe
from pipeline.stores.inspection import compare, differences
from pipeline.stores.layout import Field
from pipeline.stores.shard import StoreError
from pipeline.stores.store import open_store, sha256
from pipeline.stores.writer import StoreWriter
from pipeline.teachers.agreement import against_teacher
from pipeline.teachers.extraction import calibrate, forward_on, outputs_on

CPU = torch.device("cpu")
FIELDS = {"features/a/trunk": Field((3, 2), "float16"), "labels/boxes": Field((5,), "float32", max_items=2)}


def make(path, change=lambda arrays: arrays, fields=FIELDS, identity="A", first_id=0):
    ids = np.arange(first_id, first_id + 20 * 16, dtype=np.uint8).reshape(20, 16)
    arrays = {
        "features/a/trunk": np.arange(120, dtype=np.float32).reshape(20, 3, 2),
        "labels/boxes": [np.full((n % 3, 5), n, np.float32) for n in range(20)],
    }
    arrays = change(arrays)
    writer = StoreWriter(path, ids, np.zeros(20, "i4"), fields, identity={"teacher": {"name": identity}}, shard_rows=8)
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


def test_a_terminal_is_not_told_what_to_do_by_a_store(tmp_path):
    a, b = (make(tmp_path / f"{name}.zarr", identity=f"\x1b[31m{name}\x1b]0;title\x07\nwhole") for name in "ab")
    assert r"teacher.name: \x1b[31ma\x1b]0;title\x07\nwhole" in run("inspect", a.path)
    assert r"\x1b[31ma\x1b]0;title\x07\nwhole | \x1b[31mb" in run("diff", a.path, b.path, code=1)


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


def test_a_damaged_copy_is_not_the_same(tmp_path):
    a, b = make(tmp_path / "a.zarr"), make(tmp_path / "b.zarr")
    file = b.path / "labels/boxes/values/c/0/0"
    data = bytearray(file.read_bytes())
    data[0] ^= 1
    file.write_bytes(data)
    assert "b.zarr/labels/boxes/values/c/0/0: damaged" in run("diff", a.path, b.path, code=1)


SAME = np.zeros(2, bool)


def test_whole_numbers_beyond_floats_differ():
    assert compare(np.array([[2**53], [3]]), np.array([[2**53 + 1], [3]]), SAME) == (1, 1.0)
    assert compare(np.array([[-128], [3]], np.int8), np.array([[127], [3]], np.int8), SAME) == (1, 255.0)
    assert compare(np.array([[np.nan, 1.0]] * 2), np.array([[np.nan, 1.0]] * 2), SAME) == (0, 0.0)
    assert compare(np.array([[np.nan, 1.0]] * 2), np.array([[2, 1.0]] * 2), SAME) == (2, np.inf)
    assert compare(np.zeros((2, 1)), np.zeros((2, 1)), ~SAME) == (2, np.inf)


def test_whole_numbers_of_ragged_rows_differ(tmp_path):
    fields = {"labels/boxes": Field((), "int64", max_items=2)}
    a, b = (
        make(tmp_path / f"{number}.zarr", lambda _, n=number: {"labels/boxes": [np.array([n])] * 20}, fields)
        for number in (2**53, 2**53 + 1)
    )
    assert list(differences(a, b)) == ["field labels/boxes: 20 of 20 rows differ, by at most 1"]


class Doubler(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs):
        doubled = inputs["image"].float()[:, :, None] * 2
        return Outputs({"trunk": doubled}, {"kind": doubled[:, :, 0]})


@pytest.fixture
def dumped(tmp_path, monkeypatch):
    """Inputs, a file of weights, and a function that dumps what a teacher gives for those inputs, spoilt if asked."""
    monkeypatch.setattr("pipeline.teachers.agreement.load_network", lambda path, device: (Doubler(), {}, {}))
    weights = tmp_path / "teacher.safetensors"
    weights.write_bytes(b"weights")
    ids = np.arange(100 * 16, dtype=np.uint16).astype(np.uint8).reshape(100, 16), np.zeros(100, "i4")
    images = np.random.default_rng(0).normal(size=(100, 6)).astype(np.float32)

    def make(path, fields, arrays, identity, bases):
        writer = StoreWriter(tmp_path / path, *ids, fields, identity=identity, shard_rows=16, bases=bases)
        writer.write_rest(lambda rows: {name: arrays[name][rows] for name in fields})
        writer.publish()
        return open_store(tmp_path / path)

    inputs = make("in.zarr", {"inputs/image": Field((6,), "float32")}, {"inputs/image": images}, {}, {})
    forward = forward_on(Doubler(), inputs)

    def dump(features, logits, spoil=lambda arrays: None):
        shutil.rmtree(tmp_path / "t.zarr", ignore_errors=True)
        plain = {"dtype": "float32", "codec": "raw"}
        recipes = {"features": Recipe(**plain | features), "logits": Recipe(**plain | logits)}
        recipe = lambda field: recipes[field.split("/")[0]]  # noqa: E731
        arrays = outputs_on(forward, "t", slice(None), 8, recipe, seed=5)
        spoil(arrays)
        fields = {name: recipe(name).field(x) for name, x in arrays.items()}
        identity = {"teacher": {"name": "t", "weights": sha256(weights)}, "input": inputs.digest, "seed": 5}
        return make("t.zarr", fields, arrays, identity, calibrate(forward, "t", inputs, fields, 5)[0])

    return inputs, weights, dump


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "qint8"])
@pytest.mark.parametrize("recipe", [{}, {"dims": 3}])
def test_a_live_teacher_agrees_with_the_features_that_it_dumped_and_with_no_others(dumped, dtype, recipe):
    inputs, weights, dump = dumped
    recipe = {"dtype": dtype, **recipe}
    for field in against_teacher(dump(recipe, {}), inputs, weights, 1000, CPU):
        assert (field.rows, field.differing) == (100, 0) and field.furthest <= field.allowed

    def add_one(arrays):
        arrays["features/t/trunk"][40] += 1

    feature, logits = against_teacher(dump(recipe, {}, add_one), inputs, weights, 1000, CPU)
    assert feature.differing == 1 and feature.furthest > 0.2 and logits.differing == 0


@pytest.mark.parametrize(("recipe", "field"), [({"top_k": 2}, "log_probs"), ({"top_k": 2}, "ids"), ({"sampled": 9}, "ids")])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_live_teacher_agrees_with_its_sparse_logits_and_with_no_others(dumped, recipe, field, dtype):
    inputs, weights, dump = dumped
    recipe = {"dtype": dtype, **recipe}
    for found in against_teacher(dump({}, recipe), inputs, weights, 1000, CPU):
        assert (found.rows, found.differing) == (100, 0)

    def turn(arrays):
        arrays[f"logits/t/kind/{field}"][40] = np.roll(arrays[f"logits/t/kind/{field}"][40], 1)

    _, logits = against_teacher(dump({}, recipe, turn), inputs, weights, 1000, CPU)
    assert logits.field == "logits/t/kind" and logits.differing == 1


def test_only_the_teacher_and_inputs_of_a_store_can_speak_for_it(dumped):
    inputs, weights, dump = dumped
    store = dump({}, {})
    other = make(inputs.path.with_name("o.zarr"))
    other.identity["teacher"] = ["weights"]
    with pytest.raises(StoreError, match=r"o\.zarr: no teacher made it"):
        next(against_teacher(other, inputs, weights, 10, CPU))
    with pytest.raises(StoreError, match=r"in\.zarr: no teacher made it"):
        next(against_teacher(inputs, inputs, weights, 10, CPU))
    with pytest.raises(StoreError, match="not the inputs"):
        next(against_teacher(store, store, weights, 10, CPU))
    weights.write_bytes(b"other weights")
    with pytest.raises(StoreError, match="not the weights"):
        next(against_teacher(store, inputs, weights, 10, CPU))
