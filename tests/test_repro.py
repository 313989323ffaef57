"""Real `dvc repro` on a small project: what runs again, what does not, what a kill costs."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from pipeline.planning import make_plan
from pipeline.project.class_spec import CLONE
from pipeline.project.validation import load_params
from pipeline.stores.store import open_store
from tests.reported import metrics_of

pytestmark = pytest.mark.slow

ENCODER = {"code": "pipeline/encoders/image.py", "class": "ImageEncoder", "width": 16, "blocks": 1}
AWARE = {"code": "pipeline/fusions/task_aware.py", "class": "TaskAware", "dims": 8, "updates": 4, "batch_size": 32}
METHODS = {
    "feature_loss": {"code": "pipeline/losses/crd.py", "class": "CRD", "bank": 64},
    "balance": {"code": "pipeline/balances/gradients.py", "class": "UPGrad"},
}
STUDENTS = {
    "fused": {"reads": "pca", "updates": 8, "weights": {"fused": 1, "logits": 1, "labels": 1}, **METHODS},
    "logits": {"reads": "aware", "updates": 8, "weights": {"logits": 1}},
    "labels": {"reads": "transfer", "updates": 8, "weights": {"labels": 1}},
}
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "DVC_NO_ANALYTICS": "1",
    "XDG_CACHE_HOME": tempfile.mkdtemp(),  # where checked stores are remembered
    "OMP_NUM_THREADS": "1",
    **{f"GIT_{who}_{what}": "test@example.invalid" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


def run(folder, *command, fails=False):
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    output = done.stdout + done.stderr
    assert (done.returncode != 0) == fails, output
    return output


def repro(folder, *arguments):
    """The stages that ran."""
    return re.findall(r"Running stage '(.+)'", run(folder, "dvc", "repro", *arguments))


def edit(folder, change):
    params = yaml.safe_load((folder / "params.yaml").read_text())
    change(params)
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def make_small(params):
    params["prepare"]["source"] |= {"unlabelled": 80, "val": 20, "test": 24, "unseen": 30}
    params["prepare"]["source"]["labelled"] = dict.fromkeys(params["tasks"], 80)
    params["prepare"]["shard_rows"] = 32
    for teacher in params["teachers"].values():
        teacher |= {"encoder": ENCODER, "updates": 8}
    params["train_teacher"]["batch_size"] = 32
    params["tasks"]["segmentation"]["temperature"] = 1
    compact = {"features/trunk": {"dtype": "qint8", "codec": "zstd", "dims": 8}}
    params["teachers"]["classification"]["recipes"] = compact
    sparse = {"logits/segmentation": {"dtype": "float16", "codec": "lz4", "top_k": 3}}
    params["teachers"]["segmentation"]["recipes"] = sparse
    params["fusions"] = {"pca": {**params["fusions"]["pca"], "dims": 8}, "aware": AWARE}
    params["distill"] |= {"encoder": ENCODER, "seeds": 2, "batch_size": 32, "logit_loss": None}
    params["students"] = STUDENTS
    params["evaluate"] |= {"shots": [20], "draws": 2}
    params["report"] |= {"baseline": "labels", "strip": ["fused"], "strip_rows": 2}
    params["sweep"] |= {"start": "logits", "vary": {"weights.logits": [1, 2], "seed": [0, 1]}, "together": 1}


def begin(folder, change=make_small):
    """A project as it is before `dvc repro`."""
    folder.mkdir()
    for name in ("pipeline", "stages", ".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore", "dvc.yaml", "params.yaml"):
        (folder / name).parent.mkdir(exist_ok=True)
        copy = shutil.copytree if (CLONE / name).is_dir() else shutil.copy
        copy(CLONE / name, folder / name)
    edit(folder, change)
    run(folder, "git", "init", "-q")
    run(folder, sys.executable, "-m", "pipeline.cli", "sync")
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A small project after `dvc repro`, committed, pushed to a folder beside it."""
    folder = begin(tmp_path_factory.mktemp("finished") / "project")
    ran = repro(folder)
    assert len(ran) == 1 + 3 + 3 + 2 + 3 + 3 + 1 + 1
    run(folder, "dvc", "remote", "add", "-d", "shelf", str(folder.parent / "shelf"))
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "all")
    run(folder, "dvc", "push")
    return folder


