"""`stillroom init` on folders of images, of every layout."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from pipeline.cli import main
from pipeline.init.draft import built
from pipeline.init.images.labels import propose
from pipeline.init.label_columns import counted
from pipeline.init.start import below
from pipeline.init.vision import draft
from pipeline.project.class_spec import CLONE
from pipeline.project.lineage import open_project
from pipeline.project.validation import load_params
from tests.samples import SHAPES, make_coco, make_csv, make_folder, make_voc, save, shapes, write_json

CLASSES = sorted(SHAPES)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def proposed(folder=Path("own")):
    return propose(folder, below(folder))


def drafted():
    return draft(Path("own"), below(Path("own")))


def init(*arguments):
    return CliRunner().invoke(main, ["init", *arguments])


def layout_folder(root):
    make_folder(root, 40)
    return {"classification": {"folder": "own", "classes": CLASSES}}


def layout_split_folders(root):
    for seed, split in enumerate(("train", "valid")):
        make_folder(root / split, 30, seed)
    held_out = {"folder": "own/valid", "classes": CLASSES, "split": "test"}
    return {"classification": [{"folder": "own/train", "classes": CLASSES, "split": "train"}, held_out]}


def layout_coco(root):
    make_coco(root, 40)
    base = {"coco": "own/instances.json", "images": "own/images", "classes": list(SHAPES)}
    return {"detection": {**base, "gives": "boxes"}, "segmentation": {**base, "gives": "masks"}}


def layout_coco_in_folders_of_splits(root):
    """As Roboflow has it: no file is named after a split, folders are."""
    for seed, split in enumerate(("test", "train", "valid")):
        make_coco(root / split, 20, seed)
    parts = [
        {"coco": f"own/{name}/instances.json", "images": f"own/{name}/images", "classes": list(SHAPES), "split": split}
        for name, split in (("test", "test"), ("train", "train"), ("valid", "val"))
    ]
    kinds = {"detection": "boxes", "segmentation": "masks"}
    return {task: [{**part, "gives": kind} for part in parts] for task, kind in kinds.items()}


def layout_voc_splits(root):
    for seed, split in enumerate(("test2017", "train2017")):
        make_voc(root / split, 30, seed)
    parts = [
        {"voc": f"own/{split}2017/Annotations", "images": f"own/{split}2017/JPEGImages", "split": split, "classes": CLASSES}
        for split in ("test", "train")
    ]
    names = [f"class {number}" for number in (1, 2, 3)]
    maps = [
        {
            "masks": f"own/{split}2017/SegmentationClass",
            "images": f"own/{split}2017/JPEGImages",
            "split": split,
            "classes": names,
        }
        for split in ("test", "train")
    ]
    return {"detection": parts, "segmentation": maps}


def layout_coco_splits(root):
    for seed, split in enumerate(("train", "val", "test")):
        content = make_coco(root / split, 20, seed)
        for item in content["annotations"]:
            del item["segmentation"]
        (root / split / "instances.json").unlink()
        write_json(root / f"annotations/instances_{split}.json", content)
    base = {"gives": "boxes", "classes": list(SHAPES)}
    parts = {
        split: {"coco": f"own/annotations/instances_{split}.json", "images": f"own/{split}/images", **base, "split": split}
        for split in ("test", "train", "val")
    }
    return {"detection": list(parts.values())}


def layout_voc(root):
    """VOC's own lists divide it: without a test list, val is the test."""
    make_voc(root, 40)
    base = {"voc": "own/Annotations", "images": "own/JPEGImages"}
    return {
        "detection": [
            {**base, "only": f"own/ImageSets/Main/{name}.txt", "split": split, "classes": CLASSES}
            for name, split in (("train", "train"), ("val", "test"))
        ],
        "segmentation": {
            "masks": "own/SegmentationClass",
            "images": "own/JPEGImages",
            "classes": ["class 1", "class 2", "class 3"],
        },
    }


def layout_black_and_white_masks(root):
    for i, (image, _, mask) in enumerate(shapes(40)):
        save(root / f"images/{i}.png", image)
        save(root / f"masks/{i}.png", (255 * mask).astype(np.uint8))
    part = {"masks": "own/masks", "images": "own/images", "values": {0: 0, 255: 1}, "classes": ["class 1"]}
    return {"segmentation": part}


