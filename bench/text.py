"""The claims of examples/text over fresh data seeds.

    python bench/text.py run SEED... [--arm ARM]...    # resumes: an arm whose JSON lies in bench/text/ is not run again
    python bench/text.py table          # bench/text.md, from the JSONs

A data seed is a project in bench/.work: the example's params with another seed, and every arm a student of it.
"""

import json
import sys
from os import chdir
from pathlib import Path
from statistics import mean

import click
import torch
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.demo import arm, difference, read, run_stage, spread  # noqa: E402
from pipeline.lineage import sync  # noqa: E402

EXAMPLE, RESULTS = ROOT / "examples" / "text", ROOT / "bench" / "text"
GIVEN = yaml.safe_load((EXAMPLE / "params.yaml").read_text())
TEACHERS = list(GIVEN["teachers"])
PRIMARY = {"topic": "accuracy", "sentiment": "accuracy", "entities": "span_F1"}
SECOND = {"encoder": GIVEN["students"]["second_zero"]["encoder"]}
FEW = {**SECOND, "labelled_share": 0.1}
RANDOM = {"code": "pipeline/fusions/random.py", "class": "Random", "dims": GIVEN["fusions"]["pca"]["dims"]}
FUSIONS = {**GIVEN["fusions"], "random": RANDOM}
ARMS = {
    "labels_400": arm("transfer", 400, "labels"),
    "kd_400": arm("pca", 400, "logits"),
    "fused_400": arm("pca", 400, "fused logits labels"),
    "second_zero_400": arm("pca", 400, "fused logits", **SECOND),
    "second_few_400": arm("pca", 400, "fused logits labels", **FEW),
    "second_few_labels_400": arm("transfer", 400, "labels", **FEW),
    "logits_400": arm("pca", 400, "logits labels"),
    "random_400": arm("random", 400, "fused logits labels"),
    "single_400": arm("transfer", 400, "labels", separate=True),
    "bag_of_words": {**GIVEN["students"]["bag_of_words"]},
    "second_labels_400": arm("transfer", 400, "labels", **SECOND),
    "labels_1600": arm("transfer", 1600, "labels"),
    "fused_1600": arm("pca", 1600, "fused logits labels"),
    "second_few_labels_1600": arm("transfer", 1600, "labels", **FEW),
}
PROBES = [f"{label}@{shots}" for label in ("intent", "stars") for shots in GIVEN["evaluate"]["shots"]]
SHORT = ["average", *PRIMARY]
CONTRASTS = [
    ("fused_400", "labels_400", [*SHORT, "novel", *PROBES]),
    ("kd_400", "labels_400", SHORT),
    ("logits_400", "labels_400", ["average"]),
    ("fused_400", "logits_400", ["average", *PROBES]),
    ("fused_400", "random_400", ["average", *PROBES]),
    ("random_400", "logits_400", ["average", *PROBES]),
    ("fused_400", "labels_1600", SHORT),
    ("fused_1600", "labels_1600", SHORT),
    ("labels_1600", "labels_400", ["average"]),
    ("second_few_400", "second_few_labels_400", [*SHORT, *PROBES]),
    ("second_few_400", "second_few_labels_1600", SHORT),
    ("second_zero_400", "second_labels_400", SHORT),
]
AGAIN = [
    ("fused_400", "logits_400", [*SHORT, *PROBES]),
    ("fused_400", "random_400", [*SHORT, *PROBES]),
    ("fused_400", "labels_400", [*SHORT, *PROBES]),
]


def enter_project(seed: int) -> None:
    folder = ROOT / "bench" / ".work" / f"text-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    chdir(folder)
    params = {**GIVEN, "seed": seed, "fusions": FUSIONS, "students": ARMS}
    params["distill"]["seeds"] = 1  # what counts is data seeds
    params["report"] |= {"baseline": "single_400", "strip": ["labels_400"]}
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    Path("dvc.yaml").write_bytes((EXAMPLE / "dvc.yaml").read_bytes())
    sync()


@click.group()
def main() -> None: ...


