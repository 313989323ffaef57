"""Scores and costs, brought together: pure functions from what stages wrote to what the report shows.

A point is 100 x a metric; what a task calls `plain` is no share, and stays as it is. Spread is the standard deviation over
student seeds; only benches vary data seeds.
"""

from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from pipeline.tasks.task import Task

Tested = dict[str, dict[str, dict[str, float]]]  # {split: {task: {metric: value}}}
Cell = tuple[float, float]  # mean and spread, in points or of a plain metric
Row = dict[str, Cell]

CLEAN = "clean"


def cell(values: list[float]) -> Cell:
    return mean(values), stdev(values) if len(values) > 1 else 0.0


def primaries(tasks: dict[str, Task], tested: Tested, split: str) -> dict[str, float]:
    """{task: points of its primary metric} on a split."""
    return {name: 100 * metrics[tasks[name].primary] for name, metrics in tested[split].items()}


def average(tasks: dict[str, Task], points: dict[str, float]) -> float:
    """Over the tasks at hand; higher is better: points of a metric where lower is better count as negative."""
    return mean(tasks[name].sign * value for name, value in points.items())


def delta_mtl(tasks: dict[str, Task], points: dict[str, float], single: dict[str, float]) -> float:
    """`100/T sum (-1)^{lower is better} (M - M_single) / M_single` over the tasks at hand, in percent (1904.08918)."""
    signed = [tasks[task].sign * (value - single[task]) / single[task] for task, value in points.items() if single.get(task)]
    return 100 * mean(signed) if signed else 0.0


def student_row(tasks: dict[str, Task], seeds: list[dict[str, Any]], single: dict[str, float]) -> Row:
    """One student's line of the table, in the table's order."""
    clean = [primaries(tasks, seed["test"], CLEAN) for seed in seeds]
    row = {task: cell([points[task] for points in clean]) for task in clean[0]}
    row["average"] = cell([average(tasks, points) for points in clean])
    row["delta_mtl"] = cell([delta_mtl(tasks, points, single) for points in clean])
    for split in sorted(seeds[0]["test"].keys() - {CLEAN}):
        row[split] = cell([average(tasks, primaries(tasks, seed["test"], split)) for seed in seeds])
    for label, shots in seeds[0]["unseen"].items():
        for k in shots:
            row[f"{label}@{k}"] = cell([100 * mean(seed["unseen"][label][k]) for seed in seeds])
    return row | other_metrics(tasks, [seed["test"] for seed in seeds])


def other_metrics(tasks: dict[str, Task], seeds: list[Tested]) -> Row:
    """{"split: task metric": points, or a plain metric} of metrics that are not a task's primary one."""
    return {
        f"{split}: {task} {metric}": cell(
            [(1 if metric in tasks[task].plain else 100) * seed[split][task][metric] for seed in seeds]
        )
        for split, metrics_by_task in seeds[0].items()
        for task, metrics in metrics_by_task.items()
        for metric in metrics
        if metric != tasks[task].primary
    }


def student_rows(tasks: dict[str, Task], students: dict[str, list[dict[str, Any]]], baseline: str) -> dict[str, Row]:
    """{student: line}; Delta_MTL is against the baseline student's mean."""
    single = mean_primaries(tasks, students[baseline])
    return {name: student_row(tasks, seeds, single) for name, seeds in students.items()}


def mean_primaries(tasks: dict[str, Task], seeds: list[dict[str, Any]]) -> dict[str, float]:
    """{task: points on the clean split}, mean over a student's seeds."""
    points_by_seed = [primaries(tasks, seed["test"], CLEAN) for seed in seeds]
    return {task: mean(points[task] for points in points_by_seed) for task in points_by_seed[0]}


def teacher_rows(tasks: dict[str, Task], teachers: dict[str, Tested]) -> dict[str, Row]:
    """{teacher: line}; empty for one without predictions on the test splits."""
    rows = {}
    for name, tested in teachers.items():
        rows[name] = {task: (points, 0.0) for task, points in primaries(tasks, tested, CLEAN).items()}
        for split in sorted(split for split in tested.keys() - {CLEAN} if tested[split]):
            rows[name][split] = (average(tasks, primaries(tasks, tested, split)), 0.0)
        rows[name] |= other_metrics(tasks, [tested])
    return rows


