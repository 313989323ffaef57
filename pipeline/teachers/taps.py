"""Where a teacher's features can be tapped: its inner modules, and the shape of each one's output."""

from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.batches.batches import tensors
from pipeline.checkpoints import build_encoder
from pipeline.encoders.tapped import TappedEncoder
from pipeline.network import Outputs, check_features
from pipeline.project.params import Params
from pipeline.teachers.imported import open_dump

ROWS = 2


class Tap(NamedTuple):
    """path: as in `taps`. kind: class of the module. row: shape of a row of the feature, or why there is none."""

    path: str
    kind: str
    row: tuple[int, ...] | str


@torch.inference_mode()
def taps_of(params: Params, name: str) -> list[Tap]:
    """Every tap that a teacher could have, found by running a few rows; for an imported one, its arrays."""
    teacher = params.teachers[name]
    if teacher.imported:
        dump = open_dump(teacher.imported)
        return [Tap(array, str(dump.shape(array)[1]), dump.shape(array)[0][1:]) for array in dump.names()]
    assert teacher.encoder
    inputs = {key: array[:ROWS] for key, array in params.source().preview()[1].inputs.items()}
    batch = tensors(inputs, torch.device("cpu"))
    tasks = params.build_tasks(teacher.tasks)
    encoder = build_encoder(teacher.encoder.without("taps"), tasks, teacher.pretrained).eval()
    if isinstance(encoder, TappedEncoder):
        kinds = {path: type(module).__name__ for path, module in encoder.module.named_modules() if path}
        _, outputs, size = encoder.run(batch, kinds)
        return [Tap(path, kind, row_of(encoder, path, outputs[path], size)) for path, kind in kinds.items()]
    output = encoder(batch)
    features = output.features if isinstance(output, Outputs) else output
    check_features(features, ROWS)
    return [Tap(tap, "", tuple(tensor.shape[1:])) for tap, tensor in features.items()]


def row_of(encoder: TappedEncoder, path: str, output: object, size: tuple[int, ...]) -> tuple[int, ...] | str:
    try:
        feature: Tensor = encoder.feature(path, output, size)
    except ValueError as error:
        return str(error).removeprefix(f"tap {path!r} ")
    return tuple(feature.shape[1:]) if len(feature) == ROWS else f"gives {len(feature)} for {ROWS} rows"
