"""The claims of examples/text over fresh data seeds.

python bench/text.py run SEED... [--arm ARM]...    # resumes: an arm whose JSON lies in bench/text/ is not run again
python bench/text.py table          # bench/text.md and text.png, from the JSONs
"""

import sys
from math import nan
from pathlib import Path
from statistics import mean

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.arms import (  # noqa: E402
    arm,
    by_seed,
    commands,
    contrasts,
    curves,
    enter,
    run_arms,
    run_teachers,
    spread,
    student_result,
)

EXAMPLE, RESULTS = ROOT / "examples" / "text", ROOT / "bench" / "text"
GIVEN = yaml.safe_load((EXAMPLE / "params.yaml").read_text())
PRIMARY = {"topic": "accuracy", "sentiment": "accuracy", "entities": "span_F1"}
SECOND = {"encoder": GIVEN["students"]["second_zero"]["encoder"]}
FEW = {**SECOND, "labelled_share": 0.1}
RANDOM = {"code": "pipeline/fusions/random.py", "class": "Random", "dims": GIVEN["fusions"]["pca"]["dims"]}
TAUGHT = list(GIVEN["teachers"])
UNTAUGHT = [f"untaught_{number}" for number in range(len(TAUGHT))]  # networks as they begin: what any features are worth
FUSIONS = {
    "pca": {**GIVEN["fusions"]["pca"], "teachers": TAUGHT},
    "random": {**RANDOM, "teachers": TAUGHT},
    "untaught": {**GIVEN["fusions"]["pca"], "teachers": UNTAUGHT},
}
BUDGETS = [100, 400, 1600, 6400]
BASELINE = "single_1600"
ARMS = {
    **{f"labels_{n}": arm("transfer", n, "labels") for n in BUDGETS},
    **{f"logits_{n}": arm("pca", n, "logits labels") for n in BUDGETS},
    **{f"fused_{n}": arm("pca", n, "fused logits labels") for n in BUDGETS},
    "kd_400": arm("pca", 400, "logits"),
    "random_400": arm("random", 400, "fused logits labels"),
    "features_400": arm("pca", 400, "fused labels"),
    "untaught_400": arm("untaught", 400, "fused labels"),
    "single_400": arm("transfer", 400, "labels", separate=True),
    "single_1600": arm("transfer", 1600, "labels", separate=True),
    "bag_of_words": {**GIVEN["students"]["bag_of_words"]},
    "second_labels_400": arm("transfer", 400, "labels", **SECOND),
    "second_zero_400": arm("pca", 400, "fused logits", **SECOND),
    "second_few_400": arm("pca", 400, "fused logits labels", **FEW),
    "second_few_labels_400": arm("transfer", 400, "labels", **FEW),
    "second_few_labels_1600": arm("transfer", 1600, "labels", **FEW),
}
LONGER = 4  # times as many updates as the example gives its teachers; for these arms:
AFTER_LONGER = [f"{name}_{n}" for n in BUDGETS[1:] for name in ("logits", "fused")]
PROBES = [f"{label}@{shots}" for label in ("intent", "stars") for shots in GIVEN["evaluate"]["shots"]]
SHORT = ["average", "delta_mtl", *PRIMARY]
CONTRASTS = [
    ("fused_400", "labels_400", [*SHORT, "novel", *PROBES]),
    ("kd_400", "labels_400", SHORT),
    ("logits_400", "labels_400", SHORT),
    ("fused_400", "logits_400", ["average", *PROBES]),
    ("fused_400", "random_400", ["average", *PROBES]),
    ("random_400", "logits_400", ["average", *PROBES]),
    ("features_400", "untaught_400", ["average", *PROBES]),
    ("untaught_400", "labels_400", ["average", *PROBES]),
    ("fused_400", "labels_1600", SHORT),
    *((f"{name}_{n}", f"labels_{n}", SHORT) for n in (1600, 6400) for name in ("logits", "fused")),
    ("labels_1600", "labels_400", ["average"]),
    ("labels_6400", "labels_1600", ["average"]),
    ("fused_6400", "single_1600", SHORT),
    ("second_few_400", "second_few_labels_400", [*SHORT, *PROBES]),
    ("second_few_400", "second_few_labels_1600", SHORT),
    ("second_zero_400", "second_labels_400", SHORT),
]
BETTER = [
    *((f"{name}, longer", f"labels_{name.rpartition('_')[2]}", SHORT) for name in AFTER_LONGER),
    ("logits_6400, longer", "single_1600", SHORT),
    *((f"{name}, longer", name, ["average"]) for name in AFTER_LONGER),
]
AGAIN = [
    ("fused_400", "logits_400", ["average", *PRIMARY, *PROBES]),
    ("fused_400", "random_400", ["average", *PRIMARY, *PROBES]),
    ("fused_400", "labels_400", ["average", *PRIMARY, *PROBES]),
    ("features_400", "untaught_400", ["average", *PROBES]),
    ("untaught_400", "labels_400", ["average", *PROBES]),
]


