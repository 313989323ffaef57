"""A student's answers about single inputs that a person names."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from matplotlib import pyplot as plt

from pipeline.batches.batches import tensors
from pipeline.checkpoints import load_network, weights_of
from pipeline.project.dependencies import source_identity
from pipeline.project.params import Params
from pipeline.reports.pictures import of_row, save
from pipeline.sources.source import Source
from pipeline.stores.store import open_store


@torch.no_grad()
def predict(params: Params, data: Path, student: str, seed: int, given: str, out: Path) -> Iterator[str]:
    """A line for each input; those that have a name are drawn to <out>/<name>.png. data: where students and splits are."""
    cpu, source = torch.device("cpu"), params.source()
    loaded = [load_network(path, cpu) for path in weights_of(params, data / "students", student, seed)]
    check_unchanged(params, source, data / "splits" / "val.zarr")
    for name, inputs in source.read(given):
        input_names = {key for _, _, header in loaded for key in header["inputs"]}
        batch = tensors({key: inputs[key][None] for key in input_names & inputs.keys()}, cpu)
        answers = {task: tasks[task].answers(logits) for net, tasks, _ in loaded for task, logits in net(batch).logits.items()}
        answer = of_row({task: answers[task] for task in params.tasks if task in answers}, 0)
        picture = f"{out / name}.png: " if name else ""
        if name:
            draw(source, inputs, answer, out / f"{name}.png")
        yield picture + source.words(inputs, answer)


def check_unchanged(params: Params, source: Source, split: Path) -> None:
    """Raises ValueError if inputs would be read differently now from when the student learned.

    Classes and frames depend on the source's arguments alone. A source that `recalls` also numbers words or users by the data
    themselves: other data number them differently.
    """
    if not split.exists() and not source.recalls:
        return  # a student that was pulled without splits
    keys, old_identity = ("source", "seed", "data") if source.recalls else ("source",), open_store(split).identity
    # a source that recalls nothing: no need to read the data
    new_identity = source_identity(params) if source.recalls else {"source": params.prepare.source.as_dict()}
    new_identity = json.loads(json.dumps(new_identity))
    if any(new_identity.get(key) != old_identity.get(key) for key in keys):
        raise ValueError(f"{split}: prepared from other data or params than those here now; run `dvc repro`")


def draw(source: Source, inputs: dict, answer: dict, path: Path) -> None:
    width, height = source.cell
    figure, axis = plt.subplots(figsize=(3 * width, 3 * height))
    axis.set(xticks=[], yticks=[])
    source.draw(axis, inputs, answer)
    save(figure, path)
