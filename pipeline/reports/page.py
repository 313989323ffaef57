"""The report as a person reads it: tables and notes, on the terminal and as one page that needs no network."""

import base64
import html
import re
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipeline.project.params import Params
from pipeline.reports.summary import CLEAN, Cell, Ledger, Row
from pipeline.tasks.task import Task

Tables = dict[str, list[list[str]]]  # {title: lines, the first of which is the head}
Meanings = dict[str, str]  # {column: a sentence on it}

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:75em;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse;margin:1em 0;font-size:.85em;font-variant-numeric:tabular-nums}
th,td{padding:.25em .7em;text-align:right;border-bottom:1px solid #ddd}td{white-space:nowrap}
th:first-child,td:first-child{text-align:left}
thead{position:sticky;top:0;background:#fff}.weak{color:#b00;font-weight:bold}.scroll{overflow-x:auto}"""


def tables(
    params: Params, tasks: dict[str, Task], teachers: dict[str, Row], students: dict[str, Row], ledger: Ledger
) -> Tables:
    columns = list(dict.fromkeys(column for row in students.values() for column in row))
    other_columns = [column for column in columns if ": " in column]
    shot_columns = [column for column in columns if "@" in column and column not in other_columns]
    main_columns = [column for column in columns if column not in shot_columns + other_columns]
    updates = {name: str(teacher.updates or "-") for name, teacher in params.teachers.items()}
    lines = [[f"teacher {name}", updates[name], *(shown(row.get(c)) for c in main_columns)] for name, row in teachers.items()]
    lines += [
        [name, str(params.students[name].updates), *(shown(row.get(c)) for c in main_columns)] for name, row in students.items()
    ]
    rows_by_name = {f"teacher {name}": row for name, row in teachers.items()} | students
    shot_lines = [[name, *(shown(row.get(c)) for c in shot_columns)] for name, row in students.items()]
    shot_tables = (
        {"Unseen tasks, from @k examples (points: 100 x accuracy, or R^2)": [["", *shot_columns], *shot_lines]}
        if shot_columns
        else {}
    )
    return {
        "Scores (points: 100 x metric)": [["", "updates", *(headed(tasks, c) for c in main_columns)], *lines],
        **other_tables(tasks, rows_by_name, other_columns),
        **shot_tables,
        "What fusions keep of each teacher (R^2 x 100 of a linear map from the fused code)": kept_lines(ledger),
        "What it cost": ledger_lines(params, ledger),
    }


def headed(tasks: dict[str, Task], column: str) -> str:
    """The head of a column: of a task with its metric, of another test split with its folder."""
    if column in ("average", "delta_mtl"):
        return column
    if column not in tasks:
        return f"test/{column}"
    task = tasks[column]
    return f"{column} ({task.primary}{'' if task.higher_is_better else ', lower is better'})"


def meanings(params: Params, tasks: dict[str, Task], students: dict[str, Row], tables: Tables) -> Meanings:
    baseline = params.report.baseline
    negated_tasks = [name for name, task in tasks.items() if not task.higher_is_better]
    negative = f", {', '.join(negated_tasks)} as negative numbers" if negated_tasks else ""
    zero_tasks = [task for task in tasks if task in students[baseline] and not students[baseline][task][0]]
    without = f"; without {', '.join(zero_tasks)}, where that is 0" if zero_tasks else ""
    splits = [column for head, *_ in tables.values() for column in head if column.startswith("test/")]
    return {
        "average": f"mean over its own tasks{negative}; like every column that names no split, of test/{CLEAN}",
        "delta_mtl": f"mean over tasks of the gain over student {baseline}, in percent of its score{without}",
        **dict.fromkeys(splits, "average on this other test split"),
        "effective rank": "in how many directions the fused code varies (exp of the entropy of its spectrum)",
    }


def explained(head: list[str], meanings: Meanings) -> list[str]:
    """A sentence on every column of a table that needs one."""
    return [f"{column}: {meanings[column]}." for column in head if column in meanings]


def other_tables(tasks: dict[str, Task], rows: dict[str, Row], columns: list[str]) -> Tables:
    """A table for each test split. columns: "split: task metric"."""
    tables: Tables = {}
    plain_heads = {f"{name} {metric}" for name, task in tasks.items() for metric in task.plain}
    for split in dict.fromkeys(column.partition(": ")[0] for column in columns):
        split_columns = [column for column in columns if column.startswith(f"{split}: ")]
        heads = [column.partition(": ")[2] for column in split_columns]
        digits = [3 if head in plain_heads else 1 for head in heads]
        lines = [
            [name, *(shown(row.get(c), n) for c, n in zip(split_columns, digits, strict=True))] for name, row in rows.items()
        ]
        exceptions = ", ".join(head for head in heads if head in plain_heads)
        unit = f"100 x, but for {exceptions}" if exceptions else "100 x"
        tables[f"Other metrics on test/{split} ({unit})"] = [["", *heads], *lines]
    return tables


def shown(cell: Cell | None, digits: int = 1) -> str:
    if cell is None:
        return "-"
    mean, spread = (f"{round(number, digits) + 0.0:.{digits}f}" for number in cell)  # + 0.0: no -0.0
    return f"{mean} +-{spread}" if cell[1] else mean


def ledger_lines(params: Params, ledger: Ledger) -> list[list[str]]:
    seeds = "1 seed" if params.distill.seeds == 1 else f"{params.distill.seeds} seeds"
    students = [[f"student {name}, {seeds}", f"{seconds:.1f}", "-"] for name, seconds in ledger.students.items()]
    return [
        ["", "seconds", "MB"],
        ["prepare", f"{ledger.prepare:.1f}", "-"],
        ["teachers, trained", f"{ledger.teachers:.1f}", "-"],
        ["teachers, dumped", f"{ledger.dump:.1f}", f"{ledger.dump_bytes / 1e6:.0f}"],
        ["fusions", f"{ledger.fusion:.1f}", f"{ledger.fusion_bytes / 1e6:.0f}"],
        *students,
    ]


def kept_lines(ledger: Ledger) -> list[list[str]]:
    taps = list(dict.fromkeys(tap for quality in ledger.quality.values() for tap in quality["r2"]))
    lines = [
        [
            name,
            *(f"{100 * quality['r2'][tap]:.1f}" if tap in quality["r2"] else "-" for tap in taps),
            f"{quality['effective_rank']:.1f}",
        ]
        for name, quality in ledger.quality.items()
    ]
    return [["", *taps, "effective rank"], *lines]


def notes(params: Params, warnings: list[str], ledger: Ledger) -> list[str]:
    seeds = params.distill.seeds
    over = f"Mean +- standard deviation over {seeds} student seeds" if seeds > 1 else "One student seed"
    lines = [
        f"{over}, of one data seed: whether a difference between students would hold on other data, only runs with other "
        "values of `seed` in params.yaml can tell.",
        "Equal updates are equal optimiser steps and labelled rows a step; knowledge rows come on top.",
    ]
    if ledger.break_even is not None:
        lines.append(
            f"Live teachers for the same students would have cost {ledger.live:.1f} s of forward passes; "
            f"dump and fusions cost {ledger.cached:.1f} s."
        )
        lines.append(f"The cache has paid for itself after {ledger.break_even:.1f} students (all seeds of each).")
    return lines + warnings


def warns(note: str) -> bool:
    return "too weak" in note


def show(tables: Tables, meanings: Meanings, notes: list[str]) -> None:
    """Print to standard output; on a terminal as wide as it is, in a log without folding."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160
    for title, (head, *lines) in tables.items():
        table = Table(title=title, title_justify="left", title_style="bold")
        for number, column in enumerate(head):
            table.add_column(column, justify="right" if number else "left", overflow="fold")
        for line in lines:
            table.add_row(*line)
        console.print(table)
        for sentence in explained(head, meanings):
            console.print(sentence, style="dim")
    for note in notes:
        console.print(f"- {note}", style="bold red" if warns(note) else None)


def write(path: Path, tables: Tables, meanings: Meanings, notes: list[str], images: dict[Path, tuple[str, str]]) -> None:
    """The first table, the images, then all other tables. images: {file: (title, caption)}."""
    parts = ["<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"]
    parts.append(f"<title>Stillroom: report</title><style>{STYLE}</style><h1>Report</h1>")
    parts += [f"<p{' class=weak' if warns(note) else ''}>{marked_up(note)}</p>" for note in notes]
    first, *other_parts = (table_part(title, *lines, meanings=meanings) for title, lines in tables.items())
    parts += [first, *(image_part(image, *title_and_caption) for image, title_and_caption in images.items()), *other_parts]
    path.write_text("\n".join(parts) + "\n", "utf-8")


def table_part(title: str, head: list[str], *lines: list[str], meanings: Meanings) -> str:
    rows = [row(line, "td") for line in lines]
    sentences = [f"<p>{marked_up(line)}</p>" for line in explained(head, meanings)]
    begin = f"<h2>{marked_up(title)}</h2><div class=scroll><table><thead>{row(head, 'th')}</thead>"
    return "\n".join([begin, *rows, "</table></div>", *sentences])


def image_part(image: Path, title: str, caption: str) -> str:
    data = base64.b64encode(image.read_bytes()).decode()
    markup = f"<div class=scroll><img alt='{image.stem}' src='data:image/png;base64,{data}'></div>"
    return f"<h2>{marked_up(title)}</h2><p>{marked_up(caption)}</p>\n{markup}"


def row(cells: list[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{marked_up(cell)}</{tag}>" for cell in cells) + "</tr>"


def marked_up(text: str) -> str:
    """What a terminal shows, as HTML."""
    return re.sub("`(.*?)`", r"<code>\1</code>", html.escape(text)).replace("+-", "&plusmn;")
