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
        exported = [model for file in files for model in export_network(file, rows, val, draft, int8)]
        for name, content in beside.items():
            (draft / name).write_text(content, "utf-8")
        (draft / "README.md").write_text(card(student, files, exported, tested, classes_of(val), source, list(beside)), "utf-8")
        shutil.rmtree(out, ignore_errors=True)
        draft.rename(out)
    return [model._replace(file=out / model.file.name) for model in exported]


def check_replaceable(out: Path) -> None:
    """Raises ValueError if the folder has something that no export wrote and a new one would remove."""
    if not out.exists():
        return
    if not out.is_dir():
        raise ValueError(f"{out}: is a file; give a folder")
    names, model_card = [path.name for path in out.iterdir()], out / "README.md"
    card_text = model_card.read_text("utf-8", errors="replace") if model_card.is_file() else ""
    foreign_names = [
        name for name in names if SAID not in card_text or not (name == "README.md" or names_file(card_text, name))
    ]
    if foreign_names:
        raise ValueError(
            f"{out}: holds {foreign_names[0]}, which no export wrote and this one would remove; give another folder"
        )


def export_network(weights: Path, rows: Rows, val: Store, out: Path, int8: bool) -> Iterator[Exported]:
    network, tasks, header = load_network(weights, CPU)
    shutil.copyfile(weights, out / weights.name)
    model = out / f"{weights.stem}.onnx"
    with quiet():
        write_onnx(network, {name: torch.from_numpy(rows[name][:2]) for name in sorted(header["inputs"])}, model)
    exported = check(network, model, rows)
    if exported.furthest > CLOSE:
        raise ValueError(
            f"{weights}: its ONNX is off by {exported.furthest:.2g} of a head's largest logit, expected at most {CLOSE:g}"
        )
    yield exported
    if int8:
        int8_model = out / f"{weights.stem}.int8.onnx"
        with quiet():
            inputs = {name: rows[name] for name in exported.takes}
            quantization.quantize_static(model, int8_model, OneByOne(inputs), per_channel=True)
        yield check(network, int8_model, rows)._replace(on_val=compared(network, tasks, int8_model, val))


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
        self.rows = ({name: array[i : i + 1] for name, array in rows.items()} for i in range(len(next(iter(rows.values())))))

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
    for unread in [graph_input for graph_input in inputs if not graph_input.uses()]:  # stored only for people to look at
        inputs.remove(unread)
    program.save(path, external_data=False)


def dynamic_shapes(network: Network, sample: dict[str, Tensor]) -> Iterator[dict[int, Any]]:
    """Each input's axes of any size: the batch, and those of the encoder's free_axes, {input: {axis: (name, most)}}."""
    free = getattr(network.encoder, "free_axes", {})
    named_axes = {("batch", None), *(dim for axes in free.values() for dim in axes.values())}
    dims = {name: torch.export.Dim(name, min=1, max=most) for name, most in named_axes}
    for name, tensor in sample.items():
        axes = {
            axis: dims[dim]
            for axis, (dim, _) in free.get(name, {}).items()
            if tensor.shape[axis] > 1  # torch takes 1 as fixed
        }
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
    inputs = {node.name: rows[node.name] for node in session.get_inputs()}
    takes = {
        node.name: f"{' x '.join(map(str, node.shape))}, {node.type.removeprefix('tensor(')[:-1]}"
        for node in session.get_inputs()
    }
    furthest = 0.0
    for size in (*BATCHES, SAMPLE):
        with torch.no_grad():
            torch_logits = network(tensors({name: array[:size] for name, array in rows.items()}, CPU)).logits
        onnx_logits = session.run(list(torch_logits), {name: array[:size] for name, array in inputs.items()})
        for (name, expected), actual in zip(torch_logits.items(), onnx_logits, strict=True):
            if not np.isfinite(actual).all():
                raise ValueError(f"{model}: output {name!r} is not finite on {size} rows of val")
            furthest = max(furthest, float(np.abs(expected.numpy() - actual).max()) / max(expected.abs().max().item(), 1e-12))
    one_row = {name: array[:1] for name, array in inputs.items()}
    return Exported(model, takes, furthest, 1000 * median(seconds(session, one_row) for _ in range(50)))


def open_onnx(model: Path) -> onnxruntime.InferenceSession:
    """A session on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def compared(network: Network, tasks: dict[str, Task], model: Path, val: Store) -> dict[str, tuple[float, float]]:
    """{task: its primary metric on val, of the network and of an ONNX file that should answer as it does}."""
    session = open_onnx(model)
    labelled_tasks = {name: task for name, task in tasks.items() if f"labels/{name}" in val.fields}

    def said() -> Iterator[tuple[Outputs, Batch]]:
        for rows in in_order(val, input_fields(val) + label_fields(labelled_tasks, val), SAMPLE):
            logits = session.run(list(network.heads), {node.name: rows[f"inputs/{node.name}"] for node in session.get_inputs()})
            yield Outputs({}, dict(zip(network.heads, map(torch.from_numpy, logits), strict=True))), tensors(rows, CPU)

    torch_scores, onnx_scores = score(network, labelled_tasks, val), judged(labelled_tasks, said())
    return {name: (torch_scores[name][task.primary], onnx_scores[name][task.primary]) for name, task in labelled_tasks.items()}


def seconds(session: onnxruntime.InferenceSession, inputs: Rows) -> float:
    start = time.perf_counter()
    session.run(None, inputs)
    return time.perf_counter() - start
