"""Every wrong params.yaml is one line that names the key."""

import copy
import os
import subprocess
import sys

import pytest
import yaml

from pipeline.project.class_spec import CLONE, ParamsError
from pipeline.project.dependencies import check_classes
from pipeline.project.sweep_problems import check_grid
from pipeline.project.validation import load_params

RAW = {"dtype": "float16", "codec": "raw"}
GOOD = yaml.safe_load((CLONE / "params.yaml").read_text())


def write(tmp_path, content):
    path = tmp_path / "params.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return path


def changed(key, value):
    """GOOD with one dotted key set, or removed if the value is None."""
    content = copy.deepcopy(GOOD)
    *parents, last = key.split(".")
    section = content
    for part in parents:
        section = section[part]
    if value is None:
        del section[last]
    else:
        section[last] = value
    return content


def test_the_clones_own_params_are_right():
    params = load_params(CLONE / "params.yaml")
    fused = params.student("fused")
    assert fused.tasks == list(params.tasks)
    assert fused.encoder == params.distill.encoder
    assert fused.batch_size == params.distill.batch_size
    assert params.student("labels").weights == {"labels": 1}
    assert params.longest_on_labels() == "labels_4x"


IMPORTED = {"code": "pipeline/dumps/npy.py", "class": "Npy", "files": "dumps", "outputs": {"features/trunk": "trunk"}}
FUSED = GOOD["students"]["fused"]
NARROW = {**GOOD["distill"]["encoder"], "width": 8}


@pytest.mark.parametrize("section", [{}, None])
def test_a_project_may_do_without_a_sweep(tmp_path, section):
    assert load_params(write(tmp_path, GOOD | {"sweep": section})).swept_reads() == set()


