"""Labels in a store: the table of a task family, where its licence lets it be shared, so that others can probe."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bb.store.errors import BBError, Malformed
from bb.store.files.canonical_json import sha256_hex
from bb.store.files.directory import Directory
from bb.store.files.limits import MAX_TABLE_BYTES
from bb.store.format.collection import check_name
from bb.store.format.layout import read_plain
from bb.store.format.parquet import read_table

if TYPE_CHECKING:
    import polars as pl

# SPDX identifiers of licences under which anybody may pass a table on: https://spdx.org/licenses/. Those that forbid
# derivatives are left out, since what is stored is rearranged.
SHAREABLE = (
    *("CC0-1.0", "PDDL-1.0", "ODC-By-1.0", "ODbL-1.0", "CDLA-Permissive-1.0", "CDLA-Permissive-2.0"),
    *("CDLA-Sharing-1.0", "MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause"),
    *(f"CC-{kind}-{n}" for kind in ("BY", "BY-SA", "BY-NC", "BY-NC-SA") for n in ("2.0", "2.5", "3.0", "4.0")),
)


@dataclass(frozen=True, eq=False)
class LabelTable:
    """One version of a task family's labels on one collection.

    tasks       the family: "newt"
    collection  name of the collection whose image IDs the table names
    licence     SPDX identifier
    table       columns id, task_cluster, task_subcluster, task, split (str) and label (uint8), sorted by task and id
    digest      SHA-256 of the parquet file's bytes, 64 hex digits
    """

    tasks: str
    collection: str
    licence: str
    table: "pl.DataFrame"
    digest: str
    parquet: bytes

    @classmethod
    def from_table(cls, tasks: str, table: "pl.DataFrame", *, collection: str, licence: str) -> "LabelTable":
        """Makes a version. Raises UsageError for a name that can't be, BBError where the licence does not allow it."""
        import polars as pl

        check_name(tasks)
        check_name(collection)
        allowed = shareable(licence)
        if allowed is None:
            raise BBError(f"labels of {collection} can't be put into a store: {not_allowed(collection, licence)}.")
        columns = list(_schema())[2:]
        rows = table.select(columns).sort("task", "id")
        whole = rows.select(pl.lit(collection).alias("collection"), pl.lit(allowed).alias("licence"), *columns)
        buffer = io.BytesIO()
        whole.cast(_schema()).write_parquet(buffer, compression="zstd")  # type: ignore[arg-type]
        parquet = buffer.getvalue()
        return cls(tasks, collection, allowed, rows, sha256_hex(parquet), parquet)

    @classmethod
    def from_file(cls, path: Path) -> "LabelTable":
        """Reads a published version, `labels/<tasks>/<digest>.parquet`. Raises BBError where it is not one.

        Whether tasks can be made of the rows is for the task family to check.
        """
        tasks = path.parent.name
        try:
            return cls.from_parquet(
                tasks, path.stem, read_plain(Directory.within(path.parent, 2), path.name, MAX_TABLE_BYTES)
            )
        except Malformed as fact:
            raise BBError(
                f"labels {tasks}@{path.stem[:12]} are damaged: {fact}. Move {path} out of the store."
            ) from None

    @classmethod
    def from_parquet(cls, tasks: str, digest: str, parquet: bytes) -> "LabelTable":
        """A version of its file's bytes. Raises Malformed where they are none."""
        if sha256_hex(parquet) != digest:
            raise Malformed("its file does not have the digest in its name")
        try:
            table = read_table(parquet, _schema())
        except ValueError as fact:
            raise Malformed(str(fact)) from None
        names = {column: table[column].unique().to_list() for column in ("collection", "licence")}
        for column, values in names.items():
            if len(values) != 1 or values[0] is None:
                raise Malformed(f"it names {len(values)} {column}s, one is needed")
        try:
            check_name(names["collection"][0])
        except BBError as fact:
            raise Malformed(str(fact)) from None
        rows = table.select(list(_schema())[2:])
        return cls(tasks, names["collection"][0], names["licence"][0], rows, digest, parquet)

    def same_labels(self, other: "LabelTable") -> bool:
        """Whether both give the same images the same labels."""
        return self.table.equals(other.table)

    def describe(self) -> str:
        """What tells versions apart, in a line."""
        n_tasks = self.table["task"].n_unique()
        return f"{self.tasks} on {self.collection}, {n_tasks} tasks, {self.table.height} rows, {self.licence}"


def shareable(licence: str) -> str | None:
    """The SPDX identifier as it is written, where that licence lets a table be passed on; None otherwise."""
    return {name.lower(): name for name in SHAREABLE}.get(licence.lower())


def not_allowed(name: str, licence: str | None) -> str:
    """Why labels of a collection may not be passed on, and what to do."""
    if licence is None:
        line = 'licence = "CC-BY-4.0"'
        return f"no licence is known; if theirs allows sharing, write it below [data.{name}] in bb.toml, such as {line}"
    return f"the licence {licence} is not on bb's list of those that allow it (docs/store.md)"


def _schema() -> "dict[str, pl.DataType]":
    import polars as pl

    return {
        "collection": pl.String(),
        "licence": pl.String(),
        "id": pl.String(),
        "task_cluster": pl.String(),
        "task_subcluster": pl.String(),
        "task": pl.String(),
        "label": pl.UInt8(),
        "split": pl.String(),
    }
