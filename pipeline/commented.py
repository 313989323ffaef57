"""YAML that people write: read as DVC reads it (YAML 1.2), or read and written again with its comments and its layout."""

from ruamel.yaml import YAML


def plain() -> YAML:
    return YAML(typ="safe", pure=True)


def round_trip() -> YAML:
    yaml = YAML()
    yaml.width = 1000
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml
