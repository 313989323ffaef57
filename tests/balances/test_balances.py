import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pipeline.balances.dwa import DWA
from pipeline.balances.famo import FAMO
from pipeline.balances.static import constant_loss
from pipeline.balances.uncertainty import Uncertainty
from pipeline.losses.loss import per_row
from pipeline.losses.standardised_kl import StandardisedKL
from tests.waits import Waits


def bce(pred, target):
    return per_row(F.binary_cross_entropy_with_logits(pred, target, reduction="none"))


def test_constant_loss_of_labels_is_their_entropy():
    target = torch.zeros(100, 2)
    target[:25, 0] = 1
    target[:50, 1] = 1
    entropies = [-(p * math.log(p) + (1 - p) * math.log(1 - p)) for p in (0.25, 0.5)]
    assert abs(constant_loss(bce, (2,), target) - sum(entropies) / 2) < 1e-5


@pytest.mark.parametrize("seed", [3, 5, 9])
def test_constant_loss_of_logits_that_are_standardised_is_that_of_the_best_constant(seed):
    """Found by readers: the search from zeros leapt to where nothing is a number, or stayed where it began."""
    torch.manual_seed(seed)
    target = torch.randn(256, 3) * 1.5 + torch.randn(3) * 3
    tried = torch.randn(2000, 1, 3).expand(-1, 256, -1)
    best = min(StandardisedKL()(constant, target).mean().item() for constant in tried)
    assert best / 1.05 < constant_loss(StandardisedKL(), (3,), target) < best * 1.02


