"""What others dumped, in four formats: read, matched with our rows, refused where it is wrong."""

import io
import tarfile

import numpy as np
import pytest
import torch
import zarr
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from pipeline.project.sections import SHOWN, ImportedSpec, Recipe
from pipeline.stores.layout import Field
from pipeline.stores.shard import StoreError
from pipeline.stores.store import open_store
from pipeline.stores.writer import StoreWriter
from pipeline.tasks.multi_label import MultiLabel
from pipeline.teachers.acceptance import accept
from pipeline.teachers.extraction import outputs_on
from pipeline.teachers.imported import import_for

N = 40
RNG = np.random.default_rng(0)
IDS, VIEW = RNG.integers(0, 256, (N, 16), np.uint8), np.arange(N, dtype=np.int32) % 2
IDS[1::2] = IDS[::2]  # two views of each sample
FEATURES, LOGITS = RNG.normal(size=(N, 5, 3, 3)).astype("f4"), RNG.normal(size=(N, 4)).astype("f8")
OUTPUTS = {"features/trunk": "trunk", "logits/cls": "said"}
TASKS = {"cls": MultiLabel(classes=4)}


@pytest.fixture
def store(tmp_path):
    labels = RNG.integers(0, 2, (N, 4)).astype(np.uint8)
    arrays = {"labels/cls": labels, "labelled/cls": np.arange(N) % 3 == 1}
    fields = {name: Field(x.shape[1:], x.dtype.name) for name, x in arrays.items()}
    writer = StoreWriter(tmp_path / "transfer.zarr", IDS, VIEW, fields, identity={}, shard_rows=16)
    writer.write_rest(lambda rows: {name: x[rows] for name, x in arrays.items()})
    writer.publish()
    return open_store(tmp_path / "transfer.zarr")


def shuffled(**changed):
    """The arrays of a dump whose rows lie in another order, and are more than ours."""
    order = np.random.default_rng(1).permutation(N + 5)
    more = np.concatenate
    arrays = {
        "sample_id": more([IDS, RNG.integers(0, 256, (5, 16), np.uint8)]),
        "view": more([VIEW, np.zeros(5, np.int32)]),
        "trunk": more([FEATURES, np.zeros((5, 5, 3, 3), "f4")]),
        "said": more([LOGITS, np.zeros((5, 4))]),
    }
    return {name: x[order] for name, x in arrays.items()} | changed


def as_npy(folder, arrays):
    folder.mkdir()
    for name, x in arrays.items():
        np.save(folder / f"{name}.npy", x)


def as_zarr(folder, arrays):
    group = zarr.open_group(folder, mode="w")
    for name, x in arrays.items():
        group.create_array(name, data=x, chunks=(7, *x.shape[1:]))


def as_safetensors(folder, arrays):
    folder.mkdir()
    for part, rows in enumerate((slice(0, 11), slice(11, 30), slice(30, None))):
        save_file({name: np.ascontiguousarray(x[rows]) for name, x in arrays.items()}, folder / f"{part}.safetensors")


def as_webdataset(folder, arrays):
    folder.mkdir()
    for part, rows in enumerate((range(11), range(11, len(arrays["view"])))):
        with tarfile.open(folder / f"{part}.tar", "w") as tar:
            for row in rows:
                for name in arrays.keys() - {"sample_id", "view"}:
                    content = io.BytesIO()
                    np.save(content, arrays[name][row])
                    key = f"{arrays['sample_id'][row].tobytes().hex()}-{arrays['view'][row]}"
                    member = tarfile.TarInfo(f"{key}.{name}.npy")
                    member.size = content.tell()
                    content.seek(0)
                    tar.addfile(member, content)


FORMATS = {
    "npy": ("Npy", as_npy),
    "zarr_group": ("ZarrGroup", as_zarr),
    "safetensors_files": ("SafetensorsFiles", as_safetensors),
    "webdataset": ("WebDataset", as_webdataset),
}


