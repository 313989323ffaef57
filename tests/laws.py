"""Laws that every task, fusion and loss obeys; plug-in authors call these on their own."""

from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.fusions.fusion import Features, Fusion
from pipeline.losses.loss import Loss
from pipeline.losses.sparse import top_k
from pipeline.tasks.task import Task


def check_task(task: Task, label: Tensor, width: int = 8, grid: tuple[int, ...] = (6, 6)) -> None:
    """A task's head, losses and metrics fit each other. label: at least four rows, (B, ...), as the source stores them."""
    torch.manual_seed(0)
    head = task.head(width, grid)
    pred = head(torch.randn(len(label), width, *grid))
    assert len(pred) == len(label)
    for loss in (task.loss(pred, label), task.distill_loss(pred, torch.randn_like(pred))):
        assert loss.shape == (len(label),)
        assert loss.isfinite().all()
        loss.sum().backward(retain_graph=True)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
    check_rows_are_independent(lambda rows: task.loss(pred[rows], label[rows]))
    check_rows_are_independent(lambda rows: task.distill_loss(pred[rows], pred.flip(0)[rows]))
    check_teacher_is_the_optimum(task, pred.detach())
    check_tally_is_additive(task, pred.detach(), label)
    if task.sparse and task.temperature == 1:
        assert task.distill_loss(pred, top_k(pred.detach(), 1)).isfinite().all()


def check_rows_are_independent(loss: Callable[[Tensor], Tensor]) -> None:
    """loss_B of a subset is the subset of loss_B."""
    everything = loss(torch.arange(4))
    torch.testing.assert_close(everything[[2, 0]], loss(torch.tensor([2, 0])))


def check_teacher_is_the_optimum(task: Task, teacher: Tensor) -> None:
    """No prediction is closer to a teacher than its own: the loss has its minimum, and a zero gradient, there."""
    student = teacher.clone().requires_grad_()
    at_teacher = task.distill_loss(student, teacher)
    elsewhere = task.distill_loss(teacher + 0.5 * torch.randn_like(teacher), teacher)
    assert (elsewhere > at_teacher).all()
    (gradient,) = torch.autograd.grad(at_teacher.sum(), student)
    assert gradient.abs().max() < 1e-5


def check_tally_is_additive(task: Task, pred: Tensor, label: Tensor) -> None:
    """Metrics depend neither on how a split is cut into batches nor on their order."""
    whole = task.summarize([task.tally(pred, label)])
    parts = task.summarize([task.tally(pred[2:], label[2:]), task.tally(pred[:2], label[:2])])
    assert whole[task.primary] <= 1 or not task.higher_is_better
    for name, value in whole.items():
        assert 0 <= value < float("inf")
        assert abs(value - parts[name]) < 1e-9


def check_fusion(make: Callable[[], Fusion], features: Features) -> None:
    """features: at least 64 rows, with no two alike."""
    rows = len(next(iter(features.values())))
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(0))
    whole, parts = make().fit([features]), make().fit(take(features, part) for part in torch.arange(rows).split(7))
    fused = whole.transform(features)
    for name, x in fused.items():
        assert x.isfinite().all()
        assert x.dtype == torch.float32 and len(x) == rows
        torch.testing.assert_close(parts.transform(features)[name], x, atol=1e-5, rtol=0)
        torch.testing.assert_close(whole.transform(take(features, order))[name], x[order], atol=1e-5, rtol=0)
        channels = x.transpose(0, 1).flatten(1).double()
        assert channels.mean(1).abs().max() < 1e-4
        assert abs(channels.var(1, correction=0).mean().item() - 1) < 1e-3


def take(features: Features, rows: Tensor) -> Features:
    return {name: x[rows] for name, x in features.items()}


def check_loss(loss: Loss, shape: tuple[int, ...]) -> None:
    """shape: (B, C, *grid), of student and target."""
    target, other = check_values(loss, shape)
    student = target.clone().requires_grad_()
    at_target = loss(student, target)
    (gradient,) = torch.autograd.grad(at_target.sum(), student)
    assert at_target.abs().max() < 1e-5 and gradient.abs().max() < 1e-4
    assert loss(other, target).mean() > 0.01


def check_values(loss: Loss, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The laws of a loss that has no zero, too, such as a contrastive one. Returns the target and another one."""
    target = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    other = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    for student in (other, 100 * other, torch.zeros(shape)):
        student = student.clone().requires_grad_()
        loss_B = loss(student, target)
        assert loss_B.shape == (len(target),) and (loss_B >= -1e-6).all()
        (gradient,) = torch.autograd.grad(loss_B.sum(), student)
        assert gradient.isfinite().all()
    torch.testing.assert_close(loss(other.flip(0), target.flip(0)), loss(other, target).flip(0))
    return target, other
