"""Which files a store has and what Zarr metadata says of them: a pure function of its fields, rows and shard size."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from pipeline.stores.recipes import STORED
from pipeline.stores.shard import Layout, StoreError

FORMAT = 1
PLAIN = ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64")
DTYPES = (*PLAIN, *STORED)
CODECS = ("raw", "lz4", "zstd")
CHUNK_BYTES = {"raw": 2**20, "lz4": 2**17, "zstd": 2**17}  # a compressed chunk is read whole: small ones shuffle finely


@dataclass(frozen=True)
class Field:
    """One array of a store, as its rows are stored.

    shape: of one row; of one item, if ragged. dtype: NumPy's, or one of recipes.py. codec: raw, lz4 or zstd. chunk_rows:
    rows per chunk, a divisor of the shard's; by default a chunk is about 1 MiB if raw, else 128 KiB. max_items: above 0 the
    field is ragged, with at most that many items per row. dims: above 0, rows are stored as their coordinates in that many
    principal components of their channels. attributes: JSON for readers.
    """

    shape: tuple[int, ...]
    dtype: str
    codec: str = "raw"
    chunk_rows: int | None = None
    max_items: int = 0
    dims: int = 0
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """Its type in words: "qint8", "qint8, 48 dims"."""
        return f"{self.dtype}, {self.dims} dims" if self.dims else self.dtype

    @property
    def plain(self) -> bool:
        """Whether rows are stored as they are read."""
        return self.dtype not in STORED and not self.dims

    @property
    def decoded(self) -> np.dtype:
        """The type that rows are read as."""
        return np.dtype(self.dtype if self.plain else "float32")

    @property
    def padded(self) -> tuple[int, ...]:
        """The shape of a row padded to the most items."""
        return (self.max_items, *self.shape) if self.max_items else self.shape

    @property
    def row_bytes(self) -> int:
        """Bytes of a decoded row, at most."""
        return max(1, self.max_items) * int(np.prod(self.shape, dtype=object)) * self.decoded.itemsize

    @property
    def beside(self) -> dict[str, tuple[int, int]]:
        """What is needed to decode a shard's rows, float32: {"scale", "basis": shape}."""
        channels = self.dims or (self.shape or (0,))[0]
        shapes = {"scale": (2, channels)} if self.dtype == "qint8" else {}
        return shapes | ({"basis": (1 + self.dims, self.shape[0])} if self.dims else {})

    def sized(self, shard_rows: int) -> "Field":
        """The same field with its chunk_rows set."""
        if self.chunk_rows:
            return self
        max_rows = max(1, CHUNK_BYTES["zstd" if self.max_items else self.codec] // self.row_bytes)
        chunk_rows = max(rows for rows in range(1, shard_rows + 1) if shard_rows % rows == 0 and rows <= max_rows)
        return replace(self, chunk_rows=chunk_rows)


def field_of(values: np.ndarray | list[np.ndarray]) -> Field:
    """The field of inputs or labels, which are small or compress well: zstd. A list is ragged. Raises StoreError."""
    if isinstance(values, list):
        filled_row = next((row for row in values if len(row)), values[0])
        dtype = np.result_type(*{row.dtype for row in values})
        if dtype.kind not in "if":
            raise StoreError(padding_problem(dtype))
        return Field(filled_row.shape[1:], dtype.name, max_items=max(1, *map(len, values)))
    return Field(values.shape[1:], values.dtype.name, codec="zstd")


def padding_problem(dtype: np.dtype) -> str:
    return f"ragged rows of {dtype}: batches pad them with -1, so make them signed integers or floats"


IDS = {"sample_id": Field((16,), "uint8", "zstd"), "view": Field((), "int32", "zstd")}


def arrays_of(name: str, f: Field, shard_rows: int) -> dict[str, Layout]:
    """The Zarr arrays behind a field: one of its name; or its values, and what is needed to read them.

    If ragged: each row's (begin, end) among the values, which are packed from the start of their row shard's range, so
    that value shard s belongs to row shard s. If qint8: every shard's scale and zero point of each channel. If principal
    components: their basis, the same in every shard, so that each can be read alone.
    """
    assert f.chunk_rows is not None
    if f.max_items:
        item_counts = shard_rows * f.max_items, f.chunk_rows * f.max_items
        return {
            f"{name}/values": Layout(f.shape, f.dtype, *item_counts, "zstd", "item"),
            f"{name}/offsets": Layout((2,), "int64", shard_rows, f.chunk_rows, "zstd"),
        }
    shape = (f.dims, *f.shape[1:]) if f.dims else f.shape
    layout = Layout(shape, STORED.get(f.dtype, f.dtype), shard_rows, f.chunk_rows, f.codec)
    if not f.beside:
        return {name: layout}
    extra = {f"{name}/{key}": Layout(extra_shape, "float32", 1, 1, "raw", "shard") for key, extra_shape in f.beside.items()}
    return {f"{name}/values": layout, **extra}


def array_rows(layout: Layout, n_rows: int, n_shards: int) -> int:
    """Length of an array in a store of so many rows."""
    return n_rows if layout.dimension == "row" else n_shards * layout.shard_rows


def array_metadata(name: str, layout: Layout, n_rows: int, row_dimension: str, attributes: dict[str, Any]) -> dict[str, Any]:
    """An array's zarr.json."""
    endian_codec = {"name": "bytes", "configuration": {"endian": "little"}}
    itemsize = np.dtype(layout.dtype).itemsize
    blosc_settings = {"cname": "lz4", "clevel": 5, "shuffle": "shuffle", "typesize": itemsize, "blocksize": 0}
    compressors = {
        "raw": [],
        "lz4": [{"name": "blosc", "configuration": blosc_settings}],
        "zstd": [{"name": "zstd", "configuration": {"level": 1, "checksum": False}}],
    }
    sharding = {
        "chunk_shape": [layout.chunk_rows, *layout.shape],
        "codecs": [endian_codec, *compressors[layout.codec], {"name": "crc32c"}],
        "index_codecs": [endian_codec, {"name": "crc32c"}],
        "index_location": "end",
    }
    prefix = name.replace("/", ".")
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [n_rows, *layout.shape],
        "data_type": layout.dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [layout.shard_rows, *layout.shape]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": False if layout.dtype == "bool" else 0,
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "dimension_names": [row_dimension, *(f"{prefix}.{axis}" for axis in range(1, len(layout.shape) + 1))],
        "attributes": attributes,
        "storage_transformers": [],
    }


