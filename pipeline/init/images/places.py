"""What the names and places of images tell: which names refer to which of them."""

from collections import Counter
from pathlib import Path
from statistics import mode

from pipeline.init.splits import split_of

SAMPLE = 200  # files looked into, if all are of one kind


def home_of(names: list[str], photos: dict[Path, list[Path]], labels_path: Path) -> Path | None:
    """The folder that has images for most of some names, relative to it, with or without ending; among equals the one closest
    to their labels, by the name of its split, then by its place."""
    relative_paths = [Path(name) for name in names[:SAMPLE] if not Path(name).is_absolute()]
    best_folder, best_rank = None, (0, False, 0)
    for folder, images in photos.items():
        stems = {path.stem for path in images}
        part_count = len(folder.parts)
        hits = [
            path
            for path in relative_paths
            if path.stem in stems and folder.parts[part_count + 1 - len(path.parts) :] == path.parts[:-1]
        ]
        split = split_of(labels_path)
        same_split = split is not None and split in {split_of(Path(part)) for part in folder.parts}
        rank = len(hits), same_split, len([1 for a, b in zip(folder.parts, labels_path.parts, strict=False) if a == b])
        if hits and rank > best_rank:
            depth = mode(len(path.parts) for path in hits) - 1
            best_folder, best_rank = folder.parents[depth - 1] if depth else folder, rank
    return best_folder


def shared_stems(images_by_folder: dict[Path, list[Path]]) -> set[str]:
    """Names, without endings, that images in more than one folder have."""
    folder_counts = Counter(stem for images in images_by_folder.values() for stem in {path.stem for path in images})
    return {stem for stem, count in folder_counts.items() if count > 1}
