"""Objective, training loop and checkpoints, on a task so small that learning it is a matter of a second."""

from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import save

from pipeline.balances.dwa import DWA
from pipeline.balances.famo import FAMO
from pipeline.balances.uncertainty import Uncertainty
from pipeline.checkpoints import load_network, save_network
from pipeline.encoders.image import ImageEncoder
from pipeline.evaluation.scoring import pooled
from pipeline.losses.cosine import CosineSmoothL1
from pipeline.losses.dist import DIST
from pipeline.losses.mse import MSE
from pipeline.losses.sparse import top_k
from pipeline.network import Network
from pipeline.project.class_spec import ClassSpec
from pipeline.tasks.multi_label import MultiLabel
from pipeline.tasks.segmentation import Segmentation
from pipeline.training import learning
from pipeline.training.learning import learn
from pipeline.training.objective import Objective, wanted
from pipeline.training.optimize import Diverged, Schedule, optimize
from tests.waits import Waits

TASK = {"corner": MultiLabel(classes=2)}
CPU = torch.device("cpu")
METHODS = {"methods": {"feature_loss": CosineSmoothL1()}}


def network(seed=0):
    torch.manual_seed(seed)
    return Network(ImageEncoder(width=8, blocks=1), TASK, {"image": torch.zeros(2, 1, 16, 16, dtype=torch.uint8)})


def scenes(rows, rng):
    """Class 0: a bright spot on the left; class 1: one on the right."""
    label = rng.integers(0, 2, (rows, 2)).astype(np.uint8)
    image = rng.integers(0, 40, (rows, 1, 16, 16)).astype(np.uint8)
    image[label[:, 0] == 1, :, 6:10, 2:6] = 250
    image[label[:, 1] == 1, :, 6:10, 10:14] = 120
    return image, label


def labelled(seed=0):
    rng = np.random.default_rng(seed)
    while True:
        image, label = scenes(32, rng)
        yield {"inputs/image": image, "labels/corner": label, "labelled/corner": rng.random(32) > 0.3}


def knowledge(seed=1):
    """A teacher that is sure and right, and whose feature says where the spots are."""
    rng = np.random.default_rng(seed)
    while True:
        image, label = scenes(32, rng)
        sure = (label * 8.0 - 4).astype(np.float16)
        spots = image[:, :, ::4, ::4].astype(np.float16) / 100 - 0.5
        yield {"inputs/image": image, "logits/t/corner": sure, "fused/spots": np.concatenate([spots, -spots], 1)}


class Split:
    """As much of a store as scoring needs."""

    fields = {"inputs/image": type("F", (), {"max_items": 0}), "labels/corner": type("F", (), {"max_items": 0})}
    n_rows, shard_rows = 200, 200

    def __init__(self):
        image, label = scenes(200, np.random.default_rng(7))
        self.arrays = {"inputs/image": image, "labels/corner": label}

    def read(self, name, rows):
        return self.arrays[name][rows]


def study(net, weights, updates=60, sources=None, precision="float32", **more):
    known, labels = sources or (knowledge(), labelled())
    schedule = Schedule(updates, learning_rate=0.02, weight_decay=0.01, precision=precision)
    return learn(
        net, TASK, weights, schedule, known, labels, val=Split(), evaluations=2, advance=lambda n: None, **METHODS | more
    )


@pytest.mark.parametrize("weights", [{"labels": 1.0}, {"logits": 1.0}, {"labels": 1.0, "logits": 1.0, "fused": 1.0}])
def test_a_network_learns_from_labels_from_logits_and_from_both(weights):
    sources = knowledge() if weights.keys() - {"labels"} else None, labelled() if "labels" in weights else None
    curve = study(network(), weights, sources=sources)
    assert [point["update"] for point in curve] == [30, 60]
    assert curve[-1]["val/corner/macro_AP"] > 0.95
    names = {"labels": "labels/corner", "logits": "logits/t/corner", "fused": "fused/spots"}
    for kind in weights:
        assert curve[1][names[kind]] < curve[0][names[kind]]


def test_a_network_learns_in_bfloat16_what_it_learns_in_float32():
    gradients, batches = {}, (sample(knowledge()), sample(labelled()))
    for precision in ("float32", "bfloat16"):
        objective = Objective(network(), TASK, {"labels": 1, "logits": 1}, *batches, precision=precision).train()
        objective.backward(objective(*batches))
        gradients[precision] = torch.cat([p.grad.flatten() for p in objective.parameters()])
        assert all(x.dtype == torch.float32 for x in objective.state_dict().values() if x.is_floating_point())
    exact, rough = gradients.values()
    assert 1e-4 < (rough - exact).norm() / exact.norm() < 0.05
    curve = study(network(), {"labels": 1.0, "logits": 1.0, "fused": 1.0}, precision="bfloat16")
    assert curve[-1]["val/corner/macro_AP"] > 0.95


