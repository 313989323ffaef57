"""Pictures of the report: what teachers and students answer on some rows, their scores, their curves."""

import warnings
from pathlib import Path
from textwrap import fill

import click
import matplotlib
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from pipeline.batches.batches import input_fields, part
from pipeline.batches.pools import load
from pipeline.reports.fonts import set_fonts
from pipeline.reports.summary import Row
from pipeline.sources.source import Answer, Source
from pipeline.stores.store import Store
from pipeline.tasks.task import Answers, Task

matplotlib.use("Agg")

COLOURS = matplotlib.color_sequences["tab10"]
Predictions = dict[str, Tensor]  # {task: logits (R, C, *grid)}
LETTERS = 9  # of a title, per inch
FEW = 10  # characters that a line names
CAPTIONS = {  # {name: (title, caption)}
    "scores": ("Students side by side", "Each student on test/clean, by task and on average over tasks."),
    "strip": (
        "Answers",
        "The first rows of test/clean, one per line: the input, its labels, and what each network says of it.",
    ),
    "curves": ("Learning", "Each student on val, on average over tasks, as it learns."),
}


def save(figure: Figure, path: Path) -> None:
    """Without a date or a version: the same figure is the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if boxes := "".join(sorted(set_fonts(figure))):
        examples = f"{boxes[:FEW]}{'...' if len(boxes) > FEW else ''}"
        click.echo(f"{path}: no font here has {examples}: boxes stand for it; install one, such as Noto Sans", err=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(path, dpi=110, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)


def strip(source: Source, tasks: dict[str, Task], split: Store, columns: dict[str, Predictions], rows: int, path: Path) -> None:
    """Rows of a split, one per line: the input, the truth, then what each network says of it, drawn by its source."""
    rows = min(rows, split.n_rows, *(len(logits) for predictions in columns.values() for logits in predictions.values()))
    first = slice(0, rows)
    inputs = part(load(split, input_fields(split), first), "inputs")
    labels = load(split, [f"labels/{task}" for task in tasks], first)
    labelled = load(split, [f"labelled/{task}" for task in tasks if f"labelled/{task}" in split.fields], first)
    answer_columns: list[dict[str, Answers]] = [{}, {name: tasks[name].truth(labels[f"labels/{name}"]) for name in tasks}]
    answer_columns += [
        {name: tasks[name].answers(predictions[name]) for name in tasks if name in predictions}
        for predictions in columns.values()
    ]
    width, height = source.cell
    figure, axes = plt.subplots(rows, len(answer_columns), figsize=(width * len(answer_columns), height * rows), squeeze=False)
    for axis, title in zip(axes[0], ["input", "truth", *columns], strict=True):
        axis.set_title(fill(title, int(LETTERS * width)), fontsize=9)
    for row in range(rows):
        for axis, answers in zip(axes[row], answer_columns, strict=True):
            axis.set(xticks=[], yticks=[])
            answer = of_row(answers, row)
            if answers is answer_columns[1]:
                answer = {
                    name: by_kind for name, by_kind in answer.items() if labelled.get(f"labelled/{name}", [True] * rows)[row]
                }
            source.draw(axis, {name: array[row] for name, array in inputs.items()}, answer)
    save(figure, path)


def of_row(answers: dict[str, Answers], row: int) -> Answer:
    return {task: {kind: values[row] for kind, values in by_kind.items()} for task, by_kind in answers.items()}


def scores(students: dict[str, Row], teachers: dict[str, Row], tasks: dict[str, Task], path: Path) -> None:
    """Students' points with their spread, a panel for each task and one for the average; dashed: the best teacher there."""
    columns, names = [*tasks, "average"], list(students)[::-1]
    figure, axes = plt.subplots(1, len(columns), sharey=True, squeeze=False, layout="constrained")
    figure.set_size_inches(2.5 * len(columns), 0.36 * len(students) + 1.5)
    keys = {}
    for axis, column in zip(axes[0], columns, strict=True):
        points = [(i, *students[name][column]) for i, name in enumerate(names) if column in students[name]]
        means, rows, spreads = [m for _, m, _ in points], [i for i, _, _ in points], [s for _, _, s in points]
        bars = axis.errorbar(means, rows, xerr=spreads, fmt="o", capsize=3, color=COLOURS[0])
        keys["student: mean +- sd over seeds"] = bars
        best = max if column not in tasks or tasks[column].higher_is_better else min
        ceilings = [row[column][0] for row in teachers.values() if column in row]
        if ceilings:
            keys["best teacher"] = axis.axvline(best(ceilings), linestyle="--", color=COLOURS[1], linewidth=1)
        axis.set_title(column, fontsize=9)
        axis.set_xlabel(unit(tasks.get(column)), fontsize=8)
        axis.grid(axis="x", alpha=0.3)
        axis.tick_params(labelsize=8)
    axes[0, 0].set_yticks(range(len(names)), names)
    axes[0, 0].set_ylim(-0.6, len(names) - 0.4)
    figure.legend(keys.values(), keys.keys(), loc="outside upper center", ncols=len(keys), fontsize=8)
    save(figure, path)


def unit(task: Task | None) -> str:
    """What points are of; None: of the average over tasks."""
    if task is None:
        return "points: 100 x metric"
    return f"points: 100 x {task.primary}{'' if task.higher_is_better else ' (lower is better)'}"


def curves(points: dict[str, list[tuple[int, float, float]]], path: Path) -> None:
    """Average on val against updates, one line per student, in a band of its spread."""
    figure, axis = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for number, (name, line) in enumerate(points.items()):
        updates, means, spreads = zip(*line, strict=True)
        colour, style = COLOURS[number % 10], "-" if number < 10 else "--"
        axis.plot(updates, means, marker=".", label=name, color=colour, linestyle=style)
        low, high = ([m + sign * s for m, s in zip(means, spreads, strict=True)] for sign in (-1, 1))
        axis.fill_between(updates, low, high, color=colour, alpha=0.15, linewidth=0)
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set(xlabel="updates", ylabel="average over tasks on val (points: 100 x metric)")
    axis.grid(alpha=0.3)
    figure.legend(title="student: mean\n(band: +- sd over seeds)", loc="outside right upper", fontsize=8, title_fontsize=8)
    save(figure, path)
