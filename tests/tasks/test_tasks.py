import numpy as np
import pytest
import torch

from pipeline.tasks.classification import Classification
from pipeline.tasks.detection import Detection
from pipeline.tasks.multi_label import MultiLabel
from pipeline.tasks.segmentation import IGNORED, Segmentation, middles
from pipeline.tasks.tagging import Tagging
from tests.laws import check_task

BOXES = torch.tensor(
    [
        [[3, 2, 3, 10, 12], [7, 12, 10, 22, 21], [-1, 0, 0, 0, 0]],
        [[0, 5, 5, 15, 15], [-1, 0, 0, 0, 0], [-1, 0, 0, 0, 0]],
        [[1, 0, 0, 9, 9], [1, 14, 14, 23, 24], [2, 0, 14, 8, 22]],
        [[9, 10, 2, 18, 12], [-1, 0, 0, 0, 0], [-1, 0, 0, 0, 0]],
    ]
).float()
MAPS = torch.randint(0, 11, (4, 24, 24), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
PRESENT = torch.tensor([[1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.uint8)

detection = Detection(classes=10, stride=4, box_weight=2)
segmentation = Segmentation(classes=11, upscale=2, background_weight=0.3, temperature=2)
multi_label = MultiLabel(classes=3)
classification = Classification(classes=3, temperature=2)
CLASSES = torch.tensor([2, 0, 1, 0])


@pytest.mark.parametrize(
    ("task", "label"),
    [
        (detection, BOXES),
        (segmentation, MAPS),
        (multi_label, PRESENT),
        (classification, CLASSES),
        (Classification(classes=3, temperature=1), CLASSES),
    ],
    ids=["detection", "segmentation", "multi_label", "classification", "sparse"],
)
def test_laws(task, label):
    check_task(task, label)


def perfect_detection() -> torch.Tensor:
    heat, box, _ = detection.targets(BOXES, torch.Size([6, 6]))
    return torch.cat([torch.logit(heat.clamp(1e-4, 1 - 1e-4)), box], 1)


def test_detection_decodes_what_its_targets_encode():
    score, kind, box = detection.decode(perfect_detection())
    for row in range(4):
        wanted = sorted(b.tolist() for b in BOXES[row] if b[0] >= 0)
        found = sorted([k.item(), *b.tolist()] for s, k, b in zip(score[row], kind[row], box[row], strict=True) if s > 0.5)
        np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert detection.implied(perfect_detection())["count"][:, 9].tolist() == [2, 1, 3, 1]  # above one half


def test_neighbours_that_are_all_sure_are_one_peak():
    sure = torch.full((1, 14, 6, 6), -1e4)
    sure[:, 10:] = 0
    sure[0, 3, 2, 1:4] = torch.tensor([18.0, 25.0, 20.0])  # of float32 each has a probability of 1
    score, _, box = detection.decode(sure)
    middle = (box[0, 0, :2] + box[0, 0, 2:]) / 2 / detection.stride
    assert (score > 0.5).sum() == 1 and middle.tolist() == [2, 2]


def test_detection_metrics_at_their_ends():
    assert detection.summarize([detection.tally(perfect_detection(), BOXES)]) == {"mAP50": 1, "mAP": 1}
    nothing = torch.full((4, 14, 6, 6), -1e4)
    assert detection.summarize([detection.tally(nothing, BOXES)]) == {"mAP50": 0, "mAP": 0}


def test_a_crowd_is_neither_learned_nor_wrong_to_find():
    crowd = BOXES.clone()
    crowd[1, 0, 0] = -2  # of class 0
    none = BOXES.clone()
    none[1, 0, 0] = -1
    pred = perfect_detection()
    torch.testing.assert_close(detection.loss(pred, crowd), detection.loss(pred, none))
    assert detection.summarize([detection.tally(pred, crowd)]) == {"mAP50": 1, "mAP": 1}
    assert detection.truth(crowd.numpy())["boxes"][1] == []


def test_detection_of_shifted_boxes_counts_at_half_overlap_only():
    pred = perfect_detection()
    pred[:, 10] += 0.5  # 2 pixels of about 9: IoU about 0.64
    scores = detection.summarize([detection.tally(pred, BOXES)])
    assert scores["mAP50"] > 0.9
    assert scores["mAP"] < 0.5


@pytest.mark.parametrize(("stride", "first"), [(1, 0), (2, 0), (3, 1), (4, 1)])
def test_a_class_map_is_read_in_the_middle_of_each_cell(stride, first):
    maps = torch.arange(12 * 12).view(1, 12, 12)
    assert torch.equal(middles(maps, stride), maps[:, first::stride, first::stride])
    assert middles(maps, stride).shape == (1, 12 // stride, 12 // stride)


def test_segmentation_metric_ignores_background_and_absent_classes():
    label = torch.zeros(1, 4, 4, dtype=torch.uint8)
    label[0, :2] = 1
    pred = torch.full((1, 11, 2, 2), -9.0)
    pred[0, 1, 0, 0] = pred[0, 0, 0, 1] = pred[0, 0, 1] = 9.0  # one of the two cells of class 1 is missed
    assert segmentation.summarize([segmentation.tally(pred, label)])["mIoU"] == pytest.approx(0.5)


def test_multi_label_metric_is_macro_over_present_classes():
    label = torch.tensor([[1, 0, 0], [0, 1, 0], [1, 0, 0]])
    pred = torch.tensor([[3.0, 2.0, 0.0], [1.0, 1.0, 0.0], [2.0, 0.0, 9.0]])
    assert multi_label.summarize([multi_label.tally(pred, label)])["macro_AP"] == pytest.approx((1 + 0.5) / 2)


def test_multi_label_head_finds_a_class_at_any_position():
    head = multi_label.head(2, (6, 6))
    feature = torch.zeros(2, 2, 6, 6)
    feature[1, 0, 3, 4] = 10
    with torch.no_grad():
        head.score.weight.copy_(torch.tensor([[1.0, 0], [0, 1], [0, 0]]))
        low, high = head(feature)
    assert high[0] > low[0] + 4
    torch.testing.assert_close(high[1:], low[1:])


def test_what_is_ignored_on_a_map_counts_neither_in_the_loss_nor_in_the_metric():
    label = MAPS.clone()
    label[:, :12] = IGNORED
    pred = torch.randn(4, 11, 12, 12, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (gradient,) = torch.autograd.grad(segmentation.loss(pred, label).sum(), pred)
    assert gradient[:, :, :6].abs().max() == 0 and gradient[:, :, 6:].abs().min() > 0
    whole, half = segmentation.tally(pred, label), segmentation.tally(pred[:, :, 6:], MAPS[:, 12:])
    assert torch.equal(whole, half) and whole.sum() == 4 * 6 * 12
    assert max(segmentation.truth(label.numpy())["map"][0].flatten()) < 11


def test_classification_counts_what_is_right_and_no_row_without_a_class():
    pred = torch.tensor([[3.0, 2.0, 0.0], [1.0, 4.0, 0.0], [2.0, 0.0, 9.0], [0.0, 5.0, 0.0]])
    label = torch.tensor([0, 0, 2, -1])
    assert classification.summarize([classification.tally(pred, label)]) == {"accuracy": pytest.approx(2 / 3)}
    loss = classification.loss(pred, label)
    assert loss[3] == 0 and loss[0] == pytest.approx(float(pred[0].logsumexp(0) - 3))
    assert classification.answers(pred)["classes"] == [[0], [1], [2], [1]]
    assert classification.truth(label.numpy())["classes"] == [[0], [0], [2], []]


def test_one_class_is_no_classification():
    with pytest.raises(ValueError, match="classes: 1, expected at least 2"):
        Classification(classes=1, temperature=1)


@pytest.mark.parametrize(
    ("task", "label", "grid", "message"),
    [
        (Classification(classes=2, temperature=1), CLASSES, (), "a label is of class 2, the task has classes 0 to 1"),
        (Classification(classes=3, temperature=1), CLASSES - 7, (), "a label is of class -5, the task has classes 0 to 2"),
        (Detection(classes=9, stride=4, box_weight=1), BOXES, (6, 6), "a label is of class 9, the task has classes 0 to 8"),
        (detection, BOXES, (3, 3), "beyond predictions of 3 x 3 cells of stride 4"),
        (Segmentation(classes=4, upscale=1, background_weight=1, temperature=1), MAPS, (6, 6), "the task has classes 0 to 3"),
        (segmentation, MAPS, (16, 16), "labels have 24 x 24 pixels, predictions 16 x 16, expected every n-th pixel"),
        (MultiLabel(classes=4), PRESENT, (), "labels have 3 classes, the task 4"),
        (Tagging(kinds=["a"], temperature=1), torch.tensor([[0, 3, -1]]), (3,), "of class 3, the task has classes 0 to 2"),
    ],
    ids=["classification", "below", "detection", "stride", "segmentation", "upscale", "multi_label", "tagging"],
)
def test_labels_that_do_not_fit_a_task_are_told_before_any_learning(task, label, grid, message):
    assert message in task.misfit(label, grid)


def test_labels_that_fit_are_not_complained_of():
    ignored = torch.where(MAPS == 3, IGNORED, MAPS)
    whole = (
        (classification, CLASSES, ()),
        (detection, BOXES, (6, 6)),
        (segmentation, ignored, (12, 12)),
        (multi_label, PRESENT, ()),
    )
    for task, label, grid in whole:
        assert task.misfit(label, grid) is None


def test_no_example_of_any_class_is_no_score():
    assert multi_label.summarize([(torch.zeros(4, 3), torch.zeros(4, 3))]) == {"macro_AP": 0.0}
