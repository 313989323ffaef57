"""Each loss against a naive float64 oracle, written from its formula, loop by loop."""

import math

import torch

from pipeline.losses import cosine_smooth_l1, soft_bce, soft_kl


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
    torch.testing.assert_close(cosine_smooth_l1(student, target).item(), 0.5 * cosine + 0.5 * distance)


def test_losses_survive_extreme_logits():
    student, teacher = torch.tensor([[80.0, -80.0]]), torch.tensor([[-80.0, 80.0]])
    for loss in (soft_kl(student, teacher, 1.0), soft_bce(student, teacher), cosine_smooth_l1(student, 0 * teacher)):
        assert loss.isfinite().all()
