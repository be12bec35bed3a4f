"""Images that labels name and feature spaces do not have: named with the reason, and left out where that is asked
for."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bb.store import BBError, Collection, FeatureSpace, Store, UsageError
from bb.store.format.collection import some
from bb.store.format.space import short

AT_MOST = 0.01  # of the images that labels name
NOT_LISTED = "not in the collection"
NO_ROW = "not extracted"
_KEY = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class MissingPolicy:
    """What to do about images without features: stop, or leave them out up to a share of all that labels name.

    same_as  keys of feature spaces: what they do not have is left out, too
    """

    skip: bool = False
    at_most: float = AT_MOST
    same_as: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str, at_most: float | None = None, same_as: Sequence[str] | None = None) -> "MissingPolicy":
        """Of `--missing`, `--max-missing` and `--same-images-as`. Raises UsageError."""
        if text not in ("error", "skip"):
            raise UsageError(f"unknown --missing {text!r}: choose error or skip.")
        for option, given in (("--max-missing", at_most is not None), ("--same-images-as", bool(same_as))):
            if given and text == "error":
                raise UsageError(f"{option} says which images --missing skip leaves out: give --missing skip, too.")
        if at_most is not None and not 0 < at_most < 1:
            raise UsageError(f"--max-missing {at_most:g} is not a share of the images: give a number between 0 and 1.")
        return cls(text == "skip", AT_MOST if at_most is None else at_most, tuple(same_as or ()))

    def allowed(self, images: int) -> int:
        """How many of that many images may be missing."""
        return math.floor(images * self.at_most + 1e-9) if self.skip else 0

    @property
    def unusual(self) -> float | None:
        """The share that may be missing, where it is not the usual one: for a run's record."""
        return None if self.at_most == AT_MOST else self.at_most

    def keys(self, store: Store, spaces: Sequence[FeatureSpace]) -> tuple[str, ...]:
        """Of all spaces whose missing images are left out of runs over some spaces."""
        return (*(store.space(key).key for key in self.same_as), *(each.key for each in spaces))


STOP = MissingPolicy()


def missing_from(store: Store, space: FeatureSpace, collection: Collection, image_ids: Sequence[str]) -> dict[str, str]:
    """The images that a space has no features of, by ID in the order given, each with the reason as far as known."""
    rows = collection.find(image_ids)
    known = np.flatnonzero(rows >= 0)
    has = np.zeros(len(image_ids), dtype=bool)
    has[known] = store.has(space, collection.all_digests()[rows[known]])
    if has.all():
        return {}
    failures, listed = store.failures(collection.name, space), collection.all_digests()
    found = {}
    for i in np.flatnonzero(~has).tolist():
        digest = listed[rows[i]].tobytes().hex() if rows[i] >= 0 else None
        found[image_ids[i]] = failures.reason(image_ids[i], digest) or (NO_ROW if digest else NOT_LISTED)
    return found


def incomplete_spaces(store: Store, collection: Collection) -> Iterator[tuple[FeatureSpace, dict[str, str]]]:
    """The feature spaces that have features of some images of a collection but not of all, and what they do not
    have."""
    image_ids = collection.table["image_id"].to_list()
    for space in store.spaces():
        has = store.has(space, collection.all_digests())
        if has.any() and not has.all():
            yield space, missing_from(store, space, collection, image_ids)


def failed_of(missing: Mapping[str, str]) -> dict[str, str]:
    """Those among missing images of which it is known that they could not be embedded."""
    return {image_id: reason for image_id, reason in missing.items() if reason not in (NO_ROW, NOT_LISTED)}


