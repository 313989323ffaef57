"""All students of a sweep side by side: how good, how large, how fast, and which of them no other beats on quality and size."""

import csv
import io
import math
import time
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch
from rich.table import Column, Table
from torch.utils.flop_counter import FlopCounterMode

from pipeline import manners
from pipeline.atomic import write_whole
from pipeline.batches.batches import tensors
from pipeline.checkpoints import Shapes
from pipeline.network import Network
from pipeline.reports.summary import average, delta_mtl
from pipeline.tasks.task import Task
from pipeline.training.learning import quality

RUNS = 10  # of a network on one row, to time it

Record = dict[str, Any]  # what sweeping.py keeps of a student
Line = dict[str, Any]


@torch.no_grad()
def size_of(network: Network, shapes: Shapes) -> dict[str, float]:
    """{parameters, flops of one row, latency_ms of one row: the median of RUNS}, on its device and all its threads."""
    device = next(network.parameters()).device
    ones = {name: torch.ones(1, *shape, dtype=getattr(torch, dtype)) for name, (shape, dtype) in shapes.items()}
    row = tensors(ones, device)
    network.eval()
    with FlopCounterMode(display=False) as counter:
        network(row)
    durations = []
    for _ in range(RUNS):
        start = time.perf_counter()
        network(row)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        durations.append(time.perf_counter() - start)
    parameters = sum(p.numel() for p in network.parameters())
    return {"parameters": parameters, "flops": counter.get_total_flops(), "latency_ms": 1e3 * median(durations)}


def lines(records: list[Record], tasks: dict[str, Task], baseline: dict[str, float]) -> list[Line]:
    """One line per student: finished ones first, the best on val at the top, in points. Nothing is chosen by test.

    baseline: {task: points on test} that Delta_MTL is measured against. A student that diverged has no scores.
    """
    unranked = (line(record, tasks, baseline) for record in records)
    ranking = sorted(unranked, key=lambda entry: (entry["state"] != "finished", -entry.get("val", -math.inf)))
    for entry in ranking:
        entry["pareto"] = entry["state"] == "finished" and not any(beats(other, entry) for other in ranking)
    return ranking


def line(record: Record, tasks: dict[str, Task], baseline: dict[str, float]) -> Line:
    entry = {key: record[key] for key in ("name", "state", "reads", "seed")} | {"pareto": False} | record["choice"]
    if record["curve"]:
        last_point = record["curve"][-1]
        names = [name for name, task in tasks.items() if f"val/{name}/{task.primary}" in last_point]
        test = {name: 100 * record["test"][name][tasks[name].primary] for name in names}
        entry |= {
            "val": 100 * quality(tasks, last_point),
            "test": average(tasks, test),
            "delta_mtl": delta_mtl(tasks, test, baseline),
        }
        entry |= {f"val {name}": 100 * last_point[f"val/{name}/{tasks[name].primary}"] for name in names}
        entry |= {f"test {name}": points for name, points in test.items()}
    copied_keys = ("parameters", "flops", "latency_ms", "updates", "head_updates", "seconds", "learned_from", "student")
    return entry | {key: record[key] for key in copied_keys}


def beats(other: Line, entry: Line) -> bool:
    """Whether another finished student is as good and as small, and better or smaller."""
    if other["state"] != "finished":
        return False
    as_good, as_small = other["val"] >= entry["val"], other["parameters"] <= entry["parameters"]
    return as_good and as_small and (other["val"], other["parameters"]) != (entry["val"], entry["parameters"])


def write_csv(path: Path, ranking: list[Line]) -> None:
    """Write a CSV whole or not at all; what a line lacks is empty. Only numbers and names: no `student`."""
    columns = list(dict.fromkeys(column for entry in ranking for column in entry if column != "student"))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore")
    writer.writeheader()
    writer.writerows({key: in_words(value) for key, value in entry.items()} for entry in ranking)
    write_whole(path, text.getvalue().encode())


def best(ranking: list[Line]) -> dict[str, Any]:
    """Name and numbers of the student that is best on val, named as in the report, for `dvc metrics` and `dvc exp show`."""
    winner = ranking[0]
    if winner["state"] != "finished":  # those that finished come first
        return {"students": len(ranking), "finished": 0}
    numbers = {column.removeprefix("test "): value for column, value in winner.items() if column.startswith("test ")}
    numbers |= {column: winner[column] for column in ("val", "delta_mtl", "parameters", "flops") if column in winner}
    numbers |= {"average": winner["test"]} if "test" in winner else {}
    return {"students": len(ranking), "name": winner["name"], **{name: round(value, 2) for name, value in numbers.items()}}


def without_effect(ranking: list[Line], varied: list[str]) -> list[str]:
    """A line for each key trained in vain: students that differ in it alone score the same to the last digit."""
    messages = []
    for key in varied:
        entries_by_rest: dict[str, list[Line]] = {}
        for entry in ranking:
            if "val" in entry:
                entries_by_rest.setdefault(repr([entry.get(other) for other in varied if other != key]), []).append(entry)
        groups = [group for group in entries_by_rest.values() if len(group) > 1]
        if groups and all(len({(entry["val"], entry["test"]) for entry in group}) == 1 for group in groups):
            a, b = groups[0][:2]
            messages.append(
                f"{key}: makes no difference to such students: {a['name']} and {b['name']} differ in it alone, and score alike"
            )
    return messages


def in_words(value: Any) -> Any:
    """Numbers and names as they are, a class with its arguments as "Name(width=32)"."""
    if not (isinstance(value, dict) and "class" in value):
        return value
    arguments = ", ".join(f"{key}={in_words(argument)}" for key, argument in value.items() if key not in ("code", "class"))
    return f"{value['class']}({arguments})"


def shown(value: Any, spec: str) -> str:
    return format(value, spec) if isinstance(value, float) else str(in_words(value))


def show(ranking: list[Line], varied: list[str]) -> None:
    """Print the leaderboard, with a * at students that no other beats."""
    columns = ["name", *varied, "val", "test", "delta_mtl", "parameters", "latency_ms", "seconds"]
    table = Table("", *(Column(name, no_wrap=name == "name") for name in columns))
    for entry in ranking:
        mark = "*" if entry["pareto"] else "" if entry["state"] == "finished" else entry["state"]
        table.add_row(mark, *(shown(entry.get(c, ""), ".4g" if c in varied else ".2f") for c in columns))
    manners.show(table)
    for message in without_effect(ranking, varied):
        click.echo(f"sweep: {message}", err=True)
