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
        self.parts = {task: parts_of(f"labels.{task}", specs) for task, specs in labels.items()}
        self.unseen = {name: parts_of(f"unseen.{name}", specs) for name, specs in (unseen or {}).items()}
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
        unnamed_parts = {task: parts for task, parts in self.parts.items() if not parts[0].names}
        try:
            found_by_task, _ = read_labels(unnamed_parts)
        except (OSError, ValueError):
            found_by_task = {}
        names_by_task = {task: parts[0].names or [] for task, parts in self.parts.items()}
        return names_by_task | {task: classes_of(found_parts) for task, found_parts in found_by_task.items()}

    def splits(self) -> dict[str, Split]:
        samples, sample_splits, classes = self.collect()
        rng = np.random.default_rng([self.seed, *b"order"])
        samples_by_split: dict[str, list[Sample]] = {"train": [], "val": [], "test": []}
        for i in rng.permutation(len(samples)):
            samples_by_split[sample_splits[i]].append(samples[i])
        tasks, unseen_names = list(self.parts), list(self.unseen)
        for name in ("val", "test"):  # images with most labels come first: the report shows the first rows
            labelled_samples = [sample for sample in samples_by_split[name] if sample.labels.keys() & set(tasks)]
            samples_by_split[f"unseen {name}"] = [
                sample for sample in samples_by_split[name] if set(unseen_names) <= sample.labels.keys()
            ]
            samples_by_split[name] = sorted(labelled_samples, key=lambda sample: -len(sample.labels.keys() & set(tasks)))
        self.check_sizes(samples_by_split)
        order = rng.permutation(len(samples_by_split["train"]) * self.views)
        sample_index, view = order % len(samples_by_split["train"]), order // len(samples_by_split["train"])
        rows = [samples_by_split["train"][i] for i in sample_index]
        splits = {
            "transfer": self.as_split(rows, view.astype(np.int32), tasks, classes),
            "val": self.plain(samples_by_split["val"], tasks, classes),
            "test/clean": self.plain(samples_by_split["test"], tasks, classes),
            "test/corrupted": self.plain(samples_by_split["test"], tasks, classes, worse=True),
        }
        if unseen_names:
            splits["unseen/train"] = self.plain(samples_by_split["unseen val"], unseen_names, classes)
            splits["unseen/test"] = self.plain(samples_by_split["unseen test"], unseen_names, classes)
        return splits

    def preview(self) -> tuple[int, Split]:
        """The number of rows is approximate: which files are bad or duplicates is known only in the end."""
        found_by_task, _ = read_labels(self.parts)
        shares = {"train": 1 - self.val, "val": 0.0, "test": 0.0, None: 1 - self.val - self.test}
        pairs = [pair for task in self.parts for pair in zip(self.parts[task], found_by_task[task], strict=True)]
        shares_by_path = {path: shares[spec.split] for spec, found in pairs for path, _ in found.labels}
        extra_paths = {path for folder in self.unlabelled for path in ImageFolder(folder).files} - shares_by_path.keys()
        rows = round(sum(shares_by_path.values()) + len(extra_paths)) * self.views
        first_paths = [path for found_parts in found_by_task.values() for path, _ in found_parts[0].labels[:2]]
        looked_by_path, unreadable = look_at_all(
            dict.fromkeys([*first_paths, *list(shares_by_path)[:: max(1, len(shares_by_path) // PREVIEW)]])
        )
        samples, unfit = merged(self.parts, found_by_task, looked_by_path)
        if not samples:
            raise ValueError(f"no image can be used: {(unreadable + unfit)[0]}")
        split = self.plain(
            samples, list(self.parts), {task: classes_of(found_parts) for task, found_parts in found_by_task.items()}
        )
        return rows, split.first(len(samples))

    def collect(self) -> tuple[list[Sample], list[str], Classes]:
        """All images, the split of each, and the classes of each task. Raises ValueError on what is bad, unless skipped."""
        parts = self.parts | self.unseen
        found_by_task, bad = read_labels(parts)
        extra_paths = {path for folder in self.unlabelled for path in ImageFolder(folder).files}
        paths = sorted(
            {path for found_parts in found_by_task.values() for found in found_parts for path, _ in found.labels} | extra_paths
        )
        looked_by_path, unreadable = look_at_all(paths)
        samples, unfit = merged(parts, found_by_task, looked_by_path)
        report_bad(bad + unreadable + unfit, "labels or images", self.skip_bad)
        if len(samples) < 3:
            raise ValueError(f"{len(samples)} images that can be used; learning, val and test need at least one each")
        groups = near_duplicates(np.stack([sample.thumbnail for sample in samples]), self.near)
        splits = assign(samples, groups, self.val, self.test, self.seed)
        return samples, splits, {task: classes_of(found_parts) for task, found_parts in found_by_task.items()}

    def check_sizes(self, samples_by_split: dict[str, list[Sample]]) -> None:
        for name in ("train", "val", "test"):
            for task in self.parts:
                if not any(task in sample.labels for sample in samples_by_split[name]):
                    raise ValueError(
                        f"no image in {name} has a label of {task}: label more, raise prepare.source.val or test, or declare "
                        f"a part to be in {name} with `split: {name}`; lower near if different images are taken for the same"
                    )
        for name in ("unseen val", "unseen test"):
            if self.unseen and not samples_by_split[name]:
                raise ValueError(f"no image in {name.split()[1]} has labels of all of {', '.join(self.unseen)}")

    def plain(self, samples: list[Sample], tasks: list[str], classes: Classes, worse: bool = False) -> Split:
        return self.as_split(samples, np.zeros(len(samples), np.int32), tasks, classes, worse)

    def as_split(self, rows: list[Sample], view: np.ndarray, tasks: list[str], classes: Classes, worse: bool = False) -> Split:
        """Images and class maps are read only when asked for, so that no more than a shard of them is in memory."""

        def image(i: int) -> np.ndarray:
            pixels_CHW, stream = self.show(rows[i].path), [self.seed, int(view[i]), *rows[i].sample_id]
            if view[i]:
                pixels_CHW = self.augment(np.random.default_rng(stream), {"image": pixels_CHW[None]}, {})[0]["image"][0]
            return corrupted(np.random.default_rng([*stream, 1]), pixels_CHW) if worse else pixels_CHW

        channels = 1 if self.mode == "L" else 3
        labelled = {task: np.array([task in sample.labels for sample in rows]) & (view == 0) for task in tasks}
        labels = {task: self.label_rows(task, rows, labelled[task], classes[task]) for task in tasks}
        sample_ids = np.frombuffer(b"".join(sample.sample_id for sample in rows), np.uint8).reshape(-1, 16)
        return Split(
            {"image": LazyArray(image, len(rows), (channels, *self.frame), np.uint8)}, labels, labelled, view, sample_ids
        )

    def label_rows(self, task: str, rows: list[Sample], is_labelled: np.ndarray, classes: list[str]) -> Any:
        kind, class_ids = (self.parts | self.unseen)[task][0].kind, {name: i for i, name in enumerate(classes)}

        def given(i: int) -> Label:
            return rows[i].labels[task]

        def class_map(i: int) -> np.ndarray:
            if not is_labelled[i]:
                return np.zeros(self.frame, np.uint8)
            return framed_mask(given(i).said(classes, *given(i).size), self.frame, self.how)

        if kind == "masks":
            return LazyArray(class_map, len(rows), self.frame, np.uint8)
        if kind == "boxes":
            no_boxes = np.zeros((0, 5), np.float32)
            return [self.boxes(given(i), class_ids) if is_labelled[i] else no_boxes for i in range(len(rows))]
        if kind == "number":
            return np.array([given(i).said if is_labelled[i] else 0 for i in range(len(rows))], np.float32)
        if kind == "class":
            return np.array([class_ids[given(i).said] if is_labelled[i] else -1 for i in range(len(rows))], np.int64)
        present = np.zeros((len(rows), len(classes)), np.uint8)
        for i in np.flatnonzero(is_labelled).tolist():
            present[i, [class_ids[name] for name in given(i).said]] = 1
        return present

    def boxes(self, label: Label, class_ids: dict[str, int]) -> np.ndarray:
        objects = [(class_ids[name], corners, ignored) for name, *corners, ignored in label.said]
        boxes = np.array(
            [(-2 - class_id if ignored else class_id, *corners) for class_id, corners, ignored in objects], float
        ).reshape(-1, 5)
        return framed_boxes(boxes, label.size, self.frame, self.how)

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
