"""Scenes composed of scikit-learn's 1,797 handwritten digits: one to three, with clutter, gradient and noise. Frozen, as
DigitScenes says."""

import numpy as np
from sklearn.datasets import load_digits

from pipeline.sources.source import Arrays

SIZE = 24  # pixels per side: three digits have room, and a student trains in seconds
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

Digits = tuple[np.ndarray, np.ndarray]  # images (N, 8, 8) in [0, 1], classes (N,)


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
    centres = np.full((MOST, 2, len(count)), -100.0)
    for slot in range(MOST):
        centre = rng.uniform(MARGIN, SIZE - MARGIN, (2, len(count)))
        for _ in range(30):
            is_near = (np.hypot(*(centres - centre).transpose(1, 0, 2)) < APART).any(0)
            centre = np.where(is_near, rng.uniform(MARGIN, SIZE - MARGIN, (2, len(count))), centre)
        centres[slot] = np.where(count > slot, centre, -100.0)
    return np.where(centres < 0, SIZE / 2, centres)  # slots not in use are drawn, with no ink, in the middle


def fragments(images: np.ndarray, scenes: int, rng: np.random.Generator) -> np.ndarray:
    """One faint piece of a digit per scene: three of its eight lines or columns."""
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
    variants = np.stack([grey + rng.normal(0, 30, grey.shape), blurred, 0.4 * grey + 30])
    return as_pixels(variants[np.arange(len(grey)) % 3, np.arange(len(grey))])


def as_pixels(grey: np.ndarray) -> np.ndarray:
    """(N, SIZE, SIZE) in grey levels -> (N, 1, SIZE, SIZE) uint8."""
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)[:, None]
