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


def home_of(names: list[str], photos: dict[Path, list[Path]], labels_path: Path) -> Path | None:
    """The folder that has images for most of some names, relative to it, with or without ending; among equals the one closest
    to their labels, by the name of its split, then by its place."""
    relative_paths = [Path(name) for name in names[:SAMPLE] if not Path(name).is_absolute()]
    best_folder, best_rank = None, (0, False, 0)
    for folder, images in photos.items():
        stems = {path.stem for path in images}
        part_count = len(folder.parts)
        hits = [
            path
            for path in relative_paths
            if path.stem in stems and folder.parts[part_count + 1 - len(path.parts) :] == path.parts[:-1]
        ]
        split = split_of(labels_path)
        same_split = split is not None and split in {split_of(Path(part)) for part in folder.parts}
        rank = len(hits), same_split, len([1 for a, b in zip(folder.parts, labels_path.parts, strict=False) if a == b])
        if hits and rank > best_rank:
            depth = mode(len(path.parts) for path in hits) - 1
            best_folder, best_rank = folder.parents[depth - 1] if depth else folder, rank
    return best_folder


def shared_stems(images_by_folder: dict[Path, list[Path]]) -> set[str]:
    """Names, without endings, that images in more than one folder have."""
    folder_counts = Counter(stem for images in images_by_folder.values() for stem in {path.stem for path in images})
    return {stem for stem, count in folder_counts.items() if count > 1}


def other_masks(images_by_folder: dict[Path, list[Path]], mask_folders: set[Path]) -> list[Path]:
    """Folders named as masks are, beside one of images with the same names, except for an ending such as `_mask`."""
    found = []
    for folder in [folder for folder in images_by_folder if folder not in mask_folders and folder.name.lower() in MASKS]:
        image_stems = {
            path.stem for other in images_by_folder if other.name.lower() in IMAGES for path in images_by_folder[other]
        }
        mask_stems = [{path.stem, path.stem.rpartition("_")[0]} for path in images_by_folder[folder]]
        if 2 * sum(not stems.isdisjoint(image_stems) for stems in mask_stems) > len(mask_stems):
            found.append(folder)
    return found


def are_maps(files: list[Path], common_stems: set[str]) -> bool:
    """Whether a folder's files are class maps: PNG, one number per pixel, few numbers, named like the images of another folder.

    common_stems: see `shared_stems`.
    """
    if any(path.suffix.lower() != ".png" for path in files) or not any(path.stem in common_stems for path in files):
        return False
    for path in files[:8]:
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
