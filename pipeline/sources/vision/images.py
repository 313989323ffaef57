"""Images of any size: read safely, fitted into one frame with their boxes and masks, augmented, made worse."""

import struct
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.sources.source import Arrays

PIXELS = 80_000_000  # of one image: below the size that Pillow warns of
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # none that starts another program, as EPS does
ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
GREY = 128  # where a frame shows nothing of its image
THUMBNAIL = 16  # pixels per side of the thumbnails that near-duplicates are found by

Frame = tuple[int, int]  # height, width
How = Literal["pad", "crop", "stretch"]


def open_upright(path: Path, mode: str | None) -> Image.Image:
    """The image as a person sees it, its EXIF orientation applied, on grey where it is transparent. mode: Pillow's "L" or
    "RGB"; None: as it is.

    Raises ValueError on a file that is not an image, is cut short, or is absurdly large.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > PIXELS:
                raise ValueError(f"{path}: {image.width} x {image.height} pixels, expected at most {PIXELS:,}; make it smaller")
            if mode and image.mode[0] in "IF":
                raise ValueError(f"{path}: its pixels are {image.mode}, expected 8 bits per channel; convert it first")
            upright = ImageOps.exif_transpose(image)
            if mode and upright.has_transparency_data:  # or hidden colours would show
                upright = Image.alpha_composite(Image.new("RGBA", upright.size, (GREY,) * 3 + (255,)), upright.convert("RGBA"))
            return upright.convert(mode) if mode else upright.copy()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{path}: absurdly large: {error}") from None
    except UnidentifiedImageError:
        raise ValueError(f"{path}: not an image of a known format, or damaged") from None
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (OSError, SyntaxError, EOFError, struct.error) as error:
        raise ValueError(f"{path}: cannot be read as an image: {error or type(error).__name__}") from None


class Fit(NamedTuple):
    """How an image lies in a frame. kept: what is shown of it, x0 y0 x1 y1 in its pixels; place: where, in the frame's."""

    kept: tuple[float, float, float, float]
    place: tuple[int, int, int, int]


def fit(width: int, height: int, frame: Frame, how: How) -> Fit:
    """pad: the whole image, in proportion, grey beside it. crop: the middle, in proportion, filling the frame. stretch."""
    high, wide = frame
    if how == "crop":
        scale = max(wide / width, high / height)
        left, top = max(0.0, (width - wide / scale) / 2), max(0.0, (height - high / scale) / 2)
        return Fit((left, top, width - left, height - top), (0, 0, wide, high))
    if how == "stretch":
        return Fit((0, 0, width, height), (0, 0, wide, high))
    scale = min(wide / width, high / height)
    across, down = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (wide - across) // 2, (high - down) // 2
    return Fit((0, 0, width, height), (left, top, left + across, top + down))


def framed(image: Image.Image, frame: Frame, how: How) -> np.ndarray:
    """(C, H, W) uint8."""
    kept, (x0, y0, x1, y1) = fit(*image.size, frame, how)
    shown_HWC = np.asarray(image.resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR, kept)).reshape(y1 - y0, x1 - x0, -1)
    out_HWC = np.full((*frame, shown_HWC.shape[2]), GREY, np.uint8)
    out_HWC[y0:y1, x0:x1] = shown_HWC
    return np.ascontiguousarray(out_HWC.transpose(2, 0, 1))


def framed_mask(mask_HW: np.ndarray, frame: Frame, how: How) -> np.ndarray:
    """A class map at the pixels of `framed`, each with the class in the middle of what it shows; 0 beside the image."""
    kept, (x0, y0, x1, y1) = fit(mask_HW.shape[1], mask_HW.shape[0], frame, how)
    line = kept[1] + (np.arange(y1 - y0) + 0.5) * (kept[3] - kept[1]) / (y1 - y0)
    column = kept[0] + (np.arange(x1 - x0) + 0.5) * (kept[2] - kept[0]) / (x1 - x0)
    out_HW = np.zeros(frame, np.uint8)
    out_HW[y0:y1, x0:x1] = mask_HW[line.astype(int)[:, None], column.astype(int)]
    return out_HW


def framed_boxes(boxes: np.ndarray, size: tuple[int, int], frame: Frame, how: How) -> np.ndarray:
    """Boxes (n, 5) of class, x0 y0 x1 y1, moved as `framed` moves an image of (width, height); those cut away are dropped."""
    kept, place = fit(*size, frame, how)
    origin, onto = np.array(kept[:2] * 2), np.array(place[:2] * 2)
    scale = np.array([(place[2] - place[0]) / (kept[2] - kept[0]), (place[3] - place[1]) / (kept[3] - kept[1])] * 2)
    corners = (boxes[:, 1:].astype(float) - origin) * scale + onto
    corners = np.clip(corners, np.array(place[:2] * 2), np.array(place[2:] * 2))
    moved = np.column_stack([boxes[:, :1], corners]).astype(np.float32)
    return moved[(moved[:, 3] > moved[:, 1]) & (moved[:, 4] > moved[:, 2])]


def thumbnail(image: Image.Image) -> np.ndarray:
    """(THUMBNAIL, THUMBNAIL, 3) uint8."""
    small = image.convert("RGB").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(small)


