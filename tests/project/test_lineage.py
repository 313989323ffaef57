"""What `stillroom sync` writes, and what a stage says when it was forgotten."""

import shutil

import pytest
import yaml
from click.testing import CliRunner

from pipeline.cli import main
from pipeline.project.class_spec import CLONE, ParamsError
from pipeline.project.dependencies import imports
from pipeline.project.lineage import open_project


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder outside the clone, in sync."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(CLONE / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    sync()
    return tmp_path


def sync():
    result = CliRunner().invoke(main, ["sync"])
    assert result.exit_code == 0, result.output
    return result.output


def edit(project, change):
    content = yaml.safe_load((project / "params.yaml").read_text())
    change(content)
    (project / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def stages(project):
    return {name: s.get("do", s) for name, s in yaml.safe_load((project / "dvc.yaml").read_text())["stages"].items()}


def fusions(project):
    return yaml.safe_load((project / "dvc.yaml").read_text())["stages"]["fuse"]["foreach"]


def test_the_clones_own_dvc_yaml_is_in_sync(monkeypatch):
    monkeypatch.chdir(CLONE)
    open_project()


def test_outside_of_the_clone_its_code_is_known_by_digest_so_that_either_may_lie_elsewhere(project, monkeypatch):
    assert not [dep for stage in stages(project).values() for dep in stage["deps"] if dep.endswith(".py")]
    assert stages(project)["distill"]["params"][-1] == {"code.yaml": ["distill.${key}"]}
    assert stages(project)["extract"]["params"][-1] == {"code.yaml": ["extract.${key}"]}
    code = yaml.safe_load((project / "code.yaml").read_text())
    assert code.keys() == stages(project).keys() and code["extract"].keys() == code["train_teacher"].keys()
    mended = {**code, "fuse": "0" * 64}
    (project / "code.yaml").write_text(yaml.safe_dump(mended))
    with pytest.raises(ParamsError, match=r"code.yaml is of other code than .* has now: run `stillroom sync`"):
        open_project()
    assert sync() == "fuse: other code\ndvc.yaml written\n"
    for merged in ("<<<<<<< ours\nfuse: a\n=======\n", "- a\n"):
        (project / "code.yaml").write_text(merged)
        with pytest.raises(ParamsError, match=r"code.yaml is of other code"):
            open_project()
        sync()
    assert yaml.safe_load((project / "code.yaml").read_text()) == code


def test_digests_are_of_what_a_stage_is_made_of(project):
    code = yaml.safe_load((project / "code.yaml").read_text())
    loss = {"code": "pipeline/losses/pkd.py", "class": "PKD"}
    edit(project, lambda p: p["students"]["fused"].update(feature_loss=loss))
    sync()
    now = yaml.safe_load((project / "code.yaml").read_text())
    assert {stage for stage in now if now[stage] != code[stage]} == {"distill"}  # no sweep starts from it
    assert {name for name in now["distill"] if now["distill"][name] != code["distill"][name]} == {"fused"}
    encoder = {"code": "pipeline/encoders/bag_of_words.py", "class": "BagOfWords", "input": "x", "vocabulary": 9, "width": 9}
    edit(project, lambda p: p["students"]["logits"].update(encoder=encoder))
    assert "distill: other code: logits\nevaluate: other code: logits\nsweep: other code\n" in sync()


def test_what_a_plugin_imports_of_the_project_is_a_dependency_too(project):
    (project / "plugins").mkdir()
    (project / "plugins/helper.py").write_text("SCALE = 1\n")
    (project / "mine.py").write_text("from plugins import helper\n\n\nclass Mine:\n    pass\n")
    edit(project, lambda p: p["fusions"].update(mine={"code": "mine.py", "class": "Mine"}))
    sync()
    assert {"mine.py", "plugins/helper.py"} <= set(fusions(project)["mine"]["deps"])
    (project / "plugins/helper.py").write_text("SCALE = = 1\n")
    imports.cache_clear()
    result = CliRunner().invoke(main, ["sync"])
    assert (result.exit_code, result.stderr) == (1, f"error: {project}/plugins/helper.py, line 1: invalid syntax; mend it\n")


def test_a_stage_that_a_user_added_stays_as_it_is(project):
    content = yaml.safe_load((project / "dvc.yaml").read_text())
    content["stages"]["mine"] = {"cmd": "true", "deps": ["params.yaml"]}
    (project / "dvc.yaml").write_text(yaml.safe_dump(content))
    assert sync() == "dvc.yaml is up to date\n"
    assert stages(project)["mine"] == {"cmd": "true", "deps": ["params.yaml"]}


def test_sync_is_idempotent_and_keeps_comments_and_what_is_written_by_hand(project):
    before = (project / "dvc.yaml").read_text()
    assert sync() == "dvc.yaml is up to date\n"
    assert (project / "dvc.yaml").read_text() == before
    assert before.startswith("# One stage a file")
    assert stages(project)["fuse"]["deps"][0] == "data/knowledge/transfer.zarr"


def test_a_clone_is_not_synced_with_the_code_of_another(project):
    (project / "pipeline/project").mkdir(parents=True)
    (project / "pipeline/project/lineage.py").touch()
    result = CliRunner().invoke(main, ["sync"])
    assert result.exit_code == 1 and "is a clone itself, but this is the stillroom of" in result.output


def test_a_teacher_added_without_sync_is_an_error_and_with_it_a_dependency(project):
    edit(project, lambda p: p["teachers"].update(second=p["teachers"]["detection"]))
    with pytest.raises(
        ParamsError, match=r"dvc.yaml is behind params.yaml \(train_teacher: \+ second: .*\): run `stillroom sync`"
    ):
        open_project()
    assert "fuse: + none: data/features/second.zarr, + pca: data/features/second.zarr" in sync()
    open_project()
    report = stages(project)["report"]["deps"]
    assert {"data/scores/teachers/second", "data/costs/train_teacher/second.json", "data/costs/extract/second.json"} <= set(
        report
    )


def test_a_task_removed_leaves_nothing_behind(project):
    def remove(params):
        del params["tasks"]["detection"], params["teachers"]["detection"]

    edit(project, remove)
    with pytest.raises(ParamsError, match="run `stillroom sync`"):
        open_project()
    sync()
    for stage in stages(project).values():
        assert not [x for x in [*stage["deps"], *stage["params"]] if "detection" in x]


def test_a_fusion_depends_on_its_own_class_teachers_and_tasks_and_no_others(project):
    (project / "mine.py").write_text("class Mine:\n    pass\n")
    mine = {"code": "mine.py", "class": "Mine", "teachers": ["segmentation", "detection"]}
    edit(project, lambda p: p["fusions"].update(mine=mine))
    sync()
    own, stage = fusions(project), stages(project)["fuse"]
    assert own["mine"]["deps"][:3] == ["data/features/segmentation.zarr", "data/features/detection.zarr", "mine.py"]
    assert set(own["mine"]["params"]) == {"fusions.mine", "tasks.segmentation", "tasks.detection"}
    assert set(own["pca"]["params"]) == {"fusions.pca", "teachers", *(f"tasks.{task}" for task in open_project().tasks)}
    assert [name for name, found in own.items() if "data/features/classification.zarr" in found["deps"]] == ["none", "pca"]
    assert not [name for name in ("none", "pca") if "mine.py" in own[name]["deps"]]
    assert not [x for x in stage["deps"] if x == "mine.py" or x.startswith("data/features")]
    code = yaml.safe_load((project / "code.yaml").read_text())["fuse"]
    edit(project, lambda p: p["fusions"]["mine"].update({"code": "pipeline/fusions/gcca.py", "class": "GCCA", "dims": 8}))
    sync()
    now = yaml.safe_load((project / "code.yaml").read_text())["fuse"]
    assert [name for name in now if now[name] != code[name]] == ["mine"]


@pytest.mark.parametrize("order", [1, -1])
def test_a_teacher_depends_on_its_own_tasks_and_no_others(project, order):
    (project / "mine.py").write_text((CLONE / "pipeline/tasks/multi_label.py").read_text())
    (project / "other.py").write_text((CLONE / "pipeline/encoders/image.py").read_text())

    def change(params):
        params["tasks"]["classification"]["code"] = "mine.py"
        params["teachers"]["detection"]["encoder"]["code"] = "other.py"
        params["teachers"] = dict(list(params["teachers"].items())[::order])

    edit(project, change)
    sync()
    content = yaml.safe_load((project / "dvc.yaml").read_text())["stages"]
    for stage in ("train_teacher", "extract"):
        own = {name: found["deps"] for name, found in content[stage]["foreach"].items()}
        assert [name for name, deps in own.items() if "mine.py" in deps] == ["classification"]
        assert [name for name, deps in own.items() if "other.py" in deps] == ["detection"]
        assert "mine.py" not in content[stage]["do"]["deps"] and "${item.deps[0]}" in content[stage]["do"]["deps"]
    params = {name: own["params"] for name, own in content["train_teacher"]["foreach"].items()}
    for name, keys in params.items():
        assert set(keys) == {f"teachers.{name}.{key}" for key in ("encoder", "tasks", "updates")} | {f"tasks.{name}"}


def test_a_task_whose_name_begins_like_anothers_is_not_its(project):
    (project / "mine.py").write_text((CLONE / "pipeline/tasks/multi_label.py").read_text())

    def change(params):
        params["tasks"]["detection_of_more"] = params["tasks"]["classification"] | {"code": "mine.py"}
        params["teachers"]["more"] = params["teachers"]["classification"] | {"tasks": ["detection_of_more"]}

    edit(project, change)
    sync()
    own = yaml.safe_load((project / "dvc.yaml").read_text())["stages"]["extract"]["foreach"]
    assert [name for name, found in own.items() if "mine.py" in found["deps"]] == ["more"]


def test_a_new_student_reaches_the_report_alone(project):
    edit(project, lambda p: p["students"].update(wide=p["students"]["fused"]))
    changed = dict(line.split(": ", 1) for line in sync().splitlines() if ": " in line)
    assert changed.keys() == {"report", "distill", "evaluate"}
    assert changed["distill"] == changed["evaluate"] == "other code: wide"


def test_a_class_of_one_student_is_a_dependency_of_it_alone(project):
    (project / "mine.py").write_text((CLONE / "pipeline/losses/pkd.py").read_text().replace("class PKD", "class Mine"))
    edit(project, lambda p: p["students"]["fused"].update(feature_loss={"code": "mine.py", "class": "Mine"}))
    sync()
    content = yaml.safe_load((project / "dvc.yaml").read_text())["stages"]
    over, evaluated = content["distill"]["foreach"], content["evaluate"]["foreach"]
    assert over["fused"] == {"reads": "pca", "deps": ["mine.py"]} and evaluated == "${students}"
    assert over["labels"] == {"reads": "transfer", "deps": ["data/knowledge/transfer.zarr"]}
    assert stages(project)["distill"]["deps"][-1] == "${item.deps[0]}" and "mine.py" not in stages(project)["distill"]["deps"]
    assert "mine.py" not in stages(project)["sweep"]["deps"]
    edit(project, lambda p: p["students"]["fused"].pop("feature_loss"))
    sync()
    assert yaml.safe_load((project / "dvc.yaml").read_text())["stages"]["distill"]["foreach"] == "${students}"


def test_a_stage_of_before_that_names_no_store_is_one_line(project):
    text = (project / "dvc.yaml").read_text()
    before, _, after = text.partition("  evaluate:")
    (project / "dvc.yaml").write_text(before + "  evaluate:" + after.replace("- data/knowledge/${item.reads}.zarr", "- x", 1))
    result = CliRunner().invoke(main, ["sync"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: dvc.yaml: stage evaluate depends on no store ${item.reads}; take that stage from ")


def test_a_student_depends_on_the_one_that_it_extends(project):
    def over():
        return yaml.safe_load((project / "dvc.yaml").read_text())["stages"]["distill"]["foreach"]

    assert over() == "${students}"
    edit(project, lambda p: p["students"].update(more={**p["students"]["labels"], "extends": "logits"}))
    sync()
    assert over()["more"] == {"reads": "transfer", "extends": ["data/students/logits"]}
    assert over()["fused"] == {"reads": "pca", "extends": ["data/knowledge/pca.zarr"]}
    assert "${item.extends[0]}" in stages(project)["distill"]["deps"]
    assert sync() == "dvc.yaml is up to date\n"
    edit(project, lambda p: p["students"].pop("more"))
    sync()
    assert over() == "${students}"
    assert not any("extends" in dep for dep in stages(project)["distill"]["deps"])


def test_a_sweep_depends_on_the_stores_that_its_students_read(project):
    def stores():
        return {dep for dep in stages(project)["sweep"]["deps"] if dep.startswith("data/knowledge")}

    assert stores() == {"data/knowledge/none.zarr"}
    assert "data/scores/students/single" in stages(project)["sweep"]["deps"]
    (project / "mine.py").write_text("class Mine:\n    pass\n")
    mine = {"code": "mine.py", "class": "Mine"}
    edit(
        project, lambda p: p["sweep"].update(vary={"reads": ["pca", "transfer"], "weights": [{"labels": 1}], "encoder": [mine]})
    )
    sync()
    assert stores() == {"data/knowledge/pca.zarr", "data/knowledge/transfer.zarr"}
    assert {name for name, stage in stages(project).items() if "mine.py" in stage["deps"]} == {"sweep"}
    edit(project, lambda p: p.update(sweep={}))
    sync()
    assert stores() == set()


def test_a_sweep_without_its_stage_and_a_stage_without_its_sweep_are_told(project):
    before = (project / "params.yaml").read_text()
    edit(project, lambda p: p.pop("sweep"))
    assert "a stage sweep, but params.yaml has none; drop the stage" in CliRunner().invoke(main, ["sync"]).stderr
    (project / "params.yaml").write_text(before)
    content = yaml.safe_load((project / "dvc.yaml").read_text())
    del content["stages"]["sweep"]
    (project / "dvc.yaml").write_text(yaml.safe_dump(content))
    assert "no stage sweep, but params.yaml has one; copy" in CliRunner().invoke(main, ["sync"]).stderr


def test_a_project_may_do_without_the_stage_sweep(project):
    content = yaml.safe_load((project / "dvc.yaml").read_text())
    del content["stages"]["sweep"]
    (project / "dvc.yaml").write_text(yaml.safe_dump(content))
    edit(project, lambda p: p.pop("sweep"))
    sync()
    open_project()


def test_errors_are_one_line_and_exit_code_1(project):
    edit(project, lambda p: p.update(sede=3))
    result = CliRunner().invoke(main, ["sync"])
    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    assert "sede: unknown key" in result.output


def test_a_project_without_a_stage_is_told_so(project):
    content = yaml.safe_load((project / "dvc.yaml").read_text())
    del content["stages"]["fuse"]
    (project / "dvc.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ParamsError, match="no stage fuse"):
        open_project()


def test_what_sync_says_is_free_of_dvcs_wiring(monkeypatch):
    monkeypatch.chdir(CLONE)
    monkeypatch.setattr("pipeline.cli.sync", lambda: {"distill": ["- {'code.yaml': ['distill']}", "other code"]})
    assert "distill: other code\n" in CliRunner().invoke(main, ["sync"]).output
