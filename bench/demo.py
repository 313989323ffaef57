"""The demo's claims over fresh data seeds.

    python bench/demo.py run SEED...    # resumes: an arm whose JSON lies in bench/demo/ is not run again
    python bench/demo.py table          # bench/demo.md, from the JSONs

Nothing is selected: weights are those of the last update, and every number in params was fixed on other data seeds (LOG.md).
"""

import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.arms import (  # noqa: E402
    arm,
    by_seed,
    commands,
    contrasts,
    difference,
    enter,
    run_arms,
    run_stage,
    run_teachers,
    share,
    spread,
    student_result,
)
from bench.finetune import finetune_scores  # noqa: E402

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


PREPARED = ("knowledge/transfer.zarr", "splits", "costs/prepare.json")
TAUGHT = ("teachers", "scores/teachers", "costs/train_teacher")


def change(params: dict) -> None:
    params |= {"fusions": FUSIONS, "students": ARMS}
    for teacher in params["teachers"].values():
        teacher["updates"] = TEACHER_UPDATES
    params["evaluate"]["shots"] = SHOTS
    params["report"] |= {"baseline": "single_2400", "strip": ["labels_600"]}


def enter_beside(seed: int, name: str, change_own: Callable[[dict], None]) -> None:
    """A project that shares data and teachers with the demo's of the same data seed; its params are the root's, changed."""
    base = enter("seed", ROOT, seed, change)
    run_stage("prepare")
    for teacher in PRIMARY:
        run_stage("train_teacher", teacher)
    enter(name, ROOT, seed, change_own)
    share(base, *PREPARED, *TAUGHT)


def run(seed: int, arms: tuple[str, ...]) -> None:
    enter("seed", ROOT, seed, change)
    run_teachers(RESULTS, seed)
    run_arms(RESULTS, seed, arms or ARMS, arm_result)


def arm_result(name: str) -> dict:
    result = student_result(name)
    if name.endswith("_cls_det"):
        result["finetuned"] = finetune_scores(Path("data/students") / name / "seed-0", Path("data/splits/unseen"), SHOTS[:2])
    return result


def table() -> None:
    """Every arm's scores and the paired differences that the claims rest on, as bench/demo.md."""
    arms = {name: by_seed(RESULTS, name) for name in ["teachers", *ARMS]}
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
    lines += contrasts(arms, CONTRASTS, points)
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


if __name__ == "__main__":
    commands(run, table, ARMS)()
