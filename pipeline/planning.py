"""What a run will store and how long its dump will take, estimated from a few rows before any work."""

import math
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.atomic import write_whole
from pipeline.batches.batches import Batch, part, tensors
from pipeline.checkpoints import Shapes, build_network, teacher_network
from pipeline.device import pick_device
from pipeline.manners import named
from pipeline.network import Network, Outputs
from pipeline.project.params import Params
from pipeline.project.sections import Recipe
from pipeline.sources.source import Split
from pipeline.stores.checks import check_fields
from pipeline.stores.encoding import stored_arrays
from pipeline.stores.layout import Field, arrays_of, count_files, field_of
from pipeline.stores.recipes import principal_basis
from pipeline.stores.shard import encode_shard
from pipeline.teachers.extraction import check_recipes, compacted
from pipeline.teachers.imported import open_dump, read_outputs

SLOW = 1.0  # seconds: if a teacher's pass over a few rows takes longer, a full batch is not tried
PROBE = 2**26  # bytes written to find the disk's rate
STEP = 256  # rows that a shard is a multiple of
SHARD = 2**27  # bytes of a good shard of the widest field: few files, and work that can be lost to a kill


@dataclass(frozen=True)
class PlannedField:
    """row_bytes: stored, estimated by encoding a few rows."""

    store: str
    name: str
    field: Field
    row_bytes: float


@dataclass(frozen=True)
class Plan:
    """dump_seconds: {teacher: time of its forward passes}. write_rate: bytes per second. free: bytes of disk."""

    rows: int
    shard_rows: int
    fields: list[PlannedField]
    dump_seconds: dict[str, float]
    write_rate: float
    free: int

    def field_bytes(self, f: PlannedField) -> float:
        """Bytes stored; a raw shard is full size even if it has fewer rows."""
        full = f.field.codec == "raw" and not f.field.max_items
        return f.row_bytes * (self.rows + (-self.rows % self.shard_rows if full else 0))

    @property
    def bytes(self) -> float:
        return sum(map(self.field_bytes, self.fields))

    @property
    def files(self) -> int:
        """Files of all stores, except those that a fusion's store links from others."""
        stores: dict[str, dict[str, Field]] = {}
        for f in self.fields:
            stores.setdefault(f.store, {})[f.name] = f.field
        return sum(count_files(fields, self.rows, self.shard_rows) for fields in stores.values())

    @property
    def better_shard_rows(self) -> int:
        """The power of two that makes shards of the widest field closest to 128 MiB; in a store too small for that, just
        enough for all rows."""
        widest = max(f.row_bytes for f in self.fields)
        return min(2 ** round(math.log2(SHARD / widest)), STEP * math.ceil(self.rows / STEP))


def make_plan(params: Params, data: Path) -> Plan:
    """Plan the run of a project whose stores will lie in the folder `data`. Networks are fresh: only their size counts."""
    rows, preview = params.source().preview()
    grids = grids_of_students(params, preview)
    planned = [planned_field(params, rows, "transfer", name, array, None) for name, array in preview.fields().items()]
    features: dict[str, Tensor] = {}
    seconds = {}
    for name in params.teachers:
        rate, outputs = (try_dump if params.teachers[name].imported else try_teacher)(params, name, preview)
        seconds[name] = rows / rate
        check_recipes(params, name, outputs)
        for field, tensor in outputs.items():
            recipe = params.recipe(field)
            if recipe.top_k or recipe.sampled:
                # an untrained teacher ranks classes alike everywhere, which compresses too well
                tensor = torch.randn_like(tensor)
            for stored_field, values in compacted(field, tensor, recipe, 0, 0).items():
                planned.append(planned_field(params, rows, f"features {name}", stored_field, values.numpy(), recipe))
        features |= part(outputs, "features")
    for name, spec in params.fusions.items():
        teacher_features = {key: tensor for key, tensor in features.items() if key.split("/")[0] in params.fused(name)}
        with named(f"fusions.{name}"):
            fused = spec.build().fit([teacher_features]).transform(teacher_features) if teacher_features else {}
        check_grids(params, name, {target: tuple(tensor.shape[2:]) for target, tensor in fused.items()}, grids)
        planned += [
            planned_field(params, rows, name, f"fused/{target}", tensor.numpy(), params.fuse.fused)
            for target, tensor in fused.items()
        ]
    return Plan(rows, params.prepare.shard_rows, planned, seconds, write_rate(data), shutil.disk_usage(existing(data)).free)


def planned_field(
    params: Params, rows: int, store: str, name: str, few_rows: np.ndarray | list, recipe: Recipe | None
) -> PlannedField:
    shard_rows = params.prepare.shard_rows
    field = recipe.field(few_rows) if recipe and not isinstance(few_rows, list) else field_of(few_rows)
    check_fields({name: field}, rows, shard_rows, store)
    small_field = replace(field, chunk_rows=len(few_rows))
    basis = principal_basis([few_rows], field.dims) if field.dims and not isinstance(few_rows, list) else None
    parts = stored_arrays(Path(store), name, few_rows, small_field, slice(0, len(few_rows)), basis)
    row_bytes = 0.0
    for array, layout in arrays_of(name, small_field, len(few_rows)).items():
        size = sum(map(len, encode_shard(parts[array], layout)))
        row_bytes += size / (shard_rows if layout.dimension == "shard" else len(few_rows))
    return PlannedField(store, name, field, row_bytes)


