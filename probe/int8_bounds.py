"""Upper bounds of cosines from products of 8-bit integers, which take a third of the time of float32 products.

With u and v unit vectors, c any centre, p = u - c, r = v - c, and p̂, r̂ what integers of 8 bits by a scale make of them,

    u·v = p·r + p·c + v·c        p·r <= p̂·r̂ + |p̂| |r - r̂| + |p - p̂| |r|

by the Cauchy–Schwarz inequality. p̂·r̂ is exact but for its scales, and all norms are measured, so the bound holds
whatever the features are; it is about 0.015 above the cosine where features are like noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64
from numba.core import config
from numba.core.registry import cpu_target

from bb.probe.int8_kernels import GALLERY, QUERIES, collect, quantise

LARGEST_D = 1 << 17  # 128 x 127 times that is an int32


def is_possible(d: int) -> bool:
    """Whether numba compiles for a processor that has the instruction, and sums of d products fit."""
    _, _, features = cpu_target.target_context.codegen().magic_tuple()
    return d <= LARGEST_D and "+avx512vnni" in features.split(",") and not config.DISABLE_JIT


@dataclass(frozen=True)
class Int8Rows:
    """Unit vectors less a centre, as integers: p̂ = scale × integers. Padded to whole panels of rows and steps.

    word    (panels, steps, rows of a panel) of four integers of 8 bits, aligned to 64 bytes
    total   -128 times the sum of each row's integers
    factor  of queries the scale, |p̂|, |p - p̂|, p·c + SLACK; of the gallery the scale, |r - r̂|, |r|, v·c, which is -inf
            where a row is padding: so a bound is the sum of their products and of the last ones
    """

    word: Int32[np.ndarray, "p s r"]
    total: Int32[np.ndarray, "p r"]
    factor: Float32[np.ndarray, "p 4 r"]

    @classmethod
    def of(
        cls,
        x: Float32[np.ndarray, "n d"],
        inverse: Float64[np.ndarray, " n"],
        centre: Float64[np.ndarray, " d"],
        *,
        asking: bool,
    ) -> "Int8Rows":
        """Rows and one over their norms (0 of a zero vector), as queries or as the gallery."""
        rows, steps = QUERIES if asking else GALLERY, -(-x.shape[1] // 8) * 2
        panels = -(-len(x) // rows)
        room = np.empty(panels * steps * rows + 16, np.int32)
        word = room[-room.ctypes.data % 64 // 4 :][: panels * steps * rows].reshape(panels, steps, rows)
        total, factor = np.zeros((panels, rows), np.int32), np.zeros((panels, 4, rows), np.float32)
        quantise(x, inverse, centre, asking, word, total, factor)
        return cls(word, total, factor)


def choose_centre(x: Float32[np.ndarray, "n d"], inverse: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " d"]:
    """The mean of the unit vectors or zero: that around which integers are nearer to some of the rows."""
    some = slice(None, None, len(x) // 256 + 1)
    mean = (inverse.astype(np.float32) / np.float32(len(x)) @ x).astype(np.float64)

    def error(centre: Float64[np.ndarray, " d"]) -> float:
        return float(Int8Rows.of(x[some], inverse[some], centre, asking=False).factor[:, 1].sum())

    return min(np.zeros(x.shape[1]), mean, key=error)


@dataclass(frozen=True)
class Candidates:
    """Rows of the gallery with the greatest upper bounds of their cosines with each query.

    bound, row  (q, c) the first `count` of each query
    floor       (q,) no other row's bound is greater
    """

    bound: Float32[np.ndarray, "q c"]
    row: Int32[np.ndarray, "q c"]
    count: Int64[np.ndarray, " q"]
    floor: Float32[np.ndarray, " q"]

    @classmethod
    def of(
        cls, queries: Int8Rows, gallery: Sequence[Int8Rows], row: Int32[np.ndarray, " n"], wanted: int
    ) -> "Candidates":
        """About `wanted` of each query, padding included.

        row  numbers of the gallery's rows, which are in random order: the first ones tell about how great the bounds
             of those wanted are
        """
        q, room, seen = queries.total.size, 2 * wanted + 2 * GALLERY, 0
        bound, rows = np.empty((q, room), np.float32), np.empty((q, room), np.int32)
        count, floor = np.zeros(q, np.int64), np.full(q, -np.inf, np.float32)
        for part in gallery:
            collect(
                queries.word, queries.total, queries.factor, part.word, part.factor,
                row, seen, wanted, bound, rows, count, floor,
            )  # fmt: skip
            seen += part.total.size
        return cls(bound, rows, count, floor)
