"""Where samples come from: the abstract source, and what it gives."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NEEDED = ("transfer", "val", "test/clean")  # splits that every source gives
UNSEEN = ("unseen/train", "unseen/test")  # and those of tasks that nothing is trained for

Arrays = dict[str, np.ndarray]
Answer = dict[str, dict[str, Any]]  # {task: {kind: its answer for one row}}; kinds: see the tasks' `answers`


class LazyArray:
    """(N, *shape) rows that would not fit in memory: each is made when a slice asks for it, in any thread."""

    def __init__(self, make: Callable[[int], np.ndarray], rows: int, shape: tuple[int, ...], dtype: type):
        self.make, self.shape, self.dtype = make, (rows, *shape), np.dtype(dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        with ThreadPoolExecutor() as threads:
            arrays = list(threads.map(self.make, range(*rows.indices(len(self)))))
        return np.stack(arrays) if arrays else np.zeros((0, *self.shape[1:]), self.dtype)


@dataclass(frozen=True)
class Split:
    """Rows of one split; row i of every array is the same view of the same sample. Inputs and labels may be `LazyArray`s.

    inputs: {name: (N, ...)}; one called "mask", (N, *grid) bool, says which positions of features on that grid exist. labels:
    {task: (N, ...)}, or for ragged labels a list of N arrays (n_i, ...). labelled: {task: (N,) bool}, which rows carry that
    label. view: (N,) int32, 0 for the sample as it is. sample_id: (N, 16) uint8. about: {input: JSON that stays with
    it}, from which an encoder can tell whether it can read it.
    """

    inputs: Mapping[str, np.ndarray | LazyArray]
    labels: Mapping[str, np.ndarray | LazyArray | list[np.ndarray]]
    labelled: Arrays
    view: np.ndarray
    sample_id: np.ndarray
    about: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        """Everything but the ids, named as in a store."""
        kinds: dict[str, Mapping[str, Any]] = {"inputs": self.inputs, "labels": self.labels, "labelled": self.labelled}
        return {f"{kind}/{name}": array for kind, arrays in kinds.items() for name, array in arrays.items()}

    def first(self, rows: int) -> "Split":
        """Its first rows, with the same shapes, in memory."""
        first_rows = slice(rows)
        inputs = {name: array[first_rows] for name, array in self.inputs.items()}
        labels = {name: array[first_rows] for name, array in self.labels.items()}
        labelled = {name: array[first_rows] for name, array in self.labelled.items()}
        return Split(inputs, labels, labelled, self.view[first_rows], self.sample_id[first_rows], self.about)


class Source(ABC):
    """Samples, split before anything learns from them.

    Constructor arguments are params, and `seed`. The constructor reads no data: stages without any build a source to augment
    or draw. A file or folder that an argument names is a dependency of `prepare`.
    """

    cell = (1.7, 1.85)  # inches of a row's picture
    names: Mapping[str, list[str]] = {}  # {task: names of its classes}, kept beside its labels
    recalls = False  # whether `read` depends on the content of the files that `prepare` read

    @abstractmethod
    def splits(self) -> dict[str, Split]:
        """ "transfer", "val", "test/clean", "test/<name>" for other test splits, and, if any task is unseen, "unseen/train"
        and "unseen/test"."""

    @abstractmethod
    def preview(self) -> tuple[int, Split]:
        """How many rows the transfer set will have, and a few like them, at little cost: for `stillroom plan`."""

    @abstractmethod
    def augment(self, rng: np.random.Generator, inputs: Arrays, labels: Arrays) -> tuple[Arrays, Arrays]:
        """One batch, augmented: (B, ...) each; ragged labels come padded with -1. Arguments are left as they are."""

    def words(self, inputs: Arrays, answer: Answer) -> str:
        """The answers for one row, in a line."""
        return "; ".join(f"{task}: {', '.join(map(str, task_answer.values()))}" for task, task_answer in answer.items())

    def draw(self, axis: "Axes", inputs: Arrays, answer: Answer) -> None:
        """Draw one row and the answers for it."""
        axis.text(0, 1, self.words(inputs, answer), fontsize=7, va="top", wrap=True)

    def read(self, given: str) -> Iterable[tuple[str, Arrays]]:
        """(name, inputs of one row) for all that a person asks about: a file, a folder, a line. Without a name it is not drawn.

        Arrays of text among the inputs are for `words`; networks do not see them.
        """
        raise ValueError(f"{given}: {type(self).__name__} reads no single inputs; give it a method `read`")

    def inputs_in_words(self) -> str:
        """How inputs are made from the data people have, for those who use an exported student."""
        return ""

    def beside(self) -> dict[str, str]:
        """{file name: content} of what is needed to make inputs elsewhere, for those who use an exported student."""
        return {}


def check_sizes(what: str, tasks: Collection[str], labelled: Mapping[str, int], sizes: Mapping[str, int]) -> None:
    """Refuse what made-up data cannot have. labelled: rows by task. sizes: further ones. Raises ValueError."""
    for task in labelled:
        if task not in tasks:
            raise ValueError(f"labelled.{task}: no such task; {what} have labels for {', '.join(tasks)}")
    for name, size in {**sizes, **{f"labelled.{task}": size for task, size in labelled.items()}}.items():
        if size < 1:
            raise ValueError(f"{name}: {size}, expected at least 1: an empty split measures nothing")


def where_labelled(labels: np.ndarray, flag: np.ndarray, blank: float = 0) -> np.ndarray:
    """Labels (N, ...) of the rows that are flagged, (N,) bool; `blank` elsewhere, of the same type."""
    return np.where(flag.reshape(-1, *(1 for _ in labels.shape[1:])), labels, labels.dtype.type(blank))


def content_ids(rows: Iterable[np.ndarray | bytes]) -> np.ndarray:
    """Ids of samples by their content: (N, 16) uint8, the first bytes of each row's SHA-256."""
    digests = b"".join(hashlib.sha256(bytes(row)).digest()[:16] for row in rows)
    return np.frombuffer(digests, np.uint8).reshape(-1, 16)
