"""Push and pull: what was planned is checked on the way, and published part by part, whole or not at all."""

import errno
import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bb.store.errors import BBError, Malformed
from bb.store.files.atomic_write import put_file_in_place, put_in_place, sync_tree
from bb.store.files.directory import Directory
from bb.store.files.limits import MAX_TABLE_BYTES, max_bytes
from bb.store.files.paths import StorePart
from bb.store.files.quarantine import place_aside, set_aside
from bb.store.files.thread_pool import Fact, Stopped, describe, each
from bb.store.format.layout import open_plain, plain_size, read_plain
from bb.store.format.space import FeatureSpace
from bb.store.local.authors import write_authors
from bb.store.local.segment import Segment
from bb.store.storage.base import LocalFile, Upload
from bb.store.storage.inventory import Item, parse_collection, parse_labels
from bb.store.storage.local import PIECE, Folder
from bb.store.sync.plan import JOBS, ROOT, Left, TransferPlan, root_files
from bb.store.sync.staging import fetch, landing, write_file

# What others refer to goes first, what vouches for others last; within a stage in parallel.
STAGES = (("root",), ("space",), ("collection", "labels", "segment", "run", "head", "model"), ("adopted", "signature"))


@dataclass
class TransferResult:
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
    plan: TransferPlan,
    *,
    jobs: int = JOBS,
    stop: threading.Event | None = None,
    tick: Callable[[int], None] = lambda n: None,
) -> TransferResult:
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
                left.append(Left(item.part, describe(fact)))
        if parcels:
            target.publish(parcels)
        count.add(sum(item.n_bytes for item in items))
        return left

    return _copy(plan, send, target.at_once, jobs, count, tick, TransferResult())


def pull(
    plan: TransferPlan,
    *,
    jobs: int = JOBS,
    stop: threading.Event | None = None,
    tick: Callable[[int], None] = lambda n: None,
) -> TransferResult:
    """Brings what was planned: each part is fetched aside, checked, and renamed. `tick` hears how many bytes are done.

    Raises BBError where the disk is full or the source can't be reached any more; what was published stays, and what
    was half fetched is taken up by the next pull.
    """
    target = plan.target.place
    assert isinstance(target, Folder)
    count = Count(stop)

    def bring(items: Sequence[Item]) -> list[Left]:
        why = [(item.part, _bring(plan, item, target, count)) for item in items]
        return [Left(part, reason) for part, reason in why if reason]

    outcome = TransferResult()
    try:
        return _copy(plan, bring, 1, jobs, count, tick, outcome)
    finally:
        _settle(plan, target.root, outcome)
        came = {item.part.digest for item in outcome.copied}
        try:
            write_authors(target.root, {digest: key for digest, key in plan.authors.items() if digest in came})
        except OSError as error:
            raise _full_disk(plan, error) from None


