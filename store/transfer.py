"""Push and pull: what one side lacks is found out, checked on the way, and published part by part, whole or not."""

import errno
import hashlib
import shutil
import threading
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from store.collection import check_name
from store.errors import BBError, UsageError
from store.folder import Folder, put_in_place
from store.holdings import (
    MAX_TABLE_BYTES,
    Holdings,
    Item,
    check_empty,
    has_store,
    parse_collection,
    parse_labels,
)
from store.landing import fetch, landing, put_file_in_place, write_file
from store.layout import FORMAT, Malformed, plain_size
from store.parallel import Fact, Stopped, each, words
from store.paths import Part
from store.place import Parcel, Place
from store.rows import RowIndex
from store.segment import Segment, group_json
from store.selection import Choice, Selection, choose
from store.signature import MAX_SIGNATURE_BYTES
from store.space import FeatureSpace
from store.trust import acceptance

JOBS = 8
ROOT = Part("root", "", "zarr.json")
# What others refer to goes first, what vouches for others last; within a stage in parallel.
STAGES = (("root",), ("space",), ("collection", "labels", "segment", "run", "head"), ("adopted", "signature"))


@dataclass(frozen=True)
class Left:
    """A part that is not copied, and why."""

    part: Part
    why: str


@dataclass
class Plan:
    """What would be copied.

    items        the parts, in order of their paths; a new store's root among them
    there        how many of the chosen parts the other side has already
    passed_over  parts that need not or must not be copied
    faults       parts that can't be
    notes        what a person should know
    """

    source: Holdings
    target: Holdings
    items: list[Item]
    spaces: dict[str, FeatureSpace]
    there: int = 0
    passed_over: list[Left] = field(default_factory=list)
    faults: list[Left] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def n_bytes(self) -> int:
        return sum(item.n_bytes for item in self.items)


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

    def __call__(self, n_bytes: int) -> None:
        """Adds bytes. Raises Stopped where that is wanted, or work elsewhere has failed for good."""
        with self._guard:
            self.done += n_bytes
        if self.stopped or self.halt.is_set():
            raise Stopped


def plan_push(
    root: Path,
    target: Place,
    selection: Selection,
    *,
    trusted: Container[str] = (),
    jobs: int = JOBS,
) -> Plan:
    """What of a local store a place lacks, save what is revoked; keys that are `trusted` may revoke anything.

    Raises UsageError where nothing can be written there, BBError where something else lies there, or a store of another
    format.
    """
    if not target.writable:
        raise UsageError(f"{target.url} can only be read: push to a folder, s3:// or hf://, and serve that.")
    return _plan(Folder(root), target, selection, _Trusting(root, trusted), jobs)


def plan_pull(
    source: Place,
    root: Path,
    selection: Selection,
    *,
    replicates: bool = False,
    trusted: Container[str] = (),
    require_signed: bool = False,
    jobs: int = JOBS,
) -> Plan:
    """What of a place's store the local one lacks, which need not be there yet.

    Segments all of whose rows are here are passed over unless `replicates`, and so is what is revoked, or with
    `require_signed` what no `trusted` key has signed. Raises BBError where there is no store, or one of another format.
    """
    trusting = _Trusting(root, trusted, require_signed)
    plan = _plan(source, Folder(root), selection, trusting, jobs, None if replicates else root)
    needed, free = plan.n_bytes - _landed(root, plan.items), shutil.disk_usage(_existing(root)).free
    if needed > free:
        raise BBError(
            f"{needed / 1e9:.1f} GB are to be pulled, the disk of {root} has {free / 1e9:.1f} GB free: free some, or "
            f"pull less with --ckpt, --data or --for."
        )
    return plan


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


@dataclass(frozen=True)
class _Trusting:
    """Whom the local store's owner trusts, and whether that is asked for."""

    root: Path
    trusted: Container[str]
    require_signed: bool = False

    def accepting(self, held: Holdings, there: Holdings, jobs: int) -> Callable[[Part], str | None]:
        """Why a part may not be copied, by what stands in the signatures of both sides."""
        files: dict[str, bytes] = {}
        for side in (held, there):
            parts = [part for part in side.of_kind("signature") if part.path not in files]
            for part, raw in each(parts, partial(side.marker, most=MAX_SIGNATURE_BYTES), jobs):
                if isinstance(raw, bytes):  # what can't be read is named when it is to be copied
                    files[part.path] = raw

        def made_here(digest: str) -> bool:
            return (self.root / "local" / f"{digest}.json").is_file()

        return acceptance(files.items(), self.trusted, require_signed=self.require_signed, made_here=made_here)


