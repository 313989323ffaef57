import pytest
import torch

from pipeline.checkpoints import build_network
from pipeline.encoders.interaction import InteractionEncoder
from pipeline.encoders.popularity import Popularity
from pipeline.encoders.two_tower import TwoTower
from pipeline.project.class_spec import ClassSpec
from pipeline.sweeps.leaderboard import size_of

SIZES = {"user": [20, 4], "item": [30, 6, 5]}
ENCODERS = {
    "two towers": (TwoTower(**SIZES, width=8, dropout=0.3), 12),
    "mlp": (InteractionEncoder(**SIZES, dims=4, width=8, dropout=0.3), 12),
    "popularity": (Popularity(buckets=6), 6),
}


def rows(batch, length):
    generator = torch.Generator().manual_seed(length)
    draw = [torch.randint(0, 4, shape, generator=generator, dtype=torch.int32) for shape in ((batch, 2), (batch, 3, length))]
    return dict(zip(("user", "item"), draw, strict=True))


@pytest.mark.parametrize(("encoder", "width"), ENCODERS.values(), ids=ENCODERS)
@pytest.mark.parametrize("length", [1, 7])
def test_one_feature_a_candidate_whatever_the_length(encoder, width, length):
    assert encoder(rows(3, length))["trunk"].shape == (3, width, length)


@pytest.mark.parametrize(("encoder", "width"), ENCODERS.values(), ids=ENCODERS)
def test_a_candidate_does_not_see_the_others(encoder, width):
    whole = rows(4, 5)
    one = {"user": whole["user"][1:2], "item": whole["item"][1:2, :, 3:4]}
    encoder.eval()
    torch.testing.assert_close(encoder(one)["trunk"][0, :, 0], encoder(whole)["trunk"][1, :, 3])


@pytest.mark.parametrize(("encoder", "width"), ENCODERS.values(), ids=ENCODERS)
def test_where_there_is_no_candidate_the_feature_is_zero_and_nowhere_else(encoder, width):
    mask = torch.tensor([[True, True, False], [True, True, True]])
    feature = encoder.eval()(rows(2, 3) | {"mask": mask})["trunk"]
    assert torch.equal((feature != 0).any(1), mask)


def test_what_is_beyond_a_column_is_unknown():
    encoder, inputs = TwoTower(**SIZES, width=8).eval(), rows(2, 3)
    inputs["user"][0, 0], inputs["item"][1, 0, 2] = 0, 0
    far = {name: x.clone() for name, x in inputs.items()}
    far["user"][0, 0], far["item"][1, 0, 2] = 20, 10**6
    torch.testing.assert_close(encoder(far)["trunk"], encoder(inputs)["trunk"])


@pytest.mark.parametrize("name", ["two towers", "mlp"])
def test_sizes_below_those_of_columns_are_told_with_what_to_give(name):
    encoder, _ = ENCODERS[name]
    about = lambda **sizes: {side: {"sizes": found} for side, found in sizes.items()}  # noqa: E731
    for enough in ({}, {"item": {}}, about(**SIZES), about(user=[19, 4], item=[30, 2, 5])):
        encoder.check_inputs(enough)
    with pytest.raises(ValueError, match=r"^user: \[20, 4\]: smaller than what the store's .* give user: \[21, 4\]$"):
        encoder.check_inputs(about(**SIZES | {"user": [21, 4]}))
    with pytest.raises(ValueError, match=r"^user: \[20, 4\], item: \[30, 6, 5\]: .* give user: \[20\], item: \[30, 7, 5\]$"):
        encoder.check_inputs(about(user=[20], item=[30, 7, 5]))


def test_columns_that_sizes_do_not_name_are_refused():
    with pytest.raises(ValueError, match="rows have 3 columns, but the encoder has sizes of 2"):
        TwoTower(user=[20, 4], item=[30, 6], width=8)(rows(2, 3))


def test_columns_may_be_stored_in_types_that_torch_hardly_knows():
    """The rows that a network is built on, and timed on, are as narrow as the store's."""
    shapes = {"user": [[2], "uint16"], "item": [[3, 5], "uint32"]}
    spec = ClassSpec.model_validate({"code": "pipeline/encoders/two_tower.py", "class": "TwoTower", **SIZES, "width": 8})
    network = build_network(spec, {}, shapes, torch.device("cpu"))
    assert size_of(network, shapes)["latency_ms"] > 0
