"""A task added to a finished student from few labels: what it learns, and what becomes of the tasks that it had.

    python bench/extension.py run SEED...    # resumes: an arm whose JSON lies in bench/extension/ is not run again
    python bench/extension.py table          # bench/extension.md, from the JSONs

`old` has classification and detection; segmentation comes with 100 labelled scenes and no teacher. Rehearsal is knowledge of
the two old teachers, from the store that `old` learnt from.
"""

import sys
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.arms import arm, by_seed, commands, contrasts, enter, run_arms, run_teachers, spread, student_result  # noqa: E402
from bench.demo import PRIMARY, TWO  # noqa: E402

RESULTS = ROOT / "bench" / "extension"
NEW, SHOTS = "segmentation", 100
BASE = {"reads": "two", "updates": 600, "labelled": [NEW]}
ARMS = {
    "old": arm("two", 1200, "logits labels", tasks=TWO),
    "rehearsed": {**BASE, "extends": "old", "weights": {"logits": 1, "labels": 1}},
    "rehearsed_fused": {**BASE, "extends": "old", "weights": {"fused": 1, "logits": 1, "labels": 1}},
    "not_rehearsed": {**BASE, "extends": "old", "weights": {"labels": 1}},
    "frozen": {**BASE, "extends": "old", "frozen": True, "weights": {"labels": 1}},
    "from_scratch": {**BASE, "weights": {"logits": 1, "labels": 1}},
    "new_alone": arm("transfer", 600, "labels", tasks=[NEW]),
}
COLUMNS = [NEW, "old tasks"]
CONTRASTS = [
    ("rehearsed", "old", ["old tasks"]),
    ("not_rehearsed", "old", ["old tasks"]),
    *(("rehearsed", other, COLUMNS) for other in ("not_rehearsed", "frozen", "from_scratch")),
    ("rehearsed", "new_alone", [NEW]),
    ("rehearsed_fused", "rehearsed", COLUMNS),
]


def change(params: dict) -> None:
    params["prepare"]["source"]["labelled"][NEW] = SHOTS
    params["teachers"][NEW]["updates"] = 200  # a task needs a teacher; nothing reads this one
    pca = {"code": "pipeline/fusions/pca.py", "class": "PCA", "dims": 64}
    params |= {"fusions": {"two": {**pca, "teachers": TWO}}, "students": ARMS}
    params["report"] |= {"baseline": "old", "strip": ["old"]}


def run(seed: int, arms: tuple[str, ...]) -> None:
    enter("extension", ROOT, seed, change)
    run_teachers(RESULTS, seed)
    run_arms(RESULTS, seed, arms or ARMS, student_result)


def table() -> None:
    found = {name: by_seed(RESULTS, name) for name in ARMS}
    seeds = ", ".join(map(str, found["old"]))
    lines = ["# A task more", "", f"Data seeds {seeds}, one student seed each; {MACHINE}", ""]
    lines += [f"Points on the clean test split. Segmentation from {SHOTS} labelled scenes, 600 updates;"]
    lines += ["`old` had 1,200 on the two others.", ""]
    lines += ["| arm | segmentation | old tasks | CPU seconds |", "|---|---|---|---|"]
    for name, results in found.items():
        cells = [spread(points(r, column) for r in results.values()) for column in COLUMNS]
        lines.append(f"| {name} | {' | '.join(cells)} | {spread(r['cost']['cpu_seconds'] for r in results.values())} |")
    lines += ["", "Paired by data seed: mean, 95 % t interval, every seed.", "", *contrasts(found, CONTRASTS, points)]
    (ROOT / "bench" / "extension.md").write_text("\n".join(lines) + "\n")


def points(result: dict, column: str) -> float:
    """Of a task, or the mean over the old ones; nan where the student lacks them."""
    clean = result["test"]["clean"]
    found = [100 * clean[task][PRIMARY[task]] for task in ([NEW] if column == NEW else TWO) if task in clean]
    return mean(found) if found else float("nan")


MACHINE = "2 cores of an Intel Xeon (AVX-512), torch 2.13.0 CPU, one thread, beside other processes."

if __name__ == "__main__":
    commands(run, table, ARMS)()
