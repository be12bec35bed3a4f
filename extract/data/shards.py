"""From shards to a collection: which images they hold, what their bytes hash to, and what their IDs are."""

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path, PurePosixPath

from extract.collection import HashMemory, Scan
from extract.image_parquet import ParquetShard
from extract.root import PARQUET, Shards, packed_words
from extract.shard import Found, Shard
from extract.source import Source
from extract.webdataset import TarShard
from store import BBError, Entry, UsageError
from store.blob import Remote
from store.collection import some
from store.tar import PackedTar

Files = dict[str, Path] | list[Shard]  # what holds a collection's images: a file each, by image ID, or shards


def find_shards(named: Shards) -> list[Shard]:
    """The shards that a person names, all there. Errors: as of `Shards.blobs`."""
    blobs = named.blobs()
    return [ParquetShard(blob) if blob.url.lower().endswith(PARQUET) else TarShard(blob) for blob in blobs]


def scan_shards(
    shards: Sequence[Shard],
    memory: HashMemory,
    *,
    limit: int | None = None,
    known_only: bool = False,
    threads: int = 4,
    progress: Callable[[int], None] = lambda done: None,
) -> Scan:
    """Reads the shards that the memory does not know, each once from end to end; the images in the order they lie.

    limit       so many images only, the first; what was not read to its end is not remembered
    known_only  reads nothing
    progress    is told how many bytes of all shards are done

    Raises BBError where a shard is damaged, since what it lacks nobody knows; where two images have one ID; and, with
    `known_only`, where a shard is not remembered. UsageError where there is no image.
    """
    if limit is not None:
        return _scan(shards, list(_first(shards, memory, limit, progress)))
    known = [memory.recall_shard(_place(shard), _state(shard)) for shard in shards]
    unknown = [shard for shard, found in zip(shards, known, strict=True) if found is None]
    if unknown and known_only:
        raise BBError(
            f"{len(unknown)} of {len(shards)} shards were not read on this machine: `bb data check` reads them."
        )
    _check_ranges(unknown)
    size = sum(shard.blob.size for shard in shards)
    meter = _Meter(size - sum(shard.blob.size for shard in unknown), progress)
    damaged: list[str] = []
    with ThreadPoolExecutor(threads) as pool:
        try:
            read = pool.map(lambda shard: _read(shard, meter), unknown)
            for place, shard in enumerate(shards):
                if known[place] is not None:
                    continue
                outcome = next(read)
                if isinstance(outcome, str):
                    damaged.append(outcome)
                else:
                    known[place] = outcome
                    memory.keep_shard(_place(shard), _state(shard), outcome)
        finally:
            meter.stop.set()
            pool.shutdown(cancel_futures=True)
    if damaged:
        more = f"\n… and {len(damaged) - 5} more" if len(damaged) > 5 else ""
        raise BBError("\n".join(damaged[:5]) + more)
    return _scan(shards, [found or [] for found in known])


class _Stopped(Exception):
    """Another shard's reading ended in an error, or a person stopped it."""


class _Meter:
    """Bytes done, by several threads."""

    def __init__(self, done: int, progress: Callable[[int], None]) -> None:
        self.done, self.progress, self.stop, self.lock = done, progress, threading.Event(), threading.Lock()

    def add(self, n_bytes: int) -> None:
        if self.stop.is_set():
            raise _Stopped
        with self.lock:
            self.done += n_bytes
            self.progress(self.done)


def _read(shard: Shard, meter: _Meter) -> list[Found] | str:
    """All images of a shard, or in a sentence why it can't be used."""
    images: list[Found] = []
    left = shard.blob.size
    try:
        for found in shard.find():
            images.append(found)
            step = min(found.n_bytes, left)
            left -= step
            meter.add(step)
    except (OSError, ValueError) as error:
        return _damage(shard, error)
    meter.add(left)
    return images


