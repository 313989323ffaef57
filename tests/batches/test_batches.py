from itertools import pairwise

import numpy as np
import pytest
import torch

from pipeline.batches.batches import batches, cut, features_of, in_order, labelled_batches, narrowed, tensors
from pipeline.batches.pools import length, load, shuffled, spread, stays_in_store
from pipeline.stores.layout import Field
from pipeline.stores.mapped import LONG
from pipeline.stores.store import open_store
from pipeline.stores.writer import StoreWriter

ROWS, SHARD = 100, 16


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Row i holds i everywhere; even rows are labelled for "a", every third for "b"."""
    path = tmp_path_factory.mktemp("batches") / "s.zarr"
    number = np.arange(ROWS)
    arrays = {
        "inputs/x": np.repeat(number[:, None], 3, 1).astype(np.float16),
        "labels/a": number,
        "labels/b": [np.full((i % 3, 2), i, np.float32) for i in number],
        "labelled/a": number % 2 == 0,
        "labelled/b": number % 3 == 0,
    }
    fields = {
        "inputs/x": Field((3,), "float16"),
        "labels/a": Field((), "int64", "lz4"),
        "labels/b": Field((2,), "float32", max_items=2),
        "labelled/a": Field((), "bool"),
        "labelled/b": Field((), "bool"),
    }
    writer = StoreWriter(path, np.zeros((ROWS, 16), "u1"), np.zeros(ROWS, "i4"), fields, identity={}, shard_rows=SHARD)
    for shard in writer.unfinished:
        writer.write(shard, {name: x[writer.rows(shard)] for name, x in arrays.items()})
    writer.publish()
    return open_store(path)


def stored(path, arrays, fields=None, shard_rows=SHARD):
    rows = len(next(iter(arrays.values())))
    fields = fields or {name: Field(x.shape[1:], x.dtype.name) for name, x in arrays.items()}
    writer = StoreWriter(path, np.zeros((rows, 16), "u1"), np.zeros(rows, "i4"), fields, identity={}, shard_rows=shard_rows)
    writer.write_rest(lambda rows: {name: x[rows] for name, x in arrays.items()})
    writer.publish()
    return open_store(path)


def draw(stream, count):
    return [{name: x.copy() for name, x in next(stream).items()} for _ in range(count)]


def numbers(stream, count):
    return np.concatenate([batch["labels/a"] for batch in draw(stream, count)])


ALL = ["inputs/x", "labels/a", "labels/b"]
BUDGETS = pytest.mark.parametrize("budget", [1, 3 * SHARD * 50, 10**9], ids=["a block at a time", "a few", "everything in RAM"])


@BUDGETS
def test_every_row_comes_once_an_epoch_with_its_fields_together(store, budget):
    stream = batches(store, ALL, 10, seed=0, memory_budget=budget)
    for _ in range(3):
        epoch = draw(stream, ROWS // 10)
        assert sorted(np.concatenate([b["labels/a"] for b in epoch])) == list(range(ROWS))
        for batch in epoch:
            np.testing.assert_array_equal(batch["inputs/x"][:, 1], batch["labels/a"])
            for number, items in zip(batch["labels/a"], batch["labels/b"], strict=True):
                np.testing.assert_array_equal(items[:, 0], [number if m < number % 3 else -1 for m in range(2)])


@BUDGETS
@pytest.mark.parametrize("start", [1, 7, 23, 40])
def test_an_interrupted_run_draws_on_what_it_would_have_drawn(store, budget, start):
    whole = numbers(batches(store, ALL, 9, seed=3, memory_budget=budget), start + 15)
    resumed = numbers(batches(store, ALL, 9, seed=3, memory_budget=budget, start=start), 15)
    np.testing.assert_array_equal(whole[9 * start :], resumed)


@BUDGETS
def test_ranks_share_every_row_out_among_them(store, budget):
    ranks = [batches(store, ALL, 1, seed=0, memory_budget=budget, rank=rank, ranks=3) for rank in range(3)]
    seen = [set(numbers(stream, ROWS)) for stream in ranks]
    assert set.union(*seen) == set(range(ROWS)) and sum(map(len, seen)) == ROWS


@pytest.mark.parametrize("start", [0, 3, 25])
def test_long_raw_rows_are_drawn_like_any_others(tmp_path, start):
    """They stay in the file until a batch takes them."""
    number = np.arange(ROWS)
    values = (number[:, None] + np.arange(LONG // 4)).astype(np.float32)
    drawn = {}
    for codec in ("raw", "zstd"):
        fields = {"inputs/x": Field((LONG // 4,), "float32", codec, 4), "labels/a": Field((), "int64", "lz4", 4)}
        store = stored(tmp_path / f"{codec}.zarr", {"inputs/x": values, "labels/a": number}, fields)
        assert stays_in_store(store, "inputs/x") == (codec == "raw")
        drawn[codec] = draw(batches(store, list(fields), 7, seed=0, memory_budget=30 * 2 * LONG, start=start), 40)
    for raw, packed in zip(*drawn.values(), strict=True):
        np.testing.assert_array_equal(raw["labels/a"], packed["labels/a"])
        for batch in (raw, packed):
            np.testing.assert_array_equal(batch["inputs/x"], values[batch["labels/a"]])


def test_order_is_shuffled_and_follows_the_seed(store):
    def first(seed):
        return numbers(batches(store, ALL, 10, seed=seed, memory_budget=10**9), 20).tolist()

    assert first(0) == first(0) != first(1)
    assert first(0)[:100] != first(0)[100:] != sorted(first(0)[100:])


@pytest.mark.parametrize("sizes", [[7, 7, 7], [3, 30, 1, 8], [25]])
@pytest.mark.parametrize("ordered", [True, False])
def test_cut_loses_no_row_between_pools(sizes, ordered):
    ends = np.cumsum([0, *sizes])
    rng = np.random.default_rng(0)
    rows = ({"x": np.arange(a, b)} for a, b in pairwise(ends))
    pools = (shuffled(x, rng.permutation(length(x))) if ordered else x for x in rows)
    got = [batch["x"] for batch in cut(pools, 6)]
    assert all(len(x) == 6 for x in got)
    seen = np.concatenate(got)
    assert len(np.unique(seen)) == len(seen) == ends[-1] // 6 * 6


def test_a_pool_shuffles_rows_of_far_apart_blocks(store):
    """A stream that only shuffled within blocks would fail."""
    first = numbers(batches(store, ["labels/a"], 20, seed=0, memory_budget=5 * SHARD * 2 * 8), 1)
    assert len({n // SHARD for n in first}) >= 3


def test_a_pool_of_sorted_rows_has_every_class_about_as_often(tmp_path):
    """Ten classes of 640 rows, in chunks of 64, through memory for an eighth of them: pools of 400."""
    classes = np.repeat(np.arange(10), 640)
    store = stored(tmp_path / "sorted.zarr", {"labels/a": classes}, {"labels/a": Field((), "int64", "zstd", 64)}, 640)
    stream = batches(store, ["labels/a"], 400, seed=0, memory_budget=len(classes) * 8 // 8)
    counts = np.array([np.bincount(rows, minlength=10) for rows in (next(stream)["labels/a"] for _ in range(16))])
    assert (counts.sum(0) == 640).all()
    assert (counts >= 25).all() and (counts <= 55).all()


def test_too_few_rows_is_an_error(store):
    with pytest.raises(ValueError, match="100 rows to learn from, fewer than a batch of 101"):
        next(batches(store, ALL, 101, seed=0, memory_budget=1))


def test_in_order_never_straddles_a_shard(store):
    parts = [rows["labels/a"] for rows in in_order(store, ALL, 10, slice(5, 60))]
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(5, 60))
    assert all(part[0] // SHARD == part[-1] // SHARD and len(part) <= 10 for part in parts)


def identity(rng, inputs, labels):
    return inputs, labels


def test_labelled_batches_hold_labelled_rows_alone(store):
    stream = labelled_batches(store, ["a", "b"], 10, identity, seed=0)
    for batch in draw(stream, 20):
        number = batch["labels/a"]
        np.testing.assert_array_equal(batch["labelled/a"], number % 2 == 0)
        np.testing.assert_array_equal(batch["labelled/b"], number % 3 == 0)
        assert (batch["labelled/a"] | batch["labelled/b"]).all()


def test_labelled_rows_that_do_not_fit_are_drawn_alike(store):
    kept, stored = (labelled_batches(store, ["a", "b"], 10, identity, seed=0, memory_budget=budget) for budget in (10**9, 0))
    for batch, again in zip(draw(kept, 20), draw(stored, 20), strict=True):
        assert batch.keys() == again.keys()
        for name, x in batch.items():
            np.testing.assert_array_equal(x, again[name])


def test_a_share_of_the_labels_is_the_same_rows_for_every_seed(store):
    def used(seed):
        stream = labelled_batches(store, ["a", "b"], 5, identity, seed=seed, share=0.2)
        found = draw(stream, 30)
        return {n for b in found for n in b["labels/a"][b["labelled/a"]]}, {
            n for b in found for n in b["labels/a"][b["labelled/b"]]
        }

    assert used(0) == used(1) == (set(range(0, 20, 2)), set(range(0, 21, 3)))


def test_a_task_without_labels_is_named(store):
    with pytest.raises(ValueError, match="no row carries a label of task 'depth'"):
        next(labelled_batches(store, ["a", "depth"], 10, identity, seed=0))


def test_labelled_batches_are_augmented_anew_every_time(store):
    def noisy(rng, inputs, labels):
        return {"x": inputs["x"] + rng.random((len(inputs["x"]), 1))}, labels

    stream = labelled_batches(store, ["a"], 50, noisy, seed=0)
    first, second = (b["inputs/x"][np.argsort(b["labels/a"]), 0] for b in (next(stream), next(stream)))
    assert (first != second).all()


def test_narrow_floats_become_float32_on_the_way(store):
    batch = tensors(load(store, ALL, slice(0, 4)), torch.device("cpu"))
    assert batch["inputs/x"].dtype == torch.float32
    assert batch["labels/a"].dtype == torch.int64


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.uint64])
def test_what_torch_can_only_hold_becomes_int64_and_flags_stay_with_the_host(dtype):
    rows = {"labels/a": np.array([0, 40000], dtype), "inputs/x": np.zeros(2, np.uint8), "labelled/a": np.ones(2, bool)}
    found = tensors(rows, torch.device("meta"))
    assert {name: x.dtype for name, x in found.items()} == {
        "labels/a": torch.int64,
        "inputs/x": torch.uint8,
        "labelled/a": torch.bool,
    }
    assert {name: x.device.type for name, x in found.items()} == {"labels/a": "meta", "inputs/x": "meta", "labelled/a": "cpu"}


def test_float16_is_made_on_the_device_unless_it_would_overflow():
    fits, loud = torch.tensor([1.0, -6e4]), torch.tensor([1.0, 7e4])
    assert narrowed(fits, "float16").dtype == np.float16
    np.testing.assert_array_equal(narrowed(loud, "float16"), loud.numpy())  # as it is: the writer names row and value
    assert narrowed(fits, "qint8").dtype == np.float32


@pytest.mark.parametrize(("count", "together"), [(40, 8), (43, 8), (5, 8), (7, 1)])
def test_every_pool_has_blocks_from_all_over_the_store(count, together):
    rng = np.random.default_rng(0)
    blocks = [slice(10 * b, 10 * b + 10) for b in rng.permutation(count).tolist()]
    pools = [sorted(block.start // 10 for block in pool) for pool in spread(rng, blocks, together)]
    assert sorted(b for pool in pools for b in pool) == list(range(count))
    assert all(0 < len(pool) <= together for pool in pools)
    for pool in pools:
        assert all(b // len(pools) == n for n, b in enumerate(pool[:-1]))  # one of each stretch of as many blocks as pools
    again = [sorted(block.start // 10 for block in pool) for pool in spread(rng, blocks, together)]
    assert count < 8 or again != pools


def test_features_come_side_by_side_and_only_where_there_is_something(store, tmp_path, monkeypatch):
    mask = np.arange(3) < 1 + np.arange(store.n_rows)[:, None] % 3
    teachers = []
    for name, width in (("a", 2), ("b", 4)):
        x = np.random.default_rng(width).normal(size=(store.n_rows, width, 3)).astype(np.float32)
        teachers.append(stored(tmp_path / f"{name}.zarr", {f"features/{name}/tap": x}))
    inputs = stored(tmp_path / "inputs.zarr", {"inputs/mask": mask})
    seen = []
    whole = list(features_of(inputs, teachers, 16, torch.device("cpu"), seen.append, slice(0, 40)))
    packed = list(features_of(inputs, teachers, 16, torch.device("cpu"), seen.append, slice(0, 40), masked=True))
    assert sum(seen) == 80
    joined = {name: torch.cat([batch[name] for batch in whole]) for name in whole[0]}
    assert {name: tuple(x.shape) for name, x in joined.items()} == {"a/tap": (40, 2, 3), "b/tap": (40, 4, 3)}
    for name, x in joined.items():
        rows = torch.cat([batch[name] for batch in packed])
        torch.testing.assert_close(rows, x.transpose(1, 2)[torch.from_numpy(mask[:40])])
    monkeypatch.setattr("pipeline.batches.batches.TOGETHER", 2 * 18 * 4 + 1)  # bytes of two rows
    few = list(features_of(inputs, teachers, 16, torch.device("cpu"), seen.append, slice(0, 40)))
    assert {len(batch["a/tap"]) for batch in few} == {2}
