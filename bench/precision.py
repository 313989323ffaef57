"""Teachers and students that learn in bfloat16 against the same in float32, from the teachers' first update to the student.

    python bench/precision.py run SEED...    # resumes: one JSON per precision and data seed in bench/precision/
    python bench/precision.py table          # bench/precision.md, from the JSONs

Teachers are as in bench/demo.py; the student has 1,200 updates on logits, at three times the weight, and on labels.
"""

import sys
from itertools import product
from pathlib import Path
from statistics import mean, median, stdev

from scipy.stats import t as student_t

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.arms import AMX, by_seed, commands, enter, read, run_arms, run_stage, share, spread, student_result  # noqa: E402
from bench.demo import PREPARED, PRIMARY, SHORT, TEACHER_UPDATES, points, teacher_points  # noqa: E402
from bench.evidence import LOGITS, METHODS, arm  # noqa: E402

RESULTS = ROOT / "bench" / "precision"
PRECISIONS = ["float32", "bfloat16"]
STUDENT = "student"


def run(seed: int) -> None:
    run_arms(RESULTS, seed, PRECISIONS, lambda precision: result_of(precision, seed))


def result_of(precision: str, seed: int) -> dict:
    def change(params: dict) -> None:
        params["train_teacher"]["precision"] = params["distill"]["precision"] = precision
        params["fusions"] = {"none": METHODS["none"]}
        params["students"] = {STUDENT: arm("none", "logits labels", logit_loss=LOGITS["dist"])}
        params["report"] |= {"baseline": STUDENT, "strip": [STUDENT]}
        for teacher in params["teachers"].values():
            teacher["updates"] = TEACHER_UPDATES

    folder = enter(f"precision-{precision}", ROOT, seed, change)
    if precision == PRECISIONS[0]:
        run_stage("prepare")
    else:
        share(folder.with_name(f"precision-{PRECISIONS[0]}-{seed}"), *PREPARED)
    for teacher in PRIMARY:
        run_stage("train_teacher", teacher)
        run_stage("extract", teacher)
    run_stage("fuse", "none")
    costs = [read(f"data/costs/train_teacher/{teacher}.json")["cpu_seconds"] for teacher in PRIMARY]
    scores = {teacher: read(f"data/scores/teachers/{teacher}/scores.json") for teacher in PRIMARY}
    return {"teachers": scores, "teachers_cpu_seconds": sum(costs), "student": student_result(STUDENT)}


def table() -> None:
    found = {precision: by_seed(RESULTS, precision) for precision in PRECISIONS}
    seeds = sorted(set.intersection(*(set(results) for results in found.values())))
    lines = ["# Precision", "", f"Data seeds {', '.join(map(str, seeds))}; {AMX}.", ""]
    lines += ["Points on the clean test split and CPU seconds, mean +- sd; ratio: median of the seeds'.", ""]
    lines += [f"| networks | {' | '.join(PRECISIONS)} | bfloat16 - float32, 90 % | ratio of seconds |", "|---" * 5 + "|"]
    for who, column in product(("teachers", "student"), SHORT):
        values = [[points_of(found[precision][seed], who, column) for seed in seeds] for precision in PRECISIONS]
        gaps = [rough - exact for exact, rough in zip(*values, strict=True)]
        half = student_t.ppf(0.95, len(gaps) - 1) * stdev(gaps) / len(gaps) ** 0.5
        cells = [spread(x) for x in values]
        lines.append(f"| {who}: {column} | {' | '.join(cells)} | {mean(gaps):+.2f} +- {half:.2f} | |")
    for who in ("teachers", "student"):
        values = [[seconds_of(found[precision][seed], who) for seed in seeds] for precision in PRECISIONS]
        ratio = median(rough / exact for exact, rough in zip(*values, strict=True))
        lines.append(f"| {who}: CPU seconds | {' | '.join(spread(x) for x in values)} | | {ratio:.2f} |")
    (ROOT / "bench" / "precision.md").write_text("\n".join(lines) + "\n")


def points_of(result: dict, who: str, column: str) -> float:
    if who == "student":
        return points(result[who], column)
    tasks = PRIMARY if column == "average" else [column]
    return mean(teacher_points(result[who], task) for task in tasks)


def seconds_of(result: dict, who: str) -> float:
    return result["teachers_cpu_seconds"] if who == "teachers" else result["student"]["cost"]["cpu_seconds"]


if __name__ == "__main__":
    commands(run, table)()
