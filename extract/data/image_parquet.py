"""Image tables: Parquet files with a column of image files, as plain bytes or as structs {bytes, path}.

The structs are the feature `Image` of Hugging Face's datasets, https://huggingface.co/docs/datasets/image_load
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bb.extract.data.byte_range import Blob, Local
from bb.extract.data.image_source import Source, oversized
from bb.extract.data.parquet_footer import MAGIC, TAIL, DamagedParquet, RowGroup, footer_size, row_groups
from bb.extract.data.prefetch_cache import Shelf
from bb.extract.data.shard import Found, usable_name
from bb.store.format.collection import some

if TYPE_CHECKING:
    import polars as pl

# Names of columns that hold images, the first that is there; any other only where it is the only one of its kind.
COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "picture", "photo")
MOST_GROUP = 2 * 2**30  # bytes: a row group is in memory as a whole
KEPT = 512 * 2**20
AHEAD = 2  # row groups
GUESS = 2**16  # bytes at the end, in which the footer mostly lies


@dataclass(frozen=True, slots=True)
class Cell:
    """The image in one row of a table. Its row group is read for it, and kept a while for its neighbours."""

    blob: Blob
    group: int
    row: int

    def read(self) -> bytes:
        try:
            table = _open(self.blob)
            if _GROUPS.has((self.blob, self.group - 1)):
                for i in range(self.group + 1, min(self.group + 1 + AHEAD, len(table.groups))):
                    _GROUPS.prepare((self.blob, i), lambda i=i: table.read(i).get_column("bytes"))  # type: ignore[misc]
            column = _GROUPS.get((self.blob, self.group), lambda: table.read(self.group).get_column("bytes"))
            data = column[self.row - table.groups[self.group].first]
        except (ValueError, IndexError) as error:
            raise OSError(None, f"{self.blob.url} {error}") from None
        if data is None:
            raise OSError(None, "is not there any more", self.words())
        return bytes(data)

    def words(self) -> str:
        return f"{self.blob.url}, row {self.row:,}"


@dataclass(frozen=True, slots=True)
class ParquetShard:
    """See `bb.extract.data.shard.Shard`."""

    blob: Blob

    def find(self) -> Iterator[Found]:
        table = _open(self.blob)
        for index, group in enumerate(table.groups):
            rows = table.read(index)
            for row, (data, path) in enumerate(zip(rows["bytes"], rows["path"], strict=True), group.first):
                name = usable_name(path or "")
                if data is None:
                    yield Found.unusable(name, index, row, 0, _absent(path))
                elif why := oversized(len(data)):
                    yield Found.unusable(name, index, row, len(data), why)
                else:
                    yield Found.of_bytes(name, index, row, data)

    def source(self, found: Found) -> Source:
        return Cell(self.blob, found.at, found.of)

    def own_name(self, found: Found) -> str:
        return str(found.of)


def _absent(path: str | None) -> str:
    if path is None:
        return "is missing: the row holds no image"
    return f"is not in the table, which holds its path alone ({path[:200]}): write it with the images embedded"


@dataclass(frozen=True, slots=True)
class _Table:
    blob: Blob
    column: str
    footer: bytes
    groups: list[RowGroup]

    def read(self, index: int) -> "pl.DataFrame":
        """A row group's columns `bytes` and `path`. Raises DamagedParquet, OSError."""
        import polars as pl

        group = self.groups[index]
        if group.plain > MOST_GROUP:
            raise DamagedParquet(
                f"has {group.plain:,} bytes of images in row group {index}, over the limit of {MOST_GROUP:,}: write it "
                f"with smaller ones (row_group_size=100)"
            )
        with _on_disk(self.blob, self.footer, group) as path:
            try:
                table = pl.scan_parquet(path, glob=False, hive_partitioning=False)
                rows = _cells(table.slice(group.first, group.rows).select(self.column).collect().to_series())
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException, MemoryError) as error:
                raise DamagedParquet(f"is damaged in row group {index} ({_short(error)})") from None
        if len(rows) != group.rows:
            raise DamagedParquet(f"is damaged in row group {index}: it has {len(rows)} rows instead of {group.rows}")
        return rows


