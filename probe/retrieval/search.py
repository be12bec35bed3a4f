"""Stands in until the search is there."""

import numpy as np
from jaxtyping import Float

from probe.retrieval.items import Items
from probe.retrieval.ranking import Ranking


def search(features: Float[np.ndarray, "n d"], items: Items, n: int, *, distance: str = "cosine") -> Ranking:
    f = features.astype(np.float32)
    if distance == "cosine":
        f = f / np.linalg.norm(f, axis=1, keepdims=True)
        d = 1 - f[items.queries] @ f[items.gallery].T
    else:
        d = np.sqrt(((f[items.queries][:, None] - f[items.gallery][None]) ** 2).sum(-1))
    codes, seq = items.label_codes, items.sequence
    out = items.queries[:, None] == items.gallery[None]
    if seq is not None:
        out |= (seq[items.queries][:, None] == seq[items.gallery][None]) & (seq[items.queries] >= 0)[:, None]
    d[out] = np.inf
    relevant = ((codes[items.queries][:, None] == codes[items.gallery][None]) & ~out).sum(1)
    order = np.argsort(d, axis=1, kind="stable")[:, :n]
    dist = np.take_along_axis(d, order, 1).astype(np.float32)
    return Ranking(items.queries, np.where(np.isinf(dist), -1, items.gallery[order]), dist, relevant)