def test_a_swept_student_is_the_one_it_starts_from_but_for_what_varies():
    params = load_params(CLONE / "params.yaml")
    start = params.student("logits")
    assert start.logit_loss and params.filled(params.varied({"weights.logits": 2})).logit_loss == start.logit_loss
    student = params.filled(params.varied({"encoder.width": 8, "weights.logits": 2, "temperature": 3, "logit_loss": None}))
    assert student.logit_loss is None
    assert student.encoder.arguments == start.encoder.arguments | {"width": 8}
    assert student.weights == {"logits": 2, "labels": 1}
    assert student.build_task(params.tasks["segmentation"]).temperature == 3
    assert student.build_task(params.tasks["detection"]).temperature is None
    assert student.learning_rate == start.learning_rate


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("sede", 1, "sede: unknown key; did you mean 'seed'"),
        ("seed", None, "seed: missing"),
        ("seed", -1, "seed: input should be greater than or equal to 0, got -1"),
        ("device", "tpu", "device: input should be 'auto', 'cpu' or 'cuda', got 'tpu'"),
        ("distill.precision", "fp16", "distill.precision: input should be 'float32' or 'bfloat16', got 'fp16'"),
        ("prepare.shard_rows", 0, "prepare.shard_rows: .*greater than 0, got 0"),
        ("prepare.source.code", "pipeline/sources/gone.py", "prepare.source.code: no file pipeline/sources/gone.py"),
        (
            "prepare.source.code",
            "sources/voc.py",
            "folder or the clone; did you mean 'pipeline/sources/vision/voc.py'?",
        ),
        ("train_teacher.learning_rate", 0, "train_teacher.learning_rate: .*greater than 0"),
        ("train_teacher.epochs", 3, "train_teacher.epochs: unknown key"),
        ("teachers.detection.updates", -5, "teachers.detection.updates: .*greater than or equal to 0, got -5"),
        ("teachers.detection.updates", "many", "teachers.detection.updates: .*valid integer.*'many'"),
        (
            "teachers.detection.tasks",
            ["detektion"],
            "teachers.detection.tasks: no task named 'detektion'; did you mean 'detection'",
        ),
        ("teachers.detection.tasks", [], "teachers.detection.updates: there is no task to train it on"),
        ("teachers.detection.encoder", None, "teachers.detection: expected either encoder or imported; give one of them"),
        ("teachers.detection.imported", IMPORTED, "teachers.detection: expected either encoder or imported; give one of them"),
        ("teachers.outside", {"tasks": [], "imported": IMPORTED, "updates": 3}, "teachers.outside.updates: .* is not trained"),
        (
            "teachers.outside",
            {"tasks": ["detection"], "imported": IMPORTED},
            "imported.outputs: logits/detection is only",
        ),
        ("teachers.detection.encoder.pretrained", "x", "encoder.pretrained: belongs one level up, as teachers.detection.pre"),
        ("teachers.detection.encoder.module", {"code": "no.py", "class": "No"}, "detection.encoder.module.code: no file no.py"),
        ("teachers.detection", None, "tasks.detection: no teacher has this task; add one"),
        ("teachers", {}, "teachers: empty"),
        ("extract.features.dtype", "float8", "extract.features.dtype: input should be 'float32', 'float16'"),
        ("extract.features.codec", "gzip", "extract.features.codec: input should be"),
        ("teachers.detection.recipes", {"fused/x": RAW}, r"detection\.recipes\.fused/x: expected features/<tap>"),
        ("teachers.detection.recipes", {"logits/detektion": RAW}, "no task of this teacher named 'detektion'; did you mean"),
        ("teachers.detection.recipes", {"logits/detection": {**RAW, "dims": 3}}, "dims: not for such a field"),
        ("extract.features.top_k", 3, "extract.features.top_k: not for such a field, which takes dims"),
        ("extract.logits.dims", 3, "extract.logits.dims: not for such a field, which takes top_k or sampled"),
        ("fuse.fused.dims", 3, "fuse.fused.dims: not for such a field"),
        ("extract.logits", {**RAW, "top_k": 3, "sampled": 3}, "extract.logits: top_k and sampled: give one of them"),
        ("sweep.start", "logitz", "sweep.start: no student named 'logitz'; did you mean 'logits'"),
        ("sweep.start", "single", "sweep.start: single is one network per task"),
        ("sweep.vary", {"encoder.width": []}, "sweep.vary.encoder.width.*at least 1 item"),
        (
            "sweep.vary",
            {"learning_rat": [0.1]},
            "sweep.vary.learning_rat: not a parameter of a student; did you mean 'learning_rate'",
        ),
        ("sweep.vary", {"learning_rate": [0.1, -1]}, "sweep.vary.learning_rate: learning_rate: .*greater than 0, got -1"),
        ("sweep.vary", {"encodr.width": [16]}, "sweep.vary.encodr.width: not a parameter of a student; did you mean 'encoder'"),
        ("sweep.vary", {"update": [20]}, "sweep.vary.update: not a parameter of a student; did you mean 'updates'"),
        ("sweep.vary", {"extends": ["fused"]}, "sweep.vary.extends: those of a sweep begin afresh"),
        ("sweep.vary", {"tasks": [["detection"]]}, "sweep.vary.tasks: students of different tasks cannot be ranked"),
        (
            "sweep.vary",
            {"weights": [{"labels": 1}], "weights.logits": [1, 3]},
            "sweep.vary.weights: weights.logits is part of it",
        ),
        ("sweep.vary", {"reads": ["pcb"]}, "sweep.vary.reads: no store named 'pcb'; did you mean 'pca'"),
        ("sweep.vary", {"weights.logits": {"low": 1, "high": 3}}, "sweep.vary.weights.logits: a grid takes lists"),
        ("sweep.vary", {"seed": ["x"]}, "sweep.vary.seed: expected seed numbers, 0, 1, ..., got 'x'"),
        ("sweep.vary", {"encoder.width": {"low": 8, "high": 4}}, "sweep.vary.encoder.width: nothing lies between 8 and 4"),
        ("sweep.vary", {"learning_rate": {"low": 0.01, "high": 0.1, "log": True, "step": 0.01}}, "log and step: give one of"),
        ("sweep.vary", {"encoder.width": {"low": 4, "high": 8, "step": 0.5}}, "whole between whole numbers, got 0.5"),
        ("sweep.vary", {"encoder.width": {"low": 4, "high": 8, "step": float("inf")}}, "expected a step above 0, .* got inf"),
        ("sweep.vary", {"weights.logits": {"low": 0, "high": 1, "log": True}}, "log needs numbers above 0, got low 0"),
        (
            "sweep",
            {"start": "logits", "vary": {"updates": [20, 40]}, "sampler": "tpe", "students": 4, "keep": 0.5},
            "sweep.keep: compares students after the same share of their updates: not where these vary",
        ),
        ("sweep.sampler", "tpe", "sweep.students: missing; say how many tpe may try"),
        ("fusions.transfer", GOOD["fusions"]["pca"], "fusions.transfer: this name is the transfer set's"),
        ("fusions.pca.teachers", ["depth"], "fusions.pca.teachers: no teacher named 'depth'"),
        ("fusions.a/b", GOOD["fusions"]["pca"], "fusions.a/b: a name has letters"),
        ("fusions." + "a" * 201, GOOD["fusions"]["pca"], "fusions.a+: string should have at most 200 characters"),
        ("students.fused.weights", {"labels": float("inf")}, "students.fused.weights.labels: .*finite number"),
        ("distill.learning_rate", float("inf"), "distill.learning_rate: .*finite number"),
        ("fusions.pca.class", None, "fusions.pca.class: missing"),
        ("distill.seeds", 0, "distill.seeds: .*greater than 0"),
        ("distill.batchsize", 3, "distill.batchsize: unknown key; did you mean 'batch_size'"),
        ("students.fused.reads", "pcaa", "students.fused.reads: no store named 'pcaa'; did you mean 'pca'"),
        ("students.fused.reads", "transfer", "students.fused.reads: transfer holds no knowledge"),
        ("students.fused.updates", -600, "students.fused.updates: .*greater than 0"),
        ("students.fused.weights", {"fusd": 1}, "students.fused.weights.fusd: "),
        ("students.fused.weights", {"labels": -1}, "students.fused.weights.labels: .*greater than or equal to 0"),
        ("students.fused.weights", {"labels": 0}, "students.fused.weights: all are zero"),
        ("students.fused.weights", {"fused": 1}, "students.fused.head_updates: fused features alone train no head"),
        ("students.fused.tasks", ["depth"], "students.fused.tasks: no task named 'depth'"),
        ("students.fused.labelled_share", 1.5, "students.fused.labelled_share: .*less than or equal to 1"),
        ("students.fused.labelled", ["depth"], "students.fused.labelled: no task named 'depth'"),
        ("students.labels.labelled", ["detection"], "students.labels.labelled: nothing trains the head of classification"),
        ("students.single.labelled", ["detection"], "students.single.labelled: one network per task [(]separate[)] learns"),
        ("students.fused.extends", "logit", "students.fused.extends: no student named 'logit'; did you mean 'logits'"),
        ("students.fused.extends", "fused", "students.fused.extends: a circle: fused extends fused"),
        ("students.fused.extends", "single", "students.fused.extends: one network per task [(]separate[)] neither"),
        ("students.fused", {**FUSED, "extends": "labels", "encoder": NARROW}, "the encoder of labels differs; give both"),
        (
            "students.fused.temperature",
            2,
            "temperature: the logit_loss has its own or none; give logit_loss: null",
        ),
        ("students.fused.frozen", True, "students.fused.weights.fused: teaches the encoder, which is frozen"),
        ("students.labels.frozen", True, "students.labels.frozen: keeps the encoder of a student that it extends"),
        ("students.logits.extends", "fused", "sweep.start: logits extends another student; those of a sweep begin afresh"),
        ("students.fused.raeds", "pca", "students.fused.raeds: unknown key; did you mean 'reads'"),
        ("students.fused.encoder", {"code": "x.py", "class": "X"}, "students.fused.encoder.code: no file x.py"),
        ("evaluate.shots", [0], "evaluate.shots.0: .*greater than 0"),
        ("report.baseline", "solo", "report.baseline: no student named 'solo'"),
        ("report.strip", ["fusd"], "report.strip: no student named 'fusd'; did you mean 'fused'"),
    ],
)
def test_wrong_params_are_one_line_that_names_the_key(tmp_path, key, value, message):
    with pytest.raises(ParamsError, match=message) as error:
        load_params(write(tmp_path, changed(key, value)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "cannot be read as YAML"),
        ("a: " + "[" * 3000, "cannot be read as YAML"),
        ("3", "expected sections"),
        ("", "expected sections"),
        ("{}", "seed: missing"),
        ("sede: 1", "sede: unknown"),
    ],
)
def test_files_that_are_no_params(tmp_path, content, message):
    with pytest.raises(ParamsError, match=message) as error:
        load_params(write(tmp_path, content))
    assert "\n" not in str(error.value)


