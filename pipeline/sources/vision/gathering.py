"""All labels of images, brought together by what these show: files of the same content are one sample."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.sources.bad import SHOWN
from pipeline.sources.vision.coco import read_coco
from pipeline.sources.vision.folder import read_folder
from pipeline.sources.vision.images import open_upright, thumbnail
from pipeline.sources.vision.labels import Found, Part
from pipeline.sources.vision.labels_csv import read_csv
from pipeline.sources.vision.voc import read_masks, read_voc

READERS: dict[str, Callable[[Part], Found]] = {
    "folder": read_folder,
    "coco": read_coco,
    "voc": read_voc,
    "masks": read_masks,
    "csv": read_csv,
}

Parts = dict[str, list[Part]]  # {task: where its labels are}


class Looked(NamedTuple):
    """What is learned from reading an image once. size: (width, height), upright."""

    sample_id: bytes
    size: tuple[int, int]
    thumbnail: np.ndarray


class Label(NamedTuple):
    """A label as its reader found it, of an image of this size."""

    path: Path
    size: tuple[int, int]
    said: Any


@dataclass
class Sample:
    """One image, in whatever files. declared: {split: a file that is declared to be in it}."""

    sample_id: bytes
    path: Path
    thumbnail: np.ndarray
    labels: dict[str, Label] = field(default_factory=dict)
    declared: dict[str, Path] = field(default_factory=dict)


def read_labels(parts: Parts) -> tuple[dict[str, list[Found]], list[str]]:
    """What every part of every task holds, and a line for each label that cannot be used."""
    found_by_task = {task: [READERS[part.format](part) for part in task_parts] for task, task_parts in parts.items()}
    for task, found_parts in found_by_task.items():
        if not any(found.labels for found in found_parts):
            bad = [line for found in found_parts for line in found.bad]
            raise ValueError("; ".join([f"labels of {task}: none that can be used", *bad[:SHOWN]]))
    return found_by_task, [line for found_parts in found_by_task.values() for found in found_parts for line in found.bad]


def classes_of(found_parts: list[Found]) -> list[str]:
    """The classes of all parts of a task, in order."""
    return list(dict.fromkeys(name for found in found_parts for name in found.classes))


def look(path: Path) -> Looked:
    """Read the whole image. Raises ValueError."""
    image = open_upright(path, "RGB")
    content = sha256(b"%d %d " % image.size + image.tobytes()).digest()[:16]
    return Looked(content, image.size, thumbnail(image))


def look_at_all(paths: Iterable[Path]) -> tuple[dict[Path, Looked], list[str]]:
    """Images by their files, and a line for each file that is not one."""

    def look_or_say(path: Path) -> Looked | str:
        try:
            return look(path)
        except ValueError as error:
            return str(error)

    looked_by_path, bad = {}, []
    with ThreadPoolExecutor() as threads:
        for path, result in zip(paths, threads.map(look_or_say, paths), strict=True):
            if isinstance(result, str):
                bad.append(result)
            else:
                looked_by_path[path] = result
    return looked_by_path, bad


def merged(
    parts: Parts, found_by_task: dict[str, list[Found]], looked_by_path: dict[Path, Looked]
) -> tuple[list[Sample], list[str]]:
    """Samples in the order of their ids, and a line for each label that does not fit its image or another label."""
    samples = {
        looked.sample_id: Sample(looked.sample_id, path, looked.thumbnail) for path, looked in reversed(looked_by_path.items())
    }
    bad = []
    for task, found_parts in found_by_task.items():
        classes = classes_of(found_parts)
        for spec, found in zip(parts[task], found_parts, strict=True):
            for path, value in found.labels:
                if path not in looked_by_path:
                    continue
                sample, label = samples[looked_by_path[path].sample_id], Label(path, looked_by_path[path].size, value)
                if spec.split:
                    sample.declared.setdefault(spec.split, path)
                    check_declared(sample)
                problem = problem_of(label, found.sizes.get(path), classes, sample.labels.get(task))
                if problem:
                    bad.append(f"{path}: {task}: {problem}")
                else:
                    sample.labels[task] = label
    return [samples[sample_id] for sample_id in sorted(samples)], bad


def check_declared(sample: Sample) -> None:
    if len(sample.declared) > 1:
        (one_split, one_file), (other_split, other_file) = sorted(sample.declared.items())[:2]
        raise ValueError(
            f"{one_file} is in {one_split} and {other_file} in {other_split}, but they are the same image: a leak; "
            "drop one of them"
        )


def problem_of(
    label: Label, stated_size: tuple[int, int] | None, classes: list[str], earlier_label: Label | None
) -> str | None:
    """What is wrong with a label, given what else is known. stated: the size of the image, if labels state it."""
    width, height = label.size
    if stated_size and stated_size != label.size:
        return f"labels are of an image of {stated_size[0]} x {stated_size[1]}, it has {width} x {height}, seen upright"
    if not stated_size and callable(label.said):
        try:
            label.said(classes, width, height)
        except ValueError as error:
            return str(error)
    if earlier_label and not same(earlier_label, label, classes):
        return f"has another label than {earlier_label.path}, which shows the same; drop one of them"
    return None


def same(a: Label, b: Label, classes: list[str]) -> bool:
    if callable(a.said) and callable(b.said):
        return a.size == b.size and np.array_equal(a.said(classes, *a.size), b.said(classes, *b.size))
    if isinstance(a.said, list) and isinstance(b.said, list):
        return sorted(a.said) == sorted(b.said)  # objects come in any order
    return bool(a.said == b.said)
