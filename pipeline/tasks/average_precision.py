"""Average precision of boxes as COCO counts it, vectorised: every evaluation of every student of a sweep needs it."""

import numpy as np

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
MOST = 100  # boxes per class and image that count

Boxes = tuple[np.ndarray, np.ndarray]  # their images, in order: (n,); corners: (n, 4)


def average_precision(score: np.ndarray, kind: np.ndarray, box: np.ndarray, label: np.ndarray, classes: int) -> np.ndarray:
    """At each of IOUS, the mean over the classes that occur in labels: (10,); 0 if none does (Lin et al., 1405.0312).

    score, kind: (N, M), of boxes (N, M, 4) in x0, y0, x1, y1; a score of 0 means no box. label: (N, M', 5), class (-1: no box;
    -2 - c: a crowd of class c) and corners.
    """
    image, place = np.nonzero(label[..., 0] != -1)
    truth = label[image, place].astype(float)
    box_places = np.nonzero(score > 0)
    box_image, score, kind, box = box_places[0], score[box_places], kind[box_places], box[box_places].astype(float)
    precisions = [np.zeros(len(IOUS))]
    for c in range(classes):
        in_class, is_truth, is_crowd = kind == c, truth[:, 0] == c, truth[:, 0] == -2 - c
        if is_truth.any():
            truths = (image[is_truth], truth[is_truth, 1:]), (image[is_crowd], truth[is_crowd, 1:])
            precisions.append(of_class(box_image[in_class], score[in_class], box[in_class], *truths))
    return np.sum(precisions, 0) / max(1, len(precisions) - 1)


def of_class(image: np.ndarray, score: np.ndarray, box: np.ndarray, truths: Boxes, crowds: Boxes) -> np.ndarray:
    """For one class, (10,): the highest precision at each recall or above, averaged over RECALLS. Images are in order."""
    order = np.lexsort((-score, image))
    rank = np.arange(len(image)) - np.searchsorted(image, image)
    order, rank = order[rank < MOST], rank[rank < MOST]
    hits = first_to_find(image[order], rank, box[order], *truths)
    counts = hits | ~inside(image[order], box[order], *crowds)
    best = np.argsort(-score[order], kind="stable")
    hits, counts = hits[best].cumsum(0), counts[best].cumsum(0)
    precision = np.vstack([hits / counts.clip(min=1), np.zeros(len(IOUS))])
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = [np.searchsorted(recall, RECALLS) for recall in hits.T / len(truths[0])]
    return np.array([column[place].mean() for column, place in zip(precision.T, places, strict=True)])


def first_to_find(
    image: np.ndarray, rank: np.ndarray, box: np.ndarray, truth_image: np.ndarray, truth: np.ndarray
) -> np.ndarray:
    """Whether each box finds a truth that no better box of its image has found, at each of IOUS: (n, 10).

    It takes the one it overlaps most, the last among equals. Boxes of the same rank search in all images at once.
    """
    images, row = np.unique(truth_image, return_inverse=True)
    place = np.arange(len(row)) - np.searchsorted(truth_image, truth_image)
    truths = np.full((len(images), place.max() + 1, 4), np.nan)
    truths[row, place] = truth
    free = np.repeat(~np.isnan(truths[..., :1]), len(IOUS), 2)
    hits = np.zeros((len(image), len(IOUS)), bool)
    has_truth = np.isin(image, images)
    for r in range(rank.max(initial=-1) + 1):
        searching = np.flatnonzero(has_truth & (rank == r))
        truth_row = np.searchsorted(images, image[searching])
        iou = overlap(box[searching, None], truths[truth_row])[..., None]
        fit = np.where(free[truth_row] & (iou >= IOUS), iou, 0)
        best = fit.shape[1] - 1 - fit[:, ::-1].argmax(1)
        hits[searching] = np.take_along_axis(fit, best[:, None], 1)[:, 0] > 0
        n, threshold = np.nonzero(hits[searching])
        free[truth_row[n], best[n, threshold], threshold] = False
    return hits


def inside(image: np.ndarray, box: np.ndarray, crowd_image: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Whether at least this share of each box, at each of IOUS, lies in a crowd of its image: (n, 10)."""
    part = np.zeros(len(image))
    for number, corners in zip(crowd_image, crowd, strict=True):
        boxes = slice(*np.searchsorted(image, [number, number + 1]))
        part[boxes] = np.maximum(part[boxes], shared(box[boxes], corners) / area(box[boxes]))
    return part[:, None] >= IOUS


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (..., 4)."""
    intersection = shared(a, b)
    return intersection / (area(a) + area(b) - intersection)


def shared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])).clip(min=0).prod(-1)


def area(box: np.ndarray) -> np.ndarray:
    return (box[..., 2:] - box[..., :2]).prod(-1)
