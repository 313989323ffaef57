"""The recommendation example's claims over fresh data seeds.

python bench/recsys.py run SEED...    # resumes: an arm whose JSON lies in bench/recsys/ is not run again
python bench/recsys.py table          # bench/recsys.md and recsys.png, from the JSONs
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
    curves,
    difference,
    enter,
    run_arms,
    run_teachers,
    spread,
    student_result,
)
from pipeline.project.validation import load_params  # noqa: E402
from pipeline.reports.summary import Tested, delta_mtl, primaries  # noqa: E402

PROJECT, RESULTS = ROOT / "examples" / "recsys", ROOT / "bench" / "recsys"
RRD = {"code": "pipeline/losses/rrd.py", "class": "RRD"}
FEW = {"labelled_share": 0.1667}
BUDGETS = [100, 400, 1600, 6400]
BASELINE = "single_1600"
ARMS = {
    **{f"labels_{n}": arm("transfer", n, "labels") for n in BUDGETS},
    **{f"logits_{n}": arm("none", n, "logits labels") for n in BUDGETS},
    **{f"fused_{n}": arm("pca", n, "fused logits labels") for n in BUDGETS},
    **{f"labels_few_{n}": arm("transfer", n, "labels", **FEW) for n in (400, 1600)},
    **{f"logits_few_{n}": arm("none", n, "logits labels", **FEW) for n in (400, 1600)},
    "ranking_400": arm("none", 400, "logits labels", logit_loss=RRD),
    "single_400": arm("transfer", 400, "labels", separate=True),
    "single_1600": arm("transfer", 1600, "labels", separate=True),
    "scratch": arm("transfer", 1, "labels"),
}
SPLITS = ["catalogue", "cold_users", "new_items"]
UNSEEN = [f"likes_new_item@{k}" for k in (20, 50)]
LISTS = ["NDCG@10", "diversity@10", "coverage@10"]  # of clicks, on the catalogue
TASKS = {name: spec.build() for name, spec in load_params(PROJECT / "params.yaml").tasks.items()}
SHORT = ["average", "delta_mtl", *TASKS]
CONTRASTS = [
    ("fused_400", "labels_400", [*SHORT, *SPLITS, *LISTS, *UNSEEN]),
    ("logits_400", "labels_400", [*SHORT, *SPLITS, *LISTS]),
    ("ranking_400", "labels_400", [*SHORT, *SPLITS, *LISTS, *UNSEEN]),
    ("fused_400", "logits_400", ["average", *SPLITS]),
    ("ranking_400", "logits_400", ["average", *SPLITS, *LISTS]),
    ("fused_400", "single_400", ["average"]),
    ("fused_400", "scratch", [*SPLITS, *UNSEEN]),
    ("ranking_400", "scratch", UNSEEN),
    *((f"{name}_{n}", f"labels_{n}", [*SHORT, *SPLITS]) for n in (1600, 6400) for name in ("fused", "logits")),
    *((f"logits_few_{n}", f"labels_few_{n}", [*SHORT, *SPLITS]) for n in (400, 1600)),
    ("logits_few_1600", "labels_few_400", [*SHORT, *SPLITS]),  # the better of that baseline's two budgets
    ("logits_few_1600", "labels_1600", SHORT),
    ("labels_1600", "labels_400", ["average"]),
    ("labels_6400", "labels_1600", ["average"]),
    ("labels_1600", "single_1600", ["average"]),
]


def change(params: dict) -> None:
    params["students"] = ARMS
    params["report"] |= {"baseline": BASELINE, "strip": ["labels_400"]}


def run(seed: int, arms: tuple[str, ...]) -> None:
    enter("recsys", PROJECT, seed, change)
    run_teachers(RESULTS, seed)
    run_arms(RESULTS, seed, arms or ARMS, student_result)


def table() -> None:
    """Every arm's scores and the paired differences that the claims rest on, as bench/recsys.md."""
    arms = {name: by_seed(RESULTS, name) for name in ARMS}
    teachers = {seed: teacher_points(result) for seed, result in by_seed(RESULTS, "teachers").items()}
    for seed, result in ((seed, result) for results in arms.values() for seed, result in results.items()):
        result["single"] = primaries(TASKS, arms[BASELINE][seed]["test"], "clean")
    lines = ["# Recommendation over data seeds", ""]
    lines += [f"Data seeds {', '.join(map(str, sorted(teachers)))}, one student seed each; {MACHINE}.", ""]
    lines += [f"delta_mtl is against {BASELINE}. NDCG, diversity and coverage: of clicks, on the whole catalogue.", ""]
    columns = [*SHORT, *SPLITS, *LISTS, *UNSEEN]
    lines += [f"| arm | {' | '.join(columns)} | CPU seconds |", "|---" * (len(columns) + 2) + "|"]
    cells = [spread([row[task] for row in teachers.values()]) if task in TASKS else "" for task in columns]
    lines.append(f"| teachers | {' | '.join(cells)} | |")
    for name, found in arms.items():
        cells = [spread(points(result, what) for result in found.values()) for what in columns]
        lines.append(f"| {name} | {' | '.join(cells)} | {spread(r['cost']['cpu_seconds'] for r in found.values())} |")
    lines += ["", "![Points against updates](recsys.png)", ""]
    lines += ["Paired differences by data seed: mean, 95 % t interval, every seed.", "", *contrasts(arms, CONTRASTS, points)]
    for task in TASKS:
        gaps = [teachers[seed][task] - points(result, task) for seed, result in arms["labels_1600"].items()]
        lines.append(f"| teacher - labels_1600 | {task} | {difference(gaps)} |")
    (ROOT / "bench" / "recsys.md").write_text("\n".join(lines) + "\n")
    panels = {
        column: {
            name: {n: [points(result, column) for result in arms[f"{name}_{n}"].values()] for n in BUDGETS}
            for name in ("labels", "logits", "fused")
        }
        for column in ("average", *TASKS, "cold_users", "new_items")
    }
    curves(ROOT / "bench" / "recsys.png", panels, {t: mean(row[t] for row in teachers.values()) for t in TASKS})


def points(result: dict, what: str) -> float:
    tested: Tested = result["test"]
    clean = primaries(TASKS, tested, "clean")
    name, _, shots = what.partition("@")
    if what in clean:
        return clean[what]
    if what == "delta_mtl":
        return delta_mtl(TASKS, clean, result["single"])
    if what in LISTS:
        return 100 * tested["catalogue"]["click"][what]
    if shots:
        return 100 * mean(result["unseen"][name][shots])
    return mean(primaries(TASKS, tested, "clean" if what == "average" else what).values())


def teacher_points(result: dict[str, Tested]) -> dict[str, float]:
    return {task: x for tested in result.values() for task, x in primaries(TASKS, tested, "clean").items()}


MACHINE = "2 cores of an Intel Xeon (AVX-512), torch 2.13.0 CPU, one thread, beside two other processes"

if __name__ == "__main__":
    commands(run, table, ARMS)()
