"""`stillroom init` on texts of one's own, and what their columns are seen to be."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from pipeline.cli import main
from pipeline.init.draft import built
from pipeline.init.text import draft
from pipeline.init.text_columns import propose
from pipeline.project.class_spec import CLONE
from tests.reported import metrics_of

MEAL, FLIGHT = ["the soup was cold", "a good long meal"], ["the plane was late", "a seat at last"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(number, seed=0):
    """Texts with a topic, and of every third a verdict."""
    rng = np.random.default_rng(seed)
    for n in range(number):
        topic, verdict = rng.integers(2), rng.integers(2)
        words = (MEAL, FLIGHT)[topic][rng.integers(2)], ("I liked it", "never again")[verdict]
        yield {
            "id": n,
            "review": f"{words[0]} and {words[1]} {seed} {n}",
            "topic": ("meal", "flight")[topic],
            "verdict": ("for", "against")[verdict] if n % 3 == 0 else "",
        }


def write_csv(path, number, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, ["id", "review", "topic", "verdict"])
        table.writeheader()
        table.writerows(rows(number, seed))


def test_columns_are_what_their_cells_say(here):
    write_csv(here / "own.csv", 120)
    seen = propose([Path("own.csv")], Path("own.csv"))
    assert (seen.files, seen.text) == ({"transfer": ["own.csv"]}, "review")
    assert seen.classes == {"topic": ["flight", "meal"], "verdict": ["against", "for"]}
    assert "column 'id': 120 different values in 120 lines: no label; left out" in seen.said
    assert any(line.startswith("verdict: one of 2 classes") and line.endswith("in 40 of 120 rows") for line in seen.said)


def test_files_of_any_kind_by_the_split_in_their_names(here):
    write_csv(here / "own/train.csv", 30)
    lines = [json.dumps({"review": row["review"].split(), "topic": row["topic"]}) for row in rows(10, 1)]
    (here / "own/dev.jsonl").write_text("\n".join(lines))
    (here / "own/names.conll").write_text("Anna B-PER\nate O\n\nin O\nLima B-LOC\n")
    seen = propose(sorted((here / "own").iterdir()), here / "own")
    inside = {split: [Path(path).name for path in paths] for split, paths in seen.files.items()}
    assert inside == {"transfer": ["names.conll", "train.csv"], "test/clean": ["dev.jsonl"]}
    assert seen.classes == {"topic": ["flight", "meal"]} and not seen.tags  # nothing would measure the others
    assert any(
        line.startswith("column 'tags': tags of LOC, PER in 2 of 42 rows: in no row of some split") for line in seen.said
    )


def test_a_test_without_labels_is_to_learn_from_and_other_tables_are_left_out(here):
    write_csv(here / "own/train/part/a.csv", 60)
    write_csv(here / "own/val/a.csv", 20, 1)
    (here / "own/test.csv").write_text("\n".join(["id,review", *(f"{n},a text of test {n}" for n in range(20))]))
    (here / "own/sample.csv").write_text("id,verdict\n1,for\n")
    (here / "own/empty.csv").write_text("id,verdict\n")
    seen = propose(sorted((here / "own").rglob("*.csv")), here / "own")
    names = {
        split: [Path(path).relative_to(here / "own").as_posix() for path in inside] for split, inside in seen.files.items()
    }
    assert names == {"transfer": ["test.csv", "train/part/a.csv"], "test/clean": ["val/a.csv"]}
    assert any(line.endswith("own/sample.csv: no column 'review'; left out") for line in seen.said)
    assert seen.classes.keys() == {"topic", "verdict"}


def test_a_test_of_few_rows_or_of_one_class_is_one(here):
    write_csv(here / "own/train.csv", 60)
    (here / "own/test.csv").write_text("review,topic\na meal of test,meal\nanother meal of test,meal\n")
    seen = propose(sorted((here / "own").iterdir()), here / "own")
    assert [Path(path).name for path in seen.files["test/clean"]] == ["test.csv"] and seen.classes.keys() == {"topic"}


def test_tags_alone(here):
    (here / "names.conll").write_text("Anna B-PER\nate O\n\nin O\nLima B-LOC\n\n" * 15)
    seen = propose([here / "names.conll"], here)
    assert (seen.text, seen.tags, seen.classes) == ("text", {"tags": ["LOC", "PER"]}, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,kind\na,b\nc,b\n", "no column is a text, of more than 2 words a row, and no log"),
        ("text\nof some words here\nof some more words\n", "a text, but no column of classes or tags"),
        ('text,topic\n"a b,c\n', "own.csv, line 2: unexpected end of data"),
        ("text,topic\na b c,x,y\n", "own.csv, line 2: 3 cells, the header has 2"),
        ("text,topic\n", "no column is a text"),
        ("a b c,0\n" + "a b d,0\na b e,1\n" * 20, "'0' is the name of a column and in its cells: name the columns in line 1"),
        ("text,part\n" + "a b c,train\na b d,test\n" * 20, "names of splits: have a file for each, called train, val or test"),
        ("text,topic\n" + "a b c,x\na b d,y\n" * 9, "fewer than 30 rows to divide into splits; left out"),
        ("text,many\n" + "a b c,x;y\na b d,x\n" * 9, "any of them: what is read of texts is one class a cell; left out"),
    ],
)
def test_what_is_no_text_with_labels_is_one_line(here, text, message):
    (here / "own.csv").write_text(text)
    done = CliRunner().invoke(main, ["init", "project", "--data", "own.csv"])
    assert done.exit_code == 1 and len(done.output.splitlines()) == 1 and message in done.output
    assert not (here / "project").exists()


def test_sizes_follow_from_the_texts(here):
    write_csv(here / "own.csv", 200)
    params = draft([Path("own.csv")], Path("own.csv")).params
    source = params["prepare"]["source"]
    assert source["longest"] == 16 and source["vocabulary"] == params["distill"]["encoder"]["vocabulary"] == 500
    assert params["teachers"].keys() == params["tasks"].keys() == {"topic", "verdict"}
    made = built(source).splits()
    assert all(split.labelled[task].any() for split in made.values() for task in params["tasks"])
    assert params["train_teacher"]["batch_size"] <= min(flag.sum() for flag in made["transfer"].labelled.values())


def test_columns_that_cannot_name_a_task_and_rows_that_contradict(here):
    """A project is made for all that; `prepare` is what refuses the row."""
    lines = [f"{row['review']},{row['topic']},{row['topic']},{row['topic']}" for row in rows(60)]
    first, topic, *_ = lines[0].split(",")
    other = "flight" if topic == "meal" else "meal"
    (here / "own.csv").write_text("\n".join(["\u6587,\u7c7b,\u79cd,Class Index", *lines, f"{first},{other},{topic},{topic}"]))
    done = CliRunner().invoke(main, ["init", "project", "--data", "own.csv"])
    assert done.exit_code == 0 and "1 labels cannot be used: fix them, or set prepare.source.skip_bad" in done.output
    assert "cannot be used: ../own.csv, line 62: 'label' is" in done.output
    source = yaml.safe_load((here / "project/params.yaml").read_text())["prepare"]["source"]
    assert source["columns"] == {"label": "\u7c7b", "label2": "\u79cd", "Class_Index": "Class Index"} and not source["skip_bad"]


def test_columns_whose_names_torch_has_for_itself_or_that_are_long(here):
    asked = "Which of these would you say that it is, all in all?"
    lines = [f"{row['review']},{row['topic']},{row['topic']}" for row in rows(60)]
    (here / "own.csv").write_text("\n".join([f'text,type,"{asked}"', *lines]))
    done = CliRunner().invoke(main, ["init", "project", "--data", "own.csv"])
    assert done.exit_code == 0, done.output
    source = yaml.safe_load((here / "project/params.yaml").read_text())["prepare"]["source"]
    assert source["columns"] == {"type_label": "type", "Which_of_these_would_you_say_that_it_is": asked}


def test_what_looks_like_a_log_may_be_texts(here):
    lines = [
        "user,item,time,review,topic",
        *(f"u{n},i{n % 9},{n},{row['review']},{row['topic']}" for n, row in enumerate(rows(60))),
    ]
    (here / "own.csv").write_text("\n".join(lines))
    done = CliRunner().invoke(main, ["init", "project", "--data", "own.csv", "--domain", "text"])
    assert done.exit_code == 0 and "found: topic: one of 2 classes" in done.output
    done = CliRunner().invoke(main, ["init", "other", "--data", "own.csv"])
    assert "found: log: ../own.csv, 60 rows; columns that are not used: review, topic" in done.output
    write_csv(here / "texts.csv", 60)
    for domain, message in (("recsys", "no log, a table whose columns are called user, item and time"), ("vision", "no image")):
        done = CliRunner().invoke(main, ["init", "third", "--data", "texts.csv", "--domain", domain])
        assert done.exit_code == 1 and message in done.output


def test_a_text_in_the_folder_of_the_stores_is_refused(here):
    write_csv(here / "own/data/own.csv", 30)
    done = CliRunner().invoke(main, ["init", "own"])
    assert done.exit_code == 1 and "own.csv: is where the project's stores would be" in done.output


@pytest.mark.slow
def test_texts_of_ones_own_become_a_distilled_student(here):
    """As a new user goes: init, dvc repro, predict."""
    write_csv(here / "own.csv", 120)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(CLONE)}

    def run(*command, folder="project"):
        done = subprocess.run(command, cwd=here / folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    stillroom = sys.executable, "-m", "pipeline.cli"
    said = run(*stillroom, "init", "project", "--data", "own.csv", folder=".")
    assert "found: topic: one of 2 classes" in said and "cd project && dvc repro" in said
    params = yaml.safe_load((here / "project/params.yaml").read_text())
    params["distill"]["seeds"] = 1
    for group in ("teachers", "students"):
        for one in params[group].values():
            one["updates"] = 8
    params["sweep"]["vary"]["updates"] = [8]
    (here / "project/params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    run("dvc", "repro")
    assert metrics_of(here / "project", "students").keys() == {"fused", "logits", "labels", "single", "bag_of_words"}
    assert run(*stillroom, "predict", "fused", "the soup was cold").startswith("topic: ")