@pytest.fixture
def project(finished, tmp_path):
    """A copy to spoil."""
    return Path(shutil.copytree(finished, tmp_path / "project", symlinks=True))


def outs(folder):
    """{out: md5} of dvc.lock, without costs, which are measured."""
    lock = yaml.safe_load((folder / "dvc.lock").read_text())
    items = [out for stage in lock["stages"].values() for out in stage["outs"]]
    measured = ("data/costs", "data/report", "data/sweep/leaderboard")
    return {out["path"]: out["md5"] for out in items if not out["path"].startswith(measured)}


def test_a_second_repro_does_nothing(finished):
    assert repro(finished) == []


def test_the_report_is_there_and_speaks_of_everyone(finished):
    page = (finished / "data/report/index.html").read_text()
    assert all(f"<td>{name}</td>" in page for name in STUDENTS)
    assert "What fusions keep of each teacher" in page
    assert metrics_of(finished, "students").keys() == STUDENTS.keys()
    assert (finished / "data/report/plots/strip.png").stat().st_size > 10_000


def test_stores_hold_what_they_say(finished):
    for path in [
        *finished.glob("data/knowledge/*.zarr"),
        *finished.glob("data/features/*.zarr"),
        *finished.glob("data/splits/**/*.zarr"),
    ]:
        open_store(path).verify()
    pca, transfer = (open_store(finished / f"data/knowledge/{name}.zarr") for name in ("pca", "transfer"))
    assert pca.ids == transfer.ids
    assert {"inputs/image", "labels/detection", "logits/detection/detection", "fused/components"} <= pca.fields.keys()
    header = (finished / "data/students/fused/seed-0/classification+detection+segmentation.safetensors").read_bytes()[:4000]
    assert pca.digest.encode() in header


def test_a_students_parameter_runs_that_student_alone(project):
    edit(project, lambda p: p["students"]["logits"].update(updates=9))
    assert repro(project, "report") == ["distill@logits", "evaluate@logits", "report"]
    assert repro(project) == ["sweep"]  # which starts from that student


def test_a_class_that_one_student_has_re_runs_no_other(project):
    loss = {"code": "pipeline/losses/pkd.py", "class": "PKD"}
    edit(project, lambda p: p["students"].update(parted={**STUDENTS["fused"], "feature_loss": loss}))
    run(project, sys.executable, "-m", "pipeline.cli", "sync")
    assert repro(project) == ["distill@parted", "evaluate@parted", "report"]
    edit(project, lambda p: p["sweep"]["vary"].update(feature_loss=[p["distill"]["feature_loss"], loss]))
    run(project, sys.executable, "-m", "pipeline.cli", "sync")
    before = {file: file.stat().st_mtime_ns for file in project.glob("data/sweep/.scratch/*/*/record.json")}
    assert repro(project) == ["sweep"]
    after = {file: file.stat().st_mtime_ns for file in project.glob("data/sweep/.scratch/*/*/record.json")}
    assert len(before) == 4 and after.items() > before.items()  # those of before are students of this sweep, too


def test_a_student_begins_as_the_one_that_it_extends_and_runs_again_after_it(project):
    grown = {**STUDENTS["labels"], "extends": "logits", "frozen": True, "updates": 3}
    edit(project, lambda p: p["students"].update(grown=grown))
    run(project, sys.executable, "-m", "pipeline.cli", "sync")
    assert repro(project, "distill@grown") == ["distill@grown"]
    file = "seed-1/classification+detection+segmentation.safetensors"
    before, after = (load_file(project / "data/students" / name / file) for name in ("logits", "grown"))
    same = {name for name, x in before.items() if torch.equal(x, after[name])}
    assert {name for name in before if name.startswith("encoder.")} <= same < before.keys()
    edit(project, lambda p: p["students"]["logits"].update(updates=9))
    assert repro(project, "distill@grown") == ["distill@logits", "distill@grown"]


