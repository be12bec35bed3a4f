"""Image tables: Parquet files with a column of image files, as plain bytes or as structs {bytes, path}.

The structs are the feature `Image` of Hugging Face's datasets, https://huggingface.co/docs/datasets/image_load
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from bb.extract.data.byte_range import ByteRangeFile
from bb.extract.data.image_source import ImageSource, oversized
from bb.extract.data.prefetch_cache import PrefetchCache
from bb.extract.data.shard import Found, usable_name
from bb.store.errors import UsageError
from bb.store.format.collection import some

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.parquet import FileMetaData

# Names of columns that hold images, the first that is there; any other only where it is the only one of its kind.
COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "picture", "photo")
MOST_GROUP = 2 * 2**30  # bytes: a row group is in memory as a whole
MOST_ROWS = 2**24  # of a row group: a few bytes of a file can stand for any number of missing values
MOST_FOOTER = 8 * 2**20  # bytes: in memory, a footer of nothing but empty columns takes 240 times as much
MOST_ITEMS = 100_000  # row groups, or columns
KEPT = 512 * 2**20
AHEAD = 2  # row groups
GUESS = 2**16  # bytes at the end, in which the footer mostly is
MAGIC = b"PAR1"
TAIL = 8  # bytes at the end: the footer's length, and the magic


class DamagedParquet(ValueError):
    """A fact about the file, without its name."""


@dataclass(frozen=True, slots=True)
class ParquetImage:
    """The image in one row of a table. Its row group is read for it, and kept a while for its neighbours."""

    blob: ByteRangeFile
    group: int
    row: int

    def read(self) -> bytes:
        try:
            table = _open(self.blob)
            if _GROUPS.has((self.blob, self.group - 1)):
                for i in range(self.group + 1, min(self.group + 1 + AHEAD, len(table.groups))):
                    _GROUPS.prepare((self.blob, i), lambda i=i: table.read(i)[0])  # type: ignore[misc]
            images = _GROUPS.get((self.blob, self.group), lambda: table.read(self.group)[0])
            data = _value(images[self.row - table.groups[self.group].first])
        except (ValueError, IndexError) as error:
            raise OSError(None, f"{self.blob.url} {error}") from None
        if data is None:
            raise OSError(None, "is not there any more", self.describe())
        return data

    def describe(self) -> str:
        return f"{self.blob.url}, row {self.row:,}"


@dataclass(frozen=True, slots=True)
class ParquetShard:
    """See `bb.extract.data.shard.Shard`."""

    blob: ByteRangeFile

    def find(self) -> Iterator[Found]:
        table = _open(self.blob)
        for index, group in enumerate(table.groups):
            images, paths = table.read(index)
            for row, (image, path) in enumerate(zip(images, paths, strict=True), group.first):
                data, path = _value(image), path.as_py()
                name = usable_name(path or "")
                if data is None:
                    yield Found.unusable(name, index, row, 0, _absent(path))
                elif why := oversized(len(data)):
                    yield Found.unusable(name, index, row, len(data), why)
                else:
                    yield Found.of_bytes(name, index, row, data)

    def source(self, found: Found) -> ImageSource:
        return ParquetImage(self.blob, found.at, found.of)

    def own_name(self, found: Found) -> str:
        return str(found.of)


def _absent(path: str | None) -> str:
    if path is None:
        return "is missing: the row holds no image"
    return f"is not in the table, which holds its path alone ({path[:200]}): write it with the images embedded"


class RowGroup(NamedTuple):
    """Rows `first` to `first + rows` of a file, which take `plain` bytes once unpacked, as the footer says."""

    first: int
    rows: int
    plain: int


@dataclass(frozen=True, slots=True)
class _Table:
    """A file's footer, and the column of images that it names.

    texts  the parts of the column that hold bytes or text, read as dictionaries: a value that a file stores once and
           names in a million rows is in memory once, too
    """

    blob: ByteRangeFile
    column: str
    texts: list[str]
    metadata: "FileMetaData"
    groups: list[RowGroup]

    def read(self, index: int) -> "tuple[pa.ChunkedArray, pa.ChunkedArray]":
        """A row group's images (see `_value`) and paths, null where there are none. Raises DamagedParquet, OSError."""
        import pyarrow as pa
        from pyarrow.parquet import ParquetFile

        group = self.groups[index]
        for what, n, most in (("bytes of images", group.plain, MOST_GROUP), ("rows", group.rows, MOST_ROWS)):
            if n > most:
                raise DamagedParquet(
                    f"has {n:,} {what} in row group {index}, over the limit of {most:,}: write it with smaller ones "
                    f"(row_group_size=100)"
                )
        with _File(self.blob) as file:
            try:
                parquet = ParquetFile(file, metadata=self.metadata, read_dictionary=self.texts, pre_buffer=False)
                column = parquet.read_row_group(index, [self.column], use_threads=False).column(self.column)
                column.validate(full=True)
                cells = _cells(column)
            except (pa.ArrowException, OSError, MemoryError, ValueError, KeyError) as error:
                if file.fault:
                    raise file.fault from None
                raise DamagedParquet(f"is damaged in row group {index} ({_short(error)})") from None
        if len(column) != group.rows:
            raise DamagedParquet(f"is damaged in row group {index}: it has {len(column)} rows instead of {group.rows}")
        return cells


