"""What the names and places of images tell: which names refer to them, which are class maps, which objects an XML names."""

from collections import Counter
from pathlib import Path
from statistics import mode
from xml.etree import ElementTree

import numpy as np

from pipeline.init.splits import split_of
from pipeline.sources.vision.images import open_upright

MASKS = ("mask", "masks", "label", "labels", "annotations", "segmentation", "groundtruth", "ground_truth", "gt")  # folders
IMAGES = ("image", "images", "img", "imgs", "photos", "jpegimages", "inputs")
SAMPLE = 200  # files looked into, if all are of one kind


def home_of(names: list[str], photos: dict[Path, list[Path]], labels: Path) -> Path | None:
    """The folder that has images for most of some names, relative to it, with or without ending; among equals the one closest
    to their labels, by the name of its split, then by its place."""
    wanted = [Path(name) for name in names[:SAMPLE] if not Path(name).is_absolute()]
    best, most = None, (0, False, 0)
    for place, inside in photos.items():
        stems = {path.stem for path in inside}
        above = len(place.parts)
        hits = [name for name in wanted if name.stem in stems and place.parts[above + 1 - len(name.parts) :] == name.parts[:-1]]
        split = split_of(labels)
        alike = split is not None and split in {split_of(Path(part)) for part in place.parts}
        rank = len(hits), alike, len([1 for a, b in zip(place.parts, labels.parts, strict=False) if a == b])
        if hits and rank > most:
            depth = mode(len(name.parts) for name in hits) - 1
            best, most = place.parents[depth - 1] if depth else place, rank
    return best


def shared_stems(by_folder: dict[Path, list[Path]]) -> set[str]:
    """Names, without endings, that images in more than one folder have."""
    many = Counter(stem for inside in by_folder.values() for stem in {path.stem for path in inside})
    return {stem for stem, folders in many.items() if folders > 1}


def other_masks(by_folder: dict[Path, list[Path]], maps: set[Path]) -> list[Path]:
    """Folders named as masks are, beside one of images with the same names, except for an ending such as `_mask`."""
    found = []
    for place in [place for place in by_folder if place not in maps and place.name.lower() in MASKS]:
        stems = {path.stem for other in by_folder if other.name.lower() in IMAGES for path in by_folder[other]}
        cut = [{path.stem, path.stem.rpartition("_")[0]} for path in by_folder[place]]
        if 2 * sum(not names.isdisjoint(stems) for names in cut) > len(cut):
            found.append(place)
    return found


def are_maps(inside: list[Path], shared: set[str]) -> bool:
    """Whether a folder's files are class maps: PNG, one number per pixel, few numbers, named like the images of another folder.

    shared: see `shared_stems`.
    """
    if any(path.suffix.lower() != ".png" for path in inside) or not any(path.stem in shared for path in inside):
        return False
    for path in inside[:8]:
        try:
            image = open_upright(path, None)
        except ValueError:
            continue
        if image.mode not in ("P", "L", "1") or (image.mode == "L" and len(np.unique(np.asarray(image))) > 64):
            return False
    return True


def names_in(path: Path) -> list[str] | None:
    """Names of the objects in an XML file in VOC's form; None if it is not XML."""
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError):
        return None
    return [(item.findtext("name") or "").strip() for item in root.iter("object") if item.findtext("name")]