def test_features_alone_train_the_trunk_and_heads_follow_without_it():
    net = network()
    study(net, {"fused": 1.0}, sources=(knowledge(), None))
    before = {name: x.clone() for name, x in net.encoder.state_dict().items()}
    curve = study(net, {"labels": 1.0}, sources=(None, labelled()), heads_only=True)
    assert all(torch.equal(x, before[name]) for name, x in net.encoder.state_dict().items())
    assert curve[-1]["val/corner/macro_AP"] > 0.9


def test_the_same_seed_learns_the_same_weights():
    one, two = network(), network()
    for net in (one, two):
        study(net, {"labels": 1.0, "logits": 1.0}, updates=5)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def sample(source):
    return {
        name: torch.from_numpy(x).float() if x.dtype == np.float16 else torch.from_numpy(x) for name, x in next(source).items()
    }


def test_a_term_is_about_1_before_anything_is_learnt():
    net = network()
    torch.nn.init.zeros_(net.heads["corner"].score.weight)
    torch.nn.init.constant_(net.heads["corner"].score.bias, -np.log(16))  # probability one half
    objective = Objective(net, TASK, {"labels": 1, "logits": 3}, sample(knowledge()), sample(labelled()))
    terms = objective(sample(knowledge()), sample(labelled()))
    assert terms["labels/corner"].item() == pytest.approx(1, abs=0.05)
    assert terms["logits/t/corner"].item() == pytest.approx(3, abs=0.15)


def test_a_rare_label_is_in_the_sample_that_scales_are_set_by():
    def rare():
        for number, batch in enumerate(labelled()):
            flag = np.zeros(32, bool)
            flag[0] = number == 20
            yield batch | {"labelled/corner": flag}

    found = learning.sample(rare())
    assert found["labelled/corner"].sum() == 1 and len(found["inputs/image"]) == 9 * 32


def test_rows_without_a_label_do_not_count():
    objective = Objective(network().eval(), TASK, {"labels": 1}, {}, sample(labelled()))
    batch = sample(labelled(seed=3))
    before = objective({}, batch)["labels/corner"]
    flipped = {**batch, "labels/corner": torch.where(batch["labelled/corner"][:, None], batch["labels/corner"], 7)}
    torch.testing.assert_close(objective({}, flipped)["labels/corner"], before)
    nobody = {**batch, "labelled/corner": torch.zeros(32, dtype=torch.bool)}
    assert objective({}, nobody)["labels/corner"] == 0


def test_what_knowledge_a_students_weights_ask_for():
    assert wanted("logits/t/corner", TASK, {"logits": 1})
    assert not wanted("logits/t/other", TASK, {"logits": 1})
    assert wanted("fused/x", TASK, {"fused": 1})
    assert not wanted("fused/x", TASK, {"logits": 1, "fused": 0})
    assert not wanted("labels/corner", TASK, {"labels": 1})


def test_the_rate_rises_and_falls():
    schedule = Schedule(100, 1.0, 0.0)
    rates = [schedule.rate(update) for update in range(100)]
    assert max(rates) == rates[9] == 1
    assert rates[0] == pytest.approx(0.1) and rates[-1] < 0.001


def test_a_loss_that_is_not_a_number_stops_at_once():
    objective = Objective(network(), TASK, {"logits": 1}, sample(knowledge()), {})

    def broken():
        for batch in knowledge():
            yield {**batch, "logits/t/corner": batch["logits/t/corner"] * np.float16(np.nan)}

    with pytest.raises(Diverged, match="not finite"):
        next(optimize(objective, Schedule(3, 0.1, 0.0), broken(), None))


def test_a_feature_on_another_grid_is_an_error():
    batch = sample(knowledge())
    batch["fused/spots"] = batch["fused/spots"][:, :, :2, :2]
    objective = Objective(network(), TASK, {"fused": 1}, batch, {}, CosineSmoothL1())
    with pytest.raises(ValueError, match=r"the target's grid is \(2, 2\), the student's \(4, 4\)"):
        objective(batch, {})