_TABLES: "PrefetchCache[Any, _Table]" = PrefetchCache(64 * 2**20, lambda table: table.metadata.serialized_size)
_GROUPS: "PrefetchCache[Any, pa.ChunkedArray]" = PrefetchCache(KEPT, lambda column: int(column.nbytes), AHEAD)


def _open(blob: ByteRangeFile) -> _Table:
    return _TABLES.get(blob, lambda: _read_footer(blob))


def _read_footer(blob: ByteRangeFile) -> _Table:
    """Raises DamagedParquet, OSError, ValueError where there is no column of images, and UsageError without pyarrow."""
    try:
        import pyarrow as pa
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise UsageError(f"{blob.url}: image tables need pyarrow: pip install 'backbone-bench[parquet]'") from None

    end = blob.read(max(0, blob.size - GUESS), min(GUESS, blob.size))
    if len(end) < TAIL or not end.endswith(MAGIC):
        raise DamagedParquet("is not a Parquet file, or is cut short: it does not end as one does")
    size = int.from_bytes(end[-TAIL : -len(MAGIC)], "little")
    if size > MOST_FOOTER:
        raise DamagedParquet(f"is damaged: its footer claims {size:,} bytes, over the limit of {MOST_FOOTER:,}")
    if size + TAIL + len(MAGIC) > blob.size:
        raise DamagedParquet("is cut short: its footer is longer than all of it")
    if size + TAIL > len(end):
        end = blob.read(blob.size - TAIL - size, size + TAIL)
    try:
        footer = ParquetFile(pa.BufferReader(end[-size - TAIL :]), thrift_container_size_limit=MOST_ITEMS)
        metadata, schema = footer.metadata, footer.schema_arrow
        column = _image_column(dict(zip(schema.names, schema.types, strict=True)))
        leaves = [metadata.schema.column(i) for i in range(len(metadata.schema.names))]
        texts = [leaf.path for leaf in leaves if _is_in(leaf.path, column) and leaf.physical_type == "BYTE_ARRAY"]
        groups = list(_row_groups(metadata))
    except (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError) as error:
        raise DamagedParquet(f"is damaged: its footer can't be read ({_short(error)})") from None
    return _Table(blob, column, texts, metadata, groups)


def _row_groups(metadata: "FileMetaData") -> Iterator[RowGroup]:
    """The row groups. Where their columns are stays pyarrow's: asked for it by name, it ends the process if the footer
    contradicts itself, and does not while it reads."""
    first = 0
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        if group.num_rows < 0 or group.total_byte_size < 0:
            raise DamagedParquet("is damaged: its footer counts less than nothing")
        yield RowGroup(first, group.num_rows, group.total_byte_size)
        first += group.num_rows


def _is_in(path: str, column: str) -> bool:
    """Whether the values at a path belong to a column."""
    return path == column or path.startswith(f"{column}.")