@main.command()
@click.argument("seeds", type=int, nargs=-1, required=True)
@click.option("--arm", "arms", type=click.Choice(ARMS), multiple=True, help="Only these.")
def run(seeds: tuple[int, ...], arms: tuple[str, ...]) -> None:
    torch.set_num_threads(1)
    RESULTS.mkdir(exist_ok=True)
    for seed in seeds:
        enter_project(seed)
        run_stage("prepare")
        for stage in ("train_teacher", "extract"):
            for teacher in TEACHERS:
                run_stage(stage, teacher)
        for fusion in FUSIONS:
            run_stage("fuse", fusion)
        record(f"teachers-{seed}", {t: read(f"data/scores/teachers/{t}/scores.json") for t in TEACHERS})
        for name in arms or ARMS:
            if not (RESULTS / f"{name}-{seed}.json").exists():
                run_stage("distill", name)
                run_stage("evaluate", name)
                (scores,) = read(f"data/scores/students/{name}/scores.json")
                record(f"{name}-{seed}", {**scores, "cost": read(f"data/costs/distill/{name}.json")})


def record(name: str, result: dict) -> None:
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


def points(result: dict, column: str) -> float:
    """A column of an arm's JSON: a task, a split's average, or an unseen task at k shots."""
    name, _, shots = column.partition("@")
    if shots:
        return 100 * mean(result["unseen"][name][shots])
    if column in PRIMARY:
        return 100 * result["test"]["clean"][column][PRIMARY[column]]
    split = result["test"]["clean" if column == "average" else column]
    return 100 * mean(split[task][PRIMARY[task]] for task in PRIMARY)


def teacher_points(result: dict, task: str) -> float:
    return 100 * result[task]["clean"][task][PRIMARY[task]]


def delta_mtl(result: dict, single: dict) -> float:
    return 100 * mean((points(result, task) - points(single, task)) / points(single, task) for task in PRIMARY)


@main.command()
def table() -> None:
    """Every arm's scores and the paired differences that the claims rest on, as bench/text.md."""
    found = {name: {int(f.stem.rpartition("-")[2]): read(f) for f in RESULTS.glob(f"{name}-*.json")} for name in ARMS}
    teachers = {int(f.stem.rpartition("-")[2]): read(f) for f in RESULTS.glob("teachers-*.json")}
    seeds = sorted(set.intersection(*(set(results) for results in found.values())))
    lines = [
        "# examples/text over data seeds",
        "",
        f"Data seeds {', '.join(map(str, seeds))}, one student seed each; {MACHINE}",
    ]
    lines += [
        "",
        "Points on the clean test split (names that nothing was trained on), mean +- sd over data seeds. Delta_MTL: in",
    ]
    lines += ["percent, against single_400. second: reads the second language, teachers the first.", ""]
    columns = [*SHORT, "novel"]
    lines += [f"| arm | {' | '.join(columns)} | Delta_MTL | {' | '.join(PROBES)} | CPU s |", "|---" * (8 + len(PROBES)) + "|"]
    of_teachers = [spread(teacher_points(teachers[s], task) for s in seeds) for task in PRIMARY]
    average = spread(mean(teacher_points(teachers[s], task) for task in PRIMARY) for s in seeds)
    lines.append(f"| teachers | {' | '.join([average, *of_teachers])} |" + " |" * (3 + len(PROBES)))
    for name, results in found.items():
        cells = [spread(points(results[s], column) for s in seeds) for column in columns]
        cells.append(spread(delta_mtl(results[s], found["single_400"][s]) for s in seeds))
        cells += [spread(points(results[s], column) for s in seeds) for column in PROBES]
        lines.append(f"| {name} | {' | '.join(cells)} | {spread(results[s]['cost']['cpu_seconds'] for s in seeds)} |")
    lines += ["", "## Differences", "", "Paired by data seed: mean, 95 % t interval, every seed.", ""]
    lines += ["| claim | of | mean | interval | seeds |", "|---|---|---|---|---|"]
    lines += [contrast(found, one, other, column) for one, other, of in CONTRASTS for column in of]
    fresh = {name: {s: r for s, r in results.items() if s not in seeds} for name, results in found.items()}
    lines += ["", "Of the contrasts above these were looked at again, on data seeds that none of them was seen on.", ""]
    lines += ["| claim | of | mean | interval | seeds |", "|---|---|---|---|---|"]
    lines += [contrast(fresh, one, other, column) for one, other, of in AGAIN for column in of]
    (ROOT / "bench" / "text.md").write_text("\n".join(lines) + "\n")


def contrast(found: dict[str, dict[int, dict]], one: str, other: str, column: str) -> str:
    seeds = sorted(found[one].keys() & found[other].keys())
    gaps = [points(found[one][s], column) - points(found[other][s], column) for s in seeds]
    return f"| {one} - {other} | {column} | {difference(gaps)} |"


MACHINE = "2 cores of an Intel Xeon (AVX-512), torch 2.13.0 CPU, one thread, beside one other process."

if __name__ == "__main__":
    main()