def spec(files, kind="npy", outputs=OUTPUTS):
    content = {"code": f"pipeline/dumps/{kind}.py", "class": FORMATS[kind][0], "files": str(files), "outputs": outputs}
    return ImportedSpec.model_validate(content)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_row_is_that_of_its_sample_and_view(tmp_path, store, kind):
    FORMATS[kind][1](tmp_path / "dump", shuffled())
    (found,) = import_for(spec(tmp_path / "dump", kind), store)
    plain = Recipe(dtype="float32", codec="raw")
    rows = outputs_on(found.forward, "ext", slice(3, N), 8, lambda field: plain)
    assert rows.keys() == {"features/ext/trunk", "logits/ext/cls"}
    assert np.array_equal(rows["features/ext/trunk"], FEATURES[3:])
    assert np.array_equal(rows["logits/ext/cls"], LOGITS[3:].astype("f4"))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_row_that_is_not_there_is_named(tmp_path, store, kind):
    FORMATS[kind][1](tmp_path / "dump", {name: x[:-7] for name, x in shuffled().items()})
    with pytest.raises(StoreError, match=rf"lacks \d of the {N} rows of .*transfer.zarr, the first of them row \d+, sample"):
        import_for(spec(tmp_path / "dump", kind), store)


def test_numbers_of_another_machine_are_the_same_numbers(tmp_path, store):
    as_npy(tmp_path / "dump", shuffled(trunk=shuffled()["trunk"].astype(">f4")))
    (found,) = import_for(spec(tmp_path / "dump"), store)
    (outputs,) = found.forward(slice(0, N), N)
    assert torch.equal(outputs.features["trunk"], torch.from_numpy(FEATURES))


def test_batches_are_read_together(tmp_path, store, monkeypatch):
    as_npy(tmp_path / "dump", shuffled())
    (found,) = import_for(spec(tmp_path / "dump"), store)
    reads, read = [], type(found.dump).read
    monkeypatch.setattr(type(found.dump), "read", lambda *asked: reads.append(asked) or read(*asked))
    batches = list(found.forward(slice(3, N), 8))
    assert [len(batch.logits["cls"]) for batch in batches] == [8, 8, 8, 8, 5] and len(reads) == len(OUTPUTS)
    assert torch.equal(torch.cat([batch.features["trunk"] for batch in batches]), torch.from_numpy(FEATURES[3:]))
    monkeypatch.setattr("pipeline.teachers.imported.TOGETHER", 20)
    again = list(found.forward(slice(3, N), 8))
    assert all(torch.equal(a.logits["cls"], b.logits["cls"]) for a, b in zip(again, batches, strict=True))


def test_a_store_of_ours_is_a_dump(tmp_path, store):
    fields = {"features/t/trunk": Field((5, 3, 3), "float16", "lz4")}
    writer = StoreWriter(tmp_path / "t.zarr", IDS[::-1], VIEW[::-1], fields, identity={}, shard_rows=8)
    writer.write_rest(lambda rows: {"features/t/trunk": FEATURES[::-1][rows]})
    writer.publish()
    (found,) = import_for(spec(tmp_path / "t.zarr", "zarr_group", {"features/x": "features/t/trunk"}), store)
    (outputs,) = found.forward(slice(0, N), N)
    assert torch.equal(outputs.features["x"], torch.from_numpy(FEATURES.astype("f2").astype("f4")))
    (tmp_path / "t.zarr/features/t/trunk/c/1/0/0/0").unlink()  # of others Zarr would make zeros
    with pytest.raises(StoreError, match="damaged"):
        import_for(spec(tmp_path / "t.zarr", "zarr_group", {"features/x": "features/t/trunk"}), store)


@pytest.mark.parametrize("shards", [None, (14, 5, 3, 2)])
def test_a_chunk_that_was_lost_is_not_zeros(tmp_path, store, shards):
    arrays = shuffled()
    group = zarr.open_group(tmp_path / "dump", mode="w")
    for name, x in arrays.items():
        cut = {"chunks": (7, 5, 3, 2), "shards": shards} if name == "trunk" else {"chunks": (7, *x.shape[1:])}
        group.create_array(name, shape=x.shape, dtype=x.dtype, config={"write_empty_chunks": True}, **cut)[:] = 0
    dumped = spec(tmp_path / "dump", "zarr_group", {"features/t": "trunk"})
    for name, x in arrays.items():
        group[name][:] = x
    import_for(dumped, store)
    (tmp_path / "dump/trunk/c/2/0/0/1").unlink()
    with pytest.raises(StoreError, match=r"'trunk' has \d+ of its \d+ chunk files; copy the rest, or, if .*write_empty_chunks"):
        import_for(dumped, store)


