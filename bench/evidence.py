"""Which method: every fusion, loss and balance at 1,200 updates, screened on two data seeds; a few confirmed on fresh ones.

    python bench/evidence.py run SEED... [--arm ARM]...    # resumes: one JSON per arm and data seed in bench/evidence/
    python bench/evidence.py table          # bench/evidence.md, from the JSONs

Teachers are those of bench/demo.py. Most arms learn from labels and cached logits, the latter at three times the weight. One
student seed an arm. Screening says what is worth confirming, by the validation split, and nothing else.
"""

import sys
from math import isnan
from pathlib import Path
from statistics import mean

import numpy as np
from scipy.stats import ttest_1samp

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.arms import MACHINE, by_seed, commands, contrasts, read, run_arms, run_stage, spread, student_result  # noqa: E402
from bench.demo import PCA, PRIMARY, SHORT, TWO, enter_beside, points  # noqa: E402
from bench.shuffle import reordered  # noqa: E402
from pipeline.batches.batches import with_prefix  # noqa: E402
from pipeline.stores.store import Store, open_store  # noqa: E402

RESULTS = ROOT / "bench" / "evidence"
UPDATES = 1200
UNTAUGHT = {f"untaught_{task}": task for task in PRIMARY}  # networks as they begin


def arm(reads: str, kinds: str, logits: float = 3, **more) -> dict:
    weights = {"fused": 1, "logits": logits, "labels": 1}
    return {"reads": reads, "updates": UPDATES, "weights": {kind: weights[kind] for kind in kinds.split()}, **more}


def fusion(file: str, name: str, **arguments) -> dict:
    return {"code": f"pipeline/fusions/{file}.py", "class": name, "teachers": list(PRIMARY), **arguments}


def balance(file: str, name: str) -> dict:
    return {"code": f"pipeline/balances/{file}.py", "class": name}


def loss(file: str, name: str, **arguments: float) -> dict:
    return {"code": f"pipeline/losses/{file}.py", "class": name, **arguments}


METHODS = {
    "pca": {**PCA, "teachers": list(PRIMARY)},
    "none": fusion("none", "NoFusion"),
    "phi_s": fusion("phi_s", "PhiS"),
    "gcca": fusion("gcca", "GCCA", dims=64),
    "task_aware": fusion("task_aware", "TaskAware", dims=64),
    "random": fusion("random", "Random", dims=64),
}
COPIES = ("shuffled", "labelled_rows")  # of `none`: each row with another's logits; scenes with a label alone
FUSIONS = {
    **METHODS,
    "untaught": {**PCA, "teachers": list(UNTAUGHT)},
    "one": fusion("none", "NoFusion", teachers=["segmentation"]),
    "two": fusion("none", "NoFusion", teachers=TWO),
    **dict.fromkeys(COPIES, fusion("none", "NoFusion")),
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
    "cwd": loss("cwd", "CWD"),
    "inverted": loss("inverted", "InvertedProjection"),
    "crd": loss("crd", "CRD"),
    "cka": loss("cka", "CKA"),
}
BALANCES = {
    "uncertainty": balance("uncertainty", "Uncertainty"),
    "dwa": balance("dwa", "DWA"),
    "famo": balance("famo", "FAMO"),
    "pcgrad": balance("gradients", "PCGrad"),
    "upgrad": balance("gradients", "UPGrad"),
    "mgda": balance("gradients", "MGDA"),
}
BOTH, ALL = "logits labels", "fused logits labels"
ARMS = {
    "labels": arm("transfer", "labels"),
    "logits": arm("none", BOTH),
    "logits_x1": arm("none", BOTH, 1),
    "logits_x9": arm("none", BOTH, 9),
    **{f"logits_{name}": arm("none", BOTH, logit_loss=spec) for name, spec in LOGITS.items()},
    **{f"logits_{name}": arm("none", BOTH, balance=spec) for name, spec in BALANCES.items()},
    "dist_uncertainty": arm("none", BOTH, logit_loss=LOGITS["dist"], balance=BALANCES["uncertainty"]),
    **{name: arm(name, ALL) for name in METHODS},
    **{f"pca_{name}": arm("pca", ALL, feature_loss=spec) for name, spec in FEATURES.items()},
    **{f"{name}_only": arm(name, "fused", head_updates=200) for name in ("pca", "task_aware", "random")},
    "pca_features": arm("pca", "fused labels"),
    "untaught_features": arm("untaught", "fused labels"),
    "untaught": arm("untaught", BOTH),
    "shuffled": arm("shuffled", BOTH),
    "labelled_rows": arm("labelled_rows", BOTH),
    "one": arm("one", BOTH),
    "two": arm("two", BOTH, tasks=TWO),
    "two_auxiliary": arm("none", BOTH, labelled=TWO),  # segmentation from its teacher alone
    "two_features": arm("pca", ALL, tasks=TWO),
}
AGAINST = {f"{name}_only": "pca_only" for name in METHODS} | {f"pca_{name}": "pca" for name in FEATURES}  # others: logits
AGAINST |= {"untaught": "labels", "untaught_features": "pca_features", "pca_features": "labels", "pca_only": "logits"}
AGAINST |= {"shuffled": "labels", "two_features": "two", "two_auxiliary": "two"}


