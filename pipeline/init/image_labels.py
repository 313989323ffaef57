"""What a folder of images holds, found by looking into it: which labels, of which tasks, in which format."""

from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.init.image_places import SAMPLE, are_maps, home_of, names_in, other_masks, shared_stems
from pipeline.init.image_proposal import Labelled, Proposal, Spec, add_folder, by_lists, by_which, with_split
from pipeline.init.label_columns import counted, label_of_column, task_name
from pipeline.init.splits import SPLITS
from pipeline.sources.separator import SEPARATORS, separator_of
from pipeline.sources.vision.coco import content_of, unique
from pipeline.sources.vision.images import ENDINGS
from pipeline.sources.vision.labels import IGNORED, text_of
from pipeline.sources.vision.labels_csv import read_rows

SHOWN = 3  # files left out, in an error
UNREAD = (".heic", ".heif", ".avif", ".jxl", ".svg")  # image formats that are not read
UNSORTED = ("unlabelled", "unlabeled", "unsorted")  # names of folders that are not classes
BOXES = ({"xmin", "ymin", "xmax", "ymax"}, {"x1", "y1", "x2", "y2"}, {"bbox"}, {"x", "y", "width", "height"})  # columns

Coco = tuple[tuple[str, ...], Path, set[str], list[str]]  # classes, folder of images, boxes or masks or both, objects' classes


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


def voc_folders(proposal: Proposal, files: list[Path], photos: dict[Path, list[Path]], data: Path) -> set[Path]:
    files_by_folder: dict[Path, list[Path]] = {}
    for path in files:
        if path.suffix.lower() == ".xml":
            files_by_folder.setdefault(path.parent, []).append(path)
    used_folders: set[Path] = set()
    tasks: list[Labelled] = []
    for folder, xml_files in files_by_folder.items():
        image_folder = home_of([path.stem for path in xml_files], photos, folder)
        names_by_file = {path: names_in(path) for path in xml_files}
        object_names = [name for names in names_by_file.values() for name in names or []]
        if image_folder and object_names:
            part = with_split({"voc": str(folder), "images": str(image_folder)}, data, folder, image_folder)
            add_folder(tasks, part, object_names, len(xml_files), folder.name)
            proposal.note(photos, image_folder, {path.stem for path in xml_files})
            used_folders.add(image_folder)
            continue
        for path, names_in_file in names_by_file.items():
            no_object = "cannot be read as XML" if names_in_file is None else "no <object> with a <name>"
            proposal.leave_out(path, no_object if image_folder else "no image has its name")
    for parts, object_names, file_count, folder_names in tasks:
        class_names = sorted(set(object_names))
        description = f"VOC boxes of {len(class_names)} classes{counted(object_names)} in {file_count} files of {folder_names}"
        parts = [part | {"classes": class_names} for one in parts for part in by_lists(one, Path(one["voc"]), "Main")]
        proposal.add("detection", parts, description + by_which(parts))
    return used_folders


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


def tables(proposal: Proposal, files: list[Path], photos: dict[Path, list[Path]]) -> None:
    stems = {image.stem for images in photos.values() for image in images}
    for path in files:
        if path.suffix.lower() not in (".csv", ".tsv"):
            continue
        try:
            delimiter = separator_of(text_of(path).partition("\n")[0])
            columns, rows = read_rows(path, delimiter)
        except (OSError, ValueError) as error:
            proposal.leave_out(path, error)
            continue
        table = {name: [cells[at] for _, cells in rows] for at, name in enumerate(columns) if name}
        keys = [name for name, cells in table.items() if sum(Path(cell).stem in stems for cell in cells) > len(cells) / 2]
        folders = {name: folder for name in keys if (folder := home_of(table[name], photos, path))}
        if not folders:
            expected_columns = f"there are {', '.join(columns)}, between {SEPARATORS[delimiter]}"
            absolute = any(Path(cell).is_absolute() for name in keys for cell in table[name])
            advice = "make its absolute paths relative to the folder of the images" if absolute else expected_columns
            proposal.leave_out(path, f"no column names images, relative to a folder; {advice}")
            continue
        if any(corners <= {name.lower().replace("_", "") for name in columns} for corners in BOXES):
            proposal.leave_out(path, "a table of boxes is not read; make it COCO or VOC")
            continue
        key, folder = next(iter(folders.items()))
        if len(table) == 1:
            proposal.leave_out(path, f"one column, {key!r}; expected another with labels, between commas, semicolons or tabs")
            continue
        base = {"csv": str(path), "images": str(folder), "path": key} | ({} if delimiter == "," else {"delimiter": delimiter})
        columns_of_labels(proposal, base, {column: cells for column, cells in table.items() if column != key})
        proposal.note(photos, folder, set(table[key]))