def test_a_damaged_chunk_of_ids_is_named(tmp_path, store):
    as_zarr(tmp_path / "dump", shuffled())
    (tmp_path / "dump/sample_id/c/2/0").write_bytes(b"junk")
    with pytest.raises(StoreError, match="array 'sample_id' is damaged"):
        import_for(spec(tmp_path / "dump", "zarr_group"), store)


def test_a_root_that_is_no_group(tmp_path, store):
    as_zarr(tmp_path / "dump", shuffled())
    (tmp_path / "dump/zarr.json").write_text("[]")
    with pytest.raises(StoreError, match="cannot be read as a Zarr group"):
        import_for(spec(tmp_path / "dump", "zarr_group"), store)


def archive(x):
    content = io.BytesIO()
    np.savez(content, x)
    return content.getvalue()


def claiming(shape):
    """An .npy file without values."""
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return content.getvalue()


@pytest.mark.parametrize("name", ["sample_id", "trunk"])
@pytest.mark.parametrize("content", [archive(IDS), claiming((2**70, 2)), claiming((2**40,)), b"", b"junk"])
def test_an_npy_file_that_is_none(tmp_path, store, name, content):
    as_npy(tmp_path / "dump", shuffled())
    (tmp_path / "dump" / f"{name}.npy").write_bytes(content)
    with pytest.raises(StoreError, match=f"{name}.npy: cannot be read as an array without pickle"):
        import_for(spec(tmp_path / "dump"), store)


def tar_of(path, rows):
    """{key: content} of array `trunk`."""
    with tarfile.open(path, "w") as tar:
        for key, content in rows.items():
            member = tarfile.TarInfo(f"{key}.trunk.npy")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def saved(x):
    content = io.BytesIO()
    np.save(content, x)
    return content.getvalue()


@pytest.mark.parametrize("row", [0, 9])
@pytest.mark.parametrize("content", [archive(IDS), claiming((2**40,)), claiming((2**70,)), b""])
def test_a_member_that_is_no_array(tmp_path, store, row, content):
    keys = [f"{sample.tobytes().hex()}-{view}" for sample, view in zip(IDS, VIEW, strict=True)]
    tar_of(tmp_path / "a.tar", {key: saved(x) for key, x in zip(keys, FEATURES, strict=True)} | {keys[row]: content})
    with pytest.raises(StoreError, match=rf"a.tar: {keys[row]}.trunk.npy cannot be read as an array"):
        (found,) = import_for(spec(tmp_path / "a.tar", "webdataset", {"features/t": "trunk"}), store)
        list(found.forward(slice(0, N), 8))


@pytest.mark.parametrize("other", [FEATURES[9].astype("i4"), FEATURES[9] > 0, FEATURES[9].astype("U"), FEATURES[9][:2]])
def test_rows_of_another_type_are_not_made_floats(tmp_path, store, other):
    keys = [f"{sample.tobytes().hex()}-{view}" for sample, view in zip(IDS, VIEW, strict=True)]
    tar_of(tmp_path / "a.tar", {key: saved(x) for key, x in zip(keys, FEATURES, strict=True)} | {keys[9]: saved(other)})
    (found,) = import_for(spec(tmp_path / "a.tar", "webdataset", {"features/t": "trunk"}), store)
    for batch_size in (1, 8):
        with pytest.raises(StoreError, match=rf"'trunk' of sample {keys[9]} is .*, expected float32 of shape \(5, 3, 3\)"):
            list(found.forward(slice(0, N), batch_size))


