"""Models of Hugging Face that lay out, tie, draw or count otherwise than most."""

import pytest
import torch
import transformers
from torch import nn

from pipeline.checkpoints import build_network, load_network, save_network
from pipeline.encoders.foreign import Foreign
from pipeline.encoders.huggingface import HuggingFace
from pipeline.encoders.huggingface_text import HuggingFaceText
from pipeline.encoders.preprocessing import Preprocessing
from pipeline.network import Network
from pipeline.project.class_spec import ClassSpec

CPU = torch.device("cpu")
SMALL = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
WORDS = {"vocab_size": 50, "max_position_embeddings": 16}
NORMALISED = {"mean": [0.5] * 3, "std": [0.5] * 3}
SIDE = 64
VIT_MAE = transformers.ViTMAEConfig(
    **SMALL, image_size=SIDE, patch_size=8, decoder_hidden_size=8, decoder_num_attention_heads=2
)
HIERA = transformers.HieraConfig(image_size=[SIDE, SIDE], embed_dim=8, depths=[1, 1, 1], num_heads=[1, 1, 1], num_query_pool=2)
SAM = transformers.SamVisionConfig(
    hidden_size=12, num_hidden_layers=1, num_attention_heads=2, image_size=SIDE, patch_size=8, mlp_dim=16, output_channels=8
)
YOLOS = transformers.YolosConfig(**SMALL, image_size=[80, 80], patch_size=8, num_detection_tokens=44)  # 100 + 44 = 12 x 12


@pytest.fixture
def scattered():
    """Weights large enough for a patch to be seen."""

    def scatter(model):
        torch.manual_seed(0)
        for x in model.parameters():
            nn.init.normal_(x, std=0.3)
        return model.eval()

    return scatter


@pytest.mark.parametrize(
    ("model", "tap", "side"),
    [
        (lambda: transformers.ViTMAEModel(VIT_MAE), "layers.0", SIDE),
        (lambda: transformers.SamVisionModel(SAM), "vision_encoder.patch_embed", SIDE),
        (lambda: transformers.YolosModel(YOLOS), "encoder.layer.0", 80),
    ],
)
def test_a_position_answers_to_its_place_in_the_image(tmp_path, scattered, model, tap, side):
    scattered(model()).save_pretrained(tmp_path)
    encoder = HuggingFace(pretrained=str(tmp_path), taps=[tap], **NORMALISED).eval()
    image = torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    (plain,) = encoder({"image": image}).features.values()
    rows, columns = plain.shape[2:]
    for row, column in ((0, 0), (0, columns - 1), (rows - 1, 0), (rows // 2, 1)):
        changed = image.clone()
        place = (
            slice(row * side // rows, (row + 1) * side // rows),
            slice(column * side // columns, (column + 1) * side // columns),
        )
        changed[:, :, *place] = 255 - changed[:, :, *place]
        (found,) = encoder({"image": changed}).features.values()
        most = (found - plain).norm(dim=1)[0].argmax().item()
        assert divmod(most, columns) == (row, column)


@pytest.mark.parametrize("stage", [0, 1])
def test_stages_that_are_in_an_order_of_their_own_are_refused(stage):
    config = HIERA.to_dict() | {"architectures": ["HieraModel"]}
    encoder = HuggingFace(config=config, taps=[f"encoder.stages.{stage}"], **NORMALISED)
    with pytest.raises(ValueError, match="tokens that are not in the order of the image; those of stage 2 are"):
        encoder({"image": torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8)})


BERT, ROBERTA = transformers.BertConfig(**SMALL, **WORDS), transformers.RobertaConfig(**SMALL, **WORDS)
GPT2 = transformers.GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=50)
T5 = transformers.T5Config(d_model=8, d_kv=4, d_ff=16, num_layers=1, num_heads=2, vocab_size=50)
XLNET = transformers.XLNetConfig(vocab_size=50, d_model=8, n_layer=1, n_head=2, d_inner=16)
FNET = transformers.FNetConfig(hidden_size=8, num_hidden_layers=1, intermediate_size=16, vocab_size=50)
TOKENS = torch.randint(2, 50, (2, 6), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("model", "tap"),
    [
        (lambda: transformers.BertForMaskedLM(BERT), "bert.encoder.layer.1"),
        (lambda: transformers.GPT2LMHeadModel(GPT2), "transformer.h.0"),
        (lambda: transformers.T5EncoderModel(T5), "encoder.block.0"),
    ],
)
def test_weights_that_are_tied_are_kept(tmp_path, model, tap):
    torch.manual_seed(0)
    model().save_pretrained(tmp_path / "model")
    spec = ClassSpec.model_validate(
        {"code": "pipeline/encoders/huggingface_text.py", "class": "HuggingFaceText", "taps": [tap], "input": "first"}
    )
    network = build_network(spec, {}, {"tokens_first": [[6], "int64"]}, CPU, str(tmp_path / "model")).eval()
    save_network(tmp_path / "teacher.safetensors", network, spec, {}, {"tokens_first": [[6], "int64"]})
    back, _, _ = load_network(tmp_path / "teacher.safetensors", CPU)
    (feature,), (again,) = (net({"tokens_first": TOKENS}).features.values() for net in (network, back))
    assert torch.equal(feature, again)


def test_a_part_of_a_model_is_one_by_its_architecture(tmp_path):
    torch.manual_seed(0)
    vision = transformers.CLIPVisionConfig(**SMALL, image_size=SIDE, patch_size=16).to_dict()
    text = transformers.CLIPTextConfig(**SMALL, **WORDS).to_dict()
    whole = transformers.CLIPModel(transformers.CLIPConfig(vision_config=vision, text_config=text, projection_dim=8)).eval()
    whole.save_pretrained(tmp_path)
    image = {"image": torch.full((1, 3, SIDE, SIDE), 200, dtype=torch.uint8)}
    given = {"pretrained": str(tmp_path), "taps": ["encoder.layers.1"], **NORMALISED}
    encoder = HuggingFace(**given, architecture="CLIPVisionModel").eval()
    wanted = whole.vision_model(pixel_values=encoder.preprocess(image["image"])).last_hidden_state[:, 1:]
    (found,) = encoder(image).features.values()
    torch.testing.assert_close(found.flatten(2).transpose(1, 2), wanted)
    HuggingFace(**given, architecture="CLIPVisionModel", config=encoder.recorded["config"])(image)
    with pytest.raises(ValueError, match=r"CLIPModel cannot be run on image of shape \(1, 3, 64, 64\): .*input_ids"):
        HuggingFace(**given | {"taps": ["vision_model.encoder.layers.1"]})(image)


@pytest.mark.parametrize(
    ("model", "most"),
    [
        (lambda: transformers.RobertaModel(ROBERTA), 14),  # counts from padding on
        (lambda: transformers.BertModel(BERT), 16),
        (lambda: transformers.XLNetModel(XLNET), None),
    ],
)
def test_how_many_tokens_a_model_reads(tmp_path, model, most):
    model().save_pretrained(tmp_path)
    encoder = HuggingFaceText(pretrained=str(tmp_path), input="first").eval()
    assert encoder.longest == most
    if most:
        encoder({"tokens_first": torch.full((1, most), 7)})
        with pytest.raises(ValueError, match=f"a row has {most + 1} tokens, the model reads {most}"):
            encoder({"tokens_first": torch.full((1, most + 1), 7)})


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: transformers.FNetModel(FNET), "FNetModel takes no attention_mask: padding would"),
        (lambda: transformers.CanineModel(transformers.CanineConfig(**SMALL)), "CanineModel has no embeddings of tokens"),
    ],
)
def test_text_models_that_cannot_be_teachers(tmp_path, model, message):
    model().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        HuggingFaceText(pretrained=str(tmp_path), input="first")


