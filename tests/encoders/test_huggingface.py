"""Models of transformers, made from configs, saved to folders and taken as teachers."""

import json

import pytest
import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from torch.nn import functional as F

from pipeline.checkpoints import build_network, load_network, save_network
from pipeline.encoders.huggingface import HuggingFace
from pipeline.encoders.huggingface_text import HuggingFaceText
from pipeline.project.class_spec import ClassSpec, ParamsError
from pipeline.sources.text.vocabulary import Borrowed, Vocabulary
from pipeline.sources.text.words import as_arrays

CPU = torch.device("cpu")
SMALL = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
VIT = transformers.ViTConfig(**SMALL, image_size=32, patch_size=8)
RESNET = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic")
SWIN = transformers.SwinConfig(image_size=32, patch_size=2, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4)
DINO = transformers.Dinov2WithRegistersConfig(
    hidden_size=8, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8
)
BERT = transformers.BertConfig(**SMALL, vocab_size=50, max_position_embeddings=16)
TEXT = {"code": "pipeline/encoders/huggingface_text.py", "class": "HuggingFaceText"}
SHAPES = {"image": [[1, 24, 24], "uint8"]}
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
SETTINGS = {"do_resize": True, "size": {"height": 32, "width": 32}, "image_mean": MEAN, "image_std": STD}


@pytest.fixture
def images():
    return {"image": torch.randint(0, 256, (2, 1, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))}


def saved(folder, model, settings=SETTINGS):
    model.save_pretrained(folder)
    if settings:
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return str(folder)


@pytest.fixture
def vit(tmp_path):
    torch.manual_seed(0)
    return saved(tmp_path / "vit", transformers.ViTForImageClassification(VIT))


def test_features_are_those_of_the_model_without_its_class_token(vit, images):
    features, logits = HuggingFace(pretrained=vit, taps=["vit.layers.1", "vit.layers.0"]).eval()(images)
    assert list(features) == ["vit-layers-1", "vit-layers-0"] and not logits
    model = transformers.ViTForImageClassification.from_pretrained(vit).eval()
    shown = F.interpolate(images["image"].float().expand(-1, 3, -1, -1), (32, 32), mode="bilinear", antialias=True)
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (MEAN, STD))
    hidden = model.vit(pixel_values=(shown / 255 - mean) / std, output_hidden_states=True).hidden_states
    for tap, states in zip(features, (hidden[2], hidden[1]), strict=True):
        assert torch.allclose(features[tap], states[:, 1:].transpose(1, 2).reshape(2, 8, 4, 4), atol=1e-5)


def test_preprocessing_is_that_of_the_models_own_processor(vit, images):
    encoder = HuggingFace(pretrained=vit)
    processor = transformers.ViTImageProcessorPil(**{**SETTINGS, "resample": 2})
    rgb = [image.expand(3, -1, -1).permute(1, 2, 0).numpy() for image in images["image"]]
    theirs = processor(rgb, return_tensors="pt")["pixel_values"]
    assert torch.allclose(encoder.preprocess(images["image"]), theirs, atol=1.5 / 255 / 0.2)  # which rounds to bytes between


@pytest.mark.parametrize(
    ("model", "tap", "shape"),
    [
        (lambda: transformers.ResNetModel(RESNET), "encoder.stages.1", (2, 12, 4, 4)),
        (lambda: transformers.SwinModel(SWIN), "encoder.layers.1", (2, 16, 8, 8)),
        (lambda: transformers.Dinov2WithRegistersModel(DINO), "encoder.layer.0", (2, 8, 4, 4)),
        (lambda: transformers.Dinov2WithRegistersModel(DINO), "embeddings.patch_embeddings", (2, 8, 4, 4)),
        (lambda: transformers.ViTModel(VIT), "layernorm", (2, 8, 4, 4)),
    ],
)
def test_a_network_of_it_is_rebuilt_without_its_folder(tmp_path, images, model, tap, shape):
    folder = saved(tmp_path / "model", model())
    spec = ClassSpec.model_validate({"code": "pipeline/encoders/huggingface.py", "class": "HuggingFace", "taps": [tap]})
    network = build_network(spec, {}, SHAPES, CPU, folder).eval()
    save_network(tmp_path / "teacher.safetensors", network, spec, {}, SHAPES)
    (tmp_path / "model").rename(tmp_path / "gone")
    back, _, header = load_network(tmp_path / "teacher.safetensors", CPU)
    assert header["encoder"]["preprocessing"]["mean"] == MEAN and str(tmp_path) not in json.dumps(header)
    (feature,), (again,) = network(images).features.values(), back(images).features.values()
    assert feature.shape == shape and torch.equal(feature, again)


