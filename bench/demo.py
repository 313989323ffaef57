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
from importlib import import_module
from os import chdir, environ
from pathlib import Path

import click
import torch
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
environ["STILLROOM_DEBUG"] = "1"

from bench.finetune import finetune_scores  # noqa: E402
from pipeline.lineage import sync  # noqa: E402

RESULTS = ROOT / "bench" / "demo"
SHOTS = [20, 50, 100, 200]
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
    params |= {"seed": seed, "fusions": FUSIONS, "students": ARMS}
    params["distill"]["seeds"] = 1  # what counts is data seeds
    params["evaluate"]["shots"] = SHOTS
    params["report"] |= {"baseline": "single_2400", "strip": ["labels_600"]}
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    Path("dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
    sync()


def run_stage(name: str, key: str = "") -> None:
    """A stage's command from dvc.yaml, unless its outputs are there."""
    stage = yaml.safe_load(Path("dvc.yaml").read_text())["stages"][name]
    stage = stage.get("do", stage)
    reads = ARMS[key]["reads"] if key in ARMS else ""
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


def read(path: str):
    return json.loads(Path(path).read_text())


def record(name: str, result: dict) -> None:
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
