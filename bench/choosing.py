"""What a student gains from its size, its teachers, its temperature and the weight of logits: one sweep of 64.

    python bench/choosing.py run SEED...    # resumes: one JSON a data seed in bench/choosing/
    python bench/choosing.py table          # bench/choosing.md and choosing.png, from the JSONs

All of 4 widths x 4 sets of teachers x 2 temperatures x 2 weights, 600 updates each, by `stages.sweep` in a process of its own,
whose seconds and memory are kept; beside them a student on labels alone of each width. What is said of one width or teacher is
a mean over the others. Teachers: those of plateau.py (large: three, 96 wide, 2,400 updates; joint: one of all tasks, 4,800),
three 32 wide (small), and three 96 wide of 400 updates (brief). CHOOSING.md says what follows.
"""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import mean

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.arms import arm, commands, read, record, run_teachers, spread, student_result  # noqa: E402
from bench.demo import PRIMARY, enter_beside  # noqa: E402
from bench.plateau import NONE, ONE, add_one  # noqa: E402

RESULTS = ROOT / "bench" / "choosing"
UPDATES = 600
WIDTHS = [8, 16, 24, 48]
KINDS = {"small": {"width": 32, "updates": 2400}, "brief": {"width": 96, "updates": 400}}  # teachers, one a task
TEACHERS = {"large": list(PRIMARY), **{kind: [f"{task}_{kind}" for task in PRIMARY] for kind in KINDS}, "joint": [ONE]}
VARY: dict[str, list] = {"encoder.width": WIDTHS, "reads": list(TEACHERS), "temperature": [1, 4], "weights.logits": [1, 3]}
COLUMNS = ["test", *(f"test {task}" for task in PRIMARY)]


def change(params: dict) -> None:
    add_one(params)
    encoder, student = params["teachers"]["detection"]["encoder"], params["distill"]["encoder"]
    for kind, made in KINDS.items():
        for task, name in zip(PRIMARY, TEACHERS[kind], strict=True):
            own = {**encoder, "width": made["width"]}
            params["teachers"][name] = {"tasks": [task], "encoder": own, "updates": made["updates"]}
    params["fusions"] = {kind: {**NONE, "teachers": names} for kind, names in TEACHERS.items()}
    params["students"] = {
        f"labels_{width}": arm("transfer", UPDATES, "labels", encoder={**student, "width": width}) for width in WIDTHS
    }
    params["students"]["start"] = arm("large", UPDATES, "logits labels")
    params["report"] |= {"baseline": "labels_24", "strip": ["labels_24"]}
    params["sweep"] = {"start": "start", "vary": VARY, "sampler": "grid", "together": 16, "keep": 1}


def run(seed: int) -> None:
    file = RESULTS / f"sweep-{seed}.json"
    if file.exists():
        return
    enter_beside(seed, "choosing", change)
    run_teachers(RESULTS, seed)
    labels = {width: student_result(f"labels_{width}") for width in WIDTHS}
    cost = run_apart("sweep")
    record(file, {"labels": labels, "cost": cost, "leaderboard": read("data/sweep/leaderboard.json")})


def run_apart(stage: str) -> dict[str, float]:
    """A stage in a process of its own: {seconds, cpu_seconds, peak_mb}, start-up and all."""
    command = shlex.split(yaml.safe_load(Path("dvc.yaml").read_text())["stages"][stage]["cmd"])
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, *command[1:]], env={**os.environ, "PYTHONPATH": str(ROOT)})
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{stage}: failed")
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "cpu_seconds": used.ru_utime + used.ru_stime, "peak_mb": used.ru_maxrss / 1e3}


