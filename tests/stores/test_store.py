"""The store against what could happen to it: kill, damage, other identities, strangers."""

import errno
import fcntl
import json
import mmap
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from pipeline.atomic import link_or_copy, locked, write_whole
from pipeline.stores.frames import blosc_bytes, zstd_bytes
from pipeline.stores.layout import Field, canonical, digest, field_of
from pipeline.stores.mapped import LONG
from pipeline.stores.shard import Layout, Shard, StoreError, checksum, encode_shard
from pipeline.stores.store import Store, open_aligned, open_store
from pipeline.stores.writer import StoreWriter

ROWS, SHARD = 150, 64  # the last shard is not full
FIELDS = {
    "inputs/image": Field((1, 4, 4), "uint8", "zstd"),
    "features/cls/trunk": Field((3, 2, 2), "float16", chunk_rows=16),
    "features/cls/pooled": Field((5,), "float32", "lz4", chunk_rows=8),
    "features/cls/narrow": Field((7,), "bfloat16", "lz4"),
    "features/cls/stepped": Field((3, 2), "qint8", "zstd", chunk_rows=32),
    "features/cls/projected": Field((4, 2), "float16", "zstd", dims=2),
    "labelled/cls": Field((), "bool"),
    "labels/det": Field((5,), "float32", max_items=3),
}


