"""Which version of a collection is meant: the one that holds the images asked for, if only one can be."""

from collections.abc import Callable, Sequence
from datetime import datetime

import numpy as np
from jaxtyping import UInt8

from bb.store.errors import UsageError
from bb.store.format.collection import Collection, some
from bb.store.format.space import short
from bb.store.format.text import is_text_collection

SHOWN = 8  # versions in a message


class SeveralVersions(UsageError):
    """Versions that hold the images asked for, but not the same ones: which is meant is for a person to say."""

    def __init__(self, listed: str, versions: Sequence[Collection], remedy: str | None = None) -> None:
        name = versions[0].name
        remedy = remedy or f"Name the folder, --data {name}=DIR, for the version that it holds, or choose one"
        what = f"{len(versions)} versions of collection {name} disagree on the images asked for"
        super().__init__(f"{what}. {remedy}{listed}")
        self.listed, self.versions = listed, tuple(versions)

    def because(self, remedy: str) -> "SeveralVersions":
        """The same with another remedy, which ends before the list."""
        return SeveralVersions(self.listed, self.versions, remedy)


def choose_version(
    versions: Sequence[Collection],
    image_ids: Sequence[str],
    *,
    tolerated: int = 0,
    recorded: Callable[[Collection], datetime | None] = lambda version: None,
) -> Collection:
    """The version that holds these images; of several that agree on them, the newest.

    versions   of one collection, at least one
    tolerated  that many of the images may be missing; the versions that miss fewest are preferred
    recorded   when a version came into the store, where that is known

    Raises SeveralVersions where they disagree, BBError where none holds the images.
    """
    ordered = newest_first(versions, recorded)
    lacking = {v.digest: int((v.find(image_ids) < 0).sum()) for v in ordered}
    fewest = min(lacking.values())
    best = [v for v in ordered if lacking[v.digest] == fewest]
    if fewest > tolerated:
        best[0].digests(image_ids)  # raises, naming the images that are missing
    keys = [_digests(v, image_ids) for v in best]
    if any(not np.array_equal(other, keys[0]) for other in keys[1:]):
        raise SeveralVersions(_listed(best, keys, image_ids, recorded), best)
    return best[0]


def newest(versions: Sequence[Collection], recorded: Callable[[Collection], datetime | None]) -> Collection | None:
    """The version that came last into the store; None where there is none."""
    return next(iter(newest_first(versions, recorded)), None)


def newest_first(versions: Sequence[Collection], recorded: Callable[[Collection], datetime | None]) -> list[Collection]:
    return sorted(versions, key=lambda v: (-_seconds(recorded(v)), v.digest))


def describe_version(version: Collection, when: datetime | None) -> str:
    """Its size, and when it came into the store if that is known."""
    return f"{len(version)} {'texts' if is_text_collection(version.name) else 'images'}" + (
        f", recorded {when:%Y-%m-%d %H:%M}" if when else ""
    )


def version_with(
    versions: Sequence[Collection], image_ids: Sequence[str], digests: Sequence[bytes | None]
) -> Collection | None:
    """The first version in which these images have these digests; images whose digest is None don't count."""
    for version in versions:
        theirs = _digests(version, image_ids)
        if all(mine is None or mine == their.tobytes() for mine, their in zip(digests, theirs, strict=True)):
            return version
    return None


def _digests(version: Collection, image_ids: Sequence[str]) -> UInt8[np.ndarray, "n 32"]:
    """Zeros for an image that the version does not have."""
    rows = version.find(image_ids)
    found = np.zeros((len(rows), 32), dtype=np.uint8)
    found[rows >= 0] = version.all_digests()[rows[rows >= 0]]
    return found


def _listed(
    versions: Sequence[Collection],
    keys: Sequence[UInt8[np.ndarray, "n 32"]],
    image_ids: Sequence[str],
    recorded: Callable[[Collection], datetime | None],
) -> str:
    name = versions[0].name
    lines = []
    for version, digests in zip(versions[:SHOWN], keys, strict=False):
        when = recorded(version)
        words = [describe_version(version, when)]
        others = np.flatnonzero((digests != keys[0]).any(axis=1)).tolist()
        if others:
            n = len(others)
            words.append(f"{n} image{'s' * (n > 1)} not as in the first: {some([image_ids[i] for i in others])}")
        lines.append(f"  --data {name}@{short(version.digest)}  {', '.join(words)}")
    more = [f"  … and {len(versions) - SHOWN} more"] if len(versions) > SHOWN else []
    return "\n".join([" (newest first):" if recorded(versions[0]) else ":", *lines, *more])


def _seconds(when: datetime | None) -> float:
    return when.timestamp() if when else 0.0