@pytest.mark.parametrize("content", [b"", b"junk" * 9, save({"x": torch.zeros(1)})])
def test_a_file_that_is_no_network_is_one_line(tmp_path, content):
    (tmp_path / "net.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="not a Stillroom network, or damaged"):
        load_network(tmp_path / "net.safetensors", CPU)


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (np.zeros((32, 3), "f4"), r"logits/t/corner: the teacher's are \(3,\) per row, the student's \(2,\)"),
        (np.zeros((32, 2, 4, 4), "f4"), r"the teacher's are \(2, 4, 4\) per row"),
    ],
)
def test_logits_of_another_shape_are_an_error(logits, message):
    with pytest.raises(ValueError, match=message):
        Objective(network(), TASK, {"logits": 1}, sample(knowledge()) | {"logits/t/corner": torch.from_numpy(logits)}, {})


def test_a_saved_network_comes_back_with_all_it_needs(tmp_path):
    encoder = ClassSpec.model_validate({"code": "pipeline/encoders/image.py", "class": "ImageEncoder", "width": 8, "blocks": 1})
    task = ClassSpec.model_validate({"code": "pipeline/tasks/multi_label.py", "class": "MultiLabel", "classes": 2})
    net = network().eval()
    shapes = {"image": [[1, 16, 16], "uint8"]}
    save_network(tmp_path / "net.safetensors", net, encoder, {"corner": task}, shapes, learned_from="abc")
    back, tasks, header = load_network(tmp_path / "net.safetensors", CPU)
    image = torch.from_numpy(scenes(4, np.random.default_rng(0))[0])
    torch.testing.assert_close(back({"image": image}).logits["corner"], net({"image": image}).logits["corner"])
    assert type(tasks["corner"]) is MultiLabel
    assert header["learned_from"] == "abc"
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]


def test_sparse_logits_that_lack_one_class_are_all_of_them():
    tasks = {"parts": Segmentation(classes=5, upscale=2, background_weight=1.0, temperature=1)}
    image = torch.from_numpy(scenes(32, np.random.default_rng(0))[0])
    net = Network(ImageEncoder(width=8, blocks=1), tasks, {"image": image[:2]}).eval()
    logits = torch.randn_like(net({"image": image}).logits["parts"]) * 3
    sparse = top_k(logits, 4)
    dense = {"inputs/image": image, "logits/t/parts": logits}
    few = {"inputs/image": image, "logits/t/parts/ids": sparse.ids, "logits/t/parts/log_probs": sparse.log_probs}
    found = [Objective(net, tasks, {"logits": 1}, batch, {}).eval()(batch, {}) for batch in (dense, few)]
    assert found[0].keys() == found[1].keys() == {"logits/t/parts"}
    torch.testing.assert_close(*(terms["logits/t/parts"] for terms in found), rtol=1e-3, atol=0)
    with pytest.raises(ValueError, match="sparse logits have a loss of their own"):
        Objective(net, tasks, {"logits": 1}, few, {}, logit_loss=DIST())


def test_a_chosen_logit_loss_is_for_softmaxes_alone():
    tasks = TASK | {"parts": Segmentation(classes=5, upscale=2, background_weight=1.0, temperature=2)}
    image = torch.from_numpy(scenes(32, np.random.default_rng(0))[0])
    net = Network(ImageEncoder(width=8, blocks=1), tasks, {"image": image[:2]}).eval()
    batch = {"inputs/image": image, **{f"logits/t/{task}": x.detach() * 2 for task, x in net({"image": image}).logits.items()}}
    own, chosen = (Objective(net, tasks, {"logits": 1}, batch, {}, logit_loss=loss).eval()(batch, {}) for loss in (None, MSE()))
    assert own["logits/t/corner"] == chosen["logits/t/corner"] and own["logits/t/parts"] != chosen["logits/t/parts"]


@pytest.mark.parametrize("kind", [Uncertainty, partial(DWA, every=5), FAMO])
def test_a_balanced_student_learns_as_an_unbalanced_one_does(kind):
    net = network()
    methods = {"feature_loss": CosineSmoothL1(), "balance": kind}
    curve = study(net, {"labels": 1.0, "logits": 1.0, "fused": 1.0}, methods=methods)
    assert curve[-1]["val/corner/macro_AP"] > 0.9


