"""How much of its teachers a fusion kept: closed forms of the second moments of teachers and code, side by side."""

from collections.abc import Container, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.fusions.fusion import Features, Fusion
from pipeline.fusions.linear import AffineFusion
from pipeline.fusions.moments import Moments
from pipeline.stores.shard import as_items

FUSED = "fused "
RIDGE = 1e-6  # of the code's mean variance
TENTH = 10  # samples of which one is held out
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


def split_rows(sample_id: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows to fit on, and rows to judge by: every tenth of the different samples, in all of its views. (N, 16) -> ascending."""
    _, sample_index = np.unique(as_items(sample_id), return_inverse=True)
    is_held = sample_index % TENTH == min(TENTH - 1, sample_index.max())
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)


class Joint(NamedTuple):
    """Covariances of teachers' channels and the code's: (sum D, sum D), (K, sum D), (K, K)."""

    teachers: Tensor
    cross: Tensor
    code: Tensor


def assess(fusion: Fusion, seen: Iterable[Features], held: Iterable[Features]) -> Quality:
    """A fusion's quality on held rows, which neither it nor the regression, which is of `seen` rows, was fitted on.

    seen: those it was fitted on; not read where its own moments of them say enough.
    """
    if isinstance(fusion, AffineFusion):
        held_moments, projection = Moments(held), fusion.projection
        return of_joint(mapped(fusion.moments, projection), mapped(held_moments, projection), held_moments.at)
    seen_moments, held_moments = (Moments({**x, **renamed(fusion.transform(x))} for x in batches) for batches in (seen, held))
    teachers = {name: channels for name, channels in held_moments.at.items() if not name.startswith(FUSED)}
    return of_joint(split(seen_moments, teachers), split(held_moments, teachers), teachers)


def mapped(moments: Moments, projection: Tensor) -> Joint:
    """Of a code that is an affine map of the channels."""
    cross = projection.T @ moments.covariance
    return Joint(moments.covariance, cross, cross @ projection)


def split(moments: Moments, teachers: Container[str]) -> Joint:
    """Of features and code that were measured together."""
    masks = [torch.full((channels.stop - channels.start,), name in teachers) for name, channels in moments.at.items()]
    t, c = torch.cat(masks).to(moments.covariance.device), moments.covariance
    return Joint(c[t][:, t], c[~t][:, t], c[~t][:, ~t])


def renamed(fused: Features) -> Features:
    return {FUSED + name: x for name, x in fused.items()}


def of_joint(seen: Joint, held: Joint, channels: dict[str, slice]) -> Quality:
    """channels: where each teacher's channels lie."""
    pairs = [(a, b) for i, a in enumerate(channels) for b in list(channels)[i + 1 :]]
    similarities = {f"{a} | {b}": cka(held.teachers, channels[a], channels[b]) for a, b in pairs}
    return Quality(explained(seen, held, channels), effective_rank(held.code), similarities)


def explained(seen: Joint, held: Joint, channels: dict[str, slice]) -> dict[str, float]:
    """{teacher: share of its variance over held rows that the ridge regression of seen rows on the code gives back}.

    Of covariances, so a shift of the held rows' means is not seen.
    """
    ridge = RIDGE * seen.code.diagonal().mean() * torch.eye(len(seen.code), dtype=seen.code.dtype, device=seen.code.device)
    weights = torch.linalg.solve(seen.code + ridge, seen.cross)
    kept = 2 * (weights * held.cross).sum(0) - (weights * (held.code @ weights)).sum(0)  # of the variance of each channel
    total = held.teachers.diagonal()
    return {name: (kept[part].sum() / total[part].sum().clamp(min=1e-12)).item() for name, part in channels.items()}


def lines(quality: Quality | None) -> Iterator[str]:
    """What to say of a fusion; None: it had nothing to fuse."""
    if not quality:
        yield "no teacher has features: logits alone"
        return
    kept_shares = ", ".join(f"{r2:.2f} of {teacher}" for teacher, r2 in quality.r2.items())
    yield f"keeps {kept_shares} (R^2); effective rank {quality.effective_rank:.1f}"
    if quality.cka:
        yield "teachers alike (linear CKA): " + ", ".join(f"{pair} {value:.2f}" for pair, value in quality.cka.items())
    if quality.readable:
        losses = ", ".join(f"{share:.2f} of {name}" for name, share in quality.readable.items())
        yield f"heads on it leave {losses} (loss; 1: that of a constant)"
    for teacher, r2 in quality.r2.items():
        if r2 < ENOUGH:
            yield f"less than {ENOUGH} of {teacher} is left: raise dims, or take another fusion, if students should have it"


def effective_rank(covariance: Tensor) -> float:
    shares = torch.linalg.eigvalsh(covariance).clamp(min=0)
    shares = shares / shares.sum().clamp(min=1e-12)
    return (-(shares * shares.clamp(min=1e-30).log()).sum()).exp().item()


def cka(c: Tensor, a: slice, b: slice) -> float:
    """||C_ab||^2 / (||C_aa|| ||C_bb||), Frobenius (Kornblith et al., 1905.00414)."""
    return (c[a, b].square().sum() / (c[a, a].norm() * c[b, b].norm()).clamp(min=1e-12)).item()
