"""First params of a project for your own images: tasks from the labels that a folder has."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.init.draft import Draft, built, commented, first_params, set_sizes, students
from pipeline.init.images.labels import propose
from pipeline.init.images.proposal import Proposal
from pipeline.project.commented import flow
from pipeline.sources.vision.gathering import read_labels
from pipeline.sources.vision.images import ENDINGS

FRAMES = (32, 48, 64)  # pixels per side: larger ones show more and cost more
PASSES = 30  # of a teacher over its labelled rows
TRUNK = {"code": "pipeline/encoders/image.py", "class": "ImageEncoder"}
COMMENTS = {
    "labels": "of each task: a part, or a list of parts; `split: train`, val or test keeps a part in that split",
    "size": "height and width of the frame that every image is fitted into: multiples of 4",
    "how": "pad: the whole image; crop: its middle; stretch",
    "views": "rows per image: itself, then augmentations of it",
    "val": "share of the images without a split of their own",
    "near": "how far apart images are that count as the same, 0 to 2; those are never in two splits",
    "flip": "whether a mirrored image is as good: not of text, or of signs",
    "skip_bad": "true: go on without labels and images that cannot be used, and list them",
}


def draft(data: Path, files: list[Path]) -> Draft:
    """Networks and rates as in the demo. files: those of the folder `data`. Raises ValueError."""
    proposal = propose(data, files)
    check_places(proposal)
    params, source = first_params(), source_of(proposal)
    image_source = built(source)
    found_by_task, bad = read_labels(image_source.parts | image_source.unseen)
    params["prepare"]["source"] = commented(source, COMMENTS)
    params["tasks"] = {task: flow(task_of(parts)) for task, parts in proposal.labels.items()}
    params["teachers"] = {
        task: {"tasks": flow([task]), "encoder": flow({**TRUNK, "width": 96, "blocks": 2, "channels": 3})}
        for task in proposal.labels
    }
    params["distill"]["encoder"] = flow({**TRUNK, "width": 32, "blocks": 2, "channels": 3})
    label_counts = {task: [len(found.labels) for found in found_by_task[task]] for task in proposal.labels}
    rows = {task: learned_from(source, proposal.labels[task], counts) for task, counts in label_counts.items()}
    params["students"] = students(set_sizes(params, rows, PASSES), logits=3)
    if proposal.unseen:
        held_out = source["val"] * sum(len(found.labels) for name in proposal.unseen for found in found_by_task[name])
        params["evaluate"]["shots"] = flow([n for n in (5, 20, 50) if n <= held_out / 2] or [2])
    return Draft(params, proposal.said, bad)


def check_places(proposal: Proposal) -> None:
    """Raises ValueError if a folder of images would also hold the stores, which would then depend on themselves."""
    here = Path.cwd()
    parts = [part for parts in (proposal.labels | proposal.unseen).values() for part in parts]
    folder_names = [
        part[key] for part in parts for key in ("folder", "voc", "masks", "images") if key in part
    ] + proposal.unlabelled
    folders = [Path(folder).resolve() for folder in folder_names]
    enclosing = [folder for folder in folders if here.is_relative_to(folder) or folder == here / "data"]
    if enclosing:
        raise ValueError(
            f"{enclosing[0]}: images are where a project's stores would be; make the project in a folder that is not in this "
            f"one, with --data {enclosing[0]}"
        )


def source_of(proposal: Proposal) -> dict[str, Any]:
    labels = {task: settled(parts) for task, parts in proposal.labels.items()}
    declared = [{part.get("split") for part in parts} for parts in labels.values()]
    source: dict[str, Any] = {"code": "pipeline/sources/vision/files.py", "class": "Files"}
    source["labels"] = {task: parts[0] if len(parts) == 1 else parts for task, parts in labels.items()}
    source |= {"unseen": {name: parts[0] for name, parts in proposal.unseen.items()}} if proposal.unseen else {}
    source |= {"unlabelled": proposal.unlabelled} if proposal.unlabelled else {}
    side = frame(next(iter(proposal.labels.values()))[0])
    source |= {"size": [side, side], "how": "pad", "views": 2}
    source |= {
        name: 0.0 if all(name in splits for splits in declared) else share for name, share in (("val", 0.1), ("test", 0.2))
    }
    return source | {"near": 0.2, "flip": True, "skip_bad": False}


def settled(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Splits by names of files, as far as they can be kept: without a test, val becomes it; without both, all are drawn."""
    splits = {part.get("split") for part in parts}
    if "val" in splits and "test" not in splits:
        parts = [part | ({"split": "test"} if part.get("split") == "val" else {}) for part in parts]
    if len({part.get("split") for part in parts} - {"val"}) > 1:
        return parts
    return [{key: value for key, value in part.items() if key != "split"} for part in parts]


def learned_from(source: dict[str, Any], parts: list[dict[str, Any]], label_counts: list[int]) -> float:
    """About how many images a task has to learn from."""
    shares = {None: 1 - source["val"] - source["test"], "train": 1 - source["val"], "val": 0.0, "test": 0.0}
    return sum(count * shares[part.get("split")] for count, part in zip(label_counts, settled(parts), strict=True))


def frame(part: dict[str, Any]) -> int:
    """The largest frame that is no larger than most images."""
    folder = Path(part.get("images") or part["folder"])
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)
    sizes = []
    for path in paths[:: max(1, len(paths) // 50)]:
        with contextlib.suppress(OSError), Image.open(path) as image:
            sizes.append(min(image.size))
    return max([side for side in FRAMES if sizes and side <= np.median(sizes)], default=FRAMES[0])


def task_of(parts: list[dict[str, Any]]) -> dict[str, Any]:
    classes, gives = len(parts[0]["classes"]), parts[0].get("gives")
    if gives == "classes":
        return {"code": "pipeline/tasks/multi_label.py", "class": "MultiLabel", "classes": classes}
    if gives == "boxes" or "voc" in parts[0]:
        return {"code": "pipeline/tasks/detection.py", "class": "Detection", "classes": classes, "stride": 4, "box_weight": 2}
    if gives == "masks" or "masks" in parts[0]:
        shape = {"classes": classes + 1, "upscale": 2, "background_weight": 0.3, "temperature": 2}
        return {"code": "pipeline/tasks/segmentation.py", "class": "Segmentation", **shape}
    return {"code": "pipeline/tasks/classification.py", "class": "Classification", "classes": classes, "temperature": 2}
