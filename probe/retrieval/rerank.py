"""What is done to a ranking afterwards: its nearest put into a new order, or what is too far left out.

Each step takes a ranking and returns one, with distances ascending, so several may follow one another.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from bb.probe.retrieval.evaluate import Searched
from bb.probe.retrieval.labels import RetrievalLabels
from bb.probe.retrieval.pairwise_model import PairwiseModel, Rows, distances
from bb.probe.retrieval.ranking import Ranking
from bb.probe.retrieval.search import Vectors, search_parts


@runtime_checkable
class Step(Protocol):
    """What turns a ranking into another one of the same queries. The one it is given stays as it is."""

    def __call__(self, ranking: Ranking) -> Ranking: ...

    def parameters(self) -> dict[str, Any]:
        """What decides the outcome, for a run's record."""


@dataclass(frozen=True, eq=False)
class Rerank:
    """Orders the nearest `top_n` of each query anew, by a pairwise model; the others stay where they are.

    Equal distances stand in order of image ID. The new distances are the model's. Where the farthest of them would
    stand beyond the next item, which the model has not seen, all of that query's are moved down together, just as far
    as needed: so distances stay ascending whatever their signs, and differences among them stay the model's. (Dividing
    them, as is done elsewhere, turns the order of negative ones around.)

    features  (n, ...) of all items, by row: an array, or images that are read when their rows are asked for
    top_n     at least 2
    name      of the model, for the record
    """

    model: PairwiseModel
    features: Rows
    top_n: int
    name: str = ""

    def __post_init__(self) -> None:
        if self.top_n < 2:
            raise ValueError(f"the nearest {self.top_n} have one order: top_n must be at least 2")

    def parameters(self) -> dict[str, Any]:
        return {"step": "rerank", "model": self.name, "top_n": self.top_n}

    def __call__(self, ranking: Ranking) -> Ranking:
        """Errors: ValueError where the model returns NaN or distances of another shape."""
        top = ranking.nearest[:, : self.top_n]
        there = top >= 0
        predicted = np.full(top.shape, np.inf)
        query, place = np.nonzero(there)
        predicted[query, place] = distances(self.model, self.features, ranking.query[query], top[query, place])
        order = np.lexsort((top, predicted, ~there))  # what is not there stays last
        nearest, distance = ranking.nearest.copy(), ranking.distance.copy()
        nearest[:, : self.top_n] = np.take_along_axis(top, order, axis=1)
        distance[:, : self.top_n] = _below(np.take_along_axis(predicted, order, axis=1), distance[:, self.top_n :])
        return replace(ranking, nearest=nearest, distance=distance)


def _below(distance: np.ndarray, rest: np.ndarray) -> Float[np.ndarray, "q n"]:
    """Ascending distances as float32, each query's moved down together until none exceeds the first of `rest`."""
    if rest.shape[1]:
        bound = rest[:, :1].astype(float)
        last = np.where(np.isinf(distance), -np.inf, distance).max(axis=1, keepdims=True)
        excess = np.where(np.isfinite(last) & np.isfinite(bound), last - bound, 0)
        distance = np.minimum(distance - np.maximum(excess, 0), np.where(np.isinf(distance), np.inf, bound))
    return distance.astype(np.float32)


@dataclass(frozen=True)
class ConstantThreshold:
    """Leaves out what is not nearer than a distance."""

    distance: float

    def parameters(self) -> dict[str, Any]:
        return {"step": "threshold", "distance": self.distance}

    def __call__(self, ranking: Ranking) -> Ranking:
        return _only(ranking, ranking.distance < self.distance)


@dataclass(frozen=True)
class AdaptiveThreshold:
    """Cuts each query's list before its first wide gap: one wider than `factor` times the mean gap.

    The mean is over all neighbours in rank of all queries, so other queries matter, though hardly any single one.
    """

    factor: float

    def parameters(self) -> dict[str, Any]:
        return {"step": "adaptive threshold", "factor": self.factor}

    def __call__(self, ranking: Ranking) -> Ranking:
        distance = ranking.distance.astype(float)
        there = np.isfinite(distance)
        gap = np.diff(np.where(there, distance, 0), axis=1)
        known = there[:, 1:]
        if not known.any():
            return ranking
        wide = known & (gap > self.factor * gap[known].mean())
        before = np.cumsum(np.pad(wide, ((0, 0), (1, 0))), axis=1) == 0
        return _only(ranking, before)


def _only(ranking: Ranking, keep: Bool[np.ndarray, "q n"]) -> Ranking:
    """The items that are kept, of which each query's are its first ones."""
    return replace(
        ranking,
        nearest=np.where(keep, ranking.nearest, -1),
        distance=np.where(keep, ranking.distance, np.float32(np.inf)),
    )


def then(searched: Searched | None, items: RetrievalLabels, steps: Sequence[Step], jobs: int | None) -> Searched:
    """A search (the exact one if None) whose rankings go through steps, deep enough for all of them.

    An AdaptiveThreshold sees the queries of one part of the search at a time.
    """

    def found(vectors: Vectors, n: int, progress: Callable[[int, int], None]) -> Iterator[Ranking]:
        deep = max([n, *(step.top_n for step in steps if isinstance(step, Rerank))])
        parts = (
            searched(vectors, deep, progress)
            if searched
            else search_parts(vectors, items, deep, jobs=jobs, progress=progress)
        )
        return (apply(part, steps) for part in parts)

    return found


def apply(ranking: Ranking, steps: Iterable[Step]) -> Ranking:
    """One step after the other."""
    for step in steps:
        ranking = step(ranking)
    return ranking