def test_a_student_learns_from_a_store_of_another_team(project, finished):
    run(project, "dvc", "import", str(finished), "data/knowledge/pca.zarr", "-o", "data/knowledge/theirs.zarr")
    assert "theirs.zarr.dvc" in run(project, "git", "status", "--short", "--untracked-files=all")
    edit(project, lambda p: p["students"].update(guest={**STUDENTS["fused"], "reads": "theirs"}))
    run(project, sys.executable, "-m", "pipeline.cli", "sync")
    assert repro(project, "distill@guest") == ["distill@guest"]
    file = "seed-0/classification+detection+segmentation.safetensors"
    own, guest = ((project / "data/students" / name / file).read_bytes() for name in ("fused", "guest"))
    assert own == guest  # the same store by another name
    assert repro(project, "evaluate@guest") == ["evaluate@guest"]
    leak = ["guest", "--student", "data/students/guest", "--store", "data/splits/test/clean.zarr"]  # as if it had read that
    leak += ["--test", "data/splits/test", "--unseen", "data/splits/unseen", "--scores", "data/scores/students/guest"]
    said = run(project, sys.executable, "-m", "stages.evaluate", *leak, fails=True)
    assert "are samples of data/splits/test/clean.zarr: who learns from them cannot be measured" in said
    edit(project, lambda p: p["sweep"].update(start="guest"))
    run(project, sys.executable, "-m", "pipeline.cli", "sync")
    shutil.copytree(project / "data/knowledge/theirs.zarr", project / "leak/clean.zarr")  # as if the test had been dumped
    sweep = ["--knowledge", "data/knowledge", "--val", "data/splits/val.zarr", "--test", "leak"]
    sweep += ["--scores", "data/scores/students", "--out", "swept", "--cost", "swept.json"]
    said = run(project, sys.executable, "-m", "stages.sweep", *sweep, fails=True)
    assert "are samples of leak/clean.zarr: who learns from them cannot be measured" in said


def test_a_teachers_parameter_runs_it_the_fusions_and_who_reads_them(project):
    edit(project, lambda p: p["teachers"]["detection"].update(updates=9))
    ran = set(repro(project))
    assert ran == {
        *("train_teacher@detection", "extract@detection", "fuse@aware", "fuse@pca"),
        *("distill@fused", "distill@logits", "evaluate@fused", "evaluate@logits", "report", "sweep"),
    }


def test_a_teacher_added_is_an_error_until_sync_and_then_runs_what_it_must(project):
    edit(project, lambda p: p["teachers"].update(second={**p["teachers"]["detection"], "updates": 10}))
    assert "run `stillroom sync`" in run(project, "dvc", "repro", fails=True)
    run(project, sys.executable, "-m", "pipeline.cli", "sync")
    ran = set(repro(project))
    assert {"train_teacher@second", "extract@second", "fuse@aware", "fuse@pca", "distill@fused"} <= ran
    assert not ran & {"prepare", "train_teacher@detection", "extract@detection", "distill@labels"}
    assert "logits/second/detection" in open_store(project / "data/knowledge/pca.zarr").fields


def test_a_task_removed_is_an_error_until_sync_and_retrains_no_other_teacher(project):
    def remove(params):
        del params["tasks"]["segmentation"], params["teachers"]["segmentation"]

    edit(project, remove)
    told = run(project, "dvc", "repro", fails=True)  # in DVC's own words
    assert "tasks.segmentation" in told and "are missing from 'params.yaml'" in told
    run(project, sys.executable, "-m", "pipeline.cli", "sync")
    ran = set(repro(project))
    assert not {stage for stage in ran if stage.startswith(("prepare", "train_teacher", "extract"))}
    assert {"fuse@aware", "fuse@pca", "distill@fused", "distill@labels", "report"} <= ran


def test_a_changed_task_retrains_its_own_teacher_and_no_other(project):
    edit(project, lambda p: p["tasks"]["segmentation"].update(background_weight=0.5))
    ran = set(repro(project))
    assert {stage for stage in ran if stage.startswith("train_teacher")} == {"train_teacher@segmentation"}
    assert not ran & {"prepare", "extract@detection", "extract@classification"}


def test_the_same_seed_gives_the_same_bytes(finished, project):
    shutil.rmtree(project / "data")
    shutil.rmtree(project / ".dvc/cache")
    (project / "dvc.lock").unlink()
    repro(project, "--no-run-cache", "evaluate@fused", "evaluate@labels")
    again = outs(project)
    assert len(again) > 12
    assert again == {path: outs(finished)[path] for path in again}


