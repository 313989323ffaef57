"""A teacher's outputs on stored inputs: its features and logits, row by row, as compact as they will be stored."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from pipeline.batches.batches import MASK, Batch, Existing, in_order, input_fields, narrowed, part, tensors
from pipeline.batches.pools import Rows
from pipeline.losses.sparse import sample, top_k
from pipeline.network import Network, Outputs
from pipeline.project.class_spec import ParamsError
from pipeline.project.params import Params
from pipeline.project.sections import Recipe
from pipeline.stores.layout import Field, digest_ids
from pipeline.stores.recipes import principal_basis
from pipeline.stores.store import Store
from pipeline.stores.writer import Bases

BLOCK = 32  # consecutive rows of a sample
CALIBRATION = 1024  # rows that principal components are fitted on
RecipeOf = Callable[[str], Recipe]  # by field
Forward = Callable[[slice, int], Iterator[Outputs]]  # of rows, in batches of at most this many
WHOLE = Recipe(dtype="float32", codec="raw")


def forward_on(network: Network, store: Store) -> Forward:
    """A network run on rows of a store."""

    @torch.inference_mode()
    def forward(rows: slice, batch_size: int) -> Iterator[Outputs]:
        device = next(network.parameters()).device
        for batch in in_order(store, input_fields(store), batch_size, rows):
            yield network(part(tensors(batch, device), "inputs"))

    return forward


@torch.inference_mode()
def outputs_on(forward: Forward, name: str, rows: slice, batch_size: int, recipe: RecipeOf, seed: int = 0) -> Rows:
    """{"features/<name>/<tap>": (R, D, *grid), "logits/<name>/<task>": (R, C, *grid)} on some rows; see `compacted`.

    name: the teacher's. recipe: how a field will be stored. seed: of random draws; a row's do not depend on its batch.
    """
    arrays_by_field: dict[str, list[np.ndarray]] = {}
    row = rows.start or 0
    for outputs in forward(rows, batch_size):
        fields = outputs.fields(name)
        for field, tensor in fields.items():
            settings = recipe(field)
            for stored_field, values in compacted(field, tensor, settings, seed, row).items():
                dtype = "float32" if settings.dims else settings.dtype  # what projects them also rounds
                arrays_by_field.setdefault(stored_field, []).append(narrowed(values, dtype))
        row += len(next(iter(fields.values())))
    return {field: np.concatenate(arrays) for field, arrays in arrays_by_field.items()}


def compacted(field: str, x: Tensor, recipe: Recipe, seed: int, row: int) -> Batch:
    """A field as it is, or sparse logits: "<field>/ids", and for top_k "<field>/log_probs". row: the first's number."""
    if recipe.top_k:
        if recipe.top_k >= x.shape[1]:
            raise ParamsError(f"{field}: top_k {recipe.top_k} of {x.shape[1]} classes; keep fewer, or all without top_k")
        sparse = top_k(x, recipe.top_k)
    elif recipe.sampled:
        sparse = sample(x, recipe.sampled, starts(seed, row, x))
    else:
        return {field: x}
    return {f"{field}/{name}": values for name, values in vars(sparse).items() if values is not None}


def starts(seed: int, row: int, x: Tensor) -> Tensor:
    """Where the samples of these rows begin, in [0, 1): (B, 1, *grid)."""
    shape = (1, *x.shape[2:])
    uniforms = [np.random.default_rng([seed, number]).random(shape) for number in range(row, row + len(x))]
    return torch.from_numpy(np.stack(uniforms)).to(x.device)


def check_recipes(params: Params, name: str, outputs: Iterable[str]) -> None:
    """Refuse recipes for outputs that a teacher does not have, or that cannot be sparse. Raises ParamsError."""
    teacher = params.teachers[name]
    taps = [field.split("/", 2)[2] for field in outputs if field.startswith("features/")]
    output_names = [*(f"features/{tap}" for tap in taps), *(f"logits/{task}" for task in teacher.tasks)]
    for field in teacher.recipes:
        if field not in output_names:
            raise ParamsError(f"teachers.{name}.recipes.{field}: no such output; there are {', '.join(output_names)}")
    for key, task in params.build_tasks(teacher.tasks).items():
        recipe = params.recipe(f"logits/{name}/{key}")
        if (recipe.top_k or recipe.sampled) and not (task.sparse and task.temperature == 1):
            remedy = f"set tasks.{key}.temperature to 1, or " if task.sparse else ""
            raise ParamsError(
                f"logits/{name}/{key}: top_k and sampled are for a softmax over classes, distilled at temperature 1; "
                f"{remedy}name a recipe without them in teachers.{name}.recipes.logits/{key}"
            )


def blocks_of_rows(n_rows: int, n_sampled: int, seed: int) -> list[slice]:
    """About `n_sampled` rows of a store, at random, in blocks of consecutive rows."""
    firsts = np.random.default_rng(seed).permutation(range(0, n_rows, BLOCK))[: -(-n_sampled // BLOCK)]
    return [slice(first, min(first + BLOCK, n_rows)) for first in sorted(firsts.tolist())]


def calibrate(forward: Forward, name: str, store: Store, fields: dict[str, Field], seed: int) -> tuple[Bases, str]:
    """Principal components of features that will be stored in them, from some of the rows; and a digest of those rows.

    Positions that do not exist are left out.
    """
    dims = {field: f.dims for field, f in fields.items() if f.dims}
    if not dims:
        return {}, ""
    blocks = blocks_of_rows(store.n_rows, CALIBRATION, seed)
    arrays_by_field: dict[str, list[np.ndarray]] = {field: [] for field in dims}
    for block in blocks:
        mask = torch.from_numpy(store.read(MASK, block)) if MASK in store.fields else None
        outputs = outputs_on(forward, name, block, BLOCK, lambda field: WHOLE)
        for field, arrays in arrays_by_field.items():
            arrays.append(Existing(mask)(torch.from_numpy(outputs[field])).numpy())
    bases = {field: principal_basis(arrays, dims[field]) for field, arrays in arrays_by_field.items()}
    rows = np.concatenate([np.arange(block.start, block.stop) for block in blocks])
    return bases, digest_ids(store.sample_id[rows], store.view[rows])
