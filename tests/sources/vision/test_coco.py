"""COCO files against pycocotools."""

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as oracle

from pipeline.sources.vision.coco import filled, read_coco, toggles
from pipeline.sources.vision.labels import IGNORED, Part
from tests.samples import SHAPES, make_coco, run_lengths, save, shapes, write_json

SIZE = 50, 37  # width, height

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own


def polygons(number, seed):
    """Corners in and around the image, whole and not, at every angle."""
    rng = np.random.default_rng(seed)
    for i in range(number):
        corners = rng.uniform(-6, 56, (rng.integers(3, 12), 2))
        yield (np.rint(corners) if i % 3 == 0 else corners).ravel().tolist()


@pytest.mark.parametrize("seed", range(5))
def test_polygons_are_drawn_to_the_pixel_as_pycocotools_draws_them(seed):
    width, height = SIZE
    for polygon in polygons(60, seed):
        wanted = oracle.decode(oracle.frPyObjects([polygon], height, width))[..., 0]
        np.testing.assert_array_equal(filled(toggles([polygon], width, height), width, height), wanted)


def test_polygons_of_one_object_are_joined():
    width, height = SIZE
    several = list(polygons(4, 9))
    wanted = oracle.decode(oracle.merge(oracle.frPyObjects(several, height, width)))
    np.testing.assert_array_equal(filled(toggles(several, width, height), width, height), wanted)


def test_run_lengths_packed_or_not_are_the_mask():
    for seed in range(20):
        mask = np.random.default_rng(seed).random(SIZE[::-1]) < (0.02, 0.5, 0.98)[seed % 3]
        packed = oracle.encode(np.asfortranarray(mask.astype(np.uint8)))
        for given in ({**packed, "counts": packed["counts"].decode()}, run_lengths(mask)):
            np.testing.assert_array_equal(filled(toggles(given, *SIZE), *SIZE), mask)


@pytest.fixture
def found(tmp_path):
    content = make_coco(tmp_path, 8)
    return content, lambda **more: read_coco(
        Part(coco=str(tmp_path / "instances.json"), images=str(tmp_path / "images"), **more)
    )


def test_boxes_and_masks_are_those_that_were_drawn(found):
    _, read = found
    boxes, masks = dict(read().labels), dict(read(gives="masks").labels)
    for number, (_, kind, mask) in enumerate(shapes(8), 1):
        (path,) = [p for p in boxes if p.stem == f"{number:04}"]
        ((name, *corners, _),) = boxes[path]
        lines, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert (name, corners) == (SHAPES[kind], [columns[0], lines[0], columns[-1] + 1, lines[-1] + 1])
        np.testing.assert_array_equal(masks[path](list(SHAPES), *mask.shape[::-1]), mask * (kind + 1))


def test_several_files_speak_of_one_image_set(tmp_path, found):
    content, read = found
    halves = [{**content, "annotations": content["annotations"][i::2]} for i in range(2)]
    halves[1]["categories"] = [{"id": c["id"] + 1, "name": c["name"]} for c in content["categories"]][::-1]
    halves[1]["annotations"] = [{**a, "category_id": a["category_id"] + 1} for a in halves[1]["annotations"]]
    for number, half in enumerate(halves):
        write_json(tmp_path / f"{number}.json", half)
    both = read_coco(Part(coco=[str(tmp_path / "0.json"), str(tmp_path / "1.json")], images=str(tmp_path / "images")))
    assert (both.classes, both.bad) == (list(SHAPES), [])
    assert dict(both.labels) == dict(read().labels)


def test_a_crowd_is_ignored_as_a_box_and_on_the_map(tmp_path):
    content = make_coco(tmp_path, 1)
    (_, kind, mask) = shapes(1)[0]
    crowd = np.ones_like(mask)
    item = {**content["annotations"][0], "id": 2, "iscrowd": 1, "segmentation": run_lengths(crowd), "bbox": [0, 0, 9, 9]}
    content["annotations"].insert(0, item)
    write_json(tmp_path / "instances.json", content)
    part = {"coco": str(tmp_path / "instances.json"), "images": str(tmp_path / "images")}
    ((_, boxes),) = read_coco(Part(**part)).labels
    assert boxes[0] == (SHAPES[kind], 0, 0, 9, 9, True) and not boxes[1][-1] and len(boxes) == 2
    ((_, draw),) = read_coco(Part(**part, gives="masks")).labels
    np.testing.assert_array_equal(draw(list(SHAPES), *mask.shape[::-1]), np.where(mask, kind + 1, IGNORED))


def test_the_smaller_of_two_objects_is_on_top(tmp_path):
    save(tmp_path / "images/a.png", np.zeros((20, 20, 3), np.uint8))
    square = [[2, 2, 10, 2, 10, 10, 2, 10]]
    large = [[0, 0, 18, 0, 18, 18, 0, 18]]
    items = [{"image_id": 1, "iscrowd": 0, "segmentation": s, "category_id": c} for s, c in ((square, 1), (large, 2))]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 20, "height": 20}],
        "categories": [{"id": 1, "name": "small"}, {"id": 2, "name": "large"}],
        "annotations": items,
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    found = read_coco(Part(coco=str(tmp_path / "a.json"), images=str(tmp_path / "images"), gives="masks"))
    ((path, draw),) = found.labels
    drawn = draw(found.classes, 20, 20)
    assert path == Path(tmp_path / "images/a.png")
    assert (drawn[5, 5], drawn[15, 15], drawn[19, 19]) == (1, 2, 0)


def test_classes_need_no_boxes(tmp_path):
    content = make_coco(tmp_path, 3)
    for item in content["annotations"]:
        del item["bbox"], item["segmentation"]
    write_json(tmp_path / "instances.json", content)
    part = Part(coco=str(tmp_path / "instances.json"), images=str(tmp_path / "images"), gives="classes")
    assert [label for _, label in read_coco(part).labels] == [[SHAPES[kind]] for _, kind, _ in shapes(3)]
