"""A task that nobody taught: what fused features add to cached logits for a student that meets it later, with few labels.

    python bench/unseen.py run SEED...    # resumes: one JSON per arm and data seed in bench/unseen/
    python bench/unseen.py table          # bench/unseen.md, from the JSONs

Students of classification and detection, from the teachers of these two and the labels; then segmentation, of which none saw a
mask, by fine-tuning on k scenes, encoder and all (finetune.py). Updates, weights and the contrast were chosen on data seed 5.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.arms import AMX, arm, by_seed, commands, contrasts, enter, run_arms, run_stage, spread, student_result  # noqa: E402
from bench.demo import PCA, TEACHER_UPDATES, TWO  # noqa: E402
from bench.finetune import finetune_scores  # noqa: E402

RESULTS = ROOT / "bench" / "unseen"
SHOTS = [20, 50, 100]
ARMS = {
    "labels": arm("transfer", 600, "labels"),
    "logits": {"reads": "pca", "updates": 600, "weights": {"logits": 3, "labels": 1}},
    "fused": {"reads": "pca", "updates": 600, "weights": {"fused": 1, "logits": 3, "labels": 1}},
}
PRIMARY_CONTRAST = ("fused", "logits", ["50"])  # written down before the runs
CONTRASTS = [PRIMARY_CONTRAST, ("fused", "logits", ["20", "100"]), ("logits", "labels", list(map(str, SHOTS)))]


def run(seed: int, arms: tuple[str, ...]) -> None:
    enter("unseen", ROOT, seed, change)
    run_stage("prepare")
    for stage, keys in {"train_teacher": TWO, "extract": TWO, "fuse": ["pca"]}.items():
        for key in keys:
            run_stage(stage, key)
    run_arms(RESULTS, seed, arms or ARMS, result_of)


def change(params: dict) -> None:
    for task in TWO:
        params["teachers"][task]["updates"] = TEACHER_UPDATES
    params["fusions"] = {"pca": {**PCA, "teachers": TWO}}
    params["students"] = {name: {**spec, "tasks": TWO} for name, spec in ARMS.items()}
    params["report"] |= {"baseline": "labels", "strip": ["labels"]}


def result_of(name: str) -> dict:
    result = student_result(name)
    return result | finetune_scores(Path("data/students") / name / "seed-0", Path("data/splits/unseen"), SHOTS)


def table() -> None:
    found = {name: by_seed(RESULTS, name) for name in ARMS}
    lines = ["# A task that nobody taught", "", f"Data seeds {', '.join(map(str, found['fused']))}; {AMX}.", ""]
    lines += [
        "mIoU of segmentation after fine-tuning on k scenes, mean of three draws of them; mean +- sd over data seeds.",
        "",
    ]
    lines += [f"| student | {' | '.join(f'k = {k}' for k in SHOTS)} |", "|---" * (1 + len(SHOTS)) + "|"]
    scratch = {"from scratch": [result["scratch"] for result in found["fused"].values()]}
    for name, scores in (scratch | {name: [r["student"] for r in results.values()] for name, results in found.items()}).items():
        lines.append(f"| {name} | {' | '.join(spread(x[str(k)] for x in scores) for k in SHOTS)} |")
    lines += [
        "",
        "Paired by data seed, of k: mean, 95 % t interval, every seed. The first was written down before the runs.",
        "",
    ]
    lines += contrasts(found, CONTRASTS, lambda result, k: result["student"][k])
    (ROOT / "bench" / "unseen.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    commands(run, table, ARMS)()