def test_features_are_resampled_to_a_grid_that_is_asked_for(vit, images):
    features, _ = HuggingFace(pretrained=vit, taps=["vit.layers.1"], grid=[6, 6])(images)
    assert features["vit-layers-1"].shape == (2, 8, 6, 6)


@pytest.fixture
def bert(tmp_path):
    torch.manual_seed(0)
    folder = saved(tmp_path / "bert", transformers.BertModel(BERT), None)
    return HuggingFaceText(pretrained=folder, taps=["encoder.layer.1"], input="first").eval()


def test_features_of_a_text_model_lie_on_its_tokens_and_no_padding_is_looked_at(bert):
    tokens = torch.randint(1, 50, (2, 5))
    (short,) = bert({"tokens_first": tokens}).features.values()
    (padded,) = bert({"tokens_first": F.pad(tokens, (0, 3))}).features.values()
    assert short.shape == (2, 8, 5) and padded.shape == (2, 8, 8)
    assert torch.allclose(padded[..., :5], short, atol=1e-6)
    assert torch.isfinite(bert({"tokens_first": torch.zeros(1, 4, dtype=torch.uint8)}).features["encoder-layer-1"]).all()


def test_features_of_a_text_model_lie_on_words_where_a_source_says_which(bert):
    tokens = torch.randint(1, 50, (2, 6))
    inputs = {"tokens_first": tokens, "words_first": torch.tensor([[0, 2, 5], [1, 4, 0]])}
    inputs["mask"] = torch.tensor([[True, True, True], [True, True, False]])
    (on_tokens,) = bert({"tokens_first": tokens}).features.values()
    (found,) = bert(inputs).features.values()
    assert torch.equal(found[0], on_tokens[0][:, [0, 2, 5]]) and torch.equal(found[1, :, :2], on_tokens[1][:, [1, 4]])


def test_padding_behind_all_rows_is_not_computed(bert):
    inputs = {"tokens_first": torch.randint(1, 50, (2, 6)), "words_first": torch.tensor([[0, 2, 5], [1, 4, 0]])}
    inputs["tokens_first"][0, 3] = 0  # no end: more comes after it
    inputs["mask"] = torch.tensor([[True, True, True], [True, True, False]])
    shown = []
    bert.module.register_forward_pre_hook(lambda module, _, given: shown.append(given["input_ids"].shape[1]), with_kwargs=True)
    (short,) = bert(inputs).features.values()
    (padded,) = bert({**inputs, "tokens_first": F.pad(inputs["tokens_first"], (0, 9))}).features.values()
    assert shown == [6, 6] and torch.equal(short, padded)


def test_tokens_of_another_tokenizer_are_named(bert):
    with pytest.raises(ValueError, match="there is a token 50"):
        bert({"tokens_first": torch.full((1, 7), 50)})


def with_tokenizer(folder, names):
    """A tokenizer of words beside a model's weights."""
    made = Tokenizer(WordLevel({name: n for n, name in enumerate(names)}, unk_token="<unk>"))
    made.pre_tokenizer = Whitespace()
    made.add_special_tokens([name for name in names if name[0] == "<"])
    made.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", names.index("<s>"))])
    made.save(f"{folder}/tokenizer.json")
    return folder


@pytest.mark.parametrize(
    "names",
    [["<pad>", "<unk>", "<s>", "a", "good", "soup"], ["<s>", "<pad>", "a", "good", "soup", "<unk>"], ["<s>", "a", "good"]],
)
def test_a_text_model_sees_the_tokens_of_its_own_tokenizer_whatever_its_padding(tmp_path, names):
    torch.manual_seed(0)
    config = transformers.BertConfig(**SMALL, vocab_size=len(names), max_position_embeddings=16)
    folder = with_tokenizer(saved(tmp_path / "bert", transformers.BertModel(config), None), names)
    borrowed, rows = Borrowed(folder), [["a", "good", "good"], ["good"]]
    inputs = {name: torch.from_numpy(x) for name, x in as_arrays({"first": rows}, {}, {"first": borrowed}).items()}
    spec = ClassSpec.model_validate({**TEXT, "taps": ["encoder.layer.1"], "input": "first"})
    shapes = {name: [list(x.shape[1:]), str(x.dtype).removeprefix("torch.")] for name, x in inputs.items()}
    network = build_network(spec, {}, shapes, CPU, folder).eval()
    assert "encoder.own" in dict(network.named_buffers()) and "encoder.own" not in network.state_dict()  # only moves
    theirs = transformers.BertModel.from_pretrained(folder).eval()
    for number, row in enumerate(rows):
        ids = torch.tensor([[names.index(word) for word in ("<s>", *row)]])
        wanted = theirs(input_ids=ids).last_hidden_state[0, 1:].T
        found = network(inputs).features["encoder-layer-1"][number, :, : len(row)]
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    save_network(tmp_path / "teacher.safetensors", network, spec, {}, shapes)
    back, _, _ = load_network(tmp_path / "teacher.safetensors", CPU)
    assert torch.equal(back(inputs).features["encoder-layer-1"], network(inputs).features["encoder-layer-1"])


