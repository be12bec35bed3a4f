"""What an extractor is: the contract of all that turns inputs into feature vectors.

The backbones of extract/ keep it on pictures, `probe.heads.head.Head` on features that are in a store.
"""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class Extractor(Protocol):
    """feat_dim: length of a feature"""

    feat_dim: int

    @classmethod
    def from_pretrained(cls, weights: str) -> "Extractor":
        """Builds it and loads its weights. Errors: UsageError, listing what exists, for a name that does not."""
        ...

    def extract(self, x: Float[Tensor, "b ..."]) -> Float[Tensor, "b d"]:
        """One feature for each input; what it is depends on that input alone, never on its batch-mates."""
        ...
