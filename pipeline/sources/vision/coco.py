"""COCO JSON: boxes, and masks as polygons or run lengths, drawn as COCO's own library draws them."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.sources.vision.labels import IGNORED, Found, ImageFolder, Part, checked_box, listed, no_class, text_of

STEPS = 5  # points per pixel along a polygon's edge
POLYGONS = "its segmentation is not a list of polygons x, y, x, y, x, y, ..."
BOX = "its bbox is not a list of four numbers x, y, width, height"


def read_coco(part: Part) -> Found:
    """Several files may describe one image set: categories are merged by name, and an image's objects from all files.

    Crowds are ignored, as boxes and on a class map. Where objects overlap, the smaller one is on top.
    """
    assert part.coco and part.images
    images, found = ImageFolder(part.images), Found()
    listed_images = listed(part, images, found.bad)
    objects_by_image: dict[Path, list] = {}
    spoilt_images: set[Path | None] = set()
    files = [part.coco] if isinstance(part.coco, str) else part.coco
    for file in files:
        content = content_of(file)
        categories = unique(file, "categories", content, "name")
        found.classes += [name for name in categories.values() if name not in found.classes]
        images_by_id: dict[Any, Path | None] = {}
        for image_id, item in unique(file, "images", content, "file_name", whole=True).items():
            image = images.find(item["file_name"])
            if image is None:
                found.bad.append(f"{file}, image {image_id}: no image {item['file_name']!r} in {part.images}")
            elif image in listed_images:
                images_by_id[image_id] = image
                found.sizes[image] = item["width"], item["height"]
                objects_by_image.setdefault(image, [])
            else:
                images_by_id[image_id] = None
        for number, item in enumerate(content["annotations"], 1):
            if not isinstance(item, dict):
                found.bad.append(f"{file}, entry {number} of annotations: {item!r:.80}, expected an object with an image_id")
                continue
            image = None
            try:
                image = named(item, "image_id", images_by_id, "image")
                if image:
                    objects_by_image[image].append(object_of(item, categories, part, found.sizes[image]))
            except (KeyError, ValueError) as error:
                spoilt_images.add(image)
                problem = f"no {error}" if isinstance(error, KeyError) else error
                found.bad.append(f"{file}, annotation {item.get('id', f'at place {number}')}: {problem}")
    found.classes = part.names or found.classes
    found.labels = [(image, label(part, rows)) for image, rows in objects_by_image.items() if image not in spoilt_images]
    return found


def content_of(file: str) -> dict[str, Any]:
    try:
        content = json.loads(text_of(Path(file)))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file}: cannot be read as JSON: {error}") from None
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(f"{file}: no list {key!r}; expected COCO's images, annotations and categories")
    return content


def unique(file: str, kind: str, content: dict[str, Any], name: str, whole: bool = False) -> dict[Any, Any]:
    """{id: name, or the whole item} of images or categories. Raises ValueError on what is missing or repeated."""
    items_by_id: dict[Any, Any] = {}
    for number, item in enumerate(content[kind], 1):
        if not isinstance(item, dict) or not isinstance(item.get("id"), int) or not isinstance(item.get(name), str):
            expected = f"expected an object with an id, a whole number, and a {name}, a text"
            raise ValueError(f"{file}, entry {number} of {kind}: {item!r:.80}, {expected}")
        if item["id"] in items_by_id:
            raise ValueError(f"{file}: {kind}: id {item['id']} comes twice")
        if whole and not all(isinstance(item.get(side), int) and item[side] > 0 for side in ("width", "height")):
            raise ValueError(f"{file}: image {item['id']}: its width and height are not whole numbers above 0")
        items_by_id[item["id"]] = item if whole else item[name]
    if not whole and len(set(items_by_id.values())) < len(items_by_id):
        raise ValueError(f"{file}: two categories have the same name")
    return items_by_id


def named(item: dict[str, Any], key: str, values_by_id: dict[int, Any], what: str) -> Any:
    """What an id stands for. Raises KeyError, ValueError."""
    if not isinstance(item[key], int | float) or item[key] not in values_by_id:
        raise ValueError(f"no {what} with id {item[key]!r:.80}")
    return values_by_id[item[key]]


def numbers(values: Any, expected: str) -> np.ndarray:
    """(n,) float64. Raises ValueError, saying what was expected."""
    try:
        array = np.array(values, float)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(expected) from None
    if array.ndim != 1:
        raise ValueError(expected)
    return array


def object_of(item: dict[str, Any], categories: dict[int, str], part: Part, size: tuple[int, int]) -> tuple[str, bool, Any]:
    """(class, whether it is a crowd, its box, or run lengths, or None). Raises ValueError, KeyError."""
    name, crowd = named(item, "category_id", categories, "category"), bool(item.get("iscrowd", 0))
    if part.names and name not in part.names:
        raise ValueError(no_class(name, part.names))
    if part.kind == "masks":
        return name, crowd, toggles(item["segmentation"], *size)
    if part.kind == "classes":
        return name, crowd, None
    box = numbers(item["bbox"], BOX)
    if len(box) != 4:
        raise ValueError(BOX)
    x, y, w, h = box.tolist()
    return name, crowd, checked_box((x, y, x + w, y + h), *size)


def label(part: Part, objects: list[tuple[str, bool, Any]]) -> Any:
    if part.kind == "boxes":
        return [(name, *box, crowd) for name, crowd, box in objects]
    if part.kind == "classes":
        return sorted({name for name, _, _ in objects})
    return partial(class_map, objects)


def class_map(objects: list[tuple[str, bool, np.ndarray]], classes: list[str], width: int, height: int) -> np.ndarray:
    """(height, width) uint8; crowds lie below everything."""
    map_HW = np.zeros((height, width), np.uint8)
    masks = [(name, crowd, filled(ends, width, height)) for name, crowd, ends in objects]
    for name, crowd, mask in sorted(masks, key=lambda m: (not m[1], -int(m[2].sum()))):
        map_HW[mask] = IGNORED if crowd else 1 + classes.index(name)
    return map_HW


def filled(ends: np.ndarray, width: int, height: int) -> np.ndarray:
    """(height, width) bool, of the places down the columns at which a mask begins or ends: inside at odd counts."""
    flips = np.bincount(ends, minlength=width * height + 1)[: width * height]
    return (flips.cumsum() % 2 == 1).reshape(width, height).T


def toggles(segmentation: Any, width: int, height: int) -> np.ndarray:
    """Where a mask begins or ends, as `filled` takes it, from polygons or run lengths, packed or not."""
    if isinstance(segmentation, list):
        if not segmentation or not all(isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0 for p in segmentation):
            raise ValueError(POLYGONS)
        outlines = [outline(numbers(polygon, POLYGONS), width, height) for polygon in segmentation]
        return outlines[0] if len(outlines) == 1 else edges(np.any([filled(ends, width, height) for ends in outlines], axis=0))
    if not isinstance(segmentation, dict) or not {"counts", "size"} <= segmentation.keys():
        raise ValueError("its segmentation has neither polygons nor run lengths (counts and size)")
    if segmentation["size"] != [height, width]:
        raise ValueError(f"its mask has size {segmentation['size']}, its image has height, width [{height}, {width}]")
    counts = segmentation["counts"]
    runs = numbers(unpacked(counts) if isinstance(counts, str) else counts, "its run lengths are no list of numbers")
    if not (runs >= 0).all() or (runs != np.rint(runs)).any() or runs.sum() != width * height:
        raise ValueError(f"its run lengths do not fill an image of {width} x {height}")
    return np.cumsum(runs.astype(int))


def edges(mask: np.ndarray) -> np.ndarray:
    """Where a mask begins or ends, down the columns."""
    return np.flatnonzero(np.diff(mask.T.ravel().astype(np.int8), prepend=0, append=0))


def unpacked(text: str) -> list[int]:
    """Run lengths from COCO's text: 5 bits per letter, from the third on as differences from the last but one."""
    counts: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 30:
            raise ValueError("its run lengths are not as COCO writes them")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("its run lengths end in the middle of a number")
    return counts


