"""Each loss against a naive float64 oracle, written from its formula, loop by loop."""

import math

import numpy as np
import pytest
import torch

from pipeline.losses.cka import CKA
from pipeline.losses.cosine import CosineSmoothL1
from pipeline.losses.cwd import CWD
from pipeline.losses.dist import DIST
from pipeline.losses.dkd import DKD
from pipeline.losses.inverted import InvertedProjection
from pipeline.losses.mse import MSE
from pipeline.losses.pkd import PKD
from pipeline.losses.soft import soft_bce, soft_kl
from pipeline.losses.standardised_kl import StandardisedKL
from tests.laws import check_loss

CHOICES = [CosineSmoothL1(), MSE(), PKD(), DIST(), DIST(beta=2, gamma=0.5, temperature=4), StandardisedKL(), CKA(), DKD()]
CHOICES += [InvertedProjection()]


def logits(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_soft_kl_is_the_formula():
    student, teacher, temperature = logits(2, 3, 2, 2, seed=0), logits(2, 3, 2, 2, seed=1), 2.0
    expected = []
    for b in range(2):
        total = 0.0
        for i in range(2):
            for j in range(2):
                s = [math.exp(student[b, c, i, j] / temperature) for c in range(3)]
                t = [math.exp(teacher[b, c, i, j] / temperature) for c in range(3)]
                total += sum(t[c] / sum(t) * math.log((t[c] / sum(t)) / (s[c] / sum(s))) for c in range(3))
        expected.append(temperature**2 * total / 4)
    torch.testing.assert_close(soft_kl(student, teacher, temperature), torch.tensor(expected, dtype=torch.float64))


def test_soft_kl_sums_over_classes_instead_of_averaging():
    student, teacher = logits(1, 4, seed=0), logits(1, 4, seed=1)
    doubled = soft_kl(torch.cat([student, student], 1), torch.cat([teacher, teacher], 1), 1.0)
    torch.testing.assert_close(doubled, soft_kl(student, teacher, 1.0))


def test_soft_bce_is_the_formula():
    student, teacher = logits(2, 5, seed=2), logits(2, 5, seed=3)
    p, q = 1 / (1 + torch.exp(-student)), 1 / (1 + torch.exp(-teacher))
    torch.testing.assert_close(soft_bce(student, teacher), -(q * p.log() + (1 - q) * (1 - p).log()).mean(1))


def test_cosine_smooth_l1_is_the_formula():
    student, target = logits(1, 3, 2, seed=4), 3 * logits(1, 3, 2, seed=5)
    cosine, distance = 0.0, 0.0
    for i in range(2):
        s, t = student[0, :, i], target[0, :, i]
        cosine += (1 - (s @ t) / (s.norm() * t.norm())).item() / 2
        for d in (s - t).abs().tolist():
            distance += (0.5 * d * d if d < 1 else d - 0.5) / 6
    torch.testing.assert_close(CosineSmoothL1()(student, target).item(), 0.5 * cosine + 0.5 * distance)


def test_losses_survive_extreme_logits():
    student, teacher = torch.tensor([[80.0, -80.0]]), torch.tensor([[-80.0, 80.0]])
    for loss in (soft_kl(student, teacher, 1.0), soft_bce(student, teacher), CosineSmoothL1()(student, 0 * teacher)):
        assert loss.isfinite().all()


@pytest.mark.parametrize("grid", [(), (5,), (3, 2)], ids=["vector", "sequence", "map"])
@pytest.mark.parametrize("loss", CHOICES, ids=lambda loss: type(loss).__name__)
def test_laws(loss, grid):
    check_loss(loss, (6, 4, *grid))


@pytest.mark.parametrize("grid", [(5,), (3, 2)])
def test_laws_of_a_loss_that_compares_positions(grid):
    check_loss(CWD(temperature=2), (6, 4, *grid))
    with pytest.raises(ValueError, match="CWD compares positions"):
        CWD()(logits(6, 4, seed=0), logits(6, 4, seed=1))


def test_cwd_is_the_formula():
    student, target = logits(2, 3, 2, 2, seed=14), logits(2, 3, 2, 2, seed=15)
    for row, found in enumerate(CWD(temperature=4)(student, target)):
        total = 0.0
        for channel in range(3):
            s, t = (softmax(x[row, channel].flatten().tolist(), 4) for x in (student, target))
            total += sum(a * math.log(a / b) for a, b in zip(t, s, strict=True))
        assert found.item() == pytest.approx(16 * total / 3)


def rows_of(x):
    """A map as a list of positions, each a list of its channels: [(row, values)]."""
    flat = x.flatten(2).numpy() if x.dim() > 2 else x[..., None].numpy()
    return [[float(v) for v in flat[b, :, p]] for b in range(len(flat)) for p in range(flat.shape[2])]


def softmax(values, temperature):
    exponents = [math.exp(v / temperature) for v in values]
    return [e / sum(exponents) for e in exponents]


def pearson(a, b):
    return float(np.corrcoef(a, b)[0, 1])


@pytest.mark.parametrize("grid", [(), (3, 2)])
@pytest.mark.parametrize(("beta", "gamma", "temperature"), [(1, 1, 1), (2, 0.5, 4)])
def test_dist_is_the_formula(grid, beta, gamma, temperature):
    student, teacher = logits(4, 5, *grid, seed=6), logits(4, 5, *grid, seed=7)
    s, t = ([softmax(row, temperature) for row in rows_of(x)] for x in (student, teacher))
    between = np.mean([1 - pearson(a, b) for a, b in zip(s, t, strict=True)])
    within = np.mean([1 - pearson(a, b) for a, b in zip(zip(*s, strict=True), zip(*t, strict=True), strict=True)])
    found = DIST(beta=beta, gamma=gamma, temperature=temperature)(student, teacher).mean().item()
    assert found == pytest.approx(temperature**2 * (beta * between + gamma * within), rel=1e-6)


def test_pkd_is_the_formula():
    student, target = logits(4, 3, 2, 2, seed=8), 7 + 3 * logits(4, 3, 2, 2, seed=9)
    s, t = (list(zip(*rows_of(x), strict=True)) for x in (student, target))
    expected = np.mean([1 - pearson(a, b) for a, b in zip(s, t, strict=True)])
    assert PKD()(student, target).mean().item() == pytest.approx(expected, rel=1e-6)
    assert PKD()(student * 5 - 2, target).mean().item() == pytest.approx(expected, rel=1e-6)


def test_mse_is_the_formula():
    student, target = logits(2, 3, 2, seed=10), logits(2, 3, 2, seed=11)
    for row, found in enumerate(MSE()(student, target)):
        pairs = zip(student[row].flatten().tolist(), target[row].flatten().tolist(), strict=True)
        assert found.item() == pytest.approx(sum((a - b) ** 2 for a, b in pairs) / 12)


def test_standardised_kl_is_the_formula():
    student, teacher = logits(3, 5, seed=12), 9 * logits(3, 5, seed=13)
    expected = []
    for s, t in zip(rows_of(student), rows_of(teacher), strict=True):
        p, q = (softmax(list((np.array(x) - np.mean(x)) / np.std(x)), 2) for x in (t, s))
        expected.append(4 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
    torch.testing.assert_close(StandardisedKL()(student, teacher), torch.tensor(expected, dtype=torch.float64))


def hsic_1(k, m):
    """Song et al. 2012, equation 5: of two kernels, with nothing on their diagonals."""
    n, ones = len(k), np.ones(len(k))
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    total = np.trace(k @ m) + ones @ k @ ones * (ones @ m @ ones) / ((n - 1) * (n - 2)) - 2 / (n - 2) * ones @ k @ m @ ones
    return total / (n * (n - 3))


def test_cka_is_the_formula():
    student, target = logits(7, 3, 2, 2, seed=16), logits(7, 5, 2, 2, seed=17) + 3
    k, m = (x.flatten(1).numpy() @ x.flatten(1).numpy().T for x in (student, target))
    expected = 1 - hsic_1(k, m) / math.sqrt(hsic_1(k, k) * hsic_1(m, m))
    assert CKA()(student, target).mean().item() == pytest.approx(expected, rel=1e-6)


def test_cka_finds_unrelated_features_unrelated_in_a_small_batch():
    values = [CKA()(logits(32, 64, seed=2 * i), logits(32, 64, seed=2 * i + 1)).mean().item() for i in range(50)]
    assert np.mean(values) == pytest.approx(1, abs=0.02)
    with pytest.raises(ValueError, match="and 3 are too few"):
        CKA()(logits(3, 4, seed=0), logits(3, 4, seed=1))


def test_cka_sees_neither_a_turn_nor_a_size():
    target = logits(8, 4, seed=18)
    turn = torch.linalg.qr(logits(4, 4, seed=19)).Q
    assert CKA()(3 * target @ turn + 5, target).abs().max() < 1e-9
    assert CKA()(target * torch.tensor([9.0, 1, 1, 1]), target).mean() > 0.01


@pytest.mark.parametrize(("alpha", "beta", "temperature"), [(1, 8, 4), (2, 0.5, 1)])
def test_dkd_is_the_formula(alpha, beta, temperature):
    student, teacher = logits(3, 4, 2, seed=20), 3 * logits(3, 4, 2, seed=21)
    found = []
    for s, t in zip(rows_of(student), rows_of(teacher), strict=True):
        best, (q, p) = int(np.argmax(t)), (softmax(x, temperature) for x in (s, t))
        target = p[best] * math.log(p[best] / q[best]) + (1 - p[best]) * math.log((1 - p[best]) / (1 - q[best]))
        p_others, q_others = ([x[c] / (1 - x[best]) for c in range(4) if c != best] for x in (p, q))
        others = sum(a * math.log(a / b) for a, b in zip(p_others, q_others, strict=True))
        found.append(temperature**2 * (alpha * target + beta * others))
    loss = DKD(alpha=alpha, beta=beta, temperature=temperature)
    assert loss(student, teacher).mean().item() == pytest.approx(np.mean(found), rel=1e-6)


def test_dkd_survives_a_teacher_that_is_sure_and_two_classes():
    sure = torch.tensor([[90.0, 0, -90], [-90, 90, 0]])
    assert DKD(temperature=1)(sure.flip(0), sure).isfinite().all()
    pair, other = logits(3, 2, seed=22), logits(3, 2, seed=23)
    torch.testing.assert_close(DKD(temperature=2)(pair, other), soft_kl(pair, other, 2))


GOLDEN = [0.71734, 0.496039, 0.993883, 2.2938, 41.4972, 1.04944, 0.0201898, 2.33471, 0.993883]


@pytest.mark.parametrize(("loss", "value"), list(zip(CHOICES, GOLDEN, strict=True)), ids=lambda x: type(x).__name__)
def test_values_stay_what_they_are(loss, value):
    student, target = (torch.sin(torch.arange(120.0) * k).reshape(4, 5, 3, 2) for k in (1.7, 2.3))
    assert loss(student, target).mean().item() == pytest.approx(value, rel=1e-4)
