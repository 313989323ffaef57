"""Which method: every fusion and loss at 1,200 updates, screened on few data seeds before any is confirmed on more.

    python bench/evidence.py run SEED... [--arm ARM]...    # resumes: one JSON per arm and data seed in bench/evidence/
    python bench/evidence.py table          # bench/evidence.md, from the JSONs

Teachers are those of bench/demo.py. Every arm learns from labels and cached logits, most of them from fused features too; one
student seed an arm. Screening on a seed or two says what is worth confirming, and nothing else.
"""

import sys
from pathlib import Path

import click
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.arms import arm, by_seed, contrasts, read, run_arms, run_stage, student_result  # noqa: E402
from bench.demo import PCA, PRIMARY, SHORT, enter_beside, points  # noqa: E402
from bench.recipes import MACHINE, TEACHERS  # noqa: E402
from bench.shuffle import reordered  # noqa: E402
from pipeline.store import open_store  # noqa: E402

RESULTS = ROOT / "bench" / "evidence"
UPDATES = 1200


def fusion(file: str, name: str, **arguments: int) -> dict:
    return {"code": f"pipeline/fusions/{file}.py", "class": name, **arguments}


def balance(file: str, name: str) -> dict:
    return {"code": f"pipeline/balances/{file}.py", "class": name}


def loss(file: str, name: str, **arguments: float) -> dict:
    return {"code": f"pipeline/losses/{file}.py", "class": name, **arguments}


FUSIONS = {
    "pca": PCA,
    "none": fusion("none", "NoFusion"),
    "phi_s": fusion("phi_s", "PhiS"),
    "gcca": fusion("gcca", "GCCA", dims=64),
    "task_aware": fusion("task_aware", "TaskAware", dims=64),
    "random": fusion("random", "Random", dims=64),
    "shuffled": fusion("none", "NoFusion"),  # each row with the logits of another
}
LOGITS = {
    "mse": loss("mse", "MSE"),
    "dist": loss("dist", "DIST"),
    "standardised": loss("standardised_kl", "StandardisedKL", temperature=2),
    "dkd": loss("dkd", "DKD"),
}
FEATURES = {
    "mse": loss("mse", "MSE"),
    "pkd": loss("pkd", "PKD"),
    "inverted": loss("inverted", "InvertedProjection"),
    "crd": loss("crd", "CRD"),
    "cka": loss("cka", "CKA"),
}
BALANCES = {
    "famo": balance("famo", "FAMO"),
    "pcgrad": balance("gradients", "PCGrad"),
    "upgrad": balance("gradients", "UPGrad"),
    "mgda": balance("gradients", "MGDA"),
}
ARMS = {
    "logits": arm("none", UPDATES, "logits labels"),
    "logits_x3": {**arm("none", UPDATES, "logits labels"), "weights": {"logits": 3, "labels": 1}},
    **{f"logits_{name}": arm("none", UPDATES, "logits labels", logit_loss=spec) for name, spec in LOGITS.items()},
    **{name: arm(name, UPDATES, "fused logits labels") for name in FUSIONS if name != "shuffled"},
    **{f"pca_{name}": arm("pca", UPDATES, "fused logits labels", feature_loss=spec) for name, spec in FEATURES.items()},
    **{f"logits_{name}": arm("none", UPDATES, "logits labels", balance=spec) for name, spec in BALANCES.items()},
    **{f"{name}_only": arm(name, UPDATES, "fused", head_updates=200) for name in ("pca", "task_aware", "random")},
    "labels": arm("transfer", UPDATES, "labels"),
    "shuffled": arm("shuffled", UPDATES, "logits labels"),
}
AGAINST = {"random_only": "pca_only", "task_aware_only": "pca_only", "task_aware": "pca"}  # others: logits
AGAINST |= {f"pca_{name}": "pca" for name in FEATURES}
CONTROLS = [("logits_dist", "logits_x3")]  # of what is confirmed


def change(params: dict) -> None:
    params |= {"fusions": FUSIONS, "students": ARMS}
    params["report"] |= {"baseline": "logits", "strip": ["logits"]}


@click.group()
def main() -> None: ...


@main.command()
@click.argument("seeds", type=int, nargs=-1, required=True)
@click.option("--arm", "arms", type=click.Choice(ARMS), multiple=True, help="Only these.")
def run(seeds: tuple[int, ...], arms: tuple[str, ...]) -> None:
    for seed in seeds:
        enter_beside(seed, "evidence", change)
        for teacher in TEACHERS:
            run_stage("extract", teacher)
        run_arms(RESULTS, seed, arms or ARMS, result_of)


def result_of(name: str) -> dict:
    reads = ARMS[name]["reads"]
    fuse(reads)
    result = student_result(name)
    if reads not in ("transfer", "shuffled"):
        result["quality"] = read(f"data/costs/fuse/{reads}.json")["quality"]
    return result


def fuse(reads: str) -> None:
    path = Path("data/knowledge/shuffled.zarr")
    if reads == "shuffled" and not path.exists():
        fuse("none")
        store = open_store(Path("data/knowledge/none.zarr"))
        reordered(store, path, {"logits": np.random.default_rng(0).permutation(store.n_rows)})
    elif reads not in ("transfer", "shuffled"):
        run_stage("fuse", reads)


@main.command()
def table() -> None:
    results = {name: found for name in ARMS if (found := by_seed(RESULTS, name))}
    seeds = sorted(set.intersection(*(set(found) for found in results.values())))
    lines = ["# Methods, screened", "", f"{UPDATES} updates, data seeds {', '.join(map(str, seeds))}; {MACHINE}."]
    lines += ["Points on the clean test split, a column a seed; the last columns: minus the arm named.", ""]
    lines += [f"| arm | average | {' | '.join(PRIMARY)} | minus | average |", "|---" * (4 + len(PRIMARY)) + "|"]
    for name, found in results.items():
        cells = [", ".join(f"{points(found[s], column):.1f}" for s in seeds) for column in ("average", *PRIMARY)]
        rival = AGAINST.get(name, "logits")
        gaps = ", ".join(f"{points(found[s], 'average') - points(results[rival][s], 'average'):+.1f}" for s in seeds)
        lines.append(f"| {name} | {' | '.join(cells)} | {rival} | {gaps if name != rival else ''} |")
    lines += ["", "What each fusion keeps of the teachers, R^2 on rows held out; effective rank.", ""]
    taps = list(results["none"][seeds[0]]["quality"]["r2"])
    lines += ["| fusion | " + " | ".join(taps) + " | effective rank |", "|---" * (2 + len(taps)) + "|"]
    for name in (name for name in FUSIONS if name != "shuffled" and name in results):
        found = results[name][seeds[0]]["quality"]
        kept = " | ".join(f"{found['r2'][tap]:.3f}" for tap in taps)
        lines.append(f"| {name} | {kept} | {found['effective_rank']:.1f} |")
    lines += ["", "## Confirmed", "", "On data seeds that no screening saw: paired mean, 95 % t interval, every seed.", ""]
    fresh = {name: {s: r for s, r in found.items() if s not in seeds} for name, found in results.items()}
    pairs = [*((name, AGAINST.get(name, "logits")) for name in results if name != "logits"), *CONTROLS]
    confirmed = [(*pair, SHORT) for pair in pairs if len(fresh[pair[0]].keys() & fresh[pair[1]].keys()) > 1]
    lines += contrasts(fresh, confirmed, points)
    (ROOT / "bench" / "evidence.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
