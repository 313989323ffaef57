"""A student cannot be measured on rows that it learned from: another project's store may hold some of ours."""

import numpy as np

from pipeline.stores.shard import as_items
from pipeline.stores.store import Store


def check_held_out(knowledge: Store, split: Store) -> None:
    """Raises ValueError if rows to learn from are samples of a split to measure on."""
    shared = np.isin(as_items(knowledge.sample_id), as_items(split.sample_id))
    if shared.any():
        raise ValueError(
            f"{knowledge.path}: {shared.sum()} rows, the first of them row {shared.argmax()}, are samples of {split.path}: who "
            "learns from them cannot be measured on it; split the data alike, with the same seed"
        )
