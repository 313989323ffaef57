"""Images with the answers for them, drawn or in words."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.transforms import Bbox

from pipeline.sources.source import Answer, Arrays
from pipeline.sources.vision.images import ENDINGS, Frame, How, fit, framed, open_upright

Names = dict[str, list[str]]  # {task: names of its classes}; of a map, from 1 on: 0 is background

COLOURS = matplotlib.color_sequences["tab10"]
FEW = 4  # boxes whose words have room to be large


def seen(path: Path, mode: str, frame: Frame, how: How) -> Arrays:
    """An image as networks see it, and, for people, as it is: "image" (C, H, W), "picture" (h, w) or (h, w, 3), and "extent":
    where in the frame the whole picture lies, as left, right, bottom, top."""
    image = open_upright(path, mode)
    kept, place = fit(*image.size, frame, how)
    across, down = (place[2] - place[0]) / (kept[2] - kept[0]), (place[3] - place[1]) / (kept[3] - kept[1])
    left, top = place[0] - kept[0] * across, place[1] - kept[1] * down
    extent = np.array([left, left + image.width * across, top + image.height * down, top])
    return {"image": framed(image, frame, how), "picture": np.asarray(image), "extent": extent}


def draw_image(axis: Axes, inputs: Arrays, answer: Answer, names: Names | None = None) -> None:
    """Draws "boxes" (class, score or None, x0 y0 x1 y1 in pixels of inputs["image"]), a "map" of classes, 0 background, and
    "classes"; on inputs["picture"], if there is one."""
    height, width = inputs["image"].shape[1:]
    extent = (0, width, height, 0)
    picture = inputs.get("picture", inputs["image"].transpose(1, 2, 0).squeeze())
    left, right, bottom, top = around = tuple(inputs.get("extent", np.array(extent)).tolist())
    aspect = picture.shape[0] / picture.shape[1] * (right - left) / (bottom - top)
    axis.imshow(picture, cmap="gray", vmin=0, vmax=255, extent=around, aspect=aspect)
    axis.set(xlim=(left, right), ylim=(bottom, top))
    for task, said in answer.items():
        known = (names or {}).get(task, [])
        if "map" in said:
            colours = np.array([(0, 0, 0, 0), *((*COLOURS[c % 10], 0.6) for c in range(said["map"].max()))])
            axis.imshow(colours[said["map"]], extent=extent, interpolation="nearest", aspect=aspect)
        draw_boxes(axis, said.get("boxes", []), known)
    axis.set_xlabel(classes_in_words(answer, names or {}), fontsize=8, labelpad=2)


def classes_in_words(answer: Answer, names: Names) -> str:
    """The classes of each task that has any; the task is named if there are several."""
    found = {task: said["classes"] for task, said in answer.items() if "classes" in said}
    said = {task: " ".join(named(kind, names.get(task, [])) for kind in kinds) or "none" for task, kinds in found.items()}
    return "\n".join(f"{task}: {words}" if len(said) > 1 else words for task, words in said.items())


def draw_boxes(axis: Axes, boxes: list[Any], names: list[str]) -> None:
    """Each box with its words at the corner inside the image where they cover least of the words before them."""
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


def image_in_words(inputs: Arrays, answer: Answer, names: Names | None = None) -> str:
    """Boxes are in pixels of inputs["picture"], or of inputs["image"] if there is none; so are shares of a map."""
    said = {task: in_words(on_picture(inputs, found), (names or {}).get(task, [])) for task, found in answer.items()}
    return "; ".join(f"{task}: {', '.join(words) or 'nothing'}" for task, words in said.items())


def on_picture(inputs: Arrays, found: dict[str, Any]) -> dict[str, Any]:
    """Answers for inputs["image"] moved to inputs["picture"]: boxes in its pixels, of a map the part that lies on it."""
    if "picture" not in inputs:
        return found
    (height, width), (high, wide) = inputs["image"].shape[1:], inputs["picture"].shape[:2]
    left, right, bottom, top = inputs["extent"].tolist()
    scale, origin = np.array([wide / (right - left), high / (bottom - top)] * 2), np.array([left, top] * 2)
    moved = dict(found)
    if "boxes" in found:
        moved["boxes"] = [(kind, score, (box - origin) * scale) for kind, score, box in found["boxes"]]
    if "map" in found:
        down, across = found["map"].shape[0] / height, found["map"].shape[1] / width
        rows = slice(max(0, round(top * down)), round(bottom * down))
        moved["map"] = found["map"][rows, max(0, round(left * across)) : round(right * across)]
    return moved


def in_words(said: dict[str, Any], names: list[str]) -> list[str]:
    words = [named(kind, names) for kind in said.get("classes", [])]
    for kind, score, box in said.get("boxes", []):
        sure = "" if score is None else f" ({score:.0%})"
        words.append(f"{named(kind, names)}{sure} at {' '.join(f'{x:.0f}' for x in box)}")
    if "map" in said:
        kinds, sizes = np.unique(said["map"], return_counts=True)
        shares = zip(kinds.tolist(), sizes / said["map"].size, strict=True)
        words += [f"{named(kind - 1, names) if names else kind} on {share:.0%}" for kind, share in shares if kind]
    return words


def each_read(given: Path, read: Callable[[Path], Arrays]) -> Iterator[tuple[str, Arrays]]:
    """(name, inputs) of an image file, or of each in a folder and below. Raises ValueError at the end, for all that fail."""
    files, unread = image_files(given), []
    for name, path in files.items():
        try:
            inputs = read(path)
        except ValueError as error:
            unread.append(str(error))
        else:
            yield name, inputs
    if unread:
        of = f"{given}: {len(unread)} of {len(files)} images could not be read: " if len(files) > 1 else ""
        raise ValueError(of + "; ".join(unread))


def image_files(given: Path) -> dict[str, Path]:
    """{name: file} of a file, or of the images by ending in a folder and below; names have endings where they would clash."""
    if not given.is_dir():
        return {given.stem: given}
    found = sorted(path for path in given.rglob("*") if path.suffix.lower() in ENDINGS)
    if not found:
        raise ValueError(f"{given}: no image in this folder; expected files such as .png or .jpg")
    names = [path.relative_to(given).with_suffix("").as_posix() for path in found]
    times = Counter(names)
    return {name if times[name] == 1 else name + path.suffix: path for name, path in zip(names, found, strict=True)}
