import numpy as np
import pytest

from pipeline.sources.vision.digit_scenes import TASKS, DigitScenes
from pipeline.sources.vision.scenes import APART, DIGITS, MOST, SIZE, compose, split_digits

SIZES = {"labelled": dict.fromkeys(TASKS, 40), "unlabelled": 30, "views": 2, "val": 20, "test": 30, "unseen": 20}


def scenes(**changes):
    return DigitScenes(**{**SIZES, "seed": 5, **changes})


@pytest.fixture(scope="module")
def splits():
    return scenes().splits()


def padded(boxes):
    out = np.full((len(boxes), MOST, 5), -1, np.float32)
    for row, items in enumerate(boxes):
        out[row, : len(items)] = items
    return out


def test_no_digit_is_in_two_parts():
    parts = split_digits(np.random.default_rng(0))
    images = np.concatenate([images for images, _ in parts.values()])
    assert len(images) == 1797 == len(np.unique(images, axis=0))
    assert [len(images) for images, _ in parts.values()] == list(DIGITS.values())


def test_no_scene_is_in_two_splits(splits):
    held_out = [name for name in splits if name != "test/corrupted"]
    ids = [np.unique(splits[name].sample_id, axis=0) for name in held_out]
    assert len(np.unique(np.concatenate(ids), axis=0)) == sum(map(len, ids))


def test_same_seed_same_bytes_other_seed_other_bytes(splits):
    for name, split in scenes().splits().items():
        np.testing.assert_array_equal(split.inputs["image"], splits[name].inputs["image"])
        np.testing.assert_array_equal(split.sample_id, splits[name].sample_id)
    assert (scenes(seed=6).splits()["val"].inputs["image"] != splits["val"].inputs["image"]).any()


def test_the_size_of_one_split_leaves_the_others_alone(splits):
    other = scenes(unlabelled=99, test=7).splits()
    np.testing.assert_array_equal(other["val"].inputs["image"], splits["val"].inputs["image"])
    np.testing.assert_array_equal(other["unseen/train"].inputs["image"], splits["unseen/train"].inputs["image"])


def test_every_task_has_labels_of_its_own(splits):
    transfer = splits["transfer"]
    assert len(transfer.view) == (3 * 40 + 30) * 2
    assert sum(flag.astype(int) for flag in transfer.labelled.values()).max() == 1
    for task in TASKS:
        flag = transfer.labelled[task]
        assert flag.sum() == 40
        assert not transfer.view[flag].any()
        if task != "detection":
            assert not transfer.labels[task][~flag].any()
    boxes, has = transfer.labels["detection"], transfer.labelled["detection"]
    assert [len(items) > 0 for items in boxes] == has.tolist()


def test_views_of_a_scene_share_its_id_and_look_alike(splits):
    transfer = splits["transfer"]
    by_id = {}
    for row, (sample, view) in enumerate(zip(transfer.sample_id, transfer.view, strict=True)):
        by_id.setdefault(sample.tobytes(), {})[int(view)] = row
    assert {tuple(sorted(views)) for views in by_id.values()} == {(0, 1)}
    image = transfer.inputs["image"].astype(float)
    pairs = [np.corrcoef(image[v[0]].ravel(), image[v[1]].ravel())[0, 1] for v in by_id.values()]
    strangers = [np.corrcoef(image[a].ravel(), image[b].ravel())[0, 1] for a, b in zip(range(50), range(50, 100), strict=True)]
    assert np.mean(pairs) > np.mean(strangers) + 0.2