@pytest.mark.parametrize("view", ["²", "x", "1" * 30])
def test_views_are_numbers(tmp_path, store, view):
    tar_of(tmp_path / "a.tar", {f"{IDS[0].tobytes().hex()}-{view}": saved(FEATURES[0])})
    with pytest.raises(StoreError, match=f"view '{view}' of a member is not a number of at most 9 digits"):
        import_for(spec(tmp_path / "a.tar", "webdataset", {"features/t": "trunk"}), store)


@pytest.mark.parametrize("kind", ["npy", "zarr_group", "safetensors_files"])
def test_a_dump_without_rows(tmp_path, store, kind):
    FORMATS[kind][1](tmp_path / "dump", {name: x[:0] for name, x in shuffled().items()})
    with pytest.raises(StoreError, match="dump: it has no rows; dump some"):
        import_for(spec(tmp_path / "dump", kind), store)


def test_a_part_without_rows_is_none(tmp_path, store):
    arrays = shuffled()
    as_safetensors(tmp_path / "dump", arrays)
    save_file({name: np.ascontiguousarray(x[:0]) for name, x in arrays.items()}, tmp_path / "dump" / "0a.safetensors")
    (found,) = import_for(spec(tmp_path / "dump", "safetensors_files"), store)
    (outputs,) = found.forward(slice(0, N), N)
    assert torch.equal(outputs.features["trunk"], torch.from_numpy(FEATURES))


@pytest.mark.parametrize("name", ["sample_id", "view"])
def test_ids_of_a_type_that_numpy_lacks(tmp_path, store, name):
    arrays = {name: torch.from_numpy(np.ascontiguousarray(x)) for name, x in shuffled().items()}
    save_torch(arrays | {name: arrays[name].to(torch.bfloat16)}, tmp_path / "a.safetensors")
    with pytest.raises(StoreError, match=f"array '{name}' is {{'BF16'}}"):
        import_for(spec(tmp_path / "a.safetensors", "safetensors_files"), store)


def test_ids_may_be_hex_and_views_left_out_where_there_is_one(tmp_path, store):
    arrays = shuffled()
    as_npy(tmp_path / "dump", arrays | {"sample_id": np.array([row.tobytes().hex() for row in arrays["sample_id"]])})
    import_for(spec(tmp_path / "dump"), store)
    (tmp_path / "dump" / "view.npy").unlink()
    with pytest.raises(StoreError, match=r"rows .* and .* are both of sample .*, view 0"):
        import_for(spec(tmp_path / "dump"), store)


def test_scores_only_of_splits_that_were_dumped_whole(tmp_path, store):
    as_npy(tmp_path / "dump", shuffled())
    elsewhere = tmp_path / "other.zarr"
    writer = StoreWriter(elsewhere, IDS[::-1] ^ 1, VIEW, {"labels/cls": Field((4,), "uint8")}, identity={}, shard_rows=16)
    writer.write_rest(lambda rows: {"labels/cls": np.ones((rows.stop - rows.start, 4), np.uint8)})
    writer.publish()
    splits = {"clean": store, "cluttered": open_store(elsewhere)}
    tested, strip = accept(spec(tmp_path / "dump"), TASKS, store, splits, tmp_path / "imported.json")
    has = store.read("labelled/cls")
    tally = TASKS["cls"].tally(torch.from_numpy(LOGITS[has]), torch.from_numpy(store.read("labels/cls")[has]))
    expected = TASKS["cls"].summarize([tally])
    assert tested == {"clean": {"cls": expected}, "cluttered": {}}
    assert torch.equal(strip["cls"], torch.from_numpy(LOGITS[:SHOWN]).float())
    assert len((tmp_path / "imported.json").read_text()) > 64


def without(name):
    return {key: x for key, x in shuffled().items() if key != name}


