"""A collection: a named, versioned list of image ID → image digest. With it, a lab without the images can probe."""

import io
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from bb.store.errors import BBError, Malformed, UsageError
from bb.store.files.canonical_json import sha256_hex
from bb.store.files.directory import Directory
from bb.store.files.limits import MAX_TABLE_BYTES
from bb.store.files.paths import NAME
from bb.store.format.layout import read_plain
from bb.store.format.parquet import read_table
from bb.store.format.text import is_text_collection
from bb.store.text.image_ids import explain
from bb.store.text.lookalike import shown
from bb.store.text.printable import printable

if TYPE_CHECKING:
    import polars as pl


class Entry(NamedTuple):
    """One image of a collection. Width and height (pixels, after EXIF orientation) are None where the file has none."""

    image_id: str
    image_sha256: bytes
    n_bytes: int
    width: int | None
    height: int | None


@dataclass(frozen=True, eq=False)
class Collection:
    """One version of a collection, sorted by image ID.

    table  columns image_id (str), image_sha256 (binary, 32 bytes), n_bytes (int64), width, height (int32 or null)
    digest SHA-256 of the parquet file's bytes, 64 hex digits
    """

    name: str
    digest: str
    table: "pl.DataFrame"
    parquet: bytes

    @classmethod
    def from_entries(cls, name: str, entries: Iterable[Entry]) -> "Collection":
        """Makes a version from its images. Raises UsageError for an unusable name, BBError for repeated IDs."""
        import polars as pl

        check_name(name)
        rows = sorted(entries)
        for first, second in pairwise(rows):
            if first.image_id == second.image_id:
                raise BBError(f"collection {name} names two images {first.image_id!r}. Rename one of the files.")
        table = pl.DataFrame(rows, schema=_schema(), orient="row")
        buffer = io.BytesIO()
        table.write_parquet(buffer, compression="zstd")
        parquet = buffer.getvalue()
        return cls(name, sha256_hex(parquet), table, parquet)

    @classmethod
    def from_parquet(cls, name: str, digest: str, parquet: bytes) -> "Collection":
        """Reads a published version. Raises BBError where the bytes do not have the digest."""
        if sha256_hex(parquet) != digest:
            raise BBError(
                f"collection {name}@{digest[:12]} is damaged: its file does not have the digest in its name. "
                f"Delete the file; the next `bb extract` writes it again."
            )
        try:
            table = read_table(parquet, _schema())
            keys = table["image_sha256"]
            if table["image_id"].null_count() or table["image_id"].n_unique() != table.height:
                raise ValueError("an image ID is missing or stands twice")
            if keys.null_count() or (table.height and not (keys.bin.size() == 32).all()):
                raise ValueError("an image digest has not 32 bytes")
        except ValueError as fact:
            raise BBError(
                f"collection {name}@{digest[:12]} is damaged: {fact}. Move its file out of the store."
            ) from None
        return cls(name, digest, table, parquet)

    @classmethod
    def from_file(cls, path: Path) -> "Collection":
        """Reads `collections/<name>/<digest>.parquet`. BBError where it is not a plain file, or no version."""
        try:
            raw = read_plain(Directory.within(path.parent, 2), path.name, MAX_TABLE_BYTES)
        except Malformed as fact:
            raise BBError(f"collection {path.parent.name}: {fact}. Move {path} out of the store.") from None
        return cls.from_parquet(path.parent.name, path.stem, raw)

    def __len__(self) -> int:
        return self.table.height

    def same_images(self, other: "Collection") -> bool:
        """Whether both list the same IDs with the same bytes."""
        columns = ["image_id", "image_sha256"]
        return self.table.select(columns).equals(other.table.select(columns))

    def find(self, image_ids: Sequence[str]) -> Int[np.ndarray, " n"]:
        """Row of each image ID in the table, int64; -1 for an ID that the collection does not have."""
        import polars as pl

        wanted = pl.DataFrame({"image_id": pl.Series(list(image_ids), dtype=pl.String)})
        if wanted["image_id"].equals(self.table["image_id"]):
            return np.arange(len(self))
        # An inner join hashes the smaller side, which a left join may not choose.
        pairs = wanted.with_row_index("place").join(
            self.table.select("image_id").with_row_index("row"), on="image_id", how="inner"
        )
        found = np.full(len(wanted), -1)
        found[pairs["place"].to_numpy()] = pairs["row"].to_numpy()
        return found

    def digests(self, image_ids: Sequence[str]) -> UInt8[np.ndarray, "n 32"]:
        """Image digests in the order asked. Raises BBError for IDs that the collection does not have."""
        rows = self.find(image_ids)
        if (rows < 0).any():
            absent = [image_id for image_id, row in zip(image_ids, rows, strict=True) if row < 0]
            known = self.table["image_id"].to_list()
            hint = explain(absent, known) or (
                f"Check the folder with `bb data check {self.name}`, then extract again; or are the labels of another "
                f"collection? This one has {some([shown(image_id) for image_id in known], 1)}."
            )
            raise BBError(
                f"collection {self.name}@{self.digest[:12]} is missing {len(absent)} of {len(rows)} images: "
                f"{some(absent)}. {hint}"
            )
        return self.all_digests()[rows]

    def all_digests(self) -> UInt8[np.ndarray, "n 32"]:
        """Image digests of the whole collection, in the order of its table."""
        import polars as pl

        width = pl.Array(pl.UInt8, 32)
        return self.table.select(pl.col("image_sha256").bin.reinterpret(dtype=width)).to_series().to_numpy()


def _schema() -> "dict[str, pl.DataType]":
    import polars as pl

    return {
        "image_id": pl.String(),
        "image_sha256": pl.Binary(),
        "n_bytes": pl.Int64(),
        "width": pl.Int32(),
        "height": pl.Int32(),
    }


def check_name(name: str) -> None:
    """Raises UsageError unless a collection may have that name: it is a folder's, on any machine."""
    if not re.fullmatch(NAME, name):
        raise UsageError(
            f"{name!r} can't name a collection: use up to 100 letters, digits, '.', '_' or '-', no dot first or last, "
            f"and no device of Windows (con, nul, …)."
        )


def normalise_id(image_id: str) -> str:
    """The NFC form, so that the same name typed on Linux and macOS is one image ID."""
    return unicodedata.normalize("NFC", image_id)


def some(items: Sequence[object], limit: int = 3) -> str:
    """The first few of a list, as messages show them."""
    first = ", ".join(printable(item) for item in items[:limit])
    return first + (f", … ({len(items) - limit} more)" if len(items) > limit else "")


def only_collection(names: Sequence[str]) -> str:
    """The only one of some names, of collections of images. Errors: UsageError where there are several, or none."""
    names = [name for name in names if not is_text_collection(name)]
    if len(names) == 1:
        return names[0]
    listed = f"there are {', '.join(names)}" if names else "there are none: `bb extract` makes them"
    raise UsageError(f"which collection? --data NAME; {listed}.")
