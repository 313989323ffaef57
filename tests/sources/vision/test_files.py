import shutil
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from pipeline.project.dependencies import data_deps, digest_of_data
from pipeline.sources.vision.files import Files
from pipeline.sources.vision.gathering import read_labels
from pipeline.sources.vision.labels import IGNORED
from tests.samples import (
    SHAPES,
    box_of,
    make_coco,
    make_csv,
    make_folder,
    make_voc,
    save,
    save_map,
    shapes,
    write_json,
    write_voc,
)

SIZE = [32, 40]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(labels, **more):
    return Files(labels=labels, **{"size": SIZE, "seed": 3, "val": 0.2, "test": 0.3, **more})


def by_id(split):
    return {split.sample_id[i].tobytes(): i for i in range(len(split.view)) if split.view[i] == 0}


def everything(splits):
    """{id: (split, row)} of each image as it is."""
    return {key: (splits[name], row) for name in ("transfer", "val", "test/clean") for key, row in by_id(splits[name]).items()}


def names(splits):
    """{id: the split that an image is in}."""
    return {key: name for name in ("transfer", "val", "test/clean") for key in by_id(splits[name])}


def test_a_folder_of_folders_is_classes(here):
    make_folder(here / "in")
    found = everything(files({"shape": {"folder": "in"}}).splits())
    assert len(found) == 30
    colours = np.array([[220, 60, 50], [60, 200, 70], [70, 90, 230]])
    for split, row in found.values():
        image = split.inputs["image"][row : row + 1][0]
        assert image.shape == (3, *SIZE) and image.dtype == np.uint8
        close = (abs(image[:, None].transpose(1, 0, 2, 3) - colours[:, :, None, None]).max(1) < 30).sum((1, 2))
        assert SHAPES[close.argmax()] == sorted(SHAPES)[split.labels["shape"][row]]


def test_coco_boxes_and_masks_lie_in_the_frame_where_their_shapes_are(here):
    make_coco(here, 40, size=(80, 64))  # half the size in the frame, exactly
    part = {"coco": "instances.json", "images": "images"}
    splits = files({"where": part, "which": {**part, "gives": "masks"}, "has": {**part, "gives": "classes"}}).splits()
    wanted = {(kind, *(x / 2 for x in box_of(mask))): mask for _, kind, mask in shapes(40, size=(80, 64))}
    seen = 0
    for split, row in everything(splits).values():
        ((kind, *corners),) = split.labels["where"][row].tolist()
        mask = wanted[(kind, *corners)]
        np.testing.assert_array_equal(split.labels["which"][row : row + 1][0], mask[1::2, 1::2] * (kind + 1))
        assert split.labels["has"][row].tolist() == [k == kind for k in range(3)]
        seen += 1
    assert seen == 40


def test_voc_boxes_and_maps(here):
    make_voc(here, 30, size=(80, 64))
    write_voc(here / "Annotations/0000.xml", (64, 80), [("disc", (2, 4, 20, 30), 0), ("ring", (0, 0, 9, 9), 1)])
    parts = {
        "where": {"voc": "Annotations", "images": "JPEGImages"},
        "which": {"masks": "SegmentationClass", "images": "JPEGImages"},
    }
    found = everything(files(parts).splits())
    order = sorted(SHAPES)
    wanted = {tuple(x / 2 for x in box_of(mask)): (kind, mask) for _, kind, mask in shapes(30, size=(80, 64))}
    seen = 0
    for split, row in found.values():
        (kind, *corners), *more = split.labels["where"][row].tolist()
        if corners == [1, 2, 10, 15]:
            assert order[int(kind)] == "disc"
            assert more == [[-2 - order.index("ring"), 0, 0, 4.5, 4.5]]  # the difficult one is ignored
            continue
        number, mask = wanted[tuple(corners)]
        assert order[int(kind)] == SHAPES[number]
        np.testing.assert_array_equal(split.labels["which"][row : row + 1][0], mask[1::2, 1::2] * (number + 1))
        seen += 1
    assert seen == 29


def test_csv_of_a_class_several_and_an_unseen_number(here):
    rows = make_csv(here, 60)
    part = {"csv": "labels.csv", "images": "images"}
    labels = {"shape": {**part, "label": "shape"}, "has": {**part, "label": "has", "gives": "classes"}}
    source = files(labels, unseen={"red": {**part, "label": "red", "gives": "number"}})
    splits = source.splits()
    wanted = sorted((sorted(SHAPES).index(shape), "big" in has) for _, shape, has, _ in rows)
    found = sorted((int(s.labels["shape"][r]), bool(s.labels["has"][r][0])) for s, r in everything(splits).values())
    assert found == wanted  # of "has", sorted, "big" is the first
    assert splits["unseen/test"].labels.keys() == {"red"}
    assert len(splits["unseen/train"].view) == len(splits["val"].view)
    reds = {round(float(row[3]), 2) for row in rows}
    assert all(round(float(x), 2) in reds for x in splits["unseen/test"].labels["red"])


