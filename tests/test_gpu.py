"""The gpu tier, `pytest -m gpu`: what a GPU does is what a CPU does; the small project of test_repro.py on an accelerator."""

import copy
import warnings
from functools import partial
from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_map

from pipeline.balances.dwa import DWA
from pipeline.balances.famo import FAMO
from pipeline.balances.gradients import MGDA, UPGrad
from pipeline.balances.uncertainty import Uncertainty
from pipeline.batches.batches import input_fields, part, tensors
from pipeline.batches.pools import load
from pipeline.batches.staging import Staging
from pipeline.checkpoints import load_network
from pipeline.encoders.bag_of_words import BagOfWords
from pipeline.encoders.text import TextEncoder
from pipeline.encoders.two_tower import TwoTower
from pipeline.fusions.gcca import GCCA
from pipeline.fusions.none import NoFusion
from pipeline.fusions.pca import PCA
from pipeline.fusions.phi_s import PhiS
from pipeline.fusions.random import Random
from pipeline.fusions.task_aware import TaskAware
from pipeline.losses.cosine import CosineSmoothL1
from pipeline.losses.rrd import RRD
from pipeline.network import Network
from pipeline.project.class_spec import CLONE, import_file
from pipeline.stores.store import open_store
from pipeline.tasks.classification import Classification
from pipeline.tasks.rating import Rating
from pipeline.tasks.response import Response
from pipeline.tasks.tagging import Tagging
from pipeline.teachers.agreement import against_teacher
from pipeline.training.learning import Lesson, learn_together
from pipeline.training.objective import Objective
from pipeline.training.optimize import Schedule, optimize

pytestmark = pytest.mark.gpu

shared = import_file(CLONE / "tests" / "test_repro.py")
losses = import_file(CLONE / "tests" / "losses" / "test_losses.py")
tasks = import_file(CLONE / "tests" / "tasks" / "test_tasks.py")
students = import_file(CLONE / "tests" / "training" / "test_stack.py")
CPU, DEVICE = torch.device("cpu"), torch.device("cuda")
CLOSE = {"rtol": 1e-3, "atol": 1e-4}

ROWS, LONGEST = 32, 6
LABELLED = [(tasks.detection, tasks.BOXES), (tasks.segmentation, tasks.MAPS), (tasks.multi_label, tasks.PRESENT)]
LABELLED += [(tasks.classification, tasks.CLASSES)]
WORDS = {"whole": Classification(classes=3, temperature=1), "parts": Tagging(kinds=["a", "b"], temperature=2)}
LISTS = {"click": Response(), "stars": Rating()}


def words(rng):
    """A batch of texts that differ in length, as a store has them: (knowledge, labelled)."""
    there = np.arange(LONGEST) < rng.integers(2, LONGEST + 1, (ROWS, 1))
    tokens, mask = np.where(there, rng.integers(1, 40, there.shape), 0).astype(np.uint16), {"inputs/mask": there}
    inputs = mask | {
        "inputs/tokens_first": tokens,
        "inputs/words_first": np.where(there, np.arange(LONGEST), 0).astype(np.uint8),
    }
    ids = rng.integers(0, 3, (ROWS, 1)).astype(np.uint16)
    said = {"logits/t/whole/ids": ids, "logits/t/whole/log_probs": np.log(np.full((ROWS, 2), 0.5, np.float32))}
    said |= {f"logits/{t}/parts": rng.standard_normal((ROWS, 5, LONGEST)).astype(np.float16) for t in "tu"}
    labels = {"labels/whole": rng.integers(-1, 3, ROWS).astype(np.int8)}
    labels |= {"labels/parts": np.where(there, rng.integers(0, 5, there.shape), -1).astype(np.int16)}
    return finished(rng, inputs, said, labels)


def lists(rng):
    """The same of lists of candidates."""
    there = np.arange(LONGEST) < rng.integers(2, LONGEST + 1, (ROWS, 1))
    ids = {"inputs/user": rng.integers(0, 9, (ROWS, 2)), "inputs/item": rng.integers(0, 9, (ROWS, 2, LONGEST))}
    inputs = {"inputs/mask": there} | {name: x.astype(np.uint16) for name, x in ids.items()}
    said = {f"logits/t/{task}": np.where(there, rng.standard_normal(there.shape), -30).astype(np.float16) for task in LISTS}
    clicks = np.stack([np.where(there, rng.integers(0, 2, there.shape), -1), *rng.integers(0, 9, (2, *there.shape))], 2)
    labels = {"labels/click": clicks.astype(np.int32), "labels/stars": (there * rng.integers(0, 6, there.shape)).astype("f4")}
    return finished(rng, inputs, said, labels)


