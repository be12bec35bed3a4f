"""How good a head is: leave-one-out or query/gallery retrieval by MAP@R, on images that it is not trained on.

A head is taken only where it is better than its parent there by more than chance would give. What was sampled are the
labels: a head that helps with some labels is of no use for others unless it helps with labels in general.
"""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from jaxtyping import Num

from bb.probe.heads.model import Head
from bb.probe.retrieval.evaluate import Evaluation, Retrieval, evaluate
from bb.probe.retrieval.labels import RetrievalLabels
from bb.probe.retrieval.metrics import MAIN
from bb.probe.retrieval.ranking import count_relevant
from bb.probe.retrieval.statistics.clustered import LEVEL
from bb.probe.retrieval.statistics.paired_tests import Change, change, of_evaluations
from bb.store.errors import BBError

HOW = Retrieval(metrics=(MAIN,), ks=(1,), knn=(), pairs=False, shares=())
HELD_OUT = 5  # one label in five validates, where the table does not say which,
ENOUGH = 8  # but at least this many, or half of all if there are fewer


@dataclass(frozen=True, eq=False)
class Validation:
    """features: (n, d) of the items, in their order, as they are in the store"""

    items: RetrievalLabels
    features: Num[np.ndarray, "n d"]

    def __call__(self, head: Head) -> float:
        """Mean MAP@R over queries of the projected features."""
        return self.score(head.project(self.features))

    def score(self, features: Num[np.ndarray, "n k"]) -> float:
        """The same of any features, such as those of the parent."""
        return float(np.nanmean(self._evaluate(features).values[MAIN]))

    def compare(self, head: Head, candidates: int) -> Change:
        """The parent before, the head after; intervals are for further labels.

        candidates  of how many heads it is the best here: the intervals are widened for the choice, by Bonferroni
        """
        both = [self._evaluate(features) for features in (self.features, head.project(self.features))]
        return change(of_evaluations(both, MAIN), 1 - (1 - LEVEL) / candidates)

    def _evaluate(self, features: Num[np.ndarray, "n k"]) -> Evaluation:
        frame = self.items.frame.with_columns(unit=pl.col("label"))
        return evaluate(features, replace(self.items, frame=frame), HOW)


def labels_asked(items: RetrievalLabels) -> int:
    """How many labels have a query with anything to find."""
    asking = items.queries[count_relevant(items) > 0]
    return len(np.unique(items.label_codes[asking]))


def is_better(change: Change) -> bool:
    """Whether the head is better than its parent beyond chance."""
    return change.difference.low is not None and change.difference.low > 0


def parts(items: RetrievalLabels, seed: int) -> tuple[RetrievalLabels, RetrievalLabels, str]:
    """Which images train and which validate, and how that was decided.

    Those of the splits train and val. Where there is no val, one label in five of those with two images or more does
    (at least 8, or half of them), in order of SHA-256 of "val/SEED/LABEL": how a head does on labels that it has never
    seen is what is asked of it.
    Images of the split test, or of none where the table has splits, do neither. Training needs no roles.

    Errors: BBError where no two labels are left on either side, UsageError where the table has splits but none train.
    """
    train = items
    if "split" in items.frame.columns:
        anyone = items.frame.with_columns(is_query=pl.lit(True), is_gallery=pl.lit(True))
        train = replace(items, frame=anyone).split("train")
        if (items.frame["split"] == "val").any():
            return _enough(train, "train"), items.split("val"), "the split val"
    codes, counts = np.unique(train.label_codes, return_counts=True)
    several = [train.labels[code] for code in codes[counts > 1]]
    if len(several) < 4:
        raise BBError(
            f"{items.source} has {len(several)} labels with two images or more to train on, which can't be parted "
            "into labels that train and labels that validate: give at least 4, or a split val."
        )
    dealt = sorted(several, key=lambda label: hashlib.sha256(f"val/{seed}/{label}".encode()).digest())
    held = dealt[: max(len(several) // HELD_OUT, min(ENOUGH, len(several) // 2))]
    mask = train.frame["label"].is_in(held).to_numpy()
    everyone = train.frame.with_columns(is_query=pl.lit(True), is_gallery=pl.lit(True))
    train = replace(train, frame=everyone)
    return _enough(train.rows(~mask), "train"), train.rows(mask), f"{len(held)} labels held out of training"


def _enough(items: RetrievalLabels, split: str) -> RetrievalLabels:
    _, counts = np.unique(items.label_codes, return_counts=True)
    if len(counts) < 2 or counts.max() < 2:
        raise BBError(f"{items.source}, split {split!r}, has no two labels of which one has two images to learn from.")
    return items