@pytest.mark.parametrize(
    "settings",
    [
        {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4], "include_top": True, "rescale_offset": False},
        {"do_normalize": False, "include_top": False, "rescale_offset": True, "rescale_factor": 1 / 127.5},
    ],
)
def test_pixels_are_those_of_efficientnets_processor(settings):
    processor = transformers.EfficientNetImageProcessorPil(**settings, do_resize=False)
    image = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    theirs = processor([image[0].permute(1, 2, 0).numpy()], return_tensors="pt")["pixel_values"]
    ours = Preprocessing.of({**settings, "do_resize": False})(image)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


IN_PLACE = """
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(1, 4, 3)
    def forward(self, x):
        x = self.first(x)
        x += 1
        return x.mean((2, 3))
"""
IMAGES = {"image": torch.arange(2 * 8 * 8, dtype=torch.uint8).view(2, 1, 8, 8)}


def test_a_feature_is_what_its_module_put_out_whatever_is_done_to_it_after(tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text(IN_PLACE)
    monkeypatch.chdir(tmp_path)
    module = ClassSpec.model_validate({"code": "net.py", "class": "Net"})
    encoder = Foreign(module=module, taps=["first"], mean=[0.0], std=[1.0]).eval()
    torch.testing.assert_close(encoder(IMAGES).features["first"], encoder.module.first(IMAGES["image"] / 255))


def test_an_encoder_that_draws_when_it_is_only_looked_at_is_refused():
    class Noisy(nn.Module):
        def forward(self, inputs):
            return {"trunk": nn.functional.dropout(inputs["image"].float())}  # in evaluation mode, too

    with pytest.raises(ValueError, match="tap 'trunk': two passes over the same rows differ"):
        Network(Noisy(), {}, IMAGES)
