import numpy as np
import pytest
from matplotlib import pyplot as plt

from pipeline.seeds import stream
from pipeline.sources.text.grammar import ARTICLES, NOUNS, SUFFIXES, SecondLanguage, chunks, names, opinions, sentence
from pipeline.sources.text.reviews import TAGS, TASKS, UNSEEN, Reviews

SIZES = {"labelled": dict.fromkeys(TASKS, 60), "unlabelled": 40, "val": 30, "test": 40, "unseen": 30, "vocabulary": 450}


def reviews(**changes):
    return Reviews(**{**SIZES, "seed": 5, **changes})


@pytest.fixture(scope="module")
def splits():
    return reviews().splits()


def said(split, side="first"):
    return [x.tobytes().rstrip(b"\0").decode().split() for x in split.inputs[f"text_{side}"]]


def named(split):
    """Words of names, where tags are given."""
    return {
        word
        for words, tags in zip(said(split), split.labels["entities"], strict=True)
        for word, tag in zip(words, tags, strict=False)
        if tag > 0
    }


def test_no_name_is_in_training_and_in_a_test(splits):
    rows = {name: named(split) for name, split in splits.items()}
    for test in ("test/clean", "test/novel", "unseen/test"):
        assert rows[test]
        for other in ("transfer", "val", "unseen/train"):
            assert not rows[test] & rows[other]


def test_no_review_is_in_two_splits(splits):
    ids = [np.unique(split.sample_id, axis=0) for split in splits.values()]
    assert len(np.unique(np.concatenate(ids), axis=0)) == sum(len(split.view) for split in splits.values())


def test_the_novel_split_judges_with_words_of_its_own(splits):
    every = {word for words in opinions(novel=True).values() for word in words}
    assert not every & {word for words in opinions(novel=False).values() for word in words}
    assert {part for word in every for part in word.split("-")} >= set(SUFFIXES)
    used = {name: {word for words in said(split) for word in words} for name, split in splits.items()}
    assert used["test/novel"] & every
    assert not any(used[name] & every for name in used if name != "test/novel")


def test_same_seed_same_bytes_other_seed_other_bytes(splits):
    for name, split in reviews().splits().items():
        for field, x in split.fields().items():
            np.testing.assert_array_equal(x, splits[name].fields()[field])
    assert said(reviews(seed=6).splits()["val"]) != said(splits["val"])


def test_the_size_of_one_split_leaves_the_others_alone(splits):
    other = reviews(unlabelled=90, test=7).splits()
    assert said(other["val"]) == said(splits["val"])
    assert said(other["unseen/train"], "second") == said(splits["unseen/train"], "second")


def test_every_task_has_labels_of_its_own(splits):
    transfer = splits["transfer"]
    assert sum(flag.astype(int) for flag in transfer.labelled.values()).max() == 1
    for task in TASKS:
        flag = transfer.labelled[task]
        assert flag.sum() == 60
        assert (transfer.labels[task][~flag] == -1).all()
        assert (transfer.labels[task][flag] >= 0).reshape(60, -1).any(1).all()
    assert set(splits["unseen/train"].labels) == {*TASKS, *UNSEEN}
    assert set(splits["test/clean"].labels) == set(TASKS)


def test_what_is_no_part_of_the_grid_has_no_tag(splits):
    for name, split in splits.items():
        tags, mask = split.labels["entities"], split.inputs["mask"]
        assert (tags[~mask] == -1).all()
        if name != "transfer":
            assert (tags[mask] >= 0).all()


def test_the_second_language_says_the_same_in_other_words_order_and_length():
    rng = np.random.default_rng(0)
    slots = {"N": [("soup", "O")], "A": [("very", "O"), ("joy-ful", "O")], "P": [("mara", "B-PER"), ("dolen", "I-PER")]}
    second = SecondLanguage(rng)
    made = sentence([chunks("P|said|the N|was|A", slots), chunks("we come|again", {})], second)
    first, other = made.words
    assert first == ["mara", "dolen", "said", "the", "soup", "was", "very", "joy-ful", ".", "we", "come", "again"]
    assert made.tags == ["B-PER", "I-PER", *["O"] * 10]
    for word, place in zip(first, made.partner, strict=True):
        assert (place == -1) == (word in ARTICLES or word == ".")
        assert place == -1 or other[place] == second.word(word)
    places = [place for place in made.partner if place >= 0]
    assert len(set(places)) == len(places) < len(other)  # particles have no partner
    assert places != sorted(places)
    assert other[made.partner[0] + 1] == other[made.partner[1]]  # a name keeps its order
    assert second.word("joy-ful") == f"{second.word('ful')}-{second.word('joy')}"


