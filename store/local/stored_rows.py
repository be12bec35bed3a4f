"""Rows of a feature space that are read when they are asked for: for more of them than memory holds."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int, Num

from bb.store.local.row_index import RowIndex

_BLOCK_BYTES = 2**26


@dataclass(frozen=True, eq=False)
class StoredRows:
    """Rows in an order: `rows[[3, 1]]` and `rows[4:9]` read those as an array, by memory map.

    position  (n,) places in the index
    array     the name of the array in each segment
    """

    index: RowIndex
    position: Int[np.ndarray, " n"]
    array: str
    row_shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.position), *self.row_shape)

    @property
    def ndim(self) -> int:
        return 1 + len(self.row_shape)

    def __len__(self) -> int:
        return len(self.position)

    def __getitem__(self, rows: Int[np.ndarray, " k"] | slice) -> Num[np.ndarray, "k ..."]:
        position = self.position[rows]
        if not len(position):
            return np.empty((0, *self.row_shape), self.dtype)
        return self.index.gather(position, self.array)

    def take(self, rows: Int[np.ndarray, " k"]) -> "StoredRows":
        """Some of the rows, in that order; nothing is read."""
        return replace(self, position=self.position[rows])


def blocks(x: "np.ndarray | StoredRows") -> Iterator[Num[np.ndarray, "k ..."]]:
    """All rows in order, some 64 MiB at once."""
    each = max(1, int(np.prod(x.shape[1:])) * x.dtype.itemsize)
    size = max(1, _BLOCK_BYTES // each)
    for start in range(0, len(x), size):
        yield np.asarray(x[start : start + size])