def test_positions_that_do_not_exist_do_not_count():
    tasks = {"parts": Segmentation(classes=5, upscale=1, background_weight=1.0, temperature=2)}
    image = torch.from_numpy(scenes(32, np.random.default_rng(0))[0])
    net = Network(ImageEncoder(width=8, blocks=1), tasks, {"image": image[:2]}).eval()
    mask = torch.rand(32, 4, 4) > 0.4
    known = {"fused/x": torch.randn(32, 3, 4, 4), "logits/t/parts": torch.randn(32, 5, 4, 4)}
    batch = {"inputs/image": image, "inputs/mask": mask, **known}
    other = batch | {name: torch.where(mask[:, None], x, 99.0) for name, x in known.items()}
    whole = {name: x for name, x in batch.items() if name != "inputs/mask"}
    torch.manual_seed(0)
    objective = Objective(net, tasks, {"logits": 1, "fused": 1}, batch, {}, CosineSmoothL1()).eval()
    torch.manual_seed(0)
    again = Objective(net, tasks, {"logits": 1, "fused": 1}, other, {}, CosineSmoothL1()).eval()
    assert objective(batch, {}) == again(other, {}) != objective(whole, {})


def test_what_is_pooled_are_positions_that_exist():
    x, mask = torch.tensor([[[1.0, 3.0, 11.0]]]), torch.tensor([[True, True, False]])
    assert pooled(x, mask).tolist() == [[2, 3]]
    assert pooled(x, None).tolist() == pooled(x, mask[:, :2]).tolist() == [[5, 11]]
    assert pooled(x[..., 0], mask).tolist() == [[1, 1]]
    assert pooled(x, torch.zeros(1, 3, dtype=torch.bool)).tolist() == [[0, 0]]


def test_labels_that_do_not_fit_their_task_are_one_line():
    few = {"corner": MultiLabel(classes=3)}
    net = Network(ImageEncoder(width=8, blocks=1), few, {"image": torch.zeros(2, 1, 16, 16, dtype=torch.uint8)})
    message = r"labels/corner: labels have 2 classes, the task 3; see tasks.corner in params.yaml"
    with pytest.raises(ValueError, match=message):
        Objective(net, few, {"labels": 1.0}, {}, {name: torch.from_numpy(x) for name, x in next(labelled()).items()})


class Number(MultiLabel):
    """A number a row: one who wrote it took labels for (B, 1)."""

    def misfit(self, label, grid):
        return None

    def loss(self, pred, label):
        return (pred - label).square().mean(1)


class Flat(Number):
    def head(self, width, grid):
        return torch.nn.Sequential(super().head(width, grid), torch.nn.Flatten(0))


@pytest.mark.parametrize(
    ("kind", "shape", "message"),
    [
        (Number, (8,), r"tasks.load: the loss of predictions \(2, 1\) and labels \(2,\) is \(2,\), .* its own row alone"),
        (Flat, (8, 1), r"tasks.load: the head gives \(1,\) for a row, expected \(1, C, \*grid\)"),
        (Number, (8, 1), None),
    ],
)
def test_a_task_of_ones_own_learns_row_by_row_or_not_at_all(kind, shape, message):
    tasks, image = {"load": kind(classes=1)}, torch.zeros(8, 1, 16, 16, dtype=torch.uint8)
    net = Network(ImageEncoder(width=8, blocks=1), tasks, {"image": image[:2]})
    label = torch.arange(8.0).reshape(shape)
    batch = {"inputs/image": image, "labels/load": label, "labelled/load": torch.ones(8, dtype=torch.bool)}
    if message is None:
        assert Objective(net, tasks, {"labels": 1.0}, {}, batch).scales
        return
    with pytest.raises(ValueError, match=message):
        Objective(net, tasks, {"labels": 1.0}, {}, batch)


def test_what_exists_is_counted_once_a_batch_however_many_terms_look_at_it():
    tasks = {"parts": Segmentation(classes=5, upscale=1, background_weight=1.0, temperature=2)}
    image = torch.from_numpy(scenes(8, np.random.default_rng(0))[0])
    net = Network(ImageEncoder(width=8, blocks=1), tasks, {"image": image[:2]})
    logits = {f"logits/{teacher}/parts": torch.randn(8, 5, 4, 4) for teacher in "tuv"}
    batch = {"inputs/image": image, "inputs/mask": torch.rand(8, 4, 4) > 0.4, "fused/x": torch.randn(8, 3, 4, 4), **logits}
    objective = Objective(net, tasks, {"logits": 1, "fused": 1}, batch, {}, CosineSmoothL1())
    with Waits() as waits:
        objective.backward(objective(batch, {}))
    assert waits.found.total() == waits.found["nonzero"] == 1
