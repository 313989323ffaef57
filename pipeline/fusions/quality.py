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
    """r2: {"teacher/tap": share of its variance that a linear map of the code gives back}. effective_rank: of the code,
    exp of the entropy of its spectrum (Roy & Vetterli 2007). cka: {"a | b": linear CKA of two teachers, exact}. readable, of a
    fusion that learned: {"logits/<teacher>/<task>": loss of a head on the code, as a share of the best constant's}."""

    r2: dict[str, float]
    effective_rank: float
    cka: dict[str, float]
    readable: dict[str, float] = {}


def assess(fusion: Fusion, batches: Iterable[Features]) -> Quality:
    """A fusion's quality on rows that it was not fitted on."""
    return of_moments(Moments({**features, **renamed(fusion.transform(features))} for features in batches))


def renamed(fused: Features) -> Features:
    return {FUSED + name: x for name, x in fused.items()}


def of_moments(moments: Moments) -> Quality:
    """moments: of teachers' features and, as "fused <target>", a fusion's targets together."""
    ends = torch.tensor(list(moments.widths.values())).cumsum(0).tolist()
    at = {name: slice(end - d, end) for (name, d), end in zip(moments.widths.items(), ends, strict=True)}
    c, code = moments.covariance, [name for name in at if name.startswith(FUSED)]
    teachers = [name for name in at if name not in code]
    u = torch.cat([torch.arange(at[name].start, at[name].stop) for name in code]).to(c.device)
    ridge = RIDGE * c[u][:, u].diagonal().mean() * torch.eye(len(u), dtype=c.dtype, device=c.device)
    explained = c[:, u] @ torch.linalg.solve(c[u][:, u] + ridge, c[u])
    r2 = {t: (explained[at[t], at[t]].trace() / c[at[t], at[t]].trace().clamp(min=1e-12)).item() for t in teachers}
    pairs = [(a, b) for i, a in enumerate(teachers) for b in teachers[i + 1 :]]
    return Quality(r2, effective_rank(c[u][:, u]), {f"{a} | {b}": cka(c, at[a], at[b]) for a, b in pairs})


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
