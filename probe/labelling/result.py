"""What `bb predict` gives: a row for each image, and the figures that say how far to trust it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float64

from bb.probe.labelling.abstention import Acceptance
from bb.probe.labelling.cross_validation import Setting
from bb.probe.labelling.group_thresholds import GroupThresholds
from bb.probe.statistics.multiclass.by_class import OfClass
from bb.probe.statistics.multiclass.intervals import MetricEstimate
from bb.probe.tables.html_table import html_table

SHOWN = 20  # rows in a notebook
COLUMNS = ("image_id", "label", "probability", "second", "second_probability", "accepted", "novelty")


@dataclass(frozen=True, eq=False, repr=False)
class Labelled:
    """What `predict` gives.

    frame        a row for each image: COLUMNS
    backbones    the candidates with their cross-validated accuracy, the best first; of an ensemble all are used
    tested       labelled images that figures are measured on: all, or those drawn at random where others were chosen
    chosen       labelled images that `bb suggest` chose
    accuracy     expected of further images like those tested
    of_groups    expected of images of a further group; None where the table has no groups
    acceptance   at the target error
    classes      of each class how well it is found
    ensemble     whether the backbones' probabilities are averaged
    by_group     which predictions are accepted of images whose group is labelled; None where there are no groups
    known_groups  of how many of the predicted images by_group decides
    model        the digest of the fitted classifier in the store; None where it was not kept, as a note says
    """

    frame: pl.DataFrame
    backbones: list[tuple[str, float]]
    setting: Setting
    labelled: int
    class_names: tuple[str, ...]
    accuracy: MetricEstimate
    of_groups: MetricEstimate | None
    target_error: float
    acceptance: Acceptance
    classes: list[OfClass]
    notes: tuple[str, ...]
    ensemble: bool = False
    by_group: GroupThresholds | None = None
    model: str | None = None
    tested: int = 0
    chosen: int = 0
    known_groups: int = 0

    def __repr__(self) -> str:
        return f"Labelled({len(self.frame)} images from {self.labelled} labels, accuracy {self.accuracy.value:.3f})"

    def _repr_html_(self) -> str:
        return html_table(self.frame.head(SHOWN), repr(self))

    def record(self) -> dict[str, Any]:
        """The figures next to the table, JSON-ready."""
        return {
            **self.stated(),
            "predicted": len(self.frame),
            "accepted": int(self.frame["accepted"].sum()),
            "labelled_groups": self.by_group.record() if self.by_group else None,
            "model": self.model,
            "notes": list(self.notes),
        }

    def stated(self) -> dict[str, Any]:
        """What cross-validation says, JSON-ready: nothing of the images that are predicted."""
        return {
            "backbones": [{"name": name, "accuracy": score} for name, score in self.backbones],
            "classifier": self.setting.classifier,
            "preprocessing": self.setting.how,
            "labelled": self.labelled,
            "tested": self.tested,
            "chosen": self.chosen,
            "accuracy": plain(self.accuracy),
            "accuracy_of_new_groups": plain(self.of_groups) if self.of_groups else None,
            "target_error": self.target_error,
            "threshold": self.acceptance.threshold,
            "accepted_of_labelled": self.acceptance.accepted,
            "error_of_accepted": self.acceptance.error,
            "error_of_accepted_interval": list(self.acceptance.interval) if self.acceptance.interval else None,
            "classes": [
                {
                    "class": self.class_names[c.label],
                    "images": c.n,
                    "recall": None if np.isnan(c.recall) else c.recall,
                    "recall_interval": list(c.recall_interval) if c.recall_interval else None,
                    "precision": None if np.isnan(c.precision) else c.precision,
                    "precision_interval": list(c.precision_interval) if c.precision_interval else None,
                }
                for c in self.classes
            ],
        }


def table(
    image_ids: Sequence[str],
    given: Float64[np.ndarray, "m k"],
    classes: Sequence[str],
    threshold: float | None,
    novelty: Float64[np.ndarray, " m"],
) -> pl.DataFrame:
    """A row for each image, in COLUMNS.

    given      probabilities
    threshold  what the probability of an accepted prediction is at least; None accepts none
    """
    first, second = np.argsort(-given, axis=1, kind="stable")[:, :2].T
    row, names = np.arange(len(given)), np.array(classes)
    certain = given[row, first]
    accepted = certain >= (np.inf if threshold is None else threshold)
    values = (names[first], certain, names[second], given[row, second], accepted, novelty)
    return pl.DataFrame(dict(zip(COLUMNS, (list(image_ids), *(v.tolist() for v in values)), strict=True)))


def plain(found: MetricEstimate) -> dict[str, Any]:
    """JSON-ready."""
    low, high = found.interval or (None, None)
    return {"value": found.value, "low": low, "high": high, "claim": found.claim, "reason": found.reason}
