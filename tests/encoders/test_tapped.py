"""Foreign modules: what their taps become, and what is said of those that are none."""

import pytest
import torch

from pipeline.encoders.foreign import Foreign
from pipeline.encoders.tapped import as_feature
from pipeline.project.class_spec import ClassSpec, ParamsError

MODULE = """
import torch
class Net(torch.nn.Module):
    def __init__(self, *, width):
        super().__init__()
        self.first = torch.nn.Conv2d(1, width, 3, stride=2, padding=1)
        self.parts = torch.nn.ModuleList([torch.nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)])
        self.idle = torch.nn.Linear(2, 2)
    def forward(self, x):
        return self.parts[0](self.first(x)).mean((2, 3))
"""
IMAGES = {"image": torch.arange(2 * 8 * 8, dtype=torch.uint8).view(2, 1, 8, 8)}


@pytest.fixture
def net(tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    return ClassSpec.model_validate({"code": "net.py", "class": "Net", "width": 4})


def test_taps_of_a_module_of_ones_own_in_the_order_asked_for(net):
    encoder = Foreign(module=net, taps=["parts.0", "first"], mean=[0.5], std=[0.25])
    features, logits = encoder(IMAGES)
    x = (IMAGES["image"] / 255 - 0.5) / 0.25
    first = encoder.module.first(x)
    assert list(features) == ["parts-0", "first"] and not logits
    for tap, expected in {"first": first, "parts-0": encoder.module.parts[0](first)}.items():
        assert torch.allclose(features[tap], expected, atol=1e-5)
    assert not encoder.module.first._forward_hooks  # nothing stays behind


def test_features_carry_gradients(net):
    encoder = Foreign(module=net, taps=["first"], mean=[0.5], std=[0.25])
    encoder(IMAGES).features["first"].sum().backward()
    assert encoder.module.first.weight.grad is not None


@pytest.mark.parametrize(
    ("taps", "message"),
    [
        (["frist"], "taps: no module 'frist'; did you mean 'first'.* lists them all: first, parts, parts.0"),
        ([""], "taps: no module ''"),
        (["idle"], "tap 'idle' is never called as a module of its own"),
        (["parts"], "tap 'parts' is never called"),
    ],
)
def test_taps_that_are_none(net, taps, message):
    with pytest.raises(ValueError, match=message):
        Foreign(module=net, taps=taps, mean=[0.5], std=[0.25])(IMAGES)


@pytest.mark.parametrize(
    ("output", "size", "prefix", "shape"),
    [
        (torch.zeros(2, 5), (8, 8), 1, (2, 5)),
        (torch.zeros(2, 17, 5), (8, 8), 1, (2, 5, 4, 4)),
        (torch.zeros(2, 16, 5), (8, 8), 1, (2, 5, 4, 4)),
        (torch.zeros(2, 18, 5), (24, 48), 0, (2, 5, 3, 6)),
        (torch.zeros(2, 9 + 5, 5), (8, 8), 5, (2, 5, 3, 3)),
        (torch.zeros(2, 7, 5), (7,), 0, (2, 5, 7)),
        ((torch.zeros(2, 5, 3, 3), None), (8, 8), 0, (2, 5, 3, 3)),
        ({"x": torch.zeros(2, 5, 3, 3)}, (8, 8), 0, (2, 5, 3, 3)),
        (torch.zeros(2, 3, 4, 5), (6, 8), 0, (2, 5, 3, 4)),  # channels last
        (torch.zeros(2, 3, 4, 3), (8, 8), 0, (2, 3, 4, 3)),  # of neither
    ],
)
def test_outputs_become_features(output, size, prefix, shape):
    assert as_feature("x", output, size, prefix).shape == shape


def test_tokens_lie_on_the_grid_row_by_row():
    tokens = torch.arange(1 + 6).view(1, 7, 1).float()
    assert as_feature("x", tokens, (16, 24), 1)[0, 0].tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("output", "size", "message"),
    [
        (torch.zeros(2, 15, 5), (8, 8), "tap 'x' gives 15 tokens, which are no grid of 8 x 8"),
        (torch.zeros(2, 6, 5), (7,), "tap 'x' gives 6 tokens, which are no grid of 7"),
        (torch.zeros(2, 5, 3, 3, 3), (8, 8), r"tap 'x' gives torch.float32 of shape \(2, 5, 3, 3, 3\), expected floats"),
        (torch.zeros(2, 5).long(), (8, 8), "tap 'x' gives torch.int64"),
        ("words", (8, 8), "tap 'x' gives str, expected floats"),
        ([], (8, 8), "tap 'x' gives list"),
    ],
)
def test_outputs_that_are_no_features(output, size, message):
    with pytest.raises(ValueError, match=message):
        as_feature("x", output, size, 0)


def test_only_images_are_resampled(net):
    encoder = Foreign(module=net, taps=["first"], mean=[0.5], std=[0.25], grid=[3, 3])
    assert encoder(IMAGES).features["first"].shape == (2, 4, 3, 3)
    with pytest.raises(ValueError, match=r"grid \(3, 3\): for features \(B, D, H, W\)"):
        encoder.placed(torch.zeros(2, 4, 1), IMAGES)


def test_pixels_as_they_are_stored_are_told_with_what_to_give(net):
    with pytest.raises(ValueError, match=r"Net cannot be run on image .*: torch.uint8, as stored: give mean and std"):
        Foreign(module=net, taps=["first"])(IMAGES)


def test_a_module_that_needs_what_is_not_installed_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "needs.py").write_text("import not_installed_anywhere\n")
    monkeypatch.chdir(tmp_path)
    spec = ClassSpec.model_validate({"code": "needs.py", "class": "Net"})
    for _ in range(2):
        with pytest.raises(ParamsError, match=r"needs.py: cannot be imported here: No module named 'not_installed_anywhere'"):
            spec.load()
