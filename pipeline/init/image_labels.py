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


def propose(folder: Path, files: list[Path]) -> Proposal:
    """Labels for a folder with images. files: all that is in it. Raises ValueError if there are no labels."""
    found = Proposal()
    images = [p for p in files if p.suffix.lower() in ENDINGS]
    by_folder: dict[Path, list[Path]] = {}
    for path in images:
        by_folder.setdefault(path.parent, []).append(path)
    shared = shared_stems(by_folder)
    maps = {place for place, inside in by_folder.items() if are_maps(inside, shared)}
    for place in [place for place in maps if "object" in place.name.lower() or "instance" in place.name.lower()]:
        found.said.append(f"{place}: maps of single objects, by their name: left out")
        del by_folder[place]
    maps &= set(by_folder)
    for place in other_masks(by_folder, maps):
        found.leave_out(
            place, "masks, by its name; expected PNG files of one class number a pixel, each called as its image is"
        )
        del by_folder[place]
    photos = {place: inside for place, inside in by_folder.items() if place not in maps}
    used = coco_files(found, files, photos, folder) | voc_folders(found, files, photos, folder)
    used |= map_folders(found, photos, maps, folder)
    tables(found, files, photos)
    lacking = {place: len(inside) - found.named.get(place, 0) for place, inside in photos.items()}
    used |= {place for place, many in found.named.items() if many > lacking[place]}
    classes = class_folders(found, photos, used, folder)
    for place in [place for place in sorted(set(photos) - classes) if lacking[place]]:
        found.unlabelled.append(str(place))
        found.said.append(f"{place}: {lacking[place]} images without labels")
    stems = {image.stem for inside in photos.values() for image in inside}
    if yolo := [path for path in files if path.suffix.lower() == ".txt" and path.stem in stems]:
        found.left_out["a text for an image, as YOLO has boxes, is not read; make it COCO or VOC"] = yolo
    for ending in UNREAD:
        if unread := [path for path in files if path.suffix.lower() == ending]:
            found.left_out[f"{ending} is not read; make it one of {', '.join(ENDINGS)}"] = unread
    left = [
        f"{paths[0]}{f' and {len(paths) - 1} more' if len(paths) > 1 else ''}: left out: {why}"
        for why, paths in found.left_out.items()
    ]
    if not found.labels:
        known = "a folder a class, COCO, VOC, PNG class maps, CSV"
        why = [*left, *found.said][:SHOWN]
        raise ValueError("; ".join([f"{folder}: images, but no labels that are known: {known}", *why]))
    found.said += left
    return found


def coco_files(found: Proposal, files: list[Path], photos: dict[Path, list[Path]], data: Path) -> set[Path]:
    groups: dict[frozenset[str], list[tuple[Path, Coco]]] = {}  # by names of classes, whose ids may differ
    for path in files:
        if path.suffix.lower() == ".json":
            try:
                content, named = coco_content(path, photos)
                found.note(photos, content[1], named)
                groups.setdefault(frozenset(content[0]), []).append((path, content))
            except (OSError, ValueError) as error:
                found.leave_out(path, error)
    used = set()
    for several in groups.values():
        names = list(several[0][1][0])
        for kind, task in (("boxes", "detection"), ("masks", "segmentation")):
            parts = [
                with_split({"coco": str(path), "images": str(home), "gives": kind, "classes": names}, data, path, home)
                for path, (_, home, kinds, _) in several
                if kind in kinds
            ]
            if parts:
                objects = counted(name for _, (*_, said) in several for name in said)
                said = ", ".join(path.name for path, _ in several)
                found.add(task, parts, f"COCO {kind} of {len(names)} classes{objects} in {said}")
        used |= {place for _, (_, home, *_) in several for place in photos if place.is_relative_to(home)}
    return used