BASES = {"features/cls/projected": np.array([[0, 3, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], np.float32)}


def ids(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (ROWS, 16), dtype=np.uint8), np.zeros(ROWS, np.int32)


def content():
    rng = np.random.default_rng(1)
    return {
        "inputs/image": rng.integers(0, 256, (ROWS, 1, 4, 4), dtype=np.uint8),
        "features/cls/trunk": rng.normal(size=(ROWS, 3, 2, 2)).astype(np.float16).astype(np.float32),
        "features/cls/pooled": np.zeros((ROWS, 5), np.float32),  # all zero: zarr-python would leave the file out
        "features/cls/narrow": rng.integers(-128, 128, (ROWS, 7)).astype(np.float32),
        "features/cls/stepped": whole_steps(rng),
        "features/cls/projected": rng.integers(-9, 9, (ROWS, 4, 2)) * np.array([[0], [1], [0], [1]], np.float32),
        "labelled/cls": rng.random(ROWS) > 0.5,
        "labels/det": [rng.normal(size=(n, 5)).astype(np.float32) for n in rng.integers(0, 4, ROWS)],
    }


def whole_steps(rng):
    """256 whole steps in every shard and channel, which 8 bits hold exactly."""
    values = rng.integers(0, 256, (ROWS, 3, 2)).astype(np.float32)
    values[::SHARD], values[1::SHARD] = 0, 255
    return values - np.array([[0], [100], [255]], np.float32)


def begin(path, fields=FIELDS, identity="teacher A", shard_rows=SHARD, bases=BASES, code=""):
    identity = {"made of": identity}
    return StoreWriter(path, *ids(), fields, identity=identity, shard_rows=shard_rows, bases=bases, code=code)


def write(writer, shards=None):
    for shard in writer.unfinished if shards is None else shards:
        rows = writer.rows(shard)
        writer.write(shard, {name: x[rows] for name, x in content().items() if name in writer.fields})


@pytest.fixture
def store(tmp_path) -> Store:
    writer = begin(tmp_path / "a.zarr")
    write(writer)
    writer.publish()
    return open_store(tmp_path / "a.zarr")


def test_reads_back_what_was_written(store):
    store.verify()
    rows = np.random.default_rng(2).permutation(ROWS)[:70]
    for name, values in content().items():
        if name == "labels/det":
            items, lengths = store.read_ragged(name, rows)
            np.testing.assert_array_equal(items, np.concatenate([values[r] for r in rows]))
            np.testing.assert_array_equal(lengths, [len(values[r]) for r in rows])
        else:
            np.testing.assert_array_equal(store.read(name), values)
            np.testing.assert_array_equal(store.read(name, rows), values[rows])
            np.testing.assert_array_equal(store.read(name, slice(60, 70)), values[60:70])
    np.testing.assert_array_equal(store.sample_id, ids()[0])


def test_any_zarr_client_reads_it(store):
    import tensorstore
    import xarray
    import zarr

    group = zarr.open_group(str(store.path), mode="r", use_consolidated=False)
    tree = xarray.open_datatree(str(store.path), engine="zarr", consolidated=False)
    for name in ("inputs/image", "features/cls/trunk", "features/cls/pooled", "labelled/cls"):
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(store.path / name)}}
        for values in (group[name][:], tree[name].values, tensorstore.open(spec).result().read().result()):
            np.testing.assert_array_equal(values, content()[name])
    assert tree["features/cls/trunk"].dims[0] == "row"
    narrow, stepped = group["features/cls/narrow"], group["features/cls/stepped"]
    assert narrow.attrs["decoded_from"] == "bfloat16"
    decoded = (narrow[:].astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(decoded, content()["features/cls/narrow"])
    scale, zero = stepped["scale"][:][np.arange(ROWS) // SHARD].transpose(1, 0, 2)[..., None]
    np.testing.assert_array_equal((stepped["values"][:] - zero) * scale, content()["features/cls/stepped"])
    values, basis = (group[f"features/cls/projected/{part}"] for part in ("values", "basis"))
    expanded = np.einsum("rkp,kd->rdp", values[:], basis[0, 1:]) + basis[0, 0][:, None]
    np.testing.assert_array_equal(expanded, content()["features/cls/projected"])
    offsets, items = group["labels/det/offsets"][:], group["labels/det/values"][:]
    for row, (first, last) in enumerate(offsets):
        np.testing.assert_array_equal(items[first:last], content()["labels/det"][row])


def test_goes_on_where_it_stopped_and_ends_in_the_same_bytes(store, tmp_path):
    half = begin(tmp_path / "b.zarr")
    write(half, [1])
    del half
    again = begin(tmp_path / "b.zarr")
    assert again.unfinished == [0, 2]
    with pytest.raises(StoreError, match=r"shards \[0, 2\] are not written"):
        again.publish()
    write(again)
    assert again.publish() == store.digest
    assert not list((tmp_path / ".scratch").iterdir())


@pytest.mark.parametrize(
    "change",
    [
        {"identity": "teacher B"},
        {"shard_rows": 32},
        {"fields": {**FIELDS, "features/cls/trunk": Field((3, 2, 2), "float32", chunk_rows=16)}},
        {"bases": {name: basis * 2 for name, basis in BASES.items()}},
    ],
)
def test_any_change_of_identity_starts_clean(tmp_path, change):
    write(begin(tmp_path / "a.zarr"), [0, 1])
    changed = begin(tmp_path / "a.zarr", **change)
    assert changed.unfinished == list(range(changed.n_shards))
    assert list((tmp_path / ".scratch").glob("a.zarr-*")) == [changed.scratch]


def test_scratch_of_other_stores_is_left_alone(tmp_path):
    for name in ("a[1].zarr", "a.zarr-b"):
        write(begin(tmp_path / name), [0])
    begin(tmp_path / "a.zarr")
    assert begin(tmp_path / "a.zarr-b").unfinished == [1, 2]
    changed = begin(tmp_path / "a[1].zarr", identity="teacher B")
    assert sorted((tmp_path / ".scratch").glob("a?1?.zarr-*")) == [changed.scratch]


def test_one_writer_at_a_time(tmp_path):
    first = begin(tmp_path / "a.zarr")
    write(first)
    for other in ({}, {"identity": "teacher B"}):
        with pytest.raises(StoreError, match=r"a.zarr: another process.* is making it; wait until it is done, or stop it"):
            begin(tmp_path / "a.zarr", **other)
    begin(tmp_path / "b.zarr")
    first.publish()
    shutil.rmtree(tmp_path / "a.zarr")
    begin(tmp_path / "a.zarr")


def test_a_lock_that_was_removed_while_it_was_taken_is_none(tmp_path, monkeypatch):
    lock, flock = tmp_path / "lock", fcntl.flock
    others = [os.open(lock, os.O_CREAT)]  # it is done, and removes the lock, between our opening it and taking it

    def late(handle, how):
        if others:
            lock.unlink()
            os.close(others.pop())
        flock(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    mine = locked(lock)
    assert os.path.samestat(os.fstat(mine), lock.stat())
    with pytest.raises(BlockingIOError):
        locked(lock)
    os.close(mine)


def test_what_is_gone_from_scratch_is_not_published(tmp_path):
    writer = begin(tmp_path / "a.zarr")
    write(writer)
    (writer.scratch / "store/labelled/cls/c/1").unlink()
    with pytest.raises(StoreError, match=r"a.zarr: labelled/cls/c/1 is gone from .*; remove that folder and run again"):
        writer.publish()
    assert not (tmp_path / "a.zarr").exists()


def refuse(*_):
    raise OSError("no links here")


@pytest.mark.parametrize("write_to", [lambda path: write_whole(path, b"x"), lambda path: link_or_copy(Path(__file__), path)])
def test_a_full_disk_is_named(tmp_path, monkeypatch, write_to):
    (tmp_path / "a.tmp").symlink_to("/dev/full")
    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(OSError, match="No space left on device") as error:
        write_to(tmp_path / "a")
    assert error.value.filename == str(tmp_path / "a")


def test_what_other_code_wrote_is_written_again(tmp_path):
    write(begin(tmp_path / "a.zarr", code="before"), [0, 1])
    assert begin(tmp_path / "a.zarr", code="before").unfinished == [2]
    writer = begin(tmp_path / "a.zarr", code="mended")
    assert writer.unfinished == [0, 1, 2]
    write(writer)
    other = begin(tmp_path / "b.zarr")
    write(other)
    assert writer.publish() == other.publish()


def test_keys_that_are_numbers_are_read_back(tmp_path):
    writer = begin(tmp_path / "a.zarr", identity={2: "cat", 10: "dog"})
    write(writer)
    assert writer.publish() == open_store(tmp_path / "a.zarr").digest


def test_killed_after_it_was_published_is_begun_again(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **more: None)  # killed before this
    writer = begin(tmp_path / "a.zarr")
    write(writer)
    writer.publish()
    monkeypatch.undo()
    shutil.rmtree(tmp_path / "a.zarr")  # as DVC does with what a stage makes
    again = begin(tmp_path / "a.zarr")
    assert again.unfinished == [0, 1, 2]
    write(again)
    again.publish()
    open_store(tmp_path / "a.zarr").verify()


def test_a_torn_shard_is_not_finished(tmp_path):
    writer = begin(tmp_path / "a.zarr")
    write(writer, [0])
    (writer.scratch / "notes" / "0.json").unlink()  # killed between the shard's files and the note that says so
    del writer
    assert begin(tmp_path / "a.zarr").unfinished == [0, 1, 2]


def test_kill_9_while_writing_leaves_nothing_readable(tmp_path, store):
    script = textwrap.dedent(f"""
        import sys; sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[2])]!r}
        from pathlib import Path
        import test_store
        writer = test_store.begin(Path({str(tmp_path / "k.zarr")!r}))
        test_store.write(writer, [0])
        print("one is done", flush=True)
        while True:
            test_store.write(writer, [1])
    """)
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "one is done\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with pytest.raises(StoreError, match="no complete store here"):
        open_store(tmp_path / "k.zarr")
    writer = begin(tmp_path / "k.zarr")
    assert 0 not in writer.unfinished
    write(writer)
    assert writer.publish() == store.digest


def test_links_fields_of_an_aligned_store(store, tmp_path):
    fields = {"fused/all": Field((2,), "float32"), **{n: store.fields[n] for n in ("inputs/image", "labels/det")}}
    writer = begin(tmp_path / "b.zarr", fields)
    writer.link(store, ["inputs/image", "labels/det"])
    for shard in writer.unfinished:
        rows = writer.rows(shard)
        writer.write(shard, {"fused/all": np.ones((rows.stop - rows.start, 2), np.float32)})
    writer.publish()
    linked = open_store(tmp_path / "b.zarr")
    linked.verify()
    np.testing.assert_array_equal(linked.read("inputs/image"), content()["inputs/image"])
    for file in store.files_of("inputs/image"):
        if "/c/" in file:
            assert os.path.samefile(store.path / file, linked.path / file)


def test_refuses_to_link_other_rows(store, tmp_path):
    other = StoreWriter(tmp_path / "b.zarr", *ids(seed=9), FIELDS, identity={}, shard_rows=SHARD)
    with pytest.raises(StoreError, match="its rows or shards are not those"):
        other.link(store, ["inputs/image"])


def test_copies_where_linking_fails(store, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", refuse)
    writer = begin(tmp_path / "b.zarr", {"inputs/image": store.fields["inputs/image"]})
    writer.link(store, ["inputs/image"])
    for shard in writer.unfinished:
        writer.write(shard, {})
    writer.publish()
    open_store(tmp_path / "b.zarr").verify()


def test_aligned_stores_or_the_first_row_that_differs(store, tmp_path):
    sample_id, view = ids()
    sample_id[77, 3] ^= 1
    writer = StoreWriter(tmp_path / "b.zarr", sample_id, view, FIELDS, identity={}, shard_rows=SHARD, bases=BASES)
    write(writer)
    writer.publish()
    assert len(open_aligned(store.path, store.path)) == 2
    with pytest.raises(StoreError, match="row 77 is not the sample"):
        open_aligned(store.path, tmp_path / "b.zarr")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("features/cls/trunk", 7e4, "row 70: 70000.0 overflows float16"),
        ("features/cls/trunk", np.nan, "row 70: nan is not finite"),
        ("features/cls/pooled", np.inf, "row 70: inf is not finite"),
        ("features/cls/stepped", np.nan, "row 70: nan is not finite"),
        ("features/cls/narrow", 3.4e38, "row 70: inf is not finite"),
        ("features/cls/projected", 7e4, "row 70: 69997.0 overflows float16"),
    ],
)
def test_refuses_values_that_would_not_survive(tmp_path, name, value, message):
    writer = begin(tmp_path / "a.zarr")
    arrays = {key: x[64:128] for key, x in content().items()}
    arrays[name] = arrays[name].copy()
    arrays[name][6:8] = value
    with pytest.raises(StoreError, match=f"'{name}', {message}"):
        writer.write(1, arrays)
    assert 1 in writer.unfinished


def test_refuses_wrong_arrays(tmp_path):
    writer = begin(tmp_path / "a.zarr")
    arrays = {key: x[:64] for key, x in content().items()}
    with pytest.raises(StoreError, match=r"has shape \(63, 1, 4, 4\), expected \(64, 1, 4, 4\)"):
        writer.write(0, {**arrays, "inputs/image": arrays["inputs/image"][:63]})
    with pytest.raises(StoreError, match="has float64 values, to be stored as uint8"):
        writer.write(0, {**arrays, "inputs/image": arrays["inputs/image"] / 2})
    with pytest.raises(StoreError, match=r"'features/cls/projected' needs a basis of shape \(3, 4\)"):
        begin(tmp_path / "b.zarr", bases={}).write(0, arrays)
    with pytest.raises(StoreError, match="was given fields"):
        writer.write(0, {"inputs/image": arrays["inputs/image"]})
    with pytest.raises(StoreError, match="row 3: 4 items, expected at most 3"):
        writer.write(0, {**arrays, "labels/det": [np.zeros((n % 5, 5), np.float32) for n in range(1, 65)]})
    boxes = arrays["labels/det"]
    with pytest.raises(StoreError, match="'labels/det' has 63 rows, expected 64"):
        writer.write(0, {**arrays, "labels/det": boxes[1:]})
    spoilt = [*boxes[:7], np.full((2, 5), np.nan, np.float32), *boxes[8:]]
    with pytest.raises(StoreError, match="'labels/det', row 7: nan is not finite"):
        writer.write(0, {**arrays, "labels/det": spoilt})
    with pytest.raises(StoreError, match=r"'labels/det', row 7: items of shape \(4,\), expected \(5,\)"):
        writer.write(0, {**arrays, "labels/det": [*boxes[:7], np.zeros((2, 4), np.float32), *boxes[8:]]})


def test_a_ragged_field_is_of_all_its_rows():
    mixed = [np.zeros(0, np.int8), np.array([[1, 2]], np.int8), np.array([[300, 4], [5, 6]], np.int64)]
    assert field_of(mixed) == Field((2,), "int64", max_items=2)
    with pytest.raises(StoreError, match="ragged rows of uint8: batches pad them with -1"):
        field_of([np.zeros(2, np.uint8)])


def test_whole_numbers_do_not_wrap(tmp_path):
    writer = StoreWriter(tmp_path / "a.zarr", *ids(), {"x": Field((), "int8")}, identity={}, shard_rows=ROWS)
    with pytest.raises(StoreError, match="'x', row 3: 200 does not fit int8"):
        writer.write(0, {"x": np.where(np.arange(ROWS) == 3, 200, 1)})


def rewrite_root(path, change):
    """The root of a forger who knows the format: changed, with a digest that fits."""
    root = json.loads((path / "zarr.json").read_bytes())
    attributes = root["attributes"]["stillroom"]
    attributes.pop("digest")
    change(attributes)
    attributes["digest"] = digest(attributes)
    (path / "zarr.json").write_bytes(canonical(root))


def nested(levels):
    return {"a": nested(levels - 1)} if levels else 0


def forged(name, **changes):
    def change(attributes):
        attributes["fields"][name].update(changes)

    return change


def renamed(name):
    def change(attributes):
        attributes["fields"][name] = attributes["fields"].pop("inputs/image")

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.update(format=2), "use a newer stillroom"),
        (forged("inputs/image", dtype="object"), "dtype 'object' is not one of"),
        (forged("inputs/image", codec="pickle"), "codec 'pickle' is not one of"),
        (forged("inputs/image", chunk_rows=None), "malformed"),
        (lambda a: a["fields"].pop("view"), "no field 'view', which every store has"),
        (lambda a: a.update(shard_rows=2**46), "it is absurdly large"),
        (forged("labelled/cls", dtype="qint8"), "for fields of one array with channels"),
        (forged("features/cls/projected", dims=4), "4 principal components"),
        (forged("inputs/image", dims=1), "1 principal components"),
        (forged("inputs/image", shape=[1, -4, 4]), "whole numbers above 0"),
        (forged("inputs/image", shape=[2**40, 4, 4]), "absurdly large"),
        (forged("inputs/image", chunk_rows=7), "does not divide"),
        (forged("inputs/image", attributes=[1]), "its attributes are not a JSON object"),
        (forged("inputs/image", shape=[2**32]), "a chunk of .* bytes, expected at most 2147483647"),
        (forged("labels/det", dtype="uint8"), "ragged rows of uint8: batches pad them with -1"),
        (forged("labels/det", dtype="bool"), "ragged rows of bool"),
        (forged("sample_id", dtype="qint8"), r"'sample_id': qint8 of shape \(16,\), expected uint8 of shape \(16,\)"),
        (forged("sample_id", shape=[], max_items=16, dtype="int8"), "'sample_id': int8 .*not ragged"),
        (forged("view", shape=[2]), r"'view': int32 of shape \(2,\), expected int32 of shape \(\)"),
        (renamed("inputs/zarr.json/x"), "no zarr.json and no .tmp"),
        (renamed("inputs/image.tmp"), "no zarr.json and no .tmp"),
        (lambda a: a.update(identity=[1]), "its identity is not a JSON object of at most 64 levels"),
        (lambda a: a.update(identity=nested(66)), "its identity is not a JSON object of at most 64 levels"),
        (renamed("../../outside"), "not a relative path"),
        (renamed("/etc/passwd"), "not a relative path"),
        (lambda a: a.update(n_rows=10**7), "list of files"),
        (lambda a: a.update(n_rows="many"), "must be at least 1"),
        (lambda a: a.pop("identity"), "malformed"),
        (lambda a: a.update(fields=[]), "malformed"),
        (lambda a: a["files"].update({"../x": "0"}), "list of files"),
    ],
)
def test_refuses_what_no_honest_writer_makes(store, change, message):
    rewrite_root(store.path, change)
    with pytest.raises(StoreError, match=message):
        open_store(store.path)


