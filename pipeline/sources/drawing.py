"""An image with what is said of it."""

from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

COLOURS = matplotlib.color_sequences["tab10"]


def draw_image(axis: Axes, image_CHW: np.ndarray, answer: dict[str, Any]) -> None:
    """answer: of "boxes" (class, score or None, x0 y0 x1 y1 in pixels), a "map" of classes, 0 background, "classes"."""
    height, width = image_CHW.shape[1:]
    extent = (0, width, height, 0)
    axis.imshow(image_CHW.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=255, extent=extent)
    if "map" in answer:
        colours = np.array([(0, 0, 0, 0), *((*COLOURS[c % 10], 0.6) for c in range(answer["map"].max()))])
        axis.imshow(colours[answer["map"]], extent=extent, interpolation="nearest")
    for kind, score, (x0, y0, x1, y1) in answer.get("boxes", []):
        colour = COLOURS[kind % 10]
        axis.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=colour, linewidth=1.2))
        text = f"{kind}" if score is None else f"{kind} {score:.0%}"
        axis.text(x0, y0, text, fontsize=6, color="white", va="bottom", bbox={"facecolor": colour, "pad": 0.5, "lw": 0})
    if "classes" in answer:
        axis.set_xlabel(" ".join(map(str, answer["classes"])) or "none", fontsize=8, labelpad=2)
    axis.set(xlim=(0, width), ylim=(height, 0))