def test_labels_of_a_scene_agree():
    made = compose(split_digits(np.random.default_rng(0))["source"], 300, np.random.default_rng(1))
    real = made["detection"][..., 0] >= 0
    np.testing.assert_array_equal(real.sum(1), made["count"])
    for row in range(300):
        boxes = made["detection"][row][real[row]]
        assert set(boxes[:, 0]) == set(np.flatnonzero(made["classification"][row]))
        assert set(np.unique(made["segmentation"][row])) - {0} <= set(boxes[:, 0] + 1)
        for kind, x0, y0, x1, y1 in boxes:
            assert 0 <= x0 < x1 <= SIZE
            assert 0 <= y0 < y1 <= SIZE
            assert (made["segmentation"][row][int(y0) : int(y1), int(x0) : int(x1)] == kind + 1).any()
    alone = made["count"] == 1
    for row in np.flatnonzero(alone):
        lines, columns = np.nonzero(made["segmentation"][row])
        _, *box = made["detection"][row, 0]
        assert box == [columns.min(), lines.min(), columns.max() + 1, lines.max() + 1]


def test_digits_keep_apart():
    made = compose(split_digits(np.random.default_rng(0))["source"], 300, np.random.default_rng(2))
    boxes = made["detection"]
    centres = (boxes[..., 1:3] + boxes[..., 3:]) / 2
    two = (boxes[..., 0] >= 0)[:, :2].all(1)
    assert np.median(np.linalg.norm(centres[two, 0] - centres[two, 1], axis=1)) > APART


def test_augmentation_moves_labels_along():
    made = compose(split_digits(np.random.default_rng(0))["source"], 400, np.random.default_rng(3))
    alone = made["count"] == 1
    labels = {task: made[task][alone] for task in TASKS}
    before = {name: x.copy() for name, x in labels.items()}
    _, moved = scenes().augment(np.random.default_rng(4), {"image": made["image"][alone]}, labels)
    overlaps = []
    for row in range(alone.sum()):
        lines, columns = np.nonzero(moved["segmentation"][row])
        if len(lines):
            x0, y0, x1, y1 = moved["detection"][row, 0, 1:]
            a = (columns.min(), lines.min(), columns.max() + 1, lines.max() + 1)
            across, down = min(x1, a[2]) - max(x0, a[0]), min(y1, a[3]) - max(y0, a[1])
            overlaps.append(across * down / ((x1 - x0) * (y1 - y0) + (a[2] - a[0]) * (a[3] - a[1]) - across * down))
    assert np.mean(overlaps) > 0.85
    np.testing.assert_array_equal(moved["classification"], labels["classification"])
    np.testing.assert_array_equal(moved["detection"][..., 0], labels["detection"][..., 0])
    for name, x in before.items():
        np.testing.assert_array_equal(labels[name], x)


def test_test_splits_differ_as_they_say(splits):
    clean, corrupted = (splits[f"test/{name}"].inputs["image"].astype(float) for name in ("clean", "corrupted"))
    third = np.arange(len(clean)) % 3
    roughness = [np.abs(np.diff(x, axis=3)).mean((1, 2, 3)) for x in (clean, corrupted)]
    assert (roughness[1] > roughness[0])[third == 0].all()  # noise
    assert (roughness[1] < roughness[0])[third == 1].all()  # blur
    assert (corrupted.std((1, 2, 3)) < clean.std((1, 2, 3)))[third == 2].all()  # contrast
    assert splits["test/cluttered"].inputs["image"].mean() > clean.mean()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labelled": {"depth": 5}}, "labelled.depth: no such task"),
        ({"labelled": {"detection": 0}}, "labelled.detection: 0, expected at least 1"),
        ({"val": 0}, "val: 0"),
        ({"test": -1}, "test: -1"),
        ({"views": 0}, "views: 0"),
    ],
)
def test_errors_name_the_argument(change, message):
    with pytest.raises(ValueError, match=message):
        scenes(**change)


def test_a_preview_tells_what_the_transfer_set_will_be(splits):
    rows, few = scenes().preview()
    assert rows == len(splits["transfer"].view)
    whole = splits["transfer"].fields()
    assert few.fields().keys() == whole.keys()
    for name, x in few.fields().items():
        assert isinstance(x, list) == isinstance(whole[name], list)
        assert (x[0].shape[1:], x[0].dtype) == (whole[name][0].shape[1:], whole[name][0].dtype)
    assert all(flag.any() for flag in few.labelled.values())
