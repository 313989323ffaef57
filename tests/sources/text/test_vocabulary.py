import json

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from pipeline.sources.text.vocabulary import Borrowed, Vocabulary, own_ids

TEXTS = ["the soup was cold", "a seat at last", "nothing to say of the soup", "I said it well-made"]
ROWS = [*([*text.split()] for text in TEXTS), ["[SEP]", "</s>", "of", "Soups!"], ["\u200b", "zzz"], ["[pad]", "[unk]", "[PAD]"]]


def wordpiece():
    """As BERT has it: padding is 0, unknown is not 1."""
    found = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    found.normalizer, found.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]"]
    found.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=60, special_tokens=special))
    found.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(name, found.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    )
    return found


def byte_level(special):
    found = Tokenizer(models.BPE())
    found.pre_tokenizer, found.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    found.train_from_iterator(TEXTS, trainer)
    return found


def roberta():
    """Padding is 1, and 0 begins every row."""
    found = byte_level(["<s>", "<pad>", "</s>", "<unk>"])
    found.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return found


def gpt():
    """No padding, no unknown; a token that is not of the model's own vocabulary."""
    found = byte_level([])
    found.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
    return found


def qwen():
    """Padding is not of the model's own vocabulary."""
    found = byte_level([])
    found.add_special_tokens([AddedToken("<|endoftext|>", special=True), AddedToken("<|pad|>", special=True)])
    return found


def unigram():
    """Unknown is 0, and there is no padding."""
    found = Tokenizer(models.Unigram())
    found.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=60, special_tokens=["<unk>", "</s>"], unk_token="<unk>", show_progress=False)
    found.train_from_iterator(TEXTS, trainer)
    found.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return found


@pytest.fixture(params=[wordpiece, roberta, gpt, qwen, unigram], ids=lambda make: make.__name__)
def theirs(request, tmp_path):
    made = request.param()
    made.enable_truncation(8)
    made.save(str(tmp_path / "tokenizer.json"))
    made.no_truncation()
    return made


def test_a_borrowed_tokenizer_gives_its_own_tokens_in_our_numbers(theirs, tmp_path):
    borrowed = Borrowed(str(tmp_path))
    own = own_ids(borrowed.about)
    tokens, begins = borrowed.read(ROWS)
    assert len(own) == len(set(own.values()))
    theirs.encode_special_tokens = True
    for words, row, places in zip(ROWS, tokens, begins, strict=True):
        wanted = theirs.encode(" ".join(words))
        assert 0 not in row and [own.get(number, number) for number in row] == wanted.ids
        assert len(places) == len(words) and (np.diff(places) >= 0).all()
    special = np.array(theirs.encode("the soup").special_tokens_mask)
    assert begins[0][0] == special.argmin()  # after what begins a row
    starts = theirs.encode("the soup was cold").offsets
    assert [starts[place][1] > at for place, at in zip(begins[0], (0, 4, 9, 13), strict=True)] == [True] * 4
    assert len(set(begins[0].tolist())) == 4


def test_what_goes_along_gives_our_numbers_by_itself(theirs, tmp_path):
    borrowed = Borrowed(str(tmp_path / "tokenizer.json"))
    again = Tokenizer.from_str(borrowed.tokenizer.to_str())
    assert again.encode("the soup was cold").ids == borrowed.read([ROWS[0]])[0][0]
    (tmp_path / "ours").mkdir()
    again.save(str(tmp_path / "ours/tokenizer.json"))
    assert own_ids(Borrowed(str(tmp_path / "ours")).about) == {}


def test_a_digest_is_of_the_tokens_not_of_how_rows_are_cut(theirs, tmp_path):
    before = Borrowed(str(tmp_path)).about
    theirs.enable_padding()
    theirs.save(str(tmp_path / "tokenizer.json"))
    assert Borrowed(str(tmp_path)).about == before
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    content["normalizer"] = {"type": "Lowercase"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    assert Borrowed(str(tmp_path)).about["digest"] != before["digest"]


@pytest.mark.parametrize(("content", "message"), [(None, "no such file"), ("{}", "cannot be read as a tokenizer")])
def test_what_is_no_tokenizer_is_one_line(tmp_path, content, message):
    if content:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        Borrowed(str(tmp_path))
    assert "\n" not in str(error.value)


def test_no_word_of_a_text_is_padding():
    rows = [["hello", "[pad]", "world"], ["[unk]", "[pad]"], ["x[pad]", "y[pad]"]] * 9
    tokens, begins = Vocabulary(rows, 200).read(rows)
    assert all(0 not in row and 1 not in row for row in tokens)
    assert [len(places) for places in begins] == [3, 2, 2] * 9


def test_a_vocabulary_that_is_learnt_has_our_numbers_already():
    assert own_ids(Vocabulary(ROWS, 60).about) == {}


CHARACTERS = [list("我在北京"), [*"我用", "iPhone"], list("北京")] * 3


def test_characters_that_are_words_are_a_token_each():
    known = Vocabulary(CHARACTERS, 60)
    tokens, begins = known.read(CHARACTERS)
    assert [len(row) for row in tokens[:3]] == [4, 3, 2] and begins[1].tolist() == [0, 1, 2]
    assert tokens[0][2:] == tokens[2]


def test_a_vocabulary_that_has_no_room_for_a_character_does_not_know_it():
    tokens, begins = Vocabulary(CHARACTERS, 6).read(CHARACTERS)
    assert max(map(max, tokens)) < 6 and 1 in tokens[1] and len(begins[1]) == 3


def test_a_borrowed_tokenizer_reads_characters_as_they_are_written(tmp_path):
    """Of a model for which "北京" is one token: both characters begin there."""
    made = Tokenizer(models.BPE(unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["[PAD]", "[UNK]"]
    made.train_from_iterator(["我在北京 北京 用"] * 3, trainers.BpeTrainer(vocab_size=8, special_tokens=special))
    made.save(str(tmp_path / "tokenizer.json"))
    tokens, begins = Borrowed(str(tmp_path)).read([list("用北京")])
    assert [made.id_to_token(token) for token in tokens[0]] == ["用", "北京"] and begins[0].tolist() == [0, 1, 1]
