"""Logits of 10,000 classes in few numbers: what a student learns from them, against all of them.

    python bench/sparse.py    # writes bench/sparse.json and bench/sparse.md; about ten minutes

The teacher is a fixed random network whose distribution over classes is as skewed as a language model's over words; students
are fresh networks of another shape that learn from stored knowledge alone, as `distill` would: the same rows, order, updates
and loss scale, with only the recipe different. Scores are against the teacher's whole distribution, on rows of its own.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pipeline.losses.soft import soft_kl  # noqa: E402
from pipeline.losses.sparse import Sparse  # noqa: E402
from pipeline.project.sections import Recipe  # noqa: E402
from pipeline.teachers.extraction import compacted  # noqa: E402

CLASSES, INPUTS = 10_000, 32
ROWS, UPDATES, BATCH, TEST = 8192, 1000, 64, 2048
SEEDS = range(3)
MACHINE = "2 cores of an AMD EPYC (Zen 4), torch 2.13.0 CPU"
RAW = {"dtype": "float16", "codec": "raw"}
ARMS: dict[str, dict] = {
    "all logits": {},
    **{f"top {k}": {"top_k": k} for k in (12, 50)},
    **{f"top {k}, without the rest": {"top_k": k} for k in (12, 50)},
    **{f"{k} draws": {"sampled": k} for k in (12, 25, 50)},
}


def teacher(seed: int) -> Callable[[Tensor], Tensor]:
    """Logits of a two-layer network plus log-frequencies after Zipf."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(INPUTS, 64, generator=generator) / INPUTS**0.5
    second = torch.randn(64, CLASSES, generator=generator) / 8
    frequency = -torch.log(torch.arange(1, CLASSES + 1).float())[torch.randperm(CLASSES, generator=generator)]
    return lambda x: 3 * torch.tanh(2 * x @ first) @ second + frequency


def stored(logits: Tensor, recipe: Recipe) -> dict[str, Tensor]:
    """A field's arrays, in the types that a store keeps."""
    found = compacted("", logits, recipe, 0, 0)
    return {name.strip("/"): x.half() if x.is_floating_point() else x for name, x in found.items()}


def knowledge(arrays: dict[str, Tensor], rows: Tensor) -> Tensor | Sparse:
    batch = {name: x[rows] if x.dtype != torch.uint16 else x.int()[rows] for name, x in arrays.items()}
    batch = {name: x.float() if x.is_floating_point() else x for name, x in batch.items()}
    return batch[""] if "" in batch else Sparse(**batch)


def truncated(found: Sparse) -> Sparse:
    """Top k as most frameworks keep it: the kept classes share all the mass."""
    assert found.log_probs is not None
    kept = found.log_probs[:, :-1].log_softmax(1)
    return Sparse(found.ids, torch.cat([kept, torch.full_like(kept[:, :1], -1e4)], 1))


def distil(x: Tensor, arrays: dict[str, Tensor], seed: int, forget_rest: bool) -> nn.Module:
    torch.manual_seed(seed)
    student = nn.Sequential(nn.Linear(INPUTS, 128), nn.GELU(), nn.Linear(128, CLASSES))
    optimizer = torch.optim.AdamW(student.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, UPDATES)
    for _ in range(UPDATES):
        rows = torch.randint(len(x), (BATCH,))
        target = knowledge(arrays, rows)
        if forget_rest:
            assert isinstance(target, Sparse)
            target = truncated(target)
        loss = soft_kl(student(x[rows]), target, 1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return student.eval()


@torch.inference_mode()
def scores(student: nn.Module, x: Tensor, logits: Tensor) -> dict[str, float]:
    """KL from the teacher in nats; top-1 agreement; expected calibration error against draws of the teacher, 15 bins."""
    log_p, log_q = logits.double().log_softmax(1), student(x).double().log_softmax(1)
    confidence, chosen = log_q.exp().max(1)
    right = log_p.exp().gather(1, chosen[:, None])[:, 0]
    bins = (confidence * 15).long().clamp(max=14)
    gaps = [(confidence[bins == b] - right[bins == b]).sum().abs().item() for b in range(15)]
    kl = (log_p.exp() * (log_p - log_q)).sum(1).mean().item()
    return {"kl": kl, "top1": (chosen == log_p.argmax(1)).double().mean().item(), "ece": sum(gaps) / len(x)}


def run() -> dict[str, dict]:
    results: dict[str, dict] = {name: {"seeds": []} for name in ARMS}
    for seed in SEEDS:
        x, label = torch.randn(ROWS + TEST, INPUTS, generator=torch.Generator().manual_seed(100 + seed)), teacher(seed)
        logits, test = label(x[:ROWS]), label(x[ROWS:])
        for name, recipe in ARMS.items():
            arrays = stored(logits, Recipe(**RAW, **recipe))
            results[name]["bytes"] = sum(a[:1].nbytes for a in arrays.values())
            student = distil(x[:ROWS], arrays, seed, "without" in name)
            results[name]["seeds"].append(scores(student, x[ROWS:], test))
            print(seed, name, results[name]["bytes"], results[name]["seeds"][-1], flush=True)
    return results


def table(results: dict[str, dict]) -> str:
    lines = ["# Logits of 10,000 classes", ""]
    lines += [f"{len(SEEDS)} seeds of data, teacher and student; {ROWS} rows, {UPDATES} updates; {MACHINE}. Mean +- sd.", ""]
    lines += ["| stored | bytes a row | KL from the teacher, nats | top-1 agreement | calibration error |", "|---" * 5 + "|"]
    for name, found in results.items():
        columns = [[s[key] for s in found["seeds"]] for key in ("kl", "top1", "ece")]
        cells = [f"{mean(c):.3f} +- {stdev(c):.3f}" for c in columns]
        lines.append(f"| {name} | {found['bytes']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if "--help" in sys.argv:
        sys.exit(print(__doc__))
    results = run()
    (ROOT / "bench" / "sparse.json").write_text(json.dumps({"machine": MACHINE, "arms": results}, indent=1) + "\n")
    (ROOT / "bench" / "sparse.md").write_text(table(results))
    print(table(results))