def augmented(rng: np.random.Generator, inputs: Arrays, labels: Arrays, flip: bool) -> tuple[Arrays, Arrays]:
    """Mirrored (if flip), scaled by up to a quarter, shifted by up to a tenth, in other light and colours, with noise.

    inputs: "image" (B, C, H, W) uint8. Of the labels boxes (B, M, 5) and maps (B, H, W) move along; others stay.
    """
    image = inputs["image"]
    batch, _, *frame = image.shape
    scale = rng.uniform(0.8, 1.25, (batch, 1))
    shift_y, shift_x = (rng.uniform(-0.1, 0.1, (batch, 1)) * side for side in frame)
    mirror = (rng.random((batch, 1)) < 0.5) & flip
    line, column = (positions(side, scale, shift) for side, shift in zip(frame, (shift_y, shift_x), strict=True))
    column = np.where(mirror, frame[1] - 1 - column, column)
    moved_image = np.stack([resampled(image_CHW, i, j) for image_CHW, i, j in zip(image, line, column, strict=True)])
    moved = dict(labels)
    for task, label in labels.items():
        if label.dtype == np.uint8 and label.shape[1:] == tuple(frame):
            i, j = np.rint(line).astype(int), np.rint(column).astype(int)
            moved[task] = label[np.arange(batch)[:, None, None], i[:, :, None], j[:, None, :]]
        elif label.ndim == 3 and label.dtype == np.float32:
            moved[task] = moved_boxes(label, frame, scale, shift_y, shift_x, mirror)
    return {"image": other_light(rng, moved_image)}, moved


def positions(side: int, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Where each of `side` pixels takes its value from: (B, side), clipped to the image."""
    middle = (side - 1) / 2
    return np.clip((np.arange(side) - middle - shift) / scale + middle, 0, side - 1).astype(np.float32)


def resampled(image_CHW: np.ndarray, line: np.ndarray, column: np.ndarray) -> np.ndarray:
    """The image at these lines (H,) and columns (W,), linearly between pixels: (C, H, W) float32."""
    pixels_CHW = image_CHW.astype(np.float32)
    for axis, positions in ((1, line), (2, column)):
        low = positions.astype(int)
        share = (positions - low).reshape([-1 if a == axis else 1 for a in range(3)])
        pixels_CHW = (
            pixels_CHW.take(low, axis) * (1 - share)
            + pixels_CHW.take(np.minimum(low + 1, pixels_CHW.shape[axis] - 1), axis) * share
        )
    return pixels_CHW


def moved_boxes(
    boxes: np.ndarray, frame: list[int], scale: np.ndarray, shift_y: np.ndarray, shift_x: np.ndarray, mirror: np.ndarray
) -> np.ndarray:
    """Boxes (B, M, 5) in pixel edges; padding stays, and what has left the frame becomes padding.

    The box of an object that the frame cut keeps reaching the frame's edge, as the repeated pixels there do.
    """
    high, wide = frame
    x0, y0, x1, y1 = np.moveaxis(boxes[..., 1:], -1, 0)
    x0, x1 = np.where(mirror, wide - x1, x0), np.where(mirror, wide - x0, x1)
    x0, x1 = (moved_edge(x, wide, scale, shift_x) for x in (x0, x1))
    y0, y1 = (moved_edge(y, high, scale, shift_y) for y in (y0, y1))
    corners = np.stack([x0, y0, x1, y1], 2)
    is_visible = (boxes[..., 0] != -1) & (x1 - x0 >= 1) & (y1 - y0 >= 1)
    return np.where(is_visible[..., None], np.concatenate([boxes[..., :1], corners], 2), -1).astype(np.float32)


def moved_edge(x: np.ndarray, side: int, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    moved = np.clip((x - side / 2) * scale + side / 2 + shift, 0, side)
    return np.where(x <= 0, 0, np.where(x >= side, side, moved))


def other_light(rng: np.random.Generator, image_BCHW: np.ndarray) -> np.ndarray:
    """Contrast and brightness, saturation of colours, noise: uint8."""
    batch, channels = image_BCHW.shape[:2]
    gain, offset, colour = (rng.uniform(a, b, (batch, 1, 1, 1)) for a, b in ((0.8, 1.2), (-20.0, 20.0), (0.7, 1.3)))
    if channels == 3:
        grey = image_BCHW.mean(1, keepdims=True)
        image_BCHW = grey + colour.astype(np.float32) * (image_BCHW - grey)
    image_BCHW = (image_BCHW - GREY) * gain.astype(np.float32) + (GREY + offset).astype(np.float32)
    image_BCHW += 5 * rng.standard_normal(image_BCHW.shape, dtype=np.float32)
    return np.clip(np.rint(image_BCHW), 0, 255).astype(np.uint8)


def corrupted(rng: np.random.Generator, image_CHW: np.ndarray) -> np.ndarray:
    """Noisy, blurred, or with less than half the contrast, each in one of three: uint8."""
    pixels_CHW, kind = image_CHW.astype(np.float32), rng.integers(3)
    if kind == 0:
        pixels_CHW += 30 * rng.standard_normal(pixels_CHW.shape, dtype=np.float32)
    elif kind == 1:
        padded_CHW, (high, wide) = np.pad(pixels_CHW, ((0, 0), (1, 1), (1, 1)), mode="edge"), pixels_CHW.shape[1:]
        pixels_CHW = np.mean([padded_CHW[:, i : i + high, j : j + wide] for i in range(3) for j in range(3)], axis=0)
    else:
        pixels_CHW = 0.4 * pixels_CHW + 30
    return np.clip(np.rint(pixels_CHW), 0, 255).astype(np.uint8)
