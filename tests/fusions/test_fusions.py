from functools import partial

import numpy as np
import pytest
import torch

from pipeline.fusions.fusion import Fusion
from pipeline.fusions.gcca import GCCA
from pipeline.fusions.moments import Moments
from pipeline.fusions.none import NoFusion
from pipeline.fusions.pca import PCA
from pipeline.fusions.phi_s import PhiS
from pipeline.fusions.quality import assess, lines, split_rows
from pipeline.fusions.random import Random
from pipeline.fusions.task_aware import TaskAware
from tests.laws import check_fusion


def features(rows=96, grid=(2, 2)):
    rng = torch.Generator().manual_seed(0)
    shared = torch.randn(rows, 3, *grid, generator=rng)
    loud = 100 * torch.randn(rows, 4, *grid, generator=rng)
    return {
        "a/trunk": torch.cat([shared, shared[:, :1] + 0.1 * torch.randn(rows, 1, *grid, generator=rng)], 1) + 5,
        "b/trunk": loud,
    }


@pytest.mark.parametrize("grid", [(2, 2), (5,), ()], ids=["map", "sequence", "vector"])
@pytest.mark.parametrize("make", [NoFusion, PhiS, *(partial(kind, dims=4) for kind in (PCA, GCCA, Random, TaskAware))])
def test_laws(make, grid):
    check_fusion(make, features(grid=grid))


def test_moments_equal_those_of_the_whole():
    x = features()
    moments = Moments({name: v[i : i + 5] for name, v in x.items()} for i in range(0, 96, 5))
    flat = torch.cat(list(x.values()), 1).transpose(1, 0).flatten(1).double()
    torch.testing.assert_close(moments.mean, flat.mean(1), atol=1e-8, rtol=0)
    torch.testing.assert_close(moments.covariance, torch.cov(flat, correction=0), atol=1e-8, rtol=1e-10)


def test_moments_do_not_cancel_far_from_zero():
    x = torch.randn(1000, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    moments = Moments({"a/trunk": (x + 1e8)[i : i + 10]} for i in range(0, 1000, 10))
    torch.testing.assert_close(moments.covariance.item(), x.var(correction=0).item(), rtol=1e-6, atol=0)


def test_no_fusion_keeps_a_dead_channel_at_zero():
    x = {"a/trunk": torch.randn(64, 2, 3, generator=torch.Generator().manual_seed(2))}
    x["a/trunk"][:, 1] = 7.0
    assert NoFusion().fit([x]).transform(x)["a/trunk"][:, 1].abs().max() == 0


def test_pca_is_not_won_by_the_loudest_teacher():
    """Scaled, the loud teacher (four channels of noise) has as much to say as the quiet one, and no more."""
    x = features()
    pca = PCA(dims=4).fit([x])
    projection = pca.projections["components"]
    share = projection[:4].norm() / (projection[4:] * 100).norm()
    assert 0.5 < share < 2


def test_pca_of_all_dims_keeps_everything():
    assert PCA(dims=8).fit([features()]).energy == pytest.approx(1)


def test_errors_name_what_is_wrong():
    with pytest.raises(ValueError, match="9 components asked of 8 channels"):
        PCA(dims=9).fit([features()])
    with pytest.raises(ValueError, match="differ in kind"):
        PCA(dims=2).fit([{"a/x": torch.zeros(2, 3, 4, 4), "b/x": torch.zeros(2, 3)}])
    with pytest.raises(ValueError, match="empty"):
        NoFusion().fit([])


def views(rows=4000, seed=0):
    """Three teachers that share three quiet directions; each has loud ones of its own. And those three."""
    rng = torch.Generator().manual_seed(seed)
    shared = torch.randn(rows, 3, generator=rng)
    draw = lambda *shape: torch.randn(*shape, generator=rng)  # noqa: E731
    return {f"{t}/x": shared @ draw(3, 8) + 4 * draw(rows, 3) @ draw(3, 8) + 0.1 * draw(rows, 8) for t in "abc"}, shared


def explained(target, code):
    """R^2 of a linear regression of target on code."""
    code = torch.cat([code, torch.ones(len(code), 1)], 1).double()
    left = target.double() - code @ torch.linalg.lstsq(code, target.double()).solution
    return 1 - (left.var(0) / target.double().var(0)).mean().item()


def test_gcca_finds_what_is_shared_and_pca_what_is_loud():
    x, shared = views()
    found = {kind: explained(shared, kind(dims=3).fit([x]).transform(x)["components"]) for kind in (GCCA, PCA)}
    assert found[GCCA] > 0.9 and found[PCA] < 0.5


def test_gcca_gives_the_rest_to_what_is_private():
    x, shared = views()
    gcca = GCCA(dims=12).fit([x])
    code = gcca.transform(x)["components"]
    assert gcca.shared == 3
    assert explained(shared, code[:, :3]) > 0.9
    joined = torch.cat(list(x.values()), 1)
    assert explained(joined, code) > 0.98 > 0.6 > explained(joined, code[:, :3])
    correlation = torch.corrcoef(code.T)
    assert correlation[:3, 3:].abs().max() < 1e-3


def test_phi_s_gives_every_channel_variance_one_and_keeps_the_ratios_of_distances():
    x = {name: v[:, :7] * torch.tensor([1.0, 50, 0.1, 3, 1, 1, 0]) + 9 for name, v in views()[0].items()}
    turned = PhiS().fit([x]).transform(x)
    for name, values in x.items():
        torch.testing.assert_close(turned[name].var(0, correction=0), torch.ones(7), atol=1e-3, rtol=0)
        ratio = torch.pdist(turned[name][:50]) / torch.pdist(values[:50])
        torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), atol=0, rtol=1e-3)


