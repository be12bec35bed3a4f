"""The suite that whatever keeps the contract of a metric passes."""

import numpy as np
import pytest

from bb.probe.retrieval.metrics import OVERALL
from bb.probe.retrieval.streaming import StreamingMetric
from bb.store.errors import BBError


def check_metric(metric, features, categories):
    """`features`: of all samples, in their order, four or more; `categories`: the names that results are given for."""
    assert isinstance(metric, StreamingMetric)
    n = len(features)

    def epoch(order, batches):
        metric.setup(n)
        for batch in np.array_split(order, batches):
            metric.update(features[batch], batch)
        return metric.compute()

    found = epoch(np.arange(n), 1)
    assert set(found) == {OVERALL, *categories} and found[OVERALL]
    assert all(type(value) is float for values in found.values() for value in values.values())
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(n)
        assert epoch(order, 1 + 3 * seed) == found, "in any order, in any batches"
    assert metric.compute() == found, "asked again, it says the same"
    # It counts what was announced, each once, or nothing.
    metric.setup()
    with pytest.raises(BBError, match="missing"):
        metric.compute()
    metric.update(features[1:], np.arange(1, n))
    with pytest.raises(BBError, match=f"1 of {n} samples are missing"):
        metric.compute()
    with pytest.raises(BBError, match="a second time"):
        metric.update(features[:2] + 1, np.array([0, 1]))
    with pytest.raises(BBError, match=f"unknown sample {n}"):
        metric.update(features[:1], np.array([n]))
    metric.update(features[:1], np.array([0]))  # what was refused left nothing behind
    assert metric.compute() == found
