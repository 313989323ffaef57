"""An imported dump before it is accepted: checked, digested, and scored on the test splits that it covers."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.atomic import write_json
from pipeline.batches.batches import Batch, in_order, tensors
from pipeline.batches.pools import load
from pipeline.evaluation.scoring import BATCH, Scores, judged, label_fields
from pipeline.network import Outputs
from pipeline.project.dependencies import digest_of_data
from pipeline.project.sections import SHOWN, ImportedSpec
from pipeline.stores.shard import StoreError
from pipeline.stores.store import Store
from pipeline.tasks.task import Task
from pipeline.teachers.imported import Imported, import_for

CPU = torch.device("cpu")


def accept(
    spec: ImportedSpec, tasks: dict[str, Task], store: Store, splits: dict[str, Store], record: Path
) -> tuple[dict[str, Scores], dict[str, Tensor]]:
    """Check a dump before it is imported, and note its digest. Raises StoreError.

    Returns its scores {split: {task: {metric: value}}}, and its logits {task: (R, C, *grid)} on the first rows of "clean",
    those that pictures may show; both only for splits that were dumped whole.
    """
    transfer, *imports = import_for(spec, store, *splits.values())
    imports_by_split = dict(zip(splits, imports, strict=True))
    for name, task in tasks.items():
        check_logits(transfer, name, task, store)
    write_json(record, {"imported": spec.as_dict(), "content": digest_of_data([spec.files])})
    tested = {name: scores_of(imports_by_split[name], tasks, split) for name, split in splits.items()}
    clean = imports_by_split["clean"]
    return tested, next(clean.forward(slice(0, SHOWN), SHOWN)).logits if clean.complete else {}


def check_logits(imported: Imported, name: str, task: Task, store: Store) -> None:
    """Refuse logits that are not a prediction of a task, tried on one labelled row. Raises StoreError."""
    row = int(np.argmax(store.read(f"labelled/{name}"))) if f"labelled/{name}" in store.fields else 0
    (outputs,) = imported.forward(slice(row, row + 1), 1)
    pred, label = outputs.logits[name], torch.from_numpy(load(store, [f"labels/{name}"], slice(row, row + 1))[f"labels/{name}"])
    try:
        losses = task.loss(pred, label), task.distill_loss(pred, pred)
        fits = all(loss.shape == (1,) for loss in losses)
    except (RuntimeError, ValueError, IndexError):
        fits = False
    if not fits:
        array, kind = imported.outputs[f"logits/{name}"], type(task).__name__
        raise StoreError(
            f"{imported.dump.files}: array {array!r} has rows of shape {tuple(pred.shape[1:])}, not predictions of {name!r}; "
            f"see Predictions in the docstring of {kind}"
        )


def scores_of(imported: Imported, tasks: dict[str, Task], split: Store) -> Scores:
    """{task: {metric: value}} on a split; empty where not all of it was dumped."""
    return judged(tasks, said_of(imported, split, label_fields(tasks, split))) if tasks and imported.complete else {}


def said_of(imported: Imported, split: Store, fields: list[str]) -> Iterator[tuple[Outputs, Batch]]:
    row = 0
    for rows in in_order(split, fields, BATCH):
        size = len(next(iter(rows.values())))
        (outputs,) = imported.forward(slice(row, row + size), size)
        yield outputs, tensors(rows, CPU)
        row += size