def shapes_of(preview: Split) -> Shapes:
    return {name: [list(array.shape[1:]), array.dtype.name] for name, array in preview.inputs.items()}


def grids_of_students(params: Params, preview: Split) -> dict[str, tuple[int, ...]]:
    """Build every student once, to check that the inputs it reads exist: {name: grid of its trunk}. Raises ValueError."""
    grids = {}
    for name in params.students:
        student = params.student(name)
        tasks = {task: student.build_task(params.tasks[task]) for task in student.tasks}
        try:
            grids[name] = build_network(
                student.encoder, tasks, shapes_of(preview), torch.device("cpu"), about=preview.about
            ).grid
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"students.{name}: {error}") from error
    return grids


def check_grids(params: Params, fusion: str, targets: dict[str, tuple[int, ...]], grids: dict[str, tuple[int, ...]]) -> None:
    """Raises ValueError if a student that learns from this fusion's targets has a different grid."""
    for name in params.students:
        student = params.student(name)
        learns = student.reads == fusion and "fused" in student.weights
        for target, grid in targets.items():
            if learns and grid != grids[name]:
                raise ValueError(
                    f"students.{name}: its trunk's grid is {grids[name]}, and that of fused/{target}, which {fusion} makes, is "
                    f"{grid}; give the teachers' encoders grid: {[*grids[name]]}, or taps of that size"
                )


@torch.inference_mode()
def try_teacher(params: Params, name: str, preview: Split) -> tuple[float, dict[str, Tensor]]:
    """Rows per second of a teacher of this size, and its outputs on a few rows: {"features/...", "logits/..."}."""
    device = pick_device(params.device)
    network = teacher_network(params, name, shapes_of(preview), device, preview.about).eval()
    size, n_kept = params.extract.batch_size, min(params.extract.batch_size, len(preview.view))
    _, seconds = passes(network, batch_of(preview, n_kept, device), 1)
    size = n_kept if seconds > SLOW else size
    outputs, seconds = passes(network, batch_of(preview, size, device), 3)
    rate = size / seconds
    return rate, {field: tensor[:n_kept].cpu() for field, tensor in outputs.fields(name).items()}


def passes(network: Network, batch: Batch, n_passes: int) -> tuple[Outputs, float]:
    """A network's outputs on a batch, and seconds per pass, not counting a first one, which loads kernels."""
    network(batch)
    start = time.perf_counter()
    for _ in range(n_passes):
        outputs = network(batch)
        _ = [tensor.cpu() for tensor in outputs.fields("").values()]  # waits for the device
    return outputs, (time.perf_counter() - start) / n_passes


def batch_of(preview: Split, size: int, device: torch.device) -> Batch:
    return tensors({key: np.resize(array[:], (size, *array.shape[1:])) for key, array in preview.inputs.items()}, device)


def try_dump(params: Params, name: str, preview: Split) -> tuple[float, dict[str, Tensor]]:
    """As `try_teacher`, for an imported dump: as many of its rows, whichever they are."""
    spec = params.teachers[name].imported
    assert spec
    dump = open_dump(spec)
    rows = np.resize(np.arange(len(dump.ids()[0])), min(params.extract.batch_size, len(preview.view)))
    return math.inf, read_outputs(dump, spec.outputs, rows).fields(name)


def write_rate(folder: Path) -> float:
    """Bytes per second that the disk under a folder can write, with fsync."""
    with tempfile.TemporaryDirectory(dir=existing(folder)) as scratch:
        data = np.random.default_rng(0).bytes(PROBE)
        start = time.perf_counter()
        write_whole(Path(scratch) / "probe", data)
        return PROBE / (time.perf_counter() - start)


def existing(folder: Path) -> Path:
    return next(p for p in [folder, *folder.resolve().parents] if p.is_dir())


def lines(plan: Plan) -> Iterator[str]:
    """What a plan says below its table; the last line is the verdict."""
    write_seconds = plan.bytes / plan.write_rate
    teacher_times = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in plan.dump_seconds.items())
    shards = -(-plan.rows // plan.shard_rows)
    yield f"about {plan.rows} rows in {shards} shard{'s' if shards > 1 else ''}; {plan.files} files"
    yield (
        f"dump: {sum(plan.dump_seconds.values()):.0f} s of forward passes ({teacher_times}), "
        f"beside {write_seconds:.0f} s of writing"
    )
    if plan.better_shard_rows > 2 * plan.shard_rows:
        yield f"prepare.shard_rows: {plan.better_shard_rows} instead of {plan.shard_rows} would make fewer and larger files"
    yield f"disk: {plan.bytes / 1e6:.0f} MB to write, {plan.free / 1e6:.0f} MB free"
