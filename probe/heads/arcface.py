"""ArcFace (Deng et al., CVPR 2019): labels as directions to learn, each feature to lie within an angle of its own.

The loss is pytorch-metric-learning's; what stands here makes it keep the contract.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from store.errors import UsageError


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
