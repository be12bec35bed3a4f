"""Collects rows of one feature space and publishes them, a segment at a time."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Num, UInt8

from bb.store.format.damaged import group_damage
from bb.store.format.space import FeatureSpace
from bb.store.store import Store

MAX_ROWS = 8192
MAX_BYTES = 64 * 2**20
MAX_SECONDS = 60.0
AT_ONCE = 3  # segments published at a time


@dataclass
class SegmentWriter:
    """A segment closes at 8,192 rows, at about 64 MiB of features or after 60 seconds, whichever comes first.

    Three at most are published in the background, since hashing and waiting for the disk leave time to fill the next.
    What is added but not in `published` is what a crash can lose. `provenance` stands in every segment, with the time
    of closing as `made` (UTC).
    """

    store: Store
    space: FeatureSpace
    provenance: Mapping[str, Any]
    clock: Callable[[], float] = time.monotonic
    published: list[str] = field(default_factory=list)
    _keys: list[np.ndarray] = field(default_factory=list)
    _ids: list[str] = field(default_factory=list)
    _features: list[np.ndarray] = field(default_factory=list)
    _damaged: dict[int, str] = field(default_factory=dict)
    _opened: float = 0.0
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(AT_ONCE), repr=False)
    _under_way: list["Future[str]"] = field(default_factory=list)

    @property
    def max_rows(self) -> int:
        row_bytes = int(np.prod(self.space.row_shape)) * self.space.dtype.itemsize
        return max(1, min(MAX_ROWS, MAX_BYTES // row_bytes))

    def add(
        self,
        image_sha256: UInt8[np.ndarray, "b 32"],
        image_ids: Sequence[str],
        features: Num[np.ndarray, "b ..."],
        damaged: Mapping[int, str] = MappingProxyType({}),
    ) -> None:
        """Adds rows in the space's stored dtype and begins to publish what is full or old enough.

        damaged  of rows made of damaged images, by their place among these, what is wrong with the image

        What goes wrong in the background is raised by the next call.
        """
        self._settle(AT_ONCE)
        start = 0
        while start < len(image_ids):
            if not self._ids:
                self._opened = self.clock()
            stop = min(len(image_ids), start + self.max_rows - len(self._ids))
            here = range(start, stop)
            self._damaged |= {len(self._ids) + here.index(row): why for row, why in damaged.items() if row in here}
            self._keys.append(image_sha256[start:stop])
            self._ids.extend(image_ids[start:stop])
            self._features.append(features[start:stop])
            start = stop
            if len(self._ids) >= self.max_rows or self.clock() - self._opened >= MAX_SECONDS:
                self._close_segment()

    def close(self) -> None:
        """Publishes the open segment, if it has rows, and waits until all is published."""
        self._close_segment()
        self.wait()

    def wait(self) -> None:
        """Waits until every segment that was closed is published."""
        self._settle(0)

    def _close_segment(self) -> None:
        if not self._ids:
            return
        self._settle(AT_ONCE - 1)
        made = datetime.now(UTC).isoformat(timespec="seconds")
        segment = self._pool.submit(
            self.store.put_segment,
            self.space,
            np.concatenate(self._keys),
            self._ids,
            self._features[0] if len(self._features) == 1 else np.concatenate(self._features),
            {**self.provenance, **group_damage(self._damaged), "made": made},
        )
        self._under_way.append(segment)
        self._keys, self._ids, self._features, self._damaged = [], [], [], {}

    def _settle(self, most: int) -> None:
        """Waits until no more than that many segments are under way."""
        while self._under_way and (len(self._under_way) > most or self._under_way[0].done()):
            self.published.append(self._under_way.pop(0).result())
