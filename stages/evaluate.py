"""evaluate@student: score one student on every test split, and on tasks that nobody trained it for."""

from pathlib import Path

import click
from safetensors.torch import save

from pipeline.atomic import write_json, write_whole
from pipeline.checkpoints import load_network
from pipeline.device import pick_device
from pipeline.evaluation.held_out import check_held_out
from pipeline.evaluation.scoring import predictions, score
from pipeline.evaluation.unseen import few_shot, unseen_examples
from pipeline.manners import one_line_errors, progress
from pipeline.project.lineage import open_project
from pipeline.seeds import derive_seed
from pipeline.stores.store import open_store, sha256
from pipeline.stores.trust import open_verified


@click.command()
@click.argument("name")
@click.option("--student", type=Path, required=True)
@click.option("--store", type=Path, required=True)
@click.option("--test", type=Path, required=True)
@click.option("--unseen", type=Path, required=True)
@click.option("--scores", type=Path, required=True)
@one_line_errors
def main(name: str, student: Path, store: Path, test: Path, unseen: Path, scores: Path) -> None:
    params = open_project()
    settings, device, shot_seed = params.evaluate, pick_device(params.device), derive_seed(params.seed, "shots")
    splits = {path.stem: open_verified(path) for path in sorted(test.glob("*.zarr"))}
    unseen_splits = [open_verified(unseen / f"{part}.zarr") for part in ("train", "test") if (unseen / f"{part}.zarr").exists()]
    if params.foreign(params.students[name].reads):
        for split in splits.values():
            check_held_out(open_store(store), split)
    tasks = params.build_tasks()
    folders = sorted(student.glob("seed-*"), key=lambda folder: int(folder.name.removeprefix("seed-")))
    results = []
    with progress(f"evaluate {name}", total=len(folders), unit="seeds") as advance:
        for folder in folders:
            files = sorted(folder.glob("*.safetensors"))
            loaded = [load_network(path, device) for path in files]
            networks = [network for network, _, _ in loaded]
            tested = {
                split: {task: metrics for network in networks for task, metrics in score(network, tasks, rows).items()}
                for split, rows in splits.items()
            }
            examples = unseen_examples(networks, tasks, *unseen_splits) if unseen_splits else {}
            shots = {
                label: {str(k): few_shot(*example, k, settings.draws, shot_seed) for k in settings.shots}
                for label, example in examples.items()
            }
            weights = {path.name: sha256(path) for path in files}
            results.append({"weights": weights, "test": tested, "unseen": shots})
            advance(1)
    strip = {k: x for net in networks for k, x in predictions(net, splits["clean"]).items()}  # of the last seed
    write_json(scores / "scores.json", results)
    write_whole(scores / "curve.json", (student / "curve.json").read_bytes())
    write_whole(scores / "predictions.safetensors", save(strip))


if __name__ == "__main__":
    main()
