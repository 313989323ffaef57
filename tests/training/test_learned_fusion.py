"""A learned fusion: the laws that training leaves it, and what it keeps that principal components lose."""

import numpy as np
import pytest
import torch

from pipeline.fusions.pca import PCA
from pipeline.fusions.quality import assess, lines
from pipeline.fusions.task_aware import TaskAware
from pipeline.stores.layout import Field
from pipeline.stores.store import open_aligned
from pipeline.stores.writer import StoreWriter
from pipeline.tasks.multi_label import MultiLabel
from pipeline.tasks.segmentation import Segmentation
from pipeline.training.learned_fusion import learn_fusion, taught_rows, training_rows
from tests.fusions.test_fusions import explained
from tests.laws import take

CPU = torch.device("cpu")
TASKS = {
    "parts": Segmentation(classes=3, upscale=1, background_weight=1.0, temperature=1),
    "any": MultiLabel(classes=2),
    "other": MultiLabel(classes=9),
}


def rows(dead=False, count=256):
    """Two teachers, loud in five directions that decide nothing; two that are quiet decide the answers of both."""
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((count, 7, 3, 2))
    mixed = [rng.standard_normal((7, 6)) * np.array([0.3, 0.3, 2, 2, 2, 2, 2])[:, None] for _ in "ab"]
    found = {f"features/{t}/trunk": spread(hidden, mix) for t, mix in zip("ab", mixed, strict=True)}
    if dead:
        found["features/a/trunk"][:, 1] = 7
        found["features/a/trunk"][:, 2] = found["features/a/trunk"][:, 3]
        found["features/c/trunk"] = np.zeros((count, 2, 3, 2), np.float32)
    found["logits/a/parts"] = spread(hidden[:, :2], 3 * rng.standard_normal((2, 3)))
    found["logits/b/any"] = np.log(np.exp(found["logits/a/parts"][:, :2] - 4).sum((2, 3)))
    return found


def spread(x, matrix):
    return np.einsum("bkhw,kd->bdhw", x, matrix).astype(np.float32)


def cut(found, first, end):
    return {name: x[first:end] for name, x in found.items()}


def features(found):
    return {name.removeprefix("features/"): torch.from_numpy(x) for name, x in found.items() if name.startswith("features/")}


def flat(x):
    """One line a position."""
    return x.flatten(2).transpose(1, 2).flatten(0, 1)


@torch.inference_mode()  # as in the stage
def learnt(found, seed=0, dims=5, updates=150):
    torch.manual_seed(seed)
    fusion = TaskAware(dims=dims, updates=updates, batch_size=64).fit([features(found)])
    counted = []
    seen = lambda: (cut(found, i, i + 64) for i in range(0, 192, 64))  # noqa: E731
    read = learn_fusion(fusion, TASKS, seen, iter([cut(found, 192, 256)]), CPU, counted.append)
    assert sum(counted) == training_rows(fusion)
    return fusion, read


def test_it_keeps_what_decides_where_components_keep_what_is_loud():
    found = rows()
    fusion, read = learnt(found)
    logits = flat(torch.from_numpy(found["logits/a/parts"]))
    kept, lost = (flat(f.transform(features(found))["components"]) for f in (fusion, PCA(dims=5).fit([features(found)])))
    assert explained(logits, kept) > 0.9 > 0.1 > explained(logits, lost)
    assert min(assess(fusion, [features(found)], [features(found)]).r2.values()) > 0.5
    assert read.keys() == {"logits/a/parts", "logits/b/any"} and read["logits/a/parts"] < 0.3
    assert "leave 0." in "".join(lines(assess(fusion, [features(found)], [features(found)])._replace(readable=read)))


def test_before_it_learns_it_is_pca():
    found = features(rows())
    a, b = (kind(dims=5).fit([found]).transform(found)["components"] for kind in (TaskAware, PCA))
    torch.testing.assert_close(a, b, atol=1e-4, rtol=0)


@pytest.mark.parametrize("dead", [False, True])
def test_the_laws_that_training_leaves(dead):
    found = rows(dead)
    fusion, _ = learnt(found, updates=20)
    x = features(found)
    code = fusion.transform(x)["components"]
    assert code.isfinite().all() and code.dtype == torch.float32 and code.shape == (256, 5, 3, 2)
    order = torch.randperm(256, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(fusion.transform(take(x, order))["components"], code[order], atol=1e-5, rtol=0)
    channels = code.transpose(0, 1).flatten(1).double()
    assert channels.mean(1).abs().max() < 1e-4
    assert channels.var(1, correction=0).mean().item() == pytest.approx(1, abs=1e-3)


def test_the_same_seed_the_same_bytes():
    found = rows()
    a, b, other = (learnt(found, seed, updates=20)[0].projections["components"] for seed in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, other)


def test_a_teacher_on_a_grid_that_no_head_has_is_an_error():
    found = rows()
    found["logits/a/parts"] = found["logits/a/parts"].repeat(2, 2)
    with pytest.raises(ValueError, match=r"logits/a/parts: the teacher's grid is \(6, 2\), that of a head .* \(3, 2\)"):
        learnt(found)


def test_rows_that_teach_are_read_side_by_side_whatever_their_chunks(tmp_path):
    rng = np.random.default_rng(0)
    stored = {
        "transfer": {"inputs/x": rng.random((40, 2, 1), "f4"), "inputs/mask": rng.random((40, 2)) > 0.5},
        "a": {"features/a/t": rng.random((40, 3, 2), "f4"), "logits/a/task": rng.random((40, 4, 2), "f4")},
        "b": {"features/b/t": rng.random((40, 5, 2), "f4")},
    }
    for chunk_rows, (name, arrays) in zip((4, 5, 10), stored.items(), strict=True):
        fields = {k: Field(x.shape[1:], x.dtype.name, "raw", chunk_rows=chunk_rows) for k, x in arrays.items()}
        ids = np.arange(40, dtype="u1")[:, None].repeat(16, 1)
        writer = StoreWriter(tmp_path / name, ids, np.zeros(40, "i4"), fields, identity={}, shard_rows=20)
        writer.write_rest(lambda at, arrays=arrays: {k: x[at] for k, x in arrays.items()})
        writer.publish()
    inputs, *stores = open_aligned(*(tmp_path / name for name in stored))
    batches = list(taught_rows(inputs, stores, 16, slice(0, 30)))
    assert [len(batch["features/b/t"]) for batch in batches] == [16, 4, 10]
    expected = {k: x for arrays in stored.values() for k, x in arrays.items() if k != "inputs/x"}
    assert batches[0].keys() == expected.keys()
    for name, x in expected.items():
        np.testing.assert_array_equal(np.concatenate([batch[name] for batch in batches]), x[:30])
