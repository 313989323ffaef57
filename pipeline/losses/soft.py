"""A teacher's probabilities as soft labels: what tasks use for their logits unless another loss is chosen."""

from torch import Tensor
from torch.nn import functional as F

from pipeline.losses.loss import per_row
from pipeline.losses.sparse import Sparse


def soft_kl(student: Tensor, teacher: Tensor | Sparse, temperature: float) -> Tensor:
    """`T^2 KL(teacher || student)` over dim 1, summed over classes, averaged over positions (Hinton et al., 1503.02531).

    student, teacher: logits (B, C, *grid); the teacher's may be sparse if T is 1. Returns (B,), in nats.
    """
    if isinstance(teacher, Sparse):
        if temperature != 1:
            raise ValueError(f"sparse logits are probabilities at temperature 1, the task's is {temperature}")
        return per_row(teacher.loss(student))
    log_s = F.log_softmax(student / temperature, dim=1)
    log_t = F.log_softmax(teacher / temperature, dim=1)
    return temperature**2 * per_row((log_t.exp() * (log_t - log_s)).sum(1, keepdim=True))


def soft_bce(student: Tensor, teacher: Tensor) -> Tensor:
    """Binary cross-entropy against the teacher's probabilities, averaged over labels.

    student, teacher: logits (B, C, *grid). Returns (B,), in nats.
    """
    return per_row(F.binary_cross_entropy_with_logits(student, teacher.sigmoid(), reduction="none"))
