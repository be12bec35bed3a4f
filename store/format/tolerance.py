"""How far two embeddings of one image may be apart and still be the same, and by how much they are."""

import math

import numpy as np
from jaxtyping import Bool, Float, Num

from bb.store.format.space import FeatureSpace

# Largest relative distance |a - b| / max(|a|, |b|) of two rows of one image, by compute and stored dtype. Kernels of
# other devices and library versions add in another order; storing float16 alone rounds by up to 2^-11. What distances
# occur stands in docs/store.md.
TOLERANCE = {
    ("fp32", "float32"): 1e-3,
    ("fp32", "float16"): 2e-3,
    ("fp16", "float32"): 1e-2,
    ("fp16", "float16"): 1e-2,
    ("bf16", "float32"): 5e-2,
    ("bf16", "float16"): 5e-2,
}


def tolerance_of(space: FeatureSpace) -> float:
    """The largest relative distance of rows of one image in a space; the strictest for numerics that are unknown."""
    return TOLERANCE.get((str(space.numerics["compute"]), space.numerics["stored"]), min(TOLERANCE.values()))


def cosine_tolerance_of(space: FeatureSpace) -> float:
    """The largest cosine distance that goes with it: of vectors at relative distance r, the sine is at most r."""
    return 1 - math.sqrt(1 - tolerance_of(space) ** 2)


def relative_distance(a: Num[np.ndarray, "n ..."], b: Num[np.ndarray, "n ..."]) -> Float[np.ndarray, " n"]:
    """|a - b| / max(|a|, |b|) of each pair of rows, in float64; 0 where both are 0, inf where one is not finite."""
    flat_a, flat_b = _flat(a), _flat(b)
    largest = np.maximum(np.linalg.norm(flat_a, axis=1), np.linalg.norm(flat_b, axis=1))
    apart: Bool[np.ndarray, " n"] = largest > 0
    with np.errstate(invalid="ignore"):
        distance = np.linalg.norm(flat_a - flat_b, axis=1) / np.where(apart, largest, 1.0)
    return np.where(np.isfinite(distance), distance, np.inf)


def cosine_distance(a: Num[np.ndarray, "n ..."], b: Num[np.ndarray, "n ..."]) -> Float[np.ndarray, " n"]:
    """1 - cos of the angle between each pair of rows, in float64, 0 to 2; 0 where both are 0, 1 where one of them is.

    From the unit vectors' difference d as |d|² / 2, since 1 - cos itself loses all digits below 1e-16.
    """
    flat_a, flat_b = _flat(a), _flat(b)
    unit_a, unit_b = _unit(flat_a), _unit(flat_b)
    distance = ((unit_a - unit_b) ** 2).sum(axis=1) / 2
    one_is_zero = flat_a.any(axis=1) != flat_b.any(axis=1)
    return np.where(one_is_zero, 1.0, np.where(np.isfinite(distance), distance, 2.0))


def nearer_to_another(made: Num[np.ndarray, "n ..."], stored: Num[np.ndarray, "n ..."]) -> Bool[np.ndarray, " n"]:
    """Which rows made are nearer to another image's stored row than to their own.

    Where images differ by less than a coarse precision allows, this tells that rows were mixed up, and the distance
    does not: of features as they should be, only those of near copies are ever nearer to another's.
    """
    flat_made, flat_stored = _flat(made), _flat(stored)
    distances = [np.linalg.norm(flat_stored - row, axis=1) for row in flat_made]
    return np.array([distance.min() < distance[i] for i, distance in enumerate(distances)], dtype=bool)


def _flat(x: Num[np.ndarray, "n ..."]) -> Float[np.ndarray, "n d"]:
    return x.reshape(len(x), int(np.prod(x.shape[1:]))).astype(np.float64)


def _unit(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return x / np.where(norm > 0, norm, 1.0)
