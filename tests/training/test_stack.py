"""Students that train together: on the same batches, to the same weights as each alone."""

import threading
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.encoders.image import ImageEncoder
from pipeline.evaluation.scoring import score
from pipeline.losses.cosine import CosineSmoothL1
from pipeline.network import Network
from pipeline.tasks.multi_label import MultiLabel
from pipeline.tasks.segmentation import Segmentation
from pipeline.training import learning
from pipeline.training.learning import Learner, Lesson, flat, learn, learn_together, quality
from pipeline.training.optimize import Diverged, Schedule
from pipeline.training.stack import Stack, batched_attention, optimize_stack, shared, side_by_side
from tests.waits import Waits

CPU = torch.device("cpu")
TASKS = {"parts": Segmentation(classes=3, upscale=1, background_weight=0.5, temperature=2), "whole": MultiLabel(classes=2)}
METHODS = {"feature_loss": CosineSmoothL1()}


class Flat(nn.Module):
    """Layers that stack on a CPU: linear, normalised over the batch, attention."""

    def __init__(self, width=8, norm=nn.BatchNorm1d):
        super().__init__()
        # Without biases: before a normalisation, and of keys, they have no gradient but rounding, by which Adam moves them.
        self.rise, self.norm = nn.Linear(16, width, bias=False), norm(width)
        self.mix = nn.Linear(width, 3 * width, bias=False)

    def forward(self, inputs):
        patches = inputs["image"].float().div(64).sub(2).unfold(2, 4, 4).unfold(3, 4, 4).flatten(4).flatten(1, 3)  # (B, 16, 16)
        x = torch.relu(self.norm(self.rise(patches).transpose(1, 2)).transpose(1, 2))
        heads = self.mix(x).unflatten(2, (3, 2, -1)).permute(2, 0, 3, 1, 4)  # flash attention's shape
        x = x + nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        return {"trunk": x.transpose(1, 2).unflatten(2, (4, 4))}


def network(seed, encoder=Flat, tasks=TASKS):
    torch.manual_seed(seed)
    return Network(encoder(), tasks, {"image": torch.zeros(2, 1, 16, 16, dtype=torch.uint8)})


def rows(seed, kind):
    rng = np.random.default_rng(seed)
    while True:
        image = rng.integers(0, 255, (16, 1, 16, 16)).astype(np.uint8)
        grid = image[:, 0, ::4, ::4].astype(np.float32) / 128 - 1
        if kind == "knowledge":
            known = {"logits/t/parts": np.stack([grid, -grid, 0 * grid], 1).astype(np.float16), "fused/x": grid[:, None]}
            yield {"inputs/image": image, **known, "logits/t/whole": grid[:, :2, 0]}
        else:
            labels = {
                "labels/parts": (image[:, 0] > 128).astype(np.uint8),
                "labels/whole": (grid[:, :2, 0] > 0).astype(np.uint8),
            }
            yield {"inputs/image": image, **labels, **{f"labelled/{task}": rng.random(16) > 0.3 for task in TASKS}}


class Split:
    """As much of a store as scoring needs."""

    n_rows, shard_rows = 32, 32
    arrays = {name: x.repeat(2, 0) for name, x in next(rows(5, "labels")).items()}
    fields = {name: type("F", (), {"max_items": 0}) for name in arrays}

    def read(self, name, rows):
        return self.arrays[name][rows]


MORE = {"val": Split(), "evaluations": 2, "advance": lambda updates: None}
WEIGHTS = [{"labels": 1.0, "logits": 1.0, "fused": 1.0}, {"labels": 3.0, "logits": 0.5, "fused": 1.0}]
TASKS_COLDER = TASKS | {"parts": Segmentation(classes=3, upscale=1, background_weight=0.5, temperature=1)}


def lessons(encoder=Flat, shape="flat", updates=12, precision="float32"):
    """Three students that differ in seed, rate, decay, weights and temperature."""
    schedules = [Schedule(updates, rate, decay, precision) for rate, decay in ((0.01, 0.1), (0.03, 0.0), (0.01, 0.1))]
    weights = [*WEIGHTS, WEIGHTS[0]]
    tasks = [TASKS, TASKS, TASKS_COLDER]
    return [Lesson(network(k, encoder), tasks[k], weights[k], schedules[k], METHODS, "", shape) for k in range(3)]


def alone(lesson, **more):
    """The same lesson, with all batches to itself."""
    torch.set_rng_state(lesson.random)
    sources = rows(1, "knowledge"), rows(2, "labels")
    return learn(lesson.network, lesson.tasks, lesson.weights, lesson.schedule, *sources, methods=METHODS, **MORE | more)


def together(students, **more):
    return learn_together(students, rows(1, "knowledge"), rows(2, "labels"), **MORE | more)


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    assert torch.get_num_threads() == request.param
    torch.set_num_threads(before)


