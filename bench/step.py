"""One step of a student from the cache, against the same step with its three teachers live.

    python bench/step.py    # after `make repro`; writes bench/step.json

Interleaved in one run on one batch after another; the median of the ratios, with quartiles. The loss is the same: logits of
all tasks; the live step runs the three teachers on the same rows first and needs no cached tensor.
"""

import json
import sys
import time
from os import chdir
from pathlib import Path
from statistics import median, quantiles

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pipeline.batches.batches import batches, input_fields, part, tensors  # noqa: E402
from pipeline.checkpoints import build_network, input_shapes, load_network  # noqa: E402
from pipeline.project.lineage import open_project  # noqa: E402
from pipeline.stores.store import open_store  # noqa: E402
from pipeline.training.objective import Objective, wanted  # noqa: E402
from pipeline.training.optimize import Schedule, optimize  # noqa: E402

STEPS, CPU = 120, torch.device("cpu")


def main(threads: int) -> dict:
    chdir(ROOT)
    torch.set_num_threads(threads)
    params = open_project()
    student = params.student("logits_unlabelled")
    tasks = params.build_tasks()
    store = open_store(Path("data/knowledge/none.zarr"))
    teachers = {t: load_network(Path(f"data/teachers/{t}/teacher.safetensors"), CPU)[0] for t in params.teachers}
    fields = input_fields(store) + [field for field in store.fields if wanted(field, tasks, student.weights)]

    def live(source):
        for rows in source:
            images = part(tensors(rows, CPU), "inputs")
            with torch.inference_mode():
                logits = {
                    f"logits/{t}/{task}": x.numpy() for t, net in teachers.items() for task, x in net(images).logits.items()
                }
            yield rows | logits

    def steps(wrap, fields):
        source = wrap(batches(store, fields, student.batch_size, seed=0, memory_budget=10**9))
        network = build_network(student.encoder, tasks, input_shapes(store), CPU)
        objective = Objective(network, tasks, student.weights, tensors(next(source), CPU), {})
        network.train()
        return optimize(objective, Schedule(STEPS, student.learning_rate, 0.0), source, None)

    cached_steps, live_steps = steps(lambda source: source, fields), steps(live, input_fields(store))
    seconds = []
    for _ in range(STEPS):
        seconds.append([timed(cached_steps), timed(live_steps)])
    warm = seconds[20:]
    ratios = [b / a for a, b in warm]
    low, _, high = quantiles(ratios, n=4)
    return {
        "threads": threads,
        "cached_ms": 1e3 * median(a for a, _ in warm),
        "live_ms": 1e3 * median(b for _, b in warm),
        "ratio": median(ratios),
        "ratio_quartiles": [low, high],
        "parameters": {"student": size(build_network(student.encoder, tasks, input_shapes(store), CPU)), **sizes(teachers)},
        "machine": "2 cores of an AMD EPYC (Zen 4), torch 2.13.0 CPU",
    }


def timed(steps) -> float:
    start = time.perf_counter()
    next(steps)
    return time.perf_counter() - start


def size(network) -> int:
    return sum(p.numel() for p in network.parameters())


def sizes(teachers) -> dict[str, int]:
    return {f"teacher {name}": size(network) for name, network in teachers.items()}


if __name__ == "__main__":
    if "--help" in sys.argv:
        sys.exit(print(__doc__))
    results = [main(threads) for threads in (1, 2)]
    (ROOT / "bench" / "step.json").write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))
