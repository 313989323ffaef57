"""What features and targets go through before they are compared, and the losses that have maps of their own for it."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch.func import functional_call, stack_module_state, vmap

from pipeline.losses.cka import CKA
from pipeline.losses.cosine import CosineSmoothL1
from pipeline.losses.crd import CRD
from pipeline.losses.inverted import InvertedProjection
from pipeline.losses.mse import MSE
from tests.laws import check_values
from tests.training.test_learning import knowledge, network, study


def features(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("grid", [(), (5,), (3, 2)], ids=["vector", "sequence", "map"])
def test_an_adapter_maps_channels_position_by_position(grid):
    adapter, x, target = MSE().adapter(4, 7), features(6, 4, *grid, seed=0), features(6, 7, *grid, seed=1)
    mapped, same = adapter(x, target)
    assert same is not None and torch.equal(same, target) and mapped.shape == target.shape
    for position in torch.cartesian_prod(*(torch.arange(n) for n in grid)).view(-1, len(grid)) if grid else [()]:
        at = (slice(None), slice(None), *position)
        expected = x[at] @ adapter.student.weight.T + adapter.student.bias
        torch.testing.assert_close(mapped[at], expected)


def test_an_inverted_projection_maps_the_target_alone():
    adapter, x, target = InvertedProjection().adapter(4, 7), features(6, 4, 3, seed=0), features(6, 7, 3, seed=1)
    same, mapped = adapter(x, target)
    assert torch.equal(same, x) and mapped.shape == x.shape
    assert [name for name, _ in adapter.named_parameters()] == ["target.weight"]


def test_an_inverted_projection_is_no_smaller_for_a_smaller_projection():
    loss, x, target = InvertedProjection(), features(64, 4, seed=0), features(64, 7, seed=1)
    adapter = loss.adapter(4, 7)
    before = loss(*adapter(x, target)).mean()
    adapter.target.weight.data *= 1e-2
    torch.testing.assert_close(loss(*adapter(1e-2 * x, target)).mean(), before)


def test_an_inverted_projection_leaves_out_what_the_student_cannot_have():
    """A target that holds the student's feature among louder things: projected, it is that feature, and the loss 0."""
    loss, x = InvertedProjection(), features(256, 3, seed=0)
    target = torch.cat([x, 10 * features(256, 5, seed=1)], 1) @ torch.linalg.qr(features(8, 8, seed=2)).Q
    adapter = loss.adapter(3, 8)
    optimizer = torch.optim.Adam(adapter.parameters(), lr=0.02)
    for _ in range(400):
        optimizer.zero_grad()
        loss(*adapter(x, target)).mean().backward()
        optimizer.step()
    assert loss(*adapter(x, target)).mean() < 0.02


def contrast(student, target, temperature):
    """InfoNCE, row by row, over log of how many candidates there are. target: the rows' own first, then others."""
    unit = [v / math.sqrt(sum(e * e for e in v)) for v in target.double().numpy()]
    found = []
    for i, v in enumerate(student.double().numpy()):
        v = v / math.sqrt(sum(e * e for e in v))
        scores = [math.exp(sum(v * other) / temperature) for other in unit]
        found.append(-math.log(scores[i] / sum(scores)) / math.log(len(scores)))
    return torch.tensor(found)


def test_crd_is_the_formula():
    student, target = features(5, 8, seed=3), features(12, 8, seed=4)
    loss = CRD(temperature=0.5)
    torch.testing.assert_close(loss(student, target), contrast(student, target, 0.5))
    empty = torch.cat([target, torch.zeros(20, 8)])
    torch.testing.assert_close(loss(student, empty), loss(student, target))
    assert loss(student, target).mean().item() == pytest.approx(1.24297, rel=1e-4)


def test_crd_is_1_at_chance_and_less_where_rows_are_told_apart():
    target = features(16, 8, seed=5)
    torch.testing.assert_close(CRD()(torch.zeros(16, 8), target), torch.ones(16))
    assert CRD()(target, target).max() < 0.1 and CRD()(target.roll(1, 0), target).mean() > 1
    for dead in (torch.ones(16, 8), torch.zeros(16, 8)):
        student = target.clone().requires_grad_()
        CRD()(student, dead).sum().backward()
        assert student.grad.abs().max() < 1e-5  # nothing to learn from


def test_laws_of_a_loss_without_a_zero():
    check_values(CRD(), (6, 4))
    with pytest.raises(ValueError, match="not logits"):
        CRD()(features(6, 4, 2, seed=0), features(6, 4, 2, seed=1))


def test_the_bank_holds_the_last_targets_as_they_were_stored():
    bank = CRD(dims=3, bank=10).adapter(4, 5)
    pooled = [features(4, 5, 2, 2, seed=i) for i in range(4)]
    for target in pooled:
        student, known = bank(features(4, 4, 2, 2, seed=9), target)
    assert student.shape == (4, 3) and known.shape == (14, 3)
    rows = torch.cat([x.mean((2, 3)) for x in pooled[::-1]])
    torch.testing.assert_close(bank.seen, rows[:10])
    torch.testing.assert_close(known, rows[:14] @ bank.target.weight.T)
    _, again = bank(features(4, 4, 2, 2, seed=9), pooled[2])  # all of it in the bank, behind the last
    torch.testing.assert_close(again[8:12], torch.zeros(4, 3))
    assert again[12:].abs().min() > 0 and again[:8].abs().min() > 0
    rows = torch.cat([x.mean((2, 3)) for x in (pooled[2], *pooled[::-1])])
    bank.eval()(pooled[0][:, :4], pooled[0])
    torch.testing.assert_close(bank.seen, rows[:10])


def test_banks_of_stacked_students_are_each_its_own():
    banks = [CRD(dims=3, bank=6).adapter(4, 5) for _ in range(2)]
    parameters, buffers = stack_module_state(banks)
    student, target = features(4, 4, seed=0), features(4, 5, seed=1)
    step = lambda p, b: functional_call(banks[0], (p, b), (student, target))  # noqa: E731
    _, known = vmap(step)(parameters, buffers)
    for i, bank in enumerate(banks):
        torch.testing.assert_close(known[i], bank(student, target)[1])
        torch.testing.assert_close(buffers["seen"][i], bank.seen)


def halves():
    """Knowledge whose feature is how bright the left half is, and the right, at every position."""
    for batch in knowledge():
        means = batch["inputs/image"].reshape(32, 16, 2, 8).mean((1, 3)) / 20 - 1
        yield {"inputs/image": batch["inputs/image"], "fused/halves": np.tile(means[..., None, None], (4, 4))}


@pytest.mark.parametrize("make", [CosineSmoothL1, InvertedProjection, CKA, partial(CRD, bank=64)])
def test_a_student_learns_from_features_alone(make):
    torch.manual_seed(0)
    curve = study(network(), {"fused": 1.0}, updates=120, sources=(halves(), None), methods={"feature_loss": make()})
    assert curve[-1]["fused/halves"] < 0.9 * curve[0]["fused/halves"]
