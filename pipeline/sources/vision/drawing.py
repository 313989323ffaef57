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
    left, right, bottom, top = picture_extent = tuple(inputs.get("extent", np.array(extent)).tolist())
    aspect = picture.shape[0] / picture.shape[1] * (right - left) / (bottom - top)
    axis.imshow(picture, cmap="gray", vmin=0, vmax=255, extent=picture_extent, aspect=aspect)
    axis.set(xlim=(left, right), ylim=(bottom, top))
    for task, task_answer in answer.items():
        class_names = (names or {}).get(task, [])
        if "map" in task_answer:
            colours = np.array([(0, 0, 0, 0), *((*COLOURS[c % 10], 0.6) for c in range(task_answer["map"].max()))])
            axis.imshow(colours[task_answer["map"]], extent=extent, interpolation="nearest", aspect=aspect)
        draw_boxes(axis, task_answer.get("boxes", []), class_names)
    axis.set_xlabel(classes_in_words(answer, names or {}), fontsize=8, labelpad=2)


def classes_in_words(answer: Answer, names: Names) -> str:
    """The classes of each task that has any; the task is named if there are several."""
    classes_by_task = {task: task_answer["classes"] for task, task_answer in answer.items() if "classes" in task_answer}
    words_by_task = {
        task: " ".join(named(kind, names.get(task, [])) for kind in kinds) or "none" for task, kinds in classes_by_task.items()
    }
    return "\n".join(f"{task}: {words}" if len(words_by_task) > 1 else words for task, words in words_by_task.items())


def draw_boxes(axis: Axes, boxes: list[Any], names: list[str]) -> None:
    """Each box with its words at the corner inside the image where they cover least of the words before them."""
    axis.apply_aspect()  # now, since how much of the image a word covers depends on it
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    taken_boxes: list[Bbox] = []
    for kind, score, (x0, y0, x1, y1) in boxes:
        colour = COLOURS[kind % 10]
        axis.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=colour, linewidth=1.2, zorder=3))
        words = named(kind, names) if score is None else f"{named(kind, names)} {score:.0%}"
        background = {"facecolor": "black", "edgecolor": colour, "pad": 1, "linewidth": 1}
        size = 7.5 if len(boxes) <= FEW else 6.5
        text = axis.text(left, top, words, fontsize=size, color="white", va="top", bbox=background, zorder=4)
        area = text.get_window_extent().padded(2).transformed(axis.transData.inverted())
        width, height = abs(area.width), abs(area.height)
        corners = [(x0, y0 - height), (x0, y1), (x0, y0), (x1 - width, y0), (x0, y1 - height), (x1 - width, y1 - height)]
        candidates = [
            Bbox.from_bounds(max(left, min(x, right - width)), max(top, min(y, bottom - height)), width, height)
            for x, y in corners
        ]
        text_box = min(candidates, key=lambda text_box: text_box.count_overlaps(taken_boxes))
        taken_boxes.append(text_box)
        text.set_position((text_box.x0, text_box.y0))


def named(kind: int, names: list[str]) -> str:
    return names[kind] if 0 <= kind < len(names) else str(kind)


def image_in_words(inputs: Arrays, answer: Answer, names: Names | None = None) -> str:
    """Boxes are in pixels of inputs["picture"], or of inputs["image"] if there is none; so are shares of a map."""
    words_by_task = {
        task: in_words(on_picture(inputs, task_answer), (names or {}).get(task, [])) for task, task_answer in answer.items()
    }
    return "; ".join(f"{task}: {', '.join(words) or 'nothing'}" for task, words in words_by_task.items())


def on_picture(inputs: Arrays, task_answer: dict[str, Any]) -> dict[str, Any]:
    """Answers for inputs["image"] moved to inputs["picture"]: boxes in its pixels, of a map the part that lies on it."""
    if "picture" not in inputs:
        return task_answer
    (height, width), (picture_height, picture_width) = inputs["image"].shape[1:], inputs["picture"].shape[:2]
    left, right, bottom, top = inputs["extent"].tolist()
    scale, origin = np.array([picture_width / (right - left), picture_height / (bottom - top)] * 2), np.array([left, top] * 2)
    moved = dict(task_answer)
    if "boxes" in task_answer:
        moved["boxes"] = [(kind, score, (box - origin) * scale) for kind, score, box in task_answer["boxes"]]
    if "map" in task_answer:
        down, across = task_answer["map"].shape[0] / height, task_answer["map"].shape[1] / width
        rows = slice(max(0, round(top * down)), round(bottom * down))
        moved["map"] = task_answer["map"][rows, max(0, round(left * across)) : round(right * across)]
    return moved


def in_words(task_answer: dict[str, Any], names: list[str]) -> list[str]:
    words = [named(kind, names) for kind in task_answer.get("classes", [])]
    for kind, score, box in task_answer.get("boxes", []):
        score_text = "" if score is None else f" ({score:.0%})"
        words.append(f"{named(kind, names)}{score_text} at {' '.join(f'{coordinate:.0f}' for coordinate in box)}")
    if "map" in task_answer:
        kinds, sizes = np.unique(task_answer["map"], return_counts=True)
        shares = zip(kinds.tolist(), sizes / task_answer["map"].size, strict=True)
        words += [f"{named(kind - 1, names) if names else kind} on {share:.0%}" for kind, share in shares if kind]
    return words


def each_read(folder_or_file: Path, read: Callable[[Path], Arrays]) -> Iterator[tuple[str, Arrays]]:
    """(name, inputs) of an image file, or of each in a folder and below. Raises ValueError at the end, for all that fail."""
    files, problems = image_files(folder_or_file), []
    for name, path in files.items():
        try:
            inputs = read(path)
        except ValueError as error:
            problems.append(str(error))
        else:
            yield name, inputs
    if problems:
        summary = f"{folder_or_file}: {len(problems)} of {len(files)} images could not be read: " if len(files) > 1 else ""
        raise ValueError(summary + "; ".join(problems))


def image_files(folder_or_file: Path) -> dict[str, Path]:
    """{name: file} of a file, or of the images by ending in a folder and below; names have endings where they would clash."""
    if not folder_or_file.is_dir():
        return {folder_or_file.stem: folder_or_file}
    paths = sorted(path for path in folder_or_file.rglob("*") if path.suffix.lower() in ENDINGS)
    if not paths:
        raise ValueError(f"{folder_or_file}: no image in this folder; expected files such as .png or .jpg")
    names = [path.relative_to(folder_or_file).with_suffix("").as_posix() for path in paths]
    counts = Counter(names)
    return {name if counts[name] == 1 else name + path.suffix: path for name, path in zip(names, paths, strict=True)}
