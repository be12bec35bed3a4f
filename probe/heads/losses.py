"""The triplet loss (Schroff, Kalenichenko and Philbin, FaceNet, CVPR 2015), over the triplets that a miner chooses.

Of the Euclidean distances p to the positive and n to the negative, max(0, p - n + margin), or the soft margin
log(1 + exp(p - n)) of Hermans, Beyer and Leibe (2017).
"""

from collections.abc import Mapping

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from probe.heads.triplets import Miner, Triplets, squared_distances
from store.errors import UsageError

REDUCTIONS = ("mean", "sum", "none")
MANY = 4  # triplets for each feature, above which the distances between all are less work than theirs alone
TINY = 1e-12  # below which a distance has no direction to change in


class TripletLoss(nn.Module):
    """margin: in units of distance; None is the soft margin. "mean" is over all triplets, those of loss 0 included."""

    def __init__(self, miner: Miner, margin: float | None = 0.2, reduction: str = "mean") -> None:
        super().__init__()
        if margin is not None and not 0 <= margin < float("inf"):
            raise UsageError(f"a margin of {margin:g} makes no sense: choose 0 or more, or the soft margin.")
        if reduction not in REDUCTIONS:
            raise UsageError(f"there is no reduction {reduction!r}; there are {', '.join(REDUCTIONS)}.")
        self.miner, self.margin, self.reduction = miner, margin, reduction
        self._last: tuple[Tensor, Tensor, Tensor] | None = None

    @property
    def last_logs(self) -> Mapping[str, float]:
        """loss (the mean), triplets, active (the share of them that is not told apart by the margin), and the mean
        distances; without triplets the first two alone.
        """
        if self._last is None:
            return {}
        losses, positive, negative = self._last
        counted = {"loss": float(losses.mean()) if len(losses) else 0.0, "triplets": float(len(losses))}
        if not len(losses):
            return counted
        active = (positive - negative + (self.margin or 0) > 0).float().mean()
        means = {"positive_distance": float(positive.mean()), "negative_distance": float(negative.mean())}
        return {**counted, "active": float(active), **means}

    def forward(
        self, features: Float[Tensor, "n d"], labels: Int[Tensor, " n"], anchors: int | None = None
    ) -> Float[Tensor, "..."]:
        found = self.miner(features, labels, anchors)
        positive, negative = distances(found)
        apart = positive - negative
        losses = functional.softplus(apart) if self.margin is None else functional.relu(apart + self.margin)
        self._last = losses.detach(), positive.detach(), negative.detach()
        if self.reduction == "none":
            return losses
        none = features.sum() * 0  # what is left of no triplets, with gradients of 0
        if not len(found):
            return none
        return losses.mean() if self.reduction == "mean" else losses.sum()


def distances(found: Triplets) -> tuple[Float[Tensor, " t"], Float[Tensor, " t"]]:
    """From each anchor to its positive, and to its negative."""
    if len(found) > MANY * len(found.pool):
        of_all = squared_distances(found.pool, found.anchors).clamp_min(TINY).sqrt()
        return of_all[found.anchor, found.positive], of_all[found.anchor, found.negative]
    anchor, positive, negative = (
        found.pool.index_select(0, rows) for rows in (found.anchor, found.positive, found.negative)
    )
    return _length(anchor - positive), _length(anchor - negative)


def _length(x: Float[Tensor, "t d"]) -> Float[Tensor, " t"]:
    return x.square().sum(-1).clamp_min(TINY).sqrt()
