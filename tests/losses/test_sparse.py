"""Sparse logits of 10,000 classes against the whole distribution in float64."""

import pytest
import torch

from pipeline.losses.sparse import Sparse, misplaced, sample, top_k

ROWS, CLASSES = 6, 10_000


def logits(seed, shape=(ROWS, CLASSES)):
    """Few likely classes and a long tail, as a language model's."""
    x = 4 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return x + (torch.arange(shape[1]) < 30).view(-1, *[1] * (len(shape) - 2)) * 5


TEACHER, STUDENT = logits(0), logits(1)
P, LOG_Q = TEACHER.double().softmax(1), STUDENT.double().log_softmax(1)


def starts(seed, rows=ROWS):
    return torch.rand((rows, 1), generator=torch.Generator().manual_seed(seed), dtype=torch.double)


@pytest.mark.parametrize("k", [1, 12, 200])
def test_top_k_is_the_kl_of_the_kept_classes_and_one_that_stands_for_the_rest(k):
    kept = P.topk(k, dim=1).indices
    outside = torch.ones_like(P, dtype=torch.bool).scatter(1, kept, False)
    rest_p, rest_q = ((x * outside).sum(1, keepdim=True) for x in (P, LOG_Q.exp()))
    p, q = torch.cat([P.gather(1, kept), rest_p], 1), torch.cat([LOG_Q.exp().gather(1, kept), rest_q], 1)
    torch.testing.assert_close(top_k(TEACHER, k).loss(STUDENT).double(), (p * (p / q).log()).sum(1), rtol=1e-5, atol=1e-6)


def test_top_k_of_all_but_one_is_the_kl_of_all():
    teacher, student = logits(2, (4, 9, 3)), logits(3, (4, 9, 3))
    log_p, log_q = teacher.double().log_softmax(1), student.double().log_softmax(1)
    expected = (log_p.exp() * (log_p - log_q)).sum(1)
    torch.testing.assert_close(top_k(teacher, 8).loss(student).double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_top_k_in_half_width_is_a_distribution(dtype):
    """Found by a reader: of a student that says what was stored the loss was up to 2e-3 below 0."""
    found = top_k(TEACHER, 12)
    loss = Sparse(found.ids, found.log_probs.to(dtype)).loss(TEACHER.double())
    assert loss.min() >= 0 and loss.max() < 1e-4


def test_a_tail_of_almost_nothing_is_not_lost_to_cancellation():
    sure = torch.zeros(1, CLASSES)
    sure[0, 7] = 60
    tail = top_k(sure, 1).log_probs[0, 1].double()
    torch.testing.assert_close(tail, torch.tensor(CLASSES - 1).double().log() - 60, rtol=1e-4, atol=0)


@pytest.mark.parametrize("k", [12, 50])
def test_a_sample_is_the_cross_entropy_of_its_counts(k):
    found = sample(TEACHER, k, starts(0))
    counts = torch.zeros_like(P).scatter_add(1, found.ids.long(), torch.ones(ROWS, k).double())
    torch.testing.assert_close(found.loss(STUDENT).double(), -(counts / k * LOG_Q).sum(1), rtol=1e-5, atol=0)
    assert (counts >= (k * P).floor() - 1e-9).all() and (counts <= (k * P).ceil() + 1e-9).all()


@pytest.mark.parametrize("k", [12, 50])
def test_samples_are_right_on_the_average_and_so_are_their_gradients(k):
    """Against the whole distribution, within four standard errors of 4,000 samples; the top k of it are far outside."""
    draws, teacher, student = 4000, TEACHER[:1].double(), STUDENT[:1].double().requires_grad_()
    found = [sample(teacher.expand(500, -1), k, starts(seed, 500)) for seed in range(draws // 500)]
    losses = torch.cat([x.loss(student.expand(500, -1)) for x in found])
    exact = -(P[0] * LOG_Q[0]).sum()
    error = losses.std() / draws**0.5
    assert abs(losses.mean() - exact) < 4 * error
    (gradient,) = torch.autograd.grad(losses.mean(), student)
    expected = (LOG_Q[:1].exp() - P[:1]).squeeze()
    assert (gradient.squeeze() - expected).abs().max() < 0.01
    truncated = top_k(TEACHER[:1], k)
    share = truncated.log_probs[:, :-1].softmax(1)  # without a place for the rest: biased
    assert abs(-(share * LOG_Q[:1].gather(1, truncated.ids.long())).sum() - exact) > 10 * error


def test_systematic_samples_vary_less_than_independent_ones():
    k, rows = 12, 2000
    teacher, student = TEACHER[:1].expand(rows, -1), STUDENT[:1].expand(rows, -1)
    drawn = torch.multinomial(P[:1], k * rows, replacement=True, generator=torch.Generator().manual_seed(0)).view(rows, k)
    independent = Sparse(drawn).loss(student)
    assert sample(teacher, k, starts(1, rows)).loss(student).var() < 0.8 * independent.var()


def test_ids_are_narrow_and_a_grid_is_kept():
    teacher = logits(5, (2, 300, 4, 3))
    for found in (top_k(teacher, 5), sample(teacher, 5, torch.rand(2, 1, 4, 3))):
        assert found.ids.dtype == torch.uint16 and found.ids.shape == (2, 5, 4, 3)
        assert found.loss(logits(6, (2, 300, 4, 3))).shape == (2, 4, 3)
        one = Sparse(found.ids[:1, :, 1:2, 2:], None if found.log_probs is None else found.log_probs[:1, :, 1:2, 2:])
        student = logits(6, (2, 300, 4, 3))
        torch.testing.assert_close(one.loss(student[:1, :, 1:2, 2:])[0, 0, 0], found.loss(student)[0, 1, 2])
    assert top_k(logits(5, (2, 70_000)), 3).ids.dtype == torch.int32


def test_a_draw_is_in_its_class_and_in_no_other():
    found = sample(TEACHER, 12, starts(3))
    assert misplaced(TEACHER, found.ids, starts(3)).max() < 1e-9
    likeliest = P.argmax(1, keepdim=True).expand(-1, 12)
    wrong = torch.where(found.ids.long() == likeliest, (likeliest + 5000) % CLASSES, likeliest)
    assert (misplaced(TEACHER, wrong, starts(3)) > 1e-4).any(1).all()
