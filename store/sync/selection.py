"""What of a store is to be copied: all of it, or what backbones, feature spaces, collections and probes need."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, UInt8

from bb.store.errors import BBError, UsageError
from bb.store.files.paths import Kind, StorePart
from bb.store.files.thread_pool import Fact, each
from bb.store.format.collection import Collection, some
from bb.store.format.derived import head_part
from bb.store.format.space import FeatureSpace, short
from bb.store.storage.inventory import Inventory, Item
from bb.store.text.image_ids import match_ids

T = TypeVar("T")


@dataclass(frozen=True)
class Selection:
    """Filters; what passes all that are given is copied. None given: everything.

    ckpts      backbones' names with * and ?, any of which a space's rows were extracted under
    spaces     beginnings of space keys
    data       collections, NAME or NAME@DIGEST
    runs       runs only
    task       a task family: just the rows, collection versions and labels that a probe of it needs
    image_ids  with `task`: the images that its labels name, where they are known from elsewhere
    models     beginnings of digests of models: these alone
    """

    ckpts: tuple[str, ...] = ()
    spaces: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    runs: bool = False
    task: str | None = None
    image_ids: tuple[str, ...] = ()
    models: tuple[str, ...] = ()

    @property
    def everything(self) -> bool:
        return self == Selection()

    def names(self, backbones: Iterable[object]) -> bool:
        return not self.ckpts or any(fnmatchcase(str(name), glob) for name in backbones for glob in self.ckpts)

    def keys(self, key: object) -> bool:
        return not self.spaces or any(str(key).startswith(begin) for begin in self.spaces)


@dataclass
class Choice:
    """What a selection comes to.

    parts    what is chosen, whether the other side has it or not
    items    of the segments among them whose manifests were read
    wanted   sorted digests (S32) of the only images whose rows matter; None where all do
    refused  segments that may not be taken over → why
    faults   part → what is wrong with it
    notes    what a person should know
    """

    parts: set[StorePart] = field(default_factory=set)
    items: dict[StorePart, Item] = field(default_factory=dict)
    spaces: dict[str, FeatureSpace] = field(default_factory=dict)
    wanted: np.ndarray | None = None
    refused: dict[StorePart, str] = field(default_factory=dict)
    faults: dict[StorePart, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def choose(
    source: Inventory,
    selection: Selection,
    there: AbstractSet[StorePart],
    accept: Callable[[StorePart], str | None],
    tier: Callable[[StorePart], int],
    jobs: int,
) -> Choice:
    """Applies a selection to what a place holds. Segments in `there` are not read where all are chosen anyhow.

    Segments that `accept` gives a reason against count as absent, so that a replicate may take their place. Of
    replicates, readers take the one of lowest `tier` (store/local/replicates.py).
    Raises UsageError where a filter finds nothing, and BBError where the place can't be read.
    """
    choosing = _Choosing(source, selection, accept, tier, jobs, Choice())
    if selection.everything:
        choosing.everything(there)
    elif selection.models:
        choosing.models()
    elif selection.runs:
        choosing.runs()
    elif selection.task:
        choosing.probe()
    else:
        choosing.filtered()
    return choosing.choice


@dataclass(frozen=True)
class _Choosing:
    source: Inventory
    selection: Selection
    accept: Callable[[StorePart], str | None]
    tier: Callable[[StorePart], int]
    jobs: int
    choice: Choice
    adopted: dict[StorePart, str] = field(default_factory=dict)

    def everything(self, there: AbstractSet[StorePart]) -> None:
        parts = [part for part in self.source.parts if part.kind != "root"]
        self.read_spaces()
        self.read_segments(part for part in parts if part.kind == "segment" and part not in there)
        sound = set(self.choice.items) | there
        self.choice.parts |= {p for p in parts if p.kind not in ("segment", "space") or p in sound}
        self.choice.parts |= {part for part in parts if part.kind == "space" and part.digest in self.choice.spaces}

    def runs(self) -> None:
        self.take_runs()
        self.take_kind("signature")
        if self.selection != Selection(runs=True) and not any(part.kind == "run" for part in self.choice.parts):
            raise UsageError(f"no run in {self.url} is of what was asked for: {self.asked}.")

    def models(self) -> None:
        if self.selection != Selection(models=self.selection.models):
            raise UsageError("--model names what is copied: leave out --ckpt, --space, --data, --runs and --for.")
        there = list(self.source.of_kind("model"))
        for beginning in self.selection.models:
            meant = [part for part in there if beginning and part.digest.startswith(beginning)]
            if len(meant) != 1:
                what = f"begins the digests of {len(meant)} models" if meant else "names no model"
                known = some([short(part.digest) for part in meant or there], 8) or "none"
                raise UsageError(f"--model {beginning!r} {what} in {self.url} (there: {known}).")
            self.choice.parts |= set(meant)
        self.take_kind("signature")

    def filtered(self) -> None:
        versions = self.collections()
        wanted = _digests(versions) if self.selection.data else None
        families = self.families()
        segments = {item.part: item for key in {*families, *_all(families.values())} for item in self.items_of(key)}
        chosen = set(segments) if wanted is None else set(self.holding(segments.values(), wanted))
        self.take_segments(chosen, families)
        if wanted is None:
            versions = self.seen_in(versions, [segments[part] for part in chosen])
        self.take_collections(versions)
        self.take_labels(versions)
        self.take_models({*families, *_all(families.values())})
        self.take_runs()
        self.take_kind("signature")

    def probe(self) -> None:
        task, (name, *more) = str(self.selection.task), self.selection.data or (str(self.selection.task),)
        if more:
            raise UsageError(f"--for {task} is of one collection, --data gives {1 + len(more)}: choose one.")
        versions = self.collections(name)
        own = list(self.selection.image_ids)
        if own:
            match = match_ids(own, frozenset(i for version in versions for i in version.table["image_id"].to_list()))
            own = list(match.ids)
            self.choice.notes += [match.note] if match.note else []
        tables = [own] if own else self.take_labels(versions, task)
        if tables:  # not all of which need be of the same version
            whole: dict[str, Collection] = {}
            rows = []
            for ids in tables:
                holding = {v.digest: v for v in versions if (v.find(ids) >= 0).all()}
                if not holding:
                    versions[0].digests(ids)  # raises, naming the images that are missing
                rows.append(_digests(holding.values(), ids))
                if len(rows[-1]) > len(_digests([next(iter(holding.values()))], ids)):
                    listed = some([f"{name}@{short(digest)} ({len(v)} images)" for digest, v in holding.items()])
                    self.choice.notes.append(
                        f"{len(holding)} versions of collection {name} disagree on the images of the labels, and the "
                        f"rows of all are copied: {listed}. --data {name}@DIGEST takes one"
                    )
                whole |= holding
            versions, wanted = list(whole.values()), np.unique(np.concatenate(rows))
        else:
            wanted = _digests(versions)
            self.choice.notes.append(
                f"{self.url} has no labels table for collection {name}: its licence does not allow it, or none was "
                f"recorded. Get the labels yourself, and give them with --labels FILE, here and to `bb probe {task}`."
            )
        self.choice.wanted = wanted
        self.take_collections(versions)
        families = self.families()
        chosen: set[StorePart] = set()
        for key, older in families.items():
            taken, left = self.winners(key, wanted)
            absent = left.copy()
            for other in older:
                also, still = self.winners(other, wanted[left])
                taken |= also
                absent[left] &= still
            chosen |= taken
            if taken and absent.any():
                self.choice.notes.append(f"space {short(key)} is missing {absent.sum()} of {len(wanted)} images")
        if not chosen:
            raise UsageError(f"no feature space in {self.url} has rows of {name} for what was asked: {self.asked}.")
        self.take_segments(chosen, families)
        self.take_kind("signature")

    # Reading, each thing once

    def each(self, tasks: Iterable[T], work: Callable[[T], object]) -> list[tuple[T, object]]:
        return list(each(tasks, work, self.jobs))

    def read_spaces(self) -> None:
        for part, found in self.each(self.source.of_kind("space"), self.source.space):
            if isinstance(found, FeatureSpace):
                self.choice.spaces[part.digest] = found
            else:
                self.note(part, found)

    def read_segments(self, parts: Iterable[StorePart]) -> None:
        spaces, readable = self.choice.spaces, []
        for part in parts:
            if reason := self.accept(part):
                self.choice.refused[part] = reason
            elif part.owner in spaces:
                readable.append(part)
        for part, found in self.each(readable, lambda part: self.source.segment(part, spaces[part.owner])):
            if isinstance(found, Item):
                self.choice.items[part] = found
            else:
                self.note(part, found)

    def note(self, part: StorePart, found: object) -> None:
        if isinstance(found, Fact):
            self.choice.faults[part] = found.what

    # What the filters mean

    @property
    def url(self) -> str:
        return self.source.place.url

    @property
    def asked(self) -> str:
        words = [f"--ckpt {glob}" for glob in self.selection.ckpts] + [
            f"--space {key}" for key in self.selection.spaces
        ]
        words += [f"--data {name}" for name in self.selection.data]
        names = sorted({name for item in self.choice.items.values() for name in item.backbones})
        there = some(names, 8) or some([f"space {short(key)}" for key in sorted(self.choice.spaces)], 8) or "none"
        refused = [f"{len(self.choice.refused)} segments are refused: {why}" for why in self.choice.refused.values()][
            :1
        ]
        return "; ".join([" ".join(words) or "no filter", f"there: {there}", *refused])

    def families(self) -> dict[str, list[str]]:
        """The chosen spaces by key, each with the older ones that serve for it; the segments of both are read.

        A space is of a backbone if any of its rows, or of those that serve for it, were extracted under its name.
        """
        self.read_spaces()
        for part, older in self.each(self.source.of_kind("adopted"), self.source.adopted):
            self.note(part, older)
            if isinstance(older, str):
                self.adopted[part] = older
        roots = [key for key in sorted(self.choice.spaces) if self.selection.keys(key)]
        families = {key: [k for k in _reach(key, self.adopted) if k in self.choice.spaces] for key in roots}
        if not families:
            raise UsageError(f"no feature space in {self.url} is what was asked for: {self.asked}.")
        needed = {*families, *_all(families.values())}
        self.read_segments(part for part in self.source.of_kind("segment") if part.owner in needed)
        chosen = {
            key: older
            for key, older in families.items()
            if self.selection.names(name for k in (key, *older) for i in self.items_of(k) for name in i.backbones)
        }
        if not chosen:
            raise UsageError(f"no backbone in {self.url} is what was asked for: {self.asked}.")
        return chosen

    def items_of(self, key: str) -> list[Item]:
        return [item for part, item in sorted(self.choice.items.items()) if part.owner == key]

    def keys_of(self, item: Item) -> UInt8[np.ndarray, "n 32"]:
        return self.source.keys(item, self.choice.spaces[item.part.owner])

    def holding(self, items: Iterable[Item], wanted: np.ndarray) -> list[StorePart]:
        """The segments with a row of any of these images."""
        found = self.each(items, lambda item: bool(_among(self.keys_of(item), wanted).any()))
        for item, holds in found:
            self.note(item.part, holds)
        return [item.part for item, holds in found if holds is True]

    def winners(self, key: str, wanted: np.ndarray) -> tuple[set[StorePart], Bool[np.ndarray, " m"]]:
        """The segments of a space that readers take these images' rows from, and which images it does not have."""

        def rows(item: Item) -> np.ndarray:
            return np.flatnonzero(_among(wanted, np.sort(_as_bytes(self.keys_of(item)))))

        found = dict(self.each(self.items_of(key), rows))
        taken, left = set(), np.ones(len(wanted), dtype=bool)
        for item in sorted(found, key=lambda item: (self.tier(item.part), item.part.digest)):
            self.note(item.part, rows_of := found[item])
            if isinstance(rows_of, np.ndarray) and left[rows_of].any():
                left[rows_of] = False
                taken.add(item.part)
        return taken, left

    def collections(self, only: str | None = None) -> list[Collection]:
        """Versions of the collections asked for, or of all where none is."""
        asked = [only] if only else list(self.selection.data)
        parts = list(self.source.of_kind("collection"))
        for text in asked:
            name, _, digest = text.partition("@")
            if not any(part.owner == name and part.digest.startswith(digest) for part in parts):
                versions_of = [f"{name}@{short(part.digest)}" for part in parts if part.owner == name]
                known = some(sorted(versions_of or {part.owner for part in parts}), 8) or "none"
                raise UsageError(f"{self.url} has no collection {text} (there: {known}).")
        chosen = [part for part in parts if not asked or _is_of(part.owner, part.digest, asked)]
        versions = []
        for part, found in self.each(chosen, self.source.collection):
            if isinstance(found, Collection):
                versions.append(found)
            else:
                self.note(part, found)
        if asked and not versions:
            raise BBError(
                f"collection {some(asked)} in {self.url} is damaged: {some(list(self.choice.faults.values()))}."
            )
        return versions

    def seen_in(self, versions: Sequence[Collection], items: Sequence[Item]) -> list[Collection]:
        """The versions of which some segment has a row."""
        seen: list[Collection] = []
        undecided = {version.digest: (version, _digests([version])) for version in versions}
        for start in range(0, len(items), self.jobs):
            if not undecided:
                break
            for item, keys in self.each(items[start : start + self.jobs], self.keys_of):
                self.note(item.part, keys)
                for digest, (_, wanted) in list(undecided.items()):
                    if isinstance(keys, np.ndarray) and _among(keys, wanted).any():
                        seen.append(undecided.pop(digest)[0])
        return seen

    # Taking

    def take_segments(self, chosen: AbstractSet[StorePart], families: Mapping[str, Sequence[str]]) -> None:
        sound = {part for part in chosen if part not in self.choice.faults}
        self.choice.parts |= sound
        holding = {part.owner for part in sound}
        keys = set(holding)
        for key, older in families.items():
            keys |= {key, *older} if holding.intersection(older) else set()
        self.choice.parts |= {part for part in self.source.of_kind("space") if part.digest in keys}
        heads = (head_part(self.choice.spaces[key]) for key in keys if key in self.choice.spaces)
        self.choice.parts |= {part for part in heads if part in self.source.parts and part is not None}
        self.choice.parts |= {part for part, older in self.adopted.items() if part.owner in keys and older in keys}

    def take_collections(self, versions: Iterable[Collection]) -> None:
        digests = {version.digest for version in versions}
        self.choice.parts |= {part for part in self.source.of_kind("collection") if part.digest in digests}

    def take_labels(self, versions: Sequence[Collection], task: str | None = None) -> list[list[str]]:
        """Takes the labels tables all of whose images a version has, and returns the images of each."""
        tables = []
        parts = [part for part in self.source.of_kind("labels") if task in (None, part.owner)]
        for part, ids in self.each(parts, self.source.labelled):
            self.note(part, ids)
            if isinstance(ids, list) and any((version.find(ids) >= 0).all() for version in versions):
                self.choice.parts.add(part)
                tables.append(ids)
        return tables

    def take_models(self, keys: AbstractSet[str]) -> None:
        """Takes the models for these spaces, with --data only those that were fitted on such a collection."""
        parts = [part for part in self.source.of_kind("model") if part.owner in keys]
        if not self.selection.data:
            self.choice.parts |= set(parts)
            return
        for part, found in self.each(parts, self.source.fitted_on):
            self.note(part, found)
            if isinstance(found, tuple) and _is_of(found[0], found[1], self.selection.data):
                self.choice.parts.add(part)

    def take_runs(self) -> None:
        for part, record in self.each(self.source.of_kind("run"), self.source.run):
            self.note(part, record)
            if isinstance(record, dict):
                backbones = record["backbones"] if isinstance(record["backbones"], list) else []
                data = self.selection.data
                of_data = not data or _is_of(str(record["collection_name"]), str(record["collection"]), data)
                if of_data and self.selection.names(backbones) and self.selection.keys(record["space"]):
                    self.choice.parts.add(part)

    def take_kind(self, kind: Kind) -> None:
        self.choice.parts |= set(self.source.of_kind(kind))


