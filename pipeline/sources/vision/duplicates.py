"""Splits by content: images that are the same, or nearly, are never apart."""

import numpy as np
from scipy.spatial import cKDTree

from pipeline.sources.splits import drawn
from pipeline.sources.vision.gathering import Sample

FAINT = 4.0  # grey levels of contrast: below it thumbnails are not stretched, or noise would decide
COORDINATES = 12  # in which near thumbnails are searched; distances in few are never longer than in all


def near_duplicates(thumbnails: np.ndarray, near: float) -> np.ndarray:
    """(N,) int: images with the same number are linked by steps of at most `near`.

    thumbnails: (N, ...) uint8. Distance: root mean square of the difference, each brought to mean 0 and deviation 1, so that
    light, contrast, size and compression do not matter; sqrt(2 - 2 correlation) of two images.
    """
    vectors_ND = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    vectors_ND -= vectors_ND.mean(1, keepdims=True)
    vectors_ND /= np.maximum(vectors_ND.std(1, keepdims=True), FAINT) * np.sqrt(vectors_ND.shape[1])
    coordinates = vectors_ND @ np.linalg.eigh(vectors_ND.T @ vectors_ND)[1][:, -COORDINATES:]
    tree, groups = cKDTree(coordinates), np.full(len(vectors_ND), -1)
    for start in range(len(vectors_ND)):
        if groups[start] < 0:
            groups[start], reached = start, [start]
            while reached:  # one at a time: all pairs of similar images may not fit in memory
                image = reached.pop()
                candidates = np.array(tree.query_ball_point(coordinates[image], near * 1.001))
                candidates = candidates[groups[candidates] < 0]
                duplicates = candidates[np.linalg.norm(vectors_ND[candidates] - vectors_ND[image], axis=1) <= near]
                groups[duplicates] = start
                reached += duplicates.tolist()
    return groups


def assign(samples: list[Sample], groups: np.ndarray, val: float, test: float, seed: int) -> list[str]:
    """The split of each image: "train", "val" or "test".

    A group goes where one of its images is declared to be, else where the hash of its first id says, so that added images
    move none but near duplicates of theirs; a group without any label is in train. Of what is declared to be in train, val
    takes its share.
    Raises ValueError if a group would be torn apart.
    """
    members: dict[int, list[int]] = {}
    for image, group in enumerate(groups.tolist()):
        members.setdefault(group, []).append(image)
    splits = [""] * len(samples)
    for images in members.values():
        declared = {split: file for image in reversed(images) for split, file in samples[image].declared.items()}
        if len(declared) > 1:
            (one_split, one_file), (other_split, other_file) = sorted(declared.items())[:2]
            raise ValueError(
                f"{one_file} is in {one_split} and {other_file} in {other_split}, but they are nearly the same image: a leak; "
                f"drop one of them, or lower prepare.source.near if they show different things"
            )
        first_id = min(samples[image].sample_id for image in images)
        split = next(iter(declared), None if any(samples[image].labels for image in images) else "train")
        if split is None or "train" in declared:
            split = drawn(first_id, val, 0 if declared else test, seed)
        for image in images:
            splits[image] = split
    return splits
