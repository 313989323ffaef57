"""Scenes of real handwritten digits: scikit-learn's 1,797, one to three to a scene, with clutter, gradient and noise.

Digits are split before scenes are composed, so that no test scene shows a digit that anything was trained on. Frozen:
every figure of the demo is of these scenes.
"""

from pathlib import Path
from typing import final

import numpy as np
from matplotlib.axes import Axes
from sklearn.datasets import load_digits

from pipeline.sources.drawing import draw_image, image_files, image_in_words, seen
from pipeline.sources.source import Answer, Arrays, Source, Split, content_ids

SIZE = 24  # pixels a side: three digits have room, and a student trains in seconds
CLASSES = 10
MOST = 3  # digits in a scene
SCALE = (8.0, 12.0)  # a digit's side, in pixels
TURN = 30.0  # degrees either way: more, and a 6 is a 9
APART = 8.0  # pixels between the centres of two digits, so that few are hidden
MARGIN = 5.0  # pixels from a centre to the border
INK = 0.3  # of full ink: from here a pixel belongs to the digit
CLUTTER = 3  # fragments of other digits
NOISE = 14.0  # grey levels, standard deviation
DIGITS = {"source": 720, "pool": 500, "few": 90, "val": 160, "test": 327}
PREVIEW = 16  # scenes of each kind
TASKS = ("classification", "detection", "segmentation")
UNSEEN = ("count", "rotation")

Digits = tuple[np.ndarray, np.ndarray]  # images (N, 8, 8) in [0, 1], classes (N,)


@final
class DigitScenes(Source):
    """labelled: {task: scenes with that task's labels and no others}; unlabelled, val, test, unseen: scenes of each.

    views: rows a scene has in the transfer set; view 0 is the scene as it is and alone carries labels.
    """

    def __init__(self, *, labelled: dict[str, int], unlabelled: int, views: int, val: int, test: int, unseen: int, seed: int):
        for task in labelled:
            if task not in TASKS:
                raise ValueError(f"labelled.{task}: no such task; scenes have labels for {', '.join(TASKS)}")
        sizes = {"val": val, "test": test, "unseen": unseen, "views": views} | {f"labelled.{t}": n for t, n in labelled.items()}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name}: {size}, expected at least 1: an empty split measures nothing")
        self.labelled, self.unlabelled, self.views = labelled, unlabelled, views
        self.val, self.test, self.unseen, self.seed = val, test, unseen, seed

    def splits(self) -> dict[str, Split]:
        digits = split_digits(np.random.default_rng(self.seed))
        clean = compose(digits["test"], self.test, self.stream("test"))
        cluttered = compose(digits["test"], self.test, self.stream("cluttered"), clutter=3 * CLUTTER)
        return {
            "transfer": self.transfer(digits),
            "val": whole(compose(digits["val"], self.val, self.stream("val")), TASKS),
            "test/clean": whole(clean, TASKS),
            "test/corrupted": whole(clean | {"image": corrupt(clean["image"], self.stream("corrupted"))}, TASKS),
            "test/cluttered": whole(cluttered, TASKS),
            "unseen/train": whole(compose(digits["few"], self.unseen, self.stream("few")), TASKS + UNSEEN),
            "unseen/test": whole(compose(digits["test"], self.test, self.stream("unseen")), TASKS + UNSEEN),
        }

    def preview(self) -> tuple[int, Split]:
        labelled, one = dict.fromkeys(self.labelled, PREVIEW), {"val": 1, "test": 1, "unseen": 1}
        few = DigitScenes(labelled=labelled, unlabelled=PREVIEW, views=self.views, **one, seed=self.seed)
        rows = (sum(self.labelled.values()) + self.unlabelled) * self.views
        return rows, few.transfer(split_digits(np.random.default_rng(self.seed)))

    def stream(self, name: str) -> np.random.Generator:
        """Random numbers of one split, whatever the size of the others."""
        return np.random.default_rng([self.seed, *name.encode()])

    def transfer(self, digits: dict[str, Digits]) -> Split:
        parts = {task: compose(digits["source"], n, self.stream(task)) for task, n in self.labelled.items()}
        parts["none"] = compose(digits["pool"], self.unlabelled, self.stream("pool"))
        scenes = {name: np.concatenate([part[name] for part in parts.values()]) for name in parts["none"]}
        owner = np.repeat(list(parts), [len(part["image"]) for part in parts.values()])
        order = self.stream("order").permutation(len(owner) * self.views)
        scene, view = order % len(owner), order // len(owner)
        image = np.concatenate([scenes["image"], *(self.look(scenes["image"], v) for v in range(1, self.views))])
        flags = {task: (owner[scene] == task) & (view == 0) for task in self.labelled}
        labels = {task: np.where(expand(flag, scenes[task]), scenes[task][scene], BLANK[task]) for task, flag in flags.items()}
        rows = {**labels, "image": image[order]}
        return as_split(rows, list(self.labelled), flags, view.astype(np.int32), content_ids(scenes["image"])[scene])

    def look(self, image: np.ndarray, view: int) -> np.ndarray:
        return self.augment(self.stream(f"view {view}"), {"image": image}, {})[0]["image"]

    @staticmethod
    def augment(rng: np.random.Generator, inputs: Arrays, labels: Arrays) -> tuple[Arrays, Arrays]:
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

    @classmethod
    def draw(cls, axis: Axes, inputs: Arrays, answer: Answer) -> None:
        draw_image(axis, inputs, answer)

    @staticmethod
    def words(inputs: Arrays, answer: Answer) -> str:
        return image_in_words(inputs, answer)

    def read(self, given: str) -> dict[str, Arrays]:
        """Image files in grey, resized to a scene."""
        return {name: seen(path, "L", (SIZE, SIZE), "stretch") for name, path in image_files(Path(given)).items()}


