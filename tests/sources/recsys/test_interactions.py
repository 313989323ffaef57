import numpy as np
import pytest
from matplotlib import pyplot as plt

from pipeline.seeds import stream
from pipeline.sources.recsys.candidates import ID, POPULARITY, TASKS
from pipeline.sources.recsys.interactions import Interactions
from pipeline.sources.recsys.world import ITEMS, TEST, TRAINED, USERS, VAL, make_world, play

SIZES = {"labelled": dict.fromkeys(TASKS, 40), "unlabelled": 30, "views": 2, "length": 12, "val": 20, "test": 30, "unseen": 40}


def source(**changes):
    return Interactions(**{**SIZES, "seed": 5, **changes})


@pytest.fixture(scope="module")
def splits():
    return source().splits()


@pytest.fixture(scope="module")
def log():
    world = make_world(stream(source().seed, "world"))
    return (world, *play(world, stream(source().seed, "log"), 12))


def test_no_list_is_in_two_splits(splits):
    ids = [np.unique(split.sample_id, axis=0) for split in splits.values()]
    assert len(np.unique(np.concatenate(ids), axis=0)) == sum(map(len, ids))


def test_same_seed_same_bytes_other_seed_other_bytes(splits):
    for name, split in source().splits().items():
        for key, x in split.fields().items():
            np.testing.assert_array_equal(x, splits[name].fields()[key])
    assert (source(seed=6).splits()["val"].inputs["item"] != splits["val"].inputs["item"]).any()


def test_the_size_of_one_split_leaves_the_others_alone(splits):
    other = source(unlabelled=60, test=7).splits()
    np.testing.assert_array_equal(other["val"].inputs["item"], splits["val"].inputs["item"])
    np.testing.assert_array_equal(other["test/catalogue"].inputs["item"], splits["test/catalogue"].inputs["item"])


def test_every_task_has_labels_of_its_own_and_none_elsewhere(splits):
    transfer = splits["transfer"]
    assert len(transfer.view) == 2 * (3 * 40 + 30)
    flags = np.stack([transfer.labelled[task] for task in TASKS])
    assert flags.sum(1).tolist() == [40, 40, 40] and flags.sum(0).max() == 1
    assert not transfer.view[flags.any(0)].any()
    for task, flag in zip(TASKS, flags, strict=True):
        assert not transfer.labels[task][~flag].any()
    assert (transfer.labels["rating"][transfer.labelled["rating"]] > 0).any(1).all()


def test_the_second_view_is_the_first_with_some_values_unknown(splits):
    transfer = splits["transfer"]
    first = {
        bytes(i): row
        for i, row, view in zip(transfer.sample_id, transfer.inputs["item"], transfer.view, strict=True)
        if not view
    }
    hidden = shown = 0
    for i, row, view in zip(transfer.sample_id, transfer.inputs["item"], transfer.view, strict=True):
        if view:
            assert ((row == first[bytes(i)]) | (row == 0)).all()
            hidden, shown = hidden + (row != first[bytes(i)]).sum(), shown + row.size
    assert 0.05 < hidden / shown < 0.15


def test_popularity_counts_the_past_alone(log):
    """What a row says of an item's popularity is a function of clicks in the periods before, and of nothing later."""
    _, played, _, seen = log
    for period in (0, 3, VAL, TEST[1]):
        before = np.zeros(sum(ITEMS))
        for earlier in range(period):
            before += np.bincount(played[earlier].number.ravel(), played[earlier].click.ravel(), minlength=sum(ITEMS))
        np.testing.assert_array_equal(seen[period], before)
        lists = played[period]
        by_count = {int(c): set() for c in np.unique(before[lists.number])}
        for count, bucket in zip(before[lists.number].ravel(), lists.item[:, POPULARITY].ravel(), strict=True):
            by_count[int(count)].add(int(bucket))
        assert all(len(buckets) == 1 for buckets in by_count.values())
    assert (played[0].item[:, POPULARITY] == 1).all()


