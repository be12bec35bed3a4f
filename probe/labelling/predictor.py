"""Fitted classifiers, each with its feature space, that predict the images of a collection from stored features."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float64, Int64, Num

from bb.probe.labelling.cross_validation import Fitted, in_blocks
from bb.probe.labelling.group_thresholds import Thresholds
from bb.probe.labelling.result import table
from bb.store import Collection, FeatureSpace, Store

READ = 4096  # images at a time


@dataclass(frozen=True, eq=False)
class Predictor:
    """One classifier, or those of an ensemble, whose probabilities are averaged.

    spaces     the feature space of each
    classes    names of the classes
    threshold  of the probability of what is accepted; None accepts nothing
    of_groups  of images of groups that have labelled images, where these are known
    """

    spaces: Sequence[FeatureSpace]
    fitted: Sequence[Fitted]
    classes: tuple[str, ...]
    threshold: float | None
    of_groups: Thresholds | None = None

    @property
    def labelled(self) -> Num[np.ndarray, "n d"]:
        """The labelled images' rows in the first space."""
        return self.fitted[0].x_train

    def with_features(
        self, store: Store, collection: Collection, image_ids: Sequence[str]
    ) -> tuple[list[str], list[str]]:
        """The images that every space has features of, and the others."""
        return with_features(store, self.spaces, collection, image_ids)

    def predictions(self, store: Store, collection: Collection, image_ids: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Rows of images with features, which are the same to the bit in whatever company they are."""
        for start in range(0, len(image_ids), READ):
            block = image_ids[start : start + READ]
            rows = [store.read(space, collection, block) for space in self.spaces]
            given = np.mean([each.probabilities(x) for each, x in zip(self.fitted, rows, strict=True)], axis=0)
            far = in_blocks(lambda x: novelty(x, self.labelled), rows[0])
            yield table(block, given, self.classes, self.threshold, far)

    def novelty_of_labelled(self) -> Float64[np.ndarray, " n"]:
        """Of each labelled image the distance to the nearest other one."""
        x = self.labelled
        blocks = [np.arange(start, min(start + READ, len(x))) for start in range(0, len(x), READ)]
        return np.concatenate([novelty(x[rows], x, rows) for rows in blocks])


def with_features(
    store: Store, spaces: Sequence[FeatureSpace], collection: Collection, image_ids: Sequence[str]
) -> tuple[list[str], list[str]]:
    """The images that every one of some spaces has features of, and the others."""
    if not image_ids:
        return [], []
    digests = collection.digests(image_ids)
    has = np.all([store.has(space, digests) for space in spaces], axis=0).tolist()
    kept = [image_id for image_id, there in zip(image_ids, has, strict=True) if there]
    return kept, [image_id for image_id, there in zip(image_ids, has, strict=True) if not there]


def novelty(
    x: Num[np.ndarray, "m d"], known: Num[np.ndarray, "n d"], own: Int64[np.ndarray, " m"] | None = None
) -> Float64[np.ndarray, " m"]:
    """Cosine distance to the nearest known image; `own` are the places of x among these, which don't count."""
    near = unit_rows(x) @ unit_rows(known).T
    if own is not None:
        near[np.arange(len(own)), own] = -np.inf
    return np.clip(1 - near.max(axis=1), 0, 2)


def unit_rows(x: Num[np.ndarray, "n d"]) -> Float64[np.ndarray, "n d"]:
    """Rows of length 1; a row of zeros stays."""
    x = np.asarray(x, np.float64)
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return np.divide(x, norm, out=np.zeros_like(x), where=norm > 0)
