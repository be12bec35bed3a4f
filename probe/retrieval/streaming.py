"""Retrieval metrics for a training loop: features arrive in batches, in any order, and count once all are there."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Integer

from bb.probe.retrieval.evaluate import Retrieval, evaluate
from bb.probe.retrieval.labels import RetrievalLabels
from bb.store.errors import BBError


@runtime_checkable
class StreamingMetric(Protocol):
    """What is computed once over all samples of an epoch: `setup`, then `update` for each batch, then `compute`."""

    def setup(self, num_samples: int | None = None) -> None:
        """Forgets what was collected; that many samples are to come, where that is not known from elsewhere."""

    def update(self, features: Float[np.ndarray, "b d"], indices: Integer[np.ndarray, " b"]) -> None:
        """Takes a batch; `indices` says which sample each row is. Errors: BBError for an index that was there."""

    def compute(self) -> Mapping[str, Mapping[str, float]]:
        """{"overall": {metric: value}, category: {...}}. Errors: BBError while samples are missing."""


class RetrievalMetric:
    """The metrics of `evaluate` over items. Exact: the outcome is that of all features at once, in order.

    items  the samples; an index is a row of theirs
    how    pairs are not counted unless it says so
    """

    def __init__(self, items: RetrievalLabels, how: Retrieval | None = None) -> None:
        self.items, self.how = items, how or replace(Retrieval(), pairs=False)
        self.setup()

    def setup(self, num_samples: int | None = None) -> None:
        if num_samples not in (None, len(self.items)):
            raise BBError(f"{num_samples} samples are announced, but {self.items.source} has {len(self.items)} rows.")
        self.features: np.ndarray | None = None
        self.there = np.zeros(len(self.items), bool)

    def update(self, features: Any, indices: Any) -> None:
        """Takes a batch as NumPy arrays or torch tensors, on any device: (b, d) of floats and (b,) of integers."""
        self._update(_on_host(features), _on_host(indices))

    def _update(self, features: Float[np.ndarray, "b d"], indices: Integer[np.ndarray, " b"]) -> None:
        if self.features is None:
            self.features = np.empty((len(self.items), features.shape[1]), features.dtype)
        if features.shape[1] != self.features.shape[1]:
            raise BBError(f"this batch has {features.shape[1]} dimensions, those before had {self.features.shape[1]}.")
        beyond = (indices < 0) | (indices >= len(self.items))
        if beyond.any():
            raise BBError(f"unknown sample {indices[beyond][0]}: {self.items.source} has {len(self.items)} rows.")
        rows, counts = np.unique(indices, return_counts=True)
        again = rows[(counts > 1) | self.there[rows]]
        if len(again):
            raise BBError(
                f"sample {again[0]} ({str(self.items.image_ids[again[0]])!r}) comes a second time: each counts once; "
                "call setup() before another epoch."
            )
        self.features[indices] = features
        self.there[indices] = True

    def compute(self) -> dict[str, dict[str, float]]:
        absent = np.flatnonzero(~self.there)
        if self.features is None or len(absent):
            raise BBError(
                f"{len(absent)} of {len(self.items)} samples are missing, the first is "
                f"{str(self.items.image_ids[absent[0]])!r}: metrics need all of them."
            )
        return evaluate(self.features, self.items, self.how).summary()


def _on_host(values: Any) -> np.ndarray:
    """An array of what may be a tensor; torch, which not everybody has, is not imported for that."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
