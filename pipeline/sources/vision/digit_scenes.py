"""Scenes of real handwritten digits: scikit-learn's 1,797, one to three to a scene, with clutter, gradient and noise.

Digits are split before scenes are composed, so that no test scene shows a digit that anything was trained on. Frozen:
every figure of the demo is of these scenes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import final

import numpy as np
from matplotlib.axes import Axes

from pipeline.seeds import stream
from pipeline.sources.source import Answer, Arrays, Source, Split, check_sizes, content_ids, where_labelled
from pipeline.sources.vision.drawing import draw_image, each_read, image_in_words, seen
from pipeline.sources.vision.scenes import CLUTTER, SIZE, Digits, as_pixels, compose, corrupt, split_digits

PREVIEW = 16  # scenes of each kind
TASKS = ("classification", "detection", "segmentation")
UNSEEN = ("count", "rotation")
BLANK = {"classification": 0, "detection": -1.0, "segmentation": 0}


@final
class DigitScenes(Source):
    """labelled: {task: scenes with that task's labels and no others}; unlabelled, val, test, unseen: scenes of each.

    views: rows per scene in the transfer set; only view 0, the scene as it is, carries labels.
    """

    def __init__(self, *, labelled: dict[str, int], unlabelled: int, views: int, val: int, test: int, unseen: int, seed: int):
        check_sizes("scenes", TASKS, labelled, {"val": val, "test": test, "unseen": unseen, "views": views})
        self.labelled, self.unlabelled, self.views = labelled, unlabelled, views
        self.val, self.test, self.unseen, self.seed = val, test, unseen, seed

    def splits(self) -> dict[str, Split]:
        digits = split_digits(np.random.default_rng(self.seed))
        clean = compose(digits["test"], self.test, stream(self.seed, "test"))
        cluttered = compose(digits["test"], self.test, stream(self.seed, "cluttered"), clutter=3 * CLUTTER)
        return {
            "transfer": self.transfer(digits),
            "val": whole(compose(digits["val"], self.val, stream(self.seed, "val")), TASKS),
            "test/clean": whole(clean, TASKS),
            "test/corrupted": whole(clean | {"image": corrupt(clean["image"], stream(self.seed, "corrupted"))}, TASKS),
            "test/cluttered": whole(cluttered, TASKS),
            "unseen/train": whole(compose(digits["few"], self.unseen, stream(self.seed, "few")), TASKS + UNSEEN),
            "unseen/test": whole(compose(digits["test"], self.test, stream(self.seed, "unseen")), TASKS + UNSEEN),
        }

    def preview(self) -> tuple[int, Split]:
        labelled, sizes = dict.fromkeys(self.labelled, PREVIEW), {"val": 1, "test": 1, "unseen": 1}
        small_source = DigitScenes(labelled=labelled, unlabelled=PREVIEW, views=self.views, **sizes, seed=self.seed)
        rows = (sum(self.labelled.values()) + self.unlabelled) * self.views
        return rows, small_source.transfer(split_digits(np.random.default_rng(self.seed)))

    def transfer(self, digits: dict[str, Digits]) -> Split:
        parts = {task: compose(digits["source"], size, stream(self.seed, task)) for task, size in self.labelled.items()}
        parts["none"] = compose(digits["pool"], self.unlabelled, stream(self.seed, "pool"))
        scenes = {name: np.concatenate([part[name] for part in parts.values()]) for name in parts["none"]}
        part_names = np.repeat(list(parts), [len(part["image"]) for part in parts.values()])
        order = stream(self.seed, "order").permutation(len(part_names) * self.views)
        scene, view = order % len(part_names), order // len(part_names)
        image = np.concatenate([scenes["image"], *(self.look(scenes["image"], v) for v in range(1, self.views))])
        flags = {task: (part_names[scene] == task) & (view == 0) for task in self.labelled}
        labels = {task: where_labelled(scenes[task][scene], flag, BLANK[task]) for task, flag in flags.items()}
        rows = {**labels, "image": image[order]}
        return as_split(rows, list(self.labelled), flags, view.astype(np.int32), content_ids(scenes["image"])[scene])

    def look(self, image: np.ndarray, view: int) -> np.ndarray:
        return self.augment(stream(self.seed, f"view {view}"), {"image": image}, {})[0]["image"]

    def augment(self, rng: np.random.Generator, inputs: Arrays, labels: Arrays) -> tuple[Arrays, Arrays]:
        """Shift by up to 2 pixels, scale by up to 10 %, brightness, contrast and noise; labels move along."""
        image = inputs["image"][:, 0].astype(np.float32)
        batch, grid, centre = len(image), np.arange(SIZE, dtype=np.float32), (SIZE - 1) / 2
        scale = rng.uniform(0.9, 1.1, (batch, 1)).astype(np.float32)
        shift_y, shift_x = rng.uniform(-2, 2, (2, batch, 1)).astype(np.float32)
        line, column = (np.clip((grid - centre - s) / scale + centre, 0, SIZE - 1) for s in (shift_y, shift_x))
        image = interpolation(line) @ image @ interpolation(column).transpose(0, 2, 1)
        gain, offset = rng.uniform(0.8, 1.2, (batch, 1, 1)), rng.uniform(-15, 15, (batch, 1, 1))
        image = (image - 128) * gain + 128 + offset + 10 * rng.standard_normal(image.shape, dtype=np.float32)
        moved = dict(labels)
        if "segmentation" in labels:
            rows, lines, columns = np.arange(batch)[:, None, None], np.rint(line).astype(int), np.rint(column).astype(int)
            moved["segmentation"] = labels["segmentation"][rows, lines[:, :, None], columns[:, None, :]]
        if "detection" in labels:
            moved["detection"] = move_boxes(labels["detection"], scale, shift_y, shift_x)
        return {"image": as_pixels(image)}, moved

    def draw(self, axis: Axes, inputs: Arrays, answer: Answer) -> None:
        draw_image(axis, inputs, answer)

    def words(self, inputs: Arrays, answer: Answer) -> str:
        return image_in_words(inputs, answer)

    def read(self, given: str) -> Iterator[tuple[str, Arrays]]:
        """Image files in grey, resized to a scene."""
        return each_read(Path(given), lambda path: seen(path, "L", (SIZE, SIZE), "stretch"))


def interpolation(position: np.ndarray) -> np.ndarray:
    """Matrices (B, SIZE, SIZE) that resample a line at these positions (B, SIZE), linearly."""
    return np.maximum(0, 1 - np.abs(position[:, :, None] - np.arange(SIZE, dtype=np.float32)))


def move_boxes(boxes: np.ndarray, scale: np.ndarray, shift_y: np.ndarray, shift_x: np.ndarray) -> np.ndarray:
    """Boxes (B, M, 5) in pixel edges, scaled about the middle and shifted, cut at the border; padding stays."""
    shift = np.stack([shift_x, shift_y, shift_x, shift_y], 2)
    corners = np.clip((boxes[..., 1:] - SIZE / 2) * scale[..., None] + SIZE / 2 + shift, 0, SIZE)
    return np.where(boxes[..., :1] < 0, boxes, np.concatenate([boxes[..., :1], corners], 2)).astype(np.float32)


def whole(scenes: Arrays, tasks: tuple[str, ...]) -> Split:
    """A split that carries all of these labels on every row."""
    flags = {task: np.ones(len(scenes["image"]), bool) for task in tasks}
    return as_split(scenes, list(tasks), flags, np.zeros(len(scenes["image"]), np.int32), content_ids(scenes["image"]))


def as_split(rows: Arrays, tasks: list[str], flags: Arrays, view: np.ndarray, sample_id: np.ndarray) -> Split:
    """Boxes become ragged; everything else stays as it is."""
    labels = {task: ragged(rows[task]) if task == "detection" else rows[task] for task in tasks}
    return Split({"image": rows["image"]}, labels, flags, view, sample_id)


def ragged(boxes: np.ndarray) -> list[np.ndarray]:
    return [row[row[:, 0] >= 0] for row in boxes]
