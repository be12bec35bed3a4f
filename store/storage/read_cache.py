"""A store used in place, read only: what is needed of it is mirrored into a local cache that has a store's layout.

So all that reads a local store reads this one. The place is listed once; of what it lists, small files (groups,
manifests, tables) come when something first asks for their kind, arrays when a segment first reads them. Names are
checked by `locate`, and bytes against the digests that name them, before anything is written. What is no longer listed
is dropped, save revocations. Arrays are dropped too, the longest unused first, where the caches of all places outgrow
their bound.
"""

import errno
import hashlib
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from bb.store.errors import BBError, Malformed, UsageError
from bb.store.files.atomic_write import make_temporary
from bb.store.files.cache_folder import cache_folder
from bb.store.files.canonical_json import sha256_hex
from bb.store.files.descriptors import fitting
from bb.store.files.directory import Directory
from bb.store.files.limits import MAX_SIGNATURE_BYTES, max_bytes
from bb.store.files.paths import Kind, StorePart, locate
from bb.store.files.thread_pool import DESCRIPTORS
from bb.store.format.layout import FORMAT, parse_space, read_plain
from bb.store.local.runs import parse_run, tables_of
from bb.store.local.segment import Segment, group_json
from bb.store.signing.statement import Revocation, read_statement
from bb.store.storage.base import Storage, TooLarge
from bb.store.storage.inventory import Inventory, has_store

DEFAULT_SIZE = 10 * 10**9
THREADS = 16
DAY = 86400.0  # seconds
TAMPERED = "so it is damaged or was tampered with, and is not used. Its owner finds all such with `bb store verify`."
UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_CHUNK = re.compile(r"/c/0(?:/0)*$")  # of an array, of which alone the cache may be short
# What every reader may want and what is small; the other kinds come when they are asked for.
SMALL: tuple[Kind, ...] = ("space", "adopted", "labels", "signature")
ALL: tuple[Kind, ...] = (*SMALL, "segment", "collection", "run", "head", "model")


def parse_size(text: str) -> int:
    """Bytes of "500MB", "20GB" or a plain number. Raises UsageError for anything else."""
    found = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,6})?)\s*([KMGT]?B?)\s*", text.upper())
    if not found or found[2] not in UNITS:
        raise UsageError(f"a cache size of {text!r} is none: write 500MB, 20GB or a number of bytes.")
    return int(float(found[1]) * UNITS[found[2]])


class Unsound(BBError):
    """What a place has is not what its names or manifests say."""