def test_cells_with_blanks_or_over_two_lines_and_empty_ones_that_are_no_label(here):
    rows = make_csv(here, 30)
    lines = [
        f'{name}, {shape if i > 3 else ""}, "a\nb", {red if i > 5 else ""}, {has if i > 7 else ""}'
        for i, (name, shape, has, red) in enumerate(rows)
    ]
    (here / "labels.csv").write_text("\n".join(["image, shape, note, red, has", *lines]))
    part = {"csv": "labels.csv", "images": "images"}
    labels = {"shape": {**part, "label": "shape"}, "has": {**part, "label": "has", "gives": "classes"}}
    source = files(labels, unseen={"red": {**part, "label": "red", "gives": "number"}})
    found, bad = read_labels(source.parts | source.unseen)
    assert bad == [] and {name: len(of[0].labels) for name, of in found.items()} == {"shape": 26, "has": 30, "red": 24}
    assert sorted(shape for _, shape in found["shape"][0].labels) == sorted(row[1] for row in rows[4:])
    assert [has for _, has in found["has"][0].labels if not has] == [[]] * 8


def test_several_columns_and_no_header(here):
    make_folder(here / "in", 30)
    lines = [f"{p.stem} {int(p.parent.name == 'disc')} 1" for p in sorted((here / "in").rglob("*.png"))]
    (here / "list.txt").write_text("# a comment\n" + "\n".join(lines))
    part = {"csv": "list.txt", "images": "all", "delimiter": " ", "columns": ["name", "disc", "one"], "path": "name"}
    (here / "all").mkdir()
    for path in (here / "in").rglob("*.png"):
        shutil.copy(path, here / "all" / path.name)
    splits = files({"has": {**part, "label": ["disc", "one"], "gives": "classes"}}).splits()
    said = np.concatenate([split.labels["has"] for name, split in splits.items() if name != "test/corrupted"])
    assert said.shape[1] == 2 and (said[:, 0] <= said[:, 1]).all()


def test_each_task_has_labels_on_its_own_images_and_one_image_may_have_several(here):
    make_coco(here / "a", 30, seed=1)
    make_folder(here / "b", 30, seed=2)
    first = sorted((here / "a/images").iterdir())[:10]
    for path in first:  # the same content under another name, in another class's folder
        (here / "b/disc").mkdir(exist_ok=True)
        shutil.copy(path, here / "b/disc" / f"again-{path.name}")
    splits = files({"where": {"coco": "a/instances.json", "images": "a/images"}, "shape": {"folder": "b"}}, views=2).splits()
    found = everything(splits)
    has = np.array([[bool(s.labelled[task][row]) for task in ("where", "shape")] for s, row in found.values()])
    assert has.sum(0).tolist() == [30, 40] and has.all(1).sum() == 10 and len(has) == 60
    transfer = splits["transfer"]
    assert not transfer.labelled["shape"][transfer.view == 1].any()
    assert (transfer.labels["shape"][~transfer.labelled["shape"]] == -1).all()
    assert all(
        len(boxes) == 0 for boxes, flag in zip(transfer.labels["where"], transfer.labelled["where"], strict=True) if not flag
    )


def test_nearly_the_same_images_are_in_one_split(here):
    make_folder(here / "in", 40)
    for path in sorted((here / "in").rglob("*.png")):
        image = Image.open(path)
        image.resize((image.width * 2, image.height * 2)).save(path.with_name(f"{path.stem}-large.png"))
        image.save(path.with_name(f"{path.stem}.jpg"), quality=60)
        ImageEnhance.Brightness(image).enhance(1.1).save(path.with_name(f"{path.stem}-light.png"))
    source = files({"shape": {"folder": "in"}})
    samples, split_of, _ = source.collect()
    assert len(samples) == 160
    places = {}
    for sample, split in zip(samples, split_of, strict=True):
        places.setdefault(sample.path.stem[:4], set()).add(split)
    assert all(len(found) == 1 for found in places.values())
    assert {next(iter(found)) for found in places.values()} == {"train", "val", "test"}


