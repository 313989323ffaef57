"""The demo's claims over fresh data seeds.

    python bench/demo.py run SEED...    # resumes: an arm whose JSON lies in bench/demo/ is not run again
    python bench/demo.py table          # bench/demo.md, from the JSONs

A data seed is a project in bench/.work: the root's params with another seed, and every arm a student of it. Its stages are
run by the commands of dvc.yaml, in this one process, without DVC: thirty students would spend minutes in start-up. Nothing
is selected: weights are those of the last update, and every number in params was fixed on other data seeds (LOG.md).
"""

import json
import shlex
import sys
from collections.abc import Callable
from importlib import import_module
from math import isnan
from os import chdir, environ
from pathlib import Path
from statistics import mean, stdev

import click
import torch
import yaml
from scipy.stats import t as student_t

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
environ["STILLROOM_DEBUG"] = "1"

from bench.finetune import finetune_scores  # noqa: E402
from pipeline.lineage import sync  # noqa: E402

RESULTS = ROOT / "bench" / "demo"
SHOTS = [20, 50, 100, 200]
TEACHER_UPDATES = 2400  # the root's are fewer, for `make repro` to take a quarter of an hour
PCA = {"code": "pipeline/fusions/pca.py", "class": "PCA", "dims": 64}
TWO = ["classification", "detection"]
FUSIONS = {
    "none": {"code": "pipeline/fusions/none.py", "class": "NoFusion"},
    "pca": PCA,
    "pca_cls_det": {**PCA, "teachers": TWO},  # no segmentation knowledge
    "pca_det": {**PCA, "teachers": ["detection"]},  # a single teacher's
}


def arm(reads: str, updates: int, weights: str, **more) -> dict:
    return {"reads": reads, "updates": updates, "weights": dict.fromkeys(weights.split(), 1), **more}


FEW = {"labelled_share": 0.1667}
ARMS = {
    "labels_600": arm("transfer", 600, "labels"),
    "kd_600": arm("none", 600, "logits"),
    "labels_1200": arm("transfer", 1200, "labels"),
    "kd_1200": arm("none", 1200, "logits"),
    "labels_few": arm("transfer", 600, "labels", **FEW),
    "fused_few": arm("pca", 600, "fused logits labels", **FEW),
    "logits_few": arm("none", 600, "logits labels", **FEW),
    "labels_few_2400": arm("transfer", 2400, "labels", **FEW),
    "fused_few_2400": arm("pca", 2400, "fused logits labels", **FEW),
    "fused_600": arm("pca", 600, "fused logits labels"),
    "logits_600": arm("none", 600, "logits labels"),
    "none_600": arm("none", 600, "fused logits labels"),
    "fused_only_600": arm("pca", 600, "fused", head_updates=200),
    "one_teacher_600": arm("pca_det", 600, "fused logits labels"),
    "labels_rows_600": arm("transfer", 600, "labels", batch_size=128),  # as many rows as knowledge and labels together
    "labels_cls_det": arm("transfer", 600, "labels", tasks=TWO),
    "logits_cls_det": arm("pca_cls_det", 600, "logits labels", tasks=TWO),
    "fused_cls_det": arm("pca_cls_det", 600, "fused logits labels", tasks=TWO),
    "labels_2400": arm("transfer", 2400, "labels"),
    "labels_4800": arm("transfer", 4800, "labels"),
    "fused_4800": arm("pca", 4800, "fused logits labels"),
    "logits_4800": arm("none", 4800, "logits labels"),
    "single_2400": arm("transfer", 2400, "labels", separate=True),
}


