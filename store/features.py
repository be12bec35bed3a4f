"""Stored features as one array, for `Store.features`: which space and collection, and which images do not have a
row."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Num, UInt8

from bb.store.errors import BBError, UsageError
from bb.store.format.collection import Collection, only_collection, some
from bb.store.format.space import FeatureSpace, short
from bb.store.local.failures import Failures
from bb.store.text.command import command

NO_ROW = "not extracted"
SHOWN = 10  # images in a notebook's table


@runtime_checkable
class FeatureSource(Protocol):
    """What is needed of a store; see the methods of `Store`."""

    @property
    def name(self) -> str: ...
    def spaces(self) -> list[FeatureSpace]: ...
    def space(self, key: str) -> FeatureSpace: ...
    def predecessors(self, space: FeatureSpace) -> list[FeatureSpace]: ...
    def backbones(self, space: FeatureSpace) -> list[str]: ...
    def collection_names(self) -> list[str]: ...
    def collections(self, name: str) -> list[Collection]: ...
    def failures(self, collection: str, space: FeatureSpace) -> Failures: ...
    def has(self, space: FeatureSpace, digests: UInt8[np.ndarray, "n 32"]) -> Bool[np.ndarray, " n"]: ...
    def read(self, space: FeatureSpace, collection: Collection, image_ids: Sequence[str]) -> np.ndarray: ...


@dataclass(frozen=True, eq=False, repr=False)
class Features:
    """Features of a collection's images. It unpacks to (image IDs, array).

    image_ids   of the rows, in the collection's order or in the order asked for
    array       (n, D), or (n, P, Dp) of patches, in the stored dtype; it may be a read-only memory map
    missing     images that were left out since they have no features: image ID to reason
    """

    image_ids: list[str]
    array: Num[np.ndarray, "n ..."]
    space: FeatureSpace
    collection: Collection
    missing: Mapping[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[list[str] | np.ndarray]:
        return iter((self.image_ids, self.array))

    def __len__(self) -> int:
        return len(self.image_ids)

    def __repr__(self) -> str:
        left_out = f", {len(self.missing)} images left out" if self.missing else ""
        return (
            f"Features({len(self)} images of {self.collection.name}, {self.array.dtype}{list(self.array.shape[1:])}, "
            f"space {short(self.space.key)}{left_out})"
        )

    def _repr_html_(self) -> str:
        rows = [(name, str(values)) for name, values in zip(self.image_ids[:SHOWN], self.array, strict=False)]
        rows += [(name, f"left out: {reason}") for name, reason in list(self.missing.items())[:SHOWN]]
        cells = "".join(f"<tr><td>{escape(name)}</td><td>{escape(text)}</td></tr>" for name, text in rows)
        return f"<table><caption>{escape(repr(self))}</caption>{cells}</table>"


def read_features(
    store: FeatureSource,
    ckpt: str | None = None,
    data: str | None = None,
    *,
    image_ids: Sequence[str] | None = None,
    space: str | None = None,
    kind: str = "img",
) -> Features:
    """See `Store.features`."""
    collection = only_version(store, data)
    wanted = list(image_ids) if image_ids is not None else collection.table["image_id"].to_list()
    chosen = store.space(space) if space else _space(store, collection, ckpt, kind)
    rows = collection.find(wanted)
    if (rows < 0).any():
        unknown = [name for name, row in zip(wanted, rows.tolist(), strict=True) if row < 0]
        raise BBError(f"collection {collection.name} has no image {some(unknown)}: see its table for those it has.")
    digests = collection.all_digests()[rows]
    has = store.has(chosen, digests)
    present = [name for name, there in zip(wanted, has.tolist(), strict=True) if there]
    failures = store.failures(collection.name, chosen)
    missing = {
        wanted[i]: failures.reason(wanted[i], digests[i].tobytes().hex()) or NO_ROW
        for i in np.flatnonzero(~has).tolist()
    }
    if image_ids is None:  # files that could not be read are in no collection
        missing |= failures.unread
    return Features(present, store.read(chosen, collection, present), chosen, collection, missing)


def only_version(store: FeatureSource, data: str | None) -> Collection:
    """The collection NAME or NAME@DIGEST; the store's only one if None. Raises UsageError where several differ."""
    name, _, digest = (data or only_collection(store.collection_names())).partition("@")
    versions = [version for version in store.collections(name) if version.digest.startswith(digest)]
    if not versions:
        known = ", ".join(store.collection_names()) or "none"
        raise UsageError(f"{store.name} has no collection {data!r}; it has {known}.")
    if any(not version.same_images(versions[0]) for version in versions[1:]):
        listed = ", ".join(f"{name}@{short(version.digest)} ({len(version)} images)" for version in versions)
        raise UsageError(f"{store.name} has several versions of collection {name}: choose {listed}.")
    return versions[0]


def _space(store: FeatureSource, collection: Collection, ckpt: str | None, kind: str) -> FeatureSpace:
    """The one space of a kind that holds most images: of a backbone, or of the store's only one."""
    spaces = [space for space in store.spaces() if space.kind == kind]
    names = {space.key: store.backbones(space) for space in spaces}
    spaces = [space for space in spaces if ckpt is None or set(spellings(ckpt)) & set(names[space.key])]
    if not spaces:
        known = sorted({name for given in names.values() for name in given})
        extract = command("extract", ckpt=ckpt or "CKPT", data=f"{collection.name}=DIR", store=store.name)
        raise UsageError(
            f"{store.name} has no {kind} features of {ckpt or 'any backbone'}; it has those of "
            f"{', '.join(known) or 'none'}. To make them: {extract}"
        )
    replaced = {older.key for space in spaces for older in store.predecessors(space)}
    spaces = [space for space in spaces if space.key not in replaced] or spaces
    counts = [int(store.has(space, collection.all_digests()).sum()) for space in spaces]
    best = [space for space, count in zip(spaces, counts, strict=True) if count == max(counts)]
    if len(best) > 1:
        listed = ", ".join(f"{short(space.key)} ({', '.join(names[space.key])})" for space in best)
        raise UsageError(f"{store.name} has {len(best)} feature spaces for this: choose with space=, of {listed}.")
    return best[0]


def spellings(ckpt: str) -> tuple[str, ...]:
    """How a store may have the name of a backbone: as it is written, or with the library that a bare name is of."""
    if ckpt.startswith("timm-vit:"):
        return (f"timm:{ckpt.removeprefix('timm-vit:')}",)
    return (ckpt, f"open_clip:{ckpt}")