@pytest.fixture
def stacked(monkeypatch):
    """Students are stacked even on a CPU, where convolutions, of heads too, go side by side."""
    steps, step = [], Stack.step
    monkeypatch.setattr(learning, "stackable", lambda *objective_and_batches: True)
    monkeypatch.setattr(Stack, "step", lambda *given: steps.append(1) or step(*given))
    yield
    assert steps


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_side_by_side_is_alone_bit_for_bit(threads, precision):
    made = partial(lessons, partial(ImageEncoder, width=8, blocks=1), "conv", precision=precision)
    students = made()
    curves = together(students)
    torch.set_num_threads(1)
    for student, lesson, curve in zip(students, made(), curves, strict=True):
        assert alone(lesson) == curve
        states = zip(student.network.state_dict().values(), lesson.network.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in states)
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("stacked")
def test_stacked_is_alone_up_to_rounding():
    students = lessons()
    curves = together(students)
    for student, lesson, curve in zip(students, lessons(), curves, strict=True):
        expected = alone(lesson)
        for found, point in zip(curve, expected, strict=True):
            assert found == pytest.approx(point, rel=1e-3)
        for name, x in lesson.network.state_dict().items():
            torch.testing.assert_close(student.network.state_dict()[name], x, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.usefixtures("stacked")
def test_each_thread_has_a_stack(threads, monkeypatch):
    sizes = []
    monkeypatch.setattr(
        learning, "optimize_stack", lambda objectives, *more: sizes.append(len(objectives)) or optimize_stack(objectives, *more)
    )
    curves = together([lesson for _ in range(3) for lesson in lessons()])
    assert sorted(sizes) == {1: [9], 2: [4, 5]}[threads]
    for curve, again in zip(curves, 3 * together(lessons()), strict=True):
        for found, point in zip(curve, again, strict=True):
            assert found == pytest.approx(point, rel=1e-3)


@pytest.mark.usefixtures("stacked")
def test_a_label_that_most_batches_lack_is_learnt_alike_stacked_and_alone():
    """Without a gradient AdamW would pass a head over; in a stack its momentum goes on."""

    def rare():
        for number, batch in enumerate(rows(2, "labels")):
            yield batch if number % 3 == 0 else batch | {"labelled/whole": np.zeros(16, bool)}

    def students():
        return [Lesson(network(k, Flat), TASKS, {"labels": 1.0}, Schedule(12, 0.03, 0.1), stack_key="flat") for k in range(2)]

    found = students()
    learn_together(found, None, rare(), **MORE)
    for lesson, other in zip(found, students(), strict=True):
        learn(other.network, TASKS, other.weights, other.schedule, None, rare(), **MORE)
        for name, x in other.network.state_dict().items():
            torch.testing.assert_close(lesson.network.state_dict()[name], x, rtol=1e-3, atol=1e-4, msg=name)


def test_a_loss_that_branches_on_a_prediction_trains_side_by_side(monkeypatch):
    tasks = {"whole": MultiLabel(classes=2)}
    loss = tasks["whole"].loss
    monkeypatch.setattr(tasks["whole"], "loss", lambda pred, label: loss(pred if pred.max() < 1e6 else pred * 0, label))

    def students():
        return [
            Lesson(network(k, tasks=tasks), tasks, {"labels": 1.0}, Schedule(4, 0.01, 0), stack_key="wary") for k in range(2)
        ]

    found = students()
    learn_together(found, None, rows(2, "labels"), **MORE)
    for lesson, other in zip(found, students(), strict=True):
        learn(other.network, tasks, other.weights, other.schedule, None, rows(2, "labels"), **MORE)
        states = zip(lesson.network.state_dict().values(), other.network.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in states)


@pytest.mark.usefixtures("stacked")
def test_stacked_heads_leave_their_encoders_alone():
    students = lessons()
    before = [{name: x.clone() for name, x in s.network.encoder.state_dict().items()} for s in students]
    heads = [Lesson(s.network, s.tasks, {"labels": 1.0}, s.schedule, METHODS, "", "heads") for s in students]
    curves = learn_together(heads, None, rows(2, "labels"), heads_only=True, **MORE)
    for student, encoder, curve in zip(students, before, curves, strict=True):
        assert all(torch.equal(x, encoder[name]) for name, x in student.network.encoder.state_dict().items())
        assert curve[-1]["labels/whole"] < curve[0]["labels/whole"]


@pytest.mark.parametrize("how", ["stacked", "side by side"])
def test_one_that_diverges_stops_no_other(how, request):
    encoder = (
        Flat if how == "stacked" and request.getfixturevalue("stacked") is None else partial(ImageEncoder, width=8, blocks=1)
    )
    students = lessons(encoder)
    with torch.no_grad():
        students[1].network.heads["whole"].score.weight.fill_(torch.nan)
    curves = together(students)
    assert [len(curve) for curve in curves] == [2, 0, 2]
    expected = lessons(encoder)[2]
    alone(expected)
    for name, x in students[2].network.state_dict().items():
        torch.testing.assert_close(x, expected.network.state_dict()[name], rtol=1e-3, atol=1e-4)
    with pytest.raises(Diverged, match="not finite"):
        alone(students[1])


def test_a_batch_is_drawn_once_for_all(threads):
    drawn = []

    def source():
        for number in range(100):
            drawn.append(number)
            yield {"x": np.full(3, number, np.float16)}

    readers = shared(source(), 3, CPU)

    def training(reader, updates):
        for update in range(updates):
            batch = next(reader)
            assert batch["x"].dtype == torch.float32 and batch["x"][0] == update
            yield 1

    counts = []
    side_by_side([training(reader, n) for reader, n in zip(readers, (5, 9, 7), strict=True)], threads, counts.append)
    assert sum(counts) == 21 and drawn == list(range(9))


def test_batches_do_not_wait_for_who_is_done():
    closed = []

    def source():
        try:
            yield from ({name: torch.from_numpy(x) for name, x in batch.items()} for batch in rows(2, "labels"))
        finally:
            closed.append(True)

    lesson, reader = lessons(updates=2)[0], source()
    student = Learner(lesson, lesson.objective({}, next(source()), {}), 1, ())
    closed.clear()
    assert list(learning.train([student], MORE["val"], None, reader)) == [1, 1]
    assert closed


def test_dropout_is_its_own_whoever_trains_beside(threads):
    made = partial(lessons, partial(ImageEncoder, width=8, blocks=1))
    alike = [made() for _ in range(2)]
    for lesson in [lesson for found in alike for lesson in found]:
        lesson.network.encoder.trunk.append(nn.Dropout(0.2))
    beside, single = alike
    together(beside)
    for student, lesson in zip(beside, single, strict=True):
        torch.manual_seed(5)  # as whatever ran before leaves it
        learn_together([lesson], rows(1, "knowledge"), rows(2, "labels"), **MORE)
        states = zip(student.network.state_dict().values(), lesson.network.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in states)


def test_dropout_leaves_the_threads_alone(threads):
    counts, students = [], lessons(partial(Flat, norm=lambda width: nn.Dropout(0.1)))
    more = MORE | {"advance": lambda updates: counts.append(torch.get_num_threads())}
    learn_together(students, rows(1, "knowledge"), rows(2, "labels"), **more)
    assert set(counts) == {threads}


def test_an_error_in_one_thread_ends_all():
    before = threading.active_count()

    def endless():
        while True:
            yield 1

    def broken():
        yield 1
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        side_by_side([endless(), broken(), endless()], 2, lambda n: None)
    assert threading.active_count() == before


@pytest.mark.usefixtures("stacked")
def test_heads_that_no_term_trains_stay_as_they_are_in_a_stack_too():
    students = lessons()
    before = [{name: x.clone() for name, x in s.network.heads["whole"].state_dict().items()} for s in students]
    tasks = [{"parts": s.tasks["parts"]} for s in students]
    pairs = zip(students, tasks, strict=True)
    heads = [Lesson(s.network, own, {"labels": 1.0}, s.schedule, METHODS, "", "heads") for s, own in pairs]
    learn_together(heads, None, rows(2, "labels"), heads_only=True, **MORE)
    for student, head in zip(students, before, strict=True):
        assert all(torch.equal(x, head[name]) for name, x in student.network.heads["whole"].state_dict().items())


@pytest.mark.usefixtures("stacked")
def test_one_that_is_stopped_in_a_stack_is_what_it_was_then():
    students = lessons()
    early = [quality(lesson.tasks, curve[0]) for lesson, curve in zip(students, together(students), strict=True)]
    hurdle = sorted(early)[1]
    students = lessons()
    curves = together(students, hurdles=[hurdle])
    assert sorted(len(curve) for curve in curves) == [1, 2, 2]
    for lesson, curve in zip(students, curves, strict=True):
        found = flat(score(lesson.network, lesson.tasks, Split()))
        assert found == pytest.approx({name: x for name, x in curve[-1].items() if name.startswith("val/")}, abs=1e-6)


def test_a_step_of_a_stack_waits_for_no_device():
    first = next(rows(1, "knowledge")), next(rows(2, "labels"))
    known, labels = ({name: torch.from_numpy(x) for name, x in batch.items()} for batch in first)
    known = {name: x.float() if x.is_floating_point() else x for name, x in known.items()}
    objectives = [lesson.objective(known, labels, {}).train() for lesson in lessons()[:2]]
    stack = Stack(objectives, [lesson.schedule for lesson in lessons()[:2]])
    with batched_attention(True), Waits() as waits:
        stack.step(known, labels)
    assert waits.found == {"nonzero": len(TASKS)}  # of flags, which stay with the host
