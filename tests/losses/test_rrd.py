"""Relaxed ranking distillation against a naive float64 oracle, written from its formula, loop by loop."""

import math

import pytest
import torch

from pipeline.losses.loss import ABSENT
from pipeline.losses.rrd import RRD
from tests.laws import check_values


def oracle(student: list[float], teacher: list[float], best: int) -> float:
    there = [c for c in range(len(teacher)) if teacher[c] > ABSENT + 1]
    order = sorted(there, key=lambda c: -teacher[c])
    top, rest = order[:best], order[best:]
    total = 0.0
    for k, chosen in enumerate(top):
        against = sum(math.exp(student[c]) for c in top[k:]) + sum(math.exp(student[c]) for c in rest)
        total -= student[chosen] - math.log(against)
    return total / len(top)


@pytest.mark.parametrize("grid", [(), (3,)])
def test_it_is_the_formula(grid):
    student, teacher = (torch.randn(4, 9, *grid, generator=torch.Generator().manual_seed(s)).double() for s in (0, 1))
    teacher[1, 2:6] = ABSENT
    teacher[2, 2:] = ABSENT  # fewer than the best asked for
    for row, found in enumerate(RRD(best=4)(student, teacher)):
        lists = zip(student[row].reshape(9, -1).T.tolist(), teacher[row].reshape(9, -1).T.tolist(), strict=True)
        wanted = [oracle(s, t, 4) for s, t in lists]
        assert found.item() == pytest.approx(sum(wanted) / len(wanted))


@pytest.mark.parametrize("grid", [(), (5,)])
def test_laws(grid):
    check_values(RRD(best=3), (6, 8, *grid))


def test_it_falls_as_the_teachers_order_is_found_and_ignores_the_order_of_the_rest():
    teacher = torch.tensor([[4.0, 3.0, 2.0, 1.0]])
    orders = [[1.0, 2, 3, 4], [4.0, 1, 2, 3], [4.0, 3, 2, 1], [8.0, 6, 4, 2]]
    losses = [RRD(best=2)(torch.tensor([order]), teacher).item() for order in orders]
    assert losses == sorted(losses, reverse=True)
    swapped = RRD(best=2)(torch.tensor([[4.0, 3, 1, 2]]), teacher)
    torch.testing.assert_close(swapped, RRD(best=2)(torch.tensor([[4.0, 3, 2, 1]]), teacher))


def test_what_is_absent_has_no_gradient():
    student = torch.zeros(1, 5).requires_grad_()
    teacher = torch.tensor([[1.0, ABSENT, 2.0, ABSENT, 0.0]])
    (gradient,) = torch.autograd.grad(RRD(best=4)(student, teacher).sum(), student)
    assert gradient.isfinite().all() and gradient[0, [1, 3]].tolist() == [0, 0] and gradient.abs().sum() > 0


def test_what_is_less_likely_than_absent_is_there():
    teacher = torch.tensor([[1.0, ABSENT, -35.0]])
    assert RRD(best=1)(torch.zeros(1, 3), teacher).item() == pytest.approx(math.log(2))
    student, low = torch.randn(1, 4), torch.tensor([[-35.0, ABSENT, -42.0, -33.0]])
    assert RRD(best=2)(student, low).item() == pytest.approx(RRD(best=2)(student, low + 10 * (low != ABSENT)).item())


def test_its_value_stays_what_it_is():
    student, target = (torch.sin(torch.arange(120.0) * k).reshape(4, 30) for k in (1.7, 2.3))
    assert RRD()(student, target).mean().item() == pytest.approx(3.83599, rel=1e-4)
