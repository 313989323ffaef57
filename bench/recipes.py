"""What narrow storage costs a student: every recipe against float32, over data seeds.

    python bench/recipes.py run SEED...    # resumes: one JSON per recipe and data seed in bench/recipes/
    python bench/recipes.py table          # bench/recipes.md and recipes.png, from the JSONs

A recipe is the dtype of the teachers' features and logits and of the fused target, all three, and in how many principal
components features are kept. Teachers are those of
bench/demo.py; the student has 600 updates on features, logits and labels (three student seeds, whose mean is one value). Codecs
lose nothing, so they are compared by size alone.
"""

import json
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import mean, stdev

import click
import matplotlib
import torch
from scipy.stats import t as student_t

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.arms import arm, read, run_stage  # noqa: E402
from bench.demo import PCA, PRIMARY, enter_beside  # noqa: E402
from pipeline.stores.encoding import stored_arrays  # noqa: E402
from pipeline.stores.layout import arrays_of  # noqa: E402
from pipeline.stores.shard import encode_shard  # noqa: E402
from pipeline.stores.store import Store, open_store  # noqa: E402

RESULTS = ROOT / "bench" / "recipes"
RECIPES: dict[str, dict] = {  # of features; logits and fused targets have no dims
    **{dtype: {"dtype": dtype} for dtype in ("float32", "float16", "bfloat16", "qint8")},
    **{f"qint8_{dims}d": {"dtype": "qint8", "dims": dims} for dims in (48, 32)},
}
OTHERS = list(RECIPES)[1:]
CODECS = ["raw", "lz4", "zstd"]
TEACHERS = list(PRIMARY)
MACHINE = "2 cores of an AMD EPYC (Zen 4), torch 2.13.0 CPU"


def enter(seed: int, name: str) -> None:
    def change(params: dict) -> None:
        recipe = {"dtype": RECIPES[name]["dtype"], "codec": "raw"}
        params |= {"fusions": {"pca": PCA}, "students": {"fused": arm("pca", 600, "fused logits labels")}}
        params["distill"]["seeds"] = 3
        params["extract"] |= {"features": {**recipe, **RECIPES[name]}, "logits": recipe}
        params["fuse"]["fused"] = recipe
        params["report"] |= {"baseline": "fused", "strip": ["fused"]}

    enter_beside(seed, f"recipe-{name}", change)


def stores() -> dict[str, Store]:
    paths = [f"data/features/{teacher}.zarr" for teacher in TEACHERS] + ["data/knowledge/pca.zarr"]
    return {path: open_store(Path(path)) for path in paths}


def of_knowledge(store: Store) -> list[str]:
    return [name for name in store.fields if name.split("/")[0] in ("features", "logits", "fused")]


def fidelity(exact: Path) -> dict[str, dict[str, float]]:
    """Each field against the same project's in float32, on its first 2,048 rows."""
    rows, found = slice(0, 2048), {}
    for path, store in stores().items():
        other = open_store(exact / path)
        for name in of_knowledge(store):
            x, y = (
                torch.from_numpy(s.read(name, rows)).double().flatten(2 if s.read(name, slice(0, 1)).ndim > 2 else 1)
                for s in (store, other)
            )
            if name.startswith("logits/"):
                log_p, log_q = y.log_softmax(1), x.log_softmax(1)
                kl = (log_p.exp() * (log_p - log_q)).sum(1).mean().item()
                found[name] = {"kl": kl, "top1": (x.argmax(1) == y.argmax(1)).double().mean().item()}
            else:
                found[name] = {"cosine": torch.cosine_similarity(x, y, 1).mean().item()}
    return found


def with_codecs() -> dict[str, dict[str, float]]:
    """Bytes a row of dump and knowledge by codec, from the first four shards of this project's stores."""
    found = {}
    for codec in CODECS:
        total = {"dump": 0.0, "knowledge": 0.0}
        for path, store in stores().items():
            for name in of_knowledge(store):
                f = store.fields[name]
                field, basis = replace(f, codec=codec), store.beside(name, "basis", 0) if f.dims else None
                n, size = store.shard_rows, 0
                for shard in range(4):
                    rows = slice(shard * n, (shard + 1) * n)
                    parts = stored_arrays(Path(path), name, store.read(name, rows), field, rows, basis)
                    layouts = arrays_of(name, field, n)
                    size += sum(sum(map(len, encode_shard(parts[a], layout))) for a, layout in layouts.items())
                total["knowledge" if "knowledge" in path else "dump"] += size / (4 * n)
        found[codec] = total
    return found


@click.group()
def main() -> None: ...