def test_ids_that_are_not_those_of_the_rows_fail_verification(store):
    rewrite_root(store.path, lambda attributes: attributes.update(ids="0" * 64))
    with pytest.raises(StoreError, match="its ids are not those of its rows"):
        open_store(store.path).verify()


def test_refuses_strangers(store, tmp_path):
    import zarr

    zarr.create_group(str(tmp_path / "foreign.zarr"))
    with pytest.raises(StoreError, match="not a Stillroom store"):
        open_store(tmp_path / "foreign.zarr")
    for text in ("", "[]", "{", '"x"', '{"attributes": 3}'):
        (store.path / "zarr.json").write_text(text)
        with pytest.raises(StoreError):
            open_store(store.path)


@pytest.mark.parametrize("file", ["zarr.json", "inputs/image/zarr.json", "inputs/image/c/0/0/0/0"])
@pytest.mark.parametrize("become", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir])
def test_only_files_are_read(store, file, become):
    (store.path / file).unlink()
    become(store.path / file)
    with pytest.raises(StoreError, match=f"{file}: .*(not a regular file|missing or damaged)"):
        open_store(store.path)


@pytest.mark.parametrize("file", ["zarr.json", "inputs/image/zarr.json"])
def test_metadata_that_would_fill_the_memory_is_not_read(store, file):
    os.truncate(store.path / file, 2**40)
    with pytest.raises(StoreError, match=f"{file}: "):
        open_store(store.path)


