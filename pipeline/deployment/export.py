"""A student for use elsewhere: its weights, ONNX that answers as it does, and a card that says what it is."""

import logging
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, final

import numpy as np
import onnxruntime
import torch
from onnxruntime import quantization
from torch import Tensor, nn

from pipeline.batches.batches import Batch, in_order, input_fields, part, tensors
from pipeline.batches.pools import Rows
from pipeline.checkpoints import load_network, weights_of
from pipeline.deployment.model_card import SAID, Exported, card, classes_of, names_file, tested_as
from pipeline.deployment.prediction import check_unchanged
from pipeline.evaluation.scoring import judged, label_fields, score
from pipeline.network import Network, Outputs
from pipeline.project.params import Params
from pipeline.stores.store import Store, open_store
from pipeline.tasks.task import Task

OPSET = 20
BATCHES = (1, 5)  # rows to try it on at once: the batch axis is free
CLOSE = 1e-3  # of a head's largest logit: kernels differ in rounding
SAMPLE = 256  # rows of val to try it on, and to take the ranges of int8 from
CPU = torch.device("cpu")


def export(params: Params, data: Path, student: str, seed: int, out: Path, int8: bool) -> list[Exported]:
    """Write every network of a student to a folder, whole or not at all: .safetensors, .onnx, README.md, maybe .int8.onnx,
    and the files that its source puts beside them.

    data: where students, splits and scores are. Raises ValueError if ONNX does not answer as torch does; the cost of 8 bits
    is only reported.
    """
    files, out, source = weights_of(params, data / "students", student, seed), out.resolve(), params.source()
    check_replaceable(out)
    beside = source.beside()
    if beside:  # made from the data here, which may not be those it learned from
        check_unchanged(params, source, data / "splits" / "val.zarr")
    val = open_store(data / "splits" / "val.zarr")
    rows = part(next(in_order(val, input_fields(val), SAMPLE)), "inputs")
    tested = tested_as(data / "scores" / "students" / student / "scores.json", seed, files)
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent) as scratch:
        draft = Path(scratch) / out.name
        draft.mkdir()
        exported = [found for file in files for found in export_network(file, rows, val, draft, int8)]
        for name, content in beside.items():
            (draft / name).write_text(content, "utf-8")
        (draft / "README.md").write_text(card(student, files, exported, tested, classes_of(val), source, list(beside)), "utf-8")
        shutil.rmtree(out, ignore_errors=True)
        draft.rename(out)
    return [found._replace(file=out / found.file.name) for found in exported]


def check_replaceable(out: Path) -> None:
    """Raises ValueError if the folder has something that no export wrote and a new one would remove."""
    if not out.exists():
        return
    if not out.is_dir():
        raise ValueError(f"{out}: is a file; give a folder")
    names, model_card = [path.name for path in out.iterdir()], out / "README.md"
    said = model_card.read_text(errors="replace") if model_card.is_file() else ""
    others = [name for name in names if SAID not in said or not (name == "README.md" or names_file(said, name))]
    if others:
        raise ValueError(f"{out}: holds {others[0]}, which no export wrote and this one would remove; give another folder")


def export_network(weights: Path, rows: Rows, val: Store, out: Path, int8: bool) -> Iterator[Exported]:
    network, tasks, header = load_network(weights, CPU)
    shutil.copyfile(weights, out / weights.name)
    model = out / f"{weights.stem}.onnx"
    with quiet():
        write_onnx(network, {name: torch.from_numpy(rows[name][:2]) for name in sorted(header["inputs"])}, model)
    found = check(network, model, rows)
    if found.furthest > CLOSE:
        raise ValueError(
            f"{weights}: its ONNX is off by {found.furthest:.2g} of a head's largest logit, expected at most {CLOSE:g}"
        )
    yield found
    if int8:
        small = out / f"{weights.stem}.int8.onnx"
        with quiet():
            read = {name: rows[name] for name in found.takes}
            quantization.quantize_static(model, small, OneByOne(read), per_channel=True)
        yield check(network, small, rows)._replace(on_val=compared(network, tasks, small, val))


