"""What a push or a pull would copy: what is chosen and not yet there, may be copied, and is needed."""

import shutil
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from bb.store.errors import BBError, UsageError
from bb.store.files.directory import Directory
from bb.store.files.limits import MAX_SIGNATURE_BYTES
from bb.store.files.paths import StorePart
from bb.store.files.thread_pool import Fact, each
from bb.store.format.collection import check_name
from bb.store.format.layout import FORMAT
from bb.store.format.space import FeatureSpace
from bb.store.local.authors import read_authors
from bb.store.local.row_index import RowIndex
from bb.store.local.segment import group_json
from bb.store.local.tier import Tier
from bb.store.signing.revocation import Statements, read_statements
from bb.store.signing.statement import FIELDS, Revocation, SignedItem
from bb.store.signing.trust import Here, acceptance, revoked_text
from bb.store.storage.base import Storage
from bb.store.storage.inventory import Inventory, Item, check_empty, has_store
from bb.store.storage.local import Folder
from bb.store.store import Store
from bb.store.sync.incoming import RowsHere
from bb.store.sync.selection import Choice, Selection, choose

JOBS = 8
MOST_READERS = 64  # threads; what is small is read by four times as many as copy
ROOT = StorePart("root", "", "zarr.json")


@dataclass(frozen=True)
class Left:
    """A part that is not copied, and why."""

    part: StorePart
    why: str


@dataclass
class TransferPlan:
    """What would be copied.

    items        the parts, in order of their paths; a new store's root among them
    there        how many of the chosen parts the other side has already
    passed_over  parts that need not or must not be copied
    faults       parts that can't be
    notes        what a person should know
    here         of a pull: the rows of the local store, with which those that come must agree
    tier         of a pull: where a part comes from
    authors      of a pull: the only signer of what comes, by digest
    """

    source: Inventory
    target: Inventory
    items: list[Item]
    spaces: dict[str, FeatureSpace]
    there: int = 0
    passed_over: list[Left] = field(default_factory=list)
    faults: list[Left] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    here: RowsHere | None = None
    tier: Callable[[StorePart], Tier] = lambda part: Tier.OTHER
    authors: Mapping[str, str] = field(default_factory=dict)

    @property
    def n_bytes(self) -> int:
        return sum(item.n_bytes for item in self.items)


def plan_push(
    root: Path,
    target: Storage,
    selection: Selection,
    *,
    trusted: Container[str] = (),
    jobs: int = JOBS,
) -> TransferPlan:
    """What of a local store a place does not have, save what is revoked; keys that are `trusted` may revoke anything.

    Raises UsageError where nothing can be written there, BBError where something else is there, or a store of another
    format.
    """
    if not target.writable:
        raise UsageError(f"{target.url} can only be read: push to a folder, s3:// or hf://, and serve that.")
    return _plan(Folder(root), target, selection, _Trusting(_local(root, trusted), pulling=False), jobs)


def plan_pull(
    source: Storage,
    root: Path,
    selection: Selection,
    *,
    replicates: bool = False,
    trusted: Container[str] = (),
    require_signed: bool = False,
    jobs: int = JOBS,
) -> TransferPlan:
    """What of a place's store the local one does not have, which need not be there yet.

    Segments all of whose rows are here are passed over unless `replicates`, and so is what is revoked, or with
    `require_signed` what no `trusted` key has signed. Raises BBError where there is no store, or one of another format.
    """
    trusting = _Trusting(_local(root, trusted), pulling=True, require_signed=require_signed)
    plan = _plan(source, Folder(root), selection, trusting, jobs, replicates=replicates)
    needed, free = plan.n_bytes - _landed(root, plan.items), shutil.disk_usage(_existing(root)).free
    if needed > free:
        raise BBError(
            f"{needed:,} bytes are to be pulled, the disk of {root} has {free:,} free: free some, or pull less "
            f"with --ckpt, --data or --for."
        )
    return plan


@dataclass(frozen=True)
class _Judge:
    """Of the parts that one side has: why one may not be copied, and where each comes from; the signer of what comes.

    serves  whether a part of the local store is read there
    """

    accept: Callable[[StorePart], str | None]
    tier: Callable[[StorePart], Tier]
    serves: Callable[[StorePart], bool]
    authors: Mapping[str, str]