def _damage(shard: Shard, error: Exception) -> str:
    if isinstance(error, PackedTar):
        return f"{shard.blob.url} is {packed_words(f'`{error.program} -d`')}"
    if isinstance(error, OSError):
        return f"{shard.blob.url} can't be read: {error.strerror or error}."
    return f"{shard.blob.url} {error}. Download it or write it anew, or leave it out."


def _first(
    shards: Sequence[Shard], memory: HashMemory, limit: int, progress: Callable[[int], None]
) -> Iterator[list[Found]]:
    """The first images, shard by shard; of shards that are not needed, none."""
    left, done = limit, 0
    for shard in shards:
        known = memory.recall_shard(_place(shard), _state(shard)) if left else []
        if known is None:
            _check_ranges([shard])
            try:
                known = list(islice(shard.find(), left))
            except (OSError, ValueError) as error:
                raise BBError(_damage(shard, error)) from None
        yield known[:left]
        left -= len(known[:left])
        done += shard.blob.size
        progress(done)


def _check_ranges(shards: Sequence[Shard]) -> None:
    """Raises BBError where a server would send a whole shard for every image: better now than when all are hashed."""
    first = {shard.blob.folder: shard.blob for shard in shards if isinstance(shard.blob, Remote) and shard.blob.size}
    for blob in first.values():
        try:
            blob.read_alone(0, 1)
        except OSError as error:
            raise BBError(f"{blob.url} can't be read: {error.strerror or error}.") from None


def _place(shard: Shard) -> str:
    url = shard.blob.url
    return url if isinstance(shard.blob, Remote) else os.path.abspath(url)


def _state(shard: Shard) -> str:
    """What a shard is remembered by; "" where it can't be, since nothing would tell that it has changed."""
    blob = shard.blob
    return f"{type(shard).__name__}:{blob.size}:{blob.version}" if blob.version else ""


def _scan(shards: Sequence[Shard], found: Sequence[Sequence[Found]]) -> Scan:
    sources: dict[str, Source] = {}
    entries: list[Entry] = []
    failed: dict[str, str] = {}
    for shard, images, ids in zip(shards, found, _image_ids(shards, found), strict=True):
        for image, image_id in zip(images, ids, strict=True):
            source = shard.source(image)
            if image_id in sources:
                raise BBError(
                    f"{sources[image_id].words()} and {source.words()} are both image {image_id!r}. Rename one of them."
                )
            sources[image_id] = source
            if image.fault:
                failed[image_id] = image.fault
            else:
                entries.append(Entry(image_id, image.digest, image.n_bytes, image.width, image.height))
    if not sources:
        raise UsageError(
            f"there is no image in {some([shard.blob.url for shard in shards])}: are they the right files?"
        )
    return Scan(sources, entries, failed)


def _image_ids(shards: Sequence[Shard], found: Sequence[Sequence[Found]]) -> Iterator[list[str]]:
    """The paths that images have in their shards, where none is without and no two shards (in tables: no two rows)
    share one; else, for all images alike, the shard's name before the path, or before the row of a table."""
    usable = [[image.name for image in images if image.name or not image.fault] for images in found]
    tables = any(isinstance(shard, ParquetShard) for shard in shards)
    counts = Counter(name for names in usable for name in (names if tables else set(names)))
    plain = "" not in counts and max(counts.values(), default=1) == 1
    for prefix, shard, images in zip(_short_names([s.blob.url for s in shards]), shards, found, strict=True):
        yield [image.name if plain and image.name else f"{prefix}/{shard.own_name(image)}" for image in images]


def _short_names(urls: Sequence[str]) -> list[str]:
    """File names without ending, and as many folders before them as it takes to tell all apart."""
    paths = [PurePosixPath(url.replace("\\", "/")).with_suffix("") for url in urls]
    for depth in range(1, max(len(path.parts) for path in paths)):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if max(Counter(names).values()) == 1:
            return names
    return [str(path) for path in paths]
