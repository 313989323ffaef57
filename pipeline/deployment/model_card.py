"""What a user of an exported student should know, in Markdown."""

import inspect
import json
from pathlib import Path
from typing import NamedTuple

import torch

from pipeline.checkpoints import load_network
from pipeline.sources.source import Source
from pipeline.stores.store import Store, sha256
from pipeline.tasks.segmentation import Segmentation
from pipeline.tasks.task import Task

SAID = "A student distilled with Stillroom."  # in a model card: an export is known by it
BESIDE = "- `{}` lies beside: it makes these inputs"


class Exported(NamedTuple):
    """takes: {input: shape and type}. furthest: the largest difference of a logit from torch's, over the largest of its head.
    latency_ms: of one row, one thread. on_val: {task: primary metric on val, of torch and of this file}, if in 8 bits."""

    file: Path
    takes: dict[str, str]
    furthest: float
    latency_ms: float
    on_val: dict[str, tuple[float, float]] = {}


def card(
    student: str,
    files: list[Path],
    exported: list[Exported],
    tested: dict[str, dict[str, float]],
    classes: dict[str, list[str]],
    source: Source,
    beside: list[str],
) -> str:
    """What a user should know, in Markdown. tested: {task: {metric: value}} on the clean test split; may be empty. beside:
    names of files that the source gave."""
    takes = {model.file.stem: model.takes for model in exported}
    seed = files[0].parent.name
    lines = [f"# {student}", "", SAID, "", f"Weights and scores are those of {seed} alone; a report has the mean over seeds."]
    for file in files:
        network, tasks, header = load_network(file, torch.device("cpu"))
        lines += ["", f"## {file.stem}", "", f"- {sum(p.numel() for p in network.parameters()):,} parameters"]
        lines += [f"- learned from the store of digest `{header['learned_from']}`"]
        lines += [f"- began as the student in a file of digest `{header['began_as']}`"] if "began_as" in header else []
        lines += [f"- encoder `{json.dumps(header['encoder'])}`"]
        lines += [f"- input `{name}`: {shape}" for name, shape in takes[file.stem].items()]
        lines += [f"- {words}" for words in [source.inputs_in_words()] if words]
        lines += [BESIDE.format(name) for name in beside]
        for name in tasks:
            class_names = f"; classes in order: {', '.join(channels(tasks[name], classes[name]))}" if name in classes else ""
            lines += [f"- output `{name}`: logits of `{json.dumps(header['tasks'][name])}`{class_names}"]
            lines += ["", *(f"  > {line}".rstrip() for line in (inspect.getdoc(type(tasks[name])) or "").splitlines()), ""]
    lines += ["", "| file | furthest from torch, of a head's largest logit | ms a row, one thread |", "|---|---|---|"]
    lines += [f"| {model.file.name} | {model.furthest:.1e} | {model.latency_ms:.2f} |" for model in exported]
    in_8_bits = [model for model in exported if model.on_val]
    lines += ["", "| file | task | on val | of torch |", "|---|---|---|---|"] if in_8_bits else []
    pairs = [(model.file.name, task, *pair) for model in in_8_bits for task, pair in model.on_val.items()]
    lines += [f"| {name} | {task} | {of_file:.4f} | {of_torch:.4f} |" for name, task, of_torch, of_file in pairs]
    lines += ["", "| task | metric | on the clean test split |", "|---|---|---|"] if tested else []
    lines += [f"| {task} | {metric} | {value:.4f} |" for task, metrics in tested.items() for metric, value in metrics.items()]
    return "\n".join(lines) + "\n"


def names_file(card_text: str, name: str) -> bool:
    """Whether a card covers this file: weights have a heading in it, and what is exported of them a line."""
    weights = f"\n## {name.removesuffix('.safetensors')}\n" in card_text and name.endswith(".safetensors")
    return weights or f"\n| {name} | " in card_text or BESIDE.format(name) in card_text


def channels(task: Task, names: list[str]) -> list[str]:
    """Names of a prediction's channels: sources name classes, and background is not one."""
    lacks_background = isinstance(task, Segmentation) and "background" not in names
    return ["background", *names] if lacks_background else names


def classes_of(split: Store) -> dict[str, list[str]]:
    """{task: names of its classes}, where its source knows any."""
    labels = {name.removeprefix("labels/"): field for name, field in split.fields.items() if name.startswith("labels/")}
    return {task: field.attributes["classes"] for task, field in labels.items() if "classes" in field.attributes}


def tested_as(path: Path, seed: int, files: list[Path]) -> dict[str, dict[str, float]]:
    """{task: {metric: value}} on the clean split, empty if nothing was evaluated. Raises ValueError if others were."""
    if not path.exists():
        return {}
    seeds, weights = json.loads(path.read_text("utf-8")), {file.name: sha256(file) for file in files}
    if seed >= len(seeds) or seeds[seed].get("weights") != weights:
        folder, stage = files[0].parent, f"evaluate@{path.parent.name}"
        raise ValueError(f"{path}: scores of other weights than those in {folder}; run `dvc repro {stage}`")
    return seeds[seed]["test"]["clean"]
