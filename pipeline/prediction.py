"""What a student answers about single inputs that a person names."""

from collections.abc import Iterator
from pathlib import Path

import torch
from matplotlib import pyplot as plt

from pipeline.batches import tensors
from pipeline.checkpoints import load_network
from pipeline.pictures import of_row, save
from pipeline.sources.source import Source


@torch.no_grad()
def predict(source: Source, student: Path, given: str, out: Path) -> Iterator[str]:
    """A line for each input; those that have a name are drawn to <out>/<name>.png. student: a folder of networks."""
    cpu = torch.device("cpu")
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


def draw(source: Source, inputs: dict, answer: dict, path: Path) -> None:
    width, height = source.cell
    figure, axis = plt.subplots(figsize=(2 * width, 2 * height))
    axis.set(xticks=[], yticks=[])
    source.draw(axis, inputs, answer)
    save(figure, path)