def layout_coco_with_ids_in_another_order(root):
    """Of splits that were exported apart; the first one's order is that of the classes."""
    for seed, split in enumerate(("train", "valid")):
        content = make_coco(root / split, 30, seed)
        if split == "valid":
            for item in content["annotations"]:
                item["category_id"] = 27 - item["category_id"] + 7
            for item in content["categories"]:
                item["id"] = 27 - item["id"] + 7
            write_json(root / split / "instances.json", content)
    parts = [
        {"coco": f"own/{name}/instances.json", "images": f"own/{name}/images", "classes": list(SHAPES), "split": split}
        for name, split in (("train", "train"), ("valid", "test"))
    ]
    kinds = {"detection": "boxes", "segmentation": "masks"}
    return {task: [{**part, "gives": kind} for part in parts] for task, kind in kinds.items()}


def layout_csv(root):
    make_csv(root, 60)
    base = {"csv": "own/labels.csv", "images": "own/images", "path": "image"}
    return {
        "shape": {**base, "label": "shape", "gives": "class", "classes": CLASSES},
        "has": {**base, "label": "has", "gives": "classes", "classes": ["big", *CLASSES]},
    }


LAYOUTS = [
    *(layout_folder, layout_split_folders, layout_coco, layout_coco_splits, layout_coco_in_folders_of_splits),
    *(layout_voc, layout_voc_splits, layout_csv, layout_black_and_white_masks, layout_coco_with_ids_in_another_order),
]


def test_lists_that_divide_are_said(here):
    make_voc(here / "own", 12)
    lists = "own/ImageSets/Main/train.txt, own/ImageSets/Main/val.txt"
    assert any(line.endswith(f"; only images that are listed in {lists} (train, val)") for line in proposed().said)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda make: make.__name__.removeprefix("layout_"))
def test_a_layout_is_recognised_and_there_is_enough_to_learn_from(here, layout):
    wanted = layout(here / "own")
    made = drafted()
    params = made.params
    assert made.bad == []
    source = params["prepare"]["source"]
    assert source["labels"] == wanted
    assert params["tasks"].keys() == params["teachers"].keys() == wanted.keys()
    splits = built(source).splits()
    assert all(splits[name].labelled[task].any() for name in ("transfer", "val", "test/clean") for task in wanted)
    assert len(splits["transfer"].view) >= params["distill"]["batch_size"]
    assert "logit_loss" not in params["distill"]  # the demo's own choice
    assert min(flag.sum() for flag in splits["transfer"].labelled.values()) >= params["train_teacher"]["batch_size"]


def test_the_name_of_all_data_is_no_split(here):
    make_folder(here / "own/test", 40)
    assert "split" not in proposed(Path("own/test")).labels["classification"][0]


def test_a_project_is_whole(here, monkeypatch):
    layout_voc(here / "own")
    done = init("project", "--data", "own")
    assert done.exit_code == 0, done.output
    assert "found: detection: VOC boxes of 3 classes" in done.output and "plan: " in done.output
    assert "cd project && dvc repro" in done.output
    monkeypatch.chdir(here / "project")
    assert open_project().tasks.keys() == {"detection", "segmentation"}
    deps = yaml.safe_load(Path("dvc.yaml").read_text())["stages"]["prepare"]["deps"]
    assert {"../own/Annotations", "../own/JPEGImages", "../own/SegmentationClass"} <= set(deps)
    assert {".git", ".dvc", ".dvcignore", ".gitignore", "code.yaml", "dvc.yaml", "params.yaml"} == {
        p.name for p in Path().iterdir()
    }
    assert {"/predictions/", "/exports/", "/dvc_plots/"} <= set(Path(".gitignore").read_text().splitlines())
    written = Path("params.yaml").read_text()
    assert "bench/" not in written and "\n\n# Many students, each batch read once" in written


def test_numbers_are_unseen_and_what_is_no_label_is_said(here):
    rows = make_csv(here / "own", 60)
    text = ["image,shape,red,note", *(f"{name},{shape},{red},n{i}" for i, (name, shape, _, red) in enumerate(rows))]
    (here / "own/labels.csv").write_text("\n".join(text))
    seen = proposed()
    assert seen.labels.keys() == {"shape"} and seen.unseen["red"][0]["gives"] == "number"
    assert any("column note: 60 different values in 60 lines: no label" in line for line in seen.said)


def test_whole_numbers_with_a_point_are_classes(here):
    columns(here, "file,liked", *[f",{n % 2}.0" for n in range(10)])
    assert proposed().labels["liked"][0]["classes"] == ["0.0", "1.0"]


def test_a_table_that_happens_to_name_an_image_or_two_is_none_of_images(here):
    make_folder(here / "own", 20)
    (here / "own/log.csv").write_text("\n".join(["id,kind", *(f"{n:04},{n % 3}" for n in range(300))]))
    seen = proposed()
    assert seen.labels.keys() == {"classification"}
    assert any("own/log.csv: left out: no column names images" in line for line in seen.said)


