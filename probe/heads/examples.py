"""What a head is trained on: rows in memory, straight out of the store."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer


@dataclass(frozen=True, eq=False)
class Examples:
    """What is learned from, row by row.

    features  (n, d) float32
    labels    (n,) codes below `classes`, all of them there
    category  (n,) codes, -1 of none; None where there are no categories
    """

    features: Float[np.ndarray, "n d"]
    labels: Integer[np.ndarray, " n"]
    category: Integer[np.ndarray, " n"] | None = None

    @property
    def classes(self) -> int:
        return int(self.labels.max()) + 1
