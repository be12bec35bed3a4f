"""Scores: a worked example, and what is refused."""

import json

import polars as pl
import pytest

from bb.probe.scores import score
from bb.store.errors import BBError

PREDICTIONS = pl.DataFrame(
    {
        "task": ["one"] * 2 + ["two"] * 4,
        "cluster": ["a"] * 2 + ["b"] * 4,
        "subcluster": [None] * 2 + ["class"] * 4,
        "image_id": ["x", "y", "x", "y", "z", "w"],
        "y_true": [0, 1, 0, 0, 0, 1],
        "y_pred": [0, 1, 0, 1, 1, 1],
        "decision": [-1.0, 1.0, -1.0, 1.0, 1.0, 1.0],
        "score": [1.0, 1.0, 1.0, 0.0, 0.0, 1.0],
    }
)


def test_worked_example():
    expected = {
        "mean": 4 / 6,
        "mean_over_tasks": (1.0 + 0.5) / 2,
        "chance": 0.5,
        "majority": (2 * 0.5 + 4 * 0.75) / 6,
        "n": 6,
        "clusters": {"a": {"mean": 1.0, "n": 2}, "b": {"mean": 0.5, "n": 4}},
        "subclusters": {"b/class": {"mean": 0.5, "n": 4}},
        "tasks": {
            "one": {"mean": 1.0, "n": 2, "majority": 0.5},
            "two": {"mean": 0.5, "n": 4, "majority": 0.75},
        },
    }
    scores = score(PREDICTIONS)
    assert scores == expected
    assert json.loads(json.dumps(scores)) == scores
    shuffled = score(PREDICTIONS.sample(fraction=1, shuffle=True, seed=3))
    assert json.dumps(shuffled) == json.dumps(scores)  # in the same order too


def test_no_subclusters_at_all():
    assert score(PREDICTIONS.with_columns(subcluster=pl.lit(None, dtype=pl.String)))["subclusters"] == {}


def test_nothing_and_twice_are_refused():
    with pytest.raises(BBError, match="no predictions to score; does the labels file have test images"):
        score(PREDICTIONS.clear())
    with pytest.raises(BBError, match="task 'two' has more than one prediction for image 'z'; it needs exactly one"):
        score(pl.concat([PREDICTIONS, PREDICTIONS[4:5]]))
