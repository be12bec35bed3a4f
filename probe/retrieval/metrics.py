"""Stands in until the metrics are there."""

import numpy as np
from jaxtyping import Bool, Float, Int


def map_at_r(hits: Bool[np.ndarray, "q n"], relevant: Int[np.ndarray, " q"]) -> Float[np.ndarray, " q"]:
    """MAP@R of each query, NaN where nothing is relevant."""
    inside = np.arange(hits.shape[1]) < relevant[:, None]
    precision = np.cumsum(hits, axis=1) / (1 + np.arange(hits.shape[1]))
    with np.errstate(invalid="ignore"):
        return (precision * hits * inside).sum(axis=1) / np.where(relevant > 0, relevant, np.nan)


def per_query(hits: Bool[np.ndarray, "q n"], relevant: Int[np.ndarray, " q"]) -> dict[str, Float[np.ndarray, " q"]]:
    some = np.where(relevant > 0, 1.0, np.nan)
    precision = np.cumsum(hits, axis=1) / (1 + np.arange(hits.shape[1]))
    return {
        "cmc@1": hits[:, :1].any(axis=1) * some,
        "precision@5": hits[:, :5].sum(axis=1) / 5 * some,
        "map@10": (precision * hits)[:, :10].sum(axis=1) / np.minimum(np.maximum(relevant, 1), 10) * some,
        "map@r": map_at_r(hits, relevant),
    }