def test_a_fresh_clone_pulls_one_store_and_runs_no_teacher(finished, tmp_path):
    clone = tmp_path / "clone"
    run(tmp_path, "git", "clone", "-q", str(finished), str(clone))
    edit(clone, lambda p: p["students"]["fused"].update(updates=9))
    assert repro(clone, "--pull", "--allow-missing", "distill@fused") == ["distill@fused"]
    assert [path.name for path in (clone / "data/knowledge").glob("*.zarr")] == ["pca.zarr"]
    assert not (clone / "data/teachers").exists() and not (clone / "data/features").exists()
    open_store(clone / "data/knowledge/pca.zarr").verify()


def test_a_store_is_imported_from_another_clone(finished, tmp_path):
    run(tmp_path, "git", "init", "-q")
    run(tmp_path, "dvc", "init", "-q")
    run(tmp_path, "dvc", "import", str(finished), "data/knowledge/pca.zarr")
    assert open_store(tmp_path / "pca.zarr").digest == open_store(finished / "data/knowledge/pca.zarr").digest


def test_students_learn_and_are_scored_with_no_teacher_in_sight(finished, project):
    for folder in ("data/teachers", "data/features", "data/students", "data/scores"):
        shutil.rmtree(project / folder)
    for stage in ("train_teacher", "extract"):
        (project / "stages" / f"{stage}.py").write_text('raise ImportError("a teacher was asked for")\n')
    run(project, sys.executable, "-m", "pipeline.cli", "sync")
    stages = yaml.safe_load((project / "dvc.yaml").read_text())["stages"]
    for stage in ("distill", "evaluate"):
        command = stages[stage]["do"]["cmd"].replace("${key}", "fused").replace("${item.reads}", "pca")
        run(project, *command.split())
    for out in (
        "data/students/fused/seed-1/classification+detection+segmentation.safetensors",
        "data/scores/students/fused/scores.json",
    ):
        assert (project / out).read_bytes() == (finished / out).read_bytes()


