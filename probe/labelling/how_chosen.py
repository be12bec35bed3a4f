"""On which labelled images figures are measured: those drawn at random. Images that were chosen only train.

`bb suggest` asks for images that a classifier is unsure of, so scores on these are too low and say nothing of the
others. Those of each batch that are drawn at random (choose_images.py) are a sample of the collection, so a mean over
them alone is unbiased for it; of a small collection the hard images are soon labelled, and the rest is easier. What is
chosen does not depend on the labels of images drawn at random (suggest.py). Else each of these would be harder than a
further image for a classifier that is not fitted on it, since none was chosen near it. scripts/bench/predict.py
measures how often the intervals hold.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from jaxtyping import Bool

from bb.probe.labelling.active_learning.choose_images import RANDOM
from bb.probe.statistics.multiclass.intervals import MetricEstimate
from bb.probe.tasks.task_table import TaskTable

FEWEST = 20  # images drawn at random; of fewer, nothing is stated
MORE = 30  # what is advised to label then


@dataclass(frozen=True, eq=False)
class Measured:
    """rows      (n,) of the labelled images those that figures are measured on
    chosen    how many labelled images `bb suggest` chose
    unstated  why the figures have no interval; "" where they have
    note      what to know of the figures
    """

    rows: Bool[np.ndarray, " n"]
    chosen: int
    unstated: str
    note: str

    def checked(self, found: MetricEstimate) -> MetricEstimate:
        """Without its interval where that can't be stated."""
        return replace(found, interval=None, reason=self.unstated) if self.unstated else found


def measured_on(table: TaskTable, image_ids: Sequence[str]) -> Measured:
    """Of labelled images, in their order."""
    everything = np.ones(len(image_ids), bool)
    if "suggested_by" not in table.frame.columns:
        note = (
            "the labels have no column suggested_by, so all images count as drawn at random; if they were picked "
            "because they are easy or interesting, the figures are of images like these alone"
        )
        return Measured(everything, 0, "", note)
    by = dict(table.frame.filter(pl.col("label").is_not_null()).select("image_id", "suggested_by").iter_rows())
    ways = [by.get(image_id) or "" for image_id in image_ids]
    rows = np.array([way == RANDOM for way in ways], bool)
    unknown = sum(way == "" for way in ways)
    n, chosen = int(rows.sum()), len(ways) - int(rows.sum()) - unknown
    if not chosen:
        note = f"the table does not say how {unknown} images were chosen: they count as drawn at random"
        return Measured(everything, 0, "", note if unknown else "")
    if n >= FEWEST:
        note = f"figures are measured on the {n} of {len(rows)} labelled images that bb suggest drew at random"
        return Measured(rows, chosen, "", note)
    unstated = (
        f"{chosen} of {len(rows)} labelled images were chosen by bb suggest and are harder than most, and {n} drawn at "
        f"random are too few to measure on: label {MORE} more with `bb suggest --strategy random`"
        + (f", or write random in the column suggested_by of the other {unknown} if they were drawn so" * bool(unknown))
    )
    return Measured(everything, chosen, unstated, unstated)
