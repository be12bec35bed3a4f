"""How many directions features really use: the principal components fraction."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from store.errors import UsageError

SHARES = (0.5, 0.9)
ROUNDING = 1e-9  # a share of variance that is smaller is rounding: 4 points span 3 directions, not 4


def pcf(features: Float[np.ndarray, "n d"], shares: Sequence[float] = SHARES) -> dict[str, float]:
    """The share of d principal components that carry a share of the variance, by name: {"pcf@0.5": ...}.

    It is n/d for the smallest n with λ1 + … + λn >= share (λ1 + … + λd), λ the eigenvalues of the covariance, largest
    first. Empty where there is no variance: one row, or all rows the same. Errors: UsageError unless 0 < share <= 1.
    """
    if wrong := [share for share in shares if not 0 < share <= 1]:
        raise UsageError(f"a share of variance of {wrong[0]:g} makes no sense: choose above 0 and at most 1.")
    x = features.astype(np.float64)
    x -= x.mean(axis=0)
    small = x @ x.T if len(x) < x.shape[1] else x.T @ x  # both have the same eigenvalues, but for zeros
    eigenvalues = np.maximum(np.linalg.eigvalsh(small)[::-1], 0)
    total = eigenvalues.sum()
    if len(features) < 2 or total <= 0:
        return {}
    explained = np.cumsum(eigenvalues) / total
    counts = [int(np.searchsorted(explained, share - ROUNDING)) + 1 for share in shares]
    return {f"pcf@{share:g}": count / features.shape[1] for share, count in zip(shares, counts, strict=True)}