def test_time_divides_what_is_learned_from_what_is_tested(splits, log):
    _, played, _, _ = log

    def lists(periods):
        return {row.tobytes() for period in periods for row in played[period].number}

    number = splits["test/clean"].labels["click"][:, :, 1].astype(np.int32)
    assert {row.tobytes() for row in number} <= lists(TEST)
    assert {row.tobytes() for row in splits["val"].labels["click"][:, :, 1].astype(np.int32)} <= lists([VAL])
    labelled = splits["transfer"].labelled["click"]
    assert {row.tobytes() for row in splits["transfer"].labels["click"][labelled][:, :, 1].astype(np.int32)} <= lists(TRAINED)


def test_cold_users_and_new_items_are_known_by_their_side_features_only(splits):
    cold, new = splits["test/cold_users"], splits["test/new_items"]
    assert not cold.inputs["user"][:, 0].any() and cold.inputs["user"][:, 1:].all()
    assert not new.inputs["item"][:, [ID, 5]].any() and new.inputs["item"][:, 1:5].all()
    assert new.labels["click"][:, :, 1].min() >= sum(ITEMS[:2]) > splits["transfer"].labels["click"][:, :, 1].max()


def test_users_meet_both_domains(splits, log):
    _, played, _, _ = log
    for domain in (1, 2):
        lists = played[0].take(played[0].item[:, 5, 0] == domain)
        assert (lists.item[:, 5] == domain).all() and set(lists.user[:, 0]) == set(range(1, USERS + 1))
    assert splits["test/catalogue"].inputs["item"].shape[2] == ITEMS[0] == ITEMS[1]


def test_what_is_shown_is_biased_by_popularity_and_taste(log):
    world, played, _, seen = log
    lists = played[VAL]
    everyone = np.arange(USERS)
    liked = world.affinity(lists.user[:, 0] - 1, lists.number, np.full(len(lists), VAL))[0]
    anything = world.affinity(everyone, np.tile(np.arange(400), (USERS, 1)), np.full(USERS, VAL))[0]
    assert liked.mean() > anything.mean() + 0.3
    assert seen[VAL][lists.number].mean() > 1.2 * seen[VAL][:400].mean()


def test_the_unseen_task_is_one_candidate_of_the_new_domain(splits):
    few, test = splits["unseen/train"], splits["unseen/test"]
    assert few.inputs["item"].shape == (80, 6, 1) and len(test.view) > 100
    for split in (few, test):
        assert split.labels["likes_new_item"].mean() == 0.5
        np.testing.assert_array_equal(split.labels["likes_new_item"], split.labels["click"][:, 0, 0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labelled": {"clicks": 3}}, "labelled.clicks: no such task"),
        ({"length": 101}, "length: 101, expected 1 to 50"),
        ({"test": 0}, "test: 0, expected 1 to 400"),
        ({"unlabelled": 10**5}, "labelled, unlabelled: 100120 lists together"),
    ],
)
def test_what_cannot_be_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        source(**change)


def test_preview_is_of_the_same_shape(splits):
    rows, few = source().preview()
    assert rows == len(splits["transfer"].view)
    wanted = {name: x.shape[1:] for name, x in splits["transfer"].fields().items()}
    assert {name: x.shape[1:] for name, x in few.fields().items()} == wanted


def test_a_drawn_row_names_items_and_says_them_in_words(splits):
    inputs = {name: x[0] for name, x in splits["test/clean"].inputs.items()}
    answer = {"click": {"list": [(3, 0.5), (1, None)]}}
    figure, axis = plt.subplots()
    source().draw(axis, inputs, answer)
    source().draw(axis, inputs, {})
    assert all(text.get_fontsize() >= 6.5 for text in axis.texts)
    drawn = [text.get_text() for text in axis.texts]
    plt.close(figure)
    assert f"{inputs['item'][ID, 3]}  0.50" in drawn and f"{inputs['item'][ID, 1]}" in drawn
    assert source().words(inputs, {"click": {"list": [(3, 0.5)]}}) == f"click: {inputs['item'][ID, 3]} (0.50)"
