"""K students in one pass over the batches: each batch is drawn, decoded and moved once for all of them.

Students of one shape are stacked, which pays where a step is many small kernels; others train side by side, one per core.
"""

import copy
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from typing import final

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd

from pipeline.balances.balance import Balance
from pipeline.batches.batches import Batch
from pipeline.batches.pools import Rows
from pipeline.batches.staging import Staging
from pipeline.training.objective import Objective
from pipeline.training.optimize import BETAS, CLIP, EPSILON, Schedule

MOST = 16  # positions of networks stacked on a CPU: at 36 a stack of transformers is no faster than running side by side

Steps = Iterator[tuple[int, dict[str, Tensor]]]  # updates so far, the terms of the last


def shared(source: Iterator[Rows], readers: int, device: torch.device) -> list[Generator[Batch, None, None]]:
    """The same batches for this many readers, each at its own pace, in any thread.

    A batch is drawn and moved when the first reader asks for it, and freed when the last has taken it. A reader that is done
    must be closed: batches are kept for it.
    """
    queues: dict[int, deque[Batch]] = {reader: deque() for reader in range(readers)}
    lock, stage = threading.Lock(), Staging(device)

    def read(reader: int) -> Generator[Batch, None, None]:
        try:
            while True:
                with lock:
                    if not queues[reader]:
                        batch = stage(next(source))
                        for queue in list(queues.values()):
                            queue.append(batch)
                    batch = queues[reader].popleft()
                yield batch
        finally:
            queues.pop(reader)

    return [read(reader) for reader in range(readers)]


