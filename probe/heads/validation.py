"""How good a head is: leave-one-out or query/gallery retrieval by MAP@R, on images that it is not trained on."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from jaxtyping import Num

from probe.heads.head import Head
from probe.retrieval.evaluate import Retrieval, evaluate
from probe.retrieval.items import Items
from probe.retrieval.metrics import MAIN
from store.errors import BBError

HOW = Retrieval(metrics=(MAIN,), ks=(1,), knn=(), pairs=False, shares=())
HELD_OUT = 5  # one label of so many validates, where the table does not say which


@dataclass(frozen=True, eq=False)
class Validation:
    """features: (n, d) of the items, in their order, as they are in the store"""

    items: Items
    features: Num[np.ndarray, "n d"]

    def __call__(self, head: Head) -> float:
        """Mean MAP@R over queries of the projected features."""
        return self.score(head.project(self.features))

    def score(self, features: Num[np.ndarray, "n k"]) -> float:
        """The same of any features, such as those of the parent."""
        return float(np.nanmean(evaluate(features, self.items, HOW).values[MAIN]))


def parts(items: Items, seed: int) -> tuple[Items, Items, str]:
    """Which images train and which validate, and how that was decided.

    Those of the splits train and val. Where there is no val, one label in five of those with two images or more does,
    in order of SHA-256 of "val/SEED/LABEL": how a head does on labels that it has never seen is what is asked of it.
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
    held = dealt[: max(2, len(several) // HELD_OUT)]
    mask = train.frame["label"].is_in(held).to_numpy()
    everyone = train.frame.with_columns(is_query=pl.lit(True), is_gallery=pl.lit(True))
    train = replace(train, frame=everyone)
    return _enough(train.rows(~mask), "train"), train.rows(mask), f"{len(held)} labels held out of training"


def _enough(items: Items, split: str) -> Items:
    _, counts = np.unique(items.label_codes, return_counts=True)
    if len(counts) < 2 or counts.max() < 2:
        raise BBError(f"{items.source}, split {split!r}, has no two labels of which one has two images to learn from.")
    return items
