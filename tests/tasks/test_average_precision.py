"""Average precision of boxes, against pycocotools."""

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipeline.tasks.average_precision import average_precision

CLASSES = 6
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own


def oracle(score, kind, box, label):
    """(10,), with class 0 last, since COCO counts from 1."""

    def annotated(image, c, corners, **more):
        x0, y0, x1, y1 = map(float, corners)
        about = {"image_id": image, "category_id": int(c) + 1, "bbox": [x0, y0, x1 - x0, y1 - y0], "iscrowd": 0}
        return about | {"area": (x1 - x0) * (y1 - y0)} | more

    kinds = [(i, b, int(b[0])) for i, boxes in enumerate(label) for b in boxes if b[0] != -1]
    truth = [annotated(i, c if c >= 0 else -2 - c, b[1:], iscrowd=int(c < 0)) for i, b, c in kinds]
    rows = enumerate(zip(score, kind, box, strict=True))
    found = [annotated(i, c, b, score=float(s)) for i, row in rows for s, c, b in zip(*row, strict=True) if s > 0]
    gold = COCO()
    names = {"images": [{"id": i} for i in range(len(label))], "categories": [{"id": c + 1} for c in range(CLASSES)]}
    gold.dataset = names | {"annotations": [x | {"id": number} for number, x in enumerate(truth, 1)]}
    gold.createIndex()
    judged = COCOeval(gold, gold.loadRes(found), "bbox")
    judged.evaluate()
    judged.accumulate()
    precision = judged.eval["precision"][:, :, :, 0, 2]  # (IoU, recall, class), of any area, of the best 100
    return precision[:, :, (precision > -1).all((0, 1))].mean((1, 2))


def scene(seed, images=40, truths=6, boxes=30):
    """Boxes near those that are there, some of no score; labels and boxes that come twice; scores that tie; a class without
    labels."""
    rng = np.random.default_rng(seed)
    corner, side = rng.random((images, truths, 2)) * 80, 8 + rng.random((images, truths, 2)) * 30
    kind = rng.integers(0, CLASSES - 1, (images, truths, 1))
    label = np.concatenate([kind, corner, corner + side], 2).astype(np.float32)
    label[rng.random((images, truths)) < 0.3, 0] = -1
    label[:3, :, 0] = -1
    label[::2, 1] = label[::2, 0]
    near = label[np.arange(images)[:, None], rng.integers(0, truths, (images, boxes))]
    moved = near[..., 1:] + rng.normal(0, 1.5, (images, boxes, 4))
    moved[:, 1] = moved[:, 0]
    wrong = rng.random((images, boxes)) < 0.2
    kind = np.where(wrong, rng.integers(0, CLASSES, wrong.shape), near[..., 0].clip(0)).astype(int)
    score = rng.random((images, boxes)).round(1)
    return score, kind, moved.astype(np.float32), label


@pytest.mark.parametrize("seed", range(5))
def test_it_is_cocos(seed):
    given = scene(seed)
    np.testing.assert_allclose(average_precision(*given, CLASSES), oracle(*given), atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_crowds_are_as_in_coco(seed):
    """Of an image's truths some are crowds: small, large, over one another; a class has nothing else."""
    score, kind, box, label = scene(seed)
    rng = np.random.default_rng(seed)
    crowd = (label[..., 0] >= 0) & ((rng.random(label.shape[:2]) < 0.4) | (label[..., 0] == 1))
    label[..., 3:] += (crowd & (rng.random(crowd.shape) < 0.5))[..., None] * 40
    label[..., 0] = np.where(crowd, -2 - label[..., 0], label[..., 0])
    found = average_precision(score, kind, box, label, CLASSES)
    np.testing.assert_allclose(found, oracle(score, kind, box, label), atol=1e-12)
    label[crowd, 0] = -1
    assert (found > average_precision(score, kind, box, label, CLASSES)).any()


def test_of_a_class_on_an_image_a_hundred_count(monkeypatch):
    score, kind, box, label = scene(0, images=5, boxes=300)
    kind[:] = 2
    found = average_precision(score, kind, box, label, CLASSES)
    np.testing.assert_allclose(found, oracle(score, kind, box, label), atol=1e-12)
    monkeypatch.setattr("pipeline.tasks.average_precision.MOST", 300)
    assert (found != average_precision(score, kind, box, label, CLASSES)).any()


def test_without_labels_or_boxes_it_is_nothing():
    score, kind, box, label = scene(0)
    assert not average_precision(0 * score, kind, box, label, CLASSES).any()
    label[..., 0] = -1
    assert not average_precision(score, kind, box, label, CLASSES).any()
