from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib import image as pixels
from matplotlib import pyplot as plt

from pipeline.project.class_spec import CLONE
from pipeline.project.validation import load_params
from pipeline.reports import pictures
from pipeline.sources.vision.drawing import classes_in_words, draw_image
from pipeline.stores.layout import Field
from pipeline.stores.store import open_store
from pipeline.stores.writer import StoreWriter
from pipeline.tasks.detection import Detection
from pipeline.tasks.multi_label import MultiLabel
from pipeline.tasks.segmentation import Segmentation

SCENES = load_params(CLONE / "params.yaml").source()
TASKS = {
    "what": MultiLabel(classes=10),
    "where": Detection(classes=10, stride=4, box_weight=1),
    "which": Segmentation(classes=11, upscale=2, background_weight=1, temperature=1),
}
BOX = np.array([[3, 4, 4, 14, 16]], np.float32)


@pytest.fixture
def split(tmp_path):
    arrays = {
        "inputs/image": np.full((2, 1, 24, 24), 60, np.uint8),
        "labels/what": np.eye(10, dtype=np.uint8)[[3, 3]],
        "labels/where": [BOX, BOX],
        "labels/which": np.pad(np.full((2, 12, 10), 4, np.uint8), ((0, 0), (4, 8), (4, 10))),
    }
    fields = {n: Field(x[0].shape, x[0].dtype.name) for n, x in arrays.items() if n != "labels/where"}
    fields["labels/where"] = Field((5,), "float32", max_items=3)
    writer = StoreWriter(tmp_path / "s.zarr", np.zeros((2, 16), "u1"), np.zeros(2, "i4"), fields, identity={}, shard_rows=2)
    writer.write(0, arrays)
    writer.publish()
    return open_store(tmp_path / "s.zarr")


def predictions():
    """A network that finds the box in both scenes, and nothing else."""
    heat, box, _ = TASKS["where"].targets(torch.from_numpy(np.stack([BOX, BOX])), torch.Size([6, 6]))
    return {"where": torch.cat([torch.logit(heat.clamp(1e-4, 1 - 1e-4)), box], 1)}


def test_answers_are_what_networks_say():
    ((kind, score, box),) = TASKS["where"].answers(predictions()["where"])["boxes"][0]
    assert kind == 3 and score > 0.99
    np.testing.assert_allclose(box, BOX[0, 1:], atol=1e-4)
    assert TASKS["what"].answers(torch.tensor([[-1.0, 2.0]] * 2))["classes"][1].tolist() == [1]


def test_the_strip_shows_every_column_and_is_the_same_bytes_twice(split, tmp_path):
    for name in ("a.png", "b.png"):
        pictures.strip(SCENES, TASKS, split, {"teacher where": predictions()}, 2, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    picture = pixels.imread(tmp_path / "a.png")[..., :3]
    thirds = np.array_split(picture[25:], 3, axis=1)
    coloured = [(np.ptp(part, axis=2) > 0.2).mean() for part in thirds]
    assert coloured[0] == 0  # the bare scene is grey
    assert coloured[1] > coloured[2] > 0  # the truth has a mask and a box, the detector a box


@pytest.fixture
def figures(monkeypatch):
    """Those that are saved."""
    saved = []
    monkeypatch.setattr(pictures, "save", lambda figure, path: saved.append(figure))
    return saved


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_scores_have_units_a_legend_and_room(figures, tmp_path):
    students = {"labels": {"what": (50.0, 2.0), "average": (50.0, 2.0)}, "fused": {"what": (60.0, 1.0), "average": (60.0, 1.0)}}
    teachers = {"t": {"what": (70.0, 0.0)}, "u": {"what": (90.0, 0.0)}}
    pictures.scores(students, teachers, {"what": MultiLabel(classes=2)}, tmp_path / "scores.png")
    (figure,) = figures
    what, average = figure.axes
    assert what.lines[-1].get_xdata()[0] == 90
    assert (what.get_xlabel(), average.get_xlabel()) == ("points: 100 x macro_AP", "points: 100 x metric")
    assert legend_of(figure) == ["student: mean +- sd over seeds", "best teacher"]
    assert what.get_ylim() == (-0.6, 1.6)


def test_curves_have_a_band_of_their_spread(figures, tmp_path):
    pictures.curves({"labels": [(10, 1.0, 0.5), (20, 2.0, 0.0)], "fused": [(10, 2.0, 1.0), (20, 4.0, 2.0)]}, tmp_path / "c.png")
    (figure,) = figures
    bands = [np.ptp(band.get_paths()[0].vertices[:, 1]) for band in figure.axes[0].collections]
    assert bands == [2 - 0.5, 6 - 1]
    assert legend_of(figure) == ["labels", "fused"]
    assert "sd over seeds" in figure.legends[0].get_title().get_text()


def test_titles_of_the_strip_keep_apart(split, figures, tmp_path):
    columns = {f"teacher {name}": predictions() for name in ("classification", "detection", "segmentation")}
    pictures.strip(SCENES, TASKS, split, columns, 2, tmp_path / "s.png")
    (figure,) = figures
    titles = [axis.title.get_window_extent() for axis in figure.axes[:5]]
    assert all(b.x0 - a.x1 > 8 for a, b in pairwise(titles))


def test_words_of_boxes_cover_no_others_and_stay_in_the_image():
    figure, axis = plt.subplots(figsize=(1.7, 1.7))
    boxes = [(3, 0.9, (2, -2, 10, 8)), (4, 0.8, (3, -1, 11, 9)), (5, None, (14, 1, 30, 12)), (6, 1.0, (13, 20, 23, 26))]
    draw_image(axis, {"image": np.zeros((1, 24, 24), np.uint8)}, {"where": {"boxes": boxes}})
    figure.canvas.draw()
    places = [text.get_window_extent() for text in axis.texts]
    assert all(place.count_overlaps(places) == 1 for place in places)  # itself
    frame = axis.get_window_extent()
    assert all(frame.x0 <= p.x0 and p.x1 <= frame.x1 and frame.y0 <= p.y0 and p.y1 <= frame.y1 for p in places)
    assert all(text.get_fontsize() >= 7.5 for text in axis.texts)
    plt.close(figure)


def test_classes_of_several_tasks_are_told_apart():
    names = {"shape": ["disc", "ring"], "colour": ["red", "blue"]}
    one = {"shape": {"classes": [1]}}
    assert classes_in_words(one, names) == "ring" and classes_in_words({"shape": {"classes": []}}, names) == "none"
    assert classes_in_words({**one, "colour": {"classes": [0]}}, names) == "shape: ring\ncolour: red"
