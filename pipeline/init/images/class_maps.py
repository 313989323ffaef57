"""Folders of class maps: PNG files of one class number per pixel."""

from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.init.images.places import SAMPLE, home_of
from pipeline.init.images.proposal import Labelled, Proposal, add_folder, by_lists, by_which, with_split
from pipeline.sources.vision.images import open_upright
from pipeline.sources.vision.labels import IGNORED

MASKS = ("mask", "masks", "label", "labels", "annotations", "segmentation", "groundtruth", "ground_truth", "gt")  # folders
IMAGES = ("image", "images", "img", "imgs", "photos", "jpegimages", "inputs")


def map_folders(proposal: Proposal, photos: dict[Path, list[Path]], mask_folders: set[Path], data: Path) -> set[Path]:
    used_folders: set[Path] = set()
    tasks: list[Labelled] = []
    for folder in sorted(mask_folders):
        map_files = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".png")
        image_folder = home_of([path.stem for path in map_files], photos, folder)
        sampled_files = map_files[:: max(1, len(map_files) // SAMPLE)]
        numbers_of_files = [np.unique(np.asarray(Image.open(path))).astype(int).tolist() for path in sampled_files]
        all_numbers = {number for file_numbers in numbers_of_files for number in file_numbers}
        numbers = sorted(all_numbers - {0, IGNORED})
        if image_folder and (numbers or IGNORED in all_numbers):
            part = with_split({"masks": str(folder), "images": str(image_folder)}, data, folder, image_folder)
            # black and white: 255 is a class here, not ignored
            part |= {} if numbers else {"values": {0: 0, IGNORED: 1}}
            add_folder(tasks, part, numbers or [1], len(map_files), folder.name)
            proposal.note(photos, image_folder, {path.stem for path in map_files})
            used_folders.add(image_folder)
    for parts, numbers, file_count, folder_names in tasks:
        # every class gets a name: numbers that were not seen may occur in maps that were not looked into
        class_names = [f"class {n}" for n in range(1, max(numbers) + 1)]
        description = f"class maps of {len(class_names)} classes beside background in {file_count} files of {folder_names}"
        description += f"; {IGNORED} is that class" if "values" in parts[0] else ""
        parts = [part | {"classes": class_names} for one in parts for part in by_lists(one, Path(one["masks"]), "Segmentation")]
        proposal.add("segmentation", parts, description + by_which(parts))
    return used_folders


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


def other_masks(images_by_folder: dict[Path, list[Path]], mask_folders: set[Path]) -> list[Path]:
    """Folders named as masks are, beside one of images with the same names, except for an ending such as `_mask`."""
    image_stems = {path.stem for folder, images in images_by_folder.items() if folder.name.lower() in IMAGES for path in images}
    found = []
    for folder in [folder for folder in images_by_folder if folder not in mask_folders and folder.name.lower() in MASKS]:
        mask_stems = [{path.stem, path.stem.rpartition("_")[0]} for path in images_by_folder[folder]]
        if 2 * sum(not stems.isdisjoint(image_stems) for stems in mask_stems) > len(mask_stems):
            found.append(folder)
    return found
