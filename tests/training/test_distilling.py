"""Students of one store: what they begin as, and whose labels they learn from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from pipeline.checkpoints import input_shapes, save_network
from pipeline.project.validation import load_params
from pipeline.stores.layout import Field
from pipeline.stores.store import open_store
from pipeline.stores.writer import StoreWriter
from pipeline.training.distilling import check_foreign, distil
from tests.sweeps.test_sweeping import TASK, small, write_store


@pytest.fixture
def stores(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return [write_store(tmp_path / f"{rows}.zarr", rows, rows, (TASK, "new")) for rows in (96, 32)]


def two_tasks(students):
    content = small({})
    content["tasks"]["new"] = content["tasks"][TASK]
    content["teachers"]["t"] = {**content["teachers"][TASK], "tasks": ["new"]}
    content |= {"students": students, "report": {**content["report"], "baseline": "old"}, "sweep": {}}
    Path("params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return load_params(Path("params.yaml"))


OLD = {"reads": "none", "updates": 6, "weights": {"logits": 1, "labels": 1}, "tasks": [TASK]}


@pytest.mark.parametrize("frozen", [True, False])
def test_a_student_begins_as_the_one_that_it_extends(stores, tmp_path, frozen):
    grown = {"reads": "none", "updates": 1, "weights": {"logits": 1}, "learning_rate": 1e-9, "extends": "old", "frozen": frozen}
    params = two_tasks({"old": OLD, "grown": grown})
    old, grown = params.student("old"), params.student("grown")
    ((network, _),) = distil(params, [(old, 1)], [TASK], *stores, lambda updates: None)
    file = tmp_path / "old" / "seed-1" / f"{TASK}.safetensors"
    save_network(file, network, old.encoder, params.tasks, input_shapes(stores[0]))
    ((after, _),) = distil(params, [(grown, 1)], [TASK, "new"], *stores, lambda updates: None, finished=tmp_path)
    fresh = {name for name, x in after.state_dict().items() if not close(x, network.state_dict().get(name))}
    learnt = {name for name in fresh if not name.startswith("heads.new.")}
    assert learnt == set() if frozen else all("running" in name or "batches" in name for name in learnt)
    assert any(name.startswith("heads.new.") for name in fresh)


def test_a_store_of_others_must_mean_the_same_and_hold_nothing_that_measures(tmp_path):
    val = write_store(tmp_path / "val.zarr", 32, 1, classes=["cat", "dog"])
    check_foreign(write_store(tmp_path / "good.zarr", 32, 2, classes=["cat", "dog"]), val, [TASK])
    check_foreign(write_store(tmp_path / "unnamed.zarr", 32, 2), val, [TASK])
    with pytest.raises(ValueError, match=f"labels/{TASK} has classes dog, cat, here cat, dog; order them alike"):
        check_foreign(write_store(tmp_path / "turned.zarr", 32, 2, classes=["dog", "cat"]), val, [TASK])
    with pytest.raises(ValueError, match=r"same.zarr: 32 rows, the first of them row 0, are samples of .*val.zarr"):
        check_foreign(write_store(tmp_path / "same.zarr", 32, 1), val, [TASK])
    bare = type("Bare", (), {"path": "bare.zarr", "fields": {}})()
    with pytest.raises(ValueError, match=r"bare.zarr: inputs/image is absent, here it is uint8 \(1, 24, 24\)"):
        check_foreign(bare, val, [TASK])
    bare.fields = {"inputs/image": replace(val.fields["inputs/image"], attributes={"tokenizer": "another"})}
    with pytest.raises(ValueError, match=r'bare.zarr: inputs/image has attributes .*"another"}, here {}; prepare inputs alike'):
        check_foreign(bare, val, [TASK])


def test_a_store_of_others_may_have_longer_rows_of_words(tmp_path):
    def of_length(n: int, name: str, tokenizer: str = "same"):
        attributes = {"tokenizer": tokenizer, "longest": n}
        fields = {"inputs/tokens": Field((n,), "int32", attributes=attributes), "inputs/mask": Field((n,), "bool")}
        ids = np.full((4, 16), n, np.uint8)
        writer = StoreWriter(tmp_path / name, ids, np.zeros(4, "i4"), fields, identity={}, shard_rows=4)
        writer.write_rest(lambda rows: {"inputs/tokens": np.ones((4, n), "i4"), "inputs/mask": np.ones((4, n), bool)})
        writer.publish()
        return open_store(tmp_path / name)

    val = of_length(3, "val.zarr")
    check_foreign(of_length(5, "longer.zarr"), val, [])
    with pytest.raises(ValueError, match="inputs/tokens has attributes"):
        check_foreign(of_length(5, "other.zarr", "another"), val, [])


def test_labels_of_other_tasks_are_left_alone(stores):
    told = {**OLD, "tasks": [], "labelled": ["new"]}
    params = two_tasks({"old": OLD, "told": told})
    ((_, curve),) = distil(params, [(params.student("told"), 0)], [TASK, "new"], *stores, lambda updates: None)
    terms = {name for point in curve for name in point if name.startswith(("labels", "logits"))}
    assert terms == {"labels/new", f"logits/t/{TASK}", "logits/t/new"}


@pytest.mark.parametrize("extends", [False, True])
def test_a_head_that_neither_labels_nor_the_store_teach_is_refused(stores, extends):
    bare = {**OLD, "tasks": [], "weights": {"logits": 1}} | ({"extends": "old"} if extends else {})
    params = two_tasks({"old": OLD, "bare": bare})
    one = write_store(Path("one.zarr"), 96, 0)
    with pytest.raises(ValueError, match=r"one\.zarr: no logits of task 'new', nor are its labels used"):
        distil(params, [(params.student("bare"), 0)], [TASK, "new"], one, stores[1], lambda updates: None)


def close(x, other):
    return other is not None and torch.allclose(x.double(), other.double(), atol=1e-6)