def coco_content(path: Path, photos: dict[Path, list[Path]]) -> tuple[Coco, set[str]]:
    """What a COCO file holds, and the images that it names. Raises ValueError."""
    content = content_of(str(path))
    categories = unique(str(path), "categories", content, "name")
    images = unique(str(path), "images", content, "file_name", whole=True)
    home = home_of([item["file_name"] for item in images.values()], photos, path)
    if not home:
        raise ValueError(f"no image is where a file_name says, such as {[item['file_name'] for item in images.values()][:1]}")
    objects = [item for item in content["annotations"] if isinstance(item, dict)]
    if any("keypoints" in item for item in objects):
        raise ValueError("keypoints are not read")
    pairs = ("boxes", "bbox"), ("masks", "segmentation")
    kinds = {kind for kind, key in pairs if any(item.get(key) for item in objects[:SAMPLE])}
    if not kinds:
        raise ValueError(f"annotations: {content['annotations'][:1]!r:.80}: no object with a bbox or a segmentation")
    ids = [item.get("category_id") for item in objects]
    named = [categories[key] for key in ids if isinstance(key, int) and key in categories]
    classes = tuple(categories[key] for key in sorted(categories))
    return (classes, home, kinds, named), {item["file_name"] for item in images.values()}


def voc_folders(found: Proposal, files: list[Path], photos: dict[Path, list[Path]], data: Path) -> set[Path]:
    folders: dict[Path, list[Path]] = {}
    for path in files:
        if path.suffix.lower() == ".xml":
            folders.setdefault(path.parent, []).append(path)
    used: set[Path] = set()
    tasks: list[Labelled] = []
    for place, inside in folders.items():
        home = home_of([path.stem for path in inside], photos, place)
        said = {path: names_in(path) for path in inside}
        objects = [name for names in said.values() for name in names or []]
        if home and objects:
            part = with_split({"voc": str(place), "images": str(home)}, data, place, home)
            add_folder(tasks, part, objects, len(inside), place.name)
            found.note(photos, home, {path.stem for path in inside})
            used.add(home)
            continue
        for path, names_said in said.items():
            no_object = "cannot be read as XML" if names_said is None else "no <object> with a <name>"
            found.leave_out(path, no_object if home else "no image has its name")
    for parts, objects, many, named in tasks:
        names = sorted(set(objects))
        words = f"VOC boxes of {len(names)} classes{counted(objects)} in {many} files of {named}"
        parts = [part | {"classes": names} for one in parts for part in by_lists(one, Path(one["voc"]), "Main")]
        found.add("detection", parts, words + by_which(parts))
    return used