def finished(rng, inputs, said, labels):
    fused = {"fused/x": rng.standard_normal((ROWS, 4, LONGEST)).astype(np.float16)}
    flags = {f"labelled/{name.split('/')[1]}": rng.random(ROWS) > 0.3 for name in labels}
    return {**inputs, **said, **fused}, {**inputs, **labels, **flags}


TEXT = {"input": "first", "vocabulary": 40, "width": 8}
STUDENTS = {
    "bag of words": (words, partial(BagOfWords, **TEXT), WORDS, {}),
    "transformer": (words, partial(TextEncoder, **TEXT, layers=1, heads=2, dropout=0.0), WORDS, {}),
    "lists": (lists, partial(TwoTower, user=[9, 9], item=[9, 9], width=8), LISTS, {"logit_loss": RRD()}),
    **{
        kind.__name__: (words, partial(BagOfWords, **TEXT), WORDS, {"balance": kind})
        for kind in (DWA, FAMO, Uncertainty, UPGrad, MGDA)
    },
}


def learner(name, device):
    """An objective, and ten batches to learn from, (knowledge, labelled) of each."""
    make, encoder, own, methods = STUDENTS[name]
    rng = np.random.default_rng(0)
    batches = [make(rng) for _ in range(10)]
    known, labels = (tensors(x, device) for x in batches[0])
    torch.manual_seed(0)
    sample = part(tensors(batches[0][0], CPU), "inputs")
    network = Network(encoder(), own, {key: x[:2] for key, x in sample.items()}).to(device)
    weights = {"fused": 1.0, "logits": 1.0, "labels": 1.0}
    methods = {"feature_loss": CosineSmoothL1(), **methods}
    return Objective(network, own, weights, known, labels, **methods).to(device).train(), batches


def on(device, x):
    return tree_map(lambda part: part.to(device) if isinstance(part, torch.Tensor) else part, x)


@pytest.mark.parametrize("name", STUDENTS)
def test_a_student_learns_what_it_does_on_a_cpu(name):
    found = []
    for device in (CPU, DEVICE):
        objective, batches = learner(name, device)
        steps = optimize(objective, Schedule(10, 1e-3, 0.01), *map(iter, zip(*batches, strict=True)))
        found.append([{term: x.item() for term, x in terms.items()} for _, terms in steps])
    for here, there in zip(*found, strict=True):
        assert there == pytest.approx(here, rel=1e-2, abs=1e-3)


@pytest.mark.parametrize("name, most", [("bag of words", 3), ("lists", 2), ("DWA", 3), ("FAMO", 3)])
def test_a_step_seldom_waits_for_the_device(name, most):
    """For the norm of the gradient, for which positions exist, and a text's for its largest token."""
    objective, batches = learner(name, DEVICE)
    staged = [map(Staging(DEVICE), kind) for kind in zip(*batches, strict=True)]
    steps = optimize(objective, Schedule(10, 1e-3, 0.01), *staged)
    list(islice(steps, 5))
    with warnings.catch_warnings(record=True) as waits:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            next(steps)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    told = [str(warning.message) for warning in waits if "synchronizing" in str(warning.message)]
    assert len(told) <= most, told


def test_staged_batches_are_the_rows_however_far_the_device_is_behind():
    stage, rng, sums = Staging(DEVICE), np.random.default_rng(0), []
    busy, rows = torch.rand(4096, 4096, device=DEVICE), [rng.integers(0, 255, (256, 2**15), np.uint8) for _ in range(8)]
    buffer = np.empty_like(rows[0])
    for x in rows:
        np.copyto(buffer, x)  # as a pool does: rows are valid until the next are drawn
        busy = busy @ busy / 2048
        sums.append(stage({"inputs/x": buffer})["inputs/x"].long().sum())
    assert [x.item() for x in sums] == [int(x.sum()) for x in rows]


