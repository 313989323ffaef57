"""What a student answers about single inputs that a person names."""

from collections.abc import Iterator
from pathlib import Path

import torch
from matplotlib import pyplot as plt

from pipeline.batches import tensors
from pipeline.checkpoints import load_network
from pipeline.dependencies import source_identity
from pipeline.params import Params
from pipeline.pictures import of_row, save
from pipeline.sources.source import Source
from pipeline.store import Store, open_store


@torch.no_grad()
def predict(params: Params, student: Path, given: str, out: Path) -> Iterator[str]:
    """A line for each input; those that have a name are drawn to <out>/<name>.png. student: data/students/<name>/seed-<n>."""
    cpu, source = torch.device("cpu"), params.source()
    if source.recalls:
        check_unchanged(params, open_store(student.parents[2] / "splits" / "val.zarr"))
    loaded = [load_network(path, cpu) for path in sorted(student.glob("*.safetensors"))]
    if not loaded:
        raise ValueError(f"{student}: no student there; train it with `dvc repro distill@{student.parent.name}`")
    for name, inputs in source.read(given).items():
        batch = tensors({key: x[None] for key, x in inputs.items() if x.dtype.kind != "U"}, cpu)
        said = {task: tasks[task].answers(x) for net, tasks, _ in loaded for task, x in net(batch).logits.items()}
        answer = of_row(said, 0)
        drawn = f"{out / name}.png: " if name else ""
        if name:
            draw(source, inputs, answer, out / f"{name}.png")
        yield drawn + source.words(inputs, answer)


def check_unchanged(params: Params, split: Store) -> None:
    """A student knows users and items by their places in a log; in another log they are others. Raises ValueError."""
    if source_identity(params) | {"split": split.identity["split"]} != split.identity:
        raise ValueError(f"{split.path}: prepared from other data, or params, than are here now; run `dvc repro`")


def draw(source: Source, inputs: dict, answer: dict, path: Path) -> None:
    width, height = source.cell
    figure, axis = plt.subplots(figsize=(2 * width, 2 * height))
    axis.set(xticks=[], yticks=[])
    source.draw(axis, inputs, answer)
    save(figure, path)