def _image_column(schema: "dict[str, pa.DataType]") -> str:
    structs = [name for name, kind in schema.items() if _is_struct(kind)]
    plain = [name for name, kind in schema.items() if _is_bytes(kind)]
    if COLUMNS[0] in structs + plain:
        return COLUMNS[0]
    fit = structs or [name for name in plain if name.lower() in COLUMNS] or plain
    if len(fit) == 1:
        return fit[0]
    listed = some([f"{name} ({kind})" for name, kind in schema.items()], 20)
    if fit:
        raise ValueError(
            f"has several columns of images, {', '.join(fit)}, and none is called {COLUMNS[0]}: write a table with one "
            f"of them. Its columns are {listed}"
        )
    if lists := [name for name, kind in schema.items() if _is_list_of_images(kind)]:
        raise ValueError(
            f"has lists of images in the column {lists[0]}: write a table with one image in a row "
            f"(polars' or pandas' explode). Its columns are {listed}"
        )
    raise ValueError(f"has no column of images, which are bytes or structs {{bytes, path}}. Its columns are {listed}")


def _is_bytes(kind: Any) -> bool:
    """Whether cells are files: bytes of whatever Arrow type, or (as pandas writes arrays) lists of them."""
    from pyarrow import types, uint8

    kind = kind.value_type if types.is_dictionary(kind) else kind
    kinds = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
    return any(is_kind(kind) for is_kind in kinds) or (_is_list(kind) and kind.value_type == uint8())


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    return types.is_list(kind) or types.is_large_list(kind)


def _is_struct(kind: Any) -> bool:
    from pyarrow import types

    if not types.is_struct(kind):
        return False
    fields = {field.name: field.type for field in kind}
    path = fields.get("path")
    if path is not None and types.is_dictionary(path):
        path = path.value_type
    kinds = (types.is_null, types.is_string, types.is_large_string, types.is_string_view)
    return (
        "bytes" in fields and _is_bytes(fields["bytes"]) and (path is None or any(is_kind(path) for is_kind in kinds))
    )


def _is_list_of_images(kind: Any) -> bool:
    from pyarrow import types

    inner = kind.value_type if _is_list(kind) or types.is_fixed_size_list(kind) else None
    return inner is not None and (_is_struct(inner) or _is_bytes(inner))


def _cells(column: "pa.ChunkedArray") -> "tuple[pa.ChunkedArray, pa.ChunkedArray]":
    """What a column of images holds: the files, and their paths, null where it has none."""
    import pyarrow as pa

    fields = {"bytes": column}
    if pa.types.is_struct(column.type):
        fields = dict(zip([field.name for field in column.type], column.flatten(), strict=True))
    return fields["bytes"], fields.get("path", pa.chunked_array([pa.nulls(len(column))]))


def _value(image: "pa.Scalar") -> bytes | None:
    """The bytes of an image, whatever Arrow type they have."""
    import pyarrow as pa

    if not isinstance(image, pa.ListScalar):
        return cast(bytes | None, image.as_py())
    if image.values is None or image.values.null_count:
        return None
    return cast(bytes, image.values.to_numpy().tobytes())


class _File(io.RawIOBase):
    """A file as pyarrow reads it: a column's part of a row group at a time. `fault` is what reading raised."""

    def __init__(self, blob: ByteRangeFile) -> None:
        self.blob, self.place = blob, 0
        self.fault: Exception | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self.place = max(0, offset + (0, self.place, self.blob.size)[whence])
        return self.place

    def tell(self) -> int:
        return self.place

    def read(self, size: int = -1) -> bytes:
        rest = max(0, self.blob.size - self.place)
        size = rest if size < 0 else min(size, rest)
        if size > MOST_GROUP:
            raise DamagedParquet(f"asks for {size:,} bytes at once")
        try:
            data = self.blob.read(self.place, size)
        except Exception as error:
            self.fault = error
            raise
        self.place += len(data)
        return data


def _short(error: BaseException) -> str:
    return str(error).partition("\n")[0][:200]