def columns_of_labels(proposal: Proposal, base: Spec, cells_by_column: dict[str, list[str]]) -> None:
    file_name = Path(base["csv"]).name
    flag_columns = [column for column, cells in cells_by_column.items() if set(cells) == {"0", "1"}]
    if len(flag_columns) > 1:
        part = {**base, "label": flag_columns, "gives": "classes", "classes": flag_columns}
        ones = [column for column in flag_columns for cell in cells_by_column.pop(column) if cell == "1"]
        proposal.add("labels", [part], f"{len(flag_columns)} columns of 0 and 1{counted(ones)} in {file_name}")
    for column, cells in cells_by_column.items():
        keys, description = label_of_column(cells)
        if keys:
            part = {**base, "label": column, **keys}
            proposal.add(task_name(column), [part], f"{description} in {file_name}", unseen=keys["gives"] == "number")
        else:
            proposal.said.append(f"{file_name}, column {column}: {description}, left out")


def class_folders(proposal: Proposal, photos: dict[Path, list[Path]], used_folders: set[Path], data: Path) -> set[Path]:
    """Two or more folders of images side by side are classes, each with all below it; several such sets named train, val,
    test are splits of one task. Returns the folders whose images have a class."""
    folders_by_parent: dict[Path, list[Path]] = {}
    free = {folder for folder in set(photos) - used_folders - {data} if folder.name.lower() not in (*SPLITS, *UNSORTED)}
    for folder in sorted(free):
        if free.isdisjoint(folder.parents):
            folders_by_parent.setdefault(folder.parent, []).append(folder)
    siblings = {parent: folders for parent, folders in folders_by_parent.items() if len(folders) > 1}
    classes = {folder for folders in siblings.values() for folder in folders}
    class_of = {folder: above for folder in sorted(free) for above in (folder, *folder.parents) if above in classes}
    parents_by_task: dict[tuple[Path, ...], list[Path]] = {}
    for parent in siblings:
        parents_by_task.setdefault((parent.parent,) if parent.name.lower() in SPLITS else (parent, parent), []).append(parent)
    for parents in parents_by_task.values():
        names = sorted({folder.name for parent in parents for folder in siblings[parent]})
        parts = [with_split({"folder": str(parent), "classes": names}, data, parent) for parent in parents]
        counts = counted(above.name for folder, above in class_of.items() if above.parent in parents for _ in photos[folder])
        proposal.add("classification", parts, f"{len(names)} classes, a folder each{counts}, in {', '.join(map(str, parents))}")
    tasks = {parent: folders for parent, folders in siblings.items() if parent.name.lower() not in SPLITS}
    for subfolders, count in Counter(tuple(folder.name for folder in folders) for folders in tasks.values()).items():
        if count > 1:
            words = f"{count} folders hold folders {', '.join(subfolders[:SHOWN])}{', ...' if len(subfolders) > SHOWN else ''}"
            proposal.said.append(f"{words}: each is a task here; if they are the classes, `folder:` is what they lie in")
    return set(class_of)