def test_names_are_not_made_for_files_that_are_not_listed(store, monkeypatch):
    rewrite_root(store.path, lambda attributes: attributes.update(n_rows=2**28))
    monkeypatch.setattr(Store, "shard_files", property(lambda _: pytest.fail("made names for shards that are not listed")))
    with pytest.raises(StoreError, match="list of files"):
        open_store(store.path)


@pytest.mark.parametrize("value", ["NaN", "1e999", "[" * 900 + "]" * 900])
def test_what_has_no_digest_is_damaged(store, value):
    root = (store.path / "zarr.json").read_text()
    (store.path / "zarr.json").write_text(root.replace('"identity":{', f'"identity":{{"a":{value},'))
    with pytest.raises(StoreError, match=r"zarr\.json: (damaged|cannot be read)"):
        open_store(store.path)


def test_a_row_of_more_items_than_a_row_has_is_damage(store):
    layout = store.layouts["labels/det/offsets"]
    offsets = np.zeros((SHARD, 2), np.int64)
    offsets[7] = 0, 4
    (store.path / "labels/det/offsets/c/0/0").write_bytes(b"".join(map(bytes, encode_shard(offsets, layout))))
    with pytest.raises(StoreError, match="'labels/det': damaged: a row of 4 items, expected at most 3"):
        open_store(store.path).read_ragged("labels/det", slice(0, 10))