def change(params: dict) -> None:
    encoder = params["teachers"][TAUGHT[0]]["encoder"]
    params["teachers"] |= {name: {"tasks": [], "encoder": encoder} for name in UNTAUGHT}
    params |= {"fusions": FUSIONS, "students": ARMS}
    params["report"] |= {"baseline": BASELINE, "strip": ["labels_400"]}


def change_longer(params: dict) -> None:
    change(params)
    for name in TAUGHT:
        params["teachers"][name]["updates"] *= LONGER


def run(seed: int, arms: tuple[str, ...]) -> None:
    enter("text", EXAMPLE, seed, change)
    run_teachers(RESULTS, seed)
    run_arms(RESULTS, seed, arms or ARMS, student_result)
    if not arms:
        enter("text-longer", EXAMPLE, seed, change_longer)
        run_teachers(RESULTS / "longer", seed)
        run_arms(RESULTS / "longer", seed, AFTER_LONGER, student_result)


def points(result: dict, column: str) -> float:
    """A column of an arm's JSON: a task, a split's average, Delta_MTL, or an unseen task at k shots."""
    name, _, shots = column.partition("@")
    if shots:
        return 100 * mean(result["unseen"][name][shots])
    if column in PRIMARY:
        return 100 * result["test"]["clean"][column][PRIMARY[column]]
    if column == "delta_mtl":
        single = result.get("baseline")
        return 100 * mean(points(result, task) / points(single, task) - 1 for task in PRIMARY) if single else nan
    split = result["test"]["clean" if column == "average" else column]
    return 100 * mean(split[task][PRIMARY[task]] for task in PRIMARY)


def taught(results: Path, seeds: list[int]) -> dict[str, list[float]]:
    """{task, average: points of the teachers, a seed each}."""
    found = [by_seed(results, "teachers")[seed] for seed in seeds]
    scores = {task: [100 * result[task]["clean"][task][metric] for result in found] for task, metric in PRIMARY.items()}
    return scores | {"average": list(map(mean, zip(*scores.values(), strict=True)))}


def table() -> None:
    """Every arm's scores and the paired differences that the claims rest on, as bench/text.md."""
    found = {name: by_seed(RESULTS, name) for name in ARMS}
    longer = {f"{name}, longer": by_seed(RESULTS / "longer", name) for name in AFTER_LONGER}
    for results in (found | longer).values():
        for seed in results.keys() & found[BASELINE].keys():
            results[seed]["baseline"] = found[BASELINE][seed]
    seeds = sorted(set.intersection(*(set(results) for results in found.values())))
    teachers = {"teachers": taught(RESULTS, seeds), f"teachers, {LONGER} x longer": taught(RESULTS / "longer", seeds)}
    lines = ["# examples/text over data seeds", ""]
    lines += [f"Data seeds {', '.join(map(str, seeds))}, one student seed each; {MACHINE}", ""]
    lines += ["Points on the clean test split (names that nothing was trained on), mean +- sd over data seeds. delta_mtl: in"]
    lines += [f"percent, against {BASELINE}. second: reads the second language, teachers the first.", ""]
    columns = [*SHORT, "novel", *PROBES]
    lines += [f"| arm | {' | '.join(columns)} | CPU s |", "|---" * (2 + len(columns)) + "|"]
    for name, scores in teachers.items():
        cells = [spread(scores[column]) if column in scores else "" for column in columns]
        lines.append(f"| {name} | {' | '.join(cells)} | |")
    for name, results in (found | longer).items():
        cells = [spread(points(results[s], column) for s in seeds) for column in columns]
        lines.append(f"| {name} | {' | '.join(cells)} | {spread(results[s]['cost']['cpu_seconds'] for s in seeds)} |")
    lines += ["", "![Points against updates](text.png)", "", "## Differences", ""]
    lines += ["Paired by data seed: mean, 95 % t interval, every seed.", "", *contrasts(found, CONTRASTS, points)]
    lines += ["", f"Teachers with {LONGER} times the updates.", "", *contrasts(found | longer, BETTER, points)]
    fresh = {name: {s: r for s, r in results.items() if s not in seeds} for name, results in found.items()}
    lines += ["", "Of the contrasts above these were looked at again, on data seeds that none of them was seen on.", ""]
    lines += contrasts(fresh, AGAIN, points)
    (ROOT / "bench" / "text.md").write_text("\n".join(lines) + "\n")
    panels = {
        column: {
            name: {n: [points(found[f"{name}_{n}"][s], column) for s in seeds] for n in BUDGETS}
            for name in ("labels", "logits", "fused")
        }
        | {
            f"{name}, longer": {n: [points(longer[f"{name}_{n}, longer"][s], column) for s in seeds] for n in BUDGETS[1:]}
            for name in ("logits", "fused")
        }
        for column in ("average", *PRIMARY)
    }
    curves(ROOT / "bench" / "text.png", panels, {name: mean(values) for name, values in teachers["teachers"].items()})


MACHINE = "2 cores of an Intel Xeon (AVX-512), torch 2.13.0 CPU, one thread, beside one other process."

if __name__ == "__main__":
    commands(run, table, ARMS)()