@main.command()
@click.argument("seeds", type=int, nargs=-1, required=True)
def run(seeds: tuple[int, ...]) -> None:
    RESULTS.mkdir(exist_ok=True)
    for seed, name in product(seeds, RECIPES):
        file = RESULTS / f"{name}-{seed}.json"
        if file.exists():
            continue
        enter(seed, name)
        for teacher in TEACHERS:
            run_stage("extract", teacher)
        run_stage("fuse", "pca")
        run_stage("distill", "fused")
        run_stage("evaluate", "fused")
        scores = [s["test"]["clean"] for s in read("data/scores/students/fused/scores.json")]
        points = {task: [100 * s[task][metric] for s in scores] for task, metric in PRIMARY.items()}
        exact = Path.cwd().with_name(f"recipe-float32-{seed}")
        result = {"points": points, "fidelity": fidelity(exact), "codecs": with_codecs()}
        file.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


def paired(results: dict, name: str, task: str) -> tuple[float, float, list[float]]:
    """Mean and half width of the 90 % paired t interval of a recipe minus float32, in points; and every seed's."""
    found = [mean(results[name, s]["points"][task]) - mean(results["float32", s]["points"][task]) for s in seeds_of(results)]
    half = student_t.ppf(0.95, len(found) - 1) * stdev(found) / len(found) ** 0.5
    return mean(found), half, found


def seeds_of(results: dict) -> list[int]:
    return sorted(set.intersection(*({seed for other, seed in results if other == name} for name in RECIPES)))


@main.command()
def table() -> None:
    results = {}
    for file in RESULTS.glob("*.json"):
        name, _, seed = file.stem.rpartition("-")
        results[name, int(seed)] = json.loads(file.read_text())
    seeds = seeds_of(results)
    first = seeds[0]
    whole = results["float32", first]["codecs"]["raw"]
    lines = [
        "# Recipes",
        "",
        f"{len(seeds)} data seeds ({', '.join(map(str, seeds))}), three student seeds each; {MACHINE}.",
        "",
    ]
    lines += ["## Bytes", "", "A row, of all teachers' dumps and of a student's knowledge (share of float32, raw); data seed "]
    lines[-1] += f"{first}, four shards."
    lines += ["_48d and _32d: features in so many of their 96 principal components, logits and fused targets whole."]
    lines += ["", "| recipe | codec | dump | knowledge |", "|---|---|---|---|"]
    for name, codec in product(RECIPES, CODECS):
        found = results[name, first]["codecs"][codec]
        cells = [f"{found[k]:.0f} ({found[k] / whole[k]:.3f})" for k in ("dump", "knowledge")]
        lines.append(f"| {name} | {codec} | {' | '.join(cells)} |")
    lines += [
        "",
        "## Fidelity",
        "",
        "Against float32, worst data seed: cosine over channels, KL and top-1 agreement over classes.",
        "",
    ]
    fields = list(results["qint8", first]["fidelity"])
    lines += ["| field | " + " | ".join(OTHERS) + " |", "|---" * len(RECIPES) + "|"]
    for field in fields:
        cells = []
        for name in OTHERS:
            found = [results[name, s]["fidelity"][field] for s in seeds]
            if "cosine" in found[0]:
                cells.append(f"cosine {min(f['cosine'] for f in found):.6f}")
            else:
                cells.append(f"KL {max(f['kl'] for f in found):.1e}, top-1 {min(f['top1'] for f in found):.4f}")
        lines.append(f"| {field} | {' | '.join(cells)} |")
    lines += [
        "",
        "## Students",
        "",
        "Points minus float32's, paired by data seed: mean, 90 % t interval, every seed. Equivalent: the",
    ]
    lines += ["interval lies within +-1 point.", "", "| recipe | of | mean | interval | seeds | equivalent |", "|---" * 6 + "|"]
    for name, task in product(OTHERS, PRIMARY):
        middle, half, found = paired(results, name, task)
        verdict = "yes" if abs(middle) + half < 1 else "no"
        lines.append(
            f"| {name} | {task} | {middle:+.2f} | +-{half:.2f} | {', '.join(f'{x:+.2f}' for x in found)} | {verdict} |"
        )
    (ROOT / "bench" / "recipes.md").write_text("\n".join(lines) + "\n")
    plot(results, first)


def plot(results: dict, first: int) -> None:
    """Bytes of the dump a row against the student's points."""
    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), sharey=True, layout="constrained")
    for axis, task in zip(axes, PRIMARY, strict=True):
        axis.axhspan(-1, 1, color="0.92")
        axis.axhline(0, color="0.6", lw=1)
        for name in OTHERS:
            middle, half, _ = paired(results, name, task)
            size = [results[name, first]["codecs"][codec]["dump"] for codec in ("raw", "zstd")]
            axis.errorbar(size[0], middle, half, fmt="o", capsize=4, label=f"{name}, raw; left: zstd")
            axis.plot(size, [middle, middle], "|-", color=axis.lines[-1].get_color(), lw=1)
        axis.set(title=task, xlabel="bytes of the dump a row", xlim=(0, None))
    axes[0].set_ylabel("points minus float32's, 90 % interval")
    axes[0].legend(fontsize=8)
    figure.savefig(ROOT / "bench" / "recipes.png", dpi=110)


if __name__ == "__main__":
    main()
