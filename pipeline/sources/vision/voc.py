"""Pascal VOC: an XML file of boxes per image, and class maps as PNG files."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from pipeline.sources.vision.images import open_upright
from pipeline.sources.vision.labels import IGNORED, Found, ImageFolder, Part, checked_box, listed, no_class, text_of


def read_voc(part: Part) -> Found:
    """Boxes of <object>s, difficult ones ignored, like COCO's crowds. VOC counts pixels from 1, ends included."""
    assert part.voc and part.images
    images, found, folder = ImageFolder(part.images), Found(), Path(part.voc)
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".xml" and path.name[0] != ".")
    if not files:
        raise ValueError(f"{part.voc}: no .xml file in this folder; expected one per image")
    wanted, boxes = listed(part, images, found.bad), {}
    for file in files:
        image = images.find(file.relative_to(folder).with_suffix("").as_posix())
        try:
            if image is None:
                raise ValueError(f"no image {file.stem!r} in {part.images}")
            if image in wanted:
                found.sizes[image], boxes[image] = objects_of(file)
        except ValueError as error:
            found.bad.append(f"{file}: {error}")
    found.classes = part.names or sorted({name for rows in boxes.values() for name, *_ in rows})
    for image, rows in boxes.items():
        strange = [name for name, *_ in rows if name not in found.classes]
        if strange:
            found.bad.append(f"{part.voc}/{image.stem}.xml: {no_class(strange[0], found.classes)}")
        else:
            plain = sorted({name for name, *_, difficult in rows if not difficult})
            found.labels.append((image, rows if part.kind == "boxes" else plain))
    return found


def objects_of(file: Path) -> tuple[tuple[int, int], list[tuple]]:
    """The image's (width, height), and (name, x0, y0, x1, y1, whether it is difficult) of its objects, in pixel edges."""
    text = text_of(file)
    if "<!ENTITY" in text:
        raise ValueError("declares entities, which are refused")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"cannot be read as XML: {error}") from None
    width, height = (int(number(root, f"size/{side}")) for side in ("width", "height"))
    rows = []
    for place, item in enumerate(root.iter("object"), 1):
        difficult = item.findtext("difficult", "0").strip() == "1"
        name = (item.findtext("name") or "").strip()
        try:
            if not name:
                raise ValueError("it has no <name>")
            x0, y0, x1, y1 = (number(item, f"bndbox/{corner}") for corner in ("xmin", "ymin", "xmax", "ymax"))
            rows.append((name, *checked_box((x0 - 1, y0 - 1, x1, y1), width, height), difficult))
        except ValueError as error:
            raise ValueError(f"object {place}: {error}") from None
    return (width, height), rows


def number(node: ElementTree.Element, path: str) -> float:
    text = node.findtext(path)
    try:
        return float(text or "")
    except ValueError:
        raise ValueError(f"<{path}> is {text!r}, expected a number") from None


def read_masks(part: Part) -> Found:
    """A PNG per image, of the same name, its pixels class numbers (colours do not matter); 255 is ignored."""
    assert part.masks and part.images
    images, found, folder = ImageFolder(part.images), Found(classes=part.names or []), Path(part.masks)
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".png" and path.name[0] != ".")
    if not files:
        raise ValueError(f"{part.masks}: no .png file in this folder; expected a class map per image")
    wanted = listed(part, images, found.bad)
    for file in files:
        image = images.find(file.relative_to(folder).with_suffix("").as_posix())
        if image is None:
            found.bad.append(f"{file}: no image {file.stem!r} in {part.images}")
        elif image in wanted:
            draw: Callable[..., Any] = partial(class_map, file, part.values)
            found.labels.append((image, draw))
    return found


def class_map(file: Path, values: dict[int, int] | None, classes: list[str], width: int, height: int) -> np.ndarray:
    """(height, width) uint8. Raises ValueError on another size, or a class that has no name if any has."""
    image = open_upright(file, None)
    if image.mode not in ("P", "L", "1"):
        raise ValueError(f"{file}: its pixels are {image.mode}, expected one class number each: an 8-bit PNG, grey or palette")
    if image.size != (width, height):
        raise ValueError(f"{file}: {image.width} x {image.height} pixels, its image has {width} x {height}")
    pixels = np.asarray(image).astype(np.uint8)
    for value in np.unique(pixels).tolist():
        if values is not None and value not in values:
            raise ValueError(f"{file}: pixel {value} is not in values, which has {', '.join(map(str, values))}")
        mapped = values[value] if values else value
        if classes and mapped > len(classes) and mapped != IGNORED:
            raise ValueError(f"{file}: class {mapped}, but there are names for 1 to {len(classes)}; 255 is ignored")
    if not values:
        return pixels
    table = np.zeros(256, np.uint8)
    table[list(values)] = list(values.values())
    return table[pixels]
