"""YAML that people write: read as DVC reads it (YAML 1.2), or read and written again with its comments and its layout."""

from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import BaseRepresenter


def plain() -> YAML:
    return YAML(typ="safe", pure=True)


def round_trip() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1000
    yaml.representer.add_representer(type(None), as_null)
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def as_null(representer: BaseRepresenter, value: None) -> ScalarNode:
    """ruamel writes nothing in its place, which on one line reads as a key that somebody forgot."""
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")


def dumped(content: Any) -> str:
    """What `round_trip` loaded, as text again."""
    text = StringIO()
    round_trip().dump(content, text)
    return text.getvalue()


def flow(value: Any) -> Any:
    """A mapping or list that is written on one line."""
    yaml, text = YAML(), StringIO()
    yaml.default_flow_style, yaml.width = True, 10**6
    yaml.dump(value, text)
    return yaml.load(text.getvalue())