_TABLES: "Shelf[Any, _Table]" = Shelf(64 * 2**20, lambda table: len(table.footer))
_GROUPS: "Shelf[Any, pl.Series]" = Shelf(KEPT, lambda column: int(column.estimated_size()), AHEAD)


def _open(blob: Blob) -> _Table:
    return _TABLES.get(blob, lambda: _read_footer(blob))


def _read_footer(blob: Blob) -> _Table:
    """Raises DamagedParquet, OSError, and ValueError where there is no column of images."""
    import polars as pl

    tail = blob.read(max(0, blob.size - GUESS), min(GUESS, blob.size))
    size = footer_size(tail[-TAIL:])
    if size + TAIL + len(MAGIC) > blob.size:
        raise DamagedParquet("is cut short: its footer is longer than all of it")
    fits = size + TAIL <= len(tail)
    footer = tail[-TAIL - size : -TAIL] if fits else blob.read(blob.size - TAIL - size, size)
    with _on_disk(blob, footer, None) as path:
        try:
            schema = dict(pl.scan_parquet(path, glob=False).collect_schema())  # read_parquet_schema takes [1] for 1
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, MemoryError) as error:
            raise DamagedParquet(f"is damaged: its footer can't be read ({_short(error)})") from None
    column = _image_column(schema)
    return _Table(blob, column, footer, row_groups(footer, column, blob.size))


def _image_column(schema: "dict[str, pl.DataType]") -> str:
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
    import polars as pl

    return kind in (pl.Binary(), pl.List(pl.UInt8()))


def _is_struct(kind: "pl.DataType") -> bool:
    import polars as pl

    if not isinstance(kind, pl.Struct):
        return False
    fields = {field.name: field.dtype for field in kind.fields}
    data, path = fields.get("bytes"), fields.get("path", pl.Null())
    is_text = path in (pl.String(), pl.Null()) or isinstance(path, pl.Categorical | pl.Enum)
    return data is not None and _is_bytes(data) and is_text


def _is_list_of_images(kind: "pl.DataType") -> bool:
    import polars as pl

    inner = getattr(kind, "inner", None) if isinstance(kind, pl.List | pl.Array) else None
    return inner is not None and (_is_struct(inner) or _is_bytes(inner))


def _cells(column: "pl.Series") -> "pl.DataFrame":
    """A column of images as the columns `bytes` and `path`, which is null where a table has none."""
    import polars as pl

    data, path = column, pl.repeat(None, len(column), dtype=pl.String(), eager=True)
    if isinstance(column.dtype, pl.Struct):
        data = column.struct.field("bytes")
        if "path" in column.struct.fields:
            path = column.struct.field("path").cast(pl.String())
    return pl.DataFrame({"bytes": data.cast(pl.Binary()), "path": path})


@contextmanager
def _on_disk(blob: Blob, footer: bytes, group: RowGroup | None) -> Iterator[Path]:
    """A file that the reader of tables takes for the whole one: itself, or one with holes, where nothing is but the
    footer and the column's part of a row group."""
    if isinstance(blob, Local):
        yield blob.path
        return
    descriptor, name = tempfile.mkstemp(suffix=".parquet")
    try:
        with open(descriptor, "wb") as file:
            file.truncate(blob.size)
            file.write(MAGIC)
            if group:
                file.seek(group.start)
                file.write(blob.read(group.start, group.stop - group.start))
            file.seek(blob.size - TAIL - len(footer))
            file.write(footer + len(footer).to_bytes(4, "little") + MAGIC)
        yield Path(name)
    finally:
        os.unlink(name)


def _short(error: BaseException) -> str:
    return str(error).partition("\n")[0][:200]
