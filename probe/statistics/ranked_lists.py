"""How good a list of images is that was ranked for a text: AP@k, nDCG@k, MRR as INQUIRE counts them.

INQUIRE (Vendrow et al., NeurIPS 2024; src/metrics.py of its repository) scores the k images that were retrieved for a
query, of which p are relevant in the whole collection:

    AP@k    scikit-learn's average precision over the k, times (relevant among the k) / min(p, k); 0 without a hit
    nDCG@k  scikit-learn's, with the relevant images that were not retrieved appended behind all others
    MRR     1 / rank of the first relevant image; 0 without a hit

Equal scores share their places in the first two, as in scikit-learn; MRR takes the order of the list.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

METRICS = ("ap", "ndcg", "mrr", "precision", "recall")


@dataclass(frozen=True)
class ListScores:
    """Of one query. ap, ndcg, mrr, precision and recall in [0, 1]."""

    ap: float
    ndcg: float
    mrr: float
    precision: float
    recall: float


def score_list(hit: Bool[np.ndarray, " k"], score: Float[np.ndarray, " k"], positives: int) -> ListScores:
    """Scores of a ranked list, best first.

    hit        whether each image is relevant
    score      its score, descending
    positives  relevant images in the whole collection, whether retrieved or not; at least 1

    Raises ValueError where scores ascend, the list is empty, or there are fewer positives than hits.
    """
    hits, k = int(hit.sum()), len(hit)
    if k == 0 or positives < max(1, hits) or (np.diff(score) > 0).any():
        raise ValueError(f"no ranked list: {k} images, {hits} of {positives} relevant")
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True))  # where each group of equal scores ends
    first = np.flatnonzero(hit)
    return ListScores(
        ap=average_precision(hit, last) * hits / min(positives, k) if hits else 0.0,
        ndcg=ndcg(hit, last, positives),
        mrr=1 / (int(first[0]) + 1) if hits else 0.0,
        precision=hits / k,
        recall=hits / positives,
    )


def average_precision(hit: Bool[np.ndarray, " k"], last: Int64[np.ndarray, " g"]) -> float:
    """Sum over thresholds of the step in recall times the precision there; of at least one hit."""
    found = np.cumsum(hit)[last].astype(float)
    steps = np.diff(found, prepend=0.0)
    return float((steps * found / (last + 1)).sum() / found[-1])


def ndcg(hit: Bool[np.ndarray, " k"], last: Int64[np.ndarray, " g"], positives: int) -> float:
    """Gain 1 of a relevant image, discount 1 / log2(rank + 1) down to rank k; equal scores share their discounts."""
    discount = 1 / np.log2(np.arange(2, len(hit) + 2))
    sizes = np.diff(last, prepend=-1)
    gains = np.diff(np.cumsum(hit)[last], prepend=0) / sizes
    shares = np.diff(np.cumsum(discount)[last], prepend=0.0)
    ideal = discount[: min(positives, len(hit))].sum()
    return float((gains * shares).sum() / ideal)
