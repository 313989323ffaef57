"""Cached knowledge against teachers live, and how many stored views of a sample that takes.

    python bench/views.py run SEED... [--arm ARM]...    # resumes: one JSON per arm and data seed in bench/views/
    python bench/views.py table          # bench/views.md, from the JSONs

Teachers are those of bench/demo.py; every student has 1,200 updates on logits, at three times the weight, and on labels, which
are augmented live in all arms. Of `views_<n>` knowledge is of n stored views a scene, the scene itself the first; `live` shows
the same scenes to the three teachers at every update, augmented afresh.
"""

import sys
from collections.abc import Iterator
from itertools import count, product
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import torch
from scipy.stats import t as student_t

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.arms import MACHINE, by_seed, commands, enter, run_arms, run_stage, share, spread, student_result  # noqa: E402
from bench.demo import PRIMARY, SHORT, TAUGHT, enter_beside, points  # noqa: E402
from bench.evidence import METHODS, arm  # noqa: E402
from pipeline.atomic import write_json  # noqa: E402
from pipeline.batches.batches import cut, input_fields, labelled_batches, load, part, tensors  # noqa: E402
from pipeline.batches.pools import Rows, shuffled  # noqa: E402
from pipeline.checkpoints import input_shapes, load_network, save_network  # noqa: E402
from pipeline.cost import measured  # noqa: E402
from pipeline.project.lineage import open_project  # noqa: E402
from pipeline.project.params import Params  # noqa: E402
from pipeline.seeds import derive_seed  # noqa: E402
from pipeline.stores.store import Store, open_store  # noqa: E402
from pipeline.training.distilling import lesson  # noqa: E402
from pipeline.training.learning import learn_together  # noqa: E402

RESULTS = ROOT / "bench" / "views"
VIEWS = [1, 2, 4, 8]
STUDENT = arm("none", "logits labels")
ARMS = ["live", *(f"views_{views}" for views in VIEWS)]


def change(params: dict) -> None:
    params |= {"fusions": {"none": METHODS["none"]}, "students": dict.fromkeys(ARMS, STUDENT)}
    params["report"] |= {"baseline": "live", "strip": ["live"]}


def run(seed: int, arms: tuple[str, ...]) -> None:
    enter_beside(seed, "live", change)
    run_arms(RESULTS, seed, arms or ARMS, lambda name: result_of(name, seed))


def result_of(name: str, seed: int) -> dict:
    if name == "live":
        enter_beside(seed, "live", change)
        learn_live()
    else:
        enter_with(int(name.removeprefix("views_")), seed)
    return student_result(name)


def enter_with(views: int, seed: int) -> None:
    """A project whose transfer set has so many views of the same scenes, and which has the same teachers."""

    def change_views(params: dict) -> None:
        change(params)
        params["prepare"]["source"]["views"] = views

    folder = enter(f"views_{views}", ROOT, seed, change_views)
    share(folder.with_name(f"live-{seed}"), *TAUGHT)
    run_stage("prepare")
    for teacher in PRIMARY:
        run_stage("extract", teacher)
    run_stage("fuse", "none")


def learn_live() -> None:
    """As `distill` does it, but for where knowledge comes from."""
    params = open_project()
    store, val = (open_store(Path("data") / path) for path in ("knowledge/transfer.zarr", "splits/val.zarr"))
    student, tasks, augment = params.student("live"), list(params.tasks), params.source().augment
    seed, out = derive_seed(params.seed, "batches"), Path("data/students/live")
    labelled = labelled_batches(store, tasks, student.batch_size, augment, seed=seed)
    one = lesson(params, student, 0, tasks, store, None)
    with measured(Path("data/costs/distill/live.json")) as ledger:
        (curve,) = learn_together(
            [one], live(params, store, seed), labelled, val=val, evaluations=params.distill.evaluations, advance=lambda n: None
        )
        ledger |= {"updates": student.updates}
    path = out / "seed-0" / f"{'+'.join(tasks)}.safetensors"
    save_network(path, one.network, student.encoder, params.tasks, input_shapes(store), learned_from=store.digest)
    write_json(out / "curve.json", [{"seed": 0, **point} for point in curve])


def live(params: Params, store: Store, seed: int) -> Iterator[Rows]:
    rng, cpu, augment = np.random.default_rng(seed), torch.device("cpu"), params.source().augment
    teachers = {t: load_network(Path(f"data/teachers/{t}/teacher.safetensors"), cpu)[0] for t in PRIMARY}
    scenes = load(store, input_fields(store), np.flatnonzero(store.view == 0))
    size = params.distill.batch_size
    for batch in cut((shuffled(scenes, rng.permutation(len(scenes["inputs/image"]))) for _ in count()), size):
        inputs, _ = augment(rng, part(batch, "inputs"), {})
        with torch.inference_mode():
            said = {t: net(tensors(inputs, cpu)).logits for t, net in teachers.items()}
        logits = {f"logits/{t}/{task}": x.numpy() for t, found in said.items() for task, x in found.items()}
        yield {f"inputs/{name}": x for name, x in inputs.items()} | logits


def table() -> None:
    found = {name: results for name in ARMS if (results := by_seed(RESULTS, name))}
    lines = ["# Stored views", "", f"1,200 updates; {MACHINE}."]
    lines += ["Points on the clean test split, mean +- sd over data seeds.", ""]
    lines += [f"| arm | data seeds | {' | '.join(SHORT)} | CPU seconds |", "|---" * (3 + len(SHORT)) + "|"]
    for name, results in found.items():
        cells = [spread(points(result, column) for result in results.values()) for column in SHORT]
        seconds = spread(result["cost"]["cpu_seconds"] for result in results.values())
        lines.append(f"| {name} | {', '.join(map(str, results))} | {' | '.join(cells)} | {seconds} |")
    lines += ["", "Minus `live`, paired by data seed: mean, 90 % t interval, every seed. Equivalent: within +-1 point.", ""]
    lines += ["| arm | of | mean | interval | seeds | equivalent |", "|---" * 6 + "|"]
    for name, column in product([name for name in found if name != "live"], SHORT):
        seeds = sorted(found[name].keys() & found["live"].keys())
        gaps = [points(found[name][s], column) - points(found["live"][s], column) for s in seeds]
        half = student_t.ppf(0.95, len(gaps) - 1) * stdev(gaps) / len(gaps) ** 0.5
        verdict = "yes" if abs(mean(gaps)) + half < 1 else "no"
        each = ", ".join(f"{gap:+.1f}" for gap in gaps)
        lines.append(f"| {name} | {column} | {mean(gaps):+.2f} | +-{half:.2f} | {each} | {verdict} |")
    (ROOT / "bench" / "views.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    commands(run, table, ARMS)()
