"""What a folder of images holds, found by looking into it: which labels, of which tasks, in which format."""

from pathlib import Path

from pipeline.init.images.class_maps import are_maps, map_folders, other_masks
from pipeline.init.images.coco import coco_files
from pipeline.init.images.folders import class_folders
from pipeline.init.images.places import shared_stems
from pipeline.init.images.proposal import Proposal
from pipeline.init.images.tables import tables
from pipeline.init.images.voc import voc_folders
from pipeline.sources.vision.images import ENDINGS

SHOWN = 3  # files left out, in an error
UNREAD = (".heic", ".heif", ".avif", ".jxl", ".svg")  # image formats that are not read


def propose(data: Path, files: list[Path]) -> Proposal:
    """Labels for the folder `data`, with images. files: all that is in it. Raises ValueError if there are no labels."""
    proposal = Proposal()
    image_files = [path for path in files if path.suffix.lower() in ENDINGS]
    images_by_folder: dict[Path, list[Path]] = {}
    for path in image_files:
        images_by_folder.setdefault(path.parent, []).append(path)
    common_stems = shared_stems(images_by_folder)
    mask_folders = {folder for folder, images in images_by_folder.items() if are_maps(images, common_stems)}
    for folder in [folder for folder in mask_folders if "object" in folder.name.lower() or "instance" in folder.name.lower()]:
        proposal.said.append(f"{folder}: maps of single objects, by their name: left out")
        del images_by_folder[folder]
    mask_folders &= set(images_by_folder)
    for folder in other_masks(images_by_folder, mask_folders):
        proposal.leave_out(
            folder, "masks, by its name; expected PNG files of one class number a pixel, each called as its image is"
        )
        del images_by_folder[folder]
    photos = {folder: images for folder, images in images_by_folder.items() if folder not in mask_folders}
    used_folders = coco_files(proposal, files, photos, data) | voc_folders(proposal, files, photos, data)
    used_folders |= map_folders(proposal, photos, mask_folders, data)
    tables(proposal, files, photos)
    unlabelled_counts = {folder: len(images) - proposal.named.get(folder, 0) for folder, images in photos.items()}
    used_folders |= {folder for folder, count in proposal.named.items() if count > unlabelled_counts[folder]}
    folders_of_classes = class_folders(proposal, photos, used_folders, data)
    for folder in [folder for folder in sorted(set(photos) - folders_of_classes) if unlabelled_counts[folder]]:
        proposal.unlabelled.append(str(folder))
        proposal.said.append(f"{folder}: {unlabelled_counts[folder]} images without labels")
    stems = {image.stem for images in photos.values() for image in images}
    if yolo := [path for path in files if path.suffix.lower() == ".txt" and path.stem in stems]:
        proposal.left_out["a text for an image, as YOLO has boxes, is not read; make it COCO or VOC"] = yolo
    for ending in UNREAD:
        if unread := [path for path in files if path.suffix.lower() == ending]:
            proposal.left_out[f"{ending} is not read; make it one of {', '.join(ENDINGS)}"] = unread
    left_out_messages = [
        f"{paths[0]}{f' and {len(paths) - 1} more' if len(paths) > 1 else ''}: left out: {reason}"
        for reason, paths in proposal.left_out.items()
    ]
    if not proposal.labels:
        formats = "a folder a class, COCO, VOC, PNG class maps, CSV"
        messages = [*left_out_messages, *proposal.said][:SHOWN]
        raise ValueError("; ".join([f"{data}: images, but no labels that are known: {formats}", *messages]))
    proposal.said += left_out_messages
    return proposal