def table() -> None:
    results = {int(file.stem.partition("-")[2]): read(file) for file in sorted(RESULTS.glob("sweep-*.json"))}
    teachers = {seed: read(RESULTS / f"teachers-{seed}.json") for seed in results}
    seeds = ", ".join(map(str, results))
    lines = ["# Choosing", "", f"Data seeds {seeds}; 2 cores of an Intel Xeon (AVX-512), torch 2.13.0 CPU."]
    for seed, result in results.items():
        cost, students = result["cost"], len(result["leaderboard"])
        lines += [f"Seed {seed}: {students} students in {cost['seconds'] / 60:.1f} min, {cost['cpu_seconds'] / 60:.1f} min of"]
        lines[-1] += f" processor time, {cost['peak_mb']:,.0f} MB at most."
    lines += ["", "Points on the clean test split, means over all that is not named; +- over data seeds."]
    lines += ["gain: over labels alone at the same width.", ""]
    lines += ["| | average | gain | " + " | ".join(PRIMARY) + " | teachers |", "|---" * (4 + len(PRIMARY)) + "|"]
    for key, values in VARY.items():
        for value in values:
            cells = {column: [mean_of(r, column, {key: value}) for r in results.values()] for column in COLUMNS}
            gain = spread(gain_of(r, {key: value}) for r in results.values())
            average, *tasks = (spread(x) for x in cells.values())
            of_teachers = spread(teacher_average(t, value) for t in teachers.values()) if key == "reads" else ""
            lines.append(f"| {key} {value} | {average} | {gain} | {' | '.join(tasks)} | {of_teachers} |")
    for width in WIDTHS:
        found = [r["labels"][str(width)]["test"]["clean"] for r in results.values()]
        tasks = [spread(100 * x[task][metric] for x in found) for task, metric in PRIMARY.items()]
        average = spread(labels_alone(r, width) for r in results.values())
        lines.append(f"| labels alone, width {width} | {average} | | {' | '.join(tasks)} | |")
    lines += ["", "Gain over labels alone by width and teachers; the best of four temperatures and weights, on val."]
    lines += ["Last: logits at three times the weight of labels, minus at the same, mean over teachers and temperatures.", ""]
    lines += ["| width | parameters | " + " | ".join(TEACHERS) + " | weight 3 over 1 |", "|---" * (3 + len(TEACHERS)) + "|"]
    for width in WIDTHS:
        parameters = next(x["parameters"] for x in results[min(results)]["leaderboard"] if x["encoder.width"] == width)
        gains = [spread(best_gain(r, width, kind) for r in results.values()) for kind in TEACHERS]
        gains.append(spread(heavier_gain(r, width) for r in results.values()))
        lines.append(f"| {width} | {parameters:,} | {' | '.join(gains)} |")
    (ROOT / "bench" / "choosing.md").write_text("\n".join(lines) + "\n")
    plot(results)


def chosen(result: dict, where: dict) -> list[dict]:
    return [line for line in result["leaderboard"] if all(line[key] == value for key, value in where.items())]


def mean_of(result: dict, column: str, where: dict) -> float:
    return mean(line[column] for line in chosen(result, where))


def labels_alone(result: dict, width: int) -> float:
    scores = result["labels"][str(width)]["test"]["clean"]
    return mean(100 * scores[task][metric] for task, metric in PRIMARY.items())


def gain_of(result: dict, where: dict) -> float:
    return mean(line["test"] - labels_alone(result, line["encoder.width"]) for line in chosen(result, where))


def best_gain(result: dict, width: int, kind: str) -> float:
    best = max(chosen(result, {"encoder.width": width, "reads": kind}), key=lambda line: line["val"])
    return best["test"] - labels_alone(result, width)


def heavier_gain(result: dict, width: int) -> float:
    light, heavy = (mean_of(result, "test", {"encoder.width": width, "weights.logits": weight}) for weight in (1, 3))
    return heavy - light


def teacher_average(scores: dict, kind: str) -> float:
    """Of a teacher a task, or of one that has them all."""
    names = TEACHERS[kind] if len(TEACHERS[kind]) > 1 else TEACHERS[kind] * len(PRIMARY)
    return 100 * mean(scores[name]["clean"][task][PRIMARY[task]] for name, task in zip(names, PRIMARY, strict=True))


def plot(results: dict[int, dict]) -> None:
    """Points against parameters: a line a set of teachers, and labels alone; every student a dot."""
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    size = {line["encoder.width"]: line["parameters"] for line in results[min(results)]["leaderboard"]}

    def line(name: str, of_width: Iterable[float]) -> None:
        axis.plot([size[width] for width in WIDTHS], list(of_width), marker="o", markersize=4, label=name)

    for kind in TEACHERS:
        line(kind, (mean(mean_of(r, "test", {"encoder.width": w, "reads": kind}) for r in results.values()) for w in WIDTHS))
    line("labels alone", (mean(labels_alone(r, w) for r in results.values()) for w in WIDTHS))
    dots = [(x["parameters"], x["test"]) for r in results.values() for x in r["leaderboard"]]
    axis.scatter(*zip(*dots, strict=True), s=4, color="0.7", zorder=0, label="each student, of any teachers")
    axis.set(xscale="log", xlabel="parameters of the student", ylabel=f"average points at {UPDATES} updates")
    axis.grid(alpha=0.3)
    axis.legend(title="teachers (means)", fontsize=8)
    figure.savefig(ROOT / "bench" / "choosing.png", dpi=120)


if __name__ == "__main__":
    commands(run, table)()
