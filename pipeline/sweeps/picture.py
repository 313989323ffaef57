"""A sweep as a picture: how good its students are against how large, and which of them no other beats."""

from pathlib import Path

from matplotlib import pyplot as plt

from pipeline.reports.pictures import COLOURS, save
from pipeline.sweeps.leaderboard import Line


def draw(ranking: list[Line], path: Path) -> None:
    """Points on val against parameters, one dot per finished student; those that no other beats are joined and named."""
    figure, axis = plt.subplots(figsize=(8, 4.5), layout="constrained")
    finished = [entry for entry in ranking if entry["state"] == "finished"]
    front = sorted((entry for entry in finished if entry["pareto"]), key=lambda entry: entry["parameters"])
    sizes, scores = ([[entry[key] for entry in entries] for entries in (finished, front)] for key in ("parameters", "val"))
    axis.scatter(sizes[0], scores[0], s=16, color=COLOURS[0], alpha=0.7, label=f"students that finished: {len(finished)}")
    label = "Pareto front: none as small is better"
    axis.plot(sizes[1], scores[1], marker="o", linewidth=1, drawstyle="steps-post", color=COLOURS[1], label=label)
    for entry in front:
        axis.annotate(entry["name"], (entry["parameters"], entry["val"]), (6, 3), textcoords="offset points", fontsize=7)
    axis.set(xscale="log", xlabel="parameters", ylabel="average over tasks on val (points: 100 x metric)")
    axis.grid(alpha=0.3, which="both")
    axis.margins(x=0.15, y=0.1)
    figure.legend(loc="outside upper center", ncols=2, fontsize=8)
    save(figure, path)
