"""Models of Hugging Face, from a folder or a hub: only safetensors and JSON, no pickle, no code that comes with them."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from torch import nn

from pipeline.project.class_spec import near
from pipeline.project.sections import on_a_hub

BROKEN = (OSError, ValueError, RuntimeError, LookupError, AttributeError, TypeError, ImportError)  # what its loaders raise
ATTENTION = "eager"  # the one that every model and its backbone have; a config could name code to be fetched

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


def load_pretrained(pretrained: str | None, architecture: str | None) -> tuple[Any, dict[str, Any]]:
    """A model in float32 with its weights, and its config. pretrained: a folder, or "<id>@<commit>" on a hub.

    architecture: its class in transformers; by default the one that its config names. Raises ValueError.
    """
    name_or_path, load_arguments = located(pretrained)
    try:
        config = transformers.AutoConfig.from_pretrained(name_or_path, trust_remote_code=False, **load_arguments)
        cls = architecture_of(config, architecture)
        if cls.config_class and not isinstance(config, cls.config_class):  # for a part of the model, as CLIPVisionModel is
            config = cls.config_class.from_pretrained(name_or_path, **load_arguments)
        loaded: Any = cls.from_pretrained(
            name_or_path,
            config=config,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            attn_implementation=ATTENTION,
            output_loading_info=True,
            **load_arguments,
        )
    except (*BROKEN, SafetensorError) as error:
        raise ValueError(f"{pretrained}: cannot be loaded as a model of Hugging Face: {first_line(error)}") from error
    model, loading_info = loaded
    lacking_keys = sorted(loading_info["missing_keys"])
    if lacking_keys:
        raise ValueError(
            f"{pretrained}: its weights lack {lacking_keys[0]} (and {len(lacking_keys) - 1} more) of {cls.__name__}; "
            "name the architecture that they belong to"
        )
    return model, {key: value for key, value in config.to_dict().items() if key != "_name_or_path"}


def from_config(config: dict[str, Any], architecture: str | None) -> nn.Module:
    """A model with fresh weights. config: as `load_pretrained` gives it."""
    settings = {key: value for key, value in config.items() if key != "model_type"}
    try:
        model_config = transformers.AutoConfig.for_model(str(config.get("model_type")), **settings)
        cls = architecture_of(model_config, architecture)
        return cls._from_config(model_config, attn_implementation=ATTENTION, dtype=torch.float32)
    except BROKEN as error:
        raise ValueError(f"config: not a model of Hugging Face: {first_line(error)}") from error


def located(pretrained: str | None) -> tuple[str, dict[str, Any]]:
    """What to load, and where from. Raises ValueError for a folder without weights, or with none but pickled ones."""
    if not pretrained:
        raise ValueError("pretrained: missing; name a folder with config.json and model.safetensors, or <id>@<commit> on a hub")
    if on_a_hub(pretrained):
        name, commit = pretrained.split("@")
        return name, {"revision": commit}
    folder = Path(pretrained)
    if not folder.is_dir():
        raise ValueError(f"pretrained: no folder {pretrained}; for a model on a hub give its commit too: <id>@<40 hex digits>")
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder}: no config.json; give a folder that `save_pretrained` wrote")
    if not list(folder.glob("*.safetensors")):
        pickled = [path.name for path in sorted(folder.iterdir()) if path.suffix in (".bin", ".pt", ".pth", ".ckpt")]
        has = f"only {pickled[0]}, which can run code and is never opened" if pickled else "no weights"
        raise ValueError(f"{folder}: {has}; write it as safetensors: `model.save_pretrained(folder)`")
    return str(folder), {"local_files_only": True}


def architecture_of(config: Any, architecture: str | None) -> type[transformers.PreTrainedModel]:
    name = architecture or next(iter(config.architectures or []), None)
    if not name:
        raise ValueError("its config names no architecture; give one, such as ViTModel")
    cls = getattr(transformers, name, None)
    if not isinstance(cls, type) or not issubclass(cls, transformers.PreTrainedModel):
        models = [model for model in dir(transformers) if model.startswith(name[:3])]
        raise ValueError(f"transformers has no architecture {name!r}{near(name, models)}")
    return cls


def first_line(error: Exception) -> str:
    """The first line of an error, and the next if the first ends with a colon."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])


def image_settings(pretrained: str) -> dict[str, Any]:
    """What a model's own processor does to images, as recorded beside its weights; empty if nothing was."""
    for file, part in (("preprocessor_config.json", None), ("processor_config.json", "image_processor")):
        path = fetched(pretrained, file)
        if path:
            content = json.loads(path.read_text("utf-8"))
            return dict(content[part] if part else content)
    return {}


def fetched(pretrained: str, file: str) -> Path | None:
    if not on_a_hub(pretrained):
        path = Path(pretrained) / file
        return path if path.is_file() else None
    name, commit = pretrained.split("@")
    cached_path = transformers.utils.cached_file(name, file, revision=commit, _raise_exceptions_for_missing_entries=False)
    return Path(cached_path) if cached_path else None