@dataclass
class ReadCache:
    """The cache of one place. Used from several threads and processes at once.

    place  of the store
    root   the cache's folder for it
    most   bytes of all caches below the same folder, beyond which arrays are dropped
    parts  what is published there, with the sizes of its files
    afresh whether what an earlier process left in the cache is fetched and checked once more
    """

    place: Storage
    root: Path
    most: int = DEFAULT_SIZE
    parts: dict[StorePart, dict[str, int]] = field(default_factory=dict, repr=False)
    afresh: bool = False
    _fetched: set[str] = field(default_factory=set, repr=False)
    _asked: set[tuple[Kind, str | None]] = field(default_factory=set, repr=False)
    _held: int | None = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def open(cls, place: Storage, most: int = DEFAULT_SIZE, folder: Path | None = None) -> "ReadCache":
        """Lists the place, drops what it no longer has, and brings the small files that every reader may want.

        Raises BBError if there is none, or it can't be read.
        """
        root = (folder or cache_folder() / "stores") / sha256_hex(place.url.encode())[:32]
        mirror = cls(place, root, most)
        if not has_store(place):
            made_by = "" if place.url.startswith("http") else "`bb store push` makes one there, "
            raise BBError(f"found no store at {place.url}: {made_by}--store names another.")
        listed = Inventory.of(place)
        mirror.parts = {
            part: {file: listed.sizes[part.at(file)] for file in files} for part, files in listed.parts.items()
        }
        with mirror._on_disk():
            mirror._lay("zarr.json", group_json({"bb": {"format": FORMAT}}))
            mirror._drop_strangers()
        mirror.need_sound(SMALL)  # as in a local store, a damaged signature counts for nothing and stops nobody
        return mirror

    @property
    def url(self) -> str:
        return self.place.url

    def need(self, kind: Kind, owner: str | None = None) -> None:
        """Brings the parts of a kind, or those of one owner (see `StorePart.owner`): of segments, the manifest alone.

        Raises BBError naming the first that is not what its name says.
        """
        if (kind, owner) in self._asked or (kind, None) in self._asked:
            return
        self._each(self._wanted(kind, owner), self._bring)
        self._asked.add((kind, owner))

    def need_sound(self, kinds: Sequence[Kind], owner: str | None = None) -> list[Unsound]:
        """As `need`, but brings what is sound, and returns what is wrong with each of the others."""
        faults: list[Unsound] = []

        def attempt(part: StorePart) -> None:
            try:
                self._bring(part)
            except Unsound as error:
                faults.append(error)

        for kind in kinds:
            self._each(self._wanted(kind, owner), attempt)
        return sorted(faults, key=str)

    def arrays(self, segments: Sequence[Segment], name: str) -> None:
        """Brings an array of several segments at once, where all of it has room in half the cache."""
        sizes = [segment.manifest["objects"][path][0] for segment in segments for path in segment.arrays[name].paths]
        if sum(sizes) * 2 <= self.most:
            self._each(segments, lambda segment: self.array(segment, name))

    def array(self, segment: Segment, name: str) -> None:
        """Brings an array of a segment, checked against its manifest; nothing where it is here already."""
        for path in segment.arrays[name].paths:
            size, digest = segment.manifest["objects"][path]
            if not self._is_here(f"{segment.directory.at}/{path}", size):
                self._bring_array(segment, path, size, digest)

    def bytes_below(self) -> Counter[str]:
        """Bytes of what is published there, by top folder."""
        found: Counter[str] = Counter()
        for part, files in self.parts.items():
            found[part.folder.partition("/")[0]] += sum(files.values())
        return found

    @property
    def _cache(self) -> Directory:
        return Directory(self.root)

    def _is_here(self, path: str, size: int | None = None) -> bool:
        """Whether a file is in the cache, and counts; an array's chunk is then the last one used."""
        if self.afresh and path not in self._fetched:
            return False
        if not self._cache.is_file(path):
            return False
        try:
            if size is not None and self._cache.stat_file(path).st_size != size:
                return False
            if _CHUNK.search(path):
                self._cache.touch(path)
        except FileNotFoundError:  # another process has just dropped it
            return False
        return True

    def _wanted(self, kind: Kind, owner: str | None) -> list[StorePart]:
        return [part for part in self.parts if part.kind == kind and owner in (None, part.owner)]

    def _each(self, items: Sequence[object], work: Callable[..., None]) -> None:
        if len(items) < 2:
            for item in items:
                work(item)
            return
        pool = ThreadPoolExecutor(fitting(min(THREADS, len(items)), DESCRIPTORS))
        try:
            list(pool.map(work, items))
        finally:
            pool.shutdown(cancel_futures=True)

    def _bring(self, part: StorePart) -> None:
        """The small files of a part, its marker last."""
        if self._is_here(part.path):
            return
        files = {part.marker: self._read(part, part.marker)}
        try:
            if part.kind == "run":
                digests = parse_run(files[part.marker], part.owner, part.digest)["digests"]
                files = {table: self._read(part, table) for table in tables_of(digests)} | files  # the marker last
            _check(part, files)
        except Malformed as fact:
            raise Unsound(f"{self.url}/{part.path}: {fact}, {TAMPERED}") from None
        with self._on_disk():
            for file, data in files.items():
                self._lay(part.at(file), data)
        self._fetched.add(part.path)

    def _read(self, part: StorePart, file: str) -> bytes:
        try:
            return self.place.read(part.at(file), max_bytes(part, file))
        except TooLarge as error:
            raise Unsound(str(error)) from None
        except FileNotFoundError:
            raise self._stale(part.at(file)) from None

    def _stale(self, path: str) -> Unsound:
        return Unsound(
            f"{self.url}/{path} was listed, but is not there. Where an index.json is what lists it, that is stale: its "
            f"owner writes it anew with `bb store index`."
        )

    def _bring_array(self, segment: Segment, path: str, size: int, digest: str) -> None:
        place = f"{segment.directory.at}/{path}"
        self._make_room(size)
        temporary = make_temporary(self._cache)
        done, found = 0, hashlib.sha256()
        try:
            with self._on_disk():
                with self._cache.create(temporary) as file:
                    for piece in self.place.stream(place):
                        done += len(piece)
                        if done > size:
                            break
                        found.update(piece)
                        file.write(piece)
                    file.flush()
                    os.fsync(file.fileno())
                if done != size or found.hexdigest() != digest:
                    what = (
                        f"has {done if done < size else f'more than {size}'} bytes, its segment says {size}"
                        if done != size
                        else "does not have the digest in its segment's manifest"
                    )
                    raise Unsound(f"{self.url}/{place} {what}, {TAMPERED}")
                self._cache.make_folder(place.rpartition("/")[0])
                self._cache.rename(temporary, place)
        except FileNotFoundError as error:
            if error.filename and str(error.filename).startswith(str(self.root)):
                raise
            raise self._stale(place) from None
        finally:
            with suppress(FileNotFoundError):
                self._cache.remove(temporary)
        self._fetched.add(place)
        with self._lock:
            self._held = (self._held or 0) + size

    def _lay(self, path: str, data: bytes) -> None:
        if not self._cache.is_file(path):
            temporary = make_temporary(self._cache)
            with self._cache.create(temporary) as file:
                file.write(data)
            self._cache.make_folder(path.rpartition("/")[0])
            self._cache.rename(temporary, path)

    def _drop_strangers(self) -> None:
        """Removes what the place no longer lists, so that nothing withdrawn is read on from here."""
        here = self._cache.files()
        gone = {found[0] for path, _ in here if (found := locate(path)) and found[0] not in self.parts}
        for part in gone:
            if part.kind == "root" or self._is_revocation(part):
                continue
            for path in (part.path, part.folder) if part.kind in ("segment", "run", "space") else (part.path,):
                with suppress(FileNotFoundError):  # another process was quicker
                    self._cache.remove(path)
        for path in self._cache.match("tmp/*"):
            status = self._cache.stat(path)
            if status and time.time() - status.st_mtime > DAY:  # of a process that died
                with suppress(FileNotFoundError):  # another process has just put it in place
                    self._cache.remove(path)

    def _is_revocation(self, part: StorePart) -> bool:
        """Whether a part is a revocation, which stays once it was seen: its file could be removed there to bring back
        what was withdrawn."""
        if part.kind != "signature":
            return False
        try:
            raw = read_plain(self._cache, part.path, MAX_SIGNATURE_BYTES)
            return isinstance(read_statement(part.digest, raw), Revocation)
        except (Malformed, OSError):
            return False

    def _make_room(self, coming: int) -> None:
        """Drops the arrays of all caches that were not used for the longest time until `coming` bytes have room."""
        with self._lock:
            if self._held is not None and self._held + coming <= self.most:
                return
            caches = Directory(self.root.parent)
            files = [(status.st_mtime_ns, status.st_size, path) for path, status in caches.files()]
            self._held = sum(size for _, size, _ in files)
            if self._held + coming <= self.most:
                return
            for _, size, path in sorted(files):
                # Down to nine tenths, so that not every array that comes makes all files be looked at again.
                if self._held + coming <= self.most * 9 // 10:
                    break
                if _CHUNK.search(path):
                    with suppress(FileNotFoundError):  # another process dropped it
                        caches.remove(path)
                    self._held -= size

    @contextmanager
    def _on_disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise BBError(
                    f"{self.root}: the disk is full. Give a smaller --cache-size, or set BB_CACHE to another folder."
                ) from None
            raise


def _check(part: StorePart, files: dict[str, bytes]) -> None:
    """Raises Malformed where a part's bytes are not those that its name, or its marker, gives the digest of."""
    marker = files[part.marker]
    if part.kind == "space":
        parse_space(part.digest, marker)
    elif part.kind == "run":
        digests = parse_run(marker, part.owner, part.digest)["digests"]
        if wrong := [table for table in tables_of(digests) if sha256_hex(files[table]) != digests[table]]:
            raise Malformed(f"its {wrong[0]} does not have the digest in its run.json")
    elif sha256_hex(marker) != part.digest:
        raise Malformed("it does not have the digest in its name")
