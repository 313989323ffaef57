"""Sweeps of tiny students on real stores: what is tried, what a kill costs, what the leaderboard says."""

import csv
import json
import os
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from safetensors.torch import load_file

from pipeline.atomic import locked, write_whole
from pipeline.cli import main
from pipeline.project.class_spec import CLONE, ParamsError
from pipeline.project.validation import load_params
from pipeline.stores.layout import Field
from pipeline.stores.store import open_store
from pipeline.stores.writer import StoreWriter
from pipeline.sweeps import sweeping
from pipeline.sweeps.leaderboard import best, lines, show, without_effect, write_csv
from pipeline.sweeps.picture import draw
from pipeline.sweeps.promotion import promote
from pipeline.sweeps.sweeping import Trials, hurdles_after, run
from pipeline.training.distilling import distil

TASK = "classification"
MEASURED = ("seconds", "latency_ms")


def write_store(path, rows, seed, tasks=(TASK,), classes=()):
    rng = np.random.default_rng(seed)
    present = rng.integers(0, 2, (rows, 10)).astype(np.uint8)
    image = rng.integers(0, 40, (rows, 1, 24, 24)).astype(np.uint8)
    for c in range(10):  # class c: a bright spot in its place
        image[present[:, c] == 1, :, 2 + c // 5 * 12 : 8 + c // 5 * 12, 1 + c % 5 * 4 : 4 + c % 5 * 4] = 250
    arrays = {"inputs/image": image}
    for task in tasks:
        arrays |= {f"labels/{task}": present, f"logits/t/{task}": (present * 8.0 - 4).astype("f4")}
        arrays[f"labelled/{task}"] = np.arange(rows) % 2 == 0
    fields = {name: Field(x.shape[1:], x.dtype.name) for name, x in arrays.items()}
    if classes:
        fields[f"labels/{TASK}"] = replace(fields[f"labels/{TASK}"], attributes={"classes": list(classes)})
    ids = rng.integers(0, 256, (rows, 16)).astype(np.uint8)
    writer = StoreWriter(path, ids, np.zeros(rows, "i4"), fields, identity={}, shard_rows=rows)
    writer.write_rest(lambda some: {name: x[some] for name, x in arrays.items()})
    writer.publish()
    return open_store(path)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    return [
        write_store(folder / f"{name}.zarr", rows, seed) for seed, (name, rows) in enumerate({"none": 96, "val": 32}.items())
    ]


def small(sweep):
    content = yaml.safe_load((CLONE / "params.yaml").read_text())
    content["tasks"] = {TASK: content["tasks"][TASK]}
    content["teachers"] = {TASK: content["teachers"][TASK]}
    content["distill"] |= {"batch_size": 16, "evaluations": 2, "seeds": 1}
    content["distill"]["encoder"] |= {"width": 4, "blocks": 1}
    content["students"] = {"start": {"reads": "none", "updates": 6, "weights": {"logits": 1, "labels": 1}}}
    content["report"] |= {"baseline": "start", "strip": []}
    return content | {"sweep": {"start": "start"} | sweep}


@pytest.fixture
def trials(stores, tmp_path, monkeypatch):
    """(section) -> its trials, always with the same scratch; what was trained is counted in `trained`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sweeping, "distil", counted)
    trained.clear()

    def make(**sweep):
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(small(sweep), sort_keys=False))
        none, val = stores
        return Trials(load_params(tmp_path / "params.yaml"), {"none": none}, val, val, tmp_path / "scratch", told)

    return make


trained, skipped_updates = [], []


def told(updates, skipped=False):
    skipped_updates.extend([updates] if skipped else [])


def counted(params, students, *more):
    trained.append(len(students))
    return distil(params, students, *more)


def lasting(records):
    return [{key: x for key, x in record.items() if key not in MEASURED} for record in records]


GRID = {"vary": {"learning_rate": [0.01, 0.03], "weights.logits": [1, 3], "batch_size": [16, 32]}, "together": 3}


def test_a_grid_is_every_combination_once_and_never_again(trials):
    records = run(trials(**GRID))
    assert len({json.dumps(r["choice"], sort_keys=True) for r in records}) == len({r["name"] for r in records}) == 8
    assert trained == [3, 1, 2, 2]  # students of one batch size see the same batches, at most three at a time
    assert all(record["state"] == "finished" and record["test"][TASK]["macro_AP"] > 0 for record in records)
    trained.clear()
    assert lasting(run(trials(**GRID))) == lasting(records)
    more = GRID | {"vary": GRID["vary"] | {"learning_rate": [0.01, 0.03, 0.02]}}
    assert len(run(trials(**more))) == 12 and sum(trained) == 4


def test_what_a_student_depends_on_is_in_its_name(trials):
    one = {"vary": {"learning_rate": [0.01]}}
    (record,) = run(trials(**one))
    (again,) = run(trials(vary={"batch_size": [16], "learning_rate": [0.01]}))
    assert again["name"] == record["name"] and again["choice"] == {"batch_size": 16, "learning_rate": 0.01}
    other = trials(**one)
    other.params = other.params.model_copy(
        update={"distill": other.params.distill.model_copy(update={"precision": "bfloat16"})}
    )
    assert run(other)[0]["name"] != record["name"] and sum(trained) == 2


def test_what_was_finished_before_a_kill_is_not_trained_again(trials, monkeypatch):
    whole = lasting(run(trials(**GRID)))
    other = trials(**GRID)
    other.scratch = other.scratch.with_name("other")

    def killed(params, students, *more):
        if len(trained) == 6:
            raise KeyboardInterrupt
        return counted(params, students, *more)

    monkeypatch.setattr(sweeping, "distil", killed)
    with pytest.raises(KeyboardInterrupt):
        run(other)
    monkeypatch.setattr(sweeping, "distil", counted)
    trained.clear()
    skipped_updates.clear()
    again = trials(**GRID)
    again.scratch = other.scratch
    assert lasting(run(again)) == whole
    assert sum(trained) == 8 - 4
    assert sum(skipped_updates) == 4 * 6


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # sums of two threads differ in the last bits
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_a_student_of_a_sweep_is_the_student_that_distill_makes(trials, stores):
    found = trials(vary={"learning_rate": [0.01, 0.03], "encoder.width": [4, 6], "seed": [0, 1]})
    one = next(record for record in run(found) if record["choice"] == {"learning_rate": 0.03, "encoder.width": 6, "seed": 1})
    student = found.candidate(one["choice"], []).student
    ((network, curve),) = distil(found.params, [(student, 1)], [TASK], *stores, lambda updates: None)
    assert curve == one["curve"]
    weights = load_file(found.scratch / one["name"] / "student.safetensors")
    assert all(torch.equal(x, weights[name]) for name, x in network.state_dict().items())


def test_a_search_proposes_the_same_again_and_stops_what_is_behind(trials):
    vary = {"learning_rate": {"low": 1e-5, "high": 0.1, "log": True}, "encoder.width": {"low": 2, "high": 6, "step": 2}}
    section = {"vary": vary | {"weights.logits": [1, 3]}, "sampler": "tpe", "students": 12, "together": 4, "keep": 0.3}
    records = run(trials(**section))
    assert len(records) == 12 and sum(trained) == 12
    assert {record["choice"]["encoder.width"] for record in records} <= {2, 4, 6}
    assert all(1e-5 <= record["choice"]["learning_rate"] <= 0.1 for record in records)
    stopped = [record for record in records if record["state"] == "stopped"]
    assert stopped and all(record["curve"][-1]["update"] == 3 for record in stopped)
    assert not [record for record in records[:4] if record["state"] == "stopped"]  # nobody was before them
    trained.clear()
    assert lasting(run(trials(**section))) == lasting(records) and not trained


def test_what_a_search_proposes_again_is_not_trained_again_whatever_hurdles_stand_now(trials):
    section = {"vary": {"learning_rate": [0.01, 0.03]}, "sampler": "tpe", "students": 12, "together": 2, "keep": 0.5}
    assert len(run(trials(**section))) == sum(trained) == 2


@pytest.mark.parametrize(("key", "bad"), [("weights.fused", 1), ("encoder.channels", 3)])
def test_a_student_that_cannot_be_taught_is_named(trials, key, bad):
    good = {"weights.fused": 0, "encoder.channels": 1}[key]
    with pytest.raises(ValueError, match=rf"sweep, \{{'{key}': {bad}\}}: "):
        run(trials(vary={key: [good, bad]}))


def test_quality_against_size(trials):
    vary = {"encoder.width": {"low": 2, "high": 8, "step": 2}, "learning_rate": {"low": 1e-3, "high": 0.1, "log": True}}
    records = run(trials(vary=vary, sampler="nsga2", students=8, together=4))
    assert 4 < len(records) == sum(trained) <= 8  # a child may be its parent
    assert (
        len({(r["choice"]["encoder.width"], r["parameters"]) for r in records}) == len({r["parameters"] for r in records}) > 1
    )


def test_a_combination_that_cannot_learn_is_an_error_before_anything_is_trained(trials):
    found = trials(vary={"weights.logits": [0, 1], "weights.labels": [0, 1]})
    with pytest.raises(ParamsError, match=r"sweep, \{'weights.logits': 0, 'weights.labels': 0\}.weights: all are zero"):
        run(found)
    assert not trained and not found.scratch.exists()


def test_one_that_diverges_is_last_and_stops_no_other(trials, tmp_path, capsys):
    found = trials(vary={"learning_rate": [1e30, 0.03]})
    board = lines(run(found), found.tasks, {TASK: 50.0})
    assert [one["state"] for one in board] == ["finished", "diverged"]
    assert [one["pareto"] for one in board] == [True, False]
    assert board[0]["delta_mtl"] == pytest.approx(2 * board[0]["test"] - 100)
    write_csv(tmp_path / "board.csv", board)
    with (tmp_path / "board.csv").open() as file:
        good, bad = csv.DictReader(file)
    assert float(good[f"val {TASK}"]) == board[0]["val"] and bad["val"] == ""
    assert best(board)["val"] == pytest.approx(board[0]["val"], abs=0.01)
    assert best(board[1:]) == {"students": 1, "finished": 0}
    draw(board, tmp_path / "front.png")
    assert (tmp_path / "front.png").read_bytes()[:4] == b"\x89PNG"
    show(board, ["learning_rate"])
    assert "diverged" in capsys.readouterr().out


def test_hurdles_are_what_the_best_share_reached():
    assert hurdles_after([[0.1, 0.5], [0.2], [0.3, 0.6], [0.4, 0.9]], 0.5) == [0.3, 0.6]
    assert hurdles_after([[0.1], [0.2]], 1.0) == hurdles_after([], 0.5) == []


def record(name, quality, parameters, **more):
    curve = [{"update": 6, f"val/{TASK}/macro_AP": quality}]
    base = {"name": name, "state": "finished", "reads": "none", "seed": 0, "choice": {}, "curve": curve}
    base |= {"updates": 6, "head_updates": 0}
    base |= {"test": {TASK: {"macro_AP": 0.5}}, "parameters": parameters, "flops": 1, "latency_ms": 1.0, "seconds": 1.0}
    return base | {"learned_from": "abc", "student": {}} | more


def test_no_other_beats_those_on_the_front(trials):
    tasks = trials(**GRID).tasks
    records = [record("a", 0.5, 10), record("b", 0.6, 20), record("c", 0.55, 20), record("d", 0.7, 9, state="stopped")]
    assert {one["name"]: one["pareto"] for one in lines(records, tasks, {})} == {"a": True, "b": True, "c": False, "d": False}
    found = lines(records, tasks, {})
    assert [one["name"] for one in found] == ["b", "c", "a", "d"]  # what was stopped was not trained to its end
    told = {"name": "b", "val": 60.0, "average": 50.0, TASK: 50.0, "parameters": 20, "flops": 1, "students": 4}
    assert best(found) == told | {"delta_mtl": 0.0}


def test_a_class_that_varies_is_said_in_words_but_kept_as_params_have_it(trials, tmp_path, capsys):
    encoder = {"code": "pipeline/encoders/conv.py", "class": "Conv", "width": 8, "blocks": 1}
    board = lines([record("a", 0.5, 10, choice={"encoder": encoder})], trials(**GRID).tasks, {})
    assert board[0]["encoder"] == encoder
    write_csv(tmp_path / "board.csv", board)
    with (tmp_path / "board.csv").open() as file:
        assert next(csv.DictReader(file))["encoder"] == "Conv(width=8, blocks=1)"
    show(board, ["encoder"])
    assert "Conv(width=8" in capsys.readouterr().out


def test_what_makes_no_difference_is_said(trials):
    choices = [{"temperature": t, "weights.logits": w} for w in (1, 3) for t in (1, 4)]
    records = [record(f"{n}", 0.5 + choice["weights.logits"] / 10, 10, choice=choice) for n, choice in enumerate(choices)]
    found = lines(records, trials(**GRID).tasks, {})
    (said,) = without_effect(found, ["temperature", "weights.logits"])
    assert said.startswith("temperature: makes no difference to such students: 2 and 3 differ in it alone")
    records[0]["curve"][-1][f"val/{TASK}/macro_AP"] = 0.9
    assert without_effect(lines(records, trials(**GRID).tasks, {}), ["temperature", "weights.logits"]) == []


def test_a_winner_becomes_a_student_and_comments_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = (CLONE / "params.yaml").read_text().replace("sampler: grid", 'sampler: "grid"')
    assert '"' in before
    (tmp_path / "params.yaml").write_text(before)
    student = {"reads": "none", "updates": 300, "weights": {"logits": 3, "labels": 1}, "logit_loss": None}
    (tmp_path / "board.json").write_text(json.dumps([{"name": "abc", "student": student}]))

    def promote(*arguments):
        return CliRunner().invoke(main, ["promote", *arguments, "--leaderboard", "board.json"]).output

    assert "stillroom sync" in promote("abc", "--as", "winner")
    after = (tmp_path / "params.yaml").read_text()
    assert set(before.splitlines()) < set(after.splitlines()) and after.count("\n") == before.count("\n") + 1
    assert "labels: 1}, logit_loss: null}" in after
    assert load_params(tmp_path / "params.yaml").student("winner").weights == {"logits": 3, "labels": 1}
    assert "there is one already" in promote("abc", "--as", "winner")
    assert "did you mean 'abc'?" in promote("abd")
    (tmp_path / "board.json").write_text(json.dumps([{"name": "abc", "student": {**student, "reads": "lost"}}]))
    assert "params.yaml: students.third.reads: " in promote("abc", "--as", "third")
    assert (tmp_path / "params.yaml").read_text() == after and len(list(tmp_path.iterdir())) == 2


def test_of_two_that_promote_at_once_none_loses_its_student(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, board = tmp_path / "params.yaml", tmp_path / "board.json"
    before = (CLONE / "params.yaml").read_text()
    path.write_text(before)
    board.write_text(json.dumps([{"name": "abc", "student": {"reads": "none", "updates": 3, "weights": {"logits": 1}}}]))
    first = locked(path)
    second = threading.Thread(target=promote, args=("abc", "second", board, path))
    second.start()
    time.sleep(0.3)
    write_whole(path, before.replace("  single: {", "  first: {").replace("baseline: single", "baseline: first").encode())
    os.close(first)
    second.join()
    assert {"first", "second"} <= load_params(path).students.keys()
