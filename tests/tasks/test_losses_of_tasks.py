"""Tasks' own losses against naive loops in float64."""

import math

import numpy as np
import pytest
import torch

from pipeline.tasks.classification import Classification
from pipeline.tasks.detection import SPREAD, Detection
from pipeline.tasks.multi_label import MultiLabel
from pipeline.tasks.segmentation import IGNORED, Segmentation
from pipeline.tasks.tagging import Tagging

ROWS, CLASSES, SIDE, STRIDE, BOX_WEIGHT = 3, 2, 4, 8, 1.7
RNG = np.random.default_rng(0)
BOXES = [[(1, 3.0, 2.0, 13.0, 9.0), (0, 16.0, 16.0, 23.0, 31.0), (1, 10.0, 3.0, 14.0, 12.0)], [(0, 1.0, 20.0, 9.0, 26.0)], []]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def nats(p, q):
    """Cross-entropy of q against p, a chance of yes."""
    return -(p * math.log(q) + (1 - p) * math.log(1 - q))


def softmax(x):
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


def cell_of(box):
    _, x0, y0, x1, y1 = box
    return int((y0 + y1) / 2 / STRIDE), int((x0 + x1) / 2 / STRIDE)


def drawn(*shape):
    return torch.from_numpy(RNG.normal(size=shape))


def test_detection_is_the_focal_loss_of_centres_and_the_l1_of_their_boxes():
    pred = drawn(ROWS, CLASSES + 4, SIDE, SIDE)
    label = torch.full((ROWS, 3, 5), -1.0, dtype=torch.float64)
    for row, boxes in enumerate(BOXES):
        for m, box in enumerate(boxes):
            label[row, m] = torch.tensor(box)
    found = Detection(classes=CLASSES, stride=STRIDE, box_weight=BOX_WEIGHT).loss(pred, label)
    for row, boxes in enumerate(BOXES):
        focal = 0.0
        for kind in range(CLASSES):
            for i in range(SIDE):
                for j in range(SIDE):
                    far = [(i - a) ** 2 + (j - b) ** 2 for box in boxes if box[0] == kind for a, b in [cell_of(box)]]
                    heat = max([math.exp(-d / (2 * SPREAD**2)) for d in far], default=0.0)
                    p = sigmoid(pred[row, kind, i, j].item())
                    hit, miss = (1 - p) ** 2 * math.log(p), (1 - heat) ** 4 * p**2 * math.log(1 - p)
                    focal -= hit if 0 in far else miss
        centres = {(box[0], *cell_of(box)) for box in boxes}
        places = {cell_of(box): box for box in boxes}  # the last of two in a cell
        off = 0.0
        for (i, j), (_, x0, y0, x1, y1) in places.items():
            x, y = (x0 + x1) / 2 / STRIDE - j, (y0 + y1) / 2 / STRIDE - i
            wanted = [x, y, math.log((x1 - x0) / STRIDE), math.log((y1 - y0) / STRIDE)]
            off += sum(abs(pred[row, CLASSES + k, i, j].item() - wanted[k]) for k in range(4))
        expected = focal / max(1, len(centres)) + BOX_WEIGHT * off / max(1, len(places))
        assert found[row].item() == pytest.approx(expected, rel=1e-6)


def test_detection_is_taught_heat_everywhere_and_boxes_where_the_teacher_sees_one():
    student, teacher = drawn(ROWS, CLASSES + 4, 2, 3), drawn(ROWS, CLASSES + 4, 2, 3)
    found = Detection(classes=CLASSES, stride=STRIDE, box_weight=BOX_WEIGHT).distill_loss(student, teacher)
    for row in range(ROWS):
        heat = off = weight = 0.0
        for i in range(2):
            for j in range(3):
                s, t = student[row, :, i, j].tolist(), teacher[row, :, i, j].tolist()
                heat += sum(nats(sigmoid(t[k]), sigmoid(s[k])) for k in range(CLASSES))
                seen = max(sigmoid(x) for x in t[:CLASSES])
                off, weight = off + seen * sum(abs(s[k] - t[k]) for k in range(CLASSES, CLASSES + 4)), weight + seen
        assert found[row].item() == pytest.approx(heat + BOX_WEIGHT * off / max(1, weight), rel=1e-6)


def test_segmentation_counts_background_less_and_what_is_ignored_not_at_all():
    pred, label = drawn(ROWS, 3, 2, 2), torch.from_numpy(RNG.integers(0, 3, (ROWS, 4, 4)).astype(np.uint8))
    label[0, 0, 0] = label[1, 2, 2] = IGNORED
    found = Segmentation(classes=3, upscale=1, background_weight=0.3, temperature=1).loss(pred, label)
    for row in range(ROWS):
        total, known = 0.0, 0
        for i in range(2):
            for j in range(2):
                kind = label[row, 2 * i, 2 * j].item()
                if kind != IGNORED:
                    known += 1
                    said = softmax(pred[row, :, i, j].numpy())[kind]
                    total -= (0.3 if kind == 0 else 1.0) * math.log(said)
        assert found[row].item() == pytest.approx(total / known, rel=1e-6)


def test_classes_tags_and_labels_are_cross_entropies():
    one, many, tags = drawn(ROWS, 4), drawn(ROWS, 4), drawn(ROWS, 3, 5)
    kind, present = torch.tensor([0, 3, 2]), torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]])
    tag = torch.tensor([[0, 1, 2, -1, -1], [2, 2, 0, 1, 0], [1, -1, -1, -1, -1]])
    found = (
        Classification(classes=4, temperature=1).loss(one, kind),
        MultiLabel(classes=4).loss(many, present),
        Tagging(kinds=["a"], temperature=1).loss(tags, tag),
    )
    for row in range(ROWS):
        expected = -math.log(softmax(one[row].numpy())[kind[row]])
        labels = np.mean([nats(present[row, k].item(), sigmoid(many[row, k].item())) for k in range(4)])
        places = [p for p in range(5) if tag[row, p] >= 0]
        tagged = np.mean([-math.log(softmax(tags[row, :, p].numpy())[tag[row, p]]) for p in places])
        assert [x[row].item() for x in found] == pytest.approx([expected, labels, tagged], rel=1e-6)
