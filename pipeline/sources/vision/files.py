"""Your own images: folders, COCO, VOC and CSV files of labels, any of them for any task, on any part of the images."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from pipeline.project.class_spec import Count, Weight
from pipeline.sources.bad import report_bad
from pipeline.sources.source import Answer, Arrays, LazyArray, Source, Split
from pipeline.sources.vision.drawing import draw_image, each_read, image_in_words, seen
from pipeline.sources.vision.duplicates import assign, near_duplicates
from pipeline.sources.vision.gathering import Label, Sample, classes_of, look_at_all, merged, read_labels
from pipeline.sources.vision.images import GREY, How, augmented, corrupted, framed, framed_boxes, framed_mask, open_upright
from pipeline.sources.vision.labels import ImageFolder, parts_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PREVIEW = 16  # images
SHOWN_AS = {
    "pad": f"the whole image in proportion, {GREY} beside it, in",
    "crop": "its middle in proportion, filling",
    "stretch": "stretched to",
}
Classes = dict[str, list[str]]  # {task: names}


@final
class Files(Source):
    """Images of any size, with labels of tasks on any of them.

    labels: {task: a part or a list of parts}, see `labels.Part`; unseen: the same, of classes or numbers that no task is
    trained for. unlabelled: folders of more images. size: [height, width] of the frame, how: pad, crop or stretch into it.
    channels: 3 in colour, 1 in grey. views: rows per image in the transfer set; only view 0, the image in its frame, carries
    labels. val, test: shares of the images that no part declares to be in a split; val also takes its share of train. near:
    see `near_duplicates`. flip: whether a mirrored image is as good. skip_bad: go on without labels and images that cannot be
    used.
    """

    def __init__(
        self,
        *,
        labels: dict[str, Any],
        size: list[int],
        seed: int,
        how: How = "pad",
        channels: int = 3,
        views: Count = 2,
        val: float = 0.1,
        test: float = 0.2,
        near: Weight = 0.2,
        flip: bool = True,
        skip_bad: bool = False,
        unlabelled: list[str] | None = None,
        unseen: dict[str, Any] | None = None,
    ):
        if how not in ("pad", "crop", "stretch"):
            raise ValueError(f"how: {how!r}, expected pad, crop or stretch")
        if channels not in (1, 3):
            raise ValueError(f"channels: {channels}, expected 3 (colour) or 1 (grey)")
        if not (isinstance(size, list) and len(size) == 2 and all(isinstance(n, int) and n >= 8 for n in size)):
            raise ValueError(f"size: {size}, expected [height, width] of at least 8 pixels each")
        if views < 1:
            raise ValueError(f"views: {views}, expected at least 1: the image itself")
        if min(val, test) < 0 or val + test >= 1:
            raise ValueError(f"val, test: {val} and {test}, expected shares that leave something to learn from")
        if not isinstance(labels, dict) or not labels:
            raise ValueError("labels: empty; name at least one task with its labels")
        self.parts = {task: parts_of(f"labels.{task}", given) for task, given in labels.items()}
        self.unseen = {name: parts_of(f"unseen.{name}", given) for name, given in (unseen or {}).items()}
        for name, parts in (self.parts | self.unseen).items():
            if (parts[0].kind == "number") > (name in self.unseen):
                raise ValueError(f"labels.{name}.gives: number is for unseen tasks only")
            if name in self.unseen and (name in self.parts or parts[0].kind not in ("class", "number")):
                raise ValueError(f"unseen.{name}: expected a name that is no task's, with a class or number per image")
        self.frame, self.how, self.mode, self.views = (size[0], size[1]), how, "L" if channels == 1 else "RGB", views
        self.val, self.test, self.near, self.seed = val, test, near, seed
        self.flip, self.skip_bad, self.unlabelled = flip, skip_bad, unlabelled or []

    @cached_property
    def names(self) -> Classes:  # type: ignore[override]
        """Names of classes: as params give them, else as the labels do; none where these cannot be read."""
        lacking = {task: parts for task, parts in self.parts.items() if not parts[0].names}
        try:
            found, _ = read_labels(lacking)
        except (OSError, ValueError):
            found = {}
        said = {task: parts[0].names or [] for task, parts in self.parts.items()}
        return said | {task: classes_of(several) for task, several in found.items()}

    def splits(self) -> dict[str, Split]:
        samples, split_of, classes = self.collect()
        rng = np.random.default_rng([self.seed, *b"order"])
        parts: dict[str, list[Sample]] = {"train": [], "val": [], "test": []}
        for i in rng.permutation(len(samples)):
            parts[split_of[i]].append(samples[i])
        tasks, unseen = list(self.parts), list(self.unseen)
        for name in ("val", "test"):  # images with most labels come first: the report shows the first rows
            carrying = [s for s in parts[name] if s.labels.keys() & set(tasks)]
            parts[f"unseen {name}"] = [s for s in parts[name] if set(unseen) <= s.labels.keys()]
            parts[name] = sorted(carrying, key=lambda s: -len(s.labels.keys() & set(tasks)))
        self.check_sizes(parts)
        order = rng.permutation(len(parts["train"]) * self.views)
        sample, view = order % len(parts["train"]), order // len(parts["train"])
        rows = [parts["train"][i] for i in sample]
        found = {
            "transfer": self.as_split(rows, view.astype(np.int32), tasks, classes),
            "val": self.plain(parts["val"], tasks, classes),
            "test/clean": self.plain(parts["test"], tasks, classes),
            "test/corrupted": self.plain(parts["test"], tasks, classes, worse=True),
        }
        if unseen:
            found["unseen/train"] = self.plain(parts["unseen val"], unseen, classes)
            found["unseen/test"] = self.plain(parts["unseen test"], unseen, classes)
        return found

    def preview(self) -> tuple[int, Split]:
        """The number of rows is approximate: which files are bad or duplicates is known only in the end."""
        found, _ = read_labels(self.parts)
        share = {"train": 1 - self.val, "val": 0.0, "test": 0.0, None: 1 - self.val - self.test}
        pairs = [pair for task in self.parts for pair in zip(self.parts[task], found[task], strict=True)]
        paths = {path: share[spec.split] for spec, part in pairs for path, _ in part.labels}
        extra = {path for folder in self.unlabelled for path in ImageFolder(folder).files} - paths.keys()
        rows = round(sum(paths.values()) + len(extra)) * self.views
        some = [path for several in found.values() for path, _ in several[0].labels[:2]]
        looked, unread = look_at_all(dict.fromkeys([*some, *list(paths)[:: max(1, len(paths) // PREVIEW)]]))
        samples, unfit = merged(self.parts, found, looked)
        if not samples:
            raise ValueError(f"no image can be used: {(unread + unfit)[0]}")
        few = self.plain(samples, list(self.parts), {task: classes_of(several) for task, several in found.items()})
        return rows, few.first(len(samples))

    def collect(self) -> tuple[list[Sample], list[str], Classes]:
        """All images, the split of each, and the classes of each task. Raises ValueError on what is bad, unless skipped."""
        parts = self.parts | self.unseen
        found, bad = read_labels(parts)
        extra = {path for folder in self.unlabelled for path in ImageFolder(folder).files}
        paths = sorted({path for several in found.values() for part in several for path, _ in part.labels} | extra)
        looked, unreadable = look_at_all(paths)
        samples, unfit = merged(parts, found, looked)
        report_bad(bad + unreadable + unfit, "labels or images", self.skip_bad)
        if len(samples) < 3:
            raise ValueError(f"{len(samples)} images that can be used; learning, val and test need at least one each")
        groups = near_duplicates(np.stack([sample.thumbnail for sample in samples]), self.near)
        splits = assign(samples, groups, self.val, self.test, self.seed)
        return samples, splits, {task: classes_of(several) for task, several in found.items()}

    def check_sizes(self, parts: dict[str, list[Sample]]) -> None:
        for name in ("train", "val", "test"):
            for task in self.parts:
                if not any(task in sample.labels for sample in parts[name]):
                    raise ValueError(
                        f"no image in {name} has a label of {task}: label more, raise prepare.source.val or test, or declare "
                        f"a part to be in {name} with `split: {name}`; lower near if different images are taken for the same"
                    )
        for name in ("unseen val", "unseen test"):
            if self.unseen and not parts[name]:
                raise ValueError(f"no image in {name.split()[1]} has labels of all of {', '.join(self.unseen)}")

    def plain(self, samples: list[Sample], tasks: list[str], classes: Classes, worse: bool = False) -> Split:
        return self.as_split(samples, np.zeros(len(samples), np.int32), tasks, classes, worse)

    def as_split(self, rows: list[Sample], view: np.ndarray, tasks: list[str], classes: Classes, worse: bool = False) -> Split:
        """Images and class maps are read only when asked for, so that no more than a shard of them is in memory."""

        def image(i: int) -> np.ndarray:
            x, stream = self.show(rows[i].path), [self.seed, int(view[i]), *rows[i].sample_id]
            if view[i]:
                x = self.augment(np.random.default_rng(stream), {"image": x[None]}, {})[0]["image"][0]
            return corrupted(np.random.default_rng([*stream, 1]), x) if worse else x

        channels = 1 if self.mode == "L" else 3
        labelled = {task: np.array([task in s.labels for s in rows]) & (view == 0) for task in tasks}
        labels = {task: self.label_rows(task, rows, labelled[task], classes[task]) for task in tasks}
        ids = np.frombuffer(b"".join(s.sample_id for s in rows), np.uint8).reshape(-1, 16)
        return Split({"image": LazyArray(image, len(rows), (channels, *self.frame), np.uint8)}, labels, labelled, view, ids)

    def label_rows(self, task: str, rows: list[Sample], has: np.ndarray, classes: list[str]) -> Any:
        kind, number = (self.parts | self.unseen)[task][0].kind, {name: i for i, name in enumerate(classes)}

        def given(i: int) -> Label:
            return rows[i].labels[task]

        def class_map(i: int) -> np.ndarray:
            if not has[i]:
                return np.zeros(self.frame, np.uint8)
            return framed_mask(given(i).said(classes, *given(i).size), self.frame, self.how)

        if kind == "masks":
            return LazyArray(class_map, len(rows), self.frame, np.uint8)
        if kind == "boxes":
            none = np.zeros((0, 5), np.float32)
            return [self.boxes(given(i), number) if has[i] else none for i in range(len(rows))]
        if kind == "number":
            return np.array([given(i).said if has[i] else 0 for i in range(len(rows))], np.float32)
        if kind == "class":
            return np.array([number[given(i).said] if has[i] else -1 for i in range(len(rows))], np.int64)
        present = np.zeros((len(rows), len(classes)), np.uint8)
        for i in np.flatnonzero(has).tolist():
            present[i, [number[name] for name in given(i).said]] = 1
        return present

    def boxes(self, label: Label, number: dict[str, int]) -> np.ndarray:
        kinds = [(number[name], corners, ignored) for name, *corners, ignored in label.said]
        rows = np.array([(-2 - n if ignored else n, *corners) for n, corners, ignored in kinds], float).reshape(-1, 5)
        return framed_boxes(rows, label.size, self.frame, self.how)

    def show(self, path: Path) -> np.ndarray:
        return framed(open_upright(path, self.mode), self.frame, self.how)

    def inputs_in_words(self) -> str:
        height, width = self.frame
        colours = "red, green and blue" if self.mode == "RGB" else "one channel, grey"
        return (
            f"image: {colours}, 0 to 255, as a person sees it (EXIF applied; {GREY} where it is transparent); "
            f"{SHOWN_AS[self.how]} {height} x {width} pixels, bilinear with antialiasing, as Pillow resizes"
        )

    def augment(self, rng: np.random.Generator, inputs: Arrays, labels: Arrays) -> tuple[Arrays, Arrays]:
        return augmented(rng, inputs, labels, self.flip)

    def draw(self, axis: "Axes", inputs: Arrays, answer: Answer) -> None:
        draw_image(axis, inputs, answer, self.names)

    def words(self, inputs: Arrays, answer: Answer) -> str:
        return image_in_words(inputs, answer, self.names)

    def read(self, given: str) -> Iterator[tuple[str, Arrays]]:
        return each_read(Path(given), lambda path: seen(path, self.mode, self.frame, self.how))