def kill_in_the_middle_of_extract(project):
    """SIGKILL of `dvc repro` and all of its children when some, but not all, shards are finished."""
    edit(project, lambda p: p["teachers"]["detection"].update(updates=9))
    repro(project, "train_teacher@detection")
    scratch = project / "data/features/.scratch"
    process = subprocess.Popen(
        ["dvc", "repro", "extract@detection"],
        cwd=project,
        env=ENVIRONMENT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while len(list(scratch.glob("*/notes/*.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    notes = list(scratch.glob("*/notes/*.json"))
    assert 3 <= len(notes) < 20, "killed too early or too late"
    assert not (project / "data/features/detection.zarr").exists()
    return notes


def shards_of(notes, store):
    """{file: (inode, time)} of the shards that these notes vouch for."""
    files = [file for note in notes for file in json.loads(note.read_text())]
    return {file: ((store / file).stat().st_ino, (store / file).stat().st_mtime_ns) for file in files}


def test_a_killed_extract_goes_on_where_it_stopped(project, tmp_path):
    notes = kill_in_the_middle_of_extract(project)
    texts = [note.read_text() for note in notes]
    before = shards_of(notes, notes[0].parents[1] / "store")
    assert repro(project, "extract@detection") == ["extract@detection"]
    store = project / "data/features/detection.zarr"
    after = {file: (store / file).stat().st_mtime_ns for text in texts for file in json.loads(text)}
    assert after == {file: mtime for file, (_, mtime) in before.items()}  # written once, before the kill
    resumed = outs(project)["data/features/detection.zarr"]
    repro(project, "--force", "--single-item", "--no-run-cache", "extract@detection")
    assert outs(project)["data/features/detection.zarr"] == resumed
    assert not list((project / "data/features/.scratch").iterdir())


def test_nothing_stale_survives_a_change_after_a_kill(project):
    kill_in_the_middle_of_extract(project)
    edit(project, lambda p: p["extract"]["features"].update(dtype="float32", codec="lz4"))
    repro(project, "extract@detection")
    store = open_store(project / "data/features/detection.zarr")
    store.verify()
    assert store.fields["features/detection/trunk"].dtype == "float32"
    assert not list((project / "data/features/.scratch").iterdir())


def board(project):
    return json.loads((project / "data/sweep/leaderboard.json").read_text())


def lasting(project):
    """A leaderboard without what is measured, and every student's file."""
    lines = [{key: x for key, x in line.items() if key not in ("seconds", "latency_ms")} for line in board(project)]
    return lines, {file.name: file.read_bytes() for file in (project / "data/sweep/students").iterdir()}


def kill_sweep_after(project, finished):
    """SIGKILL of `dvc repro sweep` and all of its children, soon after so many are finished: {record: when written}."""
    command = {"cwd": project, "env": ENVIRONMENT, "start_new_session": True}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(["dvc", "repro", "sweep"], **command, **quiet)
    scratch, deadline = project / "data/sweep/.scratch", time.monotonic() + 120
    while len(list(scratch.glob("*/*/record.json"))) < finished and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(random.uniform(0, 0.2))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return {file: file.stat().st_mtime_ns for file in scratch.glob("*/*/record.json")}


def test_a_sweep_killed_ten_times_repeats_no_finished_student(project):
    edit(project, lambda p: p["sweep"]["vary"].update(seed=list(range(8))))
    before = {file: file.stat().st_mtime_ns for file in project.glob("data/sweep/.scratch/*/*/record.json")}
    assert len(before) == 4  # of the sweep that this one extends
    records = before
    for number in range(4, 14):
        now = kill_sweep_after(project, number)
        assert len(now) >= number and records.items() <= now.items()
        records = now
    assert repro(project, "sweep") == ["sweep"]
    assert all(file.stat().st_mtime_ns == mtime for file, mtime in records.items())
    resumed = lasting(project)
    assert len(resumed[0]) == 16
    shutil.rmtree(project / "data/sweep/.scratch")
    repro(project, "--force", "--single-item", "--no-run-cache", "sweep")
    assert lasting(project) == resumed


def test_a_winner_is_promoted_and_distilled_to_what_the_sweep_had(project):
    (winner,) = [line for line in board(project) if line["seed"] == 0 and line["weights.logits"] == 2]
    run(project, sys.executable, "-m", "pipeline.cli", "promote", winner["name"], "--as", "winner")
    run(project, sys.executable, "-m", "pipeline.cli", "sync")
    assert repro(project, "evaluate@winner") == ["distill@winner", "evaluate@winner"]
    scores = json.loads((project / "data/scores/students/winner/scores.json").read_text())
    assert 100 * scores[0]["test"]["clean"]["detection"]["mAP50"] == winner["test detection"]


def test_experiments_change_params_and_are_compared(project):
    run(project, "dvc", "exp", "run", "-n", "heavier", "-S", "sweep.vary={weights.logits:[4]}", "sweep")
    assert {line["weights.logits"] for line in board(project)} == {4}
    shown = json.loads(run(project, "dvc", "exp", "show", "--json"))
    (experiment,) = [e for row in shown for e in row.get("experiments") or []]
    (revision,) = experiment["revs"]
    assert revision["name"] == "heavier"
    best = revision["data"]["metrics"]["data/sweep/best.json"]["data"]
    assert best["val"] == pytest.approx(board(project)[0]["val"], abs=0.01)


def test_bad_input_is_one_line_and_loses_nothing(project):
    shard = next(project.glob("data/knowledge/pca.zarr/fused/components/c/0/0/0/0"))
    whole = shard.read_bytes()
    shard.unlink()  # the file is a link into DVC's cache: never write through it
    shard.write_bytes(whole[:-1])
    command = (
        "python -m stages.distill fused --store data/knowledge/pca.zarr --val data/splits/val.zarr --students data/students "
        "--out out --cost cost.json"
    )
    output = run(project, *command.split(), fails=True)
    assert output.count("\n") == 1
    assert output.startswith("error: data/knowledge/pca.zarr/fused/components/c/0/0/0/0: damaged")
    assert not (project / "out").exists()


def test_a_plan_comes_true(finished, monkeypatch):
    monkeypatch.chdir(finished)
    plan = make_plan(load_params(Path("params.yaml")), Path("data"))
    stores = {"transfer": "knowledge/transfer", **{f: f"knowledge/{f}" for f in ("aware", "pca")}}
    found = 0
    for planned in plan.fields:
        store = open_store(Path("data") / f"{stores.get(planned.store, planned.store.replace(' ', '/'))}.zarr")
        field = store.fields[planned.name]
        assert (field.shape, field.dtype, field.max_items) == (
            planned.field.shape,
            planned.field.dtype,
            planned.field.max_items,
        )
        found += store.nbytes(planned.name)
    assert plan.rows == store.n_rows
    assert plan.bytes == pytest.approx(found, rel=0.1)