def test_words_of_the_languages_do_not_overlap(splits):
    first, second = ({word for words in said(splits["transfer"], side) for word in words} for side in ("first", "second"))
    assert len(first & second) <= 0.01 * len(second)


def test_the_partner_of_a_word_is_where_its_position_begins(splits):
    """Positions of a name: the tokens that begin there are of the name's translation."""
    source = reviews()
    transfer = splits["transfer"]
    second = SecondLanguage(stream(source.seed, "second"))
    rows = source.learn(source.compose("transfer", 220, source.name_pools()["transfer"], opinions(novel=False)))
    for row in range(40):
        words, other = said(transfer)[row], said(transfer, "second")[row]
        _, (begins,) = rows[1].read([other])
        for position in np.flatnonzero(transfer.inputs["mask"][row]):
            place = begins.tolist().index(transfer.inputs["words_second"][row, position])
            assert other[place] == second.word(words[position])


def test_labels_follow_from_what_is_said(splits):
    topics = dict(zip(Reviews.names["topic"], range(6), strict=True))
    positive = set(opinions(novel=False)[1])
    for words, topic, sentiment in zip(
        said(splits["val"]), splits["val"].labels["topic"], splits["val"].labels["sentiment"], strict=True
    ):
        clauses = " ".join(words).split(" . ")
        for clause in clauses:
            if clause.startswith("i never found"):
                *_, noun, _, opinion = clause.split()
                assert topic == topics[next(t for t, known in NOUNS.items() if noun in known)]
                assert sentiment == (opinion not in positive)


def test_names_are_distinct_and_a_preview_tells_what_the_transfer_set_will_be(splits):
    assert len(set(names(np.random.default_rng(0), 800))) == 800
    rows, few = reviews().preview()
    assert rows == len(splits["transfer"].view)
    whole = splits["transfer"].fields()
    assert {name: (x.ndim, x.dtype) for name, x in few.fields().items()} == {
        name: (x.ndim, x.dtype) for name, x in whole.items()
    }
    assert all(flag.any() for flag in few.labelled.values())


def test_augmentation_drops_tokens_and_nothing_else(splits):
    split = splits["val"]
    before = {name: x.copy() for name, x in split.inputs.items()}
    inputs, labels = reviews().augment(np.random.default_rng(0), split.inputs, split.labels)
    assert labels is split.labels
    for name, x in before.items():
        np.testing.assert_array_equal(split.inputs[name], x)
        if name.startswith("tokens_"):
            changed = inputs[name] != x
            assert 0.05 < changed[x > 0].mean() < 0.15
            assert (inputs[name][changed] == 1).all() and not changed[x == 0].any()
        else:
            np.testing.assert_array_equal(inputs[name], x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labelled": {"depth": 5}}, "labelled.depth: no such task"),
        ({"labelled": {"topic": 0}}, "labelled.topic: 0, expected at least 1"),
        ({"val": 0}, "val: 0"),
    ],
)
def test_errors_name_the_argument(change, message):
    with pytest.raises(ValueError, match=message):
        reviews(**change)


def test_tags_are_in_the_order_of_their_numbers():
    assert TAGS == ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG"]


def test_a_drawn_review_is_readable_and_lies_in_its_frame(splits):
    source, split = reviews(), splits["test/clean"]
    row = max(range(len(split.view)), key=lambda row: sum(map(len, said(split)[row])))
    figure, axis = plt.subplots(figsize=source.cell)
    source.draw(axis, {name: x[row] for name, x in split.inputs.items()}, {})
    words, frame = [text.get_window_extent() for text in axis.texts], axis.get_window_extent()
    assert all(text.get_fontsize() >= 6.5 for text in axis.texts)
    assert all(word.count_overlaps(words) == 1 for word in words)  # itself
    assert all(frame.x0 < word.x0 and word.x1 < frame.x1 and frame.y0 < word.y0 and word.y1 < frame.y1 for word in words)
    plt.close(figure)