def _full_disk(plan: TransferPlan, error: OSError) -> BBError:
    """What to say of a full disk; any other error is raised as it is."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        raise error
    return BBError(f"the disk of {plan.target.place.url} is full: free some; the same command goes on from there.")


def _copy(
    plan: TransferPlan,
    work: Callable[[Sequence[Item]], list[Left]],
    at_once: int,
    jobs: int,
    count: Count,
    tick: Callable[[int], None],
    outcome: TransferResult,
) -> TransferResult:
    """Hands the items to the work, stage after stage, that many at once, in that many threads; fills in the outcome."""
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
            raise _full_disk(plan, error) from None
        if count.stopped:
            break
    outcome.stopped = count.stopped
    return outcome


# One part


def _parcel(item: Item, root: Path, plan: TransferPlan, count: Count) -> Upload:
    """A local part, whose files have been held against their digests. Of one half pushed, only what is not there: there
    a file is whole or absent, while a folder takes a part as one."""
    if item.part == ROOT:
        return Upload(ROOT, root_files())
    part, target = item.part, plan.target
    at_hand, others = plan.source.objects(item)
    folder = Directory(root, part.folder)
    for path, (size, digest) in others.items():
        if (actual := plain_size(folder, path)) != size:
            raise Malformed(f"its {path} has {actual} bytes, {size} are listed")
        if _digest(folder, path, count) != digest:
            raise Malformed(f"its {path} does not have the digest by which it is named")
    if part.kind != "segment":  # whose manifest was read already; who pulls it looks at its arrays
        _examine(part, folder, plan.spaces)
    files: dict[str, LocalFile | Path | bytes] = {**at_hand, **{path: LocalFile(folder, path) for path in others}}
    if isinstance(target.place, Folder):
        return Upload(part, files)
    there = {path for path, (size, _) in others.items() if target.sizes.get(part.at(path)) == size}
    return Upload(part, {path: data for path, data in files.items() if path not in there})


def _digest(folder: Directory, path: str, count: Count) -> str:
    """SHA-256 of a file, taken a piece at a time."""
    hasher, buffer = hashlib.sha256(), memoryview(bytearray(PIECE))
    with open_plain(folder, path) as file:
        while size := file.readinto(buffer):
            hasher.update(buffer[:size])
            count(0)
    return hasher.hexdigest()


def _bring(plan: TransferPlan, item: Item, target: Folder, count: Count) -> str | None:
    """Fetches a part aside, checks it, and puts it in place; a segment whose rows disagree with those here in `aside/`,
    and then says why."""
    part, root, source = item.part, target.root, plan.source
    if part == ROOT or part.kind == "space":
        files = root_files() if part == ROOT else source.objects(item)[0]
        target.publish([Upload(part, files)])
        count(item.n_bytes)
        return None
    at_hand, others = source.objects(item)
    store = Directory(root)
    with landing(root, part.digest) as staging:
        content = store.below(store.relative(staging))
        for path, data in at_hand.items():
            write_file(content, path, data)
            count(len(data))
        for path, (size, digest) in others.items():
            fetch(source.place, part.at(path), content, path, size, digest, count, max_bytes(part, path))
        _examine(part, content, plan.spaces)
        why = _disagreement(plan, part, content) if part.kind == "segment" else None
        if part.kind in ("segment", "run"):
            sync_tree(content)
            put_in_place(store, content.at, place_aside(store, part.folder) if why else part.folder, part.marker)
        elif not store.is_file(part.path):
            content.sync(part.marker)
            put_file_in_place(store, f"{content.at}/{part.marker}", part.path)
    return why


def _settle(plan: TransferPlan, root: Path, outcome: TransferResult) -> None:
    """Sets aside what came in one pull with rows that disagree with better ones of the same pull."""
    came = {item.part: plan.tier(item.part) for item in outcome.copied if item.part.kind == "segment"}
    if len(came) < 2:
        return
    assert plan.here is not None
    after = plan.here.with_brought(came)
    left = []
    for part, tier in came.items():
        segment = Segment.open(root / part.folder, plan.spaces[part.owner])
        if why := after.disagreement(part, segment, tier):
            set_aside(root, root / part.folder)
            left.append(Left(part, why))
    outcome.faults += left
    outcome.copied = [item for item in outcome.copied if item.part not in {one.part for one in left}]


def _disagreement(plan: TransferPlan, part: StorePart, folder: Directory) -> str | None:
    assert plan.here is not None
    return plan.here.disagreement(part, Segment.open(folder.path, plan.spaces[part.owner]), plan.tier(part))


def _examine(part: StorePart, folder: Directory, spaces: dict[str, FeatureSpace]) -> None:
    """Raises Malformed for a part with the right digests that no reader could read: it would spoil its whole space."""
    if part.kind == "segment":
        space = spaces[part.owner]
        try:
            segment = Segment.open(folder.path, space)
            for name in segment.arrays:
                segment.array(name)
        except BBError as error:
            raise Malformed(str(error)) from None
    elif part.kind == "collection":
        parse_collection(part, read_plain(folder, part.marker, MAX_TABLE_BYTES))
    elif part.kind == "labels":
        parse_labels(part, read_plain(folder, part.marker, MAX_TABLE_BYTES))
