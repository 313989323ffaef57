"""YAML that people write: read and written again with its comments and its layout."""

from ruamel.yaml import YAML


def round_trip() -> YAML:
    yaml = YAML()
    yaml.width = 1000
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml
