"""A teacher's outputs dumped elsewhere, row by row as if it ran here."""

from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from pipeline.dumps.dump import Dump, check_arrays, check_complete, floats, keys_of, places
from pipeline.network import Outputs
from pipeline.project.sections import ImportedSpec
from pipeline.stores.store import Store

TOGETHER = 1024  # rows read at once: if a dump is in another order, every batch would decode every chunk


def open_dump(spec: ImportedSpec) -> Dump:
    """Open a dump, and check that its arrays are what params say. Raises StoreError."""
    dump: Dump = spec.build(files=Path(spec.files))
    check_arrays(dump, spec.outputs)
    return dump


@final
@dataclass(frozen=True)
class Imported:
    """A dump's rows in the order of a store. outputs: {output: array}. places: each row's in the dump; -1: not there."""

    dump: Dump
    outputs: dict[str, str]
    places: np.ndarray

    @property
    def complete(self) -> bool:
        return bool((self.places >= 0).all())

    def forward(self, rows: slice, batch_size: int) -> Iterator[Outputs]:
        """Like a network run on these rows, all of which must be there."""
        dump_rows = self.places[rows]
        read_size = batch_size * max(1, TOGETHER // batch_size)
        for first in range(0, len(dump_rows), read_size):
            outputs = read_outputs(self.dump, self.outputs, dump_rows[first : first + read_size])
            for begin in range(0, min(read_size, len(dump_rows) - first), batch_size):
                yield outputs.map(itemgetter(slice(begin, begin + batch_size)))


def import_for(spec: ImportedSpec, *stores: Store) -> list[Imported]:
    """A dump in the order of each store. Raises StoreError if it lacks a row of the first."""
    dump = open_dump(spec)
    keys = keys_of(dump)
    imports = [Imported(dump, spec.outputs, places(keys, store)) for store in stores]
    check_complete(dump, imports[0].places, stores[0])
    return imports


def read_outputs(dump: Dump, outputs: dict[str, str], rows: np.ndarray) -> Outputs:
    """Rows of a dump, as a network would output them."""
    tensors_by_kind: dict[str, dict[str, Tensor]] = {"features": {}, "logits": {}}
    for output, array in outputs.items():
        kind, _, name = output.partition("/")
        tensors_by_kind[kind][name] = torch.from_numpy(floats(dump, array, rows)).float()
    return Outputs(**tensors_by_kind)
