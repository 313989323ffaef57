import json
import os

import numpy as np
import pyarrow
import pytest
from matplotlib import pyplot as plt
from pyarrow import parquet
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

from pipeline.sources.text.text_files import TextFiles

CONLL = """-DOCSTART- -X- -X- O

EU NNP I-NP I-ORG
rejects VBZ I-VP O
German JJ I-NP I-MISC
call NN I-NP O

Peter NNP I-NP I-PER
Blackburn NNP I-NP I-PER

-DOCSTART- -X- -X- O

BRUSSELS NNP I-NP I-LOC
Antwerp NNP I-NP B-LOC
"""
KINDS = ["PER", "LOC", "ORG", "MISC"]
CSV = 'text,topic,sentiment\nthe soup was cold,meal,against\n"a seat, at last",flight,\nnothing to say,,\n'
ARGUMENTS = {
    "files": {"transfer": ["a.csv", "b.conll"], "val": ["val.jsonl"], "test/clean": ["test.parquet"]},
    "classes": {"topic": ["meal", "flight"], "sentiment": ["against", "for"]},
    "tags": {"entities": KINDS},
    "vocabulary": 200,
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text(CSV)
    (tmp_path / "b.conll").write_text(CONLL)
    rows = [
        {"text": ["Anna", "ate", "soup"], "topic": "meal", "entities": ["B-PER", "O", "O"]},
        {"text": "good", "sentiment": "for"},
    ]
    (tmp_path / "val.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    table = {"text": ["late again", "Lima is far"], "topic": ["flight", None], "entities": [None, "B-LOC O O"]}
    parquet.write_table(pyarrow.table({**table, "sentiment": ["against", None]}), tmp_path / "test.parquet")
    return tmp_path


def source(**changes):
    return TextFiles(**{**ARGUMENTS, **changes})


def words(split):
    return [x.tobytes().rstrip(b"\0").decode() for x in split.inputs["text_first"]]


def test_every_format_loads_with_exact_values(folder):
    splits = source().splits()
    transfer, val, test = (splits[name] for name in ("transfer", "val", "test/clean"))
    assert words(transfer) == [
        *("the soup was cold", "a seat, at last", "nothing to say"),
        *("EU rejects German call", "Peter Blackburn", "BRUSSELS Antwerp"),
    ]
    assert transfer.labels["topic"].tolist() == [0, 1, -1, -1, -1, -1]
    assert transfer.labels["sentiment"].tolist() == [0, -1, -1, -1, -1, -1]
    assert transfer.labels["entities"][3:].tolist() == [[5, 0, 7, 0], [1, 2, -1, -1], [3, 3, -1, -1]]  # of IOB1, as BIO
    assert (transfer.labels["entities"][:3] == -1).all()
    assert transfer.labelled["topic"].tolist() == [True, True, False, False, False, False]
    assert transfer.labelled["entities"].tolist() == [False, False, False, True, True, True]
    assert transfer.inputs["mask"].sum(1).tolist() == [4, 4, 3, 4, 2, 2]
    assert words(val) == ["Anna ate soup", "good"] and val.labels["entities"].tolist() == [[1, 0, 0], [-1, -1, -1]]
    assert val.labels["sentiment"].tolist() == [-1, 1]
    assert test.labels["topic"].tolist() == [1, -1] and test.labels["entities"].tolist() == [[-1, -1, -1], [3, 0, 0]]


def test_the_same_text_in_two_files_is_one_row_with_the_labels_of_both(folder):
    (folder / "b.conll").write_text("the O\nsoup O\nwas O\ncold B-MISC\n")
    transfer = source().splits()["transfer"]
    assert words(transfer)[0] == "the soup was cold" and len(words(transfer)) == 3
    assert transfer.labels["entities"][0].tolist() == [0, 0, 0, 7] and transfer.labels["topic"][0] == 0


def test_long_texts_are_cut_with_their_tags(folder):
    transfer = source(longest=2).splits()["transfer"]
    assert words(transfer)[3] == "EU rejects" and transfer.labels["entities"][3].tolist() == [5, 0]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("a.csv", "text,topic\nfine,meal\nwrong,sea\n", "a.csv, line 3: 'topic' is 'sea', expected one of meal, flight"),
        ("a.csv", "text,topic\nfine,meal,more\n", "a.csv, line 2: 3 cells, the header has 2"),
        ("a.csv", "words,topic\nfine,meal\n", "a.csv, line 1: no column 'text'; there are words, topic"),
        ("a.csv", "text,topic\n  ,meal\n", "a.csv, line 2: 'text' is empty"),
        ("a.csv", 'text,topic\n"open,meal\n', "a.csv, line 2: unexpected end of data"),
        ("a.csv", b"text,topic\nfine,meal\n\xff,meal\n", "a.csv, line 3: is not text in UTF-8"),
        ("a.csv", "text,topic\n", "a.csv, b.conll: no row"),
        ("b.conll", "EU B-ORG\nrejects\n", "b.conll, line 2: 1 columns, expected 2"),
        ("b.conll", "a O\n\nEU B-FOO\n", "b.conll, line 3: 'entities': tag 'B-FOO', expected one of O, B-PER"),
        ("val.jsonl", '{"text": "fine"}\n{"text": \n', "val.jsonl, line 2: is not JSON"),
        ("val.jsonl", '{"text": "fine"}\n[1]\n', "val.jsonl, line 2: expected an object with the key 'text'"),
        ("val.jsonl", '{"text": 3}\n', "val.jsonl, line 1: 'text' is 3, expected a text or a list of words"),
        ("val.jsonl", '{"text": "a b", "entities": "O"}\n', "val.jsonl, line 1: 'entities': 1 tags for 2 words"),
        ("val.jsonl", '{"text": "nothing to say"}\n', "val.jsonl, line 1: this text of val is also in transfer .a.csv"),
        ("test.parquet", "no", "test.parquet: cannot be read as Parquet"),
        ("test.parquet", b"PAR1" + bytes(60) + b"\x10\0\0\0PAR1", "test.parquet: cannot be read as Parquet: .*thrift"),
        (
            "val.jsonl",
            '{"text": "fine", "Topic": "meal", "sentiment": "for"}\n',
            "val.jsonl: no column 'topic'; did you mean 'Topic'.; there are text, Topic, sentiment",
        ),
        (
            "val.jsonl",
            '{"text": "fine", "topic": "", "sentiment": "for"}\n',
            "val.jsonl: no row has a label of topic; val needs one at least",
        ),
        (
            "val.jsonl",
            '{"text": "fine", "topic": "meal", "sentiment": "for"}\n',
            "val.jsonl: no column 'entities'; there are text, topic, sentiment",
        ),
    ],
)
def test_what_is_malformed_is_named_by_file_and_line_and_nothing_is_loaded(folder, file, content, message):
    (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    if file == "a.csv" and message.endswith("no row"):
        (folder / "b.conll").write_text("\n")
    with pytest.raises(ValueError, match=message):
        source().splits()


def test_a_label_of_unseen_splits_alone_is_of_an_unseen_task(folder):
    for name in ("train", "test"):
        (folder / f"{name}.csv").write_text(f"text,stars\nan unseen {name},five\n")
    files = {**ARGUMENTS["files"], "unseen/train": ["train.csv"], "unseen/test": ["test.csv"]}
    splits = source(files=files, classes={**ARGUMENTS["classes"], "stars": ["one", "five"]}).splits()
    assert splits["unseen/test"].labels["stars"].tolist() == [1] and not splits["val"].labelled["stars"].any()


def test_labels_of_one_text_that_differ_name_both_lines(folder):
    (folder / "a.csv").write_text("text,topic\nsame,meal\nsame,flight\n")
    with pytest.raises(ValueError, match=r"a.csv, line 3: 'topic' is 'flight', but 'meal' of the same text in a.csv, line 2"):
        source().splits()


def test_of_many_problems_three_are_named(folder, capsys):
    (folder / "a.csv").write_text(CSV + "x,sea,\n" * 5)
    with pytest.raises(ValueError, match=r"^5 rows cannot be used: .*line 5: .*line 7: [^;]*; \.\.\.: fix them, or set"):
        source().splits()
    assert "bad: a.csv, line 9: 'topic' is 'sea'" in capsys.readouterr().err


def test_what_is_bad_may_be_skipped(folder, capsys):
    """What came first stays: of two labels of a text, and of a text in two splits."""
    (folder / "a.csv").write_text(CSV + "x,sea,\na seat\nthe soup was cold,flight,\n")
    (folder / "val.jsonl").write_text((folder / "val.jsonl").read_text() + '{"text": "nothing to say", "topic": "meal"}\n')
    splits = source(skip_bad=True).splits()
    assert words(splits["transfer"])[:4] == ["the soup was cold", "a seat, at last", "nothing to say", "EU rejects German call"]
    assert splits["transfer"].labels["topic"][0] == 0 and words(splits["val"]) == ["Anna ate soup", "good"]
    said = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in said] == [
        *("a.csv, line 5", "a.csv, line 6", "a.csv, line 7", "val.jsonl, line 4", "4 rows in all"),
    ]