def group_metadata(attributes: dict[str, Any]) -> dict[str, Any]:
    """A group's zarr.json."""
    return {"zarr_format": 3, "node_type": "group", "attributes": attributes}


def shard_file(array: str, layout: Layout, shard: int) -> str:
    """Where a shard lies, relative to the store."""
    return "/".join([array, "c", str(shard), *("0" for _ in layout.shape)])


def metadata_files(fields: dict[str, Field], n_rows: int, shard_rows: int) -> dict[str, dict[str, Any]]:
    """{relative path: content} of every zarr.json but the root's."""
    n_shards = -(-n_rows // shard_rows)
    files: dict[str, dict[str, Any]] = {}
    for name, f in fields.items():
        for array, layout in arrays_of(name, f, shard_rows).items():
            dimension_prefix = "" if layout.dimension == "row" else name.replace("/", ".") + "."
            attributes = f.attributes | ({} if f.plain else {"decoded_from": f.dtype})
            files[f"{array}/zarr.json"] = array_metadata(
                array, layout, array_rows(layout, n_rows, n_shards), dimension_prefix + layout.dimension, attributes
            )
            parents = array.split("/")[:-1]
            for depth in range(1, len(parents) + 1):
                files.setdefault("/".join([*parents[:depth], "zarr.json"]), group_metadata({}))
    return files


def count_files(fields: dict[str, Field], n_rows: int, shard_rows: int) -> int:
    """How many files a store of these fields, and of ids, will have."""
    all_fields = {name: f.sized(shard_rows) for name, f in {**IDS, **fields}.items()}
    n_arrays = sum(len(arrays_of(name, f, shard_rows)) for name, f in all_fields.items())
    return 1 + len(metadata_files(all_fields, n_rows, shard_rows)) + n_arrays * -(-n_rows // shard_rows)


def field_as_json(f: Field) -> dict[str, Any]:
    return {**asdict(f), "shape": list(f.shape)}


def canonical(value: Any) -> bytes:
    """The one JSON spelling of a value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON, in hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


def digest_ids(sample_id: np.ndarray, view: np.ndarray) -> str:
    """SHA-256, in hex, of all sample ids, then all views: aligned stores have the same."""
    return hashlib.sha256(sample_id.astype("u1").tobytes() + view.astype("<i4").tobytes()).hexdigest()
