"""Are stored features what this code makes of the images? A random sample is embedded anew and held against them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bb.extract.backbones.decoders import find_decoder
from bb.extract.backbones.device import Numerics
from bb.extract.backbones.name import BackboneName, pool_of, shared_name
from bb.extract.backbones.pool_grid import Patches, patches_of
from bb.extract.data.scan import Scan
from bb.extract.embedding.decoder import DecodeOptions
from bb.extract.pipeline.extractor import Extractor
from bb.extract.reproduce.sample import Images, Sampler, shuffled
from bb.store import BBError, FeatureSpace, Store, UsageError
from bb.store.format.collection import some
from bb.store.format.space import short
from bb.store.format.tolerance import (
    cosine_distance,
    cosine_tolerance_of,
    nearer_to_another,
    relative_distance,
    tolerance_of,
)
from bb.store.maintenance.diff import compare

MIXED_AMONG = 64  # rows, each held against all of the others


@dataclass
class Recomputed:
    """What came of one feature space.

    at_hand      images here that the space has rows of
    compared     of these, how many were embedded anew
    cosine_max, cosine_mean, relative_max    distances of the stored rows; the relative one, |a - b| / max(|a|, |b|),
                 sees lengths too, and decides: where it is in bounds, so is the cosine
    notes        what does not decide: other code, adopted rows, images that could not be embedded
    faults       what does: rows that are too far, or why nothing can be compared
    """

    space: FeatureSpace
    backbones: list[str]
    at_hand: int
    compared: int = 0
    cosine_max: float = 0.0
    cosine_mean: float = 0.0
    relative_max: float = 0.0
    notes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """As a JSON object, with what is allowed; distances are null where nothing was compared."""
        distances = {
            "cosine_max": self.cosine_max,
            "cosine_mean": self.cosine_mean,
            "relative_max": self.relative_max,
        }
        return {
            "space": self.space.key,
            "backbones": self.backbones,
            "at_hand": self.at_hand,
            "compared": self.compared,
            **{name: value if self.compared else None for name, value in distances.items()},
            "cosine_allowed": cosine_tolerance_of(self.space),
            "relative_allowed": tolerance_of(self.space),
            "notes": self.notes,
            "faults": self.faults,
        }

    def describe(self) -> str:
        """For people, in a line; faults and notes have lines of their own."""
        name = ", ".join(self.backbones) or "no backbone named"
        if not self.compared:
            return f"space {short(self.space.key)} ({name}): nothing compared"
        cosine, relative = cosine_tolerance_of(self.space), tolerance_of(self.space)
        return (
            f"space {short(self.space.key)} ({name}): {self.compared} of {self.at_hand} images embedded anew; cosine "
            f"distance at most {self.cosine_max:.2g}, mean {self.cosine_mean:.2g} ({cosine:.2g} is allowed); relative "
            f"distance at most {self.relative_max:.2g} ({relative:g} is allowed)"
        )


def recompute(
    store: Store,
    images: Images,
    spaces: Sequence[FeatureSpace],
    n: int,
    *,
    seed: int,
    names: Sequence[BackboneName] = (),
    device: str = "auto",
    batch_size: int | None = None,
    announce: Callable[[str], None] = lambda text: None,
) -> Iterator[Recomputed]:
    """Compares `n` images of each space, drawn by `seed`; spaces without an image available are passed over.

    names  backbones as a person wrote them: restricts the spaces, and says where local weights lie
    """
    given = {shared_name(name): name for name in names}
    sampler: Sampler | None = None
    made_by: tuple[BackboneName, DecodeOptions, dict[str, str], Patches] | None = None
    for space in sorted(spaces, key=lambda space: (store.backbones(space), space.key)):
        held, backbones = images.held(store, space), store.backbones(space)
        if not held or (given and not given.keys() & set(backbones)):
            continue
        result = Recomputed(space, backbones, len(held))
        try:
            name = replace(_loadable(backbones, given), pool=pool_of(space.output.get("pooling", "")))
            decode = DecodeOptions.of_view(space.view)
            wanted = (name, decode, space.numerics, patches_of(space))
            if made_by != wanted or sampler is None:
                announce(f"loading {name} for space {short(space.key)}")
                numerics = Numerics.resolve(device, space.numerics["compute"], space.numerics["stored"])
                decoder = find_decoder(decode, numerics.device)
                patch = patches_of(space)
                extractor = Extractor.load(name, decoder, numerics, patch=patch, batch_size=batch_size, compile=False)
                sampler, made_by = Sampler(extractor, images), wanted
            _compare(store, sampler, result, shuffled(held, seed), n)
        except BBError as error:
            result.faults.append(f"can't be compared: {error}")
        yield result


def changed(store: Store, collection: str, scan: Scan) -> list[str]:
    """IDs of available images that every version of the collection in the store gives to another image."""
    listed: dict[str, set[bytes]] = {}
    for version in store.collections(collection):
        for image_id, digest in version.table.select("image_id", "image_sha256").iter_rows():
            listed.setdefault(image_id, set()).add(digest)
    return [e.image_id for e in scan.entries if e.image_sha256 not in listed.get(e.image_id, {e.image_sha256})]


def _loadable(backbones: Sequence[str], given: Mapping[str, BackboneName]) -> BackboneName:
    """The name to load a space's backbone by. Raises UsageError where it names none that is available."""
    for text in backbones:
        if text in given:
            return given[text]
    if not backbones:
        raise UsageError("its segments name no backbone")
    name = BackboneName.parse(backbones[0])
    if name.path is not None:
        raise UsageError(f"it was made of a file, {backbones[0]}: give --ckpt with its path on this machine")
    return name


def _compare(store: Store, sampler: Sampler, result: Recomputed, order: list[bytes], n: int) -> None:
    space, extractor = result.space, sampler.extractor
    ours = next(each for each in extractor.spaces if each.kind == space.kind)
    differing = compare(space, ours).differing
    if "code" in differing:
        result.notes.append(f"its code {differing.pop('code')} here")
    if differing:
        described = "; ".join(f"{name}: {words}" for name, words in differing.items())
        result.faults.append(
            f"can't be compared, since {extractor.name} is another space here (stored against here): {described}"
        )
        return
    pairs = sampler.pairs(store, space, order, n)
    result.notes += [f"{image_id} was left out: {reason}" for image_id, reason in pairs.failed.items()]
    if not pairs.keys:
        result.faults.append("can't be compared: none of its available images can be embedded")
        return
    digests = np.frombuffer(b"".join(pairs.keys), dtype=np.uint8).reshape(-1, 32)
    adopted = store.adopted_from(space, digests)
    result.notes += [f"rows adopted from space {short(key)} are among them" for key in adopted]
    cosine, relative = cosine_distance(pairs.made, pairs.stored), relative_distance(pairs.made, pairs.stored)
    result.compared = len(pairs.keys)
    result.cosine_max, result.cosine_mean = float(cosine.max()), float(cosine.mean())
    result.relative_max = float(min(relative.max(), np.finfo(float).max))  # JSON has no word for infinity
    far = int((relative > tolerance_of(space)).sum())
    if far:
        worst = [sampler.images.entries[pairs.keys[i]].image_id for i in np.argsort(-relative)[:far]]
        result.faults.append(f"{far} of {len(relative)} rows are not what is made here; the worst: {some(worst)}")
    mixed = nearer_to_another(pairs.made[:MIXED_AMONG], pairs.stored[:MIXED_AMONG])
    if mixed.mean() > 0.5:
        share = f"{mixed.sum()} of {len(mixed)} rows"
        result.faults.append(f"{share} are nearer to those of other images than to their own: they are mixed up")