def every_file(path):
    return sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())


def test_every_missing_or_truncated_file_is_noticed_at_once(store, tmp_path):
    for file in every_file(store.path):
        for damage in (Path.unlink, lambda f: f.write_bytes(f.read_bytes()[:-1]), lambda f: f.write_bytes(b"")):
            broken = tmp_path / "broken.zarr"
            shutil.copytree(store.path, broken)
            damage(broken / file)
            with pytest.raises(StoreError):
                open_store(broken)
            shutil.rmtree(broken)


def test_too_many_open_files_are_told_with_what_helps(store, monkeypatch):
    monkeypatch.setattr(mmap, "mmap", Mock(side_effect=OSError(errno.EMFILE, "Too many open files")))
    with pytest.raises(StoreError, match=r"Too many open files; .*: raise `ulimit -n`, or prepare.shard_rows"):
        open_store(store.path)
    monkeypatch.setattr(mmap, "mmap", Mock(side_effect=PermissionError(errno.EPERM, "Operation not permitted")))
    with pytest.raises(StoreError, match=r"not permitted; the store itself may be whole$"):
        open_store(store.path)


def test_flipped_bytes_end_in_an_error_or_in_the_same_values(store, tmp_path):
    rng = np.random.default_rng(3)
    expected = {name: store.read(name) for name in store.layouts}
    broken = tmp_path / "broken.zarr"
    shutil.copytree(store.path, broken)
    for file in every_file(broken):
        whole = (broken / file).read_bytes()
        for at in {0, len(whole) - 1, *rng.integers(0, len(whole), 12)}:
            flipped = bytearray(whole)
            flipped[at] ^= 1 << rng.integers(8)
            (broken / file).write_bytes(flipped)
            try:
                opened = open_store(broken)
                for name, values in expected.items():
                    np.testing.assert_array_equal(opened.read(name), values)
            except StoreError:
                continue
            finally:
                (broken / file).write_bytes(whole)


