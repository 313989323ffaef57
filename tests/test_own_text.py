"""A project of one's own text: what is found out before anything learns, and what leaves it."""

import json
import re

import numpy as np
import onnxruntime
import pytest
import torch
import transformers
import yaml
from click.testing import CliRunner
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

from pipeline.checkpoints import load_network
from pipeline.cli import main
from pipeline.deployment.export import check_replaceable
from pipeline.project.class_spec import CLONE, ClassSpec
from pipeline.project.validation import load_params
from pipeline.reports.pictures import strip
from pipeline.sources.checks import check_names
from pipeline.stores.store import open_store
from stages import distill, extract, prepare, train_teacher

WORDS = ["the", "soup", "was", "cold", "a", "seat", "at", "last", "late", "again", "good", "bad"]
BERT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
PLACES = {
    prepare: "transfer=knowledge/transfer.zarr val=splits/val.zarr test=splits/test unseen=splits/unseen cost=cost.json",
    train_teacher: "transfer=knowledge/transfer.zarr val=splits/val.zarr test=splits/test out=teachers/{0} scores=scores/{0} "
    "cost=cost.json",
    extract: "transfer=knowledge/transfer.zarr teacher=teachers/{0} out=teachers/{0}.zarr cost=cost.json",
    distill: "store=knowledge/transfer.zarr val=splits/val.zarr students=students out=students/{0} cost=cost.json",
}


def run_stage(stage, name=""):
    given = [place.format(name).split("=") for place in PLACES[stage].split()]
    options = [word for key, place in given for word in (f"--{key}", f"data/{place}")]
    return CliRunner().invoke(stage.main, [*([name] if name else []), *options])


@pytest.fixture
def project(tmp_path, monkeypatch):
    """examples/text on a few lines of one's own: two tasks, one small teacher each, a student on labels."""
    monkeypatch.chdir(tmp_path)
    lines = [f"{' '.join(WORDS[k % 7 : k % 7 + 3 + k % 3])} {k}" for k in range(24)]
    for name, rows in (("transfer", lines[:12]), ("val", lines[12:18]), ("test", lines[18:])):
        cells = [f"{line},{('meal', 'flight')[n % 2]},{('for', 'against')[n // 2 % 2]}\n" for n, line in enumerate(rows)]
        (tmp_path / f"{name}.csv").write_text("text,topic,stance\n" + "".join(cells))
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_bytes((CLONE / "examples/text" / name).read_bytes())
    write(prepare={"shard_rows": 8, "source": SOURCE})
    return tmp_path


SOURCE = {
    **{"code": "pipeline/sources/text/text_files.py", "class": "TextFiles", "vocabulary": 100},
    "files": {"transfer": ["transfer.csv"], "val": ["val.csv"], "test/clean": ["test.csv"]},
    "classes": {"topic": ["meal", "flight"], "stance": ["for", "against"]},
}
KIND = {"code": "pipeline/tasks/classification.py", "class": "Classification", "classes": 2, "temperature": 2}
ENCODER = {"code": "pipeline/encoders/text.py", "class": "TextEncoder", "input": "first", "vocabulary": 100}
ENCODER |= {"width": 8, "layers": 1, "heads": 2, "dropout": 0}
PRETRAINED = {"code": "pipeline/encoders/huggingface_text.py", "class": "HuggingFaceText", "input": "first"}
FOREIGN = {"tasks": [], "pretrained": "bert", "encoder": {**PRETRAINED, "taps": ["encoder.layer.0"]}}


def write(**changes):
    """params.yaml of the example, smaller."""
    params = yaml.safe_load((CLONE / "examples/text/params.yaml").read_text())
    params["tasks"] = {"topic": KIND, "stance": KIND}
    params["teachers"] = {task: {"tasks": [task], "encoder": ENCODER, "updates": 2} for task in ("topic", "stance")}
    params["fusions"]["pca"]["dims"] = 4
    params["distill"] |= {"encoder": ENCODER, "batch_size": 4}
    params["students"] = {"labels": {"reads": "transfer", "updates": 2, "weights": {"labels": 1}}}
    params["report"] |= {"baseline": "labels", "strip": ["labels"]}
    for key, value in changes.items():
        params[key] = {**params[key], **value}
    with open("params.yaml", "w") as file:
        yaml.safe_dump(params, file, sort_keys=False)
    result = CliRunner().invoke(main, ["sync"])
    assert result.exit_code == 0, result.output


