"""The example of the Oxford-IIIT Pet layout, on a small folder of the same layout."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.lineage import open_project
from pipeline.params import CLONE, load_params
from tests.samples import box_of, save, shapes, write_voc

FOLDER = CLONE / "examples/pets"
BREEDS = [("Abyssinian", 1, 1), ("american_bulldog", 2, 2), ("basset_hound", 3, 2)]  # of species 1, cat, or 2, dog


def make_pets(root, number=60):
    """images/Breed_1.jpg, annotations/{list.txt, xmls/, trimaps/}, with the download's odd files."""
    lines = ["#Image CLASS-ID SPECIES BREED ID", "#ID: 1:37 Class ids"]
    for i, (image, kind, mask) in enumerate(shapes(number)):
        breed, number_of, species = BREEDS[kind]
        name = f"{breed}_{i}"
        (root / "images").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / f"images/{name}.jpg")
        lines.append(f"{name} {number_of} {species} 1")
        rim = mask ^ (np.roll(mask, 1, 0) & np.roll(mask, 1, 1))
        trimap = Path(root / f"annotations/trimaps/{name}.png")
        save(trimap, np.where(rim, 3, np.where(mask, 1, 2)).astype(np.uint8))
        if i % 2:
            write_voc(root / f"annotations/xmls/{name}.xml", mask.shape, [(("cat", "dog")[species - 1], box_of(mask), 0)])
    (root / "annotations/list.txt").write_text("\n".join(lines) + "\n")
    (root / "annotations/trimaps/._Abyssinian_0.png").write_bytes(b"of a Mac")
    (root / "images/Abyssinian_0.mat").write_bytes(b"of another program")


@pytest.fixture
def project(tmp_path, monkeypatch):
    for name in ("params.yaml", "dvc.yaml"):
        text = (FOLDER / name).read_text().replace("../../", f"{CLONE}/")
        (tmp_path / name).write_text(text)
    make_pets(tmp_path / "pets")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_its_dvc_yaml_is_in_sync(monkeypatch):
    monkeypatch.chdir(FOLDER)
    assert open_project().tasks.keys() == {"breed", "head", "body"}


def test_the_layout_is_read(project):
    params = load_params(Path("params.yaml"))
    splits = params.source().splits()
    every = [splits[name] for name in ("transfer", "val", "test/clean")]
    has = {task: sum(int(split.labelled[task].sum()) for split in every) for task in params.tasks}
    assert has == {"breed": 60, "head": 30, "body": 60}
    assert splits["unseen/test"].labels.keys() == {"species"}
    clean = splits["test/clean"]
    maps = clean.labels["body"][:]
    assert set(np.unique(maps)) == {0, 1, 255}
    for row in np.flatnonzero(clean.labelled["head"]):
        ((kind, x0, y0, x1, y1),) = clean.labels["head"][row]
        assert (kind == 0) == (clean.labels["breed"][row] == 0)
        body = box_of(maps[row] > 0)
        np.testing.assert_allclose([x0, y0, x1, y1], body, atol=3)
