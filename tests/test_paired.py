"""Scores of queries as a table: intervals hold their means, tests are those of the rest of bb."""

import numpy as np
import pytest

from probe.retrieval.paired import changes, estimates, table_of
from store.errors import BBError

IDS = np.array(["d", "b", "a", "c"])
NAN = np.nan


def test_the_table_has_a_metric_for_a_task_and_a_query_for_an_item():
    scores = {"map@5": np.array([0.4, 0.2, NAN, 0.3]), "cmc@1": np.array([1.0, 0, 0, 1])}
    table = table_of(IDS, {"x": scores})
    assert table.tasks == ("cmc@1", "map@5") and table.models == ("x",)
    assert table.image_ids.tolist() == ["a", "b", "c", "d", "b", "c", "d"]  # "a" has no map@5
    assert table.fields["score"].tolist() == [[0, 0, 1, 1, 0.2, 0.3, 0.4]]
    assert table.units == ("a", "b", "c", "d")


def test_estimates_are_means_with_intervals_around_them():
    rng = np.random.default_rng(0)
    ids = np.array([f"{i:04d}" for i in range(400)])
    found = estimates(ids, {"m": rng.random(400), "n": np.full(400, 0.25)})
    mean, low, high = found["m"].mean, found["m"].low, found["m"].high
    error = np.sqrt(1 / 12 / 400)
    assert low < mean < high and high - low == pytest.approx(2 * 1.96 * error, rel=0.15)
    assert (found["n"].low, found["n"].mean, found["n"].high) == (0.25, 0.25, 0.25)


def test_a_change_that_is_there_and_one_that_is_not():
    rng = np.random.default_rng(1)
    ids = np.array([f"{i:04d}" for i in range(300)])
    before = rng.random(300)
    found = changes(ids, {"up": before, "same": before}, {"up": before + 0.1 + 0.05 * rng.random(300), "same": before})
    assert found["up"].p < 0.001 and found["up"].difference.low > 0.1
    assert found["same"].p == 1 and found["same"].difference.mean == 0
    assert found["up"].after.mean - found["up"].before.mean == pytest.approx(found["up"].difference.mean)
    assert found["up"].queries == 300


def test_p_values_are_even_where_nothing_changed():
    """Of 40 comparisons of equals, few are called different."""
    rng = np.random.default_rng(2)
    ids = np.array([f"{i:03d}" for i in range(60)])
    pairs = rng.random((40, 2, 60))
    p = [changes(ids, {"m": one}, {"m": other})["m"].p for one, other in pairs]
    assert sum(value <= 0.05 for value in p) <= 6 and np.mean(p) == pytest.approx(0.5, abs=0.15)


def test_a_metric_without_any_query():
    with pytest.raises(BBError) as said:
        estimates(IDS, {"map@5": np.full(4, NAN)})
    assert str(said.value) == ("no query has a map@5: nothing in the gallery is relevant to any. Check the labels.")
