"""Lists of candidates: a row is one user at one time, with items that were or could have been shown."""

from dataclasses import dataclass, replace
from typing import Self

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from pipeline.sources.source import Answer, Arrays, Source, Split, content_ids, where_labelled

COLOURS = matplotlib.color_sequences["tab20"]
RESPONSES = ("click", "conversion")
TASKS = (*RESPONSES, "rating")
ID, POPULARITY, CATEGORY = 0, 1, 2  # the first columns of an item; a user's first is also the id
UNKNOWN = 0  # in any column: a new id, a value that is not given
DROPPED = 0.1  # of values, hidden from networks as they learn
SHOWN = 10  # candidates drawn


@dataclass(frozen=True)
class Lists:
    """N lists of L candidates.

    user: (N, columns) int32. item: (N, columns, L) int32. number: (N, L), which item it is, whether or not networks are
    told. click, conversion: (N, L), 1, 0, or -1 where there is no candidate. rating: (N, L), 0 where there is none.
    """

    user: np.ndarray
    item: np.ndarray
    number: np.ndarray
    click: np.ndarray
    conversion: np.ndarray
    rating: np.ndarray

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: np.ndarray) -> Self:
        return replace(self, **{name: array[rows] for name, array in vars(self).items()})

    @classmethod
    def join(cls, parts: list[Self]) -> Self:
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])})

    def inputs(self) -> Arrays:
        exists = self.click >= 0
        return {"user": self.user, "item": self.item} | ({} if exists.all() else {"mask": exists})

    def label(self, task: str) -> np.ndarray:
        """For a response (N, L, 3): the response, and the item's number and category, which metrics of lists count."""
        if task == "rating":
            return self.rating.astype(np.float32)
        return np.stack([getattr(self, task), self.number, self.item[:, CATEGORY]], 2).astype(np.int32)


class Candidates(Source):
    """What all sources of interactions share: how lists become rows, are augmented and drawn."""

    cell = (2.6, 2.6)

    def augment(self, rng: np.random.Generator, inputs: Arrays, labels: Arrays) -> tuple[Arrays, Arrays]:
        """Some values made unknown, so that networks can do without them (DropoutNet), as for a new user or item."""
        return inputs | hide(rng, inputs), labels

    def words(self, inputs: Arrays, answer: Answer) -> str:
        """Each task's best candidates, by name where they have one, else by id."""
        ids = inputs.get("name", inputs["item"][ID])
        words_by_task = {
            task: [f"{ids[position]} ({score:.2f})" for position, score in task_answer["list"]]
            for task, task_answer in answer.items()
        }
        return "; ".join(f"{task}: {', '.join(words) or 'none'}" for task, words in words_by_task.items())

    def draw(self, axis: Axes, inputs: Arrays, answer: Answer) -> None:
        """One column per task: its best candidates from the top, by item id, in the colour of their category."""
        ids, categories = inputs["item"][ID], inputs["item"][CATEGORY]
        axis.set(xlim=(0, len(TASKS)), ylim=(SHOWN + 1, 0))
        if not answer:
            axis.text(0.1, 0.5, "user " + " ".join(map(str, inputs["user"])), fontsize=7, va="center")
            answer = {"candidates": {"list": [(position, None) for position in range(min(SHOWN, len(ids)))]}}
        for column, (task, task_answer) in enumerate(answer.items()):
            if task in TASKS:
                axis.text(column + 0.5, 0.5, task, fontsize=7, ha="center", va="center")
            for line, (position, score) in enumerate(task_answer["list"][:SHOWN]):
                colour = COLOURS[categories[position] % len(COLOURS)]
                text = f"{ids[position]}" if score is None else f"{ids[position]}  {score:.2f}"
                box = {"facecolor": colour, "alpha": 0.5, "pad": 0.8, "lw": 0}
                axis.text(column + 0.5, line + 1.5, text, fontsize=6.5, ha="center", va="center", bbox=box)


def hide(rng: np.random.Generator, inputs: Arrays) -> Arrays:
    values = {name: inputs[name] for name in ("user", "item")}
    return {
        name: np.where(rng.random(array.shape) < DROPPED, UNKNOWN, array).astype(np.int32) for name, array in values.items()
    }


def as_split(lists: Lists, flags: Arrays, view: np.ndarray | None = None, sample_id: np.ndarray | None = None) -> Split:
    """Rows with these labels, where they are flagged. Without view and ids, lists as they are, identified by content."""
    labels: dict[str, np.ndarray | list[np.ndarray]] = {t: where_labelled(lists.label(t), flag) for t, flag in flags.items()}
    view = np.zeros(len(lists), np.int32) if view is None else view
    return Split(lists.inputs(), labels, flags, view, ids_of(lists) if sample_id is None else sample_id)


def whole(lists: Lists, tasks: tuple[str, ...] = TASKS) -> Split:
    """A split that carries these labels on every row."""
    return as_split(lists, {task: np.ones(len(lists), bool) for task in tasks})


def ids_of(lists: Lists) -> np.ndarray:
    """Sample ids by user, candidates and what is known of them."""
    return content_ids(np.concatenate([lists.user, lists.number, lists.item.reshape(len(lists), -1)], 1))


def transfer(parts: dict[str, Lists], views: int, rng: np.random.Generator, tasks: tuple[str, ...]) -> Split:
    """Lists in random order, each in this many views; only view 0, the list as it is, carries labels.

    parts: {the one task that they are labelled for, or "all", or "none": lists}.
    """
    lists = Lists.join(list(parts.values()))
    part_names = np.repeat(list(parts), [len(part) for part in parts.values()])
    order = rng.permutation(len(part_names) * views)
    row, view = order % len(part_names), order // len(part_names)
    hidden = [hide(rng, {"user": lists.user, "item": lists.item}) for _ in range(1, views)]
    inputs = {
        name: np.concatenate([getattr(lists, name), *(arrays[name] for arrays in hidden)])[order] for name in ("user", "item")
    }
    flags = {task: np.isin(part_names[row], [task, "all"]) & (view == 0) for task in tasks}
    return as_split(replace(lists.take(row), **inputs), flags, view.astype(np.int32), ids_of(lists)[row])