def weak_teachers(
    tasks: dict[str, Task], teachers: dict[str, Row], students: dict[str, Row], baseline: str, labels: str | None
) -> list[str]:
    """A line for every teacher and task that should have been trained better: one that knows no more has nothing to teach.

    labels: the student that had all labels and no knowledge, for longest.
    """
    lines = []
    for name, row in teachers.items():
        for task in [task for task in tasks if task in row]:
            sign, primary = tasks[task].sign, tasks[task].primary
            better_students, ahead_of_all, teacher_points = [], True, row[task][0]
            for rival in [r for r in dict.fromkeys([baseline, labels or baseline]) if task in students[r]]:
                student_points, spread = students[rival][task]
                ahead = sign * (teacher_points - student_points)
                if ahead <= (2 * spread if rival == baseline else 0):
                    better_students.append(
                        f"{student_points:.1f}{f' +- {spread:.1f}' if spread else ''} of the student {rival}"
                    )
                    ahead_of_all &= ahead > 0
            if better_students:
                weak, why = ("may be", "not ahead by two standard deviations; ") if ahead_of_all else ("is", "")
                comparison = f"{teacher_points:.1f} {primary} against {' and '.join(better_students)}"
                lines.append(f"teacher {name} {weak} too weak: {comparison}; {why}train it longer, or take a better one")
    return lines


@dataclass(frozen=True)
class Ledger:
    """What was spent, in seconds and bytes, and what the same students would have spent on live teachers."""

    prepare: float
    teachers: float
    dump: float
    dump_bytes: float
    fusion: float
    fusion_bytes: float
    students: dict[str, float]
    row_seconds: float  # one row through every teacher that could be run live, as measured by the dump
    knowledge_rows: dict[str, float]
    quality: dict[str, dict[str, Any]]  # of each fusion: pipeline/fusions/quality.py

    @property
    def live(self) -> float:
        """Seconds of teacher forward passes that the students' knowledge rows would have cost."""
        return self.row_seconds * sum(self.knowledge_rows.values())

    @property
    def cached(self) -> float:
        return self.dump + self.fusion

    @property
    def break_even(self) -> float | None:
        """After how many students, of the mean size of those that read knowledge, the dump and the fusions are paid for."""
        readers = [rows for rows in self.knowledge_rows.values() if rows]
        return self.cached / (self.row_seconds * mean(readers)) if readers and self.row_seconds else None


def ledger(costs: dict[str, dict[str, dict[str, Any]]], live: list[str], readers: list[str]) -> Ledger:
    """costs: {stage: {item: {"seconds": ..., "bytes": ..., "rows": ...}}}. live: teachers that could be run, not imported
    ones; readers: students that could have learned from these instead."""

    def total(stage: str, quantity: str) -> float:
        return sum(item.get(quantity, 0) for item in costs[stage].values())

    dumps = [costs["extract"][name] for name in live]  # no rows if killed between the last shard and the end
    return Ledger(
        prepare=total("prepare", "seconds"),
        teachers=total("train_teacher", "seconds"),
        dump=total("extract", "seconds"),
        dump_bytes=total("extract", "bytes"),
        fusion=total("fuse", "seconds"),
        fusion_bytes=total("fuse", "bytes"),
        students={name: item["seconds"] for name, item in costs["distill"].items()},
        row_seconds=sum(dump["seconds"] / dump["rows"] for dump in dumps if dump["rows"]),
        knowledge_rows={name: costs["distill"][name]["knowledge_rows"] for name in readers},
        quality={name: item["quality"] for name, item in costs["fuse"].items() if item["quality"]},
    )


def as_metrics(row: Row) -> dict[str, float]:
    """Means alone, to four digits, for `dvc metrics`."""
    return {column: round(float(f"{mean_:.4g}"), 9) for column, (mean_, _) in row.items()}


def val_curves(tasks: dict[str, Task], curve: list[dict[str, float]]) -> list[tuple[int, float, float]]:
    """(update, mean and spread over seeds of the average of the primary metrics on val, in points; as `average` has it).

    A seed's average is over all tasks, those of separate networks too.
    """
    values_by_update: dict[int, dict[float, list[float]]] = {}
    for point in curve:
        values = [
            100 * task.sign * point[f"val/{name}/{task.primary}"]
            for name, task in tasks.items()
            if f"val/{name}/{task.primary}" in point
        ]
        if values:
            values_by_update.setdefault(int(point["update"]), {}).setdefault(point["seed"], []).extend(values)
    return [(update, *cell([mean(values) for values in seeds.values()])) for update, seeds in sorted(values_by_update.items())]
