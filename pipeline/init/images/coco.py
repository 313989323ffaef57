"""COCO files in a folder of images: boxes and masks."""

from pathlib import Path

from pipeline.init.images.places import SAMPLE, home_of
from pipeline.init.images.proposal import Proposal, with_split
from pipeline.init.label_columns import counted
from pipeline.sources.vision.coco import content_of, unique

Coco = tuple[tuple[str, ...], Path, set[str], list[str]]  # classes, folder of images, boxes or masks or both, objects' classes


def coco_files(proposal: Proposal, files: list[Path], photos: dict[Path, list[Path]], data: Path) -> set[Path]:
    files_by_classes: dict[frozenset[str], list[tuple[Path, Coco]]] = {}  # by names of classes, whose ids may differ
    for path in files:
        if path.suffix.lower() == ".json":
            try:
                content, image_names = coco_content(path, photos)
                proposal.note(photos, content[1], image_names)
                files_by_classes.setdefault(frozenset(content[0]), []).append((path, content))
            except (OSError, ValueError) as error:
                proposal.leave_out(path, error)
    used_folders = set()
    for group in files_by_classes.values():
        names = list(group[0][1][0])
        for kind, task in (("boxes", "detection"), ("masks", "segmentation")):
            parts = [
                with_split({"coco": str(path), "images": str(folder), "gives": kind, "classes": names}, data, path, folder)
                for path, (_, folder, kinds, _) in group
                if kind in kinds
            ]
            if parts:
                counts = counted(name for _, (*_, object_names) in group for name in object_names)
                file_names = ", ".join(path.name for path, _ in group)
                proposal.add(task, parts, f"COCO {kind} of {len(names)} classes{counts} in {file_names}")
        used_folders |= {
            photo_folder for _, (_, folder, *_) in group for photo_folder in photos if photo_folder.is_relative_to(folder)
        }
    return used_folders


def coco_content(path: Path, photos: dict[Path, list[Path]]) -> tuple[Coco, set[str]]:
    """What a COCO file holds, and the images that it names. Raises ValueError."""
    content = content_of(str(path))
    categories = unique(str(path), "categories", content, "name")
    images = unique(str(path), "images", content, "file_name", whole=True)
    image_folder = home_of([item["file_name"] for item in images.values()], photos, path)
    if not image_folder:
        raise ValueError(f"no image is where a file_name says, such as {[item['file_name'] for item in images.values()][:1]}")
    objects = [item for item in content["annotations"] if isinstance(item, dict)]
    if any("keypoints" in item for item in objects):
        raise ValueError("keypoints are not read")
    pairs = ("boxes", "bbox"), ("masks", "segmentation")
    kinds = {kind for kind, key in pairs if any(item.get(key) for item in objects[:SAMPLE])}
    if not kinds:
        raise ValueError(f"annotations: {content['annotations'][:1]!r:.80}: no object with a bbox or a segmentation")
    category_ids = [item.get("category_id") for item in objects]
    object_classes = [categories[key] for key in category_ids if isinstance(key, int) and key in categories]
    classes = tuple(categories[key] for key in sorted(categories))
    return (classes, image_folder, kinds, object_classes), {item["file_name"] for item in images.values()}
