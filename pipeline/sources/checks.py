"""What splits every source must give and keep apart, checked before anything learns from them."""

from collections.abc import Collection, Mapping

import numpy as np

from pipeline.sources.source import NEEDED, UNSEEN, Split
from pipeline.stores.shard import as_items

REPORTED = ("average", "delta_mtl")  # columns of the report


def check_splits(splits: Mapping[str, Split], tasks: Collection[str]) -> None:
    """Raises ValueError for a split that is missing, misnamed or without labels, or shares samples with one it must not."""
    check_names(splits, tasks)
    measured = [name for name in splits if name == "val" or name.startswith("test/")]
    for name in measured:
        for task in tasks:
            if task not in splits[name].labels:
                raise ValueError(f"{name}: no labels of task {task!r}; the source gives {', '.join(splits[name].labels)}")
    pairs = [("transfer", name) for name in [*measured, "unseen/test"]] + [("val", name) for name in measured if name != "val"]
    for one, other in [*pairs, UNSEEN]:
        if one in splits and other in splits:
            check_apart(splits, one, other)


def check_names(names: Collection[str], tasks: Collection[str]) -> None:
    expected = f"expected {', '.join(NEEDED)}, maybe other test/<name>, and {' with '.join(UNSEEN)}"
    for name in NEEDED:
        if name not in names:
            raise ValueError(f"the source gives no split {name!r}, but {', '.join(names)}; {expected}")
    for name in names:
        kind, _, rest = name.partition("/")
        if name not in (*NEEDED, *UNSEEN) and not (kind == "test" and rest and "/" not in rest):
            raise ValueError(f"the source gives a split {name!r}; {expected}")
        if kind == "test" and (rest in tasks or rest in REPORTED):
            raise ValueError(f"{name}: a test split cannot have the name of a task, or of a column of the report; rename it")
    if sum(name in names for name in UNSEEN) == 1:
        raise ValueError(f"the source gives one of {' and '.join(UNSEEN)}; give both, or none")


def check_apart(splits: Mapping[str, Split], one: str, other: str) -> None:
    is_shared = np.isin(as_items(splits[other].sample_id), as_items(splits[one].sample_id))
    if is_shared.any():
        raise ValueError(
            f"{other}: {is_shared.sum()} rows, the first of them row {is_shared.argmax()}, are also samples of {one}: a leak; "
            "divide the data before anything else, and leave out duplicates"
        )
