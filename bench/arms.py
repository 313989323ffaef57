"""Arms over data seeds, for the benches of quality: projects, stages, one JSON an arm and seed, tables and curves of them.

A data seed is a project in bench/.work: some project's params with another seed, and every arm a student of it. Its stages
are run by the commands of dvc.yaml, in this one process, without DVC: thirty students would spend minutes in start-up.
"""

import json
import shlex
from collections.abc import Callable, Iterable
from importlib import import_module
from math import isnan
from os import chdir, environ
from pathlib import Path
from statistics import mean, stdev

import click
import torch
import yaml
from matplotlib import pyplot as plt
from scipy.stats import t as student_t

from pipeline.project.lineage import sync

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "bench" / ".work"
MACHINE = "2 cores of an Intel Xeon (AVX-512), torch 2.13.0 CPU, one thread a process"
AMX = MACHINE.replace("AVX-512", "AMX")
HEAD = ["| claim | of | mean | interval | seeds |", "|---|---|---|---|---|"]

environ["STILLROOM_DEBUG"] = "1"


def arm(reads: str, updates: int, weights: str, **more) -> dict:
    return {"reads": reads, "updates": updates, "weights": dict.fromkeys(weights.split(), 1), **more}


def enter(name: str, project: Path, seed: int, change: Callable[[dict], None]) -> Path:
    """Go to bench/.work/<name>-<seed>: the project's params, changed, with one student seed, since data seeds count.

    Arms name their losses: without, logits have their task's own.
    """
    torch.set_num_threads(1)  # one process a core is faster than one process on two
    folder = WORK / f"{name}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    chdir(folder)
    params = yaml.safe_load((project / "params.yaml").read_text())
    params |= {"seed": seed, "sweep": {}}
    params["distill"]["seeds"] = 1
    params["distill"].pop("logit_loss", None)
    change(params)
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    Path("dvc.yaml").write_bytes((project / "dvc.yaml").read_bytes())
    sync()
    return folder


def share(base: Path, *paths: str) -> None:
    """What the project at hand has in common with another, of its data."""
    for path in paths:
        own = Path("data") / path
        own.parent.mkdir(parents=True, exist_ok=True)
        if not own.exists():
            own.symlink_to(base / "data" / path)


def run_stage(name: str, key: str = "") -> None:
    """A stage's command from dvc.yaml, unless its outputs are there."""
    stage = yaml.safe_load(Path("dvc.yaml").read_text())["stages"][name]
    stage = stage.get("do", stage)
    reads = yaml.safe_load(Path("params.yaml").read_text())["students"].get(key, {}).get("reads", "")
    filled = {what: what.replace("${key}", key).replace("${item.reads}", reads) for what in [stage["cmd"], *stage["outs"]]}
    if not all(Path(filled[out]).exists() for out in stage["outs"]):
        print(f"{name} {key}", flush=True)
        import_module(f"stages.{name}").main(shlex.split(filled[stage["cmd"]])[3:], standalone_mode=False)


def run_teachers(results: Path, seed: int) -> None:
    """From prepare to the fusions; the teachers' scores in teachers-<seed>.json."""
    params = yaml.safe_load(Path("params.yaml").read_text())
    run_stage("prepare")
    for stage, keys in {"train_teacher": "teachers", "extract": "teachers", "fuse": "fusions"}.items():
        for key in params[keys]:
            run_stage(stage, key)
    record(results / f"teachers-{seed}.json", {t: read(f"data/scores/teachers/{t}/scores.json") for t in params["teachers"]})


def run_arms(results: Path, seed: int, names: Iterable[str], result_of: Callable[[str], dict]) -> None:
    """Those that have no JSON yet."""
    for name in names:
        file = results / f"{name}-{seed}.json"
        if not file.exists():
            record(file, result_of(name))


def student_result(name: str) -> dict:
    """Train and score a student: its scores, and its cost."""
    for stage in ("distill", "evaluate"):
        run_stage(stage, name)
    (scores,) = read(f"data/scores/students/{name}/scores.json")
    return {**scores, "cost": read(f"data/costs/distill/{name}.json")}


