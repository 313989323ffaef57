"""Who learned from rows cannot be measured by them: a store of another project may hold some of ours."""

import numpy as np

from pipeline.stores.shard import as_items
from pipeline.stores.store import Store


def check_held_out(knowledge: Store, split: Store) -> None:
    """Raises ValueError if rows that taught are samples of a split that measures."""
    both = np.isin(as_items(knowledge.sample_id), as_items(split.sample_id))
    if both.any():
        raise ValueError(
            f"{knowledge.path}: {both.sum()} rows, the first of them row {both.argmax()}, are samples of {split.path}: who "
            "learns from them cannot be measured by it; split data alike, with the same seed"
        )
