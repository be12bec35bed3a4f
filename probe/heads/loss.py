"""What a loss over features is: the contract that triplet.py and arcface.py fulfil."""

from collections.abc import Iterator, Mapping
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor, nn


@runtime_checkable
class FeatureLoss(Protocol):
    """last_logs: what a person may want to see of the last call, numbers by name; empty before the first"""

    @property
    def last_logs(self) -> Mapping[str, float]: ...

    def __call__(
        self, features: Float[Tensor, "n d"], labels: Int[Tensor, " n"], anchors: int | None = None
    ) -> Float[Tensor, "..."]:
        """The loss of the first `anchors` features (all, if None); the others are a memory bank.

        A scalar, but for losses that were told not to reduce. Where a batch has nothing to learn from it is 0, and
        can still be gone down.
        """
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """What of the loss itself is trained; it may be nothing."""
        ...
