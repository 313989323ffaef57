"""Whether streaming by shuffled pools costs a student quality, on rows as they come and sorted by class.

    python bench/shuffle.py run SEED...    # resumes: one JSON per order and data seed in bench/shuffle/
    python bench/shuffle.py table          # bench/shuffle.md, from the JSONs

The student of bench/recipes.py learns from its store with memory for an eighth of it; the store's rows are in random
order, or sorted by the classification teacher's first choice. Against the same student with all rows in RAM (`kept`).
"""

import json
import os
import sys
from itertools import product
from pathlib import Path
from statistics import mean, stdev

import click
import numpy as np
import yaml
from scipy.stats import t as student_t

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.arms import MACHINE, read, run_stage  # noqa: E402
from bench.demo import PRIMARY  # noqa: E402
from bench.recipes import enter  # noqa: E402
from pipeline.project.lineage import sync  # noqa: E402
from pipeline.stores.store import Store, open_store  # noqa: E402
from pipeline.stores.writer import StoreWriter  # noqa: E402

OUT = ROOT / "bench" / "shuffle"
ORDERS = ["kept", "random", "sorted"]
LEARNT = ("inputs", "fused", "logits")


def by_class(store: Store) -> np.ndarray:
    return np.argsort(store.read("logits/classification/classification").argmax(1), kind="stable")


def written(store: Store, name: str, rows: np.ndarray | slice) -> np.ndarray | list[np.ndarray]:
    """Rows of a field as a writer takes them."""
    if not store.fields[name].max_items:
        return store.read(name, rows)
    items, lengths = store.read_ragged(name, rows)
    return np.split(items, np.cumsum(lengths)[:-1])


def reordered(store: Store, path: Path, orders: dict[str, np.ndarray]) -> None:
    """A copy of a store with rows of each kind of field, and "ids", in another order; kinds that are not named stay."""
    as_it_is = np.arange(store.n_rows)
    ids = (x[orders.get("ids", as_it_is)] for x in (store.sample_id, store.view))
    writer = StoreWriter(path, *ids, store.fields, identity={"reordered": store.digest}, shard_rows=store.shard_rows)

    def some(rows: slice) -> dict:
        return {name: written(store, name, orders.get(name.split("/")[0], as_it_is)[rows]) for name in store.fields}

    writer.write_rest(some)
    writer.publish()


@click.group()
def main() -> None: ...


@main.command()
@click.argument("seeds", type=int, nargs=-1, required=True)
def run(seeds: tuple[int, ...]) -> None:
    OUT.mkdir(exist_ok=True)
    for seed, rows in product(seeds, ORDERS):
        if (OUT / f"{rows}-{seed}.json").exists():
            continue
        enter(seed, "float16")
        for teacher in PRIMARY:
            run_stage("extract", teacher)
        run_stage("fuse", "pca")
        base = Path.cwd()
        folder = base.with_name(f"shuffle-{rows}-{seed}")
        (folder / "data").mkdir(parents=True, exist_ok=True)
        if not (folder / "data" / "splits").exists():
            (folder / "data" / "splits").symlink_to(base / "data" / "splits")
        os.chdir(folder)
        params = yaml.safe_load((base / "params.yaml").read_text())
        store = open_store(base / "data" / "knowledge" / "pca.zarr")
        row_bytes = sum(f.row_bytes for name, f in store.fields.items() if name.split("/")[0] in LEARNT)
        if rows != "kept":
            params["distill"]["memory_budget"] = store.n_rows * row_bytes // 8
        Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
        Path("dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
        sync()
        own = Path("data/knowledge/pca.zarr")
        if rows == "sorted" and not own.exists():
            kinds = {name.split("/")[0] for name in store.fields} | {"ids"}
            reordered(store, own, dict.fromkeys(kinds, by_class(store)))
        elif not own.exists():
            own.parent.mkdir(exist_ok=True)
            own.symlink_to(store.path)
        run_stage("distill", "fused")
        run_stage("evaluate", "fused")
        scores = [s["test"]["clean"] for s in read("data/scores/students/fused/scores.json")]
        points = {task: [100 * s[task][metric] for s in scores] for task, metric in PRIMARY.items()}
        (OUT / f"{rows}-{seed}.json").write_text(json.dumps({"points": points}, indent=1, sort_keys=True) + "\n")


@main.command()
def table() -> None:
    seeds = sorted(int(file.stem.partition("-")[2]) for file in OUT.glob("sorted-*.json"))
    lines = ["# Streaming", ""]
    lines += [f"{len(seeds)} data seeds ({', '.join(map(str, seeds))}), three student seeds each; {MACHINE}."]
    lines += ["Points minus those of the same student with all rows in RAM, paired by data seed: mean, 90 % t interval, every"]
    lines += ["seed. Equivalent: within +-1 point.", ""]
    lines += ["| rows | of | mean | interval | seeds | equivalent |", "|---" * 6 + "|"]
    for rows, task in product(ORDERS[1:], PRIMARY):
        pairs = [(read(OUT / f"{rows}-{s}.json"), read(OUT / f"kept-{s}.json")) for s in seeds]
        found = [mean(a["points"][task]) - mean(b["points"][task]) for a, b in pairs]
        half = student_t.ppf(0.95, len(found) - 1) * stdev(found) / len(found) ** 0.5
        verdict = "yes" if abs(mean(found)) + half < 1 else "no"
        lines.append(
            f"| {rows} | {task} | {mean(found):+.2f} | +-{half:.2f} | {', '.join(f'{x:+.2f}' for x in found)} | {verdict} |"
        )
    (ROOT / "bench" / "shuffle.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
