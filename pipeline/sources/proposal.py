"""What a folder of images holds, found out by looking: which labels, of which tasks, in which format."""

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from pipeline.sources.coco import content_of, unique
from pipeline.sources.images import ENDINGS, open_upright
from pipeline.sources.labels import IGNORED, text_of
from pipeline.sources.labels_csv import table

SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
SAMPLE = 200  # files looked into, where all are of one kind
SHOWN = 8  # classes that are named with how many they are
LEFT = ": left out"
MOST = 0.5  # of a CSV's rows: a column of more different texts is no class

Spec = dict[str, Any]


@dataclass
class Proposal:
    """labels, unseen: as params have them, of `Files`; unlabelled: folders; said: what was found, in words."""

    labels: dict[str, list[Spec]] = field(default_factory=dict)
    unseen: dict[str, list[Spec]] = field(default_factory=dict)
    unlabelled: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def add(self, task: str, parts: list[Spec], said: str, unseen: bool = False) -> None:
        taken = self.labels | self.unseen
        name = task if task not in taken else next(f"{task}{n}" for n in range(2, 99) if f"{task}{n}" not in taken)
        (self.unseen if unseen else self.labels)[name] = parts
        self.said.append(f"{name}{' (unseen: nothing is trained for it)' if unseen else ''}: {said}")


def propose(folder: Path) -> Proposal:
    """Raises ValueError if there are no images, or no labels, below the folder."""
    found = Proposal()
    files = sorted(
        p for p in folder.rglob("*") if p.is_file() and not any(part[0] == "." for part in p.relative_to(folder).parts)
    )
    images = [p for p in files if p.suffix.lower() in ENDINGS]
    if not images:
        raise ValueError(f"{folder}: no image below this folder; give the folder of your images with --data")
    by_folder: dict[Path, list[Path]] = {}
    for path in images:
        by_folder.setdefault(path.parent, []).append(path)
    maps = {place for place, inside in by_folder.items() if are_maps(inside, by_folder)}
    for place in [place for place in maps if "object" in place.name.lower() or "instance" in place.name.lower()]:
        found.said.append(f"{place}: maps of single objects, by their name{LEFT}")
        del by_folder[place]
    maps &= set(by_folder)
    photos = {place: inside for place, inside in by_folder.items() if place not in maps}
    used: set[Path] = set()
    for propose_some in (coco_files, voc_folders, map_folders, tables):
        used |= propose_some(found, files, photos, maps)
    class_folders(found, photos, used, folder)
    for place in sorted(set(photos) - used):
        found.unlabelled.append(str(place))
        found.said.append(f"{place}: {len(photos[place])} images without labels")
    if not found.labels:
        why = "".join(f"; {line}" for line in found.said if line.endswith(LEFT))
        known = "a folder a class, COCO, VOC, PNG class maps, CSV"
        raise ValueError(f"{folder}: images, but no labels that are known: {known}{why}")
    return found


def split_of(path: Path) -> str | None:
    words = path.stem.lower().replace("-", "_").split("_")
    return next((SPLITS[word] for word in words if word in SPLITS), None)


def with_split(part: Spec, path: Path) -> Spec:
    split = split_of(path)
    return part | ({"split": split} if split else {})


def home_of(names: list[str], photos: dict[Path, list[Path]], labels: Path) -> Path | None:
    """The folder below which most of some names, with or without ending, lie as images; of equals the one that is closest
    to their labels, by the name of its split, then by its place."""
    wanted = [Path(name) for name in names[:SAMPLE]]
    best, most = None, (0, False, 0)
    for place, inside in photos.items():
        stems = {path.stem for path in inside}
        hits = sum(name.stem in stems and (len(name.parts) == 1 or place.name == name.parent.name) for name in wanted)
        split = split_of(labels)
        alike = split is not None and split in {split_of(Path(part)) for part in place.parts}
        rank = hits, alike, len([1 for a, b in zip(place.parts, labels.parts, strict=False) if a == b])
        if hits and rank > most:
            depth = max(len(name.parts) for name in wanted) - 1
            best, most = place.parents[depth - 1] if depth else place, rank
    return best


