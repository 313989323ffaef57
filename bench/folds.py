"""Knowledge of rows that a teacher was trained on, against that of a teacher which never saw them.

    python bench/folds.py run SEED...    # resumes: one JSON per arm and data seed in bench/folds/
    python bench/folds.py table          # bench/folds.md, from the JSONs

Two teachers of all tasks learn from half of the labelled scenes each, 2,400 updates, and say what students are told, one
teacher a row: of a labelled scene the one that did not see it (`unseen`) or the one that did (`seen`), of others the same in
both. `unseen_mean` has the mean of both where neither saw the scene. `one` is a teacher of all labels, 4,800 updates. Students:
2,400 updates on labels and logits, DIST, three times the weight.
"""

import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.arms import AMX, by_seed, commands, contrasts, enter, run_arms, run_stage, share, spread, student_result  # noqa: E402
from bench.demo import PREPARED, PRIMARY, SHORT, points  # noqa: E402
from bench.plateau import DIST, ONE, WEIGHTS, add_one  # noqa: E402
from bench.shuffle import written  # noqa: E402
from pipeline.stores.store import Store, open_store  # noqa: E402
from pipeline.stores.writer import StoreWriter  # noqa: E402

RESULTS = ROOT / "bench" / "folds"
HALVES = ("half_0", "half_1")
ARMS = ["unseen", "seen", "unseen_mean", "one"]
UPDATES = 2400
CONTRASTS = [("unseen", "seen"), ("unseen_mean", "one"), ("unseen_mean", "unseen")]  # the first: written down before the runs
TRANSFER = "data/knowledge/transfer.zarr"


def run(seed: int, arms: tuple[str, ...]) -> None:
    base = enter("folds", ROOT, seed, change)
    run_stage("prepare")
    run_stage("train_teacher", ONE)
    for number, half in enumerate(HALVES):
        enter(f"folds-{half}", ROOT, seed, change_half)
        share(base, *PREPARED[1:])
        learn_from_half(open_store(base / TRANSFER), number)
        (base / "data/teachers" / half).unlink(missing_ok=True)
        (base / "data/teachers" / half).symlink_to(Path(f"data/teachers/{ONE}").absolute())
    enter("folds", ROOT, seed, change)
    for teacher in (ONE, *HALVES):
        run_stage("extract", teacher)
    run_arms(RESULTS, seed, arms or ARMS, result_of)


def change(params: dict) -> None:
    add_one(params)
    one = params["teachers"][ONE]
    params["teachers"] = {ONE: one, **{half: {**one, "updates": UPDATES} for half in HALVES}}
    none = {"code": "pipeline/fusions/none.py", "class": "NoFusion", "teachers": [ONE]}
    params["fusions"] = dict.fromkeys(ARMS, none)
    params["students"] = {name: {"reads": name, "updates": UPDATES, "weights": WEIGHTS, "logit_loss": DIST} for name in ARMS}
    params["report"] |= {"baseline": "one", "strip": ["one"]}


def change_half(params: dict) -> None:
    change(params)
    params["teachers"][ONE]["updates"] = UPDATES


def folds(store: Store) -> np.ndarray:
    """(N,) 0 or 1, by the sample."""
    return store.sample_id[:, 0] % 2


def learn_from_half(whole: Store, half: int) -> None:
    flags = {f"labelled/{task}": whole.read(f"labelled/{task}") & (folds(whole) == half) for task in PRIMARY}
    changed(whole, Path(TRANSFER), flags, whole.fields)
    run_stage("train_teacher", ONE)


def changed(store: Store, path: Path, values: dict[str, np.ndarray], fields: dict) -> None:
    """A copy of a store with other values of some fields, or with fields more."""
    if path.exists():
        return
    identity = {"changed": store.digest, "into": path.stem}
    writer = StoreWriter(path, store.sample_id, store.view, fields, identity=identity, shard_rows=store.shard_rows)
    writer.write_rest(lambda rows: {n: values[n][rows] if n in values else written(store, n, rows) for n in fields})
    writer.publish()


def result_of(name: str) -> dict:
    if name == "one":
        run_stage("fuse", name)
    else:
        tell(name)
    return student_result(name)


def tell(name: str) -> None:
    """The store of an arm: inputs, labels, and of every row the logits of one teacher or the mean of both."""
    inputs, *halves = (open_store(Path(path)) for path in (TRANSFER, *(f"data/features/{half}.zarr" for half in HALVES)))
    ids = inputs.sample_id.view("V16").ravel()
    told = np.isin(ids, ids[np.any([inputs.read(f"labelled/{task}") for task in PRIMARY], axis=0)])
    own = folds(inputs)
    speaker = np.where(told, own, 1 - own) if name == "seen" else 1 - own
    values, fields = {}, dict(inputs.fields)
    for task in PRIMARY:
        said = [store.read(f"logits/{half}/{task}") for half, store in zip(HALVES, halves, strict=True)]
        both = np.stack(said)[speaker, np.arange(inputs.n_rows)]
        if name == "unseen_mean":
            both[~told] = np.mean([x[~told] for x in said], axis=0)
        values[f"logits/{ONE}/{task}"] = both
        fields[f"logits/{ONE}/{task}"] = halves[0].fields[f"logits/{HALVES[0]}/{task}"]
    changed(inputs, Path(f"data/knowledge/{name}.zarr"), values, fields)


def table() -> None:
    found = {name: by_seed(RESULTS, name) for name in ARMS}
    seeds = ", ".join(map(str, found["one"]))
    lines = ["# Out of fold", "", f"Data seeds {seeds}; {AMX}. Points on the clean test split,"]
    lines += ["mean +- sd over data seeds.", ""]
    lines += [f"| knowledge | {' | '.join(SHORT)} |", "|---" * (1 + len(SHORT)) + "|"]
    for name, results in found.items():
        cells = [spread(points(result, column) for result in results.values()) for column in SHORT]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "Paired by data seed: mean, 95 % t interval, every seed. The first was written down before the runs.", ""]
    lines += contrasts(found, [(*pair, SHORT) for pair in CONTRASTS], points)
    (ROOT / "bench" / "folds.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    commands(run, table, ARMS)()