def bert(folder):
    """A tiny random one, with a tokenizer of its own; padding is 2."""
    names = ["[CLS]", "[SEP]", "[PAD]", "[UNK]", *WORDS, *map(str, range(24)), "##s"]
    torch.manual_seed(0)
    transformers.BertModel(transformers.BertConfig(**BERT, vocab_size=len(names), pad_token_id=2)).save_pretrained(folder)
    made = Tokenizer(WordPiece({name: n for n, name in enumerate(names)}, unk_token="[UNK]"))
    made.pre_tokenizer = BertPreTokenizer()
    made.add_special_tokens(names[:4])
    made.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 1)])
    made.save(str(folder / "tokenizer.json"))


def test_a_text_teacher_with_another_tokenizer_is_refused_before_it_is_dumped(project):
    bert(project / "bert")
    write(prepare={"shard_rows": 8, "source": SOURCE}, teachers={"bert": FOREIGN})
    assert run_stage(prepare).exit_code == 0
    for result in (CliRunner().invoke(main, ["plan"]), run_stage(train_teacher, "bert")):
        assert result.exit_code == 1 and result.stderr.count("\n") == 1
        assert "teachers.bert.encoder: bert: inputs/tokens_first are not tokens of its tokenizer" in result.stderr
    assert not (project / "data/teachers/bert").exists()


def test_networks_without_room_for_a_row_of_a_test_are_refused_before_they_learn(project):
    (project / "test.csv").write_text(f"text,topic,stance\n{' '.join(WORDS * 2)},meal,for\n")
    short = ENCODER | {"longest": 20}
    teachers = {task: {"tasks": [task], "encoder": short, "updates": 2} for task in ("topic", "stance")}
    write(prepare={"shard_rows": 8, "source": SOURCE}, teachers=teachers, distill={"encoder": short})
    assert run_stage(prepare).exit_code == 0
    for stage, name in ((train_teacher, "topic"), (distill, "labels")):
        result = run_stage(stage, name)
        assert result.exit_code == 1 and result.stderr.splitlines()[-1].startswith("error: ")
        assert "longest: 20, but a row has" in result.stderr
        assert not (project / "data/teachers/topic").exists() and not (project / "data/students/labels").exists()


def test_a_text_teacher_with_the_tokenizer_of_its_side_is_dumped(project):
    bert(project / "bert")
    source = {key: value for key, value in SOURCE.items() if key != "vocabulary"} | {"tokenizer": "bert"}
    write(prepare={"shard_rows": 8, "source": source}, teachers={"bert": FOREIGN})
    for stage, name in ((prepare, ""), (train_teacher, "bert"), (extract, "bert"), (distill, "labels")):
        result = run_stage(stage, name)
        assert result.exit_code == 0, result.output
    stores = [open_store(project / "data" / place) for place in ("knowledge/transfer.zarr", "teachers/bert.zarr")]
    dumped = torch.from_numpy(stores[1].read("features/bert/encoder-layer-0")).float()
    model = transformers.BertModel.from_pretrained("bert").eval()
    tokenizer = Tokenizer.from_file("bert/tokenizer.json")
    for row, line in enumerate(project.joinpath("transfer.csv").read_text().splitlines()[1:]):
        read = tokenizer.encode(line.split(",")[0])
        with torch.no_grad():
            states = model(input_ids=torch.tensor([read.ids])).last_hidden_state[0, 1:-1].T
        torch.testing.assert_close(dumped[row, :, : states.shape[1]], states, atol=2e-3, rtol=2e-3)
    dvc = yaml.safe_load((project / "dvc.yaml").read_text())
    assert "bert" in dvc["stages"]["prepare"]["deps"]
    assert json.loads(json.dumps(stores[0].fields["inputs/tokens_first"].attributes))["tokenizer"]["padding"] == 2


def test_a_plan_refuses_a_student_of_a_side_that_is_not_there(project):
    write(
        prepare={"shard_rows": 8, "source": SOURCE},
        distill={"encoder": {**ENCODER, "input": "second"}, "seeds": 1},
    )
    result = CliRunner().invoke(main, ["plan"])
    assert result.exit_code == 1 and result.stderr.count("\n") == 1
    assert "students.labels: input: no side 'second' in these rows; there are first" in result.stderr


