"""Images with what is said of them, drawn or in words."""

from collections import Counter
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.transforms import Bbox

from pipeline.sources.images import ENDINGS
from pipeline.sources.source import Answer

Names = dict[str, list[str]]  # {task: names of its classes}; of a map, from 1 on: 0 is background

COLOURS = matplotlib.color_sequences["tab10"]
FEW = 4  # boxes whose words have room to be large


def draw_image(axis: Axes, image_CHW: np.ndarray, answer: Answer, names: Names | None = None) -> None:
    """Draws "boxes" (class, score or None, x0 y0 x1 y1 in pixels), a "map" of classes, 0 background, and "classes"."""
    height, width = image_CHW.shape[1:]
    extent = (0, width, height, 0)
    axis.imshow(image_CHW.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=255, extent=extent)
    axis.set(xlim=(0, width), ylim=(height, 0))
    for task, said in answer.items():
        known = (names or {}).get(task, [])
        if "map" in said:
            colours = np.array([(0, 0, 0, 0), *((*COLOURS[c % 10], 0.6) for c in range(said["map"].max()))])
            axis.imshow(colours[said["map"]], extent=extent, interpolation="nearest")
        draw_boxes(axis, said.get("boxes", []), known)
        if "classes" in said:
            label = " ".join([axis.get_xlabel(), *(named(kind, known) for kind in said["classes"])]).strip()
            axis.set_xlabel(label or "none", fontsize=8, labelpad=2)


def draw_boxes(axis: Axes, boxes: list[Any], names: list[str]) -> None:
    """Each with its words at that corner, inside the image, where they cover least of the words before them."""
    axis.apply_aspect()  # now, since how much of the image a word covers depends on it
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    taken: list[Bbox] = []
    for kind, score, (x0, y0, x1, y1) in boxes:
        colour = COLOURS[kind % 10]
        axis.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=colour, linewidth=1.2, zorder=3))
        words = named(kind, names) if score is None else f"{named(kind, names)} {score:.0%}"
        back = {"facecolor": "black", "edgecolor": colour, "pad": 1, "linewidth": 1}
        size = 7.5 if len(boxes) <= FEW else 6.5
        text = axis.text(left, top, words, fontsize=size, color="white", va="top", bbox=back, zorder=4)
        area = text.get_window_extent().padded(2).transformed(axis.transData.inverted())
        wide, high = abs(area.width), abs(area.height)
        corners = [(x0, y0 - high), (x0, y1), (x0, y0), (x1 - wide, y0), (x0, y1 - high), (x1 - wide, y1 - high)]
        places = [
            Bbox.from_bounds(max(left, min(x, right - wide)), max(top, min(y, bottom - high)), wide, high) for x, y in corners
        ]
        place = min(places, key=lambda place: place.count_overlaps(taken))
        taken.append(place)
        text.set_position((place.x0, place.y0))


def named(kind: int, names: list[str]) -> str:
    return names[kind] if 0 <= kind < len(names) else str(kind)


def image_in_words(image_CHW: np.ndarray, answer: Answer, names: Names | None = None) -> str:
    """Boxes are in pixels of the image as it is shown to networks, whose size is told with them."""
    _, height, width = image_CHW.shape
    said = {task: in_words(found, (names or {}).get(task, []), f"of {width} x {height}") for task, found in answer.items()}
    return "; ".join(f"{task}: {', '.join(words) or 'nothing'}" for task, words in said.items())


def in_words(said: dict[str, Any], names: list[str], frame: str) -> list[str]:
    words = [named(kind, names) for kind in said.get("classes", [])]
    for kind, score, box in said.get("boxes", []):
        sure = "" if score is None else f" ({score:.0%})"
        words.append(f"{named(kind, names)}{sure} at {' '.join(f'{x:.0f}' for x in box)} {frame}")
    if "map" in said:
        kinds, sizes = np.unique(said["map"], return_counts=True)
        shares = zip(kinds.tolist(), sizes / said["map"].size, strict=True)
        words += [f"{named(kind - 1, names) if names else kind} on {share:.0%}" for kind, share in shares if kind]
    return words


def image_files(given: Path) -> dict[str, Path]:
    """{name: file} of a file, or of what in a folder and below are images by their ending, which is named where it must be."""
    if not given.is_dir():
        return {given.stem: given}
    found = sorted(path for path in given.rglob("*") if path.suffix.lower() in ENDINGS)
    if not found:
        raise ValueError(f"{given}: no image in this folder; expected files such as .png or .jpg")
    names = [path.relative_to(given).with_suffix("").as_posix() for path in found]
    times = Counter(names)
    return {name if times[name] == 1 else name + path.suffix: path for name, path in zip(names, found, strict=True)}
