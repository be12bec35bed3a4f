"""The images of a collection: their files are found and hashed."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from joblib import cpu_count

from bb.extract.data.scan import HashMemory, Scan, find_images, scan
from bb.extract.data.shards import Files, find_shards, scan_shards
from bb.extract.data.source_spec import Root
from bb.store.files.cache_folder import cache_folder
from bb.store.reporter import Reporter, Silent


def find_files(root: Root, *, follow_links: bool = False, announce: Callable[[str], None] | None = None) -> Files:
    """The files of a folder, or the shards, that hold a collection's images. `announce` gets what was left out."""
    with gc_frozen():
        if isinstance(root, Path):
            return find_images(root, follow_links=follow_links, announce=announce or (lambda words: None))
        return find_shards(root)


def find_known_files(root: Root) -> Files:
    """As `find_files`, for images that a store's collection lists by digest: whatever leads to them will do."""
    return find_files(root, follow_links=True)


@contextmanager
def gc_frozen() -> Iterator[None]:
    """Garbage is looked for only in what is made inside: going through torch again and again, as lists of many images
    grow, costs a third of the time that finding nothing to do takes."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def hash_images(
    name: str,
    images: Files,
    limit: int | None = None,
    *,
    read_only: bool = False,
    known_only: bool = False,
    reporter: Reporter | None = None,
) -> Scan:
    """What the images of a collection hash to; with `read_only`, nothing of it is remembered.

    known_only  of shards, only what is remembered: BBError where they would have to be read
    """
    reporter = reporter or Silent()
    remembered = 0

    def known(count: int) -> None:
        nonlocal remembered
        remembered = count

    with gc_frozen(), HashMemory.open(cache_folder() / "hashes.sqlite", read_only=read_only) as memory:
        if isinstance(images, dict):
            files = dict(islice(images.items(), limit))

            def hashed(done: int) -> None:
                if to_hash := len(files) - remembered:
                    reporter.progress(f"hashing {name}", done - remembered, to_hash, "images")

            return scan(files, memory, threads=cpu_count(), progress=hashed, known=known)
        n_bytes = sum(shard.blob.size for shard in images)

        def read(done: int, total: int | None = None) -> None:
            reporter.progress(f"reading {name}", done, total or n_bytes, "B")

        found = scan_shards(images, memory, limit=limit, known_only=known_only, threads=cpu_count(), progress=read)
    for note in found.notes:
        reporter.info(f"note: {name}: {note}")
    return found
