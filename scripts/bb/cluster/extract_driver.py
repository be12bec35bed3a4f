"""Extraction on many machines: what is missing is sent out, and looked for again, until nothing is or moves.

On Ray it is streamed; other engines run `bb extract --part I/N`. Nothing is coordinated but by the store.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from jaxtyping import Bool

from bb.cluster.command import Ended
from bb.cluster.engine import ClusterEngine, Job, until_done
from bb.cluster.extract_worker import DecodedBatch, Network, WorkerConfig, WorkerResult, WorkItem, decode_item
from bb.cluster.ray import Cluster
from bb.cluster.ray_stream import RayStream
from bb.extract.backbones.pool_grid import patches_of
from bb.extract.data.scan import Scan
from bb.extract.embedding.decoder import Decoder
from bb.extract.embedding.geometry import Geometry
from bb.extract.pipeline.extractor import Extractor
from bb.extract.pipeline.missing import keys_of
from bb.extract.pipeline.partition import Partition
from bb.extract.reproduce.sample import Images
from bb.store import Store

PIECE = 32  # images of one decoding task; fewer in each later round, so that one that kills its worker stands alone
SHARE = 0.1  # of the time goes at most into looking what jobs have published
LOST = "lost with its worker, each time it was tried"


@dataclass(frozen=True)
class ClusterWork:
    """What spaces of some backbones do not have of some collections, as it was at first and as it is now.

    failed  of each backbone, image digest → reason; not tried again
    notes   image digest → what a person should know of an image that was embedded
    """

    store: Store
    extractors: Sequence[Extractor]
    scans: Mapping[str, Scan]
    images: Images
    failed: dict[str, dict[bytes, str]] = field(default_factory=dict)
    notes: dict[bytes, str] = field(default_factory=dict)

    @classmethod
    def of(cls, store: Store, extractors: Sequence[Extractor], scans: Mapping[str, Scan]) -> "ClusterWork":
        return cls(store, extractors, scans, Images.of(scans))

    def absent(self) -> dict[str, Bool[np.ndarray, " n"]]:
        """By space key, which of the images it does not have and may still get."""
        found = {}
        for extractor in self.extractors:
            failed = self.failed.get(str(extractor.name), {})
            may = np.array([digest not in failed for digest in self.images.entries], dtype=bool)
            for space in extractor.spaces:
                found[space.key] = ~self.store.has(space, self.images.digests()) & may
        return found

    def features(self, absent: Mapping[str, Bool[np.ndarray, " n"]]) -> int:
        """How many features that is: pairs of an image and a backbone."""
        return sum(
            int(np.logical_or.reduce([absent[space.key] for space in extractor.spaces]).sum())
            for extractor in self.extractors
        )

    def store_bytes(self, absent: Mapping[str, Bool[np.ndarray, " n"]]) -> int:
        """Size of the features to come, in bytes."""
        spaces = [space for extractor in self.extractors for space in extractor.spaces]
        return sum(int(absent[s.key].sum()) * int(np.prod(s.row_shape)) * s.dtype.itemsize for s in spaces)

    def items(self, absent: Mapping[str, Bool[np.ndarray, " n"]], size: int) -> Iterator[WorkItem]:
        """The images that any of them does not have, in work items."""
        wanted = np.flatnonzero(np.logical_or.reduce(list(absent.values())))
        entries = list(self.images.entries.values())
        for start in range(0, len(wanted), size):
            some = wanted[start : start + size]
            taken = [entries[i] for i in some]
            sources = [self.images.sources[entry.image_id] for entry in taken]
            yield WorkItem(taken, sources, {key: mask[some] for key, mask in absent.items()})

    def hear(self, out: str) -> None:
        """Notes the images that failed, out of what `bb extract --json` printed."""
        digests = {entry.image_id: digest for digest, entry in self.images.entries.items()}
        for summary in json.loads(out or "[]"):
            for image_id, reason in summary["failed"].items():
                if digest := digests.get(f"{summary['collection']}/{image_id}"):
                    self.failed.setdefault(summary["backbone"], {})[digest] = reason
            for image_id, note in summary.get("notes", {}).items():
                if digest := digests.get(f"{summary['collection']}/{image_id}"):
                    self.notes[digest] = note

    def lacking(self, extractor: Extractor, scan: Scan) -> Bool[np.ndarray, " n"]:
        """Of a collection's entries, which one of the backbone's spaces does not have."""
        keys = keys_of(scan.entries)
        return np.logical_or.reduce([~self.store.has(space, keys) for space in extractor.spaces])


def run_parts(
    work: ClusterWork,
    engine: ClusterEngine,
    parts: Sequence[Partition],
    command: Callable[[Partition], Sequence[str]],
    *,
    rounds: int,
    strict: bool = False,
    progress: Callable[[int, int], None],
    say: Callable[[str], None],
) -> bool:
    """Has an engine run the command of each part that misses something; whether nothing is left to try.

    command   a part's command line, which prints what `bb extract --json` does
    strict    no part is sent again once an image has failed
    progress  gets how many features are made, and of how many

    Raises UsageError or BBError as `until_done` does.
    """
    absent = work.absent()
    total = work.features(absent)

    def left() -> list[Job]:
        wanted = np.logical_or.reduce(list(work.absent().values()))
        digests = [digest for digest, want in zip(work.images.entries, wanted, strict=True) if want]
        return [Job(f"part {part}", tuple(command(part))) for part in parts if any(map(part.holds, digests))]

    def undone(jobs: Sequence[Job], ended: Sequence[Ended]) -> Sequence[Job]:
        for end in ended:
            work.hear(end.out)
        return [] if strict and any(work.failed.values()) else left()

    looked, spent = time.monotonic(), 0.0

    def tick(ended: int) -> None:
        nonlocal looked, spent
        began = time.monotonic()
        if began - looked < spent / SHARE:  # in a store of many rows it takes long
            return
        progress(total - work.features(work.absent()), total)
        looked, spent = time.monotonic(), time.monotonic() - began

    if total:
        until_done(engine, left(), undone, rounds=rounds, say=say, tick=tick)
    return not (strict and any(work.failed.values()))


def stream(
    work: ClusterWork,
    cluster: Cluster,
    device: str,
    *,
    stop: Callable[[], bool],
    strict: bool = False,
    progress: Callable[[int, int], None],
    say: Callable[[str], None],
) -> bool:
    """Embeds what is missing; whether it ran to the end. Why images failed stands in `work.failed` then.

    device    that workers use, each on its own machine
    strict    stops at the first image that fails
    progress  gets how many features are made, and of how many

    Raises BBError where workers can't begin.
    """
    absent = work.absent()
    total, size, before = work.features(absent), PIECE, -1
    made = 0

    def hear(result: WorkerResult) -> None:
        nonlocal made
        made += result.computed + sum(map(len, result.failed.values()))
        work.notes.update(result.notes)
        for name, failed in result.failed.items():
            work.failed.setdefault(name, {}).update(failed)
        show()

    def show() -> None:
        progress(made, total)

    def halt() -> bool:
        return stop() or (strict and any(work.failed.values()))

    while (left := work.features(absent)) and not halt():
        if left == before and size == 1:
            _give_up(work, absent)
            return True
        before, made = left, total - left
        workers = min(cluster.workers, -(-left // size))
        load, config = _setup(work, cluster, workers, device, left)
        turn = RayStream(cluster, load, config.open, workers, hear, show)
        turn.run(work.items(absent, size), halt)
        absent, size = work.absent(), max(1, size // 8)
        if turn.lost and (left := work.features(absent)) and not halt():
            say(f"{turn.lost[-1]} {left} features are missing still, and go again")
    return not halt()


def _setup(
    work: ClusterWork, cluster: Cluster, workers: int, device: str, features: int
) -> tuple[Callable[[WorkItem], DecodedBatch], WorkerConfig]:
    """What decodes, for all networks at once, and how a worker with networks sets itself up."""
    views = {str(extractor.name): extractor.backbone.view.geometry() for extractor in work.extractors}
    geometries: list[Geometry] = list(dict.fromkeys(views.values()))
    first = work.extractors[0]
    decoder: Decoder = first.decoder
    config = WorkerConfig(
        store=work.store.root.resolve(),
        networks=[
            Network(each.name, geometries.index(views[str(each.name)]), [space.key for space in each.spaces])
            for each in work.extractors
        ],
        decode=decoder.options,
        device=device,
        compute=first.numerics.compute,
        stored=first.numerics.stored,
        patch=patches_of(first.spaces.patch),
        batch_size=first.batch_size,
        compile=first.compile,
        threads=cluster.resources.cpus or max(1, cluster.cpus // workers),
        images=features // (len(work.extractors) * workers),
    )
    return partial(decode_item, decoder=decoder, geometries=geometries), config


def _give_up(work: ClusterWork, absent: Mapping[str, Bool[np.ndarray, " n"]]) -> None:
    digests = list(work.images.entries)
    for extractor in work.extractors:
        for space in extractor.spaces:
            failed = {digests[i]: LOST for i in np.flatnonzero(absent[space.key])}
            work.failed.setdefault(str(extractor.name), {}).update(failed)
