"""Networks on disk: one safetensors file each, with what it takes to rebuild them in its header."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from pipeline.network import Network
from pipeline.params import ClassSpec
from pipeline.store import Store
from pipeline.tasks.task import Task

Shapes = dict[str, list]


def input_shapes(store: Store) -> Shapes:
    """{input: [shape of a row, dtype]}."""
    return {
        name.removeprefix("inputs/"): [list(field.shape), field.dtype]
        for name, field in store.fields.items()
        if name.startswith("inputs/")
    }


def build_network(encoder: ClassSpec, tasks: dict[str, Task], shapes: Shapes, device: torch.device) -> Network:
    """A fresh network; its weights depend on torch's random seed alone, not on the device."""
    sample = {name: torch.zeros(2, *shape, dtype=getattr(torch, dtype)) for name, (shape, dtype) in shapes.items()}
    return Network(encoder.build(), tasks, sample).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def save_network(
    path: Path, network: Network, encoder: ClassSpec, tasks: dict[str, ClassSpec], shapes: Shapes, **about: Any
) -> None:
    """Write a network whole or not at all. about: JSON kept with it, such as the digest of the store it learned from."""
    heads = {name: tasks[name].as_dict() for name in network.heads}
    header = {"encoder": encoder.as_dict(), "tasks": heads, "inputs": shapes, **about}
    weights = {name: x.contiguous().cpu() for name, x in network.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    draft.write_bytes(save(weights, {"stillroom": json.dumps(header, sort_keys=True)}))
    os.replace(draft, path)


def load_network(path: Path, device: torch.device) -> tuple[Network, dict[str, Task], dict[str, Any]]:
    """The network, in evaluation mode, its tasks, and its header."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["stillroom"])
        weights: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tasks = {name: ClassSpec.model_validate(spec).build() for name, spec in header["tasks"].items()}
    network = build_network(ClassSpec.model_validate(header["encoder"]), tasks, header["inputs"], device)
    network.load_state_dict(weights)
    return network.eval(), tasks, header


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
