"""Unseen segmentation: a student that never saw a mask, fine-tuned on k scenes with theirs, encoder and all."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from statistics import mean

import numpy as np
import torch

from pipeline.batches.batches import Augment, cut
from pipeline.batches.pools import Rows, length, load, shuffled
from pipeline.checkpoints import build_network, load_network
from pipeline.evaluation.scoring import score
from pipeline.network import Network
from pipeline.project.class_spec import ClassSpec
from pipeline.project.lineage import open_project
from pipeline.stores.store import Store, open_store
from pipeline.training.learning import learn
from pipeline.training.optimize import Schedule

UPDATES, RATE, BATCH, DRAWS = 200, 0.01, 16, 3
TASK = "segmentation"
CPU = torch.device("cpu")


def finetune_scores(student: Path, unseen: Path, shots: list[int]) -> dict[str, dict[str, float]]:
    """{"student" | "scratch": {shots: points of mIoU, mean over draws of the scenes}}."""
    (file,) = student.glob("*.safetensors")
    train, test = open_store(unseen / "train.zarr"), open_store(unseen / "test.zarr")
    return {
        start: {
            str(k): 100 * mean(finetune(file, start == "scratch", train, test, k, draw) for draw in range(DRAWS)) for k in shots
        }
        for start in ("student", "scratch")
    }


def finetune(file: Path, scratch: bool, train: Store, test: Store, shots: int, draw: int) -> float:
    params = open_project()
    task = params.tasks[TASK].build()
    torch.manual_seed(draw)
    student, _, header = load_network(file, CPU)
    network: Network = build_network(ClassSpec.model_validate(header["encoder"]), {TASK: task}, header["inputs"], CPU)
    if not scratch:
        network.encoder.load_state_dict(student.encoder.state_dict())
    rows = np.random.default_rng(draw).permutation(train.n_rows)[:shots]
    kept = load(train, ["inputs/image", f"labels/{TASK}", f"labelled/{TASK}"], np.sort(rows))
    batches = augmented(kept, params.source().augment, np.random.default_rng(draw))
    schedule = Schedule(UPDATES, RATE, params.distill.weight_decay)
    more = {"val": test, "evaluations": 1, "advance": lambda updates: None}
    learn(network, {TASK: task}, {"labels": 1.0}, schedule, None, batches, **more)
    return score(network, {TASK: task}, test)[TASK]["mIoU"]


def augmented(kept: Rows, augment: Augment, rng: np.random.Generator) -> Iterator[Rows]:
    for batch in cut((shuffled(kept, rng.permutation(length(kept))) for _ in count()), BATCH):
        inputs, labels = augment(rng, {"image": batch["inputs/image"]}, {TASK: batch[f"labels/{TASK}"]})
        yield batch | {"inputs/image": inputs["image"], f"labels/{TASK}": labels[TASK]}