SCREENING = (1, 2)
CONTRASTS = [
    ("logits_dist", "logits"),  # written down before the runs on fresh seeds
    ("logits_uncertainty", "logits"),
    ("phi_s", "logits"),
    ("logits", "logits_x1"),
    ("logits", "labels"),
    ("logits", "labelled_rows"),
    ("one", "logits"),
    ("pca_features", "labels"),
    ("pca_features", "untaught_features"),
    ("shuffled", "labels"),
    ("untaught", "labels"),
    ("two_auxiliary", "two"),
    ("two_auxiliary", "logits"),
]
CONFIRMED = list(dict.fromkeys(name for pair in CONTRASTS for name in pair))


def change(params: dict) -> None:
    encoder = params["teachers"]["detection"]["encoder"]
    begun = {name: {"tasks": [t], "encoder": encoder, "updates": 1, "learning_rate": 1e-9} for name, t in UNTAUGHT.items()}
    params["teachers"] |= begun
    params |= {"fusions": FUSIONS, "students": ARMS}
    params["report"] |= {"baseline": "logits", "strip": ["logits"]}


def run(seed: int, arms: tuple[str, ...]) -> None:
    enter_beside(seed, "evidence", change)
    for teacher in (*PRIMARY, *UNTAUGHT):
        run_stage("train_teacher", teacher)
        run_stage("extract", teacher)
    run_arms(RESULTS, seed, arms or (ARMS if seed in SCREENING else CONFIRMED), result_of)


def result_of(name: str) -> dict:
    reads = ARMS[name]["reads"]
    if reads in COPIES:
        copy(reads)
    elif reads != "transfer":
        run_stage("fuse", reads)
    result = student_result(name)
    if reads in METHODS:
        result["quality"] = read(f"data/costs/fuse/{reads}.json")["quality"]
    last = read(f"data/scores/students/{name}/curve.json")[-1]
    return result | {"val": mean(last[f"val/{t}/{m}"] for t, m in PRIMARY.items() if f"val/{t}/{m}" in last)}


def copy(name: str) -> None:
    path = Path(f"data/knowledge/{name}.zarr")
    run_stage("fuse", "none")
    store = open_store(Path("data/knowledge/none.zarr"))
    if not path.exists():
        reordered(store, path, {"shuffled": shuffled, "labelled_rows": labelled_rows}[name](store))


def shuffled(store: Store) -> dict[str, np.ndarray]:
    return {"logits": np.random.default_rng(0).permutation(store.n_rows)}


def labelled_rows(store: Store) -> dict[str, np.ndarray]:
    """All rows, every view, of samples with a label."""
    told = np.any([store.read(flag) for flag in with_prefix(store, "labelled/")], axis=0)
    ids = store.sample_id.view("V16").ravel()
    rows = np.flatnonzero(np.isin(ids, ids[told]))
    return dict.fromkeys([*{name.split("/")[0] for name in store.fields}, "ids"], rows)


