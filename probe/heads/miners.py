"""Miners: which triplets of a batch, and of its memory bank, a loss learns from."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

from bb.store.errors import UsageError

# What a miner is: from features and labels to triplets; the contract that miners.py fulfils.


@dataclass(frozen=True, eq=False)
class Triplets:
    """t triplets as places in a pool of features.

    pool     (m, d) the features mined in, or what a miner made of them
    anchor   (t,) places of anchors; they are among the first `anchors`
    positive (t,) places of features of the anchor's label, never the anchor itself
    negative (t,) places of features of another label
    """

    pool: Float[Tensor, "m d"]
    anchors: int
    anchor: Int[Tensor, " t"]
    positive: Int[Tensor, " t"]
    negative: Int[Tensor, " t"]

    def __len__(self) -> int:
        return len(self.anchor)


@runtime_checkable
class Miner(Protocol):
    def __call__(
        self, features: Float[Tensor, "n d"], labels: Int[Tensor, " n"], anchors: int | None = None
    ) -> Triplets:
        """Triplets among n features, of which the first `anchors` (all, if None) may be anchors.

        The others are a memory bank: they are positives and negatives only. There may be no triplets at all. Which
        ones there are is chosen without gradients; `pool` carries those of the features.
        """
        ...


def relations(labels: Int[Tensor, " n"], anchors: int) -> tuple[Bool[Tensor, "a n"], Bool[Tensor, "a n"]]:
    """Which features are positives of which anchor (itself is none), and which are negatives."""
    same = labels[:anchors, None] == labels[None]
    differ = ~same
    same[:, :anchors].fill_diagonal_(False)
    return same, differ


def squared_distances(features: Float[Tensor, "n d"], anchors: int) -> Float[Tensor, "a n"]:
    """|x - y|² of every anchor x and feature y, as |x|² + |y|² - 2 x·y, not below 0."""
    square = features.square().sum(-1)
    return (square[:anchors, None] + square[None] - 2 * features[:anchors] @ features.T).clamp_min(0)


# Which triplets of a batch are learned from: all, the hardest, the n hardest, or those of cluster centres.


class All:
    """Every triplet there is: b K (n - K) of them where each label has K features."""

    def __call__(
        self, features: Float[Tensor, "n d"], labels: Int[Tensor, " n"], anchors: int | None = None
    ) -> Triplets:
        a = len(features) if anchors is None else anchors
        same, differ = relations(labels, a)
        anchor, positive, negative = torch.where(same[:, :, None] & differ[:, None, :])
        return Triplets(features, a, anchor, positive, negative)


class HardMiner:
    """For each anchor its farthest positive and its nearest negative (Hermans, Beyer and Leibe, 2017)."""

    def __call__(
        self, features: Float[Tensor, "n d"], labels: Int[Tensor, " n"], anchors: int | None = None
    ) -> Triplets:
        a = len(features) if anchors is None else anchors
        same, differ = relations(labels, a)
        with torch.no_grad():
            distance = squared_distances(features, a)
            far, positive = distance.masked_fill(~same, -1).max(1)
            near, negative = distance.masked_fill(~differ, torch.inf).min(1)
            anchor = torch.nonzero((far >= 0) & near.isfinite())[:, 0]
        return Triplets(features, a, anchor, positive[anchor], negative[anchor])


class NHard:
    """For each anchor each of its n farthest positives with each of its m nearest negatives.

    positives  n, or (first, last) to pass over the very farthest, which may be errors: (2, 4) takes three
    negatives  m, or (first, last) likewise
    An anchor with fewer has triplets of those that it has.
    """

    def __init__(self, positives: int | tuple[int, int] = 2, negatives: int | tuple[int, int] = 10) -> None:
        self.positives, self.negatives = _places("positives", positives), _places("negatives", negatives)

    def __call__(
        self, features: Float[Tensor, "n d"], labels: Int[Tensor, " n"], anchors: int | None = None
    ) -> Triplets:
        a = len(features) if anchors is None else anchors
        same, differ = relations(labels, a)
        with torch.no_grad():
            distance = squared_distances(features, a)
            far, positive = _ranked(distance.masked_fill(~same, -1), self.positives, largest=True)
            near, negative = _ranked(distance.masked_fill(~differ, torch.inf), self.negatives, largest=False)
            anchor, p, n = torch.where((far >= 0)[:, :, None] & near.isfinite()[:, None, :])
        return Triplets(features, a, anchor, positive[anchor, p], negative[anchor, n])


class HardCluster:
    """For each label: its mean as anchor, its feature farthest from that, and the nearest mean of another label.

    The pool is the means followed by the features. Labels with one feature have no positive but the mean's only
    member, and are left out.
    """

    def __call__(
        self, features: Float[Tensor, "n d"], labels: Int[Tensor, " n"], anchors: int | None = None
    ) -> Triplets:
        a = len(features) if anchors is None else anchors
        codes, place = labels.unique(return_inverse=True)
        counts = torch.bincount(place, minlength=len(codes))
        means = features.new_zeros(len(codes), features.shape[1]).index_add(0, place, features) / counts[:, None]
        pool = torch.cat([means, features])
        own = torch.arange(len(codes), device=labels.device)
        with torch.no_grad():
            distance = squared_distances(pool, len(codes))
            between, within = distance[:, : len(codes)], distance[:, len(codes) :]
            _, positive = within.masked_fill(own[:, None] != place[None], -1).max(1)
            near, negative = between.masked_fill(own[:, None] == own[None], torch.inf).min(1)
            asked = torch.zeros_like(counts, dtype=torch.bool).index_fill(0, place[:a], True)
            anchor = torch.nonzero(asked & (counts > 1) & near.isfinite())[:, 0]
        return Triplets(pool, len(codes), anchor, positive[anchor] + len(codes), negative[anchor])


def _places(what: str, asked: int | tuple[int, int]) -> slice:
    first, last = (1, asked) if isinstance(asked, int) else asked
    if not 1 <= first <= last:
        raise UsageError(f"{first} to {last} hardest {what} are none: count from 1, the hardest, upwards.")
    return slice(first - 1, last)


def _ranked(values: Float[Tensor, "a n"], places: slice, *, largest: bool) -> tuple[Tensor, Tensor]:
    """Values and places of those from the first to the last asked for, of each row."""
    found = values.topk(min(places.stop, values.shape[1]), largest=largest)
    return found.values[:, places], found.indices[:, places]


# A memory bank: rows next to the batch, among which harder positives and negatives are found.
#
# The bank of Wang et al. (Cross-Batch Memory, CVPR 2020) keeps the features of earlier batches, which grow stale as the
# network learns. Here all inputs are available as features in a store, and projecting them costs little: so the
# bank holds rows, and the head as it stands projects them in each step, without gradients. It is never stale.


@dataclass(frozen=True)
class Bank:
    """size: rows drawn for each batch; all others where there are fewer"""

    size: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UsageError(f"a bank of {self.size} rows holds nothing: choose at least 1, or none at all.")

    def draw(self, batch: list[int], n: int, rng: np.random.Generator) -> Integer[np.ndarray, " m"]:
        """That many of n rows, none of them in the batch, none twice."""
        others = np.delete(np.arange(n), batch)
        return rng.choice(others, min(self.size, len(others)), replace=False, shuffle=False)