def settle_missing(
    store: Store,
    spaces: Sequence[FeatureSpace],
    collection: Collection,
    image_ids: Sequence[str],
    policy: MissingPolicy,
) -> dict[str, str]:
    """The images to leave out: those that any of the spaces does not have, so that all are scored on the same ones.

    Raises BBError, naming images and remedies, where some are missing and the policy does not allow it.
    """
    spaces = [*spaces, *(store.space(key) for key in policy.same_as)]
    by_space = {space.key: missing_from(store, space, collection, image_ids) for space in spaces}
    missing = {image_id: reason for found in by_space.values() for image_id, reason in found.items()}
    if len(missing) <= policy.allowed(len(image_ids)):
        return dict(sorted(missing.items()))
    lines = [describe_missing(store, space, found) for space in spaces if (found := by_space[space.key])]
    worst = max(spaces, key=lambda space: len(by_space[space.key]))
    raise BBError(
        f"{len(missing)} of {len(image_ids)} images of {collection.name} have no features:\n"
        + "\n".join(f"  {line}" for line in lines)
        + f"\n{remedy(store, worst, collection, missing, len(image_ids), policy)}"
    )


def describe_missing(store: Store, space: FeatureSpace, missing: Mapping[str, str]) -> str:
    """A space and what it does not have, in a line."""
    name = ", ".join(store.backbones(space))
    return f"{name} (space {short(space.key)}) is missing {len(missing)}: {named(missing)}"


def named(missing: Mapping[str, str]) -> str:
    """The first of the images, with reasons."""
    return some([f"{image_id!r} ({reason})" for image_id, reason in missing.items()])


def remedy(
    store: Store,
    space: FeatureSpace,
    collection: Collection,
    missing: Mapping[str, str],
    of: int,
    policy: MissingPolicy,
) -> str:
    """How to get the features, and how to go on without them."""
    fill = store.to_fill(space, collection.name)
    share = math.ceil(1000 * len(missing) / of) / 1000
    bound = "" if share <= AT_MOST else f" --max-missing {share:g}"
    if policy.skip:
        skip = f"At most {policy.allowed(of)} may be left out, a share of {policy.at_most:g}"
        skip += f"; --max-missing {share:g} would do" if share < 1 else ""
    else:
        skip = f"To go on without them: --missing skip{bound}"
    if failed_of(missing):
        return f"Extracting the same files again fails again: replace them, then {fill}\n{skip}"
    return f"To fill them: {fill}\n{skip}"


def note_on(missing: Mapping[str, str]) -> str:
    """What a run says of the images that were left out."""
    n = len(missing)
    return (
        f"{n} image{'s' * (n != 1)} left out, since {'it has' if n == 1 else 'they have'} no features: {named(missing)}"
    )


def missing_record(
    missing: Mapping[str, str], max_missing: float | None, same_as: Sequence[str], space: FeatureSpace
) -> dict[str, Any]:
    """What the record of a run over a space keeps of the images that were left out; nothing where there were none.

    same_as  keys of the feature spaces whose missing images were left out
    """
    if not missing:
        return {}
    same_as = [key for key in same_as if key != space.key]
    return {
        "missing": dict(missing),
        **({} if max_missing is None else {"max_missing": max_missing}),
        **({"same_images_as": sorted(set(same_as))} if same_as else {}),
    }


def missing_of(record: Mapping[str, Any]) -> dict[str, str]:
    """The images that a run's record says were left out, with reasons; run.json is untrusted input."""
    found = record.get("missing")
    found = found if isinstance(found, dict) else {}
    return {str(image_id): str(reason) for image_id, reason in found.items()}


def max_missing_of(record: Mapping[str, Any]) -> float | None:
    """The `--max-missing` that a run's record keeps; None where it was not given, or can't be one."""
    share = record.get("max_missing")
    return share if type(share) is float and 0 < share < 1 else None


def same_images_of(record: Mapping[str, Any]) -> list[str]:
    """The keys of feature spaces for `--same-images-as` that a run's record keeps; without what can't be one."""
    keys = record.get("same_images_as")
    return [key for key in keys if isinstance(key, str) and _KEY.fullmatch(key)] if isinstance(keys, list) else []