def table() -> None:
    results = {name: found for name in ARMS if (found := by_seed(RESULTS, name))}
    screened = {name: {s: found[s] for s in SCREENING} for name, found in results.items() if found.keys() >= set(SCREENING)}
    lines = ["# Methods", "", f"{UPDATES} updates; {MACHINE}.", "", "## Screened", ""]
    lines += [f"Data seeds {' and '.join(map(str, SCREENING))}. val: average on the validation split, a seed each; by it was"]
    lines += ["chosen what to confirm, and the same minus the arm named. Tasks: points on the clean test split, mean.", ""]
    lines += [f"| arm | val | minus | val | average | {' | '.join(PRIMARY)} |", "|---" * (5 + len(PRIMARY)) + "|"]
    for name, found in screened.items():
        rival = AGAINST.get(name, "logits")
        gaps = [100 * (found[s]["val"] - screened[rival][s]["val"]) for s in SCREENING]
        minus = ", ".join(f"{gap:+.1f}" for gap in gaps) if name != rival and comparable(name, rival) else ""
        val = ", ".join(f"{100 * found[s]['val']:.1f}" for s in SCREENING)
        means = [mean(points(found[s], column) for s in SCREENING) for column in SHORT]
        cells = " | ".join("-" if isnan(x) else f"{x:.1f}" for x in means)
        lines.append(f"| {name} | {val} | {rival if minus else ''} | {minus} | {cells} |")
    lines += ["", "What each fusion keeps of the teachers, R^2 on rows held out; effective rank.", ""]
    taps = list(screened["none"][SCREENING[0]]["quality"]["r2"])
    lines += ["| fusion | " + " | ".join(taps) + " | effective rank |", "|---" * (2 + len(taps)) + "|"]
    for name in METHODS:
        found = screened[name][SCREENING[0]]["quality"]
        kept = " | ".join(f"{found['r2'][tap]:.3f}" for tap in taps)
        lines.append(f"| {name} | {kept} | {found['effective_rank']:.1f} |")
    fresh = {name: {s: r for s, r in found.items() if s not in SCREENING} for name, found in results.items()}
    (ROOT / "bench" / "evidence.md").write_text("\n".join([*lines, *confirmed(fresh)]) + "\n")


def comparable(name: str, rival: str) -> bool:
    return ARMS[name].get("tasks") == ARMS[rival].get("tasks")


def confirmed(fresh: dict[str, dict[int, dict]]) -> list[str]:
    lines = [
        "",
        "## Confirmed",
        "",
        "On data seeds that no screening saw: points, mean +- sd; then paired: mean, 95 % t interval, every",
    ]
    lines += ["seed. The first contrast was written down before the runs; p of the others' averages is corrected for their"]
    lines += ["number (Holm).", ""]
    lines += [f"| arm | data seeds | {' | '.join(SHORT)} |", "|---" * (2 + len(SHORT)) + "|"]
    for name in CONFIRMED:
        cells = " | ".join(spread(points(result, column) for result in fresh[name].values()) for column in SHORT)
        lines.append(f"| {name} | {', '.join(map(str, fresh[name]))} | {cells} |")
    lines.append("")
    pairs = [pair for pair in CONTRASTS if len(fresh[pair[0]].keys() & fresh[pair[1]].keys()) > 1]
    averages = [pair for pair in pairs if comparable(*pair)]
    found = [p_value(fresh[one], fresh[other]) for one, other in averages]
    lines += ["| average of | p | corrected |", "|---|---|---|"]
    for (one, other), p, corrected in zip(averages, found, [None, *holm(found[1:])], strict=True):
        lines.append(f"| {one} - {other} | {p:.4f} | {'' if corrected is None else f'{corrected:.4f}'} |")
    return [*lines, "", *contrasts(fresh, [(*pair, SHORT if comparable(*pair) else TWO) for pair in pairs], points)]


def p_value(one: dict[int, dict], other: dict[int, dict]) -> float:
    """Of the average's difference being none: paired t test, two-sided."""
    seeds = one.keys() & other.keys()
    return ttest_1samp([points(one[s], "average") - points(other[s], "average") for s in seeds], 0).pvalue


def holm(p_values: list[float]) -> list[float]:
    """Each p, corrected for how many there are (Holm 1979)."""
    order = np.argsort(p_values)
    factors = np.arange(len(order), 0, -1)
    stepped = np.minimum(1, np.maximum.accumulate(np.array(p_values)[order] * factors))
    return stepped[np.argsort(order)].tolist()


if __name__ == "__main__":
    commands(run, table, ARMS)()