def test_no_params_at_all(tmp_path):
    with pytest.raises(ParamsError, match="not found; run this in a project folder"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "tasks.detection.strid",
            4,
            "tasks.detection.strid: no argument of Detection, which takes classes, stride, box_weight",
        ),
        ("tasks.detection.stride", None, "tasks.detection.stride: missing; Detection needs it"),
        (
            "tasks.detection",
            {"code": "pipeline/tasks/task.py", "class": "Task"},
            "tasks.detection.class: Task of .* lacks dist",
        ),
        ("tasks.detection.class", "Detector", "tasks.detection.class: .* has no class 'Detector'"),
        ("tasks.detection.classes", "three", "tasks.detection.classes: input should be a valid integer.*, got 'three'"),
        ("tasks.detection.stride", 0, "tasks.detection.stride: input should be greater than 0, got 0"),
        ("tasks.detection.box_weight", [2], r"tasks.detection.box_weight: input should be a valid number, got \[2\]"),
    ],
)
def test_classes_are_checked_when_they_are_built(tmp_path, key, value, message):
    params = load_params(write(tmp_path, changed(key, value)))
    with pytest.raises(ParamsError, match=message):
        params.tasks["detection"].build()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("students.fused.encoder", {**NARROW, "widht": 8}, "students.fused.encoder.widht: no argument .* did you mean 'width'"),
        ("sweep.vary", {"encoder.width": [16, -2]}, r"sweep.vary: .*encoder.width: .* greater than 0, got -2"),
        ("sweep.vary", {"weights.logits": [0, 1], "weights.labels": [0, 1]}, "sweep, .*'weights.labels': 0.*: all are zero"),
        ("fusions.pca.dims", "64d", "fusions.pca.dims: input should be a valid integer"),
        ("prepare.source.views", "two", "prepare.source.views: input should be a valid integer"),
    ],
)
def test_all_classes_are_checked_before_any_work(tmp_path, key, value, message):
    params = load_params(write(tmp_path, changed(key, value)))
    with pytest.raises(ParamsError, match=message):
        check_classes(params)
        check_grid(params)


