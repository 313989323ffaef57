"""Folders of small images with labels in every format that people have them in: coloured shapes on noise."""

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

SHAPES = ("disc", "ring", "square")
COLOURS = np.array([[220, 60, 50], [60, 200, 70], [70, 90, 230]])


def shape(rng, size=None):
    """(height, width, 3) uint8, the shape's number, its mask."""
    width, height = size or rng.integers(40, 64, 2)
    kind, radius = int(rng.integers(3)), rng.integers(8, 14)
    x, y = rng.integers(radius, width - radius), rng.integers(radius, height - radius)
    down, across = np.mgrid[:height, :width]
    far = np.hypot(down - y, across - x)
    if kind == 2:
        mask = np.maximum(abs(down - y), abs(across - x)) <= radius * 0.8
    else:
        mask = (far <= radius) & ((kind == 0) | (far > radius * 0.5))
    coarse = np.kron(rng.integers(20, 180, (height // 8 + 1, width // 8 + 1, 3)), np.ones((8, 8, 1)))
    image = np.where(mask[..., None], COLOURS[kind], coarse[:height, :width] + rng.normal(0, 8, (height, width, 3)))
    return np.clip(image, 0, 255).astype(np.uint8), kind, mask


def box_of(mask):
    lines, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [int(columns[0]), int(lines[0]), int(columns[-1]) + 1, int(lines[-1]) + 1]


def shapes(number, seed=0, size=None):
    rng = np.random.default_rng(seed)
    return [shape(rng, size) for _ in range(number)]


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def make_folder(root, number=30, seed=0, size=None):
    for i, (image, kind, _) in enumerate(shapes(number, seed, size)):
        save(root / SHAPES[kind] / f"{i:04}.png", image)


def run_lengths(mask):
    flips = np.flatnonzero(np.diff(mask.T.ravel().astype(int), prepend=0))
    return {"counts": np.diff([0, *flips, mask.size]).tolist(), "size": list(mask.shape)}


def make_coco(root, number=30, seed=0, size=None):
    """images/ and instances.json: boxes, masks as run lengths."""
    content = {"images": [], "annotations": [], "categories": [{"id": 10 * k + 7, "name": n} for k, n in enumerate(SHAPES)]}
    for i, (image, kind, mask) in enumerate(shapes(number, seed, size), 1):
        save(root / f"images/{i:04}.png", image)
        height, width = mask.shape
        x0, y0, x1, y1 = box_of(mask)
        content["images"].append({"id": i, "file_name": f"{i:04}.png", "width": width, "height": height})
        content["annotations"].append(
            {
                "id": i,
                "image_id": i,
                "category_id": 10 * kind + 7,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": int(mask.sum()),
                "iscrowd": 0,
                "segmentation": run_lengths(mask),
            }
        )
    write_json(root / "instances.json", content)
    return content


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def make_voc(root, number=30, seed=0, size=None):
    """JPEGImages/, Annotations/, SegmentationClass/, ImageSets/Main/{train,val}.txt."""
    names = [f"{i:04}" for i in range(number)]
    for name, (image, kind, mask) in zip(names, shapes(number, seed, size), strict=True):
        save(root / f"JPEGImages/{name}.png", image)
        write_voc(root / f"Annotations/{name}.xml", mask.shape, [(SHAPES[kind], box_of(mask), 0)])
        save_map(root / f"SegmentationClass/{name}.png", mask * (kind + 1))
    for split, chosen in (("train", names[: number * 2 // 3]), ("val", names[number * 2 // 3 :])):
        path = root / f"ImageSets/Main/{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(chosen))


def write_voc(path, shape, objects):
    """objects: (name, x0 y0 x1 y1 in pixel edges, difficult)."""
    items = "".join(
        f"<object><name>{name}</name><difficult>{hard}</difficult><bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for name, (x0, y0, x1, y1), hard in objects
    )
    size = f"<size><width>{shape[1]}</width><height>{shape[0]}</height><depth>3</depth></size>"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<annotation>{size}{items}</annotation>")


def save_map(path, numbers):
    """A palette PNG, as VOC has them."""
    image = Image.fromarray(numbers.astype(np.uint8), "P")
    image.putpalette(np.random.default_rng(0).integers(0, 255, 768).tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def make_csv(root, number=30, seed=0, size=None):
    """images/ and labels.csv: image, shape, has (several names), red (mean of a channel)."""
    rows = []
    for i, (image, kind, mask) in enumerate(shapes(number, seed, size)):
        save(root / f"images/{i:04}.png", image)
        big = ["big"] if mask.sum() > 250 else []
        rows.append([f"{i:04}.png", SHAPES[kind], ";".join([SHAPES[kind], *big]), image[..., 0].mean().round(2)])
    write_csv(root / "labels.csv", [["image", "shape", "has", "red"], *rows])
    return rows


def write_csv(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with Path(path).open("w", newline="") as file:
        csv.writer(file).writerows(rows)


USERS, MOVIES = 60, 50


def write_movielens(folder: Path) -> None:
    """Users rate what they like: a movie's genre is its number by three."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    genres = ["Comedy", "Drama", "War"]
    movies = "".join(f"{m},Movie {m} (1999),{genres[m % 3]}\n" for m in range(MOVIES))
    (folder / "movies.csv").write_text("movieId,title,genres\n" + movies)
    ratings = []
    for n in range(2500):
        user, movie = rng.integers(USERS), rng.integers(MOVIES)
        if rng.random() < (0.8 if movie % 3 == user % 3 else 0.2):
            ratings.append(f"{user},{movie},{rng.integers(1, 6) if movie % 3 != user % 3 else 5},{1000 + n}\n")
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + "".join(ratings))