def columns(root, header, *rows):
    """labels.csv with these columns beside the images', or with text as it is."""
    names = [row[0] for row in make_csv(root / "own", 12)]
    lines = [f"{header}\n", *(f"{name}{row}\n" for name, row in zip(names, rows, strict=False))]
    (root / "own/labels.csv").write_text("".join(lines))


def test_columns_of_any_name_with_blanks_over_two_lines_and_empty_ones(here):
    columns(here, "file, größe,my label, 类别", *[f', {"a" if i < 5 else "b"}, "x\ny", {i % 2}' for i in range(10)], ", , z, 1")
    seen = proposed()
    assert {task: part["label"] for task, (part,) in seen.labels.items()} == {
        "groe": "größe",
        "my_label": "my label",
        "label": "类别",
    }
    assert seen.labels["groe"][0]["classes"] == ["a", "b"]
    assert drafted().bad == []


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_cells_between_semicolons_or_tabs(here, delimiter):
    columns(here, f"file{delimiter}kind", *[f"{delimiter}{'a, b' if i % 2 else 'c'}" for i in range(10)])
    seen = proposed()
    assert seen.labels["kind"][0] | {"delimiter": delimiter, "classes": ["a, b", "c"]} == seen.labels["kind"][0]
    assert drafted().bad == []


def test_classes_are_said_with_how_many_there_are_and_the_rarest_first(here):
    columns(here, "file,kind,many", *[f",{'dog' if i else 'dgo'},{i // 2}" for i in range(12)])
    make_coco(here / "own/coco", 20)
    make_folder(here / "own/in", 20)
    said = "\n".join(proposed().said)
    assert "kind: one of 2 classes (dgo 1, dog 11) in labels.csv" in said
    assert "many: one of 6 classes (0 2, 1 2, 2 2, 3 2, 4 2, 5 2) in labels.csv" in said
    assert "COCO boxes of 3 classes (" in said and "3 classes, a folder each (" in said
    assert counted("aabcdefghij") == " (b 1, c 1, d 1, e 1, f 1, g 1, h 1, i 1, and 2 more)"


def csv_in(text, encoding="utf-8"):
    return lambda root: (columns(root, ""), (root / "own/labels.csv").write_text(text, encoding=encoding))


def coco_in(change):
    def make(root):
        content = make_coco(root / "own", 5)
        change(content)
        write_json(root / "own/instances.json", content)

    return make


def whole_paths(root):
    csv_in(f"file,kind\n{root}/own/images/0000.png,a\n")(root)


def cut_json(root):
    make_coco(root / "own", 5)
    (root / "own/instances.json").write_text('{"images": [')


def broken_xml(root):
    make_voc(root / "own", 3)
    shutil.rmtree(root / "own/SegmentationClass")
    for path in (root / "own/Annotations").iterdir():
        path.write_text("<")


def masks_in_colours(root):
    """And called after their images, with an ending."""
    for i, (image, _, mask) in enumerate(shapes(4)):
        save(root / f"own/images/{i}.png", image)
        save(root / f"own/masks/{i}_mask.jpg", np.stack([255 * mask] * 3, 2).astype(np.uint8))


def yolo(root):
    for i, (image, _, _) in enumerate(shapes(4)):
        save(root / f"own/images/{i}.png", image)
        (root / f"own/labels/{i}.txt").parent.mkdir(exist_ok=True)
        (root / f"own/labels/{i}.txt").write_text("0 0.5 0.5 0.2 0.3\n")


