"""Pictures of the report: what teachers and students see in a scene, their scores, their curves."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from pipeline.batches import load
from pipeline.store import Store
from pipeline.summary import Row
from pipeline.tasks.detection import Detection
from pipeline.tasks.multi_label import MultiLabel
from pipeline.tasks.segmentation import Segmentation
from pipeline.tasks.task import Task

matplotlib.use("Agg")

COLOURS = matplotlib.color_sequences["tab10"]
SHOWN = 0.4  # score from which a box is drawn
PRESENT = 0.5  # probability from which a class counts as present

Predictions = dict[str, Tensor]  # {task: logits (R, C, *grid)}


def save(figure: Figure, path: Path) -> None:
    """Without a date or a version: the same figure is the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)


def strip(tasks: dict[str, Task], split: Store, columns: dict[str, Predictions], rows: int, path: Path) -> None:
    """One scene a line: the scene, the truth, then what each network makes of it."""
    image = split.read("inputs/image", slice(0, rows))
    truth = load(split, [f"labels/{task}" for task in tasks], slice(0, rows))
    answers = [{}, truth_as_answers(tasks, truth), *(as_answers(tasks, logits) for logits in columns.values())]
    figure, axes = plt.subplots(rows, len(answers), figsize=(1.7 * len(answers), 1.85 * rows), squeeze=False)
    for line, title in enumerate(["scene", "truth", *columns]):
        axes[0, line].set_title(title, fontsize=9)
    for row in range(rows):
        for axis, answer in zip(axes[row], answers, strict=True):
            draw(axis, image[row].transpose(1, 2, 0), {kind: x[row] for kind, x in answer.items()})
    save(figure, path)


def truth_as_answers(tasks: dict[str, Task], truth: dict[str, np.ndarray]) -> dict[str, list[Any]]:
    """{"boxes" | "map" | "classes": what to draw, by row}; a kind of task that is not known here is not drawn."""
    answers: dict[str, list[Any]] = {}
    for name, task in tasks.items():
        label = truth[f"labels/{name}"]
        if isinstance(task, Detection):
            answers["boxes"] = [[(int(b[0]), None, b[1:]) for b in boxes if b[0] >= 0] for boxes in label]
        elif isinstance(task, Segmentation):
            answers["map"] = list(label)
        elif isinstance(task, MultiLabel):
            answers["classes"] = [np.flatnonzero(row) for row in label]
    return answers


def as_answers(tasks: dict[str, Task], logits: Predictions) -> dict[str, list[Any]]:
    """The same, of predictions."""
    answers: dict[str, list[Any]] = {}
    for name, x in logits.items():
        task = tasks[name]
        if isinstance(task, Detection):
            decoded = (part.numpy() for part in task.decode(x))
            answers["boxes"] = [
                [(int(c), s, b) for s, c, b in zip(*r, strict=True) if s > SHOWN] for r in zip(*decoded, strict=True)
            ]
        elif isinstance(task, Segmentation):
            answers["map"] = list(x.argmax(1).numpy())
        elif isinstance(task, MultiLabel):
            answers["classes"] = [np.flatnonzero(row) for row in torch.sigmoid(x) > PRESENT]
    return answers


def draw(axis: Axes, image_HWC: np.ndarray, answer: dict[str, Any]) -> None:
    height, width = image_HWC.shape[:2]
    extent = (0, width, height, 0)
    axis.imshow(image_HWC.squeeze(), cmap="gray", vmin=0, vmax=255, extent=extent)
    if "map" in answer:
        colours = np.array([(0, 0, 0, 0), *((*c, 0.6) for c in COLOURS)])
        axis.imshow(colours[answer["map"]], extent=extent, interpolation="nearest")
    for kind, score, (x0, y0, x1, y1) in answer.get("boxes", []):
        axis.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=COLOURS[kind % 10], linewidth=1.2))
        text = f"{kind}" if score is None else f"{kind} {score:.0%}"
        axis.text(
            x0, y0, text, fontsize=6, color="white", va="bottom", bbox={"facecolor": COLOURS[kind % 10], "pad": 0.5, "lw": 0}
        )
    if "classes" in answer:
        axis.set_xlabel(" ".join(map(str, answer["classes"])) or "none", fontsize=8, labelpad=2)
    axis.set(xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0))


def scores(students: dict[str, Row], teachers: dict[str, Row], columns: list[str], path: Path) -> None:
    """Students' points with their spread, a panel a column; the dashed line is the best teacher of that task."""
    figure, axes = plt.subplots(
        1, len(columns), figsize=(2.9 * len(columns), 0.36 * len(students) + 1), sharey=True, squeeze=False
    )
    names = list(students)[::-1]
    for axis, column in zip(axes[0], columns, strict=True):
        at = [(i, *students[name][column]) for i, name in enumerate(names) if column in students[name]]
        axis.errorbar(
            [m for _, m, _ in at], [i for i, _, _ in at], xerr=[s for _, _, s in at], fmt="o", capsize=3, color=COLOURS[0]
        )
        for ceiling in [row[column][0] for row in teachers.values() if column in row][:1]:
            axis.axvline(ceiling, linestyle="--", color=COLOURS[1], linewidth=1)
        axis.set_title(column, fontsize=9)
        axis.grid(axis="x", alpha=0.3)
        axis.tick_params(labelsize=8)
    axes[0, 0].set_yticks(range(len(names)), names)
    save(figure, path)


def curves(points: dict[str, list[tuple[int, float]]], path: Path) -> None:
    """Average of val against updates, a line a student."""
    figure, axis = plt.subplots(figsize=(7, 4))
    for number, (name, line) in enumerate(points.items()):
        axis.plot(
            *zip(*line, strict=True), marker=".", label=name, color=COLOURS[number % 10], linestyle="-" if number < 10 else "--"
        )
    axis.set(xlabel="updates", ylabel="val, average over tasks (points)")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7, ncols=2)
    save(figure, path)
