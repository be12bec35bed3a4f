"""What an extraction would do, without doing it: nothing is written, downloaded or computed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bb.extract.backbones.device import Numerics
from bb.extract.backbones.hub import download_bytes
from bb.extract.backbones.name import BackboneName, shared_name
from bb.extract.backbones.pool_grid import Patches
from bb.extract.data.scan import Scan
from bb.extract.embedding.decoder import Decoder
from bb.extract.pipeline.embed import EmbedPlan
from bb.extract.pipeline.extractor import Extractor
from bb.extract.reproduce.adopt import SAMPLE, candidates
from bb.extract.reproduce.sample import Images
from bb.store import FeatureSpace, Store
from bb.store.maintenance.diff import nearest


@dataclass(frozen=True)
class Forecast:
    """One backbone on one collection.

    download  bytes of weights to fetch, 0 where none, None where their number is not known
    spaces    keys of the feature spaces; none while the weights, which decide them, are not here
    present, missing, store_bytes     None likewise
    nearest   for each space that the store does not have, the key of the nearest one it has ("nearest", null where
              there is none of its kind), and the fields in which that differs from it, in words ("differs")
    adopting  older spaces of other code that would be tried: how many missing images each fills, how many are compared
    known     while the weights are not here: the store's spaces of this name, with the images that each holds
    """

    backbone: str
    collection: str
    images: int
    download: int | None
    spaces: list[str] = field(default_factory=list)
    present: int | None = None
    missing: int | None = None
    store_bytes: int | None = None
    nearest: list[dict[str, Any]] = field(default_factory=list)
    adopting: list[dict[str, Any]] = field(default_factory=list)
    known: list[dict[str, Any]] = field(default_factory=list)


def forecast(
    store: Store | None,
    name: BackboneName,
    decoder: Decoder,
    numerics: Numerics,
    scans: Mapping[str, Scan],
    *,
    patch: Patches,
    adopt: bool,
) -> Iterator[Forecast]:
    """Of one backbone, for each collection. `store` is None where there is none yet.

    Weights that are here are loaded, since they are part of what a feature space is.
    """
    download = download_bytes(name)
    if download != 0:
        for collection, scan in scans.items():
            known = _known(store, name, Images.of({collection: scan}))
            yield Forecast(str(name), collection, len(scan.sources), download, known=known)
        return
    spaces = Extractor.load(name, decoder, numerics, patch=patch, batch_size=None, compile=False).spaces
    everything = Images.of(scans)
    there = {space.key for space in store.spaces()} if store else set()
    adopting = [trial for space in spaces for trial in _adopting(store, space, everything)] if store and adopt else []
    for collection, scan in scans.items():
        plan = EmbedPlan.make(store, spaces, scan.entries)
        yield Forecast(
            str(name),
            collection,
            len(scan.sources),
            download,
            [space.key for space in spaces],
            plan.present,
            len(plan.wanted),
            plan.store_bytes(spaces),
            [_nearest(store, space) for space in spaces if space.key not in there],
            adopting,
        )


def _nearest(store: Store | None, space: FeatureSpace) -> dict[str, Any]:
    found = nearest(space, store.spaces() if store else [])
    return {
        "space": space.key,
        "kind": space.kind,
        "nearest": found.b.key if found else None,
        "backbones": store.backbones(found.b) if store and found else [],
        "differs": found.differing if found else {},
    }


def _adopting(store: Store, space: FeatureSpace, images: Images) -> Iterator[dict[str, Any]]:
    for older, fills in candidates(store, space, images):
        sample = min(SAMPLE, len(images.held(store, older)))
        yield {"space": space.key, "older": older.key, "fills": fills, "sample": sample}


def _known(store: Store | None, name: BackboneName, images: Images) -> list[dict[str, Any]]:
    if store is None:
        return []
    return [
        {"space": space.key, "kind": space.kind, **space.numerics, "images": len(images.held(store, space))}
        for space in store.spaces()
        if shared_name(name) in store.backbones(space)
    ]