LEFT_OUT = [
    (masks_in_colours, "own/masks: left out: masks, by its name; expected PNG files of one class number a pixel, each called"),
    (yolo, "labels/0.txt and 3 more: left out: a text for an image, as YOLO has boxes, is not read; make it COCO or VOC"),
    (csv_in("file,x_min,y_min,x_max,y_max,kind\n0000.png,1,1,9,9,a\n"), "labels.csv: left out: a table of boxes is not read"),
    (
        coco_in(lambda content: [item.update(keypoints=[1, 2, 2]) for item in content["annotations"]]),
        "instances.json: left out: keypoints are not read",
    ),
    (
        csv_in("file|kind\n0000.png|a\n"),
        "labels.csv: left out: one column, 'file|kind'; expected another with labels, between commas, semicolons or tabs",
    ),
    (csv_in("file,kind\n0000.png,a\n", "utf-16"), "labels.csv: left out: is not text in UTF-8"),
    (csv_in("file,kind\n"), "labels.csv: left out: no line below the header"),
    (csv_in("file,kind\n0000.png,a,b\n"), "labels.csv: left out: line 2: 3 cells, the header has 2"),
    (
        csv_in("file,kind\n/a/b/c/d/e/images/0000.png,a\n"),
        "labels.csv: left out: no column names images, relative to a folder; make its absolute paths relative to",
    ),
    (whole_paths, "labels.csv: left out: no column names images, relative to a folder; make its absolute paths relative to"),
    (
        csv_in("file,kind\nnowhere.png,a\n"),
        "labels.csv: left out: no column names images, relative to a folder; there are file",
    ),
    (cut_json, "instances.json: left out: cannot be read as JSON"),
    (
        coco_in(lambda content: content["images"][1].update(file_name=3)),
        "left out: entry 2 of images: {'id': 2, 'file_name': 3",
    ),
    (coco_in(lambda content: content["images"].insert(0, 1)), "left out: entry 1 of images: 1, expected an object with an id"),
    (coco_in(lambda content: content.update(annotations=[1])), "left out: annotations: [1]: no object with a bbox or"),
    (coco_in(lambda content: content["categories"][2].update(id="a")), "left out: entry 3 of categories: {'id': 'a'"),
    (broken_xml, "own/Annotations/0000.xml and 2 more: left out: cannot be read as XML"),
]


@pytest.mark.parametrize(("make", "message"), LEFT_OUT, ids=[message for _, message in LEFT_OUT])
def test_a_file_that_is_left_out_is_said_with_why(here, make, message):
    make(here)
    with pytest.raises(ValueError, match="images, but no labels that are known") as error:
        proposed(here / "own")
    assert message in str(error.value)
    make_folder(here / "own/in", 10)
    assert any(message in line for line in proposed(here / "own").said)


def test_what_a_table_does_not_name_is_not_forgotten(here):
    """Folders of classes, of whose images a table names some; a folder of which it names most; one that it does not know."""
    make_folder(here / "own/kinds", 40)
    for part, number in (("most", 10), ("none", 6)):
        for i, (image, _, _) in enumerate(shapes(number, seed=number)):
            save(here / f"own/{part}/{part}{i}.png", image)
    images = [path.relative_to(here / "own") for path in below(here / "own")]
    few = [path for path in images if path.parts[0] == "kinds"][::4] + [path for path in images if path.parts[0] == "most"][:7]
    lines = [f"{path.as_posix()},{'ab'[i % 2]}" for i, path in enumerate(few)]
    (here / "own/LABELS.CSV").write_text("\n".join(["path,loop", *lines]))
    seen = proposed()
    assert seen.labels.keys() == {"loop", "classification"} and seen.labels["classification"][0]["folder"] == "own/kinds"
    assert seen.unlabelled == ["own/most", "own/none"]
    assert "own/most: 3 images without labels" in seen.said and "own/none: 6 images without labels" in seen.said
    splits = built(drafted().params["prepare"]["source"]).splits()
    different = {bytes(sample) for name in ("transfer", "val", "test/clean") for sample in splits[name].sample_id}
    assert len(different) == 40 + 10 + 6


@pytest.mark.parametrize("make", [make_coco, make_voc])
def test_images_that_a_file_of_labels_does_not_name_are_not_forgotten(here, make):
    make(here / "own", 12)
    (images,) = {
        path.parent for path in below(here / "own") if path.stem == "0001" and path.parent.name in ("images", "JPEGImages")
    }
    for i, (image, _, _) in enumerate(shapes(5, seed=9)):
        save(images / f"more{i}.png", image)
    seen = proposed()
    assert seen.unlabelled == [str(images.relative_to(here))] and f"{seen.unlabelled[0]}: 5 images without labels" in seen.said


def test_what_lies_below_a_class_is_of_it_and_what_is_unsorted_is_none(here):
    make_folder(here / "own", 30)
    for i, (image, _, _) in enumerate(shapes(12, seed=5)):
        save(here / f"own/{('disc/deep/er', 'unlabelled')[i % 2]}/more{i}.png", image)
    (here / "own/disc/phone.HEIC").write_bytes(b"x")
    seen = proposed()
    assert seen.labels["classification"][0]["classes"] == CLASSES and seen.unlabelled == ["own/unlabelled"]
    discs = len(list((here / "own/disc").rglob("*.png")))
    assert f"disc {discs}" in seen.said[0] and discs >= 6
    assert any(line.startswith("own/disc/phone.HEIC: left out: .heic is not read; make it one of .jpg") for line in seen.said)


