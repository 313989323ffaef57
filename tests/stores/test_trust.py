import os

import numpy as np
import pytest

from pipeline.stores.layout import Field
from pipeline.stores.shard import StoreError
from pipeline.stores.store import Store, open_store
from pipeline.stores.trust import ensure_verified
from pipeline.stores.writer import StoreWriter


@pytest.fixture
def checks(monkeypatch, tmp_path):
    """Counts full verifications; the user's cache folder is this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    done, verify = [], Store.verify

    def counted(store):
        done.append(store.path)
        verify(store)

    monkeypatch.setattr(Store, "verify", counted)
    return done


def test_no_place_to_remember_a_check_stops_nobody(tmp_path, checks, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/cache")
    ids = np.zeros((20, 16), "u1"), np.zeros(20, "i4")
    writer = StoreWriter(tmp_path / "a.zarr", *ids, {"x": Field((), "uint8")}, identity={}, shard_rows=8)
    writer.write_rest(lambda rows: {"x": np.ones(rows.stop - rows.start, "u1")})
    writer.publish()
    for _ in range(2):
        ensure_verified(open_store(tmp_path / "a.zarr"))
    assert len(checks) == 2


def test_a_store_is_checked_once_until_a_file_changes(tmp_path, checks):
    ids = np.zeros((20, 16), "u1"), np.zeros(20, "i4")
    writer = StoreWriter(tmp_path / "a.zarr", *ids, {"x": Field((3,), "float16")}, identity={}, shard_rows=8)
    writer.write_rest(lambda rows: {"x": np.ones((rows.stop - rows.start, 3))})
    writer.publish()
    store = open_store(tmp_path / "a.zarr")
    for _ in range(3):
        ensure_verified(store)
    assert len(checks) == 1
    file = store.path / "x/c/1/0"
    os.utime(file, ns=(1, 1))
    ensure_verified(store)
    assert len(checks) == 2
    data = bytearray(file.read_bytes())
    data[0] ^= 1
    file.write_bytes(data)
    for _ in range(2):  # what failed is not remembered
        with pytest.raises(StoreError, match="x/c/1/0: damaged"):
            ensure_verified(store)
