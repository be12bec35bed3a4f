"""From a folder of images to a collection: which images are there, and what their bytes hash to."""

import hashlib
import io
import itertools
import json
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from bb.extract.data.file_kind import BEGINNING, SUFFIXES, Kind, PassedOver, kind_by_content, kind_by_name
from bb.extract.data.folder import Walk
from bb.extract.data.image_source import ImageFile, ImageSource, oversized
from bb.extract.data.shard import Found
from bb.extract.data.source_spec import PARQUET, TAR
from bb.extract.embedding import images
from bb.store import BBError, Entry, UsageError
from bb.store.files.descriptors import fitting
from bb.store.files.regular_file import irregular, open_regular
from bb.store.format.collection import normalise_id, some

if TYPE_CHECKING:
    import polars as pl

NEWT_IMAGES = "newt2021_images"
KEEP_EVERY = 1000  # files; hashing them again takes seconds
AT_ONCE = 32  # files for a thread in a go: handing over one costs more than to know it again


def find_images(
    root: Path, *, follow_links: bool = False, announce: Callable[[str], None] = lambda words: None
) -> dict[str, Path]:
    """Image ID → file, sorted by ID.

    In NeWT's layout (a folder `newt2021_images`) the ID is the file's name without `.jpg`; elsewhere it is the POSIX
    path below `root` with extension, in NFC. Folders are searched recursively, hidden ones not. Links are followed
    within `root`, with `follow_links` everywhere; see `bb.extract.data.folder.Walk`. Bytes of a name that are no
    UTF-8 are
    written as \\xNN. `announce` gets a sentence about what was left out: links, and files that are not images by their
    ending or, where that does not say, by their first bytes (extract/data/file_kind.py).

    Raises UsageError where there is no such folder or no image, BBError where two files have one ID or a folder
    can't be read.
    """
    if not root.is_dir():
        raise UsageError(f"{root} is not a folder: give --data NAME=DIR the folder that holds the images.")
    newt = root / NEWT_IMAGES
    base = newt if newt.is_dir() else root
    found: dict[str, Path] = {}
    passed = PassedOver()
    walk = Walk(base, (root, base), partial(_is_image, base, passed), follow_links)
    for inside in walk.files():
        name = os.path.splitext(inside)[0] if base is newt else inside
        image_id = normalise_id(_text(name.replace(os.sep, "/")))
        path = base / inside
        if image_id in found:
            one, other = sorted((found[image_id], path))
            raise BBError(f"{one} and {other} are both image {image_id!r}. Rename one of them.")
        found[image_id] = path
    notes = [*walk.notes(), *passed.notes()]
    if not found:
        below = (file for pattern in ("*", "*/*") for file in sorted(base.glob(pattern)))
        if shard := next((file for file in below if file.suffix in (TAR, PARQUET)), None):
            named = shard.with_name(f"*{shard.suffix}")
            raise UsageError(f"{base} holds no image but shards: name them, --data NAME='{named}'.")
        raise UsageError(
            " ".join([f"{base} holds no image ({some(sorted(SUFFIXES), 9)}): is it the right folder?", *notes])
        )
    for note in notes:
        announce(note)
    return dict(sorted(found.items()))


def _is_image(base: Path, passed: PassedOver, path: str, look: bool) -> bool:
    """Counts what is none. Opens a file only where it may look and the ending does not say."""
    kind = kind_by_name(path)
    if kind is None:
        kind = _kind_inside(base / path) if look else "other"
    if kind != "image":
        passed.add(kind, path)
    return kind == "image"


def _kind_inside(path: Path) -> Kind:
    try:
        with open_regular(path) as file:
            return kind_by_content(file.read(BEGINNING))
    except OSError:  # it can't be read, or is not a file
        return "other"


def _text(name: str) -> str:
    """A file name as text that can be written down anywhere, whatever bytes it has on disk."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


@dataclass
class HashMemory:
    """What files hashed to, remembered by path, size and times (modification and change) in a small SQLite file; and
    what shards hold, by path or URL, size, and times or ETag.

    A mere convenience: extraction hashes the bytes that it decodes once more, so a file that was changed behind its
    times' back is reported, never embedded under a wrong key. The change time is there since tools that copy files
    set the modification time to what it was.
    """

    database: sqlite3.Connection

    @classmethod
    def open(cls, path: Path | None, *, read_only: bool = False) -> "HashMemory":
        """Opens or makes the memory; None, or a place that can't be written, gives one that forgets.

        read_only  takes what is remembered and adds nothing, not even the file
        """
        try:
            if path and not read_only:
                path.parent.mkdir(parents=True, exist_ok=True)
            where = f"{path.absolute().as_uri()}?mode=ro" if path and read_only else str(path or ":memory:")
            database = sqlite3.connect(where, timeout=30, check_same_thread=False, uri=read_only)
            if read_only:
                database.execute("SELECT path FROM file LIMIT 1")
            else:
                _make_tables(database)
        except (OSError, sqlite3.Error):
            database = sqlite3.connect(":memory:", check_same_thread=False)
            _make_tables(database)
        return cls(database)

    def __enter__(self) -> "HashMemory":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.database.close()

    def recall(self) -> dict[str, tuple[str, str]]:
        """Everything remembered: path → (stat, entry); nothing of a damaged file."""
        try:
            rows = self.database.execute("SELECT path, stat, entry FROM file").fetchall()
        except sqlite3.Error:
            return {}
        return {path: (stat, entry) for path, stat, entry in rows if type(stat) is type(entry) is str}

    def keep(self, rows: list[tuple[str, str, str]]) -> None:
        try:
            with self.database:
                self.database.executemany("INSERT OR REPLACE INTO file VALUES (?, ?, ?)", rows)
        except sqlite3.Error:
            pass  # a full disk or a lock on a network file system costs a second hashing, nothing else

    def recall_shard(self, place: str, state: str) -> list[Found] | None:
        """The images of a shard; None where they are not known, or those of another state (size, times, ETag)."""
        import polars as pl

        try:
            row = self.database.execute(
                "SELECT found FROM shard WHERE place = ? AND state = ?", (place, state)
            ).fetchone()
            table = pl.read_parquet(io.BytesIO(row[0])) if row else None
        except (sqlite3.Error, pl.exceptions.PolarsError, pl.exceptions.PanicException, TypeError):
            return None  # older than shards, or damaged
        return None if table is None or table.schema != _found_schema() else [Found(*v) for v in table.iter_rows()]

    def keep_shard(self, place: str, state: str, found: list[Found]) -> None:
        """Remembers a shard as a whole; an empty state can't be distinguished from a later one, and is not kept."""
        import polars as pl

        if not state:
            return
        buffer = io.BytesIO()
        pl.DataFrame(found, schema=_found_schema(), orient="row").write_parquet(buffer, compression="zstd")
        try:
            with self.database:
                row = (place, state, buffer.getvalue())
                self.database.execute("INSERT OR REPLACE INTO shard VALUES (?, ?, ?)", row)
        except (sqlite3.Error, OverflowError):
            pass