def test_classes_of_classes_are_told(here):
    for kind in ("cat", "dog"):
        make_folder(here / "own" / kind, 20)
    assert any(line.startswith("2 folders hold folders ") and "if they are the classes" in line for line in proposed().said)


def test_images_without_labels_are_for_the_transfer_set(here):
    make_folder(here / "own/in", 20)
    for i, (image, _, _) in enumerate(shapes(5, seed=4)):
        save(here / f"own/more/{i}.png", image)
    make_coco(here / "own/coco", 20)
    seen = proposed()
    assert seen.labels.keys() == {"detection", "segmentation", "classification"}
    assert seen.unlabelled == ["own/more"]


@pytest.mark.slow
def test_a_folder_of_ones_own_becomes_a_distilled_student(here):
    """As a new user goes: init, dvc repro, predict; then other labels, and what runs again."""
    content = make_coco(here / "own", 60)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(CLONE)}

    def run(*command, folder="project"):
        done = subprocess.run(command, cwd=here / folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    stillroom = sys.executable, "-m", "pipeline.cli"
    run(*stillroom, "init", "project", "--data", "own", folder=".")
    params = yaml.safe_load((here / "project/params.yaml").read_text())
    params["distill"] |= {"seeds": 1, "batch_size": 16}
    params["train_teacher"]["batch_size"] = 16
    for group in ("teachers", "students"):
        for one in params[group].values():
            one["updates"] = 4
    params["sweep"]["vary"]["updates"] = [4]
    (here / "project/params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    said = run("dvc", "repro")
    assert len(re.findall(r"Running stage '(.+)'", said)) == 1 + 2 + 2 + 2 + 4 + 4 + 1 + 1
    assert "empty" not in said and "Unseen tasks" not in said
    assert "detection: " in run(*stillroom, "predict", "fused", "../own/images/0003.png")
    assert (here / "project/predictions/0003.png").stat().st_size > 5_000
    content["annotations"][0]["bbox"][2] -= 1
    write_json(here / "own/instances.json", content)
    assert "prepare" in run("dvc", "status")


@pytest.mark.slow
def test_the_folder_of_the_images_can_be_the_project(here):
    make_coco(here / "own", 40)
    assert init("own").exit_code == 0
    source = load_params(here / "own/params.yaml").prepare.source.arguments
    assert source["labels"]["detection"]["coco"] == "instances.json"


@pytest.mark.slow
def test_a_project_inside_a_repository_of_dvc_makes_none(here):
    make_folder(here / "own", 40)
    (here / ".git").mkdir()
    (here / ".dvc").mkdir()
    assert init("project", "--data", "own").exit_code == 0
    assert not (here / "project/.git").exists() and not (here / "project/.dvc").exists()


def test_bad_labels_are_counted(here):
    content = make_coco(here / "own", 40)
    for item in content["annotations"][:5]:
        item["bbox"][2] = 0
    write_json(here / "own/instances.json", content)
    bad = drafted().bad
    assert len(bad) == 5 and bad[0].startswith("own/instances.json, annotation 1: its box is empty")


def images_where_stores_go(root):
    make_folder(root / "project/data", 10)
    (root / "own").symlink_to("project/data")


def stores_among_images(root):
    make_folder(root, 10)
    (root / "own").symlink_to(".")


def no_labels(root):
    save(root / "own/a.png", shapes(1)[0][0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "own: no such file or folder; give that of your images, texts or log with --data"),
        (
            lambda root: (root / "own").mkdir(),
            "../own: no image, no log and no text; texts are .csv, .tsv, .jsonl",
        ),
        (no_labels, "../own: images, but no labels that are known"),
        (lambda root: ((root / "project").mkdir(), (root / "project/dvc.yaml").touch(), (root / "own").mkdir()), "already"),
        (images_where_stores_go, "project/data: images are where a project's stores would be"),
        (
            stores_among_images,
            "images are where a project's stores would be; make the project in a folder that is not in this one",
        ),
    ],
    ids=["no folder", "no images", "no labels", "a project already", "images where stores go", "stores among images"],
)
def test_what_cannot_be_a_project_is_one_line_and_leaves_nothing(here, make, message):
    make(here)
    before = sorted(str(p) for p in here.rglob("*"))
    done = init("project", "--data", "own")
    assert done.exit_code == 1 and done.output.startswith("error: ") and len(done.output.splitlines()) == 1
    assert message in done.output
    assert sorted(str(p) for p in here.rglob("*")) == before
    shutil.rmtree(here / "own", ignore_errors=True)