def test_a_bad_line_of_conll_skips_its_sentence_alone(folder, capsys):
    (folder / "b.conll").write_text("Peter B-PER\nBlack burn I-PER\n\nAnna B-PER\n")
    transfer = source(skip_bad=True).splits()["transfer"]
    assert "Anna" in words(transfer) and not [text for text in words(transfer) if "Peter" in text]
    assert "b.conll, line 2: 3 columns, expected 2" in capsys.readouterr().err


def test_labels_may_be_called_otherwise_than_their_columns(folder):
    (folder / "a.csv").write_text(CSV.replace("topic", "Class Index"))
    (folder / "val.jsonl").write_text((folder / "val.jsonl").read_text().replace("topic", "Class Index"))
    table = parquet.read_table(folder / "test.parquet")
    parquet.write_table(table.rename_columns({"topic": "Class Index"}), folder / "test.parquet")
    renamed = source(columns={"topic": "Class Index"}).splits()
    assert renamed["transfer"].labels["topic"].tolist() == [0, 1, -1, -1, -1, -1]
    with pytest.raises(
        ValueError, match=r"columns.topics: no label; did you mean 'topic'.; there are topic, sentiment, entities"
    ):
        source(columns={"topics": "Class Index"})
    with pytest.raises(ValueError, match=r"no column 'Class index'; did you mean 'Class Index'."):
        source(columns={"topic": "Class index"}).splits()


