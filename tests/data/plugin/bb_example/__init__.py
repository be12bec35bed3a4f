"""A plug-in for bb: a classifier and a metric, both of scikit-learn."""

from sklearn.metrics import matthews_corrcoef
from sklearn.neighbors import NearestCentroid

from bb.probe.statistics.metrics import FunctionMetric

MATTHEWS = FunctionMetric("matthews", matthews_corrcoef)

__all__ = ["MATTHEWS", "NearestCentroid"]