@pytest.mark.parametrize("loss", losses.CHOICES, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("shape", [(8, 6), (8, 6, 4, 3)], ids=["vectors", "maps"])
def test_a_loss_is_what_it_is_on_a_cpu(loss, shape):
    student, target = (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in range(2))
    found = []
    for device in (CPU, DEVICE):
        x = student.to(device).requires_grad_()
        value = loss(x, target.to(device))
        found.append((value.detach().cpu(), torch.autograd.grad(value.sum(), x)[0].cpu()))
    torch.testing.assert_close(*reversed(found), **CLOSE)


@pytest.mark.parametrize("task, label", LABELLED, ids=lambda x: type(x).__name__)
def test_a_task_is_judged_as_on_a_cpu(task, label):
    torch.manual_seed(0)
    feature, head = torch.randn(len(label), 8, 6, 6), task.head(8, (6, 6))
    found = []
    for device in (CPU, DEVICE):
        pred, mine = copy.deepcopy(head).to(device)(feature.to(device)).detach(), label.to(device)
        assert task.answers(pred).keys()
        told = task.loss(pred, mine), task.distill_loss(pred, pred.flip(0)), task.implied(pred)
        found.append((on(CPU, told), task.summarize([task.tally(pred, mine)])))
    torch.testing.assert_close(*reversed(found), **CLOSE)


@pytest.mark.parametrize("make", [NoFusion, PhiS, *(partial(kind, dims=4) for kind in (PCA, GCCA, Random, TaskAware))])
def test_a_fusion_makes_what_it_makes_on_a_cpu(make):
    draw, x = torch.Generator().manual_seed(0), torch.arange(1.0, 8).view(-1, 1, 1)
    seen = x * torch.randn(96, 7, 2, 2, generator=draw)
    features = {"a/trunk": seen[:, :4], "b/trunk": seen[:, 2:]}
    fused = [make().fit([on(device, features)]).transform(on(device, features)) for device in (CPU, DEVICE)]
    assert all(x.device.type == DEVICE.type for x in fused[1].values())
    torch.testing.assert_close(on(CPU, fused[1]), fused[0], **CLOSE)


def test_a_stack_learns_what_each_would_alone():
    def taught(shape):
        lessons = [Lesson(**{**vars(x), "network": x.network.to(DEVICE), "stack_key": shape}) for x in students.lessons()]
        curves = learn_together(lessons, students.rows(1, "knowledge"), students.rows(2, "labels"), **students.MORE)
        return curves, [lesson.network for lesson in lessons]

    (stacked, networks), (alone, others) = taught("flat"), taught("")
    for curve, expected in zip(stacked, alone, strict=True):
        for found, point in zip(curve, expected, strict=True):
            assert found == pytest.approx(point, rel=1e-2)
    for network, other in zip(networks, others, strict=True):
        torch.testing.assert_close(network.state_dict(), other.state_dict(), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_stage_runs_on_a_gpu_and_students_answer_as_on_a_cpu(tmp_path, precision):
    def change(params):
        shared.make_small(params)
        params["device"] = DEVICE.type
        params["train_teacher"]["precision"] = params["distill"]["precision"] = precision

    project = shared.begin(tmp_path / "project", change)
    assert len(shared.repro(project)) == 17
    transfer = open_store(project / "data/knowledge/transfer.zarr")
    for path in sorted((project / "data/features").glob("*.zarr")):
        store, weights = open_store(path), project / "data/teachers" / path.stem / "teacher.safetensors"
        assert store.identity["device"] == DEVICE.type
        for field in against_teacher(store, transfer, weights, 64, CPU):
            assert not field.differing, field
    val = open_store(project / "data/splits/val.zarr")
    rows = part(load(val, input_fields(val), slice(0, 20)), "inputs")
    of_stages, swept = (sorted(project.glob(f"data/{of}")) for of in ("students/*/seed-*/*", "sweep/students/*"))
    assert of_stages and swept
    for file in of_stages + swept:
        here, there = (load_network(file, device)[0](tensors(rows, device)).logits for device in (CPU, DEVICE))
        for task, x in here.items():
            np.testing.assert_allclose(there[task].detach().cpu(), x.detach(), rtol=1e-2, atol=1e-2, err_msg=f"{file} {task}")
