"""What a miner is: from features and labels to triplets; the contract that miners.py fulfils."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor


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