def map_folders(found: Proposal, photos: dict[Path, list[Path]], maps: set[Path], data: Path) -> set[Path]:
    used: set[Path] = set()
    tasks: list[Labelled] = []
    for place in sorted(maps):
        inside = sorted(path for path in place.iterdir() if path.suffix.lower() == ".png")
        home = home_of([path.stem for path in inside], photos, place)
        some = inside[:: max(1, len(inside) // SAMPLE)]
        seen = [np.unique(np.asarray(Image.open(path))).astype(int).tolist() for path in some]
        held = {number for few in seen for number in few}
        numbers = sorted(held - {0, IGNORED})
        if home and (numbers or IGNORED in held):
            part = with_split({"masks": str(place), "images": str(home)}, data, place, home)
            # black and white: 255 is a class here, not ignored
            part |= {} if numbers else {"values": {0: 0, IGNORED: 1}}
            add_folder(tasks, part, numbers or [1], len(inside), place.name)
            found.note(photos, home, {path.stem for path in inside})
            used.add(home)
    for parts, numbers, many, named in tasks:
        # every class gets a name: numbers that were not seen may occur in maps that were not looked into
        names = [f"class {n}" for n in range(1, max(numbers) + 1)]
        said = f"class maps of {len(names)} classes beside background in {many} files of {named}"
        said += f"; {IGNORED} is that class" if "values" in parts[0] else ""
        parts = [part | {"classes": names} for one in parts for part in by_lists(one, Path(one["masks"]), "Segmentation")]
        found.add("segmentation", parts, said + by_which(parts))
    return used


def tables(found: Proposal, files: list[Path], photos: dict[Path, list[Path]]) -> None:
    stems = {image.stem for inside in photos.values() for image in inside}
    for path in files:
        if path.suffix.lower() not in (".csv", ".tsv"):
            continue
        try:
            delimiter = separator_of(text_of(path).partition("\n")[0])
            columns, rows = read_rows(path, delimiter)
        except (OSError, ValueError) as error:
            found.leave_out(path, error)
            continue
        texts = {name: [cells[at] for _, cells in rows] for at, name in enumerate(columns) if name}
        named = [name for name, cells in texts.items() if sum(Path(cell).stem in stems for cell in cells) > len(cells) / 2]
        homes = {name: home for name in named if (home := home_of(texts[name], photos, path))}
        if not homes:
            there = f"there are {', '.join(columns)}, between {SEPARATORS[delimiter]}"
            absolute = any(Path(cell).is_absolute() for name in named for cell in texts[name])
            whole = "make its absolute paths relative to the folder of the images" if absolute else there
            found.leave_out(path, f"no column names images, relative to a folder; {whole}")
            continue
        if any(corners <= {name.lower().replace("_", "") for name in columns} for corners in BOXES):
            found.leave_out(path, "a table of boxes is not read; make it COCO or VOC")
            continue
        key, home = next(iter(homes.items()))
        if len(texts) == 1:
            found.leave_out(path, f"one column, {key!r}; expected another with labels, between commas, semicolons or tabs")
            continue
        base = {"csv": str(path), "images": str(home), "path": key} | ({} if delimiter == "," else {"delimiter": delimiter})
        columns_of_labels(found, base, {column: cells for column, cells in texts.items() if column != key})
        found.note(photos, home, set(texts[key]))


def columns_of_labels(found: Proposal, base: Spec, columns: dict[str, list[str]]) -> None:
    name = Path(base["csv"]).name
    flags = [column for column, cells in columns.items() if set(cells) == {"0", "1"}]
    if len(flags) > 1:
        part = {**base, "label": flags, "gives": "classes", "classes": flags}
        ones = [column for column in flags for cell in columns.pop(column) if cell == "1"]
        found.add("labels", [part], f"{len(flags)} columns of 0 and 1{counted(ones)} in {name}")
    for column, cells in columns.items():
        keys, said = label_of_column(cells)
        if keys:
            part = {**base, "label": column, **keys}
            found.add(task_name(column), [part], f"{said} in {name}", unseen=keys["gives"] == "number")
        else:
            found.said.append(f"{name}, column {column}: {said}, left out")


def class_folders(found: Proposal, photos: dict[Path, list[Path]], used: set[Path], root: Path) -> set[Path]:
    """Two or more folders of images side by side are classes, each with all below it; several such sets named train, val,
    test are splits of one task. Returns the folders whose images have a class."""
    beside: dict[Path, list[Path]] = {}
    free = {place for place in set(photos) - used - {root} if place.name.lower() not in (*SPLITS, *UNSORTED)}
    for place in sorted(free):
        if free.isdisjoint(place.parents):
            beside.setdefault(place.parent, []).append(place)
    sets = {parent: places for parent, places in beside.items() if len(places) > 1}
    classes = {place for places in sets.values() for place in places}
    owner = {place: above for place in sorted(free) for above in (place, *place.parents) if above in classes}
    groups: dict[tuple[Path, ...], list[Path]] = {}
    for parent in sets:
        groups.setdefault((parent.parent,) if parent.name.lower() in SPLITS else (parent, parent), []).append(parent)
    for parents in groups.values():
        names = sorted({place.name for parent in parents for place in sets[parent]})
        parts = [with_split({"folder": str(parent), "classes": names}, root, parent) for parent in parents]
        images = counted(above.name for place, above in owner.items() if above.parent in parents for _ in photos[place])
        found.add("classification", parts, f"{len(names)} classes, a folder each{images}, in {', '.join(map(str, parents))}")
    tasks = {parent: places for parent, places in sets.items() if parent.name.lower() not in SPLITS}
    for inner, many in Counter(tuple(place.name for place in places) for places in tasks.values()).items():
        if many > 1:
            said = f"{many} folders hold folders {', '.join(inner[:SHOWN])}{', ...' if len(inner) > SHOWN else ''}"
            found.said.append(f"{said}: each is a task here; if they are the classes, `folder:` is what they lie in")
    return set(owner)