def _parse(entry: str) -> tuple[bytes, int | None, int | None] | None:
    """A remembered digest and size; None for what can't be one."""
    try:
        sha256, width, height = json.loads(entry)
        digest = bytes.fromhex(sha256)
    except (ValueError, TypeError, RecursionError):
        return None
    sizes = all(side is None or type(side) is int for side in (width, height))
    return (digest, width, height) if len(digest) == 32 and sizes else None


def _make_tables(database: sqlite3.Connection) -> None:
    database.execute("CREATE TABLE IF NOT EXISTS file (path TEXT PRIMARY KEY, stat TEXT, entry TEXT)")
    database.execute("CREATE TABLE IF NOT EXISTS shard (place TEXT PRIMARY KEY, state TEXT, found BLOB)")


def _found_schema() -> "dict[str, pl.DataType]":
    import polars as pl

    text, whole = pl.String(), pl.Int64()
    return {
        "name": text, "at": whole, "of": whole, "digest": pl.Binary(), "n_bytes": whole, "width": whole,
        "height": whole, "fault": text,
    }  # fmt: skip


@dataclass(frozen=True)
class Scan:
    """What a collection holds: where each image's bytes are, by image ID; entries; and what can't be used (image ID, or
    the name of a damaged shard → reason). Sorted by ID, but of shards in the order in which the images lie there.

    notes  what a person should know, in sentences
    """

    sources: dict[str, ImageSource]
    entries: list[Entry]
    failed: dict[str, str]
    notes: list[str] = field(default_factory=list)


def scan(
    files: dict[str, Path],
    memory: HashMemory,
    *,
    threads: int = 4,
    progress: Callable[[int], None] = lambda done: None,
    known: Callable[[int], None] = lambda done: None,
) -> Scan:
    """Hashes what the memory does not know.

    progress  gets how many files are done
    known     gets, before, how many of these did not have to be hashed
    """
    remembered = memory.recall()
    recalled = 0
    fresh: list[tuple[str, str, str]] = []
    entries: list[Entry] = []
    failed: dict[str, str] = {}

    def look(image_id: str, path: Path) -> tuple[Entry | str, bool]:
        """What there is, and whether it was remembered."""
        where = _text(os.path.abspath(path))
        try:
            stat = os.stat(path)
            state = f"{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ctime_ns}"
            before, entry = remembered.get(where, ("", ""))
            hashed = _parse(entry) if before == state else None
            if hashed:
                return Entry(image_id, hashed[0], stat.st_size, *hashed[1:]), True
            if why := irregular(stat.st_mode) or oversized(stat.st_size):
                return why, False
            data = ImageFile(path).read()
        except OSError as error:
            return f"can't be read: {error.strerror}", False
        sha256 = hashlib.sha256(data)
        width, height = images.size(data) or (None, None)
        fresh.append((where, state, json.dumps([sha256.hexdigest(), width, height])))
        return Entry(image_id, sha256.digest(), stat.st_size, width, height), False

    def look_at(some_files: Sequence[tuple[str, Path]]) -> list[tuple[Entry | str, bool]]:
        return list(itertools.starmap(look, some_files))

    listed = list(files.items())
    shares = [listed[at : at + AT_ONCE] for at in range(0, len(listed), AT_ONCE)]
    with ThreadPoolExecutor(fitting(threads, each=2)) as pool:
        try:
            for share, outcomes in zip(shares, pool.map(look_at, shares), strict=True):
                for (image_id, _), (outcome, is_known) in zip(share, outcomes, strict=True):
                    recalled += is_known
                    if isinstance(outcome, str):
                        failed[image_id] = outcome
                    else:
                        entries.append(outcome)
                known(recalled)
                progress(len(entries) + len(failed))
                if len(fresh) >= KEEP_EVERY:
                    memory.keep(fresh[:KEEP_EVERY])
                    del fresh[:KEEP_EVERY]
        finally:
            pool.shutdown(cancel_futures=True)
            memory.keep(fresh)
    return Scan({image_id: ImageFile(path) for image_id, path in files.items()}, entries, failed)
