"""Ten thousand flipped bytes, and stores whose files were moved about: an error or the same values, never others."""

import shutil
from itertools import pairwise

import numpy as np
import pytest

from pipeline.stores.shard import StoreError
from pipeline.stores.store import open_store
from tests.stores.test_store import every_file, store  # noqa: F401

pytestmark = pytest.mark.slow

FLIPS = 10_000


def values(opened):
    plain = [name for name, field in opened.fields.items() if not field.max_items]
    return {name: opened.read(name) for name in {*opened.layouts, *plain}}


def test_a_flipped_byte_is_an_error_or_changes_nothing(store, tmp_path):  # noqa: F811
    rng = np.random.default_rng(7)
    expected = values(store)
    broken = tmp_path / "broken.zarr"
    shutil.copytree(store.path, broken)
    files = every_file(broken)
    errors = 0
    for number in range(FLIPS):
        file = broken / files[number % len(files)]
        whole = file.read_bytes()
        flipped = bytearray(whole)
        flipped[rng.integers(len(whole))] ^= rng.integers(1, 256)
        file.write_bytes(flipped)
        try:
            for name, found in values(open_store(broken)).items():
                np.testing.assert_array_equal(found, expected[name])
        except StoreError as error:
            assert "\n" not in str(error) and str(broken) in str(error)
            errors += 1
        finally:
            file.write_bytes(whole)
    assert errors > 0.9 * FLIPS  # the rest lies in the padding of the last shard, which nothing reads
    open_store(broken).verify()


def zeros(path):
    path.write_bytes(bytes(path.stat().st_size))


def longer(path):
    path.write_bytes(path.read_bytes() + b"0")


def renamed(path):
    path.rename(path.with_name("99"))


def a_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [zeros, longer, renamed, a_folder])
def test_a_shard_that_is_not_what_was_published_is_an_error(store, tmp_path, damage):  # noqa: F811
    for file in [file for file in every_file(store.path) if "/c/" in file]:
        broken = tmp_path / "broken.zarr"
        shutil.copytree(store.path, broken)
        damage(broken / file)
        with pytest.raises(StoreError, match="damaged"):
            open_store(broken)
        shutil.rmtree(broken)


def test_any_two_files_that_are_swapped_are_an_error(store, tmp_path):  # noqa: F811
    files = every_file(store.path)
    for a, b in pairwise(files):
        broken = tmp_path / "broken.zarr"
        shutil.copytree(store.path, broken)
        shutil.copy(store.path / a, broken / b)
        shutil.copy(store.path / b, broken / a)
        same = (store.path / a).read_bytes() == (store.path / b).read_bytes()
        if not same:
            with pytest.raises(StoreError):
                open_store(broken).verify()
        shutil.rmtree(broken)
