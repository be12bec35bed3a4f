"""Tracks which images each backbone still has to embed, and drops those that other processes publish meanwhile."""

import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Int, UInt8

from bb.extract.backbones.feature_spaces import Spaces
from bb.store import Entry, Store

GRACE = 0.1  # seconds, and a fiftieth of the time that passed, may go into looking what others published
SHARE = 0.02


@dataclass
class MissingImages:
    """The images that at least one network does not have, each once, known by their place in `entries`.

    store   all are missing where there is none
    spaces  of each network
    wanted  of each network, one entry per image that it does not have
    """

    store: Store | None
    spaces: Sequence[Spaces]
    wanted: Sequence[Sequence[Entry]]
    entries: list[Entry] = field(init=False)
    _keys: UInt8[np.ndarray, "n 32"] = field(init=False)
    _asked: list[Bool[np.ndarray, " n"]] = field(init=False)
    _absent: dict[str, Bool[np.ndarray, " n"]] = field(default_factory=dict)
    _started: float = field(default_factory=time.monotonic)
    _spent: float = 0.0

    def __post_init__(self) -> None:
        union = {entry.image_sha256: entry for wanted in self.wanted for entry in wanted}
        self.entries = list(union.values())
        place = {digest: i for i, digest in enumerate(union)}
        self._keys = keys_of(self.entries)
        self._asked = []
        for wanted in self.wanted:
            asked = np.zeros(len(self.entries), dtype=bool)
            asked[[place[entry.image_sha256] for entry in wanted]] = True
            self._asked.append(asked)
        self._look()

    def refresh(self) -> None:
        """Looks again what the store does not have, unless looking took its share of the time already."""
        if self._spent <= GRACE + SHARE * (time.monotonic() - self._started):
            self._look()

    def _look(self) -> None:
        started = time.monotonic()
        for space in {space.key: space for spaces in self.spaces for space in spaces}.values():
            present = np.zeros(len(self._keys), bool) if self.store is None else self.store.has(space, self._keys)
            self._absent[space.key] = ~present
        self._spent += time.monotonic() - started

    def __iter__(self) -> Iterator[int]:
        """Places of images, from a random one on: two processes on one store should not run through it in step."""
        n = len(self.entries)
        start = secrets.randbelow(n) if n else 0
        for turn in range(n):
            yield (start + turn) % n

    def networks(self, place: int) -> list[int]:
        """Which networks do not have that image now."""
        return [job for job in range(len(self.spaces)) if self.of(job, place)]

    def counts(self) -> Int[np.ndarray, " n"]:
        """How many networks do not have each image now."""
        return np.sum([self._lacked_by(job) for job in range(len(self.spaces))], axis=0, dtype=int)

    def _lacked_by(self, job: int) -> Bool[np.ndarray, " n"]:
        return self._asked[job] & np.logical_or.reduce([self._absent[space.key] for space in self.spaces[job]])

    def of(self, job: int, place: int) -> bool:
        """Whether that network does not have that image now."""
        return bool(self._asked[job][place]) and any(self._absent[space.key][place] for space in self.spaces[job])

    def keys(self, places: Sequence[int]) -> UInt8[np.ndarray, "n 32"]:
        return self._keys[list(places)]

    def rows(self, space: str, places: Sequence[int]) -> Bool[np.ndarray, " n"]:
        """Which of these images that space does not have now."""
        return self._absent[space][list(places)]


def keys_of(entries: Iterable[Entry]) -> UInt8[np.ndarray, "n 32"]:
    """The image digests."""
    return np.frombuffer(b"".join(entry.image_sha256 for entry in entries), dtype=np.uint8).reshape(-1, 32)