def test_scripts_without_blanks_are_cut_into_characters(folder):
    rows = [
        {"text": "我在北京 用iPhone", "entities": "O O B-LOC I-LOC O O"},
        {"text": "江 泽民 在 北京", "entities": "B-PER I-PER O B-LOC"},
        {"text": ["江泽民", "在"], "entities": ["B-PER", "O"]},
    ]
    (folder / "b.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    transfer = source(files=ARGUMENTS["files"] | {"transfer": ["a.csv", "b.jsonl"]}).splits()["transfer"]
    assert words(transfer)[3:] == ["我 在 北 京 用 iPhone", "江 泽民 在 北京", "江泽民 在"]  # words that tags know are left
    assert transfer.labels["entities"][3].tolist() == [0, 0, 3, 4, 0, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"files": {"transfer": ["a.csv"]}}, "files.val: missing"),
        ({"tags": {"a": KINDS, "b": KINDS}}, "tags: 2 tasks of tags, expected one"),
        (
            {"files": {"transfer": ["a.csv"], "val": ["a.csv"], "tets/clean": ["a.csv"]}},
            "files.tets/clean: no split; did you mean 'test/clean'.; there are transfer, .* and test/<name>",
        ),
    ],
)
def test_errors_name_the_argument(change, message):
    with pytest.raises(ValueError, match=message):
        source(**change)


def test_files_that_are_no_known_kind_or_not_there(folder):
    for name, message in (("a.txt", "a.txt: not a kind of file"), ("b.csv", "b.csv: no such file")):
        with pytest.raises(ValueError, match=message):
            source(files={**ARGUMENTS["files"], "val": [name]}).splits()


