"""What a push or a pull would copy: what is chosen and not yet there, may be copied, and is needed."""

import shutil
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from store.collection import check_name
from store.errors import BBError, UsageError
from store.folder import Folder
from store.gc import size_of
from store.holdings import Holdings, Item, check_empty, has_store
from store.layout import FORMAT
from store.parallel import Fact, each
from store.paths import Part
from store.place import Place
from store.rows import RowIndex
from store.segment import Segment, group_json
from store.selection import Choice, Selection, choose
from store.signature import MAX_SIGNATURE_BYTES
from store.space import FeatureSpace
from store.trust import acceptance

JOBS = 8
MOST_READERS = 64  # threads; what is small is read by four times as many as copy
ROOT = Part("root", "", "zarr.json")


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
            f"{needed:,} bytes are to be pulled, the disk of {root} has {free:,} free: free some, or pull less "
            f"with --ckpt, --data or --for."
        )
    return plan


@dataclass(frozen=True)
class _Trusting:
    """Whom the local store's owner trusts, and whether that is asked for."""

    root: Path
    trusted: Container[str]
    require_signed: bool = False

    def judges(
        self, held: Holdings, there: Holdings, jobs: int
    ) -> tuple[Callable[[Part], str | None], Callable[[Part], str | None]]:
        """By what stands in the signatures of both sides, why a part may not be copied, and why it is not read."""
        files: dict[str, bytes] = {}
        for side in (held, there):
            parts = [part for part in side.of_kind("signature") if part.path not in files]
            for part, raw in each(parts, partial(side.marker, most=MAX_SIGNATURE_BYTES), jobs):
                if isinstance(raw, bytes):  # what can't be read is named when it is to be copied
                    files[part.path] = raw

        def made_here(digest: str) -> bool:
            return (self.root / "local" / f"{digest}.json").is_file()

        judge = partial(acceptance, files.items(), self.trusted, made_here=made_here)
        return judge(require_signed=self.require_signed), judge(require_signed=False)


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
    readers = min(4 * jobs, MOST_READERS)
    accept, read = trusting.judges(held, there, readers)
    choice = choose(held, selection, there.parts.keys(), accept, readers)
    plan = Plan(held, there, [], choice.spaces, notes=choice.notes)
    if new:
        plan.items.append(Item(ROOT, sum(map(len, root_files().values()))))
    plan.there = len(choice.parts & there.parts.keys())
    lacking = choice.parts - there.parts.keys()
    keys = {part.digest for part in choice.parts if part.kind == "space"}
    refused = {part: why for part, why in choice.refused.items() if part.owner in keys and part not in there.parts}
    refused |= {part: reason for part in lacking if (reason := accept(part))}
    choice.faults |= {part: refused.pop(part) for part in list(refused) if part.kind == "signature"}
    plan.passed_over += [Left(part, why) for part, why in sorted(refused.items())]
    fresh = sorted(lacking - refused.keys() - choice.faults.keys())
    if rows_at is not None:
        serving = [part for part in there.of_kind("segment") if not read(part)]
        here = _rows_here(choice, fresh, held, rows_at, serving, readers)
        plan.passed_over += [Left(part, "all its rows are here") for part in fresh if part in here]
        fresh = [part for part in fresh if part not in here]
    for part, item in each(fresh, lambda part: choice.items.get(part) or held.item(part), readers):
        if isinstance(item, Fact):
            choice.faults[part] = item.what
        else:
            plan.items.append(item)
    plan.items.sort(key=lambda item: item.part)
    plan.faults += [Left(part, why) for part, why in sorted(choice.faults.items()) if part not in there.parts]
    return plan


def _rows_here(
    choice: Choice, parts: Sequence[Part], held: Holdings, root: Path, serving: Sequence[Part], jobs: int
) -> set[Part]:
    """The segments all of whose rows (of those that matter) the local store has in others, which are read there."""
    found: set[Part] = set()
    for key, space in choice.spaces.items():
        fresh = [part for part in parts if part.kind == "segment" and part.owner == key]
        index = _index(root, space, [part for part in serving if part.owner == key]) if fresh else None
        if not index:
            continue

        def known(part: Part, index: RowIndex = index, space: FeatureSpace = space) -> bool:
            keys = held.keys(choice.items[part], space)
            if choice.wanted is not None:
                keys = keys[np.isin(keys.copy().view("S32").reshape(-1), choice.wanted)]
            return bool((index.find(keys) >= 0).all())

        for part, is_known in each(fresh, known, jobs):
            if isinstance(is_known, Fact):
                choice.faults[part] = is_known.what
            if is_known:  # also where its keys can't be read: it is not to be fetched
                found.add(part)
    return found


def _index(root: Path, space: FeatureSpace, parts: Sequence[Part]) -> RowIndex:
    """The rows of the sound ones among local segments of a space."""
    segments = []
    for part in parts:
        try:
            segment = Segment.open(root / part.folder, space)
            segment.array("image_sha256")
        except BBError:  # a damaged one counts for nothing
            continue
        segments.append(segment)
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


def root_files() -> dict[str, bytes]:
    return {"zarr.json": group_json({"bb": {"format": FORMAT}}), "spaces/zarr.json": group_json({})}


def _landed(root: Path, items: Sequence[Item]) -> int:
    """Bytes that an earlier pull left of these."""
    digests = {item.part.digest for item in items}
    return sum(size_of(folder) for folder in (root / "tmp" / "pull").glob("*") if folder.name in digests)


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.resolve().parent)
