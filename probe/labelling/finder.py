"""Known individuals with a calibration, which find the nearest of them for the images of a collection."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Int64, Num

from bb.probe.labelling.open_set import NONE, Calibration, answer, evidence_of
from bb.probe.labelling.predictor import READ, with_features
from bb.probe.labelling.stored_model import damaged, labelled_rows, number, provenance
from bb.store import Collection, FeatureSpace, Store
from bb.store.errors import Malformed
from bb.store.format.model import Model

TOP = 5
MAX_TOP = 100
LEAST_SCALE = 1e-9  # of distances that are standardised
# Before the nearest individuals: individual_1, similarity_1, individual_2, …
COLUMNS = ("image_id", "label", "probability", "none_of_these", "accepted", "novelty")


@dataclass(frozen=True, eq=False)
class Finder:
    """Labelled images of individuals in one feature space.

    labelled    (n, d) their rows as stored; individual: (n,) places among `classes`
    threshold   of the probability of an answer that is accepted; None accepts nothing
    top         how many individuals a row names
    """

    space: FeatureSpace
    labelled: Num[np.ndarray, "n d"]
    individual: Int64[np.ndarray, " n"]
    classes: tuple[str, ...]
    calibration: Calibration
    threshold: float | None
    top: int

    @property
    def spaces(self) -> Sequence[FeatureSpace]:
        return [self.space]

    def with_features(
        self, store: Store, collection: Collection, image_ids: Sequence[str]
    ) -> tuple[list[str], list[str]]:
        """The images that the space has features of, and the others."""
        return with_features(store, self.spaces, collection, image_ids)

    def predictions(self, store: Store, collection: Collection, image_ids: Sequence[str]) -> Iterator[pl.DataFrame]:
        """A row for each image: COLUMNS and the nearest individuals; `label` is null for "none of these"."""
        names, top = np.array(self.classes), min(self.top, len(self.classes))
        for start in range(0, len(image_ids), READ):
            block = image_ids[start : start + READ]
            similar = evidence_of(self.store_rows(store, collection, block), self.labelled, self.individual)
            order = np.argsort(-similar, axis=1, kind="stable")[:, :top]
            near = np.take_along_axis(similar, order, axis=1)
            second = near[:, 1] if top > 1 else np.sort(similar, axis=1)[:, -2]
            p = self.calibration.probabilities(np.stack([near[:, 0], near[:, 0] - second], axis=1))
            none, sure = answer(p)
            accepted = sure >= (np.inf if self.threshold is None else self.threshold)
            labels = [None if unknown else str(names[i]) for unknown, i in zip(none.tolist(), order[:, 0], strict=True)]
            values = (block, labels, sure.tolist(), p[:, NONE].tolist(), accepted.tolist())
            novel = np.clip(1 - near[:, 0], 0, 2).tolist()
            frame = dict(zip(COLUMNS, (*values, novel), strict=True))
            for k in range(top):
                frame[f"individual_{k + 1}"] = names[order[:, k]].tolist()
                frame[f"similarity_{k + 1}"] = near[:, k].tolist()
            yield pl.DataFrame(frame, schema_overrides={"label": pl.String})

    def store_rows(self, store: Store, collection: Collection, image_ids: Sequence[str]) -> Num[np.ndarray, "m d"]:
        """The features of images."""
        return store.read(self.space, collection, image_ids)

    def model(
        self,
        *,
        backbone: str,
        collection: Collection,
        labels: str,
        protocol: Mapping[str, Any],
        stated: Mapping[str, Any],
    ) -> Model:
        """The model of the store, not yet published."""
        return Model(
            "", "individuals", (self.space,), (backbone,), self.classes, labels,
            (collection.name, collection.digest), len(self.labelled), {"similarity": "cosine", **protocol},
            {**self.calibration.record(), "threshold": self.threshold, "top": self.top}, stated, provenance(),
            {"0.labelled": np.asarray(self.labelled), "0.individuals": self.individual},
        )  # fmt: skip


def finder_of(model: Model, source: str, top: int | None = None) -> Finder:
    """The finder of a model of individuals that anybody may have made. Errors: BBError where it is damaged."""
    try:
        fields = model.calibration
        shapes = {"mean": (2,), "scale": (2,), "coef": (3, 2), "intercept": (3,)}
        if fields.keys() != {*shapes, "threshold", "top"}:
            raise Malformed("its calibration has other fields")
        made = {name: _numbers(name, fields[name], shape) for name, shape in shapes.items()}
        if not (made["scale"] >= LEAST_SCALE).all():
            raise Malformed(f"its calibration has a scale below {LEAST_SCALE}")
        if fields["threshold"] is not None and not number(fields["threshold"]):
            raise Malformed(f"it has {fields['threshold']!r:.80} for a threshold")
        if type(fields["top"]) is not int or not 1 <= fields["top"] <= MAX_TOP:
            raise Malformed(f"it has {fields['top']!r:.80} nearest individuals")
        if model.arrays.keys() != {"0.labelled", "0.individuals"} or len(model.spaces) != 1:
            raise Malformed("its arrays are not those of individuals in one space")
        x = labelled_rows({"labelled": model.arrays["0.labelled"]}, model.spaces[0], model.images)
        individual = model.arrays["0.individuals"]
        right = individual.dtype == np.int64 and individual.shape == (len(x),)
        if not right or len(model.classes) < 3 or np.unique(individual).tolist() != list(range(len(model.classes))):
            raise Malformed(f"its images are not of its {len(model.classes)} individuals")
    except Malformed as fact:
        raise damaged(model, source, str(fact)) from None
    calibration = Calibration(made["mean"], made["scale"], made["coef"], made["intercept"])
    threshold = None if fields["threshold"] is None else float(fields["threshold"])
    return Finder(model.spaces[0], x, individual, model.classes, calibration, threshold, top or fields["top"])


def _numbers(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    rows = value if len(shape) == 2 else [value]
    flat = [each for row in rows for each in row] if all(isinstance(row, list) for row in rows or [0]) else []
    wide = isinstance(value, list) and len(value) == shape[0] and len(flat) == int(np.prod(shape))
    if not wide or any(len(row) != shape[-1] for row in rows) or not all(number(each, -1e9, 1e9) for each in flat):
        raise Malformed(f"its calibration has the {name} {value!r:.80}")
    return np.array(value, np.float64)
