"""YAML that people write: read as DVC reads it (YAML 1.2), or read and written again with its comments and its layout."""

from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter

from pipeline.project.class_spec import ParamsError


class Representer(RoundTripRepresenter):
    """Writes null as null; ruamel writes nothing, which on one line reads as a value that somebody forgot."""

    def represent_none(self, data: None) -> ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:null", "null")


Representer.add_representer(type(None), Representer.represent_none)


def plain() -> YAML:
    return YAML(typ="safe", pure=True)


def round_trip() -> YAML:
    yaml = YAML()
    yaml.Representer = Representer
    yaml.preserve_quotes = True
    yaml.width = 1000
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def loaded(yaml: YAML, path: Path, text: str | None = None) -> Any:
    """What a file holds, or will hold, if its text is given. Raises ParamsError."""
    try:
        return yaml.load(path.read_text("utf-8") if text is None else text)
    except FileNotFoundError:
        raise ParamsError(f"{path}: not found; run this in a project folder, one with params.yaml and dvc.yaml") from None
    except (OSError, UnicodeDecodeError, YAMLError, RecursionError) as error:
        raise ParamsError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from None


def dumped(content: Any) -> str:
    """What `round_trip` loaded, as text again."""
    text = StringIO()
    round_trip().dump(content, text)
    return text.getvalue()


def flow(value: Any) -> Any:
    """The same mapping or list, to be written on one line."""
    yaml, text = YAML(), StringIO()
    yaml.default_flow_style, yaml.width = True, 10**6
    yaml.dump(value, text)
    return yaml.load(text.getvalue())