@pytest.mark.parametrize(
    ("arrays", "outputs", "message"),
    [
        (without("sample_id"), OUTPUTS, "no sample_id.npy"),
        (shuffled(), {"features/trunk": "trnk"}, "no array 'trnk' for features/trunk; did you mean 'trunk'.* there are said"),
        (shuffled(trunk=FEATURES), OUTPUTS, f"array 'trunk' has {N} rows, but there are {N + 5} sample ids"),
        (shuffled(trunk=np.zeros(N + 5, "f4")), OUTPUTS, r"'trunk' is float32 of shape \(45,\), expected floats"),
        (shuffled(trunk=np.zeros((N + 5, 3), "i4")), OUTPUTS, "array 'trunk' is int32"),
        (shuffled(trunk=np.array([{}] * 3, object)), OUTPUTS, "trunk.npy: cannot be read as an array without pickle"),
        (shuffled(sample_id=np.arange(N + 5)), OUTPUTS, r"sample ids are int64 of shape \(45,\); give the ids of"),
        (shuffled(sample_id=np.zeros((N + 5, 8), "u1")), OUTPUTS, "the sample id of row 0 has 8 bytes"),
        (shuffled(sample_id=np.array(["photo.jpg"] * (N + 5))), OUTPUTS, "a sample id is not a hex number"),
        (shuffled(view=np.zeros(3, "i4")), OUTPUTS, r"views are int32 of shape \(3,\)"),
        (shuffled(sample_id=np.array(3)), OUTPUTS, "sample ids are a single value"),
        (shuffled(sample_id=np.array([["ab"] * 2] * (N + 5))), OUTPUTS, r"sample ids are <U2 of shape \(45, 2\)"),
        (shuffled(said=np.zeros((N + 5, 7))), OUTPUTS, r"'said' has rows of shape \(7,\), not predictions of 'cls'; see"),
    ],
)
def test_a_dump_that_is_wrong_is_refused_in_one_line(tmp_path, store, arrays, outputs, message):
    as_npy(tmp_path / "dump", arrays)
    with pytest.raises(StoreError, match=message) as error:
        accept(spec(tmp_path / "dump", outputs=outputs), TASKS, store, {"clean": store}, tmp_path / "imported.json")
    assert "\n" not in str(error.value) and not (tmp_path / "imported.json").exists()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("npy", "nowhere: no sample_id.npy"),
        ("zarr_group", "nowhere: cannot be read as a Zarr group"),
        ("safetensors_files", "nowhere: no safetensors file here"),
        ("webdataset", "nowhere: no .tar file here"),
    ],
)
def test_files_that_are_not_there(tmp_path, store, kind, message):
    with pytest.raises(StoreError, match=message):
        import_for(spec(tmp_path / "nowhere", kind), store)


def test_a_sample_that_is_there_twice(tmp_path, store):
    as_webdataset(tmp_path / "dump", shuffled())
    (tmp_path / "dump" / "2.tar").write_bytes((tmp_path / "dump" / "0.tar").read_bytes())
    with pytest.raises(StoreError, match=r"2.tar: .*.npy is there twice"):
        import_for(spec(tmp_path / "dump", "webdataset"), store)


def test_pieces_that_do_not_fit_together(tmp_path, store):
    as_safetensors(tmp_path / "rows", shuffled())
    save_file({"sample_id": IDS, "view": VIEW, "trunk": FEATURES[:3], "said": LOGITS}, tmp_path / "rows" / "1.safetensors")
    with pytest.raises(StoreError, match=r"1.safetensors: its arrays differ in their number of rows"):
        import_for(spec(tmp_path / "rows", "safetensors_files"), store)
    as_safetensors(tmp_path / "pieces", shuffled())
    save_file({"sample_id": IDS}, tmp_path / "pieces" / "3.safetensors")
    with pytest.raises(StoreError, match=r"3.safetensors: holds sample_id, expected sample_id, and the same in all files"):
        import_for(spec(tmp_path / "pieces", "safetensors_files"), store)
    (tmp_path / "pieces" / "3.safetensors").write_bytes(b"junk")
    with pytest.raises(StoreError, match=r"3.safetensors: cannot be read as safetensors"):
        import_for(spec(tmp_path / "pieces", "safetensors_files"), store)
    (tmp_path / "junk.tar").write_bytes(b"junk" * 300)
    with pytest.raises(StoreError, match=r"junk.tar: cannot be read as a tar file"):
        import_for(spec(tmp_path / "junk.tar", "webdataset"), store)
