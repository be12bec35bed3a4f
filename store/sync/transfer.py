"""Push and pull: what was planned is checked on the way, and published part by part, whole or not at all."""

import errno
import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from store.errors import BBError
from store.folder import PIECE, Folder
from store.holdings import Item, parse_collection, parse_labels
from store.landing import fetch, landing, put_file_in_place, write_file
from store.layout import Malformed, plain_size
from store.parallel import Fact, Stopped, each, words
from store.paths import Part
from store.place import Parcel
from store.plan import JOBS, ROOT, Left, Plan, root_files
from store.publish import put_in_place, sync_tree
from store.segment import Segment
from store.space import FeatureSpace
from store.table import MAX_TABLE_BYTES

# What others refer to goes first, what vouches for others last; within a stage in parallel.
STAGES = (("root",), ("space",), ("collection", "labels", "segment", "run", "head"), ("adopted", "signature"))


@dataclass
class Outcome:
    """What was copied, what could not be, and whether a person stopped it."""

    copied: list[Item] = field(default_factory=list)
    faults: list[Left] = field(default_factory=list)
    stopped: bool = False

    @property
    def n_bytes(self) -> int:
        return sum(item.n_bytes for item in self.copied)


class Count:
    """Bytes as threads move them; at every piece it is heard whether a person wants to stop."""

    def __init__(self, stop: threading.Event | None) -> None:
        self.done = 0
        self.halt = threading.Event()
        self._stop, self._guard = stop or threading.Event(), threading.Lock()

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    def add(self, n_bytes: int) -> None:
        with self._guard:
            self.done += n_bytes

    def __call__(self, n_bytes: int) -> None:
        """Adds bytes. Raises Stopped where that is wanted, or work elsewhere has failed for good."""
        self.add(n_bytes)
        if self.stopped or self.halt.is_set():
            raise Stopped


def push(
    plan: Plan, *, jobs: int = JOBS, stop: threading.Event | None = None, tick: Callable[[int], None] = lambda n: None
) -> Outcome:
    """Publishes what was planned, each file first held against its digest. `tick` hears how many bytes are done.

    Raises BBError where the place can't be reached or written any more; what was published stays.
    """
    source, target = plan.source, plan.target.place
    assert isinstance(source.place, Folder)
    root, count = source.place.root, Count(stop)

    def send(items: Sequence[Item]) -> list[Left]:
        parcels, left = [], []
        for item in items:
            try:
                parcels.append(_parcel(item, root, plan, count))
            except (Malformed, FileNotFoundError) as fact:
                left.append(Left(item.part, words(fact)))
        if parcels:
            target.publish(parcels)
        count.add(sum(item.n_bytes for item in items))
        return left

    return _copy(plan, send, target.at_once, jobs, count, tick)


def pull(
    plan: Plan, *, jobs: int = JOBS, stop: threading.Event | None = None, tick: Callable[[int], None] = lambda n: None
) -> Outcome:
    """Brings what was planned: each part is fetched aside, checked, and renamed. `tick` hears how many bytes are done.

    Raises BBError where the disk is full or the source can't be reached any more; what was published stays, and what
    was half fetched is taken up by the next pull.
    """
    target = plan.target.place
    assert isinstance(target, Folder)
    count = Count(stop)

    def bring(items: Sequence[Item]) -> list[Left]:
        for item in items:
            _bring(plan, item, target, count)
        return []

    return _copy(plan, bring, 1, jobs, count, tick)


def _copy(
    plan: Plan,
    work: Callable[[Sequence[Item]], list[Left]],
    at_once: int,
    jobs: int,
    count: Count,
    tick: Callable[[int], None],
) -> Outcome:
    """Hands the items to the work, stage after stage, so many at once, in so many threads."""
    outcome = Outcome()
    for kinds in STAGES:
        stage = [item for item in plan.items if item.part.kind in kinds]
        batches = [tuple(stage[i : i + at_once]) for i in range(0, len(stage), at_once)]
        count.halt.clear()
        try:
            for batch, result in each(batches, work, jobs, lambda: tick(count.done), count.halt):
                left = [Left(item.part, result.what) for item in batch] if isinstance(result, Fact) else result
                outcome.faults += left
                outcome.copied += [item for item in batch if item.part not in {one.part for one in left}]
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            where = plan.target.place.url
            raise BBError(f"the disk of {where} is full: free some; the same command goes on from there.") from None
        if count.stopped:
            break
    outcome.stopped = count.stopped
    return outcome


# One part


def _parcel(item: Item, root: Path, plan: Plan, count: Count) -> Parcel:
    """A local part, whose files have been held against their digests. Of one half pushed, only what is not there: there
    a file is whole or absent, while a folder takes a part as one."""
    if item.part == ROOT:
        return Parcel(ROOT, root_files())
    part, target = item.part, plan.target
    at_hand, others = plan.source.objects(item)
    folder = root / part.folder
    for path, (size, digest) in others.items():
        if plain_size(folder, path) != size:
            raise Malformed(f"its {path} has {plain_size(folder, path)} bytes, {size} are listed")
        if _digest(folder / path, count) != digest:
            raise Malformed(f"its {path} does not have the digest by which it is named")
    if part.kind != "segment":  # whose manifest was read already; who pulls it looks at its arrays
        _examine(part, folder, plan.spaces)
    files: dict[str, Path | bytes] = {**at_hand, **{path: folder / path for path in others}}
    if isinstance(target.place, Folder):
        return Parcel(part, files)
    there = {path for path, (size, _) in others.items() if target.sizes.get(part.at(path)) == size}
    return Parcel(part, {path: data for path, data in files.items() if path not in there})


def _digest(path: Path, count: Count) -> str:
    """SHA-256 of a file, taken a piece at a time."""
    hasher, buffer = hashlib.sha256(), memoryview(bytearray(PIECE))
    with open(path, "rb", buffering=0) as file:
        while size := file.readinto(buffer):
            hasher.update(buffer[:size])
            count(0)
    return hasher.hexdigest()


def _bring(plan: Plan, item: Item, target: Folder, count: Count) -> None:
    """Fetches a part aside, checks it, and puts it in place."""
    part, root, source = item.part, target.root, plan.source
    if part == ROOT or part.kind == "space":
        files = root_files() if part == ROOT else source.objects(item)[0]
        target.publish([Parcel(part, files)])
        count(item.n_bytes)
        return
    at_hand, others = source.objects(item)
    with landing(root, part.digest) as content:
        for path, data in at_hand.items():
            write_file(content / path, data)
            count(len(data))
        for path, (size, digest) in others.items():
            fetch(source.place, part.at(path), content / path, size, digest, count, MAX_TABLE_BYTES)
        _examine(part, content, plan.spaces)
        if part.kind in ("segment", "run"):
            sync_tree(content)
            put_in_place(root, content, root / part.folder, part.marker)
        else:
            put_file_in_place(root, content / part.marker, root / part.path)


def _examine(part: Part, folder: Path, spaces: dict[str, FeatureSpace]) -> None:
    """Raises Malformed for a part with the right digests that no reader could read: it would spoil its whole space."""
    if part.kind == "segment":
        space = spaces[part.owner]
        try:
            segment = Segment.open(folder, space)
            for name in segment.arrays:
                segment.array(name)
        except BBError as error:
            raise Malformed(str(error)) from None
    elif part.kind == "collection":
        parse_collection(part, (folder / part.marker).read_bytes())
    elif part.kind == "labels":
        parse_labels(part, (folder / part.marker).read_bytes())
