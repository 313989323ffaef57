"""How many labels cached knowledge is worth: students with all of them, a third, a tenth, a thirtieth, none.

    python bench/labels.py run SEED...    # resumes: one JSON per arm and data seed in bench/labels/
    python bench/labels.py table          # bench/labels.md and labels.png, from the JSONs

Teachers are those of bench/demo.py, which had all labels. Students have 2,400 updates; logits weigh three times the labels.
"""

import sys
from pathlib import Path
from statistics import mean

import click

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.arms import MACHINE, by_seed, contrasts, curves, run_arms, run_stage, spread, student_result  # noqa: E402
from bench.demo import PRIMARY, SHORT, enter_beside, points  # noqa: E402
from bench.evidence import METHODS, arm  # noqa: E402

RESULTS = ROOT / "bench" / "labels"
UPDATES = 2400
LABELS = {50: 1 / 30, 150: 1 / 10, 500: 1 / 3, 1500: 1.0}  # of each task: the share of those that there are
KINDS = {"labels": ("transfer", "labels"), "both": ("none", "logits labels")}
ARMS = {
    f"{kind}_{labels}": arm(*learns, labelled_share=share) | {"updates": UPDATES}
    for labels, share in LABELS.items()
    for kind, learns in KINDS.items()
} | {"logits": arm("none", "logits") | {"updates": UPDATES}}


def change(params: dict) -> None:
    params |= {"fusions": {"none": METHODS["none"]}, "students": ARMS}
    params["report"] |= {"baseline": "labels_1500", "strip": ["labels_1500"]}


@click.group()
def main() -> None: ...


@main.command()
@click.argument("seeds", type=int, nargs=-1, required=True)
def run(seeds: tuple[int, ...]) -> None:
    for seed in seeds:
        enter_beside(seed, "labels", change)
        for teacher in PRIMARY:
            run_stage("extract", teacher)
        run_stage("fuse", "none")
        run_arms(RESULTS, seed, ARMS, student_result)


@main.command()
def table() -> None:
    found = {name: by_seed(RESULTS, name) for name in ARMS}
    lines = ["# Labels", "", f"{UPDATES} updates; {MACHINE}."]
    lines += ["Points on the clean test split, mean +- sd over data seeds.", ""]
    lines += [f"| arm | data seeds | {' | '.join(SHORT)} |", "|---" * (2 + len(SHORT)) + "|"]
    for name, results in found.items():
        cells = [spread(points(result, column) for result in results.values()) for column in SHORT]
        lines.append(f"| {name} | {', '.join(map(str, results))} | {' | '.join(cells)} |")
    lines += ["", "Paired by data seed: mean, 95 % t interval, every seed.", ""]
    pairs = [(f"both_{labels}", f"labels_{labels}", SHORT) for labels in LABELS] + [("logits", "labels_1500", SHORT)]
    lines += contrasts(found, pairs, points)
    panels = {
        column: {kind: {n: [points(r, column) for r in found[f"{kind}_{n}"].values()] for n in LABELS} for kind in KINDS}
        for column in SHORT
    }
    known = {column: mean(points(result, column) for result in found["logits"].values()) for column in SHORT}
    curves(ROOT / "bench" / "labels.png", panels, known, "labels of each task")
    (ROOT / "bench" / "labels.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
