"""report: bring scores and costs together, as a printed table, a page and pictures."""

import json
from pathlib import Path
from typing import Any

import click
from safetensors.torch import load_file

from pipeline.atomic import write_json
from pipeline.manners import one_line_errors
from pipeline.project.lineage import open_project
from pipeline.reports import page, pictures
from pipeline.reports.summary import as_metrics, ledger, student_rows, teacher_rows, val_curves, weak_teachers
from pipeline.stores.store import open_store


@click.command()
@click.option("--scores", type=Path, required=True)
@click.option("--costs", type=Path, required=True)
@click.option("--test", type=Path, required=True)
@click.option("--page", "page_path", type=Path, required=True)
@click.option("--metrics", type=Path, required=True)
@click.option("--plots", type=Path, required=True)
@one_line_errors
def main(scores: Path, costs: Path, test: Path, page_path: Path, metrics: Path, plots: Path) -> None:
    params = open_project()
    settings, tasks = params.report, params.build_tasks()
    tested = {name: read(scores / "teachers" / name / "scores.json") for name in params.teachers}
    seeds = {name: read(scores / "students" / name / "scores.json") for name in params.students}
    teachers, students = teacher_rows(tasks, tested), student_rows(tasks, seeds, settings.baseline)
    weak = weak_teachers(tasks, teachers, students, settings.baseline, params.longest_on_labels())
    costs_ledger = ledger(
        {
            "prepare": {"prepare": read(costs / "prepare.json")},
            "train_teacher": {name: read(costs / "train_teacher" / f"{name}.json") for name in params.teachers},
            "extract": {name: read(costs / "extract" / f"{name}.json") for name in params.teachers},
            "fuse": {name: read(costs / "fuse" / f"{name}.json") for name in params.fusions},
            "distill": {name: read(costs / "distill" / f"{name}.json") for name in params.students},
        },
        live=[name for name, teacher in params.teachers.items() if teacher.encoder],
        readers=[name for name, student in params.students.items() if not params.foreign(student.reads)],
    )
    curve = {name: val_curves(tasks, read(scores / "students" / name / "curve.json")) for name in params.students}
    answers = {f"teacher {name}": load_file(scores / "teachers" / name / "predictions.safetensors") for name in params.teachers}
    answers = {title: predictions for title, predictions in answers.items() if predictions}  # some teachers give features alone
    answers |= {name: load_file(scores / "students" / name / "predictions.safetensors") for name in settings.strip}

    pictures.strip(params.source(), tasks, open_store(test / "clean.zarr"), answers, settings.strip_rows, plots / "strip.png")
    pictures.scores(students, teachers, tasks, plots / "scores.png")
    pictures.curves(curve, plots / "curves.png")
    for kind, rows in (("teachers", teachers), ("students", students)):
        for name, row in rows.items():
            write_json(metrics / kind / f"{name}.json", as_metrics(row))
    tables = page.tables(params, tasks, teachers, students, costs_ledger)
    meanings, notes = page.meanings(params, tasks, students, tables), page.notes(params, weak, costs_ledger)
    page.show(tables, meanings, notes)
    captions = {plots / f"{name}.png": title_and_caption for name, title_and_caption in pictures.CAPTIONS.items()}
    page.write(page_path, tables, meanings, notes, captions)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


if __name__ == "__main__":
    main()
