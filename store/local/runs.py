"""Runs on disk: one folder each of immutable files, so that hundreds of jobs can write at once."""

import json
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bb.store.errors import BBError, Malformed
from bb.store.files.atomic_write import publish_folder
from bb.store.files.canonical_json import canonical_json, sha256_hex
from bb.store.files.directory import Directory
from bb.store.files.limits import MAX_RUN_BYTES, MAX_TABLE_BYTES, parse_json
from bb.store.format.collection import some
from bb.store.format.layout import read_plain
from bb.store.format.parquet import read_table
from bb.store.format.space import short
from bb.store.local.tier import Tier

if TYPE_CHECKING:
    import polars as pl

REQUIRED = (
    *(
        "run_id",
        "tasks",
        "protocol",
        "n_train",
        "seed",
        "classifier",
        "backend",
        "space",
        "collection",
        "scores",
        "provenance",
    ),
    *("collection_name", "backbones", "identical_to_sklearn", "test_set"),
)
OLD_CLASSIFIER = "svm"  # the key `classifier` of runs written before other classifiers could be probed
STEPS = 3  # from a store's root to a run: runs/<run id>/<digest>
TABLES = ("predictions.parquet", "train.parquet")
TEXT = ("task", "cluster", "subcluster", "image_id", "retrieved_id", "unit")
INDEXES = ("y_true", "y_pred", "y", "rank", "group")
NUMBERS = (*INDEXES, "decision", "score", "distance", "probability", "effect")
WITHOUT_VALUE = ("subcluster", "probability", "group")  # may be, where there is none
MAY_BE = ("retrieved.parquet",)  # what a run has next to them, if its run.json gives the digest


@dataclass(frozen=True)
class Run:
    """A published run. `record` is run.json; the tables are read when asked for."""

    folder: Path
    record: dict[str, Any]
    tier: Tier = Tier.OTHER

    @property
    def run_id(self) -> str:
        return str(self.record["run_id"])

    @property
    def digest(self) -> str:
        return self.folder.name

    def describe(self) -> str:
        """The beginnings of its ID and its digest, which are its folder below `runs/`, and where it comes from."""
        return f"{short(self.run_id)}/{short(self.digest)} ({self.tier.describe()})"

    def predictions(self, columns: Sequence[str] | None = None) -> "pl.DataFrame":
        """A row per task and test image: task, cluster, subcluster, image_id, y_true, y_pred, decision, score.

        columns  only these, which takes less time where there are thousands of runs; a run without one is damaged
        """
        return self._table("predictions", columns)

    def train(self, columns: Sequence[str] | None = None) -> "pl.DataFrame":
        """Columns task, image_id, y, in the order fitted."""
        return self._table("train", columns)

    def retrieved(self, columns: Sequence[str] | None = None) -> "pl.DataFrame | None":
        """What a retrieval found first: image_id, rank, retrieved_id, distance, hit. None in runs of other kinds."""
        return self._table("retrieved", columns) if MAY_BE[0] in self.record["digests"] else None

    def _table(self, name: str, columns: Sequence[str] | None = None) -> "pl.DataFrame":
        file = self.folder / f"{name}.parquet"
        try:
            data = read_plain(Directory.within(self.folder, STEPS), file.name, MAX_TABLE_BYTES)
        except Malformed as fact:
            raise _damaged(short(self.run_id), str(fact)) from None
        if sha256_hex(data) != self.record["digests"][f"{name}.parquet"]:
            raise _damaged(short(self.run_id), f"{file} is not what run.json says")
        try:
            table = read_table(data, columns=columns)
            _check_columns(table)
            return table
        except ValueError as fact:
            raise _damaged(short(self.run_id), f"{file} is not a table: {fact}") from None


def _check_columns(table: "pl.DataFrame") -> None:
    """Raises ValueError where a column that bb writes is of another type, or has no value somewhere."""
    for column in table.iter_columns():
        if column.name not in (*TEXT, *NUMBERS):
            continue
        if not (column.dtype.is_numeric() if column.name in NUMBERS else str(column.dtype) == "String"):
            raise ValueError(f"its column {column.name} is of type {column.dtype}")
        absent = 0 if column.name in WITHOUT_VALUE else column.null_count()
        if column.name in INDEXES and column.dtype.is_float():
            absent += int((~column.is_finite()).sum())
        if absent:
            raise ValueError(f"its column {column.name} is missing {absent} values")


