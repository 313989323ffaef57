"""Balances that look at gradients, against loops written from their papers, on gradients that can be read off."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.balances.gradients import MGDA, PCGrad, UPGrad
from pipeline.losses.cosine import CosineSmoothL1
from pipeline.training.objective import Objective
from pipeline.training.stack import threads_for
from tests.training.test_learning import TASK, knowledge, labelled, network, sample, study
from tests.waits import Waits

pytest.importorskip("torchjd")
KINDS = [PCGrad, UPGrad, MGDA]


def balanced(kind, rows):
    """The gradient that a balance gives shared weights whose terms have these rows as gradients, and each head's own."""
    shared = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(rows.shape[1] - 2))]
    heads = [nn.Parameter(torch.zeros(())) for _ in rows]
    torch.manual_seed(0)
    balance = kind(terms=[str(i) for i in range(len(rows))])
    losses = [(torch.cat(shared) * row).sum() + (i + 1) * head for i, (row, head) in enumerate(zip(rows, heads, strict=True))]
    balance.backward(list(balance(torch.stack(losses))), shared)
    return torch.cat([p.grad for p in shared]), [head.grad.item() for head in heads]


def conflicting(seed=0, terms=2):
    rows = torch.randn(terms, 5, generator=torch.Generator().manual_seed(seed))
    rows[1] -= 2 * rows[0]
    return rows


@pytest.mark.parametrize("kind", KINDS)
def test_heads_get_what_they_always_get(kind):
    assert balanced(kind, conflicting(terms=3))[1] == [1, 2, 3]


@pytest.mark.parametrize("kind", [PCGrad, UPGrad])
def test_what_does_not_conflict_is_summed(kind):
    rows = torch.eye(5)[:3] * torch.tensor([[1.0], [2], [3]]) + 0.1
    torch.testing.assert_close(balanced(kind, rows)[0], rows.sum(0), rtol=1e-3, atol=1e-3)


def test_pcgrad_is_the_formula():
    a, b = rows = conflicting().double()
    expected = sum(g - min(0.0, (g @ h).item()) / (h @ h) * h for g, h in ((a, b), (b, a)))
    torch.testing.assert_close(balanced(PCGrad, rows.float())[0].double(), expected, rtol=1e-4, atol=1e-5)


def test_mgda_finds_the_least_norm():
    a, b = rows = conflicting().double()
    grid = np.linspace(0, 1, 20001)
    norms = [(w * a + (1 - w) * b).norm().item() for w in grid.tolist()]
    best = float(grid[int(np.argmin(norms))])
    torch.testing.assert_close(balanced(MGDA, rows.float())[0].double(), 2 * (best * a + (1 - best) * b), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("seed", range(5))
def test_upgrad_and_mgda_worsen_no_term(seed):
    rows = conflicting(seed, terms=3)
    for kind in (UPGrad, MGDA):
        assert (rows @ balanced(kind, rows)[0]).min() > -1e-2
    assert (rows @ rows.sum(0)).min() < -0.1


def test_upgrad_is_the_formula():
    """The nearest directions to each gradient that worsen no term, found on a fine grid of two multipliers."""
    rows = conflicting().double()
    steps = torch.linspace(0, 3, 601, dtype=torch.double)
    pairs = torch.cartesian_prod(steps, steps)
    expected = torch.zeros(5, dtype=torch.double)
    for g in rows:
        tried = g + pairs @ rows
        allowed = (tried @ rows.T >= -1e-2).all(1)
        expected += tried[allowed][(tried[allowed] - g).norm(dim=1).argmin()]
    torch.testing.assert_close(balanced(UPGrad, rows.float())[0].double(), expected, rtol=2e-2, atol=5e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_an_absent_term_changes_nothing(kind):
    rows = conflicting(terms=3)
    with_absent = torch.cat([rows, torch.zeros(1, 5)])
    if kind is PCGrad:  # the order is drawn, so that only two terms have one
        rows, with_absent = rows[:2], with_absent[[0, 1, 3]]
    torch.testing.assert_close(balanced(kind, with_absent)[0], balanced(kind, rows)[0])
    assert balanced(kind, torch.zeros(2, 5))[0].abs().max() == 0


def test_the_sum_is_what_no_balance_gives():
    net = network()
    objective = Objective(net, TASK, {"labels": 1, "logits": 3}, sample(knowledge()), sample(labelled()))
    objective.backward(objective(sample(knowledge()), sample(labelled())))
    found = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    sum(objective(sample(knowledge()), sample(labelled())).values()).backward()
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), found, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_student_learns(kind):
    net = network()
    methods = {"feature_loss": CosineSmoothL1(), "balance": kind}
    curve = study(net, {"labels": 1.0, "logits": 1.0, "fused": 1.0}, methods=methods)
    assert curve[-1]["val/corner/macro_AP"] > 0.9
    study(net, {"labels": 1.0}, updates=4, sources=(None, labelled()), heads_only=True, methods={"balance": kind})


def test_weights_in_another_memory_format_learn_the_same():
    """A fused optimiser goes over memory, not over indices: a gradient that lies otherwise would be scrambled."""
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        net = network().to(memory_format=layout)
        study(net, {"labels": 1.0, "logits": 1.0}, updates=3, methods={"feature_loss": CosineSmoothL1(), "balance": UPGrad})
        found.append(net.state_dict())
    for name, x in found[0].items():
        torch.testing.assert_close(found[1][name], x, rtol=1e-2, atol=1e-3)


def test_students_that_draw_random_numbers_train_one_after_another(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    made = lambda kind: Objective(network(), TASK, {"logits": 1}, sample(knowledge()), {}, balance=kind)  # noqa: E731
    assert [threads_for([made(kind)]) for kind in (None, UPGrad, PCGrad)] == [4, 4, 1]


def test_a_loss_that_is_not_a_number_is_left_to_the_loop():
    rows = torch.tensor([[1.0, 2, 3], [float("nan"), 0, 0]])
    assert not balanced(UPGrad, rows)[0].isfinite().all()


def test_without_torchjd_the_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchjd", None)
    with pytest.raises(ValueError, match=r"PCGrad needs torchjd: pip install 'stillroom\[gradients\]'"):
        PCGrad(terms=["a"])


@pytest.mark.parametrize("terms", [2, 6])
def test_which_terms_are_present_is_asked_once(terms, monkeypatch):
    monkeypatch.setattr(UPGrad, "aggregator", lambda self, methods: lambda gradients: gradients.sum(0))
    balance, shared = UPGrad(terms=[str(i) for i in range(terms)]), [nn.Parameter(torch.ones(3))]
    losses = [(shared[0] * (k + 1)).sum() for k in range(terms)]
    with Waits() as waits:
        balance.backward(losses, shared)
    assert waits.found == {"mask": 1, "_local_scalar_dense": 1}  # the other: whether all is finite
    assert shared[0].grad.tolist() == [sum(range(terms + 1))] * 3