def outline(polygon: np.ndarray, width: int, height: int) -> np.ndarray:
    """Where the columns cross a polygon, rounded as pycocotools' rleFrPoly does, so that masks agree to the pixel."""
    if not np.isfinite(polygon).all() or np.abs(polygon).max() > 10 * max(width, height):
        raise ValueError("its polygon lies far outside the image, or is not of finite numbers")
    corners = np.trunc(STEPS * polygon.reshape(-1, 2) + 0.5).astype(int)
    pieces = [edge_points(start, end) for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True)]
    x, y = np.concatenate(pieces).T
    step = x[1:] != x[:-1]
    across = (np.where(x[1:] < x[:-1], x[1:], x[1:] - 1)[step] + 0.5) / STEPS - 0.5
    down = (np.minimum(y[1:], y[:-1])[step] + 0.5) / STEPS - 0.5
    is_whole = (np.floor(across) == across) & (across >= 0) & (across <= width - 1)
    lines = np.ceil(np.clip(down[is_whole], 0, height)).astype(int)
    return across[is_whole].astype(int) * height + lines


def edge_points(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Points of the fine grid along an edge, both ends included: (n, 2)."""
    long = int(np.abs(b - a)[1] > np.abs(b - a)[0])  # the axis that it is walked along
    backwards = a[long] > b[long]
    start, end = (b, a) if backwards else (a, b)
    steps = np.arange(end[long] - start[long] + 1)
    slope = (end[1 - long] - start[1 - long]) / max(1, len(steps) - 1)
    points = np.empty((len(steps), 2), int)
    points[:, long] = start[long] + steps
    points[:, 1 - long] = np.trunc(start[1 - long] + slope * steps + 0.5)
    return points[::-1] if backwards else points
