import pytest
import torch

from pipeline.fusions.moments import Moments
from pipeline.fusions.none import NoFusion
from pipeline.fusions.pca import PCA
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
@pytest.mark.parametrize("make", [NoFusion, lambda: PCA(dims=4)], ids=["none", "pca"])
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
    share = pca.projection[:4].norm() / (pca.projection[4:] * 100).norm()
    assert 0.5 < share < 2


def test_pca_of_all_dims_keeps_everything():
    assert PCA(dims=8).fit([features()]).energy == pytest.approx(1)


def test_errors_name_what_is_wrong():
    with pytest.raises(ValueError, match="9 components asked of 8 channels"):
        PCA(dims=9).fit([features()])
    with pytest.raises(ValueError, match="different grids"):
        PCA(dims=2).fit([{"a/x": torch.zeros(2, 3, 4, 4), "b/x": torch.zeros(2, 3, 2, 2)}])
    with pytest.raises(ValueError, match="empty"):
        NoFusion().fit([])
