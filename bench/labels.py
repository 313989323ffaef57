"""What labels are worth when nobody has more: knowledge and labels against labels alone, each trained until little is gained.

    python bench/labels.py run LABELS SEED...    # resumes: one JSON per arm and data seed in bench/labels/<LABELS>/
    python bench/labels.py table          # bench/labels.md, from the JSONs

LABELS scenes of each task carry its labels, and neither the teacher (one of all three tasks, 96 wide, 4,800 updates) nor a
student knows of others. There are 9,000 scenes, whatever has labels. Updates and the contrast were chosen on data seed 5.
"""

import sys
from pathlib import Path
from statistics import mean

import click

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.arms import AMX, arm, by_seed, contrasts, enter, read, run_arms, run_teachers, spread, student_result  # noqa: E402
from bench.demo import PRIMARY, SHORT, points  # noqa: E402
from bench.plateau import DIST, NONE, ONE, WEIGHTS, add_one  # noqa: E402

RESULTS = ROOT / "bench" / "labels"
SCENES = 9000
KNOWLEDGE = "dist_4800"
ARMS = {50: ["labels_4800", "labels_9600", KNOWLEDGE], 250: ["labels_9600", "labels_19200", KNOWLEDGE, "labels_38400"]}
STUDENTS = {
    **{f"labels_{n}": arm("transfer", n, "labels") for n in (4800, 9600, 19200, 38400)},
    KNOWLEDGE: {"reads": "one", "updates": 4800, "weights": WEIGHTS, "logit_loss": DIST},
}
# Those of knowledge were written down before the runs; labels against labels, by val, say whether that is a plateau.
CONTRASTS = {
    50: [(KNOWLEDGE, "labels_9600"), ("labels_9600", "labels_4800")],
    250: [
        (KNOWLEDGE, "labels_19200"),
        (KNOWLEDGE, "labels_38400"),
        ("labels_19200", "labels_9600"),
        ("labels_38400", "labels_19200"),
    ],
}


@click.group()
def main() -> None: ...


@main.command()
@click.argument("labels", type=click.Choice([str(n) for n in ARMS]))
@click.argument("seeds", type=int, nargs=-1, required=True)
@click.option("--arm", "arms", multiple=True, help="Only these.")
def run(labels: str, seeds: tuple[int, ...], arms: tuple[str, ...]) -> None:
    for seed in seeds:
        enter(f"labels_{labels}", ROOT, seed, lambda params: change(params, int(labels)))
        run_teachers(RESULTS / labels, seed)
        run_arms(RESULTS / labels, seed, arms or ARMS[int(labels)], result_of)


def change(params: dict, labels: int) -> None:
    params["prepare"]["source"] |= {"labelled": dict.fromkeys(PRIMARY, labels), "unlabelled": SCENES - 3 * labels}
    add_one(params)
    params["teachers"] = {ONE: params["teachers"][ONE]}
    params |= {"fusions": {"one": {**NONE, "teachers": [ONE]}}, "students": STUDENTS}
    params["report"] |= {"baseline": "labels_4800", "strip": [KNOWLEDGE]}


def result_of(name: str) -> dict:
    result = student_result(name)
    last = read(f"data/scores/students/{name}/curve.json")[-1]
    return result | {"val": mean(last[f"val/{t}/{m}"] for t, m in PRIMARY.items())}


@main.command()
def table() -> None:
    lines = ["# Few labels", "", f"One student seed a data seed; {AMX}.", ""]
    lines += ["Points on the clean test split, mean +- sd over data seeds; val: average on the validation split.", ""]
    lines += [f"| labels | arm | data seeds | {' | '.join(SHORT)} | val | CPU seconds |", "|---" * (5 + len(SHORT)) + "|"]
    differ = ["", "## Differences", "", "Paired by data seed: mean, 95 % t interval, every seed.", ""]
    for labels, names in ARMS.items():
        teachers = by_seed(RESULTS / str(labels), "teachers")
        found = {name: results for name in names if (results := by_seed(RESULTS / str(labels), name))}
        cells = [spread(teacher_points(r, column) for r in teachers.values()) for column in SHORT]
        lines.append(f"| {labels} | teacher | {', '.join(map(str, teachers))} | {' | '.join(cells)} | | |")
        for name, results in found.items():
            cells = [spread(points(result, column) for result in results.values()) for column in SHORT]
            cells += [
                spread(100 * r["val"] for r in results.values()),
                spread(r["cost"]["cpu_seconds"] for r in results.values()),
            ]
            lines.append(f"| {labels} | {name} | {', '.join(map(str, results))} | {' | '.join(cells)} |")
        wanted = [pair for pair in CONTRASTS[labels] if found.keys() >= set(pair)]
        differ += [f"{labels} scenes of each task:", ""]
        differ += [*contrasts(found, [(*pair, SHORT) for pair in wanted], points)]
        differ += [*contrasts(found, [(*pair, ["val"]) for pair in wanted], lambda r, _: 100 * r["val"])[2:], ""]
    (ROOT / "bench" / "labels.md").write_text("\n".join(lines + differ).rstrip() + "\n")


def teacher_points(result: dict, column: str) -> float:
    clean = result[ONE]["clean"]
    return 100 * mean(clean[task][PRIMARY[task]] for task in ([column] if column in PRIMARY else PRIMARY))


if __name__ == "__main__":
    main()