def test_a_text_model_refuses_tokens_of_another_tokenizer(tmp_path):
    names = ["<pad>", "<unk>", "<s>", *(f"w{n}" for n in range(47))]
    folder = saved(tmp_path / "bert", transformers.BertModel(BERT), None)
    spec = ClassSpec.model_validate({**TEXT, "taps": ["encoder.layer.1"], "input": "first"})

    def check(about):
        build_network(spec, {}, {"tokens_first": [[5], "int32"]}, CPU, folder, {"tokens_first": about})

    learnt = {"tokenizer": Vocabulary([["w1", "w2"]], 50).about}
    check({})  # of a source that says nothing, to a model that has nothing to compare with
    with pytest.raises(ParamsError, match=r"bert: no tokenizer.json, so inputs/tokens_first may"):
        check(learnt)
    with_tokenizer(folder, names)
    for about in (learnt, {}):
        with pytest.raises(ParamsError, match=r"are not tokens of its tokenizer.*give prepare.source") as error:
            check(about)
        assert "\n" not in str(error.value)
    check({"tokenizer": Borrowed(folder).about})


def test_a_row_of_more_tokens_than_a_text_model_reads_is_one_line(bert):
    with pytest.raises(ValueError, match="a row has 17 tokens, the model reads 16; lower the source's longest"):
        bert({"tokens_first": torch.ones(1, 17, dtype=torch.int32)})
    with pytest.raises(ValueError, match="a row has 17 tokens, the model reads 16"):
        bert.check_inputs({"tokens_first": {"longest": 17}})


def only_bin(folder):
    weights = folder / "model.safetensors"
    weights.rename(folder / "pytorch_model.bin")


def flipping(folder):
    (folder / "preprocessor_config.json").write_text(json.dumps(SETTINGS | {"do_flip_channel_order": True}))


def lacking(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))


@pytest.mark.parametrize(
    ("spoil", "arguments", "message"),
    [
        (None, {"pretrained": "nowhere"}, "no folder nowhere; for a model on a hub give its commit too"),
        (None, {"pretrained": None}, "pretrained: missing"),
        (only_bin, {}, "only pytorch_model.bin, which can run code and is never opened; write it as safetensors"),
        (lambda folder: (folder / "config.json").unlink(), {}, "no config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), {}, "vit: no weights; write it as safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"junk"), {}, "vit: cannot be loaded as a model"),
        (lambda folder: (folder / "config.json").write_text("{}"), {}, "vit: cannot be loaded as a model of Hugging Face"),
        (lacking, {}, r"its weights lack vit.layers.2.*\(and \d+ more\) of ViTForImageClassification"),
        (lambda folder: (folder / "preprocessor_config.json").unlink(), {}, "mean: missing; no preprocessor_config.json"),
        (flipping, {}, "preprocessor_config.json: do_flip_channel_order is not done here"),
        (None, {"architecture": "ViTModl"}, "no architecture 'ViTModl'; did you mean 'ViTModel'"),
        (None, {"architecture": "pipeline"}, "transformers has no architecture 'pipeline'"),
        (None, {"taps": ["vit.layer.1"]}, "taps: no module 'vit.layer.1'; did you mean 'vit.layers.1'"),
        (None, {"mean": [0.5]}, r"mean \[0.5\], std .*: expected as many of each"),
        (None, {"size": [32]}, r"size \[32\]: expected \[height, width\]"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(tmp_path, vit, monkeypatch, spoil, arguments, message):
    monkeypatch.chdir(tmp_path)
    if spoil:
        spoil(tmp_path / "vit")
    with pytest.raises(ValueError, match=message):
        HuggingFace(**{"pretrained": vit, "taps": ["vit.layers.1"], **arguments})