def _reach(key: str, adopted: Mapping[StorePart, str]) -> list[str]:
    """The spaces that serve for a space, directly or through others, without itself."""
    found, waiting = {key: None}, [key]
    while waiting:
        newer = waiting.pop()
        fresh = sorted({older for part, older in adopted.items() if part.owner == newer} - found.keys())
        found.update(dict.fromkeys(fresh))
        waiting += fresh
    return list(found)[1:]


def _is_of(name: str, digest: str, asked: Iterable[str]) -> bool:
    pairs = [text.partition("@") for text in asked]
    return any(name == wanted and digest.startswith(begin) for wanted, _, begin in pairs)


def _all(lists: Iterable[Sequence[str]]) -> list[str]:
    return list(dict.fromkeys(item for items in lists for item in items))


def _as_bytes(digests: UInt8[np.ndarray, "n 32"]) -> np.ndarray:
    return np.ascontiguousarray(digests).view("S32").reshape(-1)


def _digests(versions: Iterable[Collection], image_ids: Sequence[str] | None = None) -> np.ndarray:
    """The distinct image digests of versions, or of some of their images, sorted, as S32."""
    each_of = [version.all_digests() if image_ids is None else version.digests(image_ids) for version in versions]
    return np.unique(np.concatenate([np.empty(0, dtype="S32"), *map(_as_bytes, each_of)]))


def _among(digests: np.ndarray, ordered: np.ndarray) -> Bool[np.ndarray, " n"]:
    """Which digests, (n, 32) uint8 or (n,) S32, are in a sorted array of S32."""
    found = digests if digests.dtype.kind == "S" else _as_bytes(digests)
    if not len(ordered):
        return np.zeros(len(found), dtype=bool)
    return ordered[np.minimum(np.searchsorted(ordered, found), len(ordered) - 1)] == found