def enter_project(seed: int) -> None:
    folder = ROOT / "bench" / ".work" / f"seed-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    chdir(folder)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params |= {"seed": seed, "fusions": FUSIONS, "students": ARMS, "sweep": {}}
    params["distill"]["seeds"] = 1  # what counts is data seeds
    for teacher in params["teachers"].values():
        teacher["updates"] = TEACHER_UPDATES
    params["evaluate"]["shots"] = SHOTS
    params["report"] |= {"baseline": "single_2400", "strip": ["labels_600"]}
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    Path("dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
    sync()


def enter_beside(seed: int, name: str, change: Callable[[dict], None]) -> None:
    """A project that shares data and teachers with the demo's of the same data seed; its params are the root's, changed."""
    enter_project(seed)
    run_stage("prepare")
    for teacher in PRIMARY:
        run_stage("train_teacher", teacher)
    base = Path.cwd()
    folder = base.with_name(f"{name}-{seed}")
    for shared in ("knowledge/transfer.zarr", "splits", "teachers"):
        (folder / "data" / shared).parent.mkdir(parents=True, exist_ok=True)
        if not (folder / "data" / shared).exists():
            (folder / "data" / shared).symlink_to(base / "data" / shared)
    chdir(folder)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params |= {"seed": seed, "sweep": {}}
    change(params)
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    Path("dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
    sync()


def run_stage(name: str, key: str = "") -> None:
    """A stage's command from dvc.yaml, unless its outputs are there."""
    stage = yaml.safe_load(Path("dvc.yaml").read_text())["stages"][name]
    stage = stage.get("do", stage)
    reads = yaml.safe_load(Path("params.yaml").read_text())["students"].get(key, {}).get("reads", "")
    filled = {what: what.replace("${key}", key).replace("${item.reads}", reads) for what in [stage["cmd"], *stage["outs"]]}
    if not all(Path(filled[out]).exists() for out in stage["outs"]):
        print(f"{name} {key}", flush=True)
        import_module(f"stages.{name}").main(shlex.split(filled[stage["cmd"]])[3:], standalone_mode=False)


@click.group()
def main() -> None: ...


@main.command()
@click.argument("seeds", type=int, nargs=-1, required=True)
def run(seeds: tuple[int, ...]) -> None:
    torch.set_num_threads(1)  # one process a core is faster than one process on two
    RESULTS.mkdir(exist_ok=True)
    for seed in seeds:
        missing = [name for name in ARMS if not (RESULTS / f"{name}-{seed}.json").exists()]
        enter_project(seed)
        run_stage("prepare")
        for name in sorted(missing, key=lambda name: ARMS[name]["reads"] != "transfer"):
            if ARMS[name]["reads"] != "transfer":
                run_teachers(seed)
            run_stage("distill", name)
            run_stage("evaluate", name)
            record(f"{name}-{seed}", arm_result(name))


def run_teachers(seed: int) -> None:
    teachers = list(yaml.safe_load(Path("params.yaml").read_text())["teachers"])
    for stage, keys in {"train_teacher": teachers, "extract": teachers, "fuse": FUSIONS}.items():
        for key in keys:
            run_stage(stage, key)
    record(f"teachers-{seed}", {t: read(f"data/scores/teachers/{t}/scores.json") for t in teachers})


def arm_result(name: str) -> dict:
    (scores,) = read(f"data/scores/students/{name}/scores.json")
    result = {**scores, "cost": read(f"data/costs/distill/{name}.json")}
    if name.endswith("_cls_det"):
        result["finetuned"] = finetune_scores(Path("data/students") / name / "seed-0", Path("data/splits/unseen"), SHOTS[:2])
    return result


@main.command()
def table() -> None:
    """Every arm's scores and the paired differences that the claims rest on, as bench/demo.md."""
    arms = {name: by_seed(name) for name in ["teachers", *ARMS]}
    seeds = sorted(set.intersection(*(set(results) for results in arms.values())))
    arms = {name: {seed: results[seed] for seed in seeds} for name, results in arms.items()}
    lines = [
        "# The demo over data seeds",
        "",
        f"{len(seeds)} data seeds ({', '.join(map(str, seeds))}), one student seed each; " + MACHINE,
    ]
    lines += ["", "## Arms", "", "Points on the clean test split, mean +- sd over data seeds.", ""]
    lines += ["| arm | " + " | ".join(PRIMARY) + " | average | CPU seconds |", "|---" * 6 + "|"]
    teachers = [[100 * r[t]["clean"][t][m] for t, m in PRIMARY.items()] for r in arms["teachers"].values()]
    lines.append(
        "| teachers | " + " | ".join(spread(x) for x in [*zip(*teachers, strict=True), list(map(mean, teachers))]) + " | |"
    )
    for name in ARMS:
        seconds = spread([r["cost"]["cpu_seconds"] for r in arms[name].values()])
        cells = [[points(r, c) for r in arms[name].values()] for c in [*PRIMARY, "average"]]
        lines.append(f"| {name} | " + " | ".join(spread(x) for x in cells) + f" | {seconds} |")
    lines += ["", "## Differences", "", "Paired by data seed: mean, 95 % t interval, every seed.", ""]
    lines += ["| claim | of | mean | interval | seeds |", "|---|---|---|---|---|"]
    for one, other, columns in CONTRASTS:
        for column in columns:
            found = [points(arms[one][s], column) - points(arms[other][s], column) for s in seeds]
            lines.append(f"| {one} - {other} | {column} | {difference(found)} |")
    for task in PRIMARY:
        for rival in ("single_2400", "labels_4800"):
            column = [
                100 * arms["teachers"][s][task]["clean"][task][PRIMARY[task]] - points(arms[rival][s], task) for s in seeds
            ]
            lines.append(f"| teacher - {rival} | {task} | {difference(column)} |")
    (ROOT / "bench" / "demo.md").write_text("\n".join(lines) + "\n")


PRIMARY = {"classification": "macro_AP", "detection": "mAP50", "segmentation": "mIoU"}
MACHINE = "2 cores of an AMD EPYC (Zen 4), torch 2.13.0 CPU, one thread a process, two to three processes at once."
COUNT, TURN = [f"count@{k}" for k in SHOTS], [f"rotation@{k}" for k in SHOTS]
SHORT = ["average", *PRIMARY]
CONTRASTS = [
    ("kd_600", "labels_600", SHORT),
    ("kd_1200", "labels_1200", SHORT),
    ("fused_600", "labels_600", [*SHORT, "corrupted", "cluttered", *COUNT, *TURN]),
    ("kd_600", "labels_600", [*COUNT, *TURN]),
    ("fused_600", "labels_rows_600", ["average"]),
    ("fused_few", "labels_few", ["average"]),
    ("logits_few", "labels_few", ["average"]),
    ("fused_few_2400", "labels_few_2400", SHORT),
    ("fused_4800", "labels_4800", [*SHORT, "corrupted", "cluttered"]),
    ("logits_4800", "labels_4800", SHORT),
    ("fused_4800", "logits_4800", SHORT),
    ("labels_4800", "labels_2400", ["average"]),
    ("fused_600", "logits_600", SHORT),
    ("none_600", "logits_600", SHORT),
    ("fused_600", "none_600", ["average"]),
    ("one_teacher_600", "logits_600", SHORT),
    ("fused_only_600", "labels_600", SHORT),
    ("logits_cls_det", "labels_cls_det", ["finetuned@20", "finetuned@50", *COUNT[:2], *TURN[:2]]),
    ("fused_cls_det", "labels_cls_det", ["finetuned@20", "finetuned@50", *COUNT[:2], *TURN[:2]]),
    ("fused_cls_det", "logits_cls_det", ["finetuned@20", "finetuned@50"]),
]


def by_seed(name: str) -> dict[int, dict]:
    return {int(file.stem.rpartition("-")[2]): json.loads(file.read_text()) for file in RESULTS.glob(f"{name}-*.json")}


def points(result: dict, column: str) -> float:
    """A column of an arm's JSON: a task, a split's average, an unseen task or fine-tuned segmentation at k shots."""
    tested = result["test"]
    if column in PRIMARY:
        return 100 * tested["clean"][column][PRIMARY[column]] if column in tested["clean"] else float("nan")
    name, _, shots = column.partition("@")
    if name == "finetuned":
        return result["finetuned"]["student"][shots]
    if shots:
        return 100 * mean(result["unseen"][name][shots])
    split = tested["clean" if name == "average" else name]
    return 100 * mean(split[task][PRIMARY[task]] for task in split)


def teacher_points(result: dict, task: str) -> float:
    return 100 * result[task]["clean"][task][PRIMARY[task]]


def spread(values) -> str:
    values = list(values)
    if any(isnan(value) for value in values):
        return "-"
    return f"{mean(values):.1f} +- {stdev(values):.1f}" if len(values) > 1 else f"{values[0]:.1f}"


def difference(values: list[float]) -> str:
    half = student_t.ppf(0.975, len(values) - 1) * stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{mean(values):+.1f} | +-{half:.1f} | {', '.join(f'{v:+.1f}' for v in values)}"


def read(path: str):
    return json.loads(Path(path).read_text())


def record(name: str, result: dict) -> None:
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
