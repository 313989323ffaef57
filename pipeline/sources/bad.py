"""Labels and files that cannot be used: reported, and skipped if a source is told to."""

import sys

SHOWN, LISTED = 3, 100  # in an error; in the lines before it


def report_bad(bad: list[str], what: str, skip: bool) -> None:
    """List what is bad on stderr, one per line. what: a word for these. Raises ValueError, unless they are to be skipped."""
    lines = bad if len(bad) <= LISTED else [*bad[:LISTED], f"and {len(bad) - LISTED} more"]
    if len(bad) > SHOWN or skip:
        for line in lines:
            print(f"{'skipped' if skip else 'bad'}: {line}", file=sys.stderr)
    if bad and skip:
        print(f"skipped: {len(bad)} {what} in all", file=sys.stderr)
    elif bad:
        more = "; ..." if len(bad) > SHOWN else ""
        raise ValueError(
            f"{len(bad)} {what} cannot be used: {'; '.join(bad[:SHOWN])}{more}: fix them, or set "
            "prepare.source.skip_bad: true to go on without them"
        )