BLANK = {"classification": 0, "detection": -1.0, "segmentation": 0}


def interpolation(position: np.ndarray) -> np.ndarray:
    """Matrices (B, SIZE, SIZE) that resample a line at these positions (B, SIZE), linearly."""
    return np.maximum(0, 1 - np.abs(position[:, :, None] - np.arange(SIZE, dtype=np.float32)))


def move_boxes(boxes: np.ndarray, scale: np.ndarray, shift_y: np.ndarray, shift_x: np.ndarray) -> np.ndarray:
    """Boxes (B, M, 5) in pixel edges, scaled about the middle and shifted, cut at the border; padding stays."""
    shift = np.stack([shift_x, shift_y, shift_x, shift_y], 2)
    corners = np.clip((boxes[..., 1:] - SIZE / 2) * scale[..., None] + SIZE / 2 + shift, 0, SIZE)
    return np.where(boxes[..., :1] < 0, boxes, np.concatenate([boxes[..., :1], corners], 2)).astype(np.float32)


def as_pixels(grey: np.ndarray) -> np.ndarray:
    """(N, SIZE, SIZE) in grey levels -> (N, 1, SIZE, SIZE) uint8."""
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)[:, None]


def expand(flag: np.ndarray, like: np.ndarray) -> np.ndarray:
    return flag.reshape(-1, *(1 for _ in like.shape[1:]))


def split_digits(rng: np.random.Generator) -> dict[str, Digits]:
    """Disjoint digits for every use; equal images, of which there are none today, would leak."""
    bunch = load_digits()
    images, classes = (bunch.images / 16).astype(np.float32), bunch.target
    if len(np.unique(images, axis=0)) != len(images):
        raise ValueError("scikit-learn's digits hold the same image twice: splits by digit would leak")
    cuts = np.cumsum(list(DIGITS.values()))[:-1]
    parts = np.split(rng.permutation(len(images)), cuts)
    return {name: (images[part], classes[part]) for name, part in zip(DIGITS, parts, strict=True)}


def compose(digits: Digits, scenes: int, rng: np.random.Generator, clutter: int = CLUTTER) -> Arrays:
    """Scenes with every label: image, classification (N, 10), detection (N, MOST, 5), segmentation, count, rotation."""
    images, classes = digits
    count = rng.integers(1, MOST + 1, scenes)
    ink = np.zeros((scenes, SIZE, SIZE), np.float32)
    for _ in range(clutter):
        ink = np.maximum(ink, fragments(images, scenes, rng))
    segmentation = np.zeros((scenes, SIZE, SIZE), np.uint8)
    boxes = np.full((scenes, MOST, 5), -1, np.float32)
    side, turn = rng.uniform(*SCALE, (MOST, scenes)), rng.uniform(-TURN, TURN, (MOST, scenes))
    for slot, (y, x) in enumerate(places(count, rng)):
        present = count > slot
        pick = rng.integers(0, len(images), scenes)
        digit = draw(images[pick], y, x, side[slot], turn[slot]) * present[:, None, None]
        ink = np.maximum(ink, digit * rng.uniform(0.7, 1, (scenes, 1, 1)))
        mask = digit > INK
        segmentation = np.where(mask, (classes[pick] + 1)[:, None, None], segmentation).astype(np.uint8)
        boxes[:, slot] = np.where(present[:, None], np.column_stack([classes[pick], tight_boxes(mask)]), -1)
    largest = np.where(np.arange(MOST)[:, None] < count, side, 0).argmax(0)
    return {
        "image": as_pixels(light(ink, rng)),
        "classification": (boxes[:, :, :1] == np.arange(CLASSES)).any(1).astype(np.uint8),
        "detection": boxes,
        "segmentation": segmentation,
        "count": count.astype(np.int64),
        "rotation": turn[largest, np.arange(scenes)].astype(np.float32),
    }


