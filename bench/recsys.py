"""The recommendation example's claims over fresh data seeds; built on bench/demo.py, which says how.

python bench/recsys.py run SEED...    # resumes: an arm whose JSON lies in bench/recsys/ is not run again
python bench/recsys.py table          # bench/recsys.md, from the JSONs
"""

import json
import sys
from collections.abc import Iterable
from math import nan
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
from pipeline.summary import Tested, delta_mtl, primaries  # noqa: E402
from pipeline.validation import load_params  # noqa: E402

PROJECT, RESULTS = ROOT / "examples" / "recsys", ROOT / "bench" / "recsys"
RRD = {"code": "pipeline/losses/rrd.py", "class": "RRD"}
ARMS = {
    "labels_400": arm("transfer", 400, "labels"),
    "fused_400": arm("pca", 400, "fused logits labels"),
    "logits_400": arm("none", 400, "logits labels"),
    "ranking_400": arm("none", 400, "logits labels", logit_loss=RRD),
    "single_400": arm("transfer", 400, "labels", separate=True),
    "scratch": arm("transfer", 1, "labels"),
    "labels_1600": arm("transfer", 1600, "labels"),
    "fused_1600": arm("pca", 1600, "fused logits labels"),
    "logits_1600": arm("none", 1600, "logits labels"),
    "single_1600": arm("transfer", 1600, "labels", separate=True),
}
BASELINE = "single_1600"
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
    ("fused_1600", "labels_1600", [*SHORT, *SPLITS]),
    ("logits_1600", "labels_1600", [*SHORT, *SPLITS]),
    ("labels_1600", "single_1600", ["average"]),
]


def enter_project(seed: int) -> None:
    folder = ROOT / "bench" / ".work" / f"recsys-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    chdir(folder)
    params = yaml.safe_load((PROJECT / "params.yaml").read_text())
    params |= {"seed": seed, "students": ARMS}
    params["distill"]["seeds"] = 1  # what counts is data seeds
    params["report"] |= {"baseline": BASELINE, "strip": ["labels_400"]}
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    Path("dvc.yaml").write_bytes((PROJECT / "dvc.yaml").read_bytes())
    sync()


@click.group()
def main() -> None: ...


@main.command()
@click.argument("seeds", type=int, nargs=-1, required=True)
def run(seeds: tuple[int, ...]) -> None:
    torch.set_num_threads(1)
    RESULTS.mkdir(exist_ok=True)
    for seed in seeds:
        enter_project(seed)
        run_stage("prepare")
        params = yaml.safe_load(Path("params.yaml").read_text())
        for stage, section in {"train_teacher": "teachers", "extract": "teachers", "fuse": "fusions"}.items():
            for key in params[section]:
                run_stage(stage, key)
        record(f"teachers-{seed}", {t: read(f"data/scores/teachers/{t}/scores.json") for t in params["teachers"]})
        for name in ARMS:
            if not (RESULTS / f"{name}-{seed}.json").exists():
                run_stage("distill", name)
                run_stage("evaluate", name)
                (scores,) = read(f"data/scores/students/{name}/scores.json")
                record(f"{name}-{seed}", {**scores, "cost": read(f"data/costs/distill/{name}.json")})


def record(name: str, result: dict) -> None:
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


@main.command()
def table() -> None:
    """Every arm's scores and the paired differences that the claims rest on, as bench/recsys.md."""
    arms = {name: by_seed(name) for name in ARMS}
    teachers = {seed: teacher_points(result) for seed, result in by_seed("teachers").items()}
    single = {seed: primaries(TASKS, result["test"], "clean") for seed, result in arms[BASELINE].items()}

    def column(name: str, what: str, seeds: Iterable[int]) -> list[float]:
        return [points(arms[name][seed], what, single.get(seed, {})) for seed in seeds]

    lines = ["# Recommendation over data seeds", ""]
    machine = "2 cores of an Intel Xeon (AVX-512), torch 2.13.0 CPU, one thread, beside up to ten others"
    lines += [f"Data seeds {', '.join(map(str, sorted(teachers)))}, one student seed each; {machine}.", ""]
    lines += [f"Delta_MTL is against {BASELINE}. NDCG, diversity and coverage: of clicks, on the whole catalogue.", ""]
    columns = [*SHORT, *SPLITS, *LISTS, *UNSEEN]
    lines += ["| arm | seeds | " + " | ".join(columns) + " | CPU seconds |", "|---" * (len(columns) + 3) + "|"]
    cells = [spread([row[task] for row in teachers.values()]) if task in TASKS else "" for task in columns]
    lines.append(f"| teachers | {len(teachers)} | " + " | ".join(cells) + " | |")
    for name, found in arms.items():
        cells = [spread(column(name, what, found)) for what in columns]
        cells.append(spread(result["cost"]["cpu_seconds"] for result in found.values()))
        lines.append(f"| {name} | {len(found)} | " + " | ".join(cells) + " |")
    lines += ["", "Paired differences by data seed: mean, 95 % t interval, every seed.", ""]
    lines += ["| claim | of | mean | interval | seeds |", "|---|---|---|---|---|"]
    for one, other, of in CONTRASTS:
        seeds = sorted(arms[one].keys() & arms[other].keys())
        for what in of:
            pairs = zip(column(one, what, seeds), column(other, what, seeds), strict=True)
            lines.append(f"| {one} - {other} | {what} | {difference([a - b for a, b in pairs])} |")
    for task in TASKS:
        seeds = sorted(arms["labels_1600"])
        pairs = zip(seeds, column("labels_1600", task, seeds), strict=True)
        lines.append(f"| teacher - labels_1600 | {task} | {difference([teachers[seed][task] - x for seed, x in pairs])} |")
    (ROOT / "bench" / "recsys.md").write_text("\n".join(lines) + "\n")


def by_seed(name: str) -> dict[int, dict]:
    return {int(file.stem.rpartition("-")[2]): read(str(file)) for file in sorted(RESULTS.glob(f"{name}-*.json"))}


def points(result: dict, what: str, single: dict[str, float]) -> float:
    tested: Tested = result["test"]
    clean = primaries(TASKS, tested, "clean")
    name, _, shots = what.partition("@")
    if what in clean:
        return clean[what]
    if what == "delta_mtl":
        return delta_mtl(TASKS, clean, single) if single else nan
    if what in LISTS:
        return 100 * tested["catalogue"]["click"][what]
    if shots:
        return 100 * mean(result["unseen"][name][shots])
    return mean(primaries(TASKS, tested, "clean" if what == "average" else what).values())


def teacher_points(result: dict[str, Tested]) -> dict[str, float]:
    return {task: x for tested in result.values() for task, x in primaries(TASKS, tested, "clean").items()}


if __name__ == "__main__":
    main()