def test_a_preview_and_what_is_said_of_a_row(folder):
    rows, few = source().preview()
    assert rows == 6 and len(few.view) == 6
    row = {name: x[3] for name, x in few.inputs.items()}
    line = source().words(row, {"topic": {"classes": [1]}, "entities": {"tags": ["B-ORG", "O", "O", "O"]}})
    assert line == "topic: flight; entities: EU/ORG rejects German call"
    assert os.listdir(folder) and np.all(few.view == 0)


def test_a_line_of_text_is_read_as_the_transfer_set_was(folder):
    _, few = source().preview()
    ((_, row),) = source().read("the soup was cold")
    for name in ("tokens_first", "words_first", "mask"):
        length = len(row[name])
        np.testing.assert_array_equal(row[name], few.inputs[name][0][:length])
    with pytest.raises(ValueError, match="expected a line of text"):
        source().read(" ")
    with pytest.raises(ValueError, match=r"a.csv: is a file; give a line of text"):
        source().read("a.csv")


def test_texts_that_are_one_when_they_are_cut_are_one_row_and_in_one_split(folder):
    (folder / "a.csv").write_text("text,topic,sentiment\none two three,meal,\none two four,,for\n")
    transfer = source(longest=2).splits()["transfer"]
    assert words(transfer)[0] == "one two" and transfer.labels["topic"][0] == 0 and transfer.labels["sentiment"][0] == 1
    assert len(np.unique(transfer.sample_id, axis=0)) == len(transfer.view)
    (folder / "a.csv").write_text("text,topic,sentiment\none two three,meal,for\none two four,flight,\n")
    with pytest.raises(ValueError, match=r"'meal' of the same first 2 words \(raise longest .*\) in a.csv, line 2"):
        source(longest=2).splits()
    (folder / "a.csv").write_text("text,topic,sentiment\none two three,meal,for\n")
    with (folder / "val.jsonl").open("a") as file:
        file.write('{"text": "one two five"}\n')
    with pytest.raises(ValueError, match="this text of val, its first 2 words as longest says, is also in transfer"):
        source(longest=2).splits()


def test_a_line_is_cut_as_the_rows_were(folder):
    ((_, row),) = source(longest=2).read("the soup was cold")
    assert row["mask"].tolist() == [True, True]


def test_a_preview_is_as_wide_as_all_rows(folder):
    lines = [*(f"short {n}" for n in range(80)), "w " * 60]
    (folder / "a.csv").write_text("text,topic,sentiment\n" + "".join(f"{line},meal,for\n" for line in lines))
    rows, few = source().preview()
    whole = source().splits()["transfer"]
    assert rows == len(whole.view) and len(few.view) == 64
    assert {name: x.shape[1:] for name, x in few.fields().items()} == {name: x.shape[1:] for name, x in whole.fields().items()}


def test_tokens_may_be_those_of_a_model(folder):
    (folder / "bert").mkdir()
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "soup", "was", "cold", "##s"]
    bert = Tokenizer(WordPiece({name: n for n, name in enumerate(names)}, unk_token="[UNK]"))
    bert.pre_tokenizer = BertPreTokenizer()
    bert.add_special_tokens(names[:4])
    bert.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    bert.save(str(folder / "bert/tokenizer.json"))
    given = source(vocabulary=None, tokenizer="bert")
    transfer = given.splits()["transfer"]
    assert transfer.inputs["tokens_first"][0].tolist()[:6] == [2, 4, 5, 6, 7, 3]
    assert transfer.inputs["words_first"][0].tolist() == [1, 2, 3, 4] and transfer.about["tokens_first"]["tokenizer"]["digest"]
    ((_, row),) = given.read("the soups")
    assert row["tokens_first"].tolist() == [2, 4, 5, 8, 3] and row["words_first"].tolist() == [1, 2]
    for wrong in ({"tokenizer": "bert"}, {"vocabulary": None}):
        with pytest.raises(ValueError, match="vocabulary: give it, a number of tokens, or tokenizer"):
            source(**wrong)


