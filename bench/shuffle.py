"""Whether streaming by shuffled pools costs a student quality, on rows sorted by class.

    python bench/shuffle.py run SEED...    # after `bench/recipes.py run SEED...`; resumes: one JSON a data seed
    python bench/shuffle.py table          # bench/shuffle.md, from the JSONs and those of bench/recipes.py

The student `fused` of the root's params learns from its store sorted by the classification teacher's first choice, with memory
for an eighth of it, in pools of random chunks of 64 rows; against the same student with all rows, unsorted, in RAM.
"""

import json
import os
import sys
from pathlib import Path
from statistics import mean, stdev

import click
import numpy as np
import torch
import yaml
from scipy.stats import t as student_t

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.demo import PRIMARY, read, run_stage  # noqa: E402
from bench.recipes import MACHINE, RESULTS, enter  # noqa: E402
from pipeline.lineage import sync  # noqa: E402
from pipeline.store import Store, open_store  # noqa: E402
from pipeline.writer import create_store  # noqa: E402

OUT = ROOT / "bench" / "shuffle"
LEARNT = ("inputs", "fused", "logits")


def sorted_copy(store: Store, path: Path) -> None:
    order = np.argsort(store.read("logits/classification/classification").argmax(1), kind="stable")
    fields = {name: type(f)(f.shape, f.dtype, f.codec, 64, f.max_items) for name, f in store.fields.items()}
    ids = store.sample_id[order], store.view[order]
    writer = create_store(path, *ids, fields, identity={"sorted": store.digest}, shard_rows=store.shard_rows)

    def some(rows: slice) -> dict:
        wanted = order[rows]
        arrays = {name: store.read(name, wanted) for name, f in fields.items() if not f.max_items}
        for name in fields.keys() - arrays.keys():
            items, lengths = store.read_ragged(name, wanted)
            arrays[name] = np.split(items, np.cumsum(lengths)[:-1])
        return arrays

    writer.write_rest(some)
    writer.publish()


@click.group()
def main() -> None: ...


@main.command()
@click.argument("seeds", type=int, nargs=-1, required=True)
def run(seeds: tuple[int, ...]) -> None:
    torch.set_num_threads(1)
    OUT.mkdir(exist_ok=True)
    for seed in seeds:
        if (OUT / f"{seed}.json").exists():
            continue
        enter(seed, "float16")
        base = Path.cwd()
        folder = base.with_name(f"shuffle-{seed}")
        (folder / "data").mkdir(parents=True, exist_ok=True)
        if not (folder / "data" / "splits").exists():
            (folder / "data" / "splits").symlink_to(base / "data" / "splits")
        os.chdir(folder)
        params = yaml.safe_load((base / "params.yaml").read_text())
        store = open_store(base / "data" / "knowledge" / "pca.zarr")
        row_bytes = sum(f.row_bytes for name, f in store.fields.items() if name.split("/")[0] in LEARNT)
        params["distill"]["memory_budget"] = store.n_rows * row_bytes // 8
        Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
        Path("dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
        sync()
        if not Path("data/knowledge/pca.zarr").exists():
            sorted_copy(store, Path("data/knowledge/pca.zarr"))
        run_stage("distill", "fused")
        run_stage("evaluate", "fused")
        scores = [s["test"]["clean"] for s in read("data/scores/students/fused/scores.json")]
        points = {task: [100 * s[task][metric] for s in scores] for task, metric in PRIMARY.items()}
        (OUT / f"{seed}.json").write_text(json.dumps({"points": points}, indent=1, sort_keys=True) + "\n")


@main.command()
def table() -> None:
    seeds = sorted(int(file.stem) for file in OUT.glob("*.json"))
    lines = ["# Streaming rows that are sorted by class", ""]
    lines += [f"{len(seeds)} data seeds ({', '.join(map(str, seeds))}), three student seeds each; {MACHINE}."]
    lines += ["Points minus those of the same student with all rows in RAM, paired by data seed: mean, 90 % t interval, every"]
    lines += ["seed. Equivalent: within +-1 point.", ""]
    lines += ["| of | mean | interval | seeds | equivalent |", "|---" * 5 + "|"]
    for task in PRIMARY:
        pairs = [(read(OUT / f"{s}.json"), read(RESULTS / f"float16-{s}.json")) for s in seeds]
        found = [mean(a["points"][task]) - mean(b["points"][task]) for a, b in pairs]
        half = student_t.ppf(0.95, len(found) - 1) * stdev(found) / len(found) ** 0.5
        verdict = "yes" if abs(mean(found)) + half < 1 else "no"
        lines.append(f"| {task} | {mean(found):+.2f} | +-{half:.2f} | {', '.join(f'{x:+.2f}' for x in found)} | {verdict} |")
    (ROOT / "bench" / "shuffle.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
