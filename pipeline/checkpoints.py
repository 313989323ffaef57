"""Networks on disk: one safetensors file each, with what it takes to rebuild them in its header."""

import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from pipeline.atomic import write_whole
from pipeline.batches.batches import tensors
from pipeline.encoders.weights import load_weights
from pipeline.network import Network
from pipeline.project.class_spec import ClassSpec, ParamsError, near
from pipeline.project.params import Params
from pipeline.stores.store import Store
from pipeline.tasks.task import Task

Shapes = dict[str, list]
About = Mapping[str, Mapping[str, Any]]  # {input: attributes of its field, such as its tokenizer}


def input_shapes(store: Store) -> Shapes:
    """{input: [shape of a row, dtype]}."""
    return {
        name.removeprefix("inputs/"): [list(field.shape), field.dtype]
        for name, field in store.fields.items()
        if name.startswith("inputs/")
    }


def about_inputs(store: Store) -> About:
    return {name: store.fields[f"inputs/{name}"].attributes for name in input_shapes(store)}


def build_network(
    encoder: ClassSpec,
    tasks: dict[str, Task],
    shapes: Shapes,
    device: torch.device,
    pretrained: str | None = None,
    about: About | None = None,
) -> Network:
    """A fresh network; its weights depend on torch's random seed alone, not on the device. pretrained: see build_encoder.

    about: attributes of a store's inputs; an encoder may have a method `check_inputs` that refuses inputs which would mean
    something else to it. Raises ParamsError.
    """
    sample = {name: torch.zeros(2, *shape, dtype=getattr(torch, dtype)) for name, (shape, dtype) in shapes.items()}
    module = build_encoder(encoder, tasks, pretrained)
    check: Callable[[About], None] | None = getattr(module, "check_inputs", None)
    if check and about is not None:
        try:
            check(about)
        except ValueError as error:
            raise ParamsError(f"{encoder._where}: {error}") from None
    return Network(module, tasks, tensors(sample, torch.device("cpu"))).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def build_encoder(encoder: ClassSpec, tasks: dict[str, Task], pretrained: str | None) -> nn.Module:
    """An encoder with its weights: a class that takes `pretrained` loads them itself, any other from a safetensors file."""
    module = encoder.build(tasks=tasks, pretrained=pretrained)
    if pretrained and "pretrained" not in inspect.signature(encoder.load()).parameters:
        load_weights(module, Path(pretrained))
    return module


def teacher_network(params: Params, name: str, shapes: Shapes, device: torch.device, about: About | None = None) -> Network:
    """A teacher before training. Raises ValueError if a head would stay untrained, or updates have nothing to train."""
    teacher = params.teachers[name]
    assert teacher.encoder
    tasks = params.build_tasks(teacher.tasks)
    try:
        network = build_network(teacher.encoder, tasks, shapes, device, teacher.pretrained, about)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"teachers.{name}: {error}") from error
    fresh_heads = [task for task, head in network.heads.items() if list(head.parameters())]
    if fresh_heads and not teacher.updates:
        raise ValueError(
            f"teachers.{name}.updates: 0 would leave the head of {fresh_heads[0]} untrained; give updates (frozen: true trains "
            "heads alone), or to_logits if the encoder has an answer of its own, or take the task out of tasks"
        )
    if teacher.updates and teacher.frozen and not fresh_heads:
        raise ValueError(f"teachers.{name}.updates: a frozen encoder with answers of its own leaves nothing to train; give 0")
    return network


def save_network(
    path: Path, network: Network, encoder: ClassSpec, tasks: dict[str, ClassSpec], shapes: Shapes, **about: Any
) -> None:
    """Write a network whole or not at all. about: JSON kept with it, such as the digest of the store it learned from.

    An encoder's attribute `recorded` holds arguments that rebuild it without the files that it came from.
    """
    heads = {name: tasks[name].as_dict() for name in network.heads}
    recorded = encoder.as_dict() | getattr(network.encoder, "recorded", {})
    header = {"encoder": recorded, "tasks": heads, "inputs": shapes, **about}
    # some may share memory, which safetensors refuses
    tied_weights = {name: tensor.cpu() for name, tensor in network.state_dict().items()}
    weights = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tied_weights.items()}
    write_whole(path, save(weights, {"stillroom": json.dumps(header, sort_keys=True)}))


def load_network(path: Path, device: torch.device) -> tuple[Network, dict[str, Task], dict[str, Any]]:
    """The network, in evaluation mode, its tasks, and its header. Raises ValueError."""
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()["stillroom"])
            weights: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: not a Stillroom network, or damaged ({error}); train it again, or `dvc checkout` it"
        ) from None
    tasks = {name: ClassSpec.model_validate(spec).build() for name, spec in header["tasks"].items()}
    network = build_network(ClassSpec.model_validate(header["encoder"]), tasks, header["inputs"], device)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            f"{path}: its weights do not fit the network that its code builds now ({error}); train it again"
        ) from None
    return network.eval(), tasks, header


def weights_of(params: Params, students: Path, name: str, seed: int) -> list[Path]:
    """A student's files. Raises ParamsError if params name no such student, ValueError with the seeds there are if not this."""
    if name not in params.students:
        raise ParamsError(f"params.yaml: no student named {name!r}{near(name, params.students)}")
    files = sorted((students / name / f"seed-{seed}").glob("*.safetensors"))
    if not files:
        names = sorted(path.parent.relative_to(students).as_posix() for path in students.glob(f"{name}/seed-*/*.safetensors"))
        hint = f"there are {', '.join(dict.fromkeys(names))}" if names else "there is none"
        raise ValueError(
            f"{students}: no student {name}/seed-{seed}; {hint}; `dvc repro distill@{name}` trains it, "
            f"`dvc pull {students / name}` gets it"
        )
    return files


def begin_as(network: Network, path: Path) -> None:
    """Copy the encoder of a network on disk, and its heads of the tasks that both have. Raises ValueError."""
    other, _, _ = load_network(path, torch.device("cpu"))
    try:
        network.encoder.load_state_dict(other.encoder.state_dict())
        for task in network.heads.keys() & other.heads.keys():
            network.heads[task].load_state_dict(other.heads[task].state_dict())
    except RuntimeError as error:
        raise ValueError(f"{path}: its shapes differ: {' '.join(str(error).split())}") from None
