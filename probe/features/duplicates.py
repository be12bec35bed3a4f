"""Near-duplicates by their features: a photograph and its re-encoded, resized or cropped copy.

All pairs are looked at, though few of them exactly. Random hyperplanes through the features' mean give each row a
sketch of bits; two rows at an angle θ differ in each bit with probability θ/π, independently (Charikar, "Similarity
estimation techniques from rounding algorithms", STOC 2002). So counting bits sieves out the pairs whose cosine is
surely below the threshold, in about 0.9 ns each, and the cosine of those that are left is computed. How many are missed
is known beforehand and does not depend on the data: see MISS.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int64, UInt64
from joblib import cpu_count
from scipy.special import bdtr
from threadpoolctl import threadpool_limits

from bb.probe.features.duplicate_kernels import sieve
from bb.store.errors import BBError, UsageError

# 296 photographs of newt-mini with six copies each (JPEG 75 and 50, half size, crops of 95, 90 and 80 % a side) by
# EfficientNet-Lite 0: 99.65 % of the pairs of one photograph are found, 99.98 % of those found are such. No two
# photographs come above 0.59; 0.60 and 0.65 keep both above 99 %, too. scripts/bench/duplicates.py measures it.
COSINE = 0.62
MISS = 5e-4  # most of the pairs right at the threshold that each of the two sieves drops; of closer ones far fewer
MAX_PAIRS = 20_000_000
_BITS, _FIRST = 512, 256  # of a sketch, and of those that the first sieve counts
_BLOCK = 8192  # rows that are float32 at once
_ROWS = 1024  # of a task
_ROOM = 2**20  # candidates of a task


@dataclass(frozen=True, eq=False)
class DuplicatePairs:
    """Rows that look alike, in order: rows[:, 0] < rows[:, 1]; with the cosine of their centred features."""

    rows: Int64[np.ndarray, "m 2"]
    cosine: Float32[np.ndarray, " m"]


def near_duplicates(
    features: Float[np.ndarray, "n d"], *, cosine: float = COSINE, jobs: int | None = None, max_pairs: int = MAX_PAIRS
) -> DuplicatePairs:
    """The pairs of rows whose features, less the mean of all rows, have at least this cosine.

    features  (n, d) float16 or float32, finite; may be a memory map, which is read in blocks
    cosine    the default is calibrated on photographs with a pretrained network (docs/labels.md)
    jobs      threads; all cores where None
    Takes about (n² / 2) × 0.9 ns of one core, and 64 bytes a row. Each pair is found with a probability of at least
    1 - 2 MISS; those found are exact. The same rows give the same pairs. Errors: UsageError for a cosine outside of
    0.3 to 1, BBError where there are more than `max_pairs`.
    """
    if not 0.3 <= cosine < 1:
        raise UsageError(f"a threshold of {cosine} finds no near-duplicates; choose a cosine from 0.3 to 0.999.")
    n = len(features)
    mean = sum((block.sum(0, dtype=np.float64) for _, block in _blocks(features)), np.zeros(features.shape[1])) / max(
        n, 1
    )
    centre = mean.astype(np.float32)
    sketch, norm = _sketches(features, centre)
    differs = np.arccos(cosine) / np.pi
    cuts = [np.uint64(np.searchsorted(bdtr(np.arange(bits), bits, differs), 1 - MISS)) for bits in (_FIRST, _BITS)]

    def pairs_of(start: int, stop: int, room: int) -> DuplicatePairs:
        found = np.empty((room, 2), np.int64)
        count = sieve(sketch, start, stop, *cuts, found)
        if count < 0 and stop - start > 1:
            middle = (start + stop) // 2
            return _joined([pairs_of(start, middle, room), pairs_of(middle, stop, room)], max_pairs)
        return pairs_of(start, stop, n) if count < 0 else _exact(features, centre, norm, found[:count], cosine)

    made: list[DuplicatePairs] = []
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(jobs or cpu_count()) as pool:
        for pairs in pool.map(lambda start: pairs_of(start, min(start + _ROWS, n), _ROOM), range(0, n, _ROWS)):
            made.append(pairs)
            if sum(len(each.rows) for each in made) > max_pairs:
                pool.shutdown(cancel_futures=True)
                _joined(made, max_pairs)
    return _joined(made, max_pairs)


def _blocks(features: Float[np.ndarray, "n d"]) -> Iterator[tuple[int, Float32[np.ndarray, "b d"]]]:
    for start in range(0, len(features), _BLOCK):
        yield start, np.asarray(features[start : start + _BLOCK], np.float32)


def _sketches(
    features: Float[np.ndarray, "n d"], centre: Float32[np.ndarray, " d"]
) -> tuple[UInt64[np.ndarray, "w n"], Float32[np.ndarray, " n"]]:
    """Each row's sketch, and the norm of its centred features."""
    planes = np.random.default_rng(0).standard_normal((len(centre), _BITS), np.float32)
    sketch = np.empty((_BITS // 64, len(features)), np.uint64)
    norm = np.empty(len(features), np.float32)
    for start, block in _blocks(features):
        x = block - centre
        norm[start : start + len(x)] = np.sqrt(np.einsum("nd,nd->n", x, x))
        sketch[:, start : start + len(x)] = np.packbits(x @ planes > 0, axis=1).view(np.uint64).T
    return sketch, norm


def _exact(
    features: Float[np.ndarray, "n d"],
    centre: Float32[np.ndarray, " d"],
    norm: Float32[np.ndarray, " n"],
    pairs: Int64[np.ndarray, "c 2"],
    cosine: float,
) -> DuplicatePairs:
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    values = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), _BLOCK):
        one, other = pairs[start : start + _BLOCK].T
        x, y = (np.asarray(features[rows], np.float32) - centre for rows in (one, other))
        length = norm[one] * norm[other]
        dots = np.einsum("nd,nd->n", x, y)
        values[start : start + len(one)] = np.divide(dots, length, out=np.zeros_like(dots), where=length > 0)
    near = values >= cosine
    return DuplicatePairs(pairs[near], values[near])


def _joined(parts: list[DuplicatePairs], max_pairs: int) -> DuplicatePairs:
    if (total := sum(len(part.rows) for part in parts)) > max_pairs:
        raise BBError(f"more than {max_pairs:,} pairs look alike ({total:,} so far); raise the threshold.")
    rows = [np.empty((0, 2), np.int64), *(part.rows for part in parts)]
    return DuplicatePairs(
        np.concatenate(rows), np.concatenate([np.empty(0, np.float32), *(part.cosine for part in parts)])
    )
