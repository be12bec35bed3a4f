"""From a folder of images to a collection: which images are there, and what their bytes hash to."""

import hashlib
import io
import itertools
import json
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from extract import images
from extract.root import PARQUET, TAR
from extract.shard import Found
from extract.source import File, Source
from store import BBError, Entry, UsageError
from store.collection import normalise_id, some

if TYPE_CHECKING:
    import polars as pl

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif"})
NEWT_IMAGES = "newt2021_images"
KEEP_EVERY = 1000  # files; hashing them again takes seconds
AT_ONCE = 32  # files for a thread in a go: handing over one costs more than to know it again


def find_images(root: Path) -> dict[str, Path]:
    """Image ID → file, sorted by ID.

    In NeWT's layout (a folder `newt2021_images`) the ID is the file's name without `.jpg`; elsewhere it is the POSIX
    path below `root` with extension, in NFC. Folders are searched recursively, hidden ones and links to folders not.
    Bytes of a name that are no UTF-8 are written as \\xNN. Raises UsageError where there is no such folder or no
    image, BBError where two files have one ID or a folder can't be read.
    """
    if not root.is_dir():
        raise UsageError(f"{root} is not a folder: give --data NAME=DIR the folder that holds the images.")
    newt = root / NEWT_IMAGES
    base = newt if newt.is_dir() else root
    found: dict[str, Path] = {}
    below = len(os.path.join(base, ""))
    for folder, folders, files in os.walk(base, onerror=_refuse_folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        here = Path(folder)
        for name in files:
            stem, suffix = os.path.splitext(name)
            if name.startswith(".") or suffix.lower() not in SUFFIXES:
                continue
            inside = os.path.join(folder, stem if base is newt else name)[below:]
            image_id = normalise_id(_text(inside.replace(os.sep, "/")))
            path = here / name
            if image_id in found:
                raise BBError(f"{found[image_id]} and {path} are both image {image_id!r}. Rename one of them.")
            found[image_id] = path
    if not found:
        endings = sorted({path.suffix for path in base.iterdir() if path.suffix in (TAR, PARQUET)})
        if endings:
            raise UsageError(f"{base} holds no image but shards: name them, --data NAME='{base / '*'}{endings[0]}'.")
        raise UsageError(f"{base} holds no image ({some(sorted(SUFFIXES), 9)}): is it the right folder?")
    return dict(sorted(found.items()))


def _text(name: str) -> str:
    """A file name as text that can be written down anywhere, whatever bytes it has on disk."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _refuse_folder(error: OSError) -> None:
    """A folder that can't be listed would silently make the collection smaller."""
    raise BBError(f"can't read the folder {error.filename}: {error.strerror}. Mend its permissions, or move it away.")


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
        """Everything remembered: path → (stat, entry)."""
        return {path: (stat, entry) for path, stat, entry in self.database.execute("SELECT * FROM file")}

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
            return [Found(*values) for values in pl.read_parquet(io.BytesIO(row[0])).iter_rows()] if row else None
        except (sqlite3.Error, pl.exceptions.PolarsError, TypeError):  # older than shards, or damaged
            return None

    def keep_shard(self, place: str, state: str, found: list[Found]) -> None:
        """Remembers a shard as a whole; an empty state can't be told from a later one, and is not kept."""
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
    """What a collection holds: where each image's bytes are, by image ID; entries; and what can't be read (image ID →
    reason). Sorted by ID, but of shards in the order in which the images lie there."""

    sources: dict[str, Source]
    entries: list[Entry]
    failed: dict[str, str]


def scan(
    files: dict[str, Path],
    memory: HashMemory,
    *,
    threads: int = 4,
    progress: Callable[[int], None] = lambda done: None,
) -> Scan:
    """Hashes what the memory does not know. `progress` is told how many files are done."""
    known = memory.recall()
    fresh: list[tuple[str, str, str]] = []
    entries: list[Entry] = []
    failed: dict[str, str] = {}

    def look(image_id: str, path: Path) -> Entry | str:
        where = _text(os.path.abspath(path))
        try:
            stat = os.stat(path)
            state = f"{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ctime_ns}"
            if where in known and known[where][0] == state:
                sha256, width, height = json.loads(known[where][1])
            else:
                data = path.read_bytes()
                sha256 = hashlib.sha256(data).hexdigest()
                width, height = images.size(data) or (None, None)
                fresh.append((where, state, json.dumps([sha256, width, height])))
        except OSError as error:
            return f"can't be read: {error.strerror}"
        return Entry(image_id, bytes.fromhex(sha256), stat.st_size, width, height)

    def look_at(some_files: Sequence[tuple[str, Path]]) -> list[Entry | str]:
        return list(itertools.starmap(look, some_files))

    listed = list(files.items())
    shares = [listed[at : at + AT_ONCE] for at in range(0, len(listed), AT_ONCE)]
    with ThreadPoolExecutor(threads) as pool:
        try:
            for share, outcomes in zip(shares, pool.map(look_at, shares), strict=True):
                for (image_id, _), outcome in zip(share, outcomes, strict=True):
                    if isinstance(outcome, str):
                        failed[image_id] = outcome
                    else:
                        entries.append(outcome)
                progress(len(entries) + len(failed))
                if len(fresh) >= KEEP_EVERY:
                    memory.keep(fresh[:KEEP_EVERY])
                    del fresh[:KEEP_EVERY]
        finally:
            pool.shutdown(cancel_futures=True)
            memory.keep(fresh)
    return Scan({image_id: File(path) for image_id, path in files.items()}, entries, failed)