def test_a_name_that_yaml_reads_as_something_else_is_told_so(tmp_path):
    text = (CLONE / "params.yaml").read_text().replace("tasks:\n", "tasks:\n  true: {code: a.py, class: A}\n", 1)
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ParamsError, match=r"tasks\.1: YAML reads this name as True; put it in quotes"):
        load_params(tmp_path / "params.yaml")


def test_names_are_what_dvc_reads(tmp_path):
    content = (CLONE / "params.yaml").read_text()
    params = load_params(write(tmp_path, content.replace("  labels_4x: ", "  no: ").replace("strip: [labels", "strip: [no")))
    assert params.report.strip == ["no", "fused"]
    with pytest.raises(ParamsError, match=r"cannot be read as YAML: .*duplicate key"):
        load_params(write(tmp_path, content + "seed: 3\n"))


def test_a_task_that_cannot_name_a_head_or_with_others_a_file_is_refused(tmp_path):
    content = changed("tasks.values", GOOD["tasks"]["classification"])
    content["teachers"]["detection"]["tasks"] = ["detection", "values"]
    with pytest.raises(ParamsError, match=r"params.yaml: tasks.values: torch has this name for something else; choose another"):
        check_classes(load_params(write(tmp_path, content)))
    content = changed("tasks." + 180 * "a", GOOD["tasks"]["classification"])
    with pytest.raises(ParamsError, match=r"students.fused.tasks: joined, .*: 218 characters; shorten them to 200"):
        load_params(write(tmp_path, content))


def test_params_are_utf_8_whatever_the_locale(tmp_path):
    write(tmp_path, "# größe\n" + (CLONE / "params.yaml").read_text())
    load = "from pathlib import Path; from pipeline.project.validation import load_params; load_params(Path('params.yaml'))"
    ascii_alone = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(CLONE)}
    subprocess.run([sys.executable, "-c", load], cwd=tmp_path, env={**os.environ, **ascii_alone}, check=True)


def test_an_empty_split_is_named(tmp_path):
    params = load_params(write(tmp_path, changed("prepare.source.val", 0)))
    with pytest.raises(ParamsError, match=r"prepare\.source: val: 0, expected at least 1"):
        params.prepare.source.build(seed=0)


def test_a_class_of_ones_own_file(tmp_path, monkeypatch):
    (tmp_path / "flow.py").write_text("class Flow:\n    def __init__(self, *, width): self.width = width\n")
    content = changed("tasks.flow", {"code": "flow.py", "class": "Flow", "width": 3})
    content["teachers"]["detection"]["tasks"] = ["detection", "flow"]
    monkeypatch.chdir(tmp_path)
    flow = load_params(write(tmp_path, content)).tasks["flow"]
    assert flow.build().width == 3
    assert flow.load() is flow.load()
    assert flow.as_dict() == {"code": "flow.py", "class": "Flow", "width": 3}


def test_a_teachers_recipe_of_its_own_goes_before_that_of_all(tmp_path):
    sparse, narrow = {**RAW, "top_k": 3}, {**RAW, "dims": 8}
    content = changed("teachers.segmentation.recipes", {"logits/segmentation": sparse, "features/trunk": narrow})
    params = load_params(write(tmp_path, content))
    assert params.recipe("features/segmentation/trunk").dims == 8
    assert params.recipe("features/detection/trunk") == params.extract.features
    assert params.recipe("logits/segmentation/segmentation/log_probs").top_k == 3
    assert params.recipe("logits/detection/detection") == params.extract.logits
