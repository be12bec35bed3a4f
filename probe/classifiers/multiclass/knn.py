"""Weighted nearest neighbours as DINO and DINOv2 vote (facebookresearch/dinov2, dinov2/eval/knn.py).

The neighbours are exact: float32 products propose more than are asked for, float64 sums in a fixed order decide
(bb.probe.search_kernels), and queries that this leaves open are measured against all rows.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64, Shaped
from threadpoolctl import threadpool_info, threadpool_limits

from bb.probe.classifiers.estimator import checked_arrays, checked_classes, checked_features, parameters_of
from bb.probe.search_kernels import measure_cosines, scan_rows, squares
from bb.store.errors import Malformed

BLOCK = 2048  # queries and training rows of a tile
SPARE = 6  # candidates beyond those asked for, and an eighth of these


def nearest_rows(
    x: Float32[np.ndarray, "n d"], queries: Float32[np.ndarray, "m d"], k: int
) -> tuple[Int64[np.ndarray, "m k"], Float64[np.ndarray, "m k"]]:
    """The k nearest rows of each query by cosine distance, nearest first, of equal ones the lower row; the distances.

    k  at most n; distances are in [0, 2], whole multiples of 2^-32, and 1 from a zero vector
    """
    n, d = x.shape
    both = np.concatenate([x, queries])
    square = squares(both)
    norm = np.sqrt(square)
    inverse = np.divide(1, norm, out=np.zeros(len(norm)), where=norm > 0)[:, None]
    kept = min(k + SPARE + k // 8, n + 1)
    no_sequence = np.full(len(both), -1, np.int64)
    slack = (d + 18) * 2.0**-24  # of a float32 sum of d products of unit vectors (Higham, Accuracy and Stability, 3.1)
    rows, distances = np.empty((len(queries), k), np.int64), np.empty((len(queries), k))
    units = [(both[a:b] * inverse[a:b]).astype(np.float32) for a, b in pairwise([*range(0, n, BLOCK), n])]

    def answer(first: int) -> None:
        asking = np.arange(n + first, min(n + first + BLOCK, len(both)))
        unit = (both[asking] * inverse[asking]).astype(np.float32)
        score = np.full((len(asking), kept), -np.inf, np.float32)
        row = np.full((len(asking), kept), -1, np.int32)
        for b, answering in enumerate(units):
            gallery = np.arange(b * BLOCK, b * BLOCK + len(answering))
            scan_rows(unit @ answering.T, asking, gallery, no_sequence, score, row)
        measured = measure_cosines(both, square, asking, row)
        order = np.lexsort((row, measured))[:, :k]
        here = slice(first, first + len(asking))
        rows[here], distances[here] = (np.take_along_axis(of_all, order, 1) for of_all in (row, measured))
        # A row that was dropped scored no more than the worst that was kept, so it is at least so far:
        dropped = 1 - score.min(axis=1).astype(np.float64) - slack
        for q in np.flatnonzero(dropped <= distances[here][:, -1]):
            of_all = measure_cosines(both, square, asking[q : q + 1], np.arange(n)[None])[0]
            rows[first + q] = np.argsort(of_all, kind="stable")[:k]
            distances[first + q] = of_all[rows[first + q]]

    threads = max((pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"), default=1)
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as pool:
        list(pool.map(answer, range(0, len(queries), BLOCK)))
    return rows, distances


@dataclass(eq=False)
class NearestNeighbours:
    """Votes of the k nearest training rows. Fulfils bb.probe.classifiers.estimator.Estimator.

    k            how many vote
    max_k        the weights are a softmax over so many neighbours (all rows where there are fewer)
    temperature  of the softmax over cosine similarities

    Of equal similarities the lower training row is nearer, of equal votes the lowest class wins.
    """

    k: int = 20
    max_k: int = 200
    temperature: float = 0.07
    targets: ClassVar[frozenset[str]] = frozenset({"classes"})
    classes_: Shaped[np.ndarray, " k"] = field(init=False, repr=False)
    parameters_: dict[str, Any] = field(init=False, repr=False)

    def fit(self, X: Float[np.ndarray, "n d"], y: Shaped[np.ndarray, " rows"]) -> "NearestNeighbours":
        self._x = checked_features(X)
        self.classes_, self._codes = checked_classes(y, len(self._x))
        self.parameters_ = {"k": min(self.k, len(self._x))}
        return self

    def predict(self, X: Float[np.ndarray, "m d"]) -> Shaped[np.ndarray, " m"]:
        return self.classes_[self.decision_function(X).argmax(axis=1)]

    def decision_function(self, X: Float[np.ndarray, "m d"]) -> Float64[np.ndarray, "m k"]:
        """The sum of the weights of each class's votes."""
        x = checked_features(X, self._x.shape[1])
        rows, distances = nearest_rows(self._x, x, min(self.max_k, len(self._x)))
        weights = np.exp((distances[:, :1] - distances) / self.temperature)
        weights /= weights.sum(axis=1, keepdims=True)
        voters, votes = slice(self.parameters_["k"]), np.zeros((len(x), len(self.classes_)))
        np.add.at(votes, (np.arange(len(x))[:, None], self._codes[rows[:, voters]]), weights[:, voters])
        return votes

    def predict_proba(self, X: Float[np.ndarray, "m d"]) -> Float64[np.ndarray, "m k"]:
        """Each class's share of the votes."""
        return self.proba_of(self.decision_function(X))

    def proba_of(self, decision: Float64[np.ndarray, "m k"]) -> Float64[np.ndarray, "m k"]:
        return decision / decision.sum(axis=1, keepdims=True)

    def parameters(self) -> dict[str, Any]:
        return parameters_of(self)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"classes": self.classes_, "rows": self._x, "codes": self._codes}

    def with_arrays(self, arrays: Mapping[str, np.ndarray]) -> "NearestNeighbours":
        found = checked_arrays(arrays, {"rows": "float32 n d", "codes": "int64 n"})
        self.classes_, self._x, self._codes = (found[name] for name in ("classes", "rows", "codes"))
        if self._codes.min() < 0 or self._codes.max() >= len(self.classes_):
            raise Malformed("its rows are of classes that it does not have")
        self.parameters_ = {"k": min(self.k, len(self._x))}
        return self