def light(ink: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Grey levels of ink in [0, 1] under a linear gradient, with noise."""
    down, across = np.mgrid[:SIZE, :SIZE] / (SIZE - 1) - 0.5
    slope_y, slope_x = rng.uniform(-20, 20, (2, len(ink), 1, 1))
    level = 40 + rng.uniform(-15, 15, (len(ink), 1, 1)) + slope_y * down + slope_x * across
    return level + 170 * ink + rng.normal(0, NOISE, ink.shape)


def places(count: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Centres (MOST, 2, N) in pixels, at least APART where thirty tries find room."""
    taken = np.full((MOST, 2, len(count)), -100.0)
    for slot in range(MOST):
        centre = rng.uniform(MARGIN, SIZE - MARGIN, (2, len(count)))
        for _ in range(30):
            near = (np.hypot(*(taken - centre).transpose(1, 0, 2)) < APART).any(0)
            centre = np.where(near, rng.uniform(MARGIN, SIZE - MARGIN, (2, len(count))), centre)
        taken[slot] = np.where(count > slot, centre, -100.0)
    return np.where(taken < 0, SIZE / 2, taken)  # slots not in use are drawn, with no ink, in the middle


def fragments(images: np.ndarray, scenes: int, rng: np.random.Generator) -> np.ndarray:
    """One faint piece of a digit a scene: three of its eight lines or columns."""
    pieces = images[rng.integers(0, len(images), scenes)].copy()
    lines = rng.random(scenes) < 0.5
    pieces[lines, 3:] = 0
    pieces[~lines, :, 3:] = 0
    y, x = rng.uniform(0, SIZE, (2, scenes))
    faint = rng.uniform(0.3, 0.7, (scenes, 1, 1))
    return faint * draw(pieces, y, x, rng.uniform(*SCALE, scenes), rng.uniform(-180, 180, scenes))


def draw(images: np.ndarray, y: np.ndarray, x: np.ndarray, side: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Digits (N, 8, 8), centred at (y, x), `side` pixels large, turned by degrees: (N, SIZE, SIZE), bilinear."""
    y, x, side, turn = (v[:, None, None] for v in (y, x, side, np.deg2rad(turn)))
    down, across = np.mgrid[:SIZE, :SIZE] + 0.5
    down, across = down - y, across - x
    ratio = images.shape[1] / side
    line = (np.cos(turn) * down + np.sin(turn) * across) * ratio + 4.5  # 3.5 is the middle, 1 the padding
    column = (np.cos(turn) * across - np.sin(turn) * down) * ratio + 4.5
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    line, column = (np.clip(v, 0, padded.shape[1] - 1.001) for v in (line, column))
    top, left = line.astype(int), column.astype(int)
    below, right, n = line - top, column - left, np.arange(len(images))[:, None, None]
    upper = padded[n, top, left] * (1 - right) + padded[n, top, left + 1] * right
    lower = padded[n, top + 1, left] * (1 - right) + padded[n, top + 1, left + 1] * right
    return (upper * (1 - below) + lower * below).astype(np.float32)


def tight_boxes(mask: np.ndarray) -> np.ndarray:
    """x0, y0, x1, y1 of the set pixels' edges, (N, 4); of an empty mask, a point."""
    columns, lines = mask.any(1), mask.any(2)
    first, last = (lambda m: m.argmax(1)), (lambda m: SIZE - m[:, ::-1].argmax(1))
    box = np.column_stack([first(columns), first(lines), last(columns), last(lines)])
    return np.where(mask.sum((1, 2))[:, None] > 0, box, 0)


def corrupt(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A third of the scenes noisy, a third blurred, a third with less than half the contrast: (N, 1, SIZE, SIZE)."""
    grey = image[:, 0].astype(np.float32)
    edge = np.pad(grey, ((0, 0), (1, 1), (1, 1)), mode="edge")
    blurred = np.mean([edge[:, i : i + SIZE, j : j + SIZE] for i in range(3) for j in range(3)], axis=0)
    looks = np.stack([grey + rng.normal(0, 30, grey.shape), blurred, 0.4 * grey + 30])
    return as_pixels(looks[np.arange(len(grey)) % 3, np.arange(len(grey))])


def whole(scenes: Arrays, labels: tuple[str, ...]) -> Split:
    """A split that carries all of these labels on every row."""
    flags = {name: np.ones(len(scenes["image"]), bool) for name in labels}
    return as_split(scenes, list(labels), flags, np.zeros(len(scenes["image"]), np.int32), content_ids(scenes["image"]))


def as_split(rows: Arrays, labels: list[str], flags: Arrays, view: np.ndarray, sample_id: np.ndarray) -> Split:
    """Boxes become ragged; everything else stays as it is."""
    kept = {name: ragged(rows[name]) if name == "detection" else rows[name] for name in labels}
    return Split({"image": rows["image"]}, kept, flags, view, sample_id)


def ragged(boxes: np.ndarray) -> list[np.ndarray]:
    return [row[row[:, 0] >= 0] for row in boxes]
