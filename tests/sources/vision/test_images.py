import numpy as np
import pytest
from PIL import Image

from pipeline.sources.vision.drawing import image_in_words, seen
from pipeline.sources.vision.images import (
    GREY,
    augmented,
    corrupted,
    fit,
    framed,
    framed_boxes,
    framed_mask,
    open_upright,
    resampled,
)
from tests.samples import box_of, shapes

FRAMES = [(32, 32), (24, 48), (96, 40)]


def test_an_image_is_seen_upright(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (6, 9, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(np.asarray(open_upright(tmp_path / "a.png", "RGB")), np.rot90(pixels, -1))


def test_what_is_transparent_is_grey_whatever_colour_lies_there(tmp_path):
    palette = Image.fromarray(np.eye(4, dtype=np.uint8), "P")
    palette.putpalette([10, 20, 30] * 256)
    palette.save(tmp_path / "a.png", transparency=0)
    shape = np.zeros((4, 4, 4), np.uint8)  # black, on black that nobody sees
    shape[..., 3] = 255 * np.eye(4)
    Image.fromarray(shape).save(tmp_path / "b.png")
    for name, colour in (("a.png", [10, 20, 30]), ("b.png", [0, 0, 0])):
        seen = np.asarray(open_upright(tmp_path / name, "RGB"))
        assert seen[0, 0].tolist() == colour and seen[0, 1].tolist() == [GREY] * 3


@pytest.mark.parametrize("how", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("frame", FRAMES)
def test_boxes_and_masks_move_as_their_image_does(how, frame):
    for _, kind, mask in shapes(20, seed=3):
        boxes = np.array([[kind, *box_of(mask)]], float)
        moved = framed_boxes(boxes, mask.shape[::-1], frame, how)
        shown = framed_mask(mask.astype(np.uint8) * 7, frame, how)
        image = framed(Image.fromarray(mask.astype(np.uint8) * 255), frame, how)
        assert image.shape == (1, *frame)
        _, (x0, y0, x1, y1) = fit(*mask.shape[::-1], frame, how)
        inside = image[0, y0:y1, x0:x1]
        agree = (inside > 127) == (shown[y0:y1, x0:x1] == 7)
        assert agree.mean() > 0.9
        if len(moved) and shown.any():
            assert moved[0, 0] == kind
            zoom = max(frame) / min(mask.shape)  # the tip of a disc is one pixel, which is shown or not
            np.testing.assert_allclose(moved[0, 1:], box_of(shown > 0), atol=1 + zoom)
        assert len(moved) or not shown.any()


def test_padding_is_grey_and_background_and_the_whole_image_is_shown():
    image = Image.new("RGB", (40, 20), (255, 0, 0))
    shown = framed(image, (32, 32), "pad")
    assert (shown[:, :8] == GREY).all() and (shown[:, 24:] == GREY).all()
    assert (shown[0, 8:24] == 255).all()
    np.testing.assert_array_equal(framed_mask(np.ones((20, 40), np.uint8), (32, 32), "pad")[:, 0], [0] * 8 + [1] * 16 + [0] * 8)
    np.testing.assert_allclose(framed_boxes(np.array([[1, 0, 0, 40, 20]]), (40, 20), (32, 32), "pad"), [[1, 0, 8, 32, 24]])


def test_what_a_crop_cuts_away_is_no_box():
    boxes = np.array([[0, 0, 0, 9, 20], [1, 5, 5, 35, 15]])
    np.testing.assert_allclose(framed_boxes(boxes, (40, 20), (20, 20), "crop"), [[1, 0, 5, 20, 15]])


def batch(frame=(40, 56)):
    rng = np.random.default_rng(0)
    image, boxes, maps = (
        np.full((24, 3, *frame), 90, np.uint8),
        np.full((24, 2, 5), -1, np.float32),
        np.zeros((24, *frame), np.uint8),
    )
    for row in range(24):
        y, x = rng.integers(12, 20), rng.integers(12, 34)
        image[row, :, y : y + 10, x : x + 12] = 230
        maps[row, y : y + 10, x : x + 12] = 3
        boxes[row, 0] = 2, x, y, x + 12, y + 10
    return {"image": image}, {"a": boxes, "b": maps, "c": np.arange(24), "d": np.eye(24, dtype=np.uint8)}


@pytest.mark.parametrize("flip", [False, True])
def test_labels_move_along_when_an_image_is_augmented(flip):
    inputs, labels = batch()
    before = {name: x.copy() for name, x in labels.items()}
    moved_inputs, moved = augmented(np.random.default_rng(1), inputs, labels, flip)
    assert moved_inputs["image"].shape == inputs["image"].shape and moved_inputs["image"].dtype == np.uint8
    for row in range(24):
        bright = moved_inputs["image"][row].mean(0)
        seen = bright > (bright.max() + np.median(bright)) / 2
        np.testing.assert_allclose(moved["a"][row, 0, 1:], box_of(seen), atol=2)
        assert (seen == (moved["b"][row] == 3)).mean() > 0.97
        np.testing.assert_array_equal(moved["a"][row, 1], -1)
    assert moved["c"] is labels["c"] and moved["d"] is labels["d"]
    for name, x in before.items():
        np.testing.assert_array_equal(labels[name], x)
    sides = {bool(m[..., 1:].sum() < b[..., 1:].sum()) for m, b in zip(moved["a"], before["a"], strict=True)}
    assert sides == {False, True}


def boxed(x0, y0, x1, y1, batch=600, side=64):
    """A bright rectangle, its class map and its box, augmented: light (B, side, side), map, corners (B, 4)."""
    image, mask = np.full((batch, 1, side, side), 20, np.uint8), np.zeros((batch, side, side), np.uint8)
    image[:, :, y0:y1, x0:x1], mask[:, y0:y1, x0:x1] = 230, 1
    box = np.tile(np.float32([0, x0, y0, x1, y1]), (batch, 1, 1))
    moved, labels = augmented(np.random.default_rng(0), {"image": image}, {"m": mask, "b": box}, True)
    light = moved["image"][:, 0].astype(float)
    light = (light - np.median(light, (1, 2), keepdims=True)) / np.ptp(light, axis=(1, 2))[:, None, None]
    return light, labels["m"], labels["b"][:, 0, 1:]


def edges(mask):
    """(B, 4): x0, y0, x1, y1 of what is set."""
    across, down = mask.any(1), mask.any(2)
    ends = [(x.argmax(1), x.shape[1] - x[:, ::-1].argmax(1)) for x in (across, down)]
    return np.stack([ends[0][0], ends[1][0], ends[0][1], ends[1][1]], 1)


def test_picture_map_and_box_move_without_bias():
    """By less than a fifth of a pixel on average: half a one, or a mirror that is off by one, would show."""
    light, mask, box = boxed(20, 24, 38, 44)
    assert abs((edges(mask == 1) - box).mean(0)).max() < 0.2
    assert abs((edges(light > 0.5) - box).mean(0)).max() < 0.2
    middle = np.stack([(light > 0.5).sum(axis) @ (np.arange(64) + 0.5) / (light > 0.5).sum((1, 2)) for axis in (1, 2)], 1)
    assert abs((middle - (box[:, :2] + box[:, 2:]) / 2).mean(0)).max() < 0.1


def test_an_object_that_the_frame_cuts_goes_on_to_its_edge_in_picture_map_and_box():
    _, mask, box = boxed(0, 24, 20, 44)
    assert abs(edges(mask == 1) - box).max() < 1.01


def test_a_box_that_leaves_the_frame_becomes_padding():
    image = np.zeros((64, 3, 20, 20), np.uint8)
    boxes = np.tile(np.array([[[1, 0, 0, 2, 2]]], np.float32), (64, 1, 1))
    _, moved = augmented(np.random.default_rng(0), {"image": image}, {"a": boxes}, False)
    gone = moved["a"][:, 0, 0] == -1
    assert 0 < gone.sum() < 64
    assert (moved["a"][gone] == -1).all()
    assert (moved["a"][~gone][..., 3:] - moved["a"][~gone][..., 1:3] >= 1).all()


def test_resampling_at_every_pixel_changes_nothing():
    image = np.random.default_rng(0).integers(0, 255, (3, 7, 5), np.uint8)
    np.testing.assert_array_equal(resampled(image, np.arange(7.0), np.arange(5.0)), image)
    np.testing.assert_allclose(resampled(image, np.array([0.5]), np.array([1.0]))[:, 0, 0], image[:, :2, 1].mean(1))


def test_corruption_is_one_of_three():
    image = (np.indices((16, 16)).sum(0) % 2 * 200).astype(np.uint8)[None]
    kinds = {float(corrupted(np.random.default_rng(seed), image).std().round(-1)) for seed in range(12)}
    assert len(kinds) == 3


@pytest.mark.parametrize(
    ("how", "extent", "words"),
    [
        ("pad", [0, 32, 24, 8], "where: 1 (90%) at 25 12 50 38"),
        ("stretch", [0, 32, 32, 0], "where: 1 (90%) at 25 19 50 31"),
        ("crop", [-16, 48, 32, 0], "where: 1 (90%) at 38 19 50 31"),
    ],
)
def test_answers_are_told_in_pixels_of_the_picture(tmp_path, how, extent, words):
    Image.fromarray(np.zeros((50, 100, 3), np.uint8)).save(tmp_path / "a.png")
    inputs = seen(tmp_path / "a.png", "RGB", (32, 32), how)
    assert inputs["image"].shape == (3, 32, 32) and inputs["picture"].shape == (50, 100, 3)
    assert inputs["extent"].tolist() == extent
    assert image_in_words(inputs, {"where": {"boxes": [(1, 0.9, np.array([8, 12, 16, 20]))]}}) == words
    said = np.zeros((16, 16), int)
    said[8:] = 1  # half of the frame, and, where it is shown whole, of the picture
    assert image_in_words(inputs, {"which": {"map": said}}) == "which: 1 on 50%"
