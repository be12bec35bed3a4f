"""Stands in until the search is there."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from probe.retrieval.items import Items


@dataclass(frozen=True, eq=False)
class Ranking:
    """The nearest gallery items of each query, nearest first.

    query     (q,) rows of Items
    nearest   (q, n) int64 rows of Items (not of the gallery), -1 where there are fewer than n
    distance  (q, n) float32 ascending, inf where there is none
    relevant  (q,) how many relevant gallery items there are (after leaving out the query itself and its sequence)
    """

    query: Int[np.ndarray, " q"]
    nearest: Int[np.ndarray, "q n"]
    distance: Float[np.ndarray, "q n"]
    relevant: Int[np.ndarray, " q"]


def hits(items: Items, ranking: Ranking) -> Bool[np.ndarray, "q n"]:
    codes = items.label_codes
    return (codes[ranking.nearest] == codes[ranking.query][:, None]) & (ranking.nearest >= 0)