def forge_chunk(path, layout, frame):
    """A shard whose every checksum fits, and whose chunks are this frame."""
    index = np.array([(n * (len(frame) + 4), len(frame) + 4) for n in range(layout.chunks)], "<u8").tobytes()
    path.write_bytes((frame + checksum(frame)) * layout.chunks + index + checksum(index))


def longer_by_its_own_word(frame):
    return frame[:12] + (len(frame) + 2**20).to_bytes(4, "little") + frame[16:]


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
@pytest.mark.parametrize("values", [3, 0, 200])
def test_a_frame_of_other_bytes_than_a_chunk_is_not_decoded(tmp_path, codec, values):
    layout = Layout((5,), "float32", SHARD, 8, codec)
    field, rows = Field((5,), "float32", codec, chunk_rows=8), np.ones((ROWS, 5), np.float32)
    writer = begin(tmp_path / "a.zarr", {"x": field})
    writer.write_rest(lambda part: {"x": rows[part]})
    writer.publish()
    frame = bytes(layout.coder.encode(np.ones(values, np.float32)))
    forge_chunk(tmp_path / "a.zarr/x/c/1/0", layout, frame)
    store = open_store(tmp_path / "a.zarr")
    for rows_of_it in (slice(70, 75), np.array([3, 70])):
        with pytest.raises(StoreError, match=rf"a chunk \(0\) whose frame says {values * 4} bytes, expected 160"):
            store.read("x", rows_of_it)