def read(path: Path | str):
    return json.loads(Path(path).read_text())


def record(path: Path, result: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


def by_seed(results: Path, name: str) -> dict[int, dict]:
    return dict(sorted((int(file.stem.rpartition("-")[2]), read(file)) for file in results.glob(f"{name}-*.json")))


def commands(run: Callable[..., None], table: Callable[[], None], arms: Iterable[str] = ()) -> click.Group:
    """`run SEED...`, which calls run(seed), or run(seed, names) with `--arm NAME`, and `table`."""
    group = click.Group()

    @group.command("run")
    @click.argument("seeds", type=int, nargs=-1, required=True)
    def run_all(seeds: tuple[int, ...], **chosen: tuple[str, ...]) -> None:
        for seed in seeds:
            run(seed, **chosen)

    if arms:
        run_all.params.append(click.Option(["--arm", "arms"], type=click.Choice(list(arms)), multiple=True, help="Only these."))
    group.command("table")(table)
    return group


def spread(values: Iterable[float]) -> str:
    """Mean +- sd, "-" where a value is missing."""
    values = list(values)
    if any(map(isnan, values)):
        return "-"
    return f"{mean(values):.1f} +- {stdev(values):.1f}" if len(values) > 1 else f"{values[0]:.1f}"


def difference(values: list[float]) -> str:
    """Cells of a paired difference: mean, half of its 95 % t interval, every value."""
    half = student_t.ppf(0.975, len(values) - 1) * stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{mean(values):+.1f} | +-{half:.1f} | {', '.join(f'{v:+.1f}' for v in values)}"


def contrasts(
    found: dict[str, dict[int, dict]], wanted: list[tuple[str, str, list[str]]], points: Callable[[dict, str], float]
) -> list[str]:
    """A table of (one arm, minus another, of these columns), on the seeds at which both have a value."""
    lines = HEAD.copy()
    for one, other, columns in wanted:
        seeds = sorted(found[one].keys() & found[other].keys())
        for column in columns:
            gaps = [points(found[one][s], column) - points(found[other][s], column) for s in seeds]
            lines.append(f"| {one} - {other} | {column} | {difference([gap for gap in gaps if not isnan(gap)])} |")
    return lines


def curves(path: Path, panels: dict[str, dict[str, dict[int, list[float]]]], teachers: dict[str, float]) -> None:
    """{panel: {line: {updates: a value a seed}}}, mean and sd, cut at 100, against updates; dashed: the teachers of a panel."""
    columns = 3 if len(panels) > 4 else len(panels)
    figure, axes = plt.subplots(-(-len(panels) // columns), columns, squeeze=False, layout="constrained")
    figure.set_size_inches(3.1 * columns, 2.8 * len(axes))
    keys = {}
    for axis, (title, lines) in zip(axes.flat, panels.items(), strict=False):
        for name, values in lines.items():
            y = [mean(seeds) for seeds in values.values()]
            error = [stdev(seeds) if len(seeds) > 1 else 0 for seeds in values.values()]
            errors = [error, [min(e, 100 - m) for e, m in zip(error, y, strict=True)]]
            keys[name] = axis.errorbar(list(values), y, errors, marker="o", markersize=3, linewidth=1.2, capsize=2)
        if title in teachers:
            keys["teachers"] = axis.axhline(teachers[title], color="grey", linestyle="--", linewidth=0.8)
        ticks = sorted({updates for values in lines.values() for updates in values})
        axis.set(title=title, xscale="log", xlabel="updates")
        axis.set_xticks(ticks, [f"{n:,}" for n in ticks], fontsize=8)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    for axis in axes[:, 0]:
        axis.set_ylabel("points, mean +- sd over data seeds", fontsize=8)
    figure.legend(keys.values(), keys.keys(), loc="outside upper center", ncols=len(keys), fontsize=8)
    figure.savefig(path, dpi=130)
    plt.close(figure)