def are_maps(inside: list[Path], by_folder: dict[Path, list[Path]]) -> bool:
    """Whether PNG files are class maps: one number a pixel, few numbers, named as the images of another folder."""
    if any(path.suffix.lower() != ".png" for path in inside):
        return False
    stems = {path.stem for path in inside}
    others = [place for place, more in by_folder.items() if place != inside[0].parent and stems & {p.stem for p in more}]
    if not others:
        return False
    for path in inside[:8]:
        try:
            image = open_upright(path, None)
        except ValueError:
            continue
        if image.mode not in ("P", "L", "1") or (image.mode == "L" and len(np.unique(np.asarray(image))) > 64):
            return False
    return True


def coco_files(found: Proposal, files: list[Path], photos: dict[Path, list[Path]], maps: set[Path]) -> set[Path]:
    groups: dict[tuple[str, ...], list[tuple[Path, Path, set[str]]]] = {}
    for path in files:
        content = coco_content(found, path) if path.suffix == ".json" else None
        home = home_of([item["file_name"] for item in content["images"]], photos, path) if content else None
        if content and home:
            names = tuple(c["name"] for c in sorted(content["categories"], key=lambda c: c["id"]))
            some = content["annotations"][:SAMPLE]
            kinds = {kind for kind, key in (("boxes", "bbox"), ("masks", "segmentation")) if any(a.get(key) for a in some)}
            groups.setdefault(names, []).append((path, home, kinds))
    used = set()
    for names, several in groups.items():
        for kind, task in (("boxes", "detection"), ("masks", "segmentation")):
            parts = [
                with_split({"coco": str(path), "images": str(home), "gives": kind, "classes": list(names)}, path)
                for path, home, kinds in several
                if kind in kinds
            ]
            if parts:
                said = ", ".join(path.name for path, _, _ in several)
                found.add(task, parts, f"COCO {kind} of {len(names)} classes in {said}")
        used |= {place for _, home, _ in several for place in photos if place.is_relative_to(home)}
    return used


def coco_content(found: Proposal, path: Path) -> Spec | None:
    try:
        content = content_of(str(path))
        for kind, name in (("images", "file_name"), ("categories", "name")):
            unique(str(path), kind, content, name)
        if not all(isinstance(item, dict) for item in content["annotations"]):
            raise ValueError(f"{path}: an annotation is no object")
        return content
    except ValueError as error:
        found.said.append(f"{error}{LEFT}")
        return None


def voc_folders(found: Proposal, files: list[Path], photos: dict[Path, list[Path]], maps: set[Path]) -> set[Path]:
    folders: dict[Path, list[Path]] = {}
    for path in files:
        if path.suffix == ".xml":
            folders.setdefault(path.parent, []).append(path)
    used = set()
    for place, inside in folders.items():
        home = home_of([path.stem for path in inside], photos, place)
        names = sorted({name for path in inside for name in names_in(path)})
        if home and names:
            parts = [{"voc": str(place), "images": str(home), "classes": names}]
            found.add("detection", parts, f"VOC boxes of {len(names)} classes in {len(inside)} files of {place.name}")
            used.add(home)
    return used


def names_in(path: Path) -> Iterator[str]:
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError):
        return
    yield from ((item.findtext("name") or "").strip() for item in root.iter("object") if item.findtext("name"))


