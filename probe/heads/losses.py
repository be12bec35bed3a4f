"""Losses over features: their contract, triplet and ArcFace."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from bb.probe.heads.miners import Miner, Triplets, squared_distances
from bb.store.errors import UsageError

# What a loss over features is: the contract that triplet.py and arcface.py fulfil.


@runtime_checkable
class FeatureLoss(Protocol):
    """last_logs: what a person may want to see of the last call, numbers by name; empty before the first"""

    @property
    def last_logs(self) -> Mapping[str, float]: ...

    def __call__(
        self, features: Float[Tensor, "n d"], labels: Int[Tensor, " n"], anchors: int | None = None
    ) -> Float[Tensor, "..."]:
        """The loss of the first `anchors` features (all, if None); the others are a memory bank.

        A scalar, but for losses that don't reduce. Where a batch has nothing to learn from it is 0, and
        can still be gone down.
        """
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """What of the loss itself is trained; it may be nothing."""
        ...


# The triplet loss (Schroff, Kalenichenko and Philbin, FaceNet, CVPR 2015), over the triplets that a miner chooses.
#
# Of the Euclidean distances p to the positive and n to the negative, max(0, p - n + margin), or the soft margin
# log(1 + exp(p - n)) of Hermans, Beyer and Leibe (2017).

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
            raise UsageError(f"unknown reduction {reduction!r}: choose {', '.join(REDUCTIONS)}.")
        self.miner, self.margin, self.reduction = miner, margin, reduction
        self._last: tuple[Tensor, Tensor, Tensor] | None = None

    @property
    def last_logs(self) -> Mapping[str, float]:
        """loss (the mean), triplets, active (the share of them that is not separated by the margin), and the mean
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
        self, features: Float[Tensor, "n d"], labels: Int[Tensor, " n"] | Sequence[int], anchors: int | None = None
    ) -> Float[Tensor, "..."]:
        codes = labels if isinstance(labels, Tensor) else torch.tensor(labels, device=features.device)
        found = self.miner(features, codes, anchors)
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


# ArcFace (Deng et al., CVPR 2019): labels as directions to learn, each feature to lie within an angle of its own.
#
# The loss is pytorch-metric-learning's; what stands here makes it keep the contract.


class ArcFace(nn.Module):
    """classes: labels are codes below it; margin in degrees; the directions are drawn from `generator`."""

    def __init__(
        self, classes: int, dim: int, *, margin: float = 28.6, scale: float = 64.0, generator: torch.Generator
    ) -> None:
        super().__init__()
        if not 0 <= margin < 90:
            raise UsageError(f"a margin of {margin:g} degrees makes no sense for ArcFace: choose below 90.")
        try:
            from pytorch_metric_learning.losses import ArcFaceLoss  # type: ignore[import-untyped]
        except ImportError:
            raise UsageError(
                "--loss arcface needs pytorch-metric-learning: pip install 'backbone-bench[heads]'."
            ) from None
        self.inner = ArcFaceLoss(classes, dim, margin=margin, scale=scale)
        with torch.no_grad():
            self.inner.W.copy_(torch.randn(dim, classes, generator=generator))
        self._last: tuple[Tensor, Tensor, Tensor] | None = None

    @property
    def last_logs(self) -> Mapping[str, float]:
        """loss, and accuracy: the share of features whose own label's direction is the nearest."""
        if self._last is None:
            return {}
        loss, features, labels = self._last
        cosine = features @ nn.functional.normalize(self.inner.W.detach(), dim=0)
        return {"loss": float(loss), "accuracy": float((cosine.argmax(1) == labels).float().mean())}

    def forward(
        self, features: Float[Tensor, "n d"], labels: Int[Tensor, " n"], anchors: int | None = None
    ) -> Float[Tensor, ""]:
        features, labels = features[:anchors], labels[:anchors]
        loss: Tensor = self.inner(features, labels)
        self._last = loss.detach(), features.detach(), labels
        return loss