def by_precedence(runs: Iterable[Run]) -> list[Run]:
    """Runs that answer one question, the one to use first: made here, then signed by a trusted key, then any other.

    Of one tier the newest is first. Anybody can write any date, so a date never decides between tiers.
    """
    newest_first = sorted(runs, key=lambda run: (_made(run), run.digest), reverse=True)
    return sorted(newest_first, key=lambda run: run.tier)


def disagreement(runs: Sequence[Run]) -> str | None:
    """Which of the runs is used and which are not, where scores differ from those of the first; None where none do."""
    others = [run.describe() for run in runs[1:] if run.record["scores"] != runs[0].record["scores"]]
    return f"{runs[0].describe()} is used, not {some(others)}" if others else None


def _made(run: Run) -> str:
    provenance = run.record["provenance"]
    return str(provenance.get("made", "")) if isinstance(provenance, dict) else ""


def tables_of(digests: Container[str]) -> tuple[str, ...]:
    """The tables of a run whose run.json gives these digests."""
    return (*TABLES, *(name for name in MAY_BE if name in digests))


def write_run(
    root: Path,
    record: Mapping[str, Any],
    predictions: "pl.DataFrame",
    train: "pl.DataFrame",
    retrieved: "pl.DataFrame | None" = None,
) -> Run:
    """Publishes a run; scores in run.json keep full float64 precision. Raises ValueError where a key is missing."""
    import io

    absent = [key for key in REQUIRED if key not in record]
    if absent:
        raise ValueError(f"run has no {absent}")
    tables = {}
    for name, table in (("predictions", predictions), ("train", train), ("retrieved", retrieved)):
        if table is None:
            continue
        buffer = io.BytesIO()
        table.write_parquet(buffer, compression="zstd")
        tables[f"{name}.parquet"] = buffer.getvalue()
    whole = {**record, "format": 1, "digests": {path: sha256_hex(data) for path, data in tables.items()}}
    raw = json.dumps(whole, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    folder = root / "runs" / str(record["run_id"]) / sha256_hex(raw)
    publish_folder(root, {**tables, "run.json": raw}, folder, "run.json")
    return Run(folder, whole)


def read_runs(
    root: Path,
    run_id: str | None = None,
    on_damage: Callable[[BBError], None] | None = None,
    revoked: Container[str] = (),
) -> Iterator[Run]:
    """All published runs, or those of one ID, in order of ID and digest, without those of a revoked digest.

    A damaged one raises BBError, or is passed to `on_damage` and left out.
    """
    for path in Directory(root).match(f"runs/{run_id or '*'}/*/run.json"):
        folder = (root / path).parent
        if folder.name in revoked:
            continue
        try:
            yield read_run(folder)
        except BBError as error:
            if on_damage is None:
                raise
            on_damage(error)


def parse_run(raw: bytes, run_id: str, digest: str) -> dict[str, Any]:
    """The record of run.json's bytes. Raises Malformed unless they are what the run's ID and digest say."""
    if sha256_hex(raw) != digest:
        raise Malformed("its run.json does not have the digest in its folder's name")
    try:
        record = parse_json(raw, MAX_RUN_BYTES)
    except ValueError as fact:
        raise Malformed(f"its run.json can't be read: {fact}") from None
    if isinstance(record, dict) and OLD_CLASSIFIER in record:
        record.setdefault("classifier", record[OLD_CLASSIFIER])
    digests = record.get("digests") if isinstance(record, dict) else None
    absent = [key for key in REQUIRED if key not in record] if isinstance(record, dict) else list(REQUIRED)
    if absent or not isinstance(digests, dict) or not digests.keys() >= set(TABLES):
        raise Malformed(f"its run.json has no {', '.join(absent) or 'digests'}")
    if not isinstance(record["space"], str | None):
        raise Malformed(f"its run.json has the space {str(record['space'])[:80]}")
    if record["run_id"] != run_id:
        raise Malformed(f"its run.json has the ID {str(record['run_id'])[:80]}")
    return record


def read_run(folder: Path) -> Run:
    """A published run. Raises BBError where its digest, its ID or what it should say of itself is not as it must be."""
    try:
        raw = read_plain(Directory.within(folder, STEPS), "run.json", MAX_RUN_BYTES)
        return Run(folder, parse_run(raw, folder.parent.name, folder.name))
    except Malformed as fact:
        raise _damaged(folder, str(fact)) from None


def _damaged(run: object, fact: str) -> BBError:
    return BBError(f"run {run} is damaged: {fact}. `bb store verify --repair` sets it aside; bb probe does it again.")


def local_json(record: Mapping[str, Any]) -> bytes:
    """What `local/<digest>.json` holds: host, user and command line of what was made here; never leaves the machine."""
    return canonical_json(record) + b"\n"
