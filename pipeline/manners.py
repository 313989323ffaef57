"""How commands speak: one clear line for what is wrong, progress with rate and time left."""

import errno
import functools
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from pipeline.project.class_spec import CLONE, ParamsError
from pipeline.stores.shard import StoreError

LOG_EVERY = 10.0  # seconds, where there is no terminal


def one_line_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """Errors that a user can fix end in one line on stderr and exit code 1; STILLROOM_DEBUG=1 shows the traceback.

    So do all other errors raised in the project's own code, with file and line; ours are bugs, and keep their traceback.
    """

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except (ParamsError, StoreError, ValueError, OSError, MemoryError) as error:
            if os.environ.get("STILLROOM_DEBUG") or isinstance(error, BrokenPipeError):  # left to click: `| head` is no error
                raise
            click.echo(f"error: {one_line(error)}", err=True)
            sys.exit(1)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            where = own_line(error)
            if os.environ.get("STILLROOM_DEBUG") or not where:
                raise
            click.echo(f"error: {where}: {printable(repr(error))}; STILLROOM_DEBUG=1 shows the traceback", err=True)
            sys.exit(1)

    return wrapped


def own_line(error: Exception) -> str | None:
    """The last line of the project's own code that an error came through, if there is one."""
    other_folders = (CLONE / "pipeline", CLONE / "stages", Path(sys.prefix), Path(sys.base_prefix))
    place = None
    for frame in traceback.extract_tb(error.__traceback__):
        file = Path(frame.filename).resolve()
        if file.is_relative_to(Path.cwd()) and not any(map(file.is_relative_to, other_folders)):
            place = f"{file.relative_to(Path.cwd())}, line {frame.lineno}"
    return place


def one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        where = error.filename or "disk"
        return f"{where}: the disk is full; what was finished is kept: free some space and run again"
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{printable(error.filename or 'a file')}: {os.strerror(error.errno).lower()}; see who may read and write it"
    if isinstance(error, MemoryError):
        message = printable(error) or "there was no more"
        return f"out of memory ({message}): free some, or lower memory_budget or batch_size in params.yaml"
    return printable(" ".join(str(error).split()))


def printable(value: Any) -> str:
    """As text without control characters: a terminal would obey those in a stranger's store."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))


def show(table: Table) -> None:
    """Print a table as wide as the terminal, or wide enough where there is none."""
    Console(width=None if sys.stdout.isatty() else 160).print(table)


@contextmanager
def named(where: str) -> Iterator[None]:
    """Prefix a ValueError raised inside with a place in params.yaml."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


class Advance(Protocol):
    """Called with the number of units just done. `skipped`: an earlier run did them, so they do not count for the rate."""

    def __call__(self, units: int, skipped: bool = False) -> None: ...


def progress(label: str, total: int, unit: str) -> AbstractContextManager[Advance]:
    """A bar with rate and time left on a terminal, a line now and then in a log."""
    return bar(label, total, unit) if sys.stderr.isatty() else log(label, total, unit)


@contextmanager
def bar(label: str, total: int, unit: str) -> Iterator[Advance]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as bars:
        task = bars.add_task(label, total=total, rate="")

        def advance(units: int, skipped: bool = False) -> None:
            if skipped:
                bars.update(task, total=(bars.tasks[0].total or 0) - units)
                return
            bars.advance(task, units)
            bars.update(task, rate=f"{bars.tasks[0].speed or 0:.0f} {unit}/s")

        yield advance


@contextmanager
def log(label: str, total: int, unit: str) -> Iterator[Advance]:
    start = last_logged = time.monotonic()
    n_done = 0

    def advance(units: int, skipped: bool = False) -> None:
        nonlocal n_done, last_logged, total
        if skipped:
            total -= units
            return
        n_done, now = n_done + units, time.monotonic()
        if now - last_logged > LOG_EVERY:
            rate = n_done / (now - start)
            click.echo(f"{label}: {n_done}/{total} {unit}, {rate:.0f}/s, {(total - n_done) / rate:.0f} s left", err=True)
            last_logged = now

    yield advance
    seconds = time.monotonic() - start
    click.echo(f"{label}: {n_done} {unit} in {seconds:.1f} s", err=True)