def map_folders(found: Proposal, files: list[Path], photos: dict[Path, list[Path]], maps: set[Path]) -> set[Path]:
    used = set()
    for place in sorted(maps):
        inside = sorted(place.glob("*.png"))
        home = home_of([path.stem for path in inside], photos, place)
        some = inside[:: max(1, len(inside) // SAMPLE)]
        numbers = sorted({n for path in some for n in np.unique(np.asarray(Image.open(path))).tolist()} - {0, IGNORED})
        if home and numbers:
            # every class gets a name: what lies between the numbers seen may be in the maps that were not looked into
            parts = [{"masks": str(place), "images": str(home), "classes": [f"class {n}" for n in range(1, numbers[-1] + 1)]}]
            said = f"class maps of {numbers[-1]} classes beside background in {len(inside)} files of {place.name}"
            found.add("segmentation", parts, said)
            used.add(home)
    return used


def tables(found: Proposal, files: list[Path], photos: dict[Path, list[Path]], maps: set[Path]) -> set[Path]:
    used = set()
    for path in files:
        if path.suffix not in (".csv", ".tsv"):
            continue
        try:
            text = text_of(path)
            delimiter = max("\t;,", key=text.partition("\n")[0].count)  # of as many of each the comma
            rows = [row for _, row in table(text, delimiter)]
        except (ValueError, csv.Error) as error:
            found.said.append(f"{path}: no table of text in UTF-8 ({error}){LEFT}")
            continue
        columns = dict(zip(rows[0], zip(*rows[1:], strict=False), strict=False)) if rows else {}
        homes = {name: home for name, cells in columns.items() if name and (home := home_of(list(cells), photos, path))}
        if not homes:
            found.said.append(f"{path}: no column names images below this folder{LEFT}")
            continue
        key, home = next(iter(homes.items()))
        base = {"csv": str(path), "images": str(home), "path": key} | ({"delimiter": delimiter} if delimiter != "," else {})
        columns_of_labels(found, base, {name: cells for name, cells in columns.items() if name and name != key})
        used |= {place for place in photos if place.is_relative_to(home)}
    return used


def columns_of_labels(found: Proposal, base: Spec, columns: dict[str, tuple[str, ...]]) -> None:
    name = Path(base["csv"]).name
    said = {column: [text for text in cells if text] for column, cells in columns.items()}
    flags = [column for column, texts in said.items() if set(texts) == {"0", "1"}]
    if len(flags) > 1:
        part = {**base, "label": flags, "gives": "classes", "classes": flags}
        found.add("labels", [part], f"{len(flags)} columns of 0 and 1 in {name}")
    for column, texts in said.items():
        task = "".join(c if c.isascii() and c.isalnum() else "_" for c in column).strip("_") or "label"
        part, kinds = {**base, "label": column}, Counter(texts)
        if column in flags and len(flags) > 1:
            continue
        if any(";" in text for text in texts):
            kinds = Counter(word.strip() for text in texts for word in text.split(";") if word.strip())
            spec = {**part, "gives": "classes", "classes": sorted(kinds)}
            found.add(task, [spec], f"{len(kinds)} labels, any of them, in {name}: {counted(kinds)}")
        elif texts and all(map(is_fraction, texts)) and any("." in text for text in texts):
            found.add(task, [{**part, "gives": "number"}], f"a number in {name}", unseen=True)
        elif 1 < len(kinds) <= max(2, MOST * len(texts)):
            spec = {**part, "gives": "class", "classes": sorted(kinds)}
            found.add(task, [spec], f"one of {len(kinds)} classes in {name}: {counted(kinds)}")
        else:
            found.said.append(f"{name}, column {column}: {len(kinds)} different values in {len(texts)} lines: no label{LEFT}")


def counted(kinds: Counter[str]) -> str:
    shown = ", ".join(f"{kind} {times}" for kind, times in sorted(kinds.items())[:SHOWN])
    return shown + (f", and {len(kinds) - SHOWN} more" if len(kinds) > SHOWN else "")


def is_fraction(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def class_folders(found: Proposal, photos: dict[Path, list[Path]], used: set[Path], root: Path) -> None:
    """Two or more folders of images side by side are classes; several such sets named train, val, test are its splits."""
    beside: dict[Path, list[Path]] = {}
    for place in sorted(set(photos) - used):
        if place != root and place.name.lower() not in SPLITS:
            beside.setdefault(place.parent, []).append(place)
    sets = {parent: places for parent, places in beside.items() if len(places) > 1}
    groups: dict[tuple[Path, ...], list[Path]] = {}
    for parent in sets:
        groups.setdefault((parent.parent,) if parent.name.lower() in SPLITS else (parent, parent), []).append(parent)
    for parents in groups.values():
        names = sorted({place.name for parent in parents for place in sets[parent]})
        parts = [with_split({"folder": str(parent), "classes": names}, parent) for parent in parents]
        found.add("classification", parts, f"{len(names)} classes, a folder each, in {', '.join(map(str, parents))}")
        used |= {place for parent in parents for place in sets[parent]}