def test_a_line_ends_where_its_file_says(folder):
    """Not at what Unicode calls a line's end; a cell may be of any length."""
    (folder / "a.csv").write_bytes(
        'text,topic,sentiment\r\none\u2028two,meal,for\r\n"three\x0c\x85\r\nfour",meal ,\r\n'.encode()
    )
    odd = {"text": "five\u2028six\u0085seven", "topic": "meal", "sentiment": "for", "entities": "O O O"}
    (folder / "val.jsonl").write_text(json.dumps(odd, ensure_ascii=False) + "\n")
    splits = source().splits()
    assert words(splits["transfer"])[:2] == ["one two", "three four"] and words(splits["val"]) == ["five six seven"]
    assert splits["transfer"].labels["topic"][:2].tolist() == [0, 0]
    (folder / "a.csv").write_text(f"text,topic,sentiment\n{'x ' * 100_000},meal,for\n")
    assert words(source().splits()["transfer"])[0] == " ".join("x" * 64)


def test_a_word_that_would_make_every_row_as_wide_is_refused_by_its_line(folder):
    """If it is read: what comes after `longest` words is cut off. A text without blanks may be one word."""
    head = "text,topic,sentiment\nfine,meal,for\n"
    (folder / "a.csv").write_text(head + f"see http://{'ab/c' * 5000},meal,for\n")
    with pytest.raises(ValueError, match=r"a.csv, line 3: 'text' has 20011 bytes, .* at most 4096 with longest: 64"):
        source().splits()
    assert source(longest=1).splits() and source(longest=400).splits()
    (folder / "a.csv").write_text(head + f"{'é' * 2047},meal,for\n")
    assert source().splits()["transfer"].inputs["text_first"].shape[1] == 4094


def test_columns_lie_between_tabs(folder):
    (folder / "a.tsv").write_text('text\ttopic\tsentiment\nhot, "soup"\tmeal\tfor\n')
    (folder / "b.conll").write_text("10\u00a0000\tX\tB-MISC\t\nof\tY\tO\n\na\u00a0b  X O\n")
    transfer = source(files={**ARGUMENTS["files"], "transfer": ["a.tsv", "b.conll"]}).splits()["transfer"]
    assert words(transfer) == ['hot, "soup"', "10\u00a0000 of", "a\u00a0b"]
    assert transfer.labels["entities"][1:].tolist() == [[7, 0], [0, -1]]
    row = {name: x[1] for name, x in transfer.inputs.items()}
    assert source().words(row, {"entities": {"tags": ["B-MISC", "O"]}}) == "entities: 10\u00a0000/MISC of"


def test_what_is_labelled_is_divided_where_splits_have_no_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    labelled = [f"text {n},{('meal', 'flight')[n % 2]}" for n in range(400)]
    (tmp_path / "a.csv").write_text("\n".join(["text,topic", *labelled, *(f"unlabelled {n}," for n in range(100))]))
    arguments = {"files": {"transfer": ["a.csv"]}, "classes": {"topic": ["meal", "flight"]}, "vocabulary": 200, "val": 0.1}
    splits = TextFiles(**arguments, test=0.2, seed=3).splits()
    sizes = {name: len(split.view) for name, split in splits.items()}
    assert sum(sizes.values()) == 500 and 20 < sizes["val"] < 60 and 55 < sizes["test/clean"] < 105
    assert all(splits[name].labelled["topic"].all() for name in ("val", "test/clean"))
    assert (~splits["transfer"].labelled["topic"]).sum() == 100
    (tmp_path / "a.csv").write_text((tmp_path / "a.csv").read_text() + "\none more,meal")
    more = TextFiles(**arguments, test=0.2, seed=3).splits()
    assert all(set(words(splits[name])) <= set(words(more[name])) for name in splits)  # what is added moves no others
    assert words(TextFiles(**arguments, test=0.2, seed=4).splits()["val"]) != words(splits["val"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"files": {"transfer": ["a.csv"]}, "test": 0.1},
            "files.val: missing; .* or give val, a share of",
        ),
        ({"val": 0.1}, "val: 0.1, but files.val is given; drop one of them"),
        ({"files": {"transfer": ["a.csv"]}, "test": 0.5, "val": 0.5}, "val: 0.5, test: 0.5; expected shares that leave some"),
    ],
)
def test_a_split_has_files_or_a_share(changes, message):
    with pytest.raises(ValueError, match=message):
        source(**changes)