def test_a_frame_that_lies_about_its_length_is_not_decoded(tmp_path):
    layout = Layout((5,), "float32", SHARD, 8, "lz4")
    whole = bytes(layout.coder.encode(np.ones((8, 5), np.float32)))
    for frame in (longer_by_its_own_word(whole), whole[:15], whole[:-1]):
        forge_chunk(tmp_path / "shard", layout, frame)
        with pytest.raises(StoreError, match="whose frame says 0 bytes"):
            Shard(tmp_path / "shard", layout).chunk(0)


@pytest.mark.parametrize("size", [1, 255, 256, 257, 65791, 65792, 2**17, 2**24 + 1])
def test_frames_say_how_many_bytes_they_are(size):
    for values in (np.zeros(size, np.uint8), np.random.default_rng(0).integers(0, 256, size, np.uint8)):
        lz4, zstd = (bytes(Layout((), "uint8", size, size, codec).coder.encode(values)) for codec in ("lz4", "zstd"))
        assert blosc_bytes(lz4) == zstd_bytes(zstd) == size
    for stranger in (b"", zstd[:4], b"junk" * 9):
        assert blosc_bytes(stranger) == zstd_bytes(stranger) == 0


def test_swapped_shards_fail_verification(store):
    a, b = (store.path / f"inputs/image/c/{n}/0/0/0" for n in (0, 1))
    whole_a, whole_b = a.read_bytes(), b.read_bytes()
    a.write_bytes(whole_b)
    b.write_bytes(whole_a)
    with pytest.raises(StoreError, match="inputs/image/c/0/0/0/0: damaged"):
        open_store(store.path).verify()


def test_does_not_replace_what_is_there(store):
    with pytest.raises(StoreError, match="exists already"):
        begin(store.path)
    open_store(store.path).verify()


