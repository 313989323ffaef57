"""How much of its teachers a fusion kept: closed forms of the second moments of teachers and code, side by side."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.fusions.fusion import Features, Fusion
from pipeline.fusions.moments import Moments

FUSED = "fused "
RIDGE = 1e-6  # of the code's mean variance
ENOUGH = 0.8  # of a teacher's variance: below it a fusion has dropped much of that teacher


class Quality(NamedTuple):
    """r2: {"teacher/tap": share of its variance that a linear map of the code gives back, on other rows than it was fitted
    on}. effective_rank: of the code, exp of the entropy of its spectrum (Roy & Vetterli 2007). cka: {"a | b": linear CKA of two
    teachers, exact}. readable, of a fusion that learned: {"logits/<teacher>/<task>": loss of a head on the code, as a share of
    the best constant's}."""

    r2: dict[str, float]
    effective_rank: float
    cka: dict[str, float]
    readable: dict[str, float] = {}


def assess(fusion: Fusion, seen: Iterable[Features], held: Iterable[Features]) -> Quality:
    """A fusion's quality on held rows, which neither it nor the regression, which is of `seen` rows, was fitted on."""
    fitted, judged = (Moments({**x, **renamed(fusion.transform(x))} for x in batches) for batches in (seen, held))
    return of_moments(fitted, judged)


def renamed(fused: Features) -> Features:
    return {FUSED + name: x for name, x in fused.items()}


def of_moments(seen: Moments, held: Moments) -> Quality:
    """Moments of teachers' features and, as "fused <target>", a fusion's targets together."""
    at = held.at
    code = [name for name in at if name.startswith(FUSED)]
    teachers = [name for name in at if name not in code]
    c = held.covariance
    u = torch.cat([torch.arange(at[name].start, at[name].stop) for name in code]).to(c.device)
    r2 = explained(seen.covariance, c, u, {name: at[name] for name in teachers})
    pairs = [(a, b) for i, a in enumerate(teachers) for b in teachers[i + 1 :]]
    return Quality(r2, effective_rank(c[u][:, u]), {f"{a} | {b}": cka(c, at[a], at[b]) for a, b in pairs})


def explained(seen: Tensor, held: Tensor, code: Tensor, teachers: dict[str, slice]) -> dict[str, float]:
    """{teacher: share of its variance over held rows that the ridge regression of seen rows on the code gives back}, both
    as covariances."""
    uu = seen[code][:, code]
    ridge = RIDGE * uu.diagonal().mean() * torch.eye(len(uu), dtype=uu.dtype, device=uu.device)
    weights = torch.linalg.solve(uu + ridge, seen[code])
    told = 2 * (weights * held[code]).sum(0) - (weights * (held[code][:, code] @ weights)).sum(0)  # of each channel
    return {name: (told[at].sum() / held.diagonal()[at].sum().clamp(min=1e-12)).item() for name, at in teachers.items()}


def lines(found: Quality) -> Iterator[str]:
    kept = ", ".join(f"{r2:.2f} of {teacher}" for teacher, r2 in found.r2.items())
    yield f"keeps {kept} (R^2); effective rank {found.effective_rank:.1f}"
    if found.cka:
        yield "teachers alike (linear CKA): " + ", ".join(f"{pair} {value:.2f}" for pair, value in found.cka.items())
    if found.readable:
        losses = ", ".join(f"{share:.2f} of {name}" for name, share in found.readable.items())
        yield f"heads on it leave {losses} (loss; 1: that of a constant)"
    for teacher, r2 in found.r2.items():
        if r2 < ENOUGH:
            yield f"less than {ENOUGH} of {teacher} is left: raise dims, or take another fusion, if students should have it"


def effective_rank(covariance: Tensor) -> float:
    share = torch.linalg.eigvalsh(covariance).clamp(min=0)
    share = share / share.sum().clamp(min=1e-12)
    return (-(share * share.clamp(min=1e-30).log()).sum()).exp().item()


def cka(c: Tensor, a: slice, b: slice) -> float:
    """||C_ab||^2 / (||C_aa|| ||C_bb||), Frobenius (Kornblith et al., 1905.00414)."""
    return (c[a, b].square().sum() / (c[a, a].norm() * c[b, b].norm()).clamp(min=1e-12)).item()
