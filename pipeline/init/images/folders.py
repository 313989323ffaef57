"""Folders that are classes."""

from collections import Counter
from pathlib import Path

from pipeline.init.images.proposal import Proposal, with_split
from pipeline.init.label_columns import counted
from pipeline.init.splits import SPLITS

UNSORTED = ("unlabelled", "unlabeled", "unsorted")  # names of folders that are not classes
SHOWN = 3  # folders, in a message


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