def test_constant_loss_of_values_is_their_variance():
    target = torch.randn(50, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    variance = target.transpose(0, 1).flatten(1).var(1, correction=0).mean().item()
    squared = lambda pred, target: per_row((pred - target) ** 2)  # noqa: E731
    assert abs(constant_loss(squared, (3, 4, 4), target) - variance) < 1e-5


def test_a_task_without_variance_does_not_divide_by_zero():
    assert constant_loss(bce, (2,), torch.zeros(10, 2)) > 0


def test_uncertainty_weights_each_term_by_the_inverse_of_its_loss():
    balance, losses = Uncertainty(terms=["a", "b", "c"]), torch.tensor([0.1, 1.0, 7.0])
    torch.testing.assert_close(balance(losses), losses)
    optimizer = torch.optim.Adam(balance.parameters(), lr=0.05)
    for _ in range(500):
        optimizer.zero_grad()
        balance(losses).sum().backward()
        optimizer.step()
    torch.testing.assert_close(balance.log_variance.detach(), losses.log(), atol=1e-2, rtol=0)
    weighed = losses.clone().requires_grad_()
    balance(weighed).sum().backward()
    torch.testing.assert_close(weighed.grad, 1 / losses, rtol=2e-2, atol=0)


def test_uncertainty_neither_loses_a_term_nor_lets_it_win():
    balance = Uncertainty(terms=["a", "b"])
    torch.nn.init.constant_(balance.log_variance, 50)
    losses = torch.ones(2, requires_grad=True)
    balance(losses).sum().backward()
    assert losses.grad.min() > 0.01


def test_uncertainty_comes_back_from_its_bounds():
    balance, losses = Uncertainty(terms=["a"]), torch.tensor([0.005])
    optimizer = torch.optim.Adam(balance.parameters(), lr=0.05)
    for losses in (torch.tensor([0.005]), torch.tensor([1.0])):
        for _ in range(400):
            optimizer.zero_grad()
            balance(losses).sum().backward()
            optimizer.step()
    assert balance.log_variance.item() == pytest.approx(0, abs=0.02)


def test_dwa_is_the_formula():
    balance = DWA(terms=["a", "b"], every=2, temperature=2)
    torch.testing.assert_close(balance(torch.tensor([4.0, 2.0])), torch.tensor([4.0, 2.0]))
    for losses in ([4.0, 2.0], [1.0, 2.0], [1.0, 2.0]):  # means 4, 2, then 1, 2: the second term has learnt nothing
        balance(torch.tensor(losses))
    ratio = [1 / 4, 2 / 2]
    total = sum(math.exp(r / 2) for r in ratio)
    expected = torch.tensor([2 * math.exp(r / 2) / total for r in ratio])
    torch.testing.assert_close(balance.eval()(torch.ones(2)), expected)
    for _ in range(5):
        torch.testing.assert_close(balance(torch.ones(2)), expected)


def stream(updates=60):
    """Three terms, each at a size and a pace of its own."""
    rng = np.random.default_rng(0)
    return [rng.random(3) * [1, 0.1, 3] * np.exp(np.array([-2, -0.5, 0]) * t / updates) + 0.05 for t in range(updates)]


def test_famo_is_the_formula():
    w, m, v, last = (np.zeros(3) for _ in range(4))
    balance = FAMO(terms=["a", "b", "c"], learning_rate=0.025, decay=0.001)
    for t, losses in enumerate(stream()):
        if t:
            z = np.exp(w) / np.exp(w).sum()
            gain = np.log(last) - np.log(losses)
            g = np.array([sum(gain[j] * z[j] * ((i == j) - z[i]) for j in range(3)) for i in range(3)]) + 0.001 * w
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            w = w - 0.025 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        last = losses
        z = np.exp(w) / np.exp(w).sum()
        expected = 3 * z / losses / (z / losses).sum()
        given = torch.tensor(losses, dtype=torch.float32, requires_grad=True)
        balance(given).sum().backward()
        np.testing.assert_allclose(given.grad.numpy(), expected, rtol=1e-3)
    assert w[0] < w[1] < w[2]  # the slowest counts most


def test_famo_leaves_out_a_term_that_is_absent():
    balance, losses = FAMO(terms=["a", "b", "c"]), torch.tensor([0.5, 0.0, 2.0], requires_grad=True)
    for _ in range(3):
        weighed = balance(losses)
        assert weighed.isfinite().all() and weighed[1] == 0
    weighed.sum().backward()
    torch.testing.assert_close(losses.grad, torch.tensor([1.6, 0.0, 0.4]))
    assert balance.last[1] == 0


def test_famo_does_not_learn_while_it_is_evaluated():
    balance = FAMO(terms=["a", "b"]).eval()
    for losses in ([1.0, 2.0], [0.1, 2.0]):
        balance(torch.tensor(losses))
    assert balance.w.abs().max() == 0


@pytest.mark.parametrize("present", [1.0, 0.2])
def test_a_rare_label_has_the_log_variance_of_its_own_loss(present):
    balance, rng = Uncertainty(terms=["common", "rare"]), np.random.default_rng(0)
    optimizer = torch.optim.SGD(balance.parameters(), lr=0.05)
    for _ in range(2000):
        optimizer.zero_grad()
        balance(torch.tensor([0.5, 0.5 if rng.random() < present else 0.0])).sum().backward()
        optimizer.step()
    torch.testing.assert_close(balance.log_variance.detach(), torch.tensor([0.5, 0.5]).log(), atol=1e-3, rtol=0)


def test_dwa_does_not_take_an_absent_label_for_progress():
    balance = DWA(terms=["common", "rare", "never"], every=4)
    for window in range(4):
        for update in range(4):
            balance(torch.tensor([0.8, 0.8 if window != 1 and update == 0 else 0.0, 0.0]))
        torch.testing.assert_close(balance.weights, torch.ones(3))


@pytest.mark.parametrize("kind", [DWA, FAMO, Uncertainty])
def test_a_balance_waits_for_no_device(kind):
    balance = kind(terms=["a", "b"])
    if kind is FAMO:
        balance.adam.step = lambda: None  # counts its steps on the host
    with Waits() as waits:
        for _ in range(3):
            balance(torch.ones(2))
    assert not waits.found.total()
