"""From shards to a collection: which images they hold, what their bytes hash to, and what their IDs are."""

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path, PurePosixPath

from bb.extract.data.byte_range import Remote
from bb.extract.data.file_kind import PassedOver
from bb.extract.data.image_parquet import ParquetShard
from bb.extract.data.image_source import ImageSource
from bb.extract.data.scan import HashMemory, Scan
from bb.extract.data.shard import Found, Shard
from bb.extract.data.source_spec import PARQUET, Shards, packed_words
from bb.extract.data.webdataset import TarShard
from bb.store import BBError, Entry, UsageError
from bb.store.files.descriptors import fitting
from bb.store.format.collection import some
from bb.store.storage.tar_reader import PackedTar

FOUND_AS = 2  # what is remembered of a shard; another number where other members count as images
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

    limit       only that many images, the first; what was not read to its end is not remembered
    known_only  reads nothing
    progress    gets how many bytes of all shards are done

    Of a shard that is damaged or cut short, what comes before the damage is taken, and the damage is a failure in the
    shard's name. Raises BBError where that is nothing, so that it may be no shard at all; and, with `known_only`, where
    a shard is not remembered. UsageError where there is no image.
    """
    damaged: dict[str, str] = {}
    if limit is not None:
        return _scan(shards, list(_first(shards, memory, limit, progress, damaged)), damaged)
    known = [memory.recall_shard(_place(shard), _state(shard)) for shard in shards]
    unknown = [shard for shard, found in zip(shards, known, strict=True) if found is None]
    if unknown and known_only:
        raise BBError(
            f"{len(unknown)} of {len(shards)} shards were not read on this machine: `bb data check` reads them."
        )
    _check_ranges(unknown)
    size = sum(shard.blob.size for shard in shards)
    meter = _Meter(size - sum(shard.blob.size for shard in unknown), progress)
    with ThreadPoolExecutor(fitting(threads, each=2)) as pool:
        try:
            read = pool.map(lambda shard: _read(shard, meter), unknown)
            for place, shard in enumerate(shards):
                if known[place] is not None:
                    continue
                known[place], damage = next(read)
                if damage:
                    damaged[shard.blob.url] = damage
                else:
                    memory.keep_shard(_place(shard), _state(shard), known[place] or [])
        finally:
            meter.stop.set()
            pool.shutdown(cancel_futures=True)
    useless = [
        f"{shard.blob.url} {damaged[shard.blob.url]}"
        for shard, found in zip(shards, known, strict=True)
        if not found and shard.blob.url in damaged
    ]
    if useless:
        more = f"\n… and {len(useless) - 5} more" if len(useless) > 5 else ""
        raise BBError("\n".join(useless[:5]) + more)
    return _scan(shards, [found or [] for found in known], damaged)


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


def _read(shard: Shard, meter: _Meter) -> tuple[list[Found], str]:
    """The images of a shard, and what is wrong with it: a predicate with its remedy, empty where nothing is."""
    images: list[Found] = []
    left = shard.blob.size
    try:
        for found in shard.find():
            images.append(found)
            step = min(found.n_bytes, left)
            left -= step
            meter.add(step)
    except (OSError, ValueError) as error:
        return images, _damage(error)
    meter.add(left)
    return images, ""


def _damage(error: Exception) -> str:
    if isinstance(error, PackedTar):
        return f"is {packed_words(f'`{error.program} -d`')}"
    if isinstance(error, OSError):
        return f"can't be read: {error.strerror or error}."
    return f"{error}. Download it or write it anew, or leave it out."


def _first(
    shards: Sequence[Shard],
    memory: HashMemory,
    limit: int,
    progress: Callable[[int], None],
    damaged: dict[str, str],
) -> Iterator[list[Found]]:
    """The first images, shard by shard; of shards that are not needed, none. Damage that is met goes into `damaged`.

    What was passed over is not counted: of most shards not all is looked at.
    """
    left, done = limit, 0
    for shard in shards:
        known = memory.recall_shard(_place(shard), _state(shard)) if left else []
        if known is None:
            _check_ranges([shard])
            known = []
            try:
                known.extend(islice(shard.find(), left))
            except (OSError, ValueError) as error:
                if not known:
                    raise BBError(f"{shard.blob.url} {_damage(error)}") from None
                damaged[shard.blob.url] = _damage(error)
        images = [found for found in known if not found.count_into(PassedOver())][:left]
        yield images
        left -= len(images)
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
    return f"{type(shard).__name__} {FOUND_AS}:{blob.size}:{blob.version}" if blob.version else ""


def _scan(shards: Sequence[Shard], found: Sequence[Sequence[Found]], damaged: Mapping[str, str]) -> Scan:
    passed = PassedOver()
    found = [[image for image in images if not image.count_into(passed)] for images in found]
    sources: dict[str, ImageSource] = {}
    entries: dict[str, Entry] = {}
    failed: dict[str, str] = {}
    again: list[str] = []
    for shard, images, ids in zip(shards, found, _image_ids(shards, found), strict=True):
        for image, image_id in zip(images, ids, strict=True):
            source = shard.source(image)
            if image.fault:
                failed[image_id] = image.fault
            elif image_id not in sources:
                entries[image_id] = Entry(image_id, image.digest, image.n_bytes, image.width, image.height)
            elif image_id in entries and entries[image_id].image_sha256 == image.digest:
                again.append(image_id)
            else:
                entries.pop(image_id, None)
                failed.setdefault(image_id, _ambiguous(sources[image_id], source))
            sources.setdefault(image_id, source)
    if not sources:
        raise UsageError(
            " ".join(
                [
                    f"found no image in {some([shard.blob.url for shard in shards])}: are they the right files?",
                    *passed.notes(),
                ]
            )
        )
    n = len(again)
    repeated = [f"{n} image{'s' * (n > 1)} repeated in a shard with the same bytes, taken once: {some(again)}"]
    notes = [*(repeated if again else []), *passed.notes()]
    return Scan(sources, list(entries.values()), failed | dict(damaged), notes)


def _ambiguous(one: ImageSource, other: ImageSource) -> str:
    return (
        f"is the ID of two images, {one.describe()} and {other.describe()}: which of them labels mean is unclear. "
        f"Rename one of them"
    )


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
