"""Labels of images in the formats that people have them in: what the readers of all formats share."""

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from pipeline.project.class_spec import near
from pipeline.project.sections import Section
from pipeline.sources.vision.images import ENDINGS

Gives = Literal["class", "classes", "boxes", "masks", "number"]
FORMATS: dict[str, tuple[Gives, ...]] = {  # what each can give; the first by default
    "folder": ("class",),
    "coco": ("boxes", "masks", "classes"),
    "voc": ("boxes", "classes"),
    "masks": ("masks",),
    "csv": ("class", "classes", "number"),
}
IGNORED = 255  # in a class map: a position that does not count


class Part(Section):
    """Some labels of one task, as params name them: exactly one of folder, coco, voc, masks, csv; see README.

    images: the folder of the images, if the labels are in files of their own. only: a file that names the images to use, one
    per line. split: all of these images are in that split. path, label: columns of a CSV, whose header is `columns` if it has
    none. values: {pixel of a mask: class}, 255 is ignored.
    """

    folder: str | None = None
    coco: str | list[str] | None = None
    voc: str | None = None
    masks: str | None = None
    csv: str | None = None
    images: str | None = None
    only: str | None = None
    gives: Gives | None = None
    classes: list[str | int] | None = Field(None, min_length=1)
    split: Literal["train", "val", "test"] | None = None
    columns: list[str] | None = None
    path: str = "image"
    label: str | list[str] = "label"
    delimiter: str = Field(",", min_length=1, max_length=1)
    separator: str = Field(";", min_length=1)
    values: dict[int, int] | None = None

    @property
    def format(self) -> str:
        return next(name for name in FORMATS if getattr(self, name))

    @property
    def kind(self) -> Gives:
        return self.gives or FORMATS[self.format][0]

    @cached_property
    def names(self) -> list[str] | None:
        return [str(name) for name in self.classes] if self.classes else None


def parts_of(where: str, specs: Any) -> list[Part]:
    """The parts of one task's labels. Raises ValueError that names the key below `where`."""
    parts = [part_of(where, spec) for spec in (specs if isinstance(specs, list) else [specs])]
    if not parts:
        raise ValueError(f"{where}: empty; name a folder, coco, voc, masks or csv")
    if len({part.kind for part in parts}) > 1:
        raise ValueError(
            f"{where}: its parts give {' and '.join(sorted({p.kind for p in parts}))}; a task has one kind of label"
        )
    if len({tuple(part.names or ()) for part in parts}) > 1:
        raise ValueError(f"{where}: its parts name different classes; give every part the same list, or none")
    return parts


def part_of(where: str, spec: Any) -> Part:
    if not isinstance(spec, dict):
        raise ValueError(f"{where}: {spec!r}, expected keys, such as {{folder: images}}")
    try:
        part = Part.model_validate(spec)
    except ValidationError as error:
        problem = error.errors()[0]
        key = str(problem["loc"][0])
        if problem["type"] == "extra_forbidden":
            raise ValueError(f"{where}.{key}: unknown key{near(key, Part.model_fields)}") from None
        raise ValueError(f"{where}.{key}: {problem['msg'].lower()}, got {problem['input']!r}") from None
    formats = [name for name in FORMATS if getattr(part, name)]
    if len(formats) != 1:
        raise ValueError(f"{where}: names {' and '.join(formats) or 'no format'}; give exactly one of {', '.join(FORMATS)}")
    if part.kind not in FORMATS[formats[0]]:
        raise ValueError(f"{where}.gives: {formats[0]} has no {part.kind}; it gives {' or '.join(FORMATS[formats[0]])}")
    if formats[0] != "folder" and not part.images:
        raise ValueError(f"{where}.images: missing; name the folder of the images that {formats[0]} labels")
    if not isinstance(part.label, str) and part.kind != "classes":
        raise ValueError(f"{where}.label: several columns are classes; add `gives: classes`, or name one column")
    if part.names and len(set(part.names)) < len(part.names):
        raise ValueError(f"{where}.classes: a name comes twice")
    if part.values and not all(0 <= value <= IGNORED for value in part.values.values()):
        raise ValueError(f"{where}.values: classes are 0 to 254, and 255 is ignored")
    return part


@dataclass
class Found:
    """What one part holds. classes: names in order. labels: (image, its label), by kind: a name; a list of names; [(name,
    x0, y0, x1, y1, whether it is ignored)] in pixels; a function of (classes, width, height) that draws a class map; a
    number. bad: a line for each label that cannot be used, which says where it is. sizes: {image: (width, height)} where the
    labels state it."""

    classes: list[str] = field(default_factory=list)
    labels: list[tuple[Path, Any]] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    sizes: dict[Path, tuple[int, int]] = field(default_factory=dict)


class ImageFolder:
    """The images below a folder, found by their path in it, with or without its ending."""

    def __init__(self, path: str):
        self.path = Path(path)
        if not self.path.is_dir():
            raise ValueError(f"{path}: no such folder; expected one with images, below the project folder")
        paths = (file for file in self.path.rglob("*") if file.suffix.lower() in ENDINGS and file.is_file())
        self.files = sorted(path for path in paths if not any(part[0] == "." for part in path.relative_to(self.path).parts))
        if not self.files:
            raise ValueError(f"{path}: no image in this folder; expected files such as .png or .jpg")
        files_by_name = {file.relative_to(self.path).as_posix(): file for file in self.files}
        files_by_stem: dict[str, list[Path]] = {}
        for name, file in files_by_name.items():
            files_by_stem.setdefault(name.rpartition(".")[0], []).append(file)
        self.known = {stem: files[0] for stem, files in files_by_stem.items() if len(files) == 1} | files_by_name

    def find(self, name: str) -> Path | None:
        return self.known.get(name)


def text_of(path: Path) -> str:
    """The text of a file in UTF-8. Raises ValueError."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not text in UTF-8: {error.reason} at byte {error.start}") from None


def listed(part: Part, images: ImageFolder, bad: list[str]) -> set[Path]:
    """The images that a part may label: those of its list, or all. A line's first word is the image."""
    if part.only is None:
        return set(images.files)
    found = set()
    for number, line in enumerate(text_of(Path(part.only)).splitlines(), 1):
        name = line.split()[0] if line.strip() else "#"
        image = images.find(name)
        if image:
            found.add(image)
        elif not name.startswith("#"):
            bad.append(f"{part.only}, line {number}: no image {name!r} in {part.images or part.folder}")
    return found


def checked_box(corners: Any, width: int, height: int) -> tuple[float, float, float, float]:
    """x0 y0 x1 y1, cut at the border. Raises ValueError if nothing is left of it."""
    if not np.isfinite(corners).all():
        raise ValueError("its box has numbers that are not finite")
    x0, y0, x1, y1 = (float(x) for x in corners)
    x0, x1, y0, y1 = max(x0, 0.0), min(x1, float(width)), max(y0, 0.0), min(y1, float(height))
    if x1 <= x0 or y1 <= y0:
        raise ValueError(f"its box is empty or outside the image of {width} x {height}")
    return x0, y0, x1, y1


def no_class(name: str, names: list[str]) -> str:
    return f"no class {name!r}{hint(name, tuple(names))}; there are {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}"


@lru_cache(1024)  # a misspelling is often on every line, and comparing it with many names is slow
def hint(name: str, names: tuple[str, ...]) -> str:
    return near(name, names)
