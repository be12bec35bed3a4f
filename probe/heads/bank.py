"""A memory bank: rows beside the batch, among which harder positives and negatives are found.

The bank of Wang et al. (Cross-Batch Memory, CVPR 2020) keeps the features of earlier batches, which grow stale as the
network learns. Here all inputs are at hand as features in a store, and projecting them costs next to nothing: so the
bank holds rows, and the head as it stands projects them in each step, without gradients. It is never stale.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer

from store.errors import UsageError


@dataclass(frozen=True)
class Bank:
    """size: rows drawn beside each batch; all others where there are fewer"""

    size: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UsageError(f"a bank of {self.size} rows holds nothing: choose at least 1, or none at all.")

    def draw(self, batch: list[int], n: int, rng: np.random.Generator) -> Integer[np.ndarray, " m"]:
        """So many of n rows, none of them in the batch, none twice."""
        others = np.delete(np.arange(n), batch)
        return rng.choice(others, min(self.size, len(others)), replace=False, shuffle=False)
