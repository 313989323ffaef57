"""sweep: train many students, each batch read once for all of them, and rank them on one leaderboard."""

import json
import shutil
from pathlib import Path

import click

from pipeline.atomic import write_json
from pipeline.cost import measured
from pipeline.evaluation.held_out import check_held_out
from pipeline.manners import one_line_errors, progress
from pipeline.project.class_spec import ParamsError
from pipeline.project.dependencies import common_code_digest
from pipeline.project.lineage import open_project
from pipeline.reports.summary import CLEAN, mean_primaries
from pipeline.stores.trust import open_verified
from pipeline.sweeps.leaderboard import best, lines, show, write_csv
from pipeline.sweeps.picture import draw
from pipeline.sweeps.sweeping import Trials, run, total_updates
from pipeline.training.distilling import check_foreign


@click.command()
@click.option("--knowledge", type=Path, required=True)
@click.option("--val", type=Path, required=True)
@click.option("--test", type=Path, required=True)
@click.option("--scores", type=Path, required=True)
@click.option("--out", type=Path, required=True)
@click.option("--cost", type=Path, required=True)
@one_line_errors
def main(knowledge: Path, val: Path, test: Path, scores: Path, out: Path, cost: Path) -> None:
    params = open_project()
    if not params.sweep:
        raise ParamsError("params.yaml: sweep: empty; say which student to start from and what varies, or drop the stage")
    stores = {name: open_verified(knowledge / f"{name}.zarr") for name in sorted(params.swept_reads())}
    splits = open_verified(val), open_verified(test / f"{CLEAN}.zarr")
    for store in [store for name, store in stores.items() if params.foreign(name)]:
        check_foreign(store, splits[0], list(params.tasks))
        check_held_out(store, splits[1])
    tasks = params.build_tasks()
    start = params.student(params.sweep.start)
    seeds = json.loads((scores / params.report.baseline / "scores.json").read_text())
    scratch = out / ".scratch" / common_code_digest(params)[:16]
    with measured(cost) as ledger, progress("sweep", total=total_updates(params.sweep, start), unit="updates") as advance:
        records = run(Trials(params, stores, *splits, scratch, advance))
        ledger |= {"students": len(records), "training_seconds": sum(record["seconds"] for record in records)}  # over all runs
    ranking = lines(records, tasks, mean_primaries(tasks, seeds))
    for entry in ranking:
        (out / "students").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(scratch / entry["name"] / "student.safetensors", out / "students" / f"{entry['name']}.safetensors")
    write_csv(out / "leaderboard.csv", ranking)
    write_json(out / "best.json", best(ranking))
    write_json(out / "leaderboard.json", ranking)
    draw(ranking, out / "front.png")
    show(ranking, list(params.sweep.vary))
    if params.sweep.sampler != "grid" and len(ranking) < (params.sweep.students or 0):
        click.echo(
            f"sweep: {params.sweep.students} students asked for, {len(ranking)} distinct: the search repeated some", err=True
        )
    for stale in set(scratch.parent.iterdir()) - {scratch}:
        shutil.rmtree(stale)


if __name__ == "__main__":
    main()
