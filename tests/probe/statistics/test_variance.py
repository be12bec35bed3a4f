"""The split of variance: simulated components come back, parts agree with the bootstrap."""

import numpy as np
import pytest

from bb.probe.statistics.bootstrap import resample
from bb.probe.statistics.variance import SOURCES, split
from bb.store.errors import BBError
from tests.helpers.tables import by_chance, table_of

SD = {"tasks": 0.5, "images": 1.0, "draws": 0.4, "rest": 0.7}


def simulated(seed, tasks=20, images=30, draws=4, models=1, sd=SD):
    rng = np.random.default_rng(seed)
    y = (
        sd["tasks"] * rng.normal(size=(models, 1, tasks, 1))
        + sd["images"] * rng.normal(size=(models, 1, tasks, images))
        + sd["draws"] * rng.normal(size=(models, draws, tasks, 1))
        + sd["rest"] * rng.normal(size=(models, draws, tasks, images))
    )
    names = np.repeat([f"{t:03}" for t in range(tasks)], images)
    return table_of(y.reshape(models * draws, -1), tasks=names, draws=draws)


def test_simulated_components_come_back():
    """Unbiased: the mean over 200 models is within 4 standard errors of the truth."""
    found = split(simulated(0, models=200))
    for source in SOURCES:
        values = np.array([one.components[source] for one in found])
        assert abs(values.mean() - SD[source] ** 2) < 4 * values.std() / np.sqrt(200), source
        assert values.std() < 0.6 * SD[source] ** 2, source  # and close enough to be of use


def test_parts_add_up_to_the_variance_of_the_mean():
    tables = simulated(1, models=400, tasks=10, images=20, draws=3)
    means = tables.averaged().fields["score"].mean(axis=1)
    total = np.mean([sum(one.parts.values()) for one in split(tables)])
    assert total == pytest.approx(np.var(means, ddof=1), rel=0.2)


def test_components_that_are_not_there_are_not_found():
    without = {**SD, "draws": 0.0, "tasks": 0.0}
    found = split(simulated(2, models=100, sd=without))
    for source in ("draws", "tasks"):
        values = np.array([one.components[source] for one in found])
        assert abs(values.mean()) < 4 * values.std() / 10 and (values < 0).any()  # reported as it is
    assert all(min(one.shares.values()) >= 0 and sum(one.shares.values()) == pytest.approx(1) for one in found)


def test_one_draw_shows_no_draws_and_one_task_no_tasks():
    (one,) = split(by_chance(3, 1))
    assert one.components["draws"] is one.components["rest"] is one.parts["draws"] is one.shares["rest"] is None
    assert one.shares["tasks"] + one.shares["images"] == pytest.approx(1)
    (alone,) = split(by_chance(3, 1, tasks=1, draws=2))
    assert alone.components["tasks"] is None and alone.components["draws"] is not None
    (same,) = split(table_of(np.ones((1, 4)), tasks=list("aabb")))
    assert same.shares == {"tasks": 0.0, "images": 0.0, "draws": None, "rest": None}
    with pytest.raises(BBError, match="task 'b' has one test image, which shows no variance: leave it out"):
        split(table_of(np.ones((1, 3)), tasks=list("aab")))


def test_unequal_tasks_and_the_variance_of_the_interval_agree():
    """For images alone, the part of images is the variance that the interval is made of."""
    rng = np.random.default_rng(4)
    tasks = np.repeat(list("abc"), [40, 60, 200])
    table = table_of(rng.random((1, 300)) < 0.8, tasks=tasks)
    (one,) = split(table)
    variance = resample(table, average="tasks").spread.covariance[0, 0]
    assert variance == pytest.approx(one.parts["images"])
