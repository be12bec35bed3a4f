"""A plug-in for bb: a classifier and a metric, both of scikit-learn, and a task family."""

import polars as pl
from sklearn.metrics import matthews_corrcoef
from sklearn.neighbors import NearestCentroid

from bb.probe.statistics.metrics import FunctionMetric

MATTHEWS = FunctionMetric("matthews", matthews_corrcoef)


class Letters:
    """The tasks of a folder whose labels are in letters.txt: a line for each image, its name, side and letter."""

    title = "letters in two alphabets"
    archives = ()

    def labels(self, root):
        lines = (root / "letters.txt").read_text().splitlines()
        return pl.DataFrame([line.split() for line in lines], schema=["image_id", "split", "label"], orient="row")


class Broken:
    title, archives = "labels that can't be read", ()

    def labels(self, root):
        raise KeyError("letter")


LETTERS, BROKEN = Letters(), Broken()

__all__ = ["BROKEN", "LETTERS", "MATTHEWS", "NearestCentroid"]