def test_opens_format_1_for_ever():
    """Written by the first release; never to be written again."""
    store = open_store(Path(__file__).parent / "formats" / "v1.zarr")
    store.verify()
    assert store.digest == "7249bf81c3b11d41e80c69d64e2f5168c54e985c8cf050300ed7c500c53a1a01"
    np.testing.assert_array_equal(store.read("features/cls/trunk", slice(0, 2)), [[[0, 1], [2, 3]], [[4, 5], [6, 7]]])
    np.testing.assert_array_equal(store.read("logits/cls/cls"), -np.arange(20, dtype=np.float32).reshape(10, 2))
    assert [len(x) for x in store.read_ragged("labels/det", slice(0, 0))] == [0, 0]
    items, lengths = store.read_ragged("labels/det")
    np.testing.assert_array_equal(lengths, [0, 1, 2] * 3 + [0])
    np.testing.assert_array_equal(items[:, 0], range(9))


def test_long_rows_are_gathered_as_short_ones_are(tmp_path):
    field, rows = Field((3, 1000), "float32", chunk_rows=4), np.random.default_rng(4).permutation(20)
    assert field.row_bytes >= LONG
    values = np.random.default_rng(5).normal(size=(20, 3, 1000)).astype(np.float32)
    writer = StoreWriter(tmp_path / "a.zarr", *(x[:20] for x in ids()), {"x": field}, identity={}, shard_rows=8)
    writer.write_rest(lambda part: {"x": values[part]})
    writer.publish()
    np.testing.assert_array_equal(open_store(tmp_path / "a.zarr").read("x", rows), values[rows])


def test_rows_are_gathered_from_raw_shards_whatever_their_recipe(tmp_path):
    values = {f"features/cls/{tap}": content()[f"features/cls/{tap}"] for tap in ("trunk", "narrow", "stepped", "projected")}
    fields = {name: replace(FIELDS[name], codec="raw", chunk_rows=8) for name in values}
    writer = begin(tmp_path / "a.zarr", fields)
    write(writer)
    writer.publish()
    rows = np.random.default_rng(6).integers(0, ROWS, 20_000, np.uint8)  # more than a piece
    for name, x in values.items():
        np.testing.assert_array_equal(open_store(tmp_path / "a.zarr").read(name, rows), x[rows])


def test_chunks_are_checked_when_one_of_their_rows_is_gathered(store):
    file = store.path / "features/cls/trunk/c/1/0/0/0"  # rows 64 to 127, in chunks of 16
    whole = bytearray(file.read_bytes())
    whole[2 * (16 * 24 + 4) + 5] ^= 1
    file.write_bytes(whole)
    opened = open_store(store.path)
    others = np.setdiff1d(np.arange(ROWS), np.arange(96, 112))
    np.testing.assert_array_equal(opened.read("features/cls/trunk", others), content()["features/cls/trunk"][others])
    for _ in range(2):
        with pytest.raises(StoreError, match=r"c/1/0/0/0: damaged: the shard has a chunk \(2\)"):
            opened.read("features/cls/trunk", np.array([3, 111]))


@pytest.mark.parametrize("row", [-1, -192, -193, -500, 192, 400, 2**40])
@pytest.mark.parametrize("width", [24, LONG])
def test_no_row_is_gathered_from_outside_its_array(tmp_path, row, width):
    values = np.arange(192 * width).astype(np.uint8).reshape(192, width)
    ids = np.zeros((192, 16), np.uint8), np.arange(192, dtype=np.int32)
    fields = {"inputs/x": Field((width,), "uint8", chunk_rows=16)}
    writer = StoreWriter(tmp_path / "a.zarr", *ids, fields, identity={}, shard_rows=64)
    for shard in writer.unfinished:
        writer.write(shard, {"inputs/x": values[writer.rows(shard)]})
    writer.publish()
    store = open_store(tmp_path / "a.zarr")
    for _ in range(2):  # before and after all of it was checked
        with pytest.raises(IndexError):
            store.gather("inputs/x", np.array([0, row]))
        order = np.random.default_rng(0).permutation(192)
        np.testing.assert_array_equal(store.gather("inputs/x", order), values[order])