@dataclass(frozen=True)
class _Trusting:
    """The local store, whom its owner trusts, and whether only what they have signed is asked for."""

    store: Store
    pulling: bool
    require_signed: bool = False

    def judge(self, held: Inventory, there: Inventory, jobs: int) -> _Judge:
        """By what stands in the signatures of both sides, and what was recorded of what came before."""
        store, trusted = self.store, self.store.trusted
        source, target = (_statements(side, jobs) for side in (held, there))
        both = Statements({**source.valid, **target.valid})
        authors = read_authors(store.root)
        here = Here({part.digest for part in there.parts}, authors, store.made_here)
        revoked = both.revoked(trusted, authors, store.made_here).effective
        if self.pulling:
            accept = acceptance(source, trusted, require_signed=self.require_signed, ours=target, here=here)
        else:
            accept = partial(_may_leave, source, revoked, trusted)
        vouched = both.signed_by(trusted)
        return _Judge(
            accept,
            lambda part: Tier.TRUSTED if SignedItem.of(part) in vouched else Tier.OTHER,
            lambda part: part.digest not in revoked,
            source.sole_signers(),
        )


def _may_leave(
    ours: Statements, revoked: Mapping[str, Revocation], trusted: Container[str], part: StorePart
) -> str | None:
    """Why a part of the local store is not pushed; None where it is."""
    if part.kind == "signature":
        fault = ours.faults.get(part.digest)
        return f"damaged or forged: {fault}" if fault else None
    if part.kind in FIELDS and part.digest in revoked:
        return revoked_text(revoked[part.digest], trusted if isinstance(trusted, Mapping) else None)
    return None


def _statements(side: Inventory, jobs: int) -> Statements:
    """What can be read of a side's statements; what can't be is named when it is to be copied."""
    found = each(side.of_kind("signature"), partial(side.marker, most=MAX_SIGNATURE_BYTES), jobs)
    return read_statements((part.path, raw) for part, raw in found if isinstance(raw, bytes))


def _plan(
    source: Storage,
    target: Storage,
    selection: Selection,
    trusting: _Trusting,
    jobs: int,
    *,
    replicates: bool = True,
) -> TransferPlan:
    for text in selection.data:
        check_name(text.partition("@")[0])
    if not has_store(source):
        raise BBError(f"found no store at {source.url}: name the folder or prefix that holds its zarr.json.")
    if isinstance(target, Folder):
        target.directory.refuse_links()
    new = not has_store(target)
    if new:
        check_empty(target)
    held, there = Inventory.of(source), Inventory.of(target)
    readers = min(4 * jobs, MOST_READERS)
    judge = trusting.judge(held, there, readers)
    accept = judge.accept
    choice = choose(held, selection, there.parts.keys(), accept, judge.tier, readers)
    plan = TransferPlan(held, there, [], choice.spaces, notes=choice.notes)
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
    if trusting.pulling:
        serving = [part for part in there.of_kind("segment") if judge.serves(part)]
        plan.here = RowsHere(trusting.store, serving, choice.spaces)
        plan.tier, plan.authors = judge.tier, judge.authors
        aside = set()
        for part in fresh:
            if part.kind == "segment" and (why := plan.here.kept_aside(part, judge.tier(part))):
                plan.passed_over.append(Left(part, why))
                aside.add(part)
        here = set() if replicates else _rows_here(choice, [p for p in fresh if p not in aside], held, plan, readers)
        plan.passed_over += [Left(part, "all its rows are here") for part in fresh if part in here]
        fresh = [part for part in fresh if part not in here | aside]
    for part, item in each(fresh, lambda part: choice.items.get(part) or held.item(part), readers):
        if isinstance(item, Fact):
            choice.faults[part] = item.what
        else:
            plan.items.append(item)
    plan.items.sort(key=lambda item: item.part)
    plan.faults += [Left(part, why) for part, why in sorted(choice.faults.items()) if part not in there.parts]
    return plan


def _rows_here(
    choice: Choice, parts: Sequence[StorePart], held: Inventory, plan: TransferPlan, jobs: int
) -> set[StorePart]:
    """The segments all of whose rows (of those that matter) the local store has in others, which are read there.

    What a trusted key has signed is brought all the same where the rows here come from elsewhere and nobody trusted has
    signed them.
    """
    assert plan.here is not None
    found: set[StorePart] = set()
    groups: dict[tuple[str, Tier], list[StorePart]] = {}
    for part in parts:
        if part.kind == "segment" and part.owner in choice.spaces:
            groups.setdefault((part.owner, plan.tier(part)), []).append(part)
    for (key, tier), fresh in groups.items():
        space = choice.spaces[key]
        index = plan.here.rows(space, tier)
        if not index:
            continue

        def known(part: StorePart, index: RowIndex = index, space: FeatureSpace = space) -> bool:
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


def _local(root: Path, trusted: Container[str]) -> Store:
    return Store(root, trusted if isinstance(trusted, Mapping) else dict.fromkeys(cast(Iterable[str], trusted), ""))


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
    store, digests = Directory(root), {item.part.digest for item in items}
    left = [entry.name for entry in store.entries("tmp/pull") if entry.name in digests]
    return sum(store.n_bytes(f"tmp/pull/{digest}") for digest in left)


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.resolve().parent)