@final
class Positional(nn.Module):
    """A network with its inputs in the order of these names, and its logits in the order of its heads."""

    def __init__(self, network: Network, names: list[str]):
        super().__init__()
        self.network, self.names = network, names

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.network(dict(zip(self.names, inputs, strict=True))).logits.values())


@final
class OneByOne(quantization.CalibrationDataReader):
    """Rows as onnxruntime's calibration asks for them."""

    def __init__(self, rows: Rows):
        self.rows = ({name: x[i : i + 1] for name, x in rows.items()} for i in range(len(next(iter(rows.values())))))

    def get_next(self) -> Rows | None:
        return next(self.rows, None)


def write_onnx(network: Network, sample: dict[str, Tensor], path: Path) -> None:
    """Write ONNX with the inputs that are read, for any batch size, and any size of the axes that the encoder leaves free."""
    program = torch.onnx.export(
        Positional(network, list(sample)).eval(),
        tuple(sample.values()),
        input_names=list(sample),
        output_names=list(network.heads),
        dynamic_shapes=(tuple(dynamic_shapes(network, sample)),),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    inputs = program.model.graph.inputs
    for unread in [x for x in inputs if not x.uses()]:  # stored only for people to look at
        inputs.remove(unread)
    program.save(path, external_data=False)


def dynamic_shapes(network: Network, sample: dict[str, Tensor]) -> Iterator[dict[int, Any]]:
    """Each input's axes of any size: the batch, and those of the encoder's free_axes, {input: {axis: (name, most)}}."""
    free = getattr(network.encoder, "free_axes", {})
    named = {("batch", None), *(dim for axes in free.values() for dim in axes.values())}
    dims = {name: torch.export.Dim(name, min=1, max=most) for name, most in named}
    for name, x in sample.items():
        axes = {axis: dims[dim] for axis, (dim, _) in free.get(name, {}).items() if x.shape[axis] > 1}  # torch takes 1 as fixed
        yield {0: dims["batch"], **axes}


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what exporters say about torchvision, their own deprecations, and better models."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)


def check(network: Network, model: Path, rows: Rows) -> Exported:
    """Compare an ONNX file with torch, on batches of several sizes."""
    session = open_onnx(model)
    used = {x.name: rows[x.name] for x in session.get_inputs()}
    takes = {x.name: f"{' x '.join(map(str, x.shape))}, {x.type.removeprefix('tensor(')[:-1]}" for x in session.get_inputs()}
    furthest = 0.0
    for size in (*BATCHES, SAMPLE):
        with torch.no_grad():
            wanted = network(tensors({name: x[:size] for name, x in rows.items()}, CPU)).logits
        answers = session.run(list(wanted), {name: x[:size] for name, x in used.items()})
        for (name, x), y in zip(wanted.items(), answers, strict=True):
            if not np.isfinite(y).all():
                raise ValueError(f"{model}: output {name!r} is not finite on {size} rows of val")
            furthest = max(furthest, float(np.abs(x.numpy() - y).max()) / max(x.abs().max().item(), 1e-12))
    one = {name: x[:1] for name, x in used.items()}
    return Exported(model, takes, furthest, 1000 * median(seconds(session, one) for _ in range(50)))


def open_onnx(model: Path) -> onnxruntime.InferenceSession:
    """A session on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def compared(network: Network, tasks: dict[str, Task], model: Path, val: Store) -> dict[str, tuple[float, float]]:
    """{task: its primary metric on val, of the network and of an ONNX file that should answer as it does}."""
    session = open_onnx(model)
    mine = {name: task for name, task in tasks.items() if f"labels/{name}" in val.fields}

    def said() -> Iterator[tuple[Outputs, Batch]]:
        for rows in in_order(val, input_fields(val) + label_fields(mine, val), SAMPLE):
            found = session.run(list(network.heads), {x.name: rows[f"inputs/{x.name}"] for x in session.get_inputs()})
            yield Outputs({}, dict(zip(network.heads, map(torch.from_numpy, found), strict=True))), tensors(rows, CPU)

    ours, others = score(network, mine, val), judged(mine, said())
    return {name: (ours[name][task.primary], others[name][task.primary]) for name, task in mine.items()}


def seconds(session: onnxruntime.InferenceSession, inputs: Rows) -> float:
    start = time.perf_counter()
    session.run(None, inputs)
    return time.perf_counter() - start