def test_every_split_says_how_long_the_longest_row_of_all_is(folder):
    splits = source().splits()
    widths = {name: split.inputs["tokens_first"].shape[1] for name, split in splits.items()}
    assert len(set(widths.values())) > 1
    assert {split.about["tokens_first"]["longest"] for split in splits.values()} == {max(widths.values())}
    assert source().preview()[1].about["tokens_first"]["longest"] == widths["transfer"]


def test_a_long_text_stays_in_its_picture(folder):
    (folder / "a.csv").write_text(CSV + f'"{" ".join(["words"] * 200)}",meal,for\n')
    split = source(longest=200).splits()["transfer"]
    row = int(split.inputs["mask"].sum(1).argmax())
    figure, axis = plt.subplots()
    source().draw(axis, {name: x[row] for name, x in split.inputs.items()}, {})
    assert min(text.get_position()[1] for text in axis.texts) >= 0 and axis.texts[-1].get_text() == "…"
    plt.close(figure)


def test_spans_of_any_kind_are_set_off_and_characters_are_drawn_side_by_side(folder):
    (folder / "b.conll").write_text("北 B-place\n京 I-place\n到 O\nLima B-place\nAnna B-who\n")
    tagged = source(
        files={name: ["b.conll"] for name in ("transfer", "val", "test/clean")}, classes={}, tags={"e": ["place", "who"]}
    )
    split = tagged.split(tagged.records()[0]["transfer"], tagged.learnt())
    _, axis = plt.subplots()
    tagged.draw(
        axis, {name: x[0] for name, x in split.inputs.items()}, {"e": {"tags": ["B-place", "I-place", "O", "B-place", "B-who"]}}
    )
    boxes = [text.get_bbox_patch() for text in axis.texts]
    colours = [box and box.get_facecolor() for box in boxes]
    assert colours[0] == colours[1] == colours[3] != colours[4] and colours[2] is None
    at = [text.get_position()[0] for text in axis.texts]
    assert at[2] - at[1] == pytest.approx(at[1] - at[0]) and at[4] - at[3] > 2 * (at[1] - at[0])
    plt.close()


def test_a_line_is_cut_as_files_with_a_tag_a_word_are(folder):
    with (folder / "b.conll").open("a") as file:
        file.write(
            "\n".join(["", *(f"{word} NNP I-NP O" for word in ["Mr.", "Wu", "(", "of", "Lima", ")", ",", "late", "."]), ""])
        )
    ((_, row),) = source().read("Mr. Vo (of Quito), late.")
    assert bytes(row["text_first"]).decode() == "Mr. Vo ( of Quito ) , late ."
    ((_, row),) = source(tags={}).read("Mr. Vo (of Quito), late.")
    assert bytes(row["text_first"]).decode() == "Mr. Vo (of Quito), late."


def test_tags_that_are_numbers_are_a_line(folder):
    (folder / "val.jsonl").write_text('{"text": "a b", "entities": [0, 1]}\n{"text": "c", "entities": 5}\n')
    with pytest.raises(ValueError) as error:
        source().splits()
    assert r"val.jsonl, line 1: 'entities' is [0, 1], expected one tag per word, by name, such as B-PER" in str(error.value)
    assert "line 2: 'entities' is 5, expected one tag per word" in str(error.value)


def test_a_row_that_contradicts_another_adds_nothing(folder):
    (folder / "a.csv").write_text(CSV + "the soup was warm,meal,\nthe soup was warm,flight,for\n")
    found, bad = source().records()
    (row,) = [record for record in found["transfer"] if record.words[-1] == "warm"]
    assert row.labels == {"topic": "meal"} and len(bad) == 1