def test_new_images_leave_the_others_where_they_are(here):
    make_folder(here / "in", 40)
    old = names(files({"shape": {"folder": "in"}}).splits())
    for number, (image, kind, _) in enumerate(shapes(50, seed=9)):
        save(here / "in" / SHAPES[kind] / f"new{number}.png", image)
    new = names(files({"shape": {"folder": "in"}}).splits())
    assert len(new) == 90 and all(new[key] == name for key, name in old.items())
    assert names(files({"shape": {"folder": "in"}}, seed=4).splits()) != new


def test_a_declared_split_is_kept(here):
    make_voc(here, 30)
    part = {"voc": "Annotations", "images": "JPEGImages"}
    train = {**part, "only": "ImageSets/Main/train.txt", "split": "train"}
    held_out = {**part, "only": "ImageSets/Main/val.txt", "split": "test"}
    splits = files({"where": [train, held_out]}).splits()
    assert len(splits["test/clean"].view) == 10 and len(splits["val"].view) > 0
    assert len(by_id(splits["transfer"])) + len(splits["val"].view) == 20


@pytest.mark.parametrize("near", [False, True])
def test_a_leak_names_both_files(here, near):
    make_folder(here / "train", 20, seed=1)
    make_folder(here / "test", 20, seed=2)
    path = sorted((here / "train/disc").iterdir())[0]
    copy = here / "test/disc" / ("copy.jpg" if near else "copy.png")
    Image.open(path).save(copy, quality=80)
    with pytest.raises(ValueError, match="a leak") as error:
        files({"shape": [{"folder": "train", "split": "train"}, {"folder": "test", "split": "test"}]}).splits()
    assert str(path.relative_to(here)) in str(error.value) and str(copy.relative_to(here)) in str(error.value)


def test_a_leak_across_tasks_names_both_files(here):
    make_coco(here / "a", 20, seed=1)
    make_folder(here / "b", 20, seed=2)
    (here / "b/disc").mkdir(exist_ok=True)
    shutil.copy(here / "a/images/0003.png", here / "b/disc/other.png")
    where = {"coco": "a/instances.json", "images": "a/images", "split": "train"}
    with pytest.raises(ValueError, match=r"a leak") as error:
        files({"where": where, "shape": {"folder": "b", "split": "test"}}).splits()
    assert "a/images/0003.png" in str(error.value) and "b/disc/other.png" in str(error.value)


def test_views_are_the_same_whatever_slice_is_read(here):
    make_coco(here, 20)
    part = {"coco": "instances.json", "images": "images"}
    source = files({"where": part, "which": {**part, "gives": "masks"}}, views=3, flip=False)
    transfer = source.splits()["transfer"]
    whole = transfer.inputs["image"][:]
    parts = np.concatenate([transfer.inputs["image"][i : i + 7] for i in range(0, len(whole), 7)])
    np.testing.assert_array_equal(whole, parts)
    np.testing.assert_array_equal(whole, source.splits()["transfer"].inputs["image"][:])
    assert sorted(np.unique(transfer.view, return_counts=True)[1].tolist())[0] == len(whole) // 3
    ids = by_id(transfer)
    looks = [(whole[i], whole[ids[transfer.sample_id[i].tobytes()]]) for i in np.flatnonzero(transfer.view > 0)]
    alike = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in looks]
    strangers = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for (a, _), (_, b) in pairwise(looks)]
    assert all((a != b).any() for a, b in looks) and np.mean(alike) > np.mean(strangers) + 0.2


def test_values_of_a_mask_are_mapped_and_255_is_ignored(here):
    for i, (image, _, mask) in enumerate(shapes(40, size=(80, 64))):
        save(here / f"images/{i}.png", image)
        save_map(here / f"masks/{i}.png", np.where(mask, 1, 2) + (np.arange(80) == 0))
    part = {"masks": "masks", "images": "images", "values": {1: 1, 2: 0, 3: 255}, "classes": ["pet"]}
    split = files({"which": part}).splits()["val"]
    maps = split.labels["which"][:]
    assert set(np.unique(maps)) == {0, 1} | ({IGNORED} if (maps == IGNORED).any() else set())


def test_unlabelled_images_are_for_the_transfer_set(here):
    make_folder(here / "in", 20, seed=1)
    make_folder(here / "more", 20, seed=2)
    splits = files({"shape": {"folder": "in"}}, unlabelled=["more"]).splits()
    transfer = splits["transfer"]
    images = by_id(transfer)
    assert len(images) + len(splits["val"].view) + len(splits["test/clean"].view) == 40
    assert sum(not transfer.labelled["shape"][row] for row in images.values()) == 20
    assert all(flags.all() for name in ("val", "test/clean") for flags in splits[name].labelled.values())


