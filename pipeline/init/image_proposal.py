"""What is found of labels in a folder of images, as params have it and in words."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.init.label_columns import unused
from pipeline.init.splits import split_around

Spec = dict[str, Any]


@dataclass
class Proposal:
    """labels, unseen: as params have them, of `Files`; unlabelled: folders; said: what was found, in words; left_out: {why:
    files that may hold labels, and do not}."""

    labels: dict[str, list[Spec]] = field(default_factory=dict)
    unseen: dict[str, list[Spec]] = field(default_factory=dict)
    unlabelled: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    left_out: dict[str, list[Path]] = field(default_factory=dict)
    named: dict[Path, int] = field(default_factory=dict)  # {folder: images in it that some file of labels names}

    def add(self, task: str, parts: list[Spec], said: str, unseen: bool = False) -> None:
        name = unused(task, self.labels | self.unseen)
        (self.unseen if unseen else self.labels)[name] = parts
        splits = [str(part["split"]) for part in parts if "split" in part]
        said += f" ({', '.join(splits)})" if splits else ""
        self.said.append(f"{name}{' (unseen: nothing is trained for it)' if unseen else ''}: {said}")

    def note(self, photos: dict[Path, list[Path]], home: Path, names: set[str]) -> None:
        """Which images below a folder a file of labels names, by their path in it, with or without ending."""
        for place in [place for place in photos if place.is_relative_to(home)]:
            inside = [image.relative_to(home) for image in photos[place]]
            many = sum(not names.isdisjoint((image.as_posix(), image.with_suffix("").as_posix())) for image in inside)
            self.named[place] = max(many, self.named.get(place, 0))

    def leave_out(self, path: Path, why: object) -> None:
        self.left_out.setdefault(str(why).removeprefix(str(path)).lstrip(",: "), []).append(path)


def with_split(part: Spec, data: Path, *places: Path) -> Spec:
    """places: of its labels, of its images: the first named after a split says it. The name of all data says nothing."""
    split = next((split for place in places if place != data and (split := split_around(place, data))), None)
    return part | ({"split": split} if split else {})


def by_lists(part: Spec, labels: Path, kind: str) -> list[Spec]:
    """A part for each split that VOC's own lists, beside the labels, have images of; the part itself if there are none."""
    lists = {split: labels.parent / f"ImageSets/{kind}/{split}.txt" for split in ("train", "val", "test")}
    parts = [part | {"only": str(path), "split": split} for split, path in lists.items() if path.is_file()]
    return parts if parts and "split" not in part else [part]


def by_which(parts: list[Spec]) -> str:
    """What these lists leave out is not used: let it be said."""
    lists = [part["only"] for part in parts if "only" in part]
    return f"; only images that are listed in {', '.join(lists)}" if lists else ""


class SplitSets:
    """Folders of labels of one kind: those that are named after different splits are parts of one task, any other is its own.

    Iterating gives (parts, all that they hold, how many files, in folders of which names).
    """

    def __init__(self) -> None:
        self.found: list[tuple[list[Spec], list[Any], int, str]] = []

    def add(self, part: Spec, held: list[Any], files: int, name: str) -> None:
        split = part.get("split")
        for place, (parts, others, many, names) in enumerate(self.found):
            if split and None not in (known := [p.get("split") for p in parts]) and split not in known:
                self.found[place] = [*parts, part], [*others, *held], many + files, f"{names} and {name}"
                return
        self.found.append(([part], held, files, name))

    def __iter__(self) -> Iterator[tuple[list[Spec], list[Any], int, str]]:
        return iter(self.found)
