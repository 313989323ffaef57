"""Labels and files that cannot be used: told, and passed over if a source is to."""

import sys

SHOWN, LISTED = 3, 100  # in an error, and in the lines before it


def report_bad(bad: list[str], what: str, skip: bool) -> None:
    """Lists what is bad on stderr, a line each. what: these, in words. Raises ValueError, unless they are to be skipped."""
    listed = bad if len(bad) <= LISTED else [*bad[:LISTED], f"and {len(bad) - LISTED} more"]
    for line in listed if len(bad) > SHOWN or skip else []:
        print(f"{'skipped' if skip else 'bad'}: {line}", file=sys.stderr)
    if bad and skip:
        print(f"skipped: {len(bad)} {what} in all", file=sys.stderr)
    elif bad:
        more = "; ..." if len(bad) > SHOWN else ""
        raise ValueError(
            f"{len(bad)} {what} cannot be used: {'; '.join(bad[:SHOWN])}{more}: mend them, or set "
            "prepare.source.skip_bad: true to go on without them"
        )
