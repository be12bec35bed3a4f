"""The triplet loss (Schroff, Kalenichenko and Philbin, FaceNet, CVPR 2015), over the triplets that a miner chooses.

Of the Euclidean distances p to the positive and n to the negative, max(0, p - n + margin), or the soft margin
log(1 + exp(p - n)) of Hermans, Beyer and Leibe (2017).
"""

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from probe.heads.triplets import Miner, squared_distances
from store.errors import UsageError

Reduction = Literal["mean", "sum", "none"]
TINY = 1e-12  # below which a distance has no direction to change in


class TripletLoss(nn.Module):
    """margin: in units of distance; None is the soft margin. "mean" is over all triplets, those of loss 0 included."""

    def __init__(self, miner: Miner, margin: float | None = 0.2, reduction: Reduction = "mean") -> None:
        super().__init__()
        if margin is not None and not 0 <= margin < float("inf"):
            raise UsageError(f"a margin of {margin:g} makes no sense: choose 0 or more, or the soft margin.")
        if reduction not in get_args(Reduction):
            raise UsageError(f"there is no reduction {reduction!r}; there are {', '.join(get_args(Reduction))}.")
        self.miner, self.margin, self.reduction = miner, margin, reduction
        self._last: dict[str, Tensor] = {}

    @property
    def last_logs(self) -> Mapping[str, float]:
        """loss, triplets, active (the share of them that is not told apart by the margin), and mean distances."""
        return {name: float(value) for name, value in self._last.items()}

    def forward(
        self, features: Float[Tensor, "n d"], labels: Int[Tensor, " n"], anchors: int | None = None
    ) -> Float[Tensor, "..."]:
        found = self.miner(features, labels, anchors)
        distance = squared_distances(found.pool, found.anchors).clamp_min(TINY).sqrt()
        positive, negative = distance[found.anchor, found.positive], distance[found.anchor, found.negative]
        apart = positive - negative
        losses = functional.softplus(apart) if self.margin is None else functional.relu(apart + self.margin)
        none = features.sum() * 0  # what a mean of nothing is, with gradients of 0
        loss = losses.mean() if len(found) else none
        with torch.no_grad():
            self._last = {
                "loss": loss.detach(),
                "triplets": torch.tensor(len(found)),
                "active": (apart + (self.margin or 0) > 0).float().mean() if len(found) else none.detach(),
                "positive_distance": positive.mean() if len(found) else none.detach(),
                "negative_distance": negative.mean() if len(found) else none.detach(),
            }
        if self.reduction == "none":
            return losses
        return loss if self.reduction == "mean" else losses.sum() + none
