import numpy as np
import pytest

from pipeline.evaluation.unseen import BestColumn, classifier, examples, few_shot, regressor
from pipeline.stores.layout import field_of
from pipeline.stores.store import open_store
from pipeline.stores.writer import StoreWriter


def drawn(rows, seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, rows)
    return rng.normal(size=(rows, 20)) + 2 * np.eye(3)[y] @ np.ones((3, 20)) * (y[:, None] - 1), y


def test_a_probe_finds_what_is_there_and_nothing_else():
    train, test = drawn(200, 0), drawn(500, 1)
    assert min(few_shot(classifier, train, test, 50, 3, seed=0)) > 0.95
    noise = np.random.default_rng(2).normal(size=train[0].shape)
    assert max(few_shot(classifier, (noise, train[1]), test, 50, 3, seed=0)) < 0.6


def test_a_real_label_is_scored_by_r2():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 5)).astype(np.float32)
    y = x @ np.arange(5, dtype=np.float32)
    scores = few_shot(regressor, (x[:100], y[:100]), (x[100:], y[100:]), 50, 2, seed=0)
    assert min(scores) > 0.99
    hopeless = few_shot(regressor, (x[:100], 100 * y[:100]), (x[100:], -y[100:]), 50, 2, seed=0)
    assert hopeless == [-1, -1]


def test_draws_are_other_examples_and_the_same_for_every_student():
    train, test = drawn(200, 0), drawn(100, 1)
    one = few_shot(classifier, train, test, 20, 4, seed=3)
    assert one == few_shot(classifier, train, test, 20, 4, seed=3)
    assert len(set(one)) > 1


def test_a_probe_sees_so_many_examples_and_no_others():
    seen = []

    class Probe:
        def fit(self, x, y):
            seen.append(x)
            return self

        def score(self, x, y):
            return float(len(x))

    train, test = drawn(60, 0), drawn(100, 1)
    assert few_shot(Probe, train, test, 20, 3, seed=0) == [100.0] * 3
    assert [len(x) for x in seen] == [20] * 3
    assert all(len(np.unique(x, axis=0)) == 20 and np.isin(x, train[0]).all() for x in seen)


def test_counting_boxes_takes_the_threshold_that_is_right_most_often():
    y = np.array([1, 2, 3, 2])
    columns = np.stack([y + 1, np.array([1, 2, 3, 1]), y * 0], 1)
    probe = BestColumn().fit(columns, y)
    assert probe.column == 1
    assert probe.score(columns, y) == 0.75


def test_a_draw_that_no_classifier_can_learn_from_is_an_error_that_names_the_key():
    x, y = drawn(30, 0)
    with pytest.raises(ValueError, match=r"evaluate.shots: 5 examples drawn at random have 1 to 1 classes"):
        few_shot(classifier, (x, y * 0), (x, y), 5, 2, seed=0)
    with pytest.raises(ValueError, match=r"evaluate.shots: 3 examples drawn at random have 3 to 3 classes"):
        few_shot(classifier, (x[:3], np.arange(3)), (x, y), 3, 1, seed=0)


def test_too_few_examples_is_an_error_that_names_the_key():
    train, test = drawn(30, 0), drawn(30, 1)
    with pytest.raises(ValueError, match=r"evaluate.shots: 50 shots asked of 30 unseen examples"):
        few_shot(classifier, train, test, 50, 1, seed=0)


def test_rows_without_the_label_are_no_examples(tmp_path):
    values = {"labels/intent": np.array([0, -1, 1], np.int64), "labelled/intent": np.array([True, False, True])}
    fields = {name: field_of(x) for name, x in values.items()}
    ids = np.arange(48, dtype=np.uint8).reshape(3, 16)
    writer = StoreWriter(tmp_path / "few.zarr", ids, np.zeros(3, np.int32), fields, identity={}, shard_rows=4)
    writer.write_rest(lambda rows: {name: x[rows] for name, x in values.items()})
    writer.publish()
    x, y = examples(open_store(tmp_path / "few.zarr"), "intent", np.arange(6).reshape(3, 2))
    assert (x.tolist(), y.tolist()) == ([[0, 1], [4, 5]], [0, 1])
