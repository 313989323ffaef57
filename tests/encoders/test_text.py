import pytest
import torch

from pipeline.encoders.bag_of_words import BagOfWords
from pipeline.encoders.text import TextEncoder
from pipeline.sources.text.vocabulary import Vocabulary
from pipeline.sources.text.words import as_arrays

ROWS = [["a", "good", "soup"], ["no", "seat"], ["the", "very", "last", "good", "book"]]
OTHER = [["pus", "doog"], ["taes", "on", "ka"], ["koob", "doog", "tsal", "yrev"]]
PARTNER = [[-1, 1, 0], [1, 0], [-1, 3, 2, 1, 0]]


def arrays(rows=ROWS, other=OTHER, partner=PARTNER):
    sides = {"first": Vocabulary(ROWS, 60), "second": Vocabulary(OTHER, 60)}
    found = as_arrays({"first": rows, "second": other}, {"second": partner}, sides)
    return {name: torch.from_numpy(x) for name, x in found.items()}


def encoder(side):
    torch.manual_seed(0)
    return TextEncoder(input=side, vocabulary=60, width=16, layers=2, heads=2).eval()


@pytest.mark.parametrize("side", ["first", "second"])
def test_features_lie_on_the_words_of_the_first_side(side):
    inputs = arrays()
    assert inputs["mask"].tolist() == [
        [False, True, True, False, False],
        [True, True, False, False, False],
        [False, *[True] * 4],
    ]
    for network in (encoder(side), BagOfWords(input=side, vocabulary=60, width=16)):
        features = network(inputs)
        assert {tap: tuple(x.shape) for tap, x in features.items()} == {"words": (3, 16, 5)}


def test_a_word_of_the_second_side_is_where_its_partner_is():
    network = BagOfWords(input="second", vocabulary=60, width=8)
    x = network(arrays())["words"]
    torch.testing.assert_close(x[0, :, 1], x[2, :, 3])  # "doog", at each "good"
    assert not torch.allclose(x[0, :, 1], x[0, :, 2])


def test_words_that_do_not_exist_hold_the_mean_of_those_that_do():
    x, mask = encoder("first")(arrays())["words"], arrays()["mask"]
    for row in range(3):
        mean = x[row][:, mask[row]].mean(1)
        torch.testing.assert_close(x[row].mean(1), mean)
        torch.testing.assert_close(x[row][:, ~mask[row]], mean[:, None].expand(-1, int((~mask[row]).sum())))


def test_a_row_depends_neither_on_its_batch_nor_on_padding():
    network, inputs = encoder("first"), arrays()
    alone = network(arrays([ROWS[1]], [OTHER[1]], [PARTNER[1]]))["words"]
    torch.testing.assert_close(alone[0], network(inputs)["words"][1, :, :2], atol=1e-5, rtol=1e-5)
    wider = {**inputs, "tokens_first": torch.nn.functional.pad(inputs["tokens_first"], (0, 7))}
    torch.testing.assert_close(network(wider)["words"], network(inputs)["words"])


def test_words_are_read_in_their_order():
    network, turned = encoder("first"), arrays([["seat", "no"]], [OTHER[1]], [PARTNER[1]])
    before, after = network(arrays())["words"][1, :, :2], network(turned)["words"][0]
    assert (before - after.flip(1)).abs().max() > 1e-5
    bag = BagOfWords(input="first", vocabulary=60, width=8)
    torch.testing.assert_close(bag(arrays())["words"][1, :, :2], bag(turned)["words"][0].flip(1))


def test_a_side_a_vocabulary_and_a_length_that_do_not_fit_are_named():
    inputs = arrays()
    with pytest.raises(ValueError, match="no side 'third' in these rows; there are first, second"):
        encoder("third")(inputs)
    with pytest.raises(ValueError, match="vocabulary: 5, but there is a token"):
        TextEncoder(input="first", vocabulary=5, width=16, layers=1, heads=2)(inputs)
    with pytest.raises(ValueError, match="longest: 3, but a row has"):
        TextEncoder(input="first", vocabulary=60, width=16, layers=1, heads=2, longest=3)(inputs)


def test_rows_too_long_are_refused_before_anything_learns():
    room = TextEncoder(input="first", vocabulary=60, width=16, layers=1, heads=2, longest=8)
    room.check_inputs({"tokens_first": {"longest": 8}, "tokens_second": {"longest": 9}})
    with pytest.raises(ValueError, match="longest: 8, but a row has 9 tokens; raise it to that"):
        room.check_inputs({"tokens_first": {"longest": 9}})


def test_the_same_rows_give_the_same_tokens():
    one, two = (Vocabulary(ROWS, 60) for _ in range(2))
    assert one.tokenizer.to_str() == two.tokenizer.to_str()
    tokens, begins = one.read([["good", "zzz", "soup"]])
    assert 1 in tokens[0][begins[0][1] : begins[0][2]]  # unknown
    assert 1 not in tokens[0][: begins[0][1]]


def test_every_word_has_a_token_dashes_too():
    rows = [["well", "-", "made", "twenty-one", "--", "ümläut", "-x-"]]
    tokens, (begins,) = Vocabulary(ROWS, 60).read(rows)
    assert len(begins) == len(rows[0]) and sorted(set(begins.tolist())) == begins.tolist()
    assert begins[-1] < len(tokens[0])