def side_by_side(trainings: list[Iterator[int]], threads: int, advance: Callable[[int], None]) -> None:
    """Run all to the end, a step of each in turn, in this many threads; in a single one, a step has all of torch's threads.

    advance: called with what each step yields.
    """
    turns, lock, stop = deque(trainings), threading.Lock(), threading.Event()
    workers = min(threads, len(trainings))

    def work() -> None:
        while not stop.is_set():
            with lock:
                if not turns:
                    return
                training = turns.popleft()
            updates = next(training, None)
            if updates is not None:
                with lock:
                    turns.append(training)
                    advance(updates)

    if workers == 1:
        return work()
    with ThreadPoolExecutor(workers, initializer=lambda: torch.set_num_threads(threads // workers)) as pool:
        running = [pool.submit(work) for _ in range(workers)]
        try:
            wait(running, return_when=FIRST_EXCEPTION)
        finally:
            stop.set()
    for worker in running:
        worker.result()


def threads_for(objectives: list[Objective]) -> int:
    """How many to train side by side: as many as torch has threads; one on a GPU, or if any draws: they share a generator."""
    on_cpu = next(objectives[0].parameters()).device.type == "cpu"
    return torch.get_num_threads() if on_cpu and not any(map(draws, objectives)) else 1


def draws(objective: Objective) -> bool:
    """Whether a step draws random numbers."""
    modules = objective.modules()
    return any(
        (isinstance(module, _DropoutNd) and module.p > 0) or (isinstance(module, Balance) and module.random)
        for module in modules
    )


def with_own_random(steps: Steps, state: Tensor) -> Steps:
    """The same steps, drawing the random numbers they would draw alone, on a CPU, whoever draws between them."""
    while True:
        torch.set_rng_state(state)
        step = next(steps, None)
        state = torch.get_rng_state()
        if step is None:
            return
        yield step


def stackable(objective: Objective, knowledge: Batch, labelled: Batch) -> bool:
    """Whether stacking pays and gives the same result. On a CPU, K convolutions in one are slower than one after another, and
    so is anything that fills a core by itself.

    A balance looks at the losses of one student, and dropout would draw for K at once; a loss that branches on a prediction
    cannot look at K, which is found out on a batch.
    """
    on_cpu = next(objective.parameters()).device.type == "cpu"
    large = objective.network.positions > MOST or any(isinstance(part, _ConvNd) for part in objective.modules())
    if objective.balance or draws(objective) or (on_cpu and large):
        return False
    pair = [copy.deepcopy(objective) for _ in range(2)]
    try:
        with batched_attention(on_cpu):
            Stack(pair, [Schedule(1, 1.0, 0.0)] * 2).step(knowledge, labelled)
    except RuntimeError:
        return False
    return True


def batched_attention(on_cpu: bool) -> AbstractContextManager[None]:
    """Avoid flash attention, which has no batching rule on a CPU: a stack would run it one student after another."""
    return sdpa_kernel(SDPBackend.MATH) if on_cpu else nullcontext()


@final
class Stack:
    """K objectives of one shape as one: what is trained is a matrix, one row per student, of which the K networks hold views.

    Shape: the same modules and terms. Rates, decay, weights, scales and temperatures are each student's own. An update is
    what `optimize` would do to each, up to the order of float32 sums.
    """

    def __init__(self, objectives: list[Objective], schedules: list[Schedule]):
        first = objectives[0]
        self.base = copy.deepcopy(first)
        self.base.weights = dict.fromkeys(first.weights, 1.0)
        self.base.scales = dict.fromkeys(first.scales, 1.0)
        device = next(first.parameters()).device
        self.weights = {
            name: torch.tensor(
                [objective.weights[name] / objective.scales.get(name, 1.0) for objective in objectives], device=device
            )
            for name in first.weights
        }
        temperatures = {name: [objective.tasks[name].temperature for objective in objectives] for name in first.tasks}
        self.temperatures = {
            name: torch.tensor(values, device=device) for name, values in temperatures.items() if len(set(values)) > 1
        }
        self.shapes = {name: p.shape for name, p in first.named_parameters() if p.requires_grad}
        self.sizes = [shape.numel() for shape in self.shapes.values()]
        self.decayed = torch.cat(
            [torch.full([shape.numel()], float(len(shape) > 1), device=device) for shape in self.shapes.values()]
        )
        self.matrix = nn.Parameter(torch.stack([self.row(objective) for objective in objectives]))
        self.fixed = self.stacked(objectives)
        for objective, row in zip(objectives, self.matrix.detach(), strict=True):
            for p, part in zip(trained(objective), row.split(self.sizes), strict=True):
                p.data = part.view(p.shape)
        self.mean, self.square = torch.zeros_like(self.matrix), torch.zeros_like(self.matrix)
        self.updates = 0
        steps = [
            [[schedule.learning_rate * schedule.rate(update), schedule.weight_decay] for schedule in schedules]
            for update in range(schedules[0].updates)
        ]
        self.steps = torch.tensor(steps, device=device)  # (updates, K, 2), all at once: a GPU would wait for each one's numbers

    def row(self, objective: Objective) -> Tensor:
        return torch.cat([p.detach().reshape(-1) for p in trained(objective)])

    def stacked(self, objectives: list[Objective]) -> dict[str, Tensor]:
        """What is not trained, running statistics included, (K, ...); the networks' own tensors become views of it."""
        fixed = {}
        for name in [name for name in named(objectives[0]) if name not in self.shapes]:
            tensors = [named(objective)[name] for objective in objectives]
            fixed[name] = torch.stack([tensor.detach() for tensor in tensors])
            for tensor, view in zip(tensors, fixed[name], strict=True):
                tensor.data = view
        return fixed

    def step(self, knowledge: Batch, labelled: Batch) -> dict[str, Tensor]:
        """One update of all; returns the terms, (K,) each."""

        def terms_of(state: dict[str, Tensor], temperatures: dict[str, Tensor]) -> dict[str, Tensor]:
            for task, temperature in temperatures.items():
                self.base.tasks[task].temperature = temperature  # type: ignore[assignment]
            return functional_call(self.base, state, (knowledge, labelled))

        parts = zip(self.shapes.items(), self.matrix.split(self.sizes, 1), strict=True)
        state = {name: part.view(-1, *shape) for (name, shape), part in parts} | self.fixed
        terms = vmap(terms_of)(state, self.temperatures)
        terms = {name: self.weights[name] * term for name, term in terms.items()}
        self.matrix.grad = None
        torch.stack(list(terms.values())).sum().backward()
        self.descend()
        return {name: term.detach() for name, term in terms.items()}

    @torch.no_grad()
    def descend(self) -> None:
        """AdamW as in torch, each row with its own rate, clipped by its own norm. A row that is not finite stays so."""
        assert self.matrix.grad is not None
        norm = self.matrix.grad.norm(dim=1, keepdim=True)
        gradient = self.matrix.grad.mul_((CLIP / (norm + 1e-6)).clamp(max=1))
        rates, decays = self.steps[self.updates][..., None].unbind(1)
        self.updates += 1
        self.matrix.mul_(1 - rates * decays * self.decayed)
        self.mean.lerp_(gradient, 1 - BETAS[0])
        self.square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        scale = (self.square / (1 - BETAS[1] ** self.updates)).sqrt_().add_(EPSILON)
        self.matrix.sub_(self.mean.div(scale).mul_(rates / (1 - BETAS[0] ** self.updates)))


def optimize_stack(
    objectives: list[Objective], schedules: list[Schedule], knowledge: Iterator[Batch] | None, labelled: Iterator[Batch] | None
) -> Steps:
    """As `optimize`, for a stack: terms are (K,) each. A student whose loss is not finite goes on as NaN, others unharmed."""
    stack = Stack(objectives, schedules)
    for update in range(1, schedules[0].updates + 1):
        yield update, stack.step(*(next(source) if source else {} for source in (knowledge, labelled)))


def trained(objective: Objective) -> list[nn.Parameter]:
    return [p for p in objective.parameters() if p.requires_grad]


def named(objective: Objective) -> dict[str, Tensor]:
    return {**dict(objective.named_parameters()), **dict(objective.named_buffers())}
