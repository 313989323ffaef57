from dataclasses import replace

import numpy as np
import pytest

from pipeline.sources.checks import check_names, check_splits
from pipeline.sources.source import Split, content_ids

NAMES = ["transfer", "val", "test/clean", "unseen/train", "unseen/test"]


def split(number, rows=4):
    x = np.arange(rows)[:, None] + 10 * number
    return Split({"x": x}, {"a": x[:, 0]}, {"a": x[:, 0] >= 0}, np.zeros(rows, "i4"), content_ids(x))


def test_what_is_apart_and_whole_passes_and_worse_inputs_of_one_test_may_share_its_samples():
    splits = {name: split(number) for number, name in enumerate(NAMES)}
    check_splits(splits | {"test/noisy": splits["test/clean"], "unseen/train": splits["transfer"]}, ["a"])


@pytest.mark.parametrize(
    ("one", "other"),
    [("transfer", "val"), ("transfer", "test/clean"), ("transfer", "unseen/test"), ("val", "test/clean"), tuple(NAMES[3:])],
)
def test_a_sample_that_is_learned_from_or_chosen_by_is_measured_by_no_other_split(one, other):
    splits = {name: split(number) for number, name in enumerate(NAMES)}
    splits[other] = replace(splits[other], sample_id=np.concatenate([splits[other].sample_id[:3], splits[one].sample_id[:1]]))
    with pytest.raises(ValueError, match=f"{other}: 1 rows, the first of them row 3, are also samples of {one}: a leak"):
        check_splits(splits, ["a"])


def test_a_task_without_labels_is_told_before_anything_learns():
    splits = {name: split(number) for number, name in enumerate(NAMES)}
    with pytest.raises(ValueError, match="val: no labels of task 'b'; the source gives a"):
        check_splits(splits, ["a", "b"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (NAMES[:2], "gives no split 'test/clean', but transfer, val"),
        ([*NAMES, "tests/hard"], "gives a split 'tests/hard'; expected transfer, val, test/clean, maybe other test/<name>"),
        ([*NAMES, "test/a/b"], "gives a split 'test/a/b'"),
        (NAMES[:4], "gives one of unseen/train and unseen/test; give both, or none"),
    ],
)
def test_splits_have_names_that_stages_know(names, message):
    with pytest.raises(ValueError, match=message):
        check_names(names, [])
