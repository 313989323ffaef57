"""Labels found in a folder of images, as params have them and in words."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.init.label_columns import unused
from pipeline.init.splits import split_around

Spec = dict[str, Any]
Labelled = tuple[list[Spec], list[Any], int, str]  # parts of a task, all that they hold, the number of files, their folders


@dataclass
class Proposal:
    """labels, unseen: as in params of `Files`; unlabelled: folders; said: what was found, in words; left_out: {why: files that
    may hold labels, but were not used}."""

    labels: dict[str, list[Spec]] = field(default_factory=dict)
    unseen: dict[str, list[Spec]] = field(default_factory=dict)
    unlabelled: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    left_out: dict[str, list[Path]] = field(default_factory=dict)
    named: dict[Path, int] = field(default_factory=dict)  # {folder: images in it that some file of labels names}

    def add(self, task: str, parts: list[Spec], description: str, unseen: bool = False) -> None:
        name = unused(task, self.labels | self.unseen)
        (self.unseen if unseen else self.labels)[name] = parts
        splits = [str(part["split"]) for part in parts if "split" in part]
        description += f" ({', '.join(splits)})" if splits else ""
        self.said.append(f"{name}{' (unseen: nothing is trained for it)' if unseen else ''}: {description}")

    def note(self, photos: dict[Path, list[Path]], image_folder: Path, names: set[str]) -> None:
        """Count the images below a folder that a file of labels names, by their path in it, with or without ending."""
        for folder in [folder for folder in photos if folder.is_relative_to(image_folder)]:
            images = [image.relative_to(image_folder) for image in photos[folder]]
            named_count = sum(not names.isdisjoint((image.as_posix(), image.with_suffix("").as_posix())) for image in images)
            self.named[folder] = max(named_count, self.named.get(folder, 0))

    def leave_out(self, path: Path, why: object) -> None:
        self.left_out.setdefault(str(why).removeprefix(str(path)).lstrip(",: "), []).append(path)


def with_split(part: Spec, data: Path, *paths: Path) -> Spec:
    """paths: of its labels, of its images; the first named after a split counts. The name of the whole data does not."""
    split = next(filter(None, (split_around(path, data) for path in paths if path != data)), None)
    return part | ({"split": split} if split else {})


def by_lists(part: Spec, labels_folder: Path, kind: str) -> list[Spec]:
    """A part for each split of which VOC has a list, beside the labels; the part itself if it has none."""
    lists_by_split = {split: labels_folder.parent / f"ImageSets/{kind}/{split}.txt" for split in ("train", "val", "test")}
    parts = [part | {"only": str(path), "split": split} for split, path in lists_by_split.items() if path.is_file()]
    return parts if parts and "split" not in part else [part]


def by_which(parts: list[Spec]) -> str:
    """Words for what these lists leave out, which is not used."""
    lists = [part["only"] for part in parts if "only" in part]
    return f"; only images that are listed in {', '.join(lists)}" if lists else ""


def add_folder(tasks: list[Labelled], part: Spec, contents: list[Any], file_count: int, folder_name: str) -> None:
    """Add a folder of labels: those named after different splits are parts of one task, any other is its own task."""
    split = part.get("split")
    for index, (parts, other_contents, other_count, folder_names) in enumerate(tasks):
        splits = [other.get("split") for other in parts]
        if split and split not in splits and None not in splits:
            tasks[index] = (
                [*parts, part],
                [*other_contents, *contents],
                other_count + file_count,
                f"{folder_names} and {folder_name}",
            )
            return
    tasks.append(([part], contents, file_count, folder_name))
