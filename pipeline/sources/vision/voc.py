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
    listed_images, objects_by_image = listed(part, images, found.bad), {}
    for file in files:
        image = images.find(file.relative_to(folder).with_suffix("").as_posix())
        try:
            if image is None:
                raise ValueError(f"no image {file.stem!r} in {part.images}")
            if image in listed_images:
                found.sizes[image], objects_by_image[image] = objects_of(file)
        except ValueError as error:
            found.bad.append(f"{file}: {error}")
    found.classes = part.names or sorted({name for objects in objects_by_image.values() for name, *_ in objects})
    for image, objects in objects_by_image.items():
        unknown_names = [name for name, *_ in objects if name not in found.classes]
        if unknown_names:
            found.bad.append(f"{part.voc}/{image.stem}.xml: {no_class(unknown_names[0], found.classes)}")
        else:
            class_names = sorted({name for name, *_, difficult in objects if not difficult})
            found.labels.append((image, objects if part.kind == "boxes" else class_names))
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
    objects = []
    for position, item in enumerate(root.iter("object"), 1):
        difficult = item.findtext("difficult", "0").strip() == "1"
        name = (item.findtext("name") or "").strip()
        try:
            if not name:
                raise ValueError("it has no <name>")
            x0, y0, x1, y1 = (number(item, f"bndbox/{corner}") for corner in ("xmin", "ymin", "xmax", "ymax"))
            objects.append((name, *checked_box((x0 - 1, y0 - 1, x1, y1), width, height), difficult))
        except ValueError as error:
            raise ValueError(f"object {position}: {error}") from None
    return (width, height), objects


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
    listed_images = listed(part, images, found.bad)
    for file in files:
        image = images.find(file.relative_to(folder).with_suffix("").as_posix())
        if image is None:
            found.bad.append(f"{file}: no image {file.stem!r} in {part.images}")
        elif image in listed_images:
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
        class_number = values[value] if values else value
        if classes and class_number > len(classes) and class_number != IGNORED:
            raise ValueError(f"{file}: class {class_number}, but there are names for 1 to {len(classes)}; 255 is ignored")
    if not values:
        return pixels
    class_of_value = np.zeros(256, np.uint8)
    class_of_value[list(values)] = list(values.values())
    return class_of_value[pixels]