def _plan(
    source: Place,
    target: Place,
    selection: Selection,
    trusting: _Trusting,
    jobs: int,
    rows_at: Path | None = None,
) -> Plan:
    for text in selection.data:
        check_name(text.partition("@")[0])
    if not has_store(source):
        raise BBError(f"there is no store at {source.url}: name the folder or prefix that holds its zarr.json.")
    new = not has_store(target)
    if new:
        check_empty(target)
    held, there = Holdings.of(source), Holdings.of(target)
    accept = trusting.accepting(held, there, 4 * jobs)
    choice = choose(held, selection, there.parts.keys(), accept, 4 * jobs)
    plan = Plan(held, there, [], choice.spaces, notes=choice.notes)
    if new:
        plan.items.append(Item(ROOT, sum(map(len, _root_files().values()))))
    plan.there = len(choice.parts & there.parts.keys())
    lacking = choice.parts - there.parts.keys()
    keys = {part.digest for part in choice.parts if part.kind == "space"}
    refused = {part: why for part, why in choice.refused.items() if part.owner in keys and part not in there.parts}
    refused |= {part: reason for part in lacking if (reason := accept(part))}
    choice.faults |= {part: refused.pop(part) for part in list(refused) if part.kind == "signature"}
    plan.passed_over += [Left(part, why) for part, why in sorted(refused.items())]
    fresh = sorted(lacking - refused.keys() - choice.faults.keys())
    if rows_at is not None:
        here = _rows_here(choice, fresh, held, rows_at, jobs)
        plan.passed_over += [Left(part, "all its rows are here") for part in fresh if part in here]
        fresh = [part for part in fresh if part not in here]
    for part, item in each(fresh, lambda part: choice.items.get(part) or held.item(part), 4 * jobs):
        if isinstance(item, Fact):
            choice.faults[part] = item.what
        else:
            plan.items.append(item)
    plan.items.sort(key=lambda item: item.part)
    plan.faults += [Left(part, why) for part, why in sorted(choice.faults.items()) if part not in there.parts]
    return plan


def _rows_here(choice: Choice, parts: Sequence[Part], held: Holdings, root: Path, jobs: int) -> set[Part]:
    """The segments all of whose rows (of those that matter) the local store has in other segments."""
    found: set[Part] = set()
    for key, space in choice.spaces.items():
        fresh = [part for part in parts if part.kind == "segment" and part.owner == key]
        index = _index(root, space) if fresh else None
        if not index:
            continue

        def known(part: Part, index: RowIndex = index, space: FeatureSpace = space) -> bool:
            keys = held.keys(choice.items[part], space)
            if choice.wanted is not None:
                keys = keys[np.isin(keys.copy().view("S32").reshape(-1), choice.wanted)]
            return bool((index.find(keys) >= 0).all())

        for part, is_known in each(fresh, known, 4 * jobs):
            if isinstance(is_known, Fact):
                choice.faults[part] = is_known.what
            if is_known:  # also where its keys can't be read: it is not to be fetched
                found.add(part)
    return found


def _index(root: Path, space: FeatureSpace) -> RowIndex:
    """The rows of the sound local segments of a space."""
    segments = []
    for path in sorted((root / "spaces" / space.key / "segments").glob("*/zarr.json")):
        try:
            segments.append(segment := Segment.open(path.parent, space))
            segment.keys  # noqa: B018 read now, so that a damaged one counts for nothing
        except BBError:
            segments = segments[:-1] if segments and segments[-1].folder == path.parent else segments
    return RowIndex.build(segments)


def summary(items: Sequence[Item]) -> list[dict[str, Any]]:
    """Parts, rows and bytes by kind, and of segments by feature space, in the order of the store's paths."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for item in items:
        space = item.part.owner if item.part.kind in ("segment", "adopted") else ""
        empty = {"kind": item.part.kind, "space": space, "backbones": [], "parts": 0, "rows": 0, "bytes": 0}
        entry = found.setdefault((item.part.kind, space), empty)
        entry["backbones"] = sorted({*entry["backbones"], *item.backbones})
        for name, more in (("parts", 1), ("rows", item.rows), ("bytes", item.n_bytes)):
            entry[name] += more
    return [found[key] for key in sorted(found)]


# One part


def _parcel(item: Item, root: Path, plan: Plan, count: Count) -> Parcel:
    """A local part, whose files have been held against their digests. Of one half pushed, only what is not there: there
    a file is whole or absent, while a folder takes a part as one."""
    if item.part == ROOT:
        return Parcel(ROOT, _root_files())
    part, target = item.part, plan.target
    at_hand, others = plan.source.objects(item)
    folder = root / part.folder
    for path, (size, digest) in others.items():
        if plain_size(folder, path) != size:
            raise Malformed(f"its {path} has {plain_size(folder, path)} bytes, {size} are listed")
        hasher = hashlib.sha256()
        for piece in plan.source.place.stream(part.at(path)):
            hasher.update(piece)
            count(0)
        if hasher.hexdigest() != digest:
            raise Malformed(f"its {path} does not have the digest by which it is named")
    _examine(part, folder, plan.spaces)
    files: dict[str, Path | bytes] = {**at_hand, **{path: folder / path for path in others}}
    if isinstance(target.place, Folder):
        return Parcel(part, files)
    there = {path for path, (size, _) in others.items() if target.sizes.get(part.at(path)) == size}
    return Parcel(part, {path: data for path, data in files.items() if path not in there})


def _bring(plan: Plan, item: Item, target: Folder, count: Count) -> None:
    """Fetches a part aside, checks it, and puts it in place."""
    part, root, source = item.part, target.root, plan.source
    if part == ROOT or part.kind == "space":
        files = _root_files() if part == ROOT else source.objects(item)[0]
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
        parse_labels((folder / part.marker).read_bytes())


def _root_files() -> dict[str, bytes]:
    return {"zarr.json": group_json({"bb": {"format": FORMAT}}), "spaces/zarr.json": group_json({})}


def _landed(root: Path, items: Sequence[Item]) -> int:
    """Bytes that an earlier pull left of these."""
    total = 0
    for item in items:
        for path in (root / "tmp" / "pull" / item.part.digest / item.part.digest).rglob("*"):
            total += path.stat().st_size if path.is_file() and not path.is_symlink() else 0
    return total


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.resolve().parent)