def test_a_random_projection_is_the_same_every_time_and_knows_no_data():
    x = features()
    a, b = (Random(dims=4).fit([x]).projections["components"] for _ in range(2))
    torch.testing.assert_close(a, b, atol=0, rtol=0)
    other = Random(dims=4, seed=1).fit([x]).projections["components"]
    assert (a - other).abs().max() > 0.01


def test_teachers_on_a_finer_grid_are_averaged_onto_the_coarser():
    x = features(grid=(4, 4))
    x["b/trunk"] = torch.nn.functional.avg_pool2d(x["b/trunk"], 2)
    coarse = {**x, "a/trunk": torch.nn.functional.avg_pool2d(x["a/trunk"], 2)}
    mixed, plain = (PCA(dims=4).fit([f]).transform(f)["components"] for f in (x, coarse))
    assert mixed.shape[2:] == (2, 2)
    torch.testing.assert_close(mixed, plain, atol=1e-5, rtol=0)


def linear_cka(a, b):
    """From features, not covariances (1905.00414, equation 7)."""
    a, b = (x.double() - x.double().mean(0) for x in (a, b))
    return ((a.T @ b).norm() ** 2 / ((a.T @ a).norm() * (b.T @ b).norm())).item()


def centred(x):
    return x.double() - x.double().mean(0)


def test_quality_is_what_regression_and_features_say():
    x, _ = views()
    fit, held = ({name: v[part] for name, v in x.items()} for part in (slice(0, 3000), slice(3000, None)))
    fusion = PCA(dims=8).fit([fit])
    found = assess(fusion, [fit], ({name: v[i : i + 100] for name, v in held.items()} for i in range(0, 1000, 100)))
    codes = [centred(fusion.transform(part)["components"]) for part in (fit, held)]
    for name, values in held.items():
        weights = torch.linalg.lstsq(codes[0], centred(fit[name])).solution
        left = centred(values) - codes[1] @ weights
        assert found.r2[name] == pytest.approx(1 - (left.square().sum() / centred(values).square().sum()).item(), abs=1e-4)
    assert found.cka["a/x | b/x"] == pytest.approx(linear_cka(held["a/x"], held["b/x"]), abs=1e-6)
    assert 1 < found.effective_rank <= 8


class Opaque(Fusion):
    """Another one, of which nothing is known but what it makes."""

    def __init__(self, inner):
        self.inner = inner

    def fit(self, batches):
        return self

    def transform(self, features):
        return self.inner.transform(features)


@pytest.mark.parametrize("fusion", [PCA(dims=4), PhiS(), NoFusion()], ids=lambda fusion: type(fusion).__name__)
@pytest.mark.parametrize("factor", [1, 2], ids=["one grid", "two grids"])
def test_what_an_affine_fusion_keeps_follows_from_the_moments_it_was_fitted_on(fusion, factor):
    x = features(grid=(4, 4))
    x["b/trunk"] = torch.nn.functional.avg_pool2d(x["b/trunk"], factor)
    seen, held = ({name: v[rows] for name, v in x.items()} for rows in (slice(0, 70), slice(70, None)))
    found, measured = (assess(x, [seen], [held]) for x in (fusion.fit([seen]), Opaque(fusion)))
    assert found.effective_rank == pytest.approx(measured.effective_rank)
    assert (found.r2, found.cka) == (pytest.approx(measured.r2), pytest.approx(measured.cka))


def test_no_view_of_a_sample_that_a_fusion_is_judged_by_is_fitted_on():
    rng = np.random.default_rng(0)
    ids = rng.permutation(np.repeat(rng.integers(0, 256, (95, 16), "u1"), 3, 0))
    seen, held = split_rows(ids)
    assert not {bytes(x) for x in ids[seen]} & {bytes(x) for x in ids[held]}
    assert sorted([*seen, *held]) == list(range(285))
    assert len(held) == 27
    assert list(map(len, split_rows(ids[:2]))) == [1, 1]


def test_few_rows_do_not_make_a_fusion_look_good():
    """64 of 768 directions that are all alike hold a twelfth, of 60 rows too, which 64 numbers could say by heart."""
    x = {"a/x": torch.randn(600, 768, generator=torch.manual_seed(0))}
    seen, held = ({name: v[part] for name, v in x.items()} for part in (slice(0, 540), slice(540, None)))
    assert assess(Random(dims=64).fit([seen]), [seen], [held]).r2["a/x"] < 0.1


def test_what_a_fusion_drops_is_said_by_name():
    x, _ = views()
    few = assess(PCA(dims=2).fit([x]), [x], [x])
    whole = assess(PCA(dims=24).fit([x]), [x], [x])
    assert min(whole.r2.values()) > 0.999
    assert not [line for line in lines(whole) if "less than" in line]
    assert len([line for line in lines(few) if "less than" in line]) == sum(r2 < 0.8 for r2 in few.r2.values()) > 0


@pytest.mark.parametrize("make", [NoFusion, PhiS, *(partial(kind, dims=4) for kind in (PCA, GCCA, Random, TaskAware))])
def test_dead_and_doubled_channels_do_no_harm(make):
    x = features()
    x["a/trunk"][:, 1], x["b/trunk"][:, 2] = 7.0, x["b/trunk"][:, 1]
    x["c/dead"] = torch.zeros(96, 2, 2, 2)
    fused = make().fit([x]).transform(x)
    for name, values in fused.items():
        assert values.isfinite().all() and values.abs().max() < 50
        assert name == "c/dead" or values.var() > 0.1