def test_bad_files_are_counted_and_skipped_if_asked(here, capsys):
    make_folder(here / "in", 30)
    for number in range(12):
        (here / "in/disc" / f"bad{number:02}.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"12 labels or images cannot be used: in/disc/bad00.png.*skip_bad") as error:
        files({"shape": {"folder": "in"}}).splits()
    assert str(error.value).count("in/disc/bad") == 3
    assert capsys.readouterr().err.count("bad: in/disc/bad") == 12
    splits = files({"shape": {"folder": "in"}}, skip_bad=True).splits()
    assert len(everything(splits)) == 30
    said = capsys.readouterr().err
    assert said.count("skipped: in/disc/bad") == 12 and "skipped: 12 labels or images in all" in said


def test_a_preview_is_like_the_transfer_set(here):
    make_coco(here, 40)
    part = {"coco": "instances.json", "images": "images"}
    source = files({"where": part, "which": {**part, "gives": "masks"}, "has": {**part, "gives": "classes"}})
    rows, few = source.preview()
    transfer = source.splits()["transfer"]
    assert abs(rows - len(transfer.view)) < 20
    for name, x in few.fields().items():
        other = transfer.fields()[name]
        assert isinstance(x, list) == isinstance(other, list)
        assert (x[0].shape[1:], x[0].dtype) == (other[0:1][0].shape[1:], other[0:1][0].dtype)
    assert all(flag.any() for flag in few.labelled.values())


def test_single_images_are_read_as_the_transfer_set_has_them(here):
    make_folder(here / "in", 12)
    source = files({"shape": {"folder": "in", "classes": list(SHAPES)}})
    path = sorted((here / "in").rglob("*.png"))[0]
    ((name, inputs),) = source.read(str(path))
    assert name == path.stem and inputs["image"].shape == (3, *SIZE)
    assert source.words(inputs, {"shape": {"classes": [1]}}) == "shape: ring"


def test_data_that_changes_is_other_data(here):
    make_folder(here / "in", 4)
    before = digest_of_data(["in"])
    path = sorted((here / "in").rglob("*.png"))[0]
    assert digest_of_data(["in"]) == before
    path.rename(path.with_name("renamed.png"))
    renamed = digest_of_data(["in"])
    path.with_name("renamed.png").write_bytes(b"other")
    assert len({before, renamed, digest_of_data(["in"])}) == 3


def test_what_the_source_reads_is_what_prepare_depends_on(here):
    make_voc(here, 3)

    class Params:
        class prepare:
            class source:
                arguments = {
                    "labels": {"a": [{"voc": "Annotations", "images": "JPEGImages/", "only": "ImageSets/Main/val.txt"}]},
                    "unlabelled": ["gone", "listed"],
                    "how": "pad",
                }

    assert data_deps(Params, ["listed"]) == ["Annotations", "ImageSets/Main/val.txt", "JPEGImages", "listed"]


def test_classes_that_params_leave_out_have_the_names_of_their_labels(here):
    make_folder(here / "in", 12)
    source = files({"shape": {"folder": "in"}})
    assert source.names == {"shape": sorted(SHAPES)}
    shutil.rmtree(here / "in")
    assert files({"shape": {"folder": "in"}}).names == {"shape": []}


def test_an_image_that_two_files_speak_of_has_the_same_boxes_in_any_order(here):
    content = make_coco(here / "coco", 12)
    content["annotations"] += [{**item, "id": item["id"] + 100, "bbox": [0, 0, 9, 9]} for item in content["annotations"]]
    write_json(here / "coco/instances.json", content)
    write_json(here / "coco/again.json", content | {"annotations": content["annotations"][::-1]})
    parts = [{"coco": f"coco/{name}.json", "images": "coco/images"} for name in ("instances", "again")]
    assert len(everything(files({"found": parts}).splits())) == 12


def test_endings_may_be_in_capitals(here):
    make_voc(here, 12)
    for folder in ("Annotations", "SegmentationClass"):
        for path in (here / folder).iterdir():
            path.rename(path.with_suffix(path.suffix.upper()))
    labels = {"where": {"voc": "Annotations"}, "which": {"masks": "SegmentationClass"}}
    parts = {task: {**part, "images": "JPEGImages"} for task, part in labels.items()}
    assert len(everything(files(parts).splits())) == 12


def test_several_columns_are_classes(here):
    with pytest.raises(ValueError, match=r"labels.a.label: several columns are classes; add `gives: classes`"):
        files({"a": {"csv": "a.csv", "images": "images", "label": ["u", "v"]}})
