"""What is found of labels in a folder of images, as params have it and in words."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.init.label_columns import unused
from pipeline.init.splits import split_of

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
        self.said.append(f"{name}{' (unseen: nothing is trained for it)' if unseen else ''}: {said}")

    def note(self, photos: dict[Path, list[Path]], home: Path, names: set[str]) -> None:
        """Which images below a folder a file of labels names, by their path in it, with or without ending."""
        for place in [place for place in photos if place.is_relative_to(home)]:
            inside = [image.relative_to(home) for image in photos[place]]
            many = sum(not names.isdisjoint((image.as_posix(), image.with_suffix("").as_posix())) for image in inside)
            self.named[place] = max(many, self.named.get(place, 0))

    def leave_out(self, path: Path, why: object) -> None:
        self.left_out.setdefault(str(why).removeprefix(str(path)).lstrip(",: "), []).append(path)


def with_split(part: Spec, path: Path) -> Spec:
    split = split_of(path)
    return part | ({"split": split} if split else {})
