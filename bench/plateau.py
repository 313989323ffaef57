"""Labels and knowledge carried on for long, from three teachers of a task each and from one teacher of all three.

    python bench/plateau.py run SEED... [--arm ARM]...    # resumes: an arm whose JSON lies in bench/plateau/ is not run again
    python bench/plateau.py table          # bench/plateau.md, from the JSONs

Every run has its own rate decay. Teachers, small networks and students own the same labels: 1,500 scenes of each task. Data
seeds are fresh ones: nothing was chosen on them.
"""

import sys
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.arms import (  # noqa: E402
    arm,
    by_seed,
    commands,
    contrasts,
    run_arms,
    run_teachers,
    spread,
    student_result,
)
from bench.demo import PRIMARY, SHORT, enter_beside, points  # noqa: E402

RESULTS = ROOT / "bench" / "plateau"
ONE = "all_tasks"
NONE = {"code": "pipeline/fusions/none.py", "class": "NoFusion"}
FUSIONS = {"three": {**NONE, "teachers": list(PRIMARY)}, "one": {**NONE, "teachers": [ONE]}}
DIST = {"code": "pipeline/losses/dist.py", "class": "DIST"}
WEIGHTS = {"logits": 3, "labels": 1}  # chosen at 1,200 updates on data seeds 1 to 5: bench/evidence.md
ARMS = {
    "labels_9600": arm("transfer", 9600, "labels"),
    "labels_19200": arm("transfer", 19200, "labels"),
    "three_9600": {"reads": "three", "updates": 9600, "weights": WEIGHTS},
    "one_9600": {"reads": "one", "updates": 9600, "weights": WEIGHTS},
    "dist_9600": {"reads": "one", "updates": 9600, "weights": WEIGHTS, "logit_loss": DIST},  # of bench/evidence.md, later
}
PRIMARY_CONTRAST = ("one_9600", "labels_19200")  # written down before the runs: as many rows seen, and the stronger baseline
CONTRASTS = [
    PRIMARY_CONTRAST,
    ("dist_9600", "labels_19200"),  # written down before that arm's runs
    ("dist_9600", "labels_9600"),
    ("dist_9600", "one_9600"),
    ("one_9600", "labels_9600"),
    ("three_9600", "labels_19200"),
    ("three_9600", "labels_9600"),
    ("one_9600", "three_9600"),
    ("labels_19200", "labels_9600"),
]


def add_one(params: dict) -> None:
    encoder = params["teachers"]["detection"]["encoder"]
    params["teachers"][ONE] = {"tasks": list(PRIMARY), "encoder": encoder, "updates": 4800}


def change(params: dict) -> None:
    add_one(params)
    params |= {"fusions": FUSIONS, "students": ARMS}
    params["report"] |= {"baseline": "labels_9600", "strip": ["labels_9600"]}


def run(seed: int, arms: tuple[str, ...]) -> None:
    enter_beside(seed, "plateau", change)
    run_teachers(RESULTS, seed)
    run_arms(RESULTS, seed, arms or ARMS, student_result)


def table() -> None:
    found = {name: by_seed(RESULTS, name) for name in ARMS}
    teachers = by_seed(RESULTS, "teachers")
    lines = ["# For long", "", f"One student seed a data seed; {MACHINE}", ""]
    lines += ["three, one: knowledge of three teachers of a task each (2,400 updates), or of one of all three (4,800), logits"]
    lines += ["weighing three times the labels. Points on the clean test split, mean +- sd over data seeds.", ""]
    lines += [f"| arm | data seeds | {' | '.join(SHORT)} | CPU seconds |", "|---" * (3 + len(SHORT)) + "|"]
    of_teachers = {
        kind: {task: [teacher_points(result, kind, task) for result in teachers.values()] for task in PRIMARY}
        for kind in FUSIONS
    }
    for kind, scores in of_teachers.items():
        cells = [spread(map(mean, zip(*scores.values(), strict=True))), *map(spread, scores.values())]
        lines.append(f"| teachers: {kind} | {', '.join(map(str, teachers))} | {' | '.join(cells)} | |")
    for name, results in found.items():
        cells = [spread(points(result, column) for result in results.values()) for column in SHORT]
        seconds = spread(result["cost"]["cpu_seconds"] for result in results.values())
        lines.append(f"| {name} | {', '.join(map(str, results))} | {' | '.join(cells)} | {seconds} |")
    lines += ["", "## Differences", ""]
    lines += ["Paired by data seed: mean, 95 % t interval, every seed. The first two were written down before their runs.", ""]
    lines += contrasts(found, [(*pair, SHORT) for pair in CONTRASTS], points)
    (ROOT / "bench" / "plateau.md").write_text("\n".join(lines) + "\n")


def teacher_points(result: dict, kind: str, task: str) -> float:
    return 100 * result[task if kind == "three" else ONE]["clean"][task][PRIMARY[task]]


MACHINE = "2 cores of an Intel Xeon (AVX-512), torch 2.13.0 CPU, one thread a process, two to three at once."

if __name__ == "__main__":
    commands(run, table, ARMS)()
