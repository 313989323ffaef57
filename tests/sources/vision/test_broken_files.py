"""Forty kinds of broken input, one clear line each: what, where, what was expected."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from pipeline.manners import one_line
from pipeline.sources.vision.files import Files
from tests.samples import make_coco, make_csv, make_folder, make_voc, save, save_map, write_csv

FOLDER = {"shape": {"folder": "folder"}}
COCO = {"where": {"coco": "coco/instances.json", "images": "coco/images"}}
MASKS = {"where": {**COCO["where"], "gives": "masks"}}
VOC = {"where": {"voc": "voc/Annotations", "images": "voc/JPEGImages"}}
MAPS = {"which": {"masks": "voc/SegmentationClass", "images": "voc/JPEGImages"}}
CSV = {"shape": {"csv": "csv/labels.csv", "images": "csv/images", "label": "shape"}}
SETTINGS = {"size": [32, 32], "seed": 0, "val": 0.2, "test": 0.2}
SQUARE = Image.fromarray(np.zeros((8, 8, 3), np.uint8))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("whole")
    makers = {"folder": make_folder, "coco": make_coco, "voc": make_voc, "csv": make_csv}
    for seed, (name, make) in enumerate(makers.items()):
        make(root / name, 24, seed)
    return root


@pytest.fixture
def here(whole, tmp_path, monkeypatch):
    shutil.copytree(whole, tmp_path / "x")
    monkeypatch.chdir(tmp_path / "x")
    return tmp_path / "x"


def write(path, content):
    def spoil(root):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content if isinstance(content, bytes) else content.encode())

    return spoil


def coco(change):
    def spoil(root):
        content = json.loads((root / "coco/instances.json").read_text())
        change(content)
        (root / "coco/instances.json").write_text(json.dumps(content))

    return spoil


def annotation(**changes):
    return coco(lambda content: content["annotations"][2].update(changes))


def xml(old, new):
    def spoil(root):
        path = root / "voc/Annotations/0003.xml"
        path.write_text(path.read_text().replace(old, new))

    return spoil


def line(number, *cells):
    def spoil(root):
        rows = [row.split(",") for row in (root / "csv/labels.csv").read_text().splitlines()]
        rows[number - 1] = cells
        write_csv(root / "csv/labels.csv", rows)

    return spoil


def cut_short(root):
    path = root / "coco/images/0004.png"
    path.write_bytes(path.read_bytes()[:400])


def huge(root):
    Image.new("1", (20_000, 10_000)).save(root / "folder/disc/huge.png")


def sixteen_bits(root):
    Image.fromarray(np.zeros((9, 9), np.uint16)).save(root / "folder/disc/deep.png")


def other_size(root):
    SQUARE.save(root / "coco/images/0004.png")


def half_a_pixel(content):
    counts = content["annotations"][2]["segmentation"]["counts"]
    counts[0], counts[1] = counts[0] - 0.5, counts[1] + 0.5


def twice(root):
    image = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    for shape in ("disc", "ring"):
        save(root / f"folder/{shape}/same.png", image)


def map_of(array):
    return lambda root: save_map(root / "voc/SegmentationClass/0003.png", array)


def nothing(root):
    pass


def empty_folder(root):
    (root / "none").mkdir()


FILES = [
    ("no folder", nothing, {"shape": {"folder": "gone"}}, "gone: no such folder"),
    ("no image in it", empty_folder, {"shape": {"folder": "none"}}, "none: no image in this folder"),
    ("an image in no class", write("folder/a.png", b"x"), FOLDER, "folder/a.png: lies in no class's folder"),
    ("no image", write("folder/disc/text.jpg", "hello"), FOLDER, "folder/disc/text.jpg: not an image"),
    ("an empty file", write("folder/disc/a.png", b""), FOLDER, "folder/disc/a.png: not an image"),
    ("cut short", cut_short, COCO, "coco/images/0004.png: cannot be read as an image"),
    ("a bomb", huge, FOLDER, "folder/disc/huge.png: absurdly large"),
    ("16 bits", sixteen_bits, FOLDER, "folder/disc/deep.png: its pixels are I;16, expected 8 bits"),
    ("two classes of one image", twice, FOLDER, "folder/ring/same.png: shape: has another label than folder/disc/same.png"),
    (
        "a class not named",
        nothing,
        {"shape": {"folder": "folder", "classes": ["disk", "ring", "square"]}},
        "did you mean 'disk'",
    ),
    ("no JSON", write("coco/instances.json", "{"), COCO, "coco/instances.json: cannot be read as JSON"),
    ("no text", write("coco/instances.json", b"\xff\xfe\x00"), COCO, "coco/instances.json: is not text in UTF-8"),
    ("no file", nothing, {"a": {"coco": "gone.json", "images": "coco/images"}}, "gone.json: no such file"),
    ("no annotations", coco(lambda c: c.pop("annotations")), COCO, "no list 'annotations'"),
    ("an image twice", coco(lambda c: c["images"].append(c["images"][0])), COCO, "images: id 1 comes twice"),
    ("an image without size", coco(lambda c: c["images"][0].update(width=None)), COCO, "image 1: its width and height"),
    ("an image without a file", coco(lambda c: c["images"][0].update(file_name="../../x.png")), COCO, "no image '../../x.png'"),
    ("another size", other_size, COCO, "coco/images/0004.png: where: labels are of an image of"),
    ("two categories alike", coco(lambda c: c["categories"][0].update(name="ring")), COCO, "the same name"),
    ("no such category", annotation(category_id=99), COCO, "annotation 3: no category with id 99"),
    ("no such image", annotation(image_id=99), COCO, "annotation 3: no image with id 99"),
    ("no box", coco(lambda c: c["annotations"][2].pop("bbox")), COCO, "annotation 3: no 'bbox'"),
    ("an empty box", annotation(bbox=[5, 5, 0, 4]), COCO, "annotation 3: its box is empty or outside the image"),
    ("a box of three numbers", annotation(bbox=[5, 5, 4]), COCO, "annotation 3: its bbox is not a list of four numbers"),
    ("a box of words", annotation(bbox=["a", 5, 5, 4]), COCO, "annotation 3: its bbox is not a list of four numbers"),
    ("a box beyond floats", annotation(bbox=[10**400, 5, 5, 4]), COCO, "annotation 3: its bbox is not a list of four numbers"),
    ("a list for an image", annotation(image_id=[1]), COCO, "annotation 3: no image with id [1]"),
    ("a list for a category", annotation(category_id=[1]), COCO, "annotation 3: no category with id [1]"),
    (
        "an annotation that is a number",
        coco(lambda c: c["annotations"].insert(1, 7)),
        COCO,
        "entry 2 of annotations: 7, ",
    ),
    ("an image that is a number", coco(lambda c: c["images"].insert(1, 7)), COCO, "entry 2 of images: 7, expected an object"),
    (
        "no file name",
        coco(lambda c: c["images"][1].update(file_name=None)),
        COCO,
        "entry 2 of images: {'id': 2, 'file_na",
    ),
    ("a category by a word", coco(lambda c: c["categories"][0].update(id="a")), COCO, "entry 1 of categories: {'id': 'a'"),
    (
        "a box that is infinite",
        annotation(bbox=[1, 1, float("inf"), 3]),
        COCO,
        "annotation 3: its box has numbers that are not finite",
    ),
    ("half a polygon", annotation(segmentation=[[1, 2, 3]]), MASKS, "annotation 3: its segmentation is not a list of polygons"),
    (
        "a polygon of words",
        annotation(segmentation=[["a"] * 6]),
        MASKS,
        "annotation 3: its segmentation is not a list of polygons",
    ),
    (
        "runs of words",
        coco(lambda c: c["annotations"][2]["segmentation"].update(counts=["a"])),
        MASKS,
        "annotation 3: its run lengths are no list of numbers",
    ),
    (
        "half a pixel",
        coco(half_a_pixel),
        MASKS,
        "annotation 3: its run lengths do not fill an image",
    ),
    (
        "a polygon far away",
        annotation(segmentation=[[1, 2, 3, 4, 1e9, 6]]),
        MASKS,
        "annotation 3: its polygon lies far outside",
    ),
    (
        "too short runs",
        annotation(segmentation={"counts": [3], "size": [1, 1]}),
        MASKS,
        "annotation 3: its mask has size [1, 1]",
    ),
    ("no masks", annotation(segmentation=7), MASKS, "annotation 3: its segmentation has neither"),
    ("no XML", xml("<annotation>", "<"), VOC, "voc/Annotations/0003.xml: cannot be read as XML"),
    ("XML with entities", xml("<annotation>", '<!DOCTYPE a [<!ENTITY b "c">]><annotation>'), VOC, "declares entities"),
    ("no number", xml("<xmin>", "<xmin>a"), VOC, "voc/Annotations/0003.xml: object 1: <bndbox/xmin> is 'a"),
    ("no name", xml("<name>", "<name> </name><name>"), VOC, "object 1: it has no <name>"),
    ("no such image", write("voc/Annotations/gone.xml", "<annotation/>"), VOC, "gone.xml: no image 'gone' in voc/JPEGImages"),
    ("a map of another size", map_of(np.zeros((3, 3))), MAPS, "voc/SegmentationClass/0003.png: 3 x 3 pixels, its image has"),
    ("a map in colour", lambda r: SQUARE.save(r / "voc/SegmentationClass/0003.png"), MAPS, "expected one class number each"),
    ("a class too many", nothing, {"which": {**MAPS["which"], "classes": ["one"]}}, "there are names for 1 to 1"),
    ("a value not mapped", nothing, {"which": {**MAPS["which"], "values": {0: 0}}}, "is not in values, which has 0"),
    (
        "no column",
        nothing,
        {"a": {**CSV["shape"], "label": "form"}},
        "csv/labels.csv: no column 'form'; there are image, shape",
    ),
    ("a cell too many", line(4, "1.png", "disc", "a", "3", "?"), CSV, "csv/labels.csv, line 4: 5 cells, the header has 4"),
    ("no such image", line(4, "x.png", "disc", "a", "3"), CSV, "csv/labels.csv, line 4: no image 'x.png' in csv/images"),
    ("an open quote", write("csv/labels.csv", 'image,shape\n1.png,"disc\n'), CSV, "csv/labels.csv, line 2: unexpected end"),
    ("a label twice", line(4, "0001.png", "disc", "a", "3"), CSV, "line 4: csv/images/0001.png has a label already"),
    ("a header alone", write("csv/labels.csv", "image,shape\n"), CSV, "csv/labels.csv: no line below the header"),
    ("a list of strangers", write("l.txt", "x\n"), {"a": {"folder": "folder", "only": "l.txt"}}, "l.txt, line 1: no image 'x'"),
]


@pytest.mark.parametrize(("spoil", "labels", "message"), [case[1:] for case in FILES], ids=[case[0] for case in FILES])
def test_a_broken_file_is_one_line(here, spoil, labels, message):
    spoil(here)
    with pytest.raises(ValueError) as error:
        Files(labels=labels, **SETTINGS).splits()
    said = one_line(error.value)
    assert message in said and len(said) < 500, said


PARAMS = [
    ({"how": "squeeze"}, "how: 'squeeze', expected pad, crop or stretch"),
    ({"size": 32}, "size: 32, expected [height, width]"),
    ({"size": [4, 32]}, "size: [4, 32], expected"),
    ({"channels": 4}, "channels: 4, expected 3"),
    ({"views": 0}, "views: 0, expected at least 1"),
    ({"val": 0.6, "test": 0.5}, "val, test: 0.6 and 0.5"),
    ({"labels": {}}, "labels: empty"),
    ({"labels": {"a": "folder"}}, "labels.a: 'folder', expected keys"),
    ({"labels": {"a": {"folders": "x"}}}, "labels.a.folders: unknown key; did you mean 'folder'?"),
    ({"labels": {"a": {"coco": "x", "csv": "y"}}}, "labels.a: names coco and csv; give exactly one of"),
    ({"labels": {"a": {"images": "x"}}}, "labels.a: names no format"),
    ({"labels": {"a": {"coco": "x"}}}, "labels.a.images: missing"),
    ({"labels": {"a": {"folder": "x", "gives": "boxes"}}}, "labels.a.gives: folder has no boxes; it gives class"),
    ({"labels": {"a": {"folder": "x", "split": "holdout"}}}, "labels.a.split: input should be 'train', 'val' or 'test'"),
    ({"labels": {"a": {"folder": "x", "classes": ["b", "b"]}}}, "labels.a.classes: a name comes twice"),
    ({"labels": {"a": [{"folder": "x"}, {**COCO["where"]}]}}, "labels.a: its parts give boxes and class"),
    ({"labels": {"a": {"masks": "x", "images": "y", "values": {1: 300}}}}, "labels.a.values: classes are 0 to 254"),
    ({"labels": {"a": {"csv": "x", "images": "y", "gives": "number"}}}, "labels.a.gives: number is for unseen tasks only"),
    ({"unseen": COCO}, "unseen.where: expected a name that is no task's, with a class or number"),
]


@pytest.mark.parametrize(("change", "message"), PARAMS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_wrong_param_names_its_key(change, message):
    with pytest.raises(ValueError) as error:
        Files(**{"labels": FOLDER, **SETTINGS, **change})
    assert message in one_line(error.value)
