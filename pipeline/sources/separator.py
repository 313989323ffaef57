"""What lies between the cells of a table."""

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}


def separator_of(header: str) -> str:
    """The one that its first line has most of."""
    return max(SEPARATORS, key=header.count)