@pytest.mark.parametrize(
    "encoder",
    [
        ENCODER,
        {"code": "pipeline/encoders/bag_of_words.py", "class": "BagOfWords", "input": "first", "vocabulary": 100, "width": 8},
        {**PRETRAINED, "taps": ["encoder.layer.0"], "config": {"model_type": "bert", **BERT, "vocab_size": 100}},
    ],
    ids=["transformer", "bag", "bert"],
)
def test_a_student_leaves_with_its_tokenizer_for_texts_of_any_length(project, encoder):
    if "config" in encoder:
        encoder = {**encoder, "architecture": "BertModel"}
    write(prepare={"shard_rows": 8, "source": SOURCE}, distill={"encoder": encoder})
    for stage, name in ((prepare, ""), (distill, "labels")):
        result = run_stage(stage, name)
        assert result.exit_code == 0, result.output
    result = CliRunner().invoke(main, ["export", "labels", "--int8"])
    assert result.exit_code == 0, result.output
    out = project / "exports/labels"
    check_replaceable(out)
    session = onnxruntime.InferenceSession(out / "topic+stance.onnx")
    assert {x.name: x.shape for x in session.get_inputs()} == {
        "mask": ["batch", "words"],
        "tokens_first": ["batch", "tokens"],
        "words_first": ["batch", "words"],
    }
    card = (out / "README.md").read_text()
    assert "- input `tokens_first`: batch x tokens, int32" in card and "text_first" not in card and "`tokenizer.json`" in card
    assert "- tokens_first: of the words of a text, by tokenizer.json, 0 after them" in card
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    network, _, _ = load_network(out / "topic+stance.safetensors", torch.device("cpu"))
    source = load_params(project / "params.yaml").source()
    for text in ("soup", " ".join(WORDS)):
        read = tokenizer.encode(text.split(), is_pretokenized=True)
        begins = [read.word_ids.index(n) for n in range(len(text.split()))]
        given = {"tokens_first": [read.ids], "words_first": [begins], "mask": [[True] * len(begins)]}
        given = {name: np.array(x, bool if name == "mask" else "i4") for name, x in given.items()}
        for name, x in dict(source.read(text))[""].items():
            assert name == "text_first" or np.array_equal(x, given[name][0])
        with torch.no_grad():
            wanted = network({name: torch.from_numpy(x) for name, x in given.items()}).logits
        for (task, x), y in zip(wanted.items(), session.run(list(wanted), given), strict=True):
            np.testing.assert_allclose(y, x, atol=1e-4, err_msg=task)


def test_an_export_of_texts_that_changed_is_refused(project):
    for stage, name in ((prepare, ""), (distill, "labels")):
        assert run_stage(stage, name).exit_code == 0
    (project / "transfer.csv").write_text((project / "transfer.csv").read_text() + "more soup,meal,for\n")
    result = CliRunner().invoke(main, ["export", "labels"])
    assert result.exit_code == 1 and "prepared from other data or params" in result.stderr


def test_answers_name_their_tasks_in_the_order_of_params(project):
    for stage, name in ((prepare, ""), (distill, "labels")):
        assert run_stage(stage, name).exit_code == 0
    result = CliRunner().invoke(main, ["predict", "labels", "the soup"])
    assert re.fullmatch(r"topic: (meal|flight); stance: (for|against)\n", result.stdout), result.output
    source, tasks = load_params(project / "params.yaml").source(), {"topic": KIND, "stance": KIND}
    tasks = {name: ClassSpec.model_validate(kind).build() for name, kind in tasks.items()}
    said = {"stance": torch.tensor([[0.0, 1.0]]), "topic": torch.tensor([[1.0, 0.0]])}
    drawn = []
    source.draw = lambda axis, inputs, answer: drawn.append(source.words(inputs, answer))
    strip(source, tasks, open_store(project / "data/splits/val.zarr"), {"labels": said}, 1, project / "strip.png")
    assert drawn == ["", "topic: meal; stance: for", "topic: meal; stance: against"]


@pytest.mark.parametrize("name", ["topic", "average", "delta_mtl"])
def test_a_test_split_is_not_called_as_a_column_of_the_report(name):
    check_names(["transfer", "val", "test/clean", "test/hard", "unseen/train", "unseen/test"], ["topic"])
    with pytest.raises(ValueError, match=f"test/{name}: a test split cannot have the name of a task"):
        check_names(["transfer", "val", "test/clean", f"test/{name}"], ["topic"])
