import errno
import gc
import os
import time

import click
import numpy as np
import pytest
from click.testing import CliRunner

from pipeline.manners import one_line_errors, progress
from pipeline.project.class_spec import ParamsError, import_file
from pipeline.stores.layout import Field
from pipeline.stores.shard import StoreError
from pipeline.stores.store import open_store
from pipeline.stores.writer import StoreWriter


def command(error):
    @click.command()
    @one_line_errors
    def main():
        raise error

    return main


@pytest.mark.parametrize("error", [ParamsError("seed: missing"), StoreError("a.zarr: damaged"), ValueError("two\nlines")])
def test_what_a_user_can_mend_is_one_line(error):
    result = CliRunner().invoke(command(error))
    assert result.exit_code == 1
    assert result.stderr == f"error: {' '.join(str(error).split())}\n"


def test_what_does_not_fit_the_memory_is_one_line():
    result = CliRunner().invoke(command(MemoryError("4 GiB for an array")))
    assert result.exit_code == 1
    assert result.stderr.startswith("error: out of memory (4 GiB for an array): free some, or lower memory_budget")


def test_a_bug_keeps_its_traceback(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert isinstance(CliRunner().invoke(command(KeyError("oops"))).exception, KeyError)


@pytest.mark.parametrize("folder", ["project", "link"])
def test_a_bug_in_a_projects_own_code_is_one_line_that_names_it(tmp_path, monkeypatch, folder):
    (tmp_path / "project").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "project")
    (tmp_path / "project/mine.py").write_text("def broken():\n    return {}['imgae']\n")
    monkeypatch.chdir(tmp_path / "project")
    mine = import_file(tmp_path / folder / "mine.py")
    result = CliRunner().invoke(click.command()(one_line_errors(lambda: mine.broken())))
    assert result.exit_code == 1
    assert result.stderr == "error: mine.py, line 2: KeyError('imgae'); STILLROOM_DEBUG=1 shows the traceback\n"


def test_what_click_raises_in_own_code_is_left_to_click(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("import click\n\n\ndef stop():\n    raise click.UsageError('no such thing')\n")
    monkeypatch.chdir(tmp_path)
    mine = import_file(tmp_path / "mine.py")
    result = CliRunner().invoke(click.command()(one_line_errors(lambda: mine.stop())))
    assert result.exit_code == 2 and "Error: no such thing" in result.stderr


def test_debug_shows_the_traceback_of_everything(monkeypatch):
    monkeypatch.setenv("STILLROOM_DEBUG", "1")
    assert isinstance(CliRunner().invoke(command(ParamsError("x"))).exception, ParamsError)


def test_a_full_disk_loses_nothing_that_was_finished(tmp_path, monkeypatch):
    def begin():
        fields = {"inputs/x": Field((4,), "uint8")}
        ids = np.zeros((6, 16), np.uint8), np.zeros(6, np.int32)
        return StoreWriter(tmp_path / "a.zarr", *ids, fields, identity={}, shard_rows=2)

    @click.command()
    @one_line_errors
    def main():
        writer = begin()
        for shard in writer.unfinished:
            writer.write(shard, {"inputs/x": np.full((2, 4), shard, np.uint8)})
        writer.publish()

    synced = os.fsync
    calls = iter(range(10**6))

    def full(handle):
        if next(calls) > 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        synced(handle)

    monkeypatch.setattr(os, "fsync", full)
    result = CliRunner().invoke(main)
    assert result.exit_code == 1
    assert "the disk is full; what was finished is kept: free some space and run again" in result.stderr
    assert not (tmp_path / "a.zarr").exists()
    del result  # and with it the writer, which holds a lock
    gc.collect()
    monkeypatch.setattr(os, "fsync", synced)
    assert 0 < len(begin().unfinished) < 3
    assert CliRunner().invoke(main).exit_code == 0
    np.testing.assert_array_equal(open_store(tmp_path / "a.zarr").read("inputs/x")[:, 0], [0, 0, 1, 1, 2, 2])


def test_a_file_that_may_not_be_written_is_named_in_words():
    @click.command()
    @one_line_errors
    def main():
        raise PermissionError(errno.EACCES, "Permission denied", "data/x.json")

    assert CliRunner().invoke(main).stderr == "error: data/x.json: permission denied; see who may read and write it\n"


def test_progress_in_a_log_is_plain_lines_that_end_in_a_rate(capsys):
    with progress("dump cls", total=30, unit="rows") as advance:
        for _ in range(3):
            advance(10)
    assert capsys.readouterr().err.startswith("dump cls: 30 rows in ")


def test_what_an_earlier_run_did_is_no_progress_of_this_one(capsys, monkeypatch):
    clock = iter(range(0, 1000, 20))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with progress("dump cls", total=1000, unit="rows") as advance:
        advance(900, skipped=True)
        advance(40)
    first, last = capsys.readouterr().err.splitlines()
    assert first == "dump cls: 40/100 rows, 2/s, 30 s left"
    assert last.startswith("dump cls: 40 rows in ")
