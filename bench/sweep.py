"""What one more student costs: sixteen in one pass over the store, against one, against processes, against live teachers.

    python bench/sweep.py [conv mlp transformer transformer16 conv-bfloat16 ...]    # after `make repro`

Writes bench/sweep.json and sweep.md.

Interleaved in one run: every round times each arm once; medians of rounds. Seconds are of training, from the first update to
the last but one, without start-up (imports, opening and decoding the store, building networks), which is reported apart. A
student's quality is its average on val after those few updates: the same student is as good beside others as alone.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import mean, median

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pipeline.batches.batches import batches, input_fields, labelled_batches, part, tensors  # noqa: E402
from pipeline.checkpoints import input_shapes, load_network, save_network  # noqa: E402
from pipeline.network import Network  # noqa: E402
from pipeline.project.lineage import open_project  # noqa: E402
from pipeline.stores.store import open_store  # noqa: E402
from pipeline.sweeps.leaderboard import size_of  # noqa: E402
from pipeline.training.learning import Lesson, learn_together, quality  # noqa: E402
from pipeline.training.objective import wanted  # noqa: E402
from pipeline.training.optimize import Schedule  # noqa: E402

MACHINE = "2 cores of an AMD EPYC (Zen 3)"
UPDATES, ROUNDS, MANY = 24, 3, 16
CPU = torch.device("cpu")
KNOWLEDGE = {"logits": 1.0, "labels": 1.0}


class Perceptron(nn.Module):
    """Three linear layers on all pixels: a vector, at one position."""

    def __init__(self, width: int = 64):
        super().__init__()
        sizes = [576, width, width, width]
        self.layers = nn.Sequential(*[nn.Sequential(nn.Linear(a, b), nn.LayerNorm(b), nn.ReLU()) for a, b in pairwise(sizes)])

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"trunk": self.layers(inputs["image"].float().sub(128).div(64).flatten(1)).unsqueeze(2)}


class Transformer(nn.Module):
    """Two blocks of four heads on patches of `side` x `side` pixels."""

    def __init__(self, width: int = 32, side: int = 4):
        super().__init__()
        self.side, self.grid = side, 24 // side
        self.patch, self.place = nn.Linear(side**2, width), nn.Parameter(torch.zeros(self.grid**2, width))
        self.blocks = nn.ModuleList([Block(width) for _ in range(2)])

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        image = inputs["image"].float().sub(128).div(64)
        patches = image.unfold(2, self.side, self.side).unfold(3, self.side, self.side)
        x = self.patch(patches.flatten(4).flatten(1, 3)) + self.place
        for block in self.blocks:
            x = block(x)
        return {"trunk": x.transpose(1, 2).unflatten(2, (self.grid, self.grid))}


class Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(2)])
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.rise, self.fall = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.mix(self.norms[0](x)).unflatten(2, (3, 4, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.fall(F.gelu(self.rise(self.norms[1](x))))


class Case:
    """A student, its tasks and the store it learns from, all open and warm."""

    def __init__(self, encoder: str, updates: int = UPDATES):
        self.params, self.updates = open_project(), updates
        params = self.params
        kinds: dict[str, Callable[[], nn.Module]] = {
            "mlp": Perceptron,
            "transformer": Transformer,
            "transformer16": partial(Transformer, side=6),
        }
        self.kind, _, precision = encoder.partition("-")
        self.precision = precision or "float32"
        self.encoder = kinds.get(self.kind) or params.distill.encoder.build
        names = list(params.tasks) if self.kind == "conv" else ["classification"]  # the others' heads are convolutions
        self.tasks = params.build_tasks(names)
        self.store, self.val = open_store(Path("data/knowledge/none.zarr")), open_store(Path("data/splits/val.zarr"))

    def lesson(self, seed: int) -> Lesson:
        torch.manual_seed(seed)
        sample = {
            name: torch.zeros(2, *shape, dtype=getattr(torch, dtype))
            for name, (shape, dtype) in input_shapes(self.store).items()
        }
        network = Network(self.encoder(), self.tasks, sample).to(memory_format=torch.channels_last)
        rate = self.params.distill.learning_rate / (1 if self.kind == "conv" else 10)
        schedule = Schedule(self.updates, rate, 0.01, self.precision)
        return Lesson(network, self.tasks, KNOWLEDGE, schedule, loss_key="same", stack_key="same")

    def sources(self, teachers: dict[str, Network]):
        """Batches of knowledge, from the store or from live teachers, and of labels."""
        asked = [field for field in self.store.fields if wanted(field, self.tasks, KNOWLEDGE)]
        fields = input_fields(self.store) + ([] if teachers else asked)
        rows = batches(self.store, fields, 64, seed=0, memory_budget=10**9)
        augment = self.params.source().augment
        return (live(rows, teachers) if teachers else rows), labelled_batches(self.store, self.tasks, 64, augment, seed=0)

    def train(self, students: int, teachers: dict[str, Network] | None = None) -> dict[str, float]:
        """Seconds of training so many, wall and CPU, from the end of the first update to that of the last but one, as if of
        all; mean quality."""
        lessons = [self.lesson(seed) for seed in range(students)]
        ticks: list[tuple[float, float]] = []
        done = 0

        def advance(updates: int) -> None:
            nonlocal done
            done += updates
            if done in (students, students * (self.updates - 1)):
                ticks.append((time.perf_counter(), time.process_time()))

        curves = learn_together(lessons, *self.sources(teachers or {}), val=self.val, evaluations=1, advance=advance)
        wall, cpu = (b - a for a, b in zip(*ticks, strict=True))
        share = self.updates / (self.updates - 2)
        return {"wall": share * wall, "cpu": share * cpu, "quality": 100 * mean(quality(self.tasks, c[-1]) for c in curves)}


def live(rows, teachers):
    for batch in rows:
        images = part(tensors(batch, CPU), "inputs")
        with torch.inference_mode():
            found = {f"logits/{t}/{task}": x.numpy() for t, net in teachers.items() for task, x in net(images).logits.items()}
        yield batch | found


class Processes:
    """The usual way: a process a core, students one after another in each, each drawing its own batches."""

    def __init__(self, encoder: str, cores: int):
        began = time.perf_counter()
        command = [sys.executable, __file__, "worker", encoder]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.workers = [subprocess.Popen(command, **pipes) for _ in range(cores)]
        for worker in self.workers:
            worker.stdout.readline()
        self.start_up = time.perf_counter() - began

    def train(self, students: int) -> float:
        """Seconds until all are trained."""
        for worker in self.workers:
            worker.stdin.write(f"{students // len(self.workers)}\n")
            worker.stdin.flush()
        return max(float(worker.stdout.readline()) for worker in self.workers)

    def end(self) -> None:
        for worker in self.workers:
            worker.stdin.close()
            worker.wait()


def worker(encoder: str) -> None:
    torch.set_num_threads(1)
    case = Case(encoder)
    case.train(1)
    print("ready", flush=True)
    for line in sys.stdin:
        print(sum(case.train(1)["wall"] for _ in range(int(line))), flush=True)


def overhead(case: Case) -> float:
    """Milliseconds a student beyond its training and scoring: building, scales, size, writing."""
    sources = case.sources({})
    known, labels = (tensors(next(source), CPU) for source in sources)
    shapes, encoder, scales = input_shapes(case.store), case.params.distill.encoder, {}
    case.lesson(0).objective(known, labels, scales)
    spent = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(MANY):
            began = time.perf_counter()
            lesson = case.lesson(seed)
            lesson.objective(known, labels, scales)
            size_of(lesson.network, shapes)
            save_network(Path(folder) / f"{seed}.safetensors", lesson.network, encoder, case.params.tasks, shapes)
            spent.append(time.perf_counter() - began)
    return 1e3 * median(spent)


def measure(encoder: str, cores: int) -> dict:
    case, processes = Case(encoder), Processes(encoder, cores)
    teachers = {t: load_network(Path(f"data/teachers/{t}/teacher.safetensors"), CPU)[0] for t in case.params.teachers}
    arms = {"one": partial(case.train, 1), "many": partial(case.train, MANY), "live": partial(case.train, 1, teachers)}
    for run in arms.values():
        run()
    found: dict[str, list] = {name: [] for name in [*arms, "processes"]}
    for _ in range(ROUNDS):
        for name, run in arms.items():
            found[name].append(run())
        found["processes"].append({"wall": processes.train(MANY)})
    processes.end()
    wall = {name: median(run["wall"] for run in runs) for name, runs in found.items()}
    cpu = {name: median(run["cpu"] for run in runs) for name, runs in found.items() if name != "processes"}
    marginal = [(many["wall"] - one["wall"]) / (MANY - 1) for one, many in zip(found["one"], found["many"], strict=True)]
    marginal_cpu = [(many["cpu"] - one["cpu"]) / (MANY - 1) for one, many in zip(found["one"], found["many"], strict=True)]
    result = {
        "seconds": wall,
        "cpu_seconds": cpu,
        "marginal": median(m / one["wall"] for m, one in zip(marginal, found["one"], strict=True)),
        "marginal_cpu": median(m / one["cpu"] for m, one in zip(marginal_cpu, found["one"], strict=True)),
        "over_processes": wall["many"] / wall["processes"],
        "quality": {name: median(run["quality"] for run in found[name]) for name in ("one", "many")},
        "start_up_of_processes": processes.start_up,
        "overhead_ms": overhead(case),
        "size": size_of(case.lesson(0).network, input_shapes(case.store)),
    }
    dump = [
        json.loads(file.read_text())["seconds"]
        for stage in ("extract", "fuse")
        for file in Path(f"data/costs/{stage}").glob("*.json")
    ]
    saved = (wall["live"] - median(marginal)) / UPDATES
    result["live"] = {
        "marginal_over_live": median(m / run["wall"] for m, run in zip(marginal, found["live"], strict=True)),
        "one_over_live": wall["one"] / wall["live"],
        "teachers": {name: size_of(net, input_shapes(case.store)) for name, net in teachers.items()},
        "dump": sum(dump),
        "even": sum(dump) / (600 * saved),
    }
    return result


HEAD = [
    *("student", "threads", "parameters", "T1, s", f"T{MANY}, s", "one more", "in CPU seconds", f"T{MANY} over processes"),
    *(
        "one more over one with live teachers",
        "MFLOP a row, and teachers'",
        "dump paid for after",
        f"quality of 1 and of {MANY}",
    ),
    *("ms a configuration", "load average"),
]


def row(name: str, r: dict) -> list[str]:
    seconds, quality = r["seconds"], " and ".join(f"{x:.1f}" for x in r["quality"].values())
    cells = [name, str(r["threads"]), f"{r['size']['parameters']:,}", f"{seconds['one']:.2f}", f"{seconds['many']:.2f}"]
    cells += [f"{r['marginal']:.2f}", f"{r['marginal_cpu']:.2f}", f"{r['over_processes']:.2f}"]
    live = r["live"]
    flops = " and ".join(f"{t['flops'] / 1e6:.1f}" for t in live["teachers"].values())
    cells += [f"{live['marginal_over_live']:.2f}", f"{r['size']['flops'] / 1e6:.1f}; {flops}", f"{live['even']:.1f} students"]
    cells += [quality]
    return [*cells, f"{r['overhead_ms']:.0f}", f"{r['load_before']:.1f}"]


def table(results: dict[str, dict]) -> str:
    lines = [
        "# Sweeps",
        "",
        f"{MACHINE}, torch 2.13.0 CPU. Medians of {ROUNDS} rounds of {UPDATES} updates.",
        "",
    ]
    lines += ["| " + " | ".join(cells) + " |" for cells in (HEAD, ["---"] * len(HEAD), *(row(*r) for r in results.items()))]
    start_up = ", ".join(f"{r['start_up_of_processes']:.1f} s ({name})" for name, r in results.items())
    lines += [
        "",
        f"One more: (T{MANY} - T1) / {MANY - 1} over T1. Processes: one a core, one thread each, students one after another;",
    ]
    lines += [f"their start-up is left out: {start_up}. Seconds are without evaluations."]
    lines += [
        "Live: one cached student more, against one with the demo's three teachers in the loop. Paid for: dump and fusions, by"
    ]
    lines += ["what students of 600 updates save."]
    return "\n".join(lines) + "\n"


def main() -> None:
    chosen = sys.argv[1:] or ["conv", "mlp", "transformer", "transformer16"]
    if chosen[0] == "worker":
        worker(chosen[1])
        return
    file = ROOT / "bench" / "sweep.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    for encoder in chosen:
        about = {"load_before": os.getloadavg()[0], "threads": torch.get_num_threads()}
        results[encoder] = {**measure(encoder, about["threads"]), **about}
        results[encoder]["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        file.write_text(json.dumps(results, indent=1) + "\n")
        file.with_suffix(".md").write_text(table(results))


if __name__ == "__main__":
    if "--help" in sys.argv:
        sys.exit(print(__doc__))
    os.chdir(ROOT)
    main()
