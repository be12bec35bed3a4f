"""Differences between ways of splitting, of numbers and traits too: what the tables next to each other show."""

import polars as pl
import pytest

import bb.probe
from tests.helpers.synthetic import cluster_store

WAYS = ("random", "group")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    store, ids, y, _ = cluster_store(tmp_path_factory.mktemp("ways") / "features.bb", n=240, spread=1.5)
    return store, pl.DataFrame({"image_id": ids, "group": [f"site {i % 13}" for i in range(len(ids))]}), y


def scores(found):
    """Of each way the only side's metric that comes first."""
    sides = {run.record["split_by"]: run.record["scores"]["tasks"]["classify"] for run in found}
    return {way: next(iter(side.values()))["metrics"] for way, side in sides.items()}


def test_of_numbers_without_an_interval_which_none_of_the_scores_has(place):
    store, table, y = place
    labels = table.with_columns(label=pl.Series(y + 0.5))
    found = bb.probe.classify(store, labels, regression=True, split_by=WAYS)
    (each,) = found.differences
    of_way = scores(found)
    assert each.metric == "r2" and each.split_by == "group"
    assert each.difference.value == pytest.approx(of_way["random"]["r2"]["value"] - of_way["group"]["r2"]["value"])
    assert each.difference.interval is None
    assert each.difference.reason.startswith("intervals of r2 over folds were not shown to hold")
    assert "random less group" in found.page()


def test_of_traits_without_an_interval_which_no_simulation_has(place):
    store, table, y = place
    known = [None if i % 5 == 0 else int(k % 2) for i, k in enumerate(y)]
    labels = table.with_columns(pl.Series("label:big", (y > 1).astype(int)), pl.Series("label:odd", known, pl.Int64))
    found = bb.probe.classify(store, labels, classifier="ridge", split_by=WAYS)
    (each,) = found.differences
    of_way = {way: metrics["macro_f1"]["value"] for way, metrics in scores(found).items()}
    assert each.metric == "macro_f1"
    assert each.difference.value == pytest.approx(of_way["random"] - of_way["group"])
    assert each.difference.interval is None
    said = "intervals of differences in macro_f1 between ways of splitting were not shown to hold"
    assert each.difference.reason == said


def test_of_classes_with_the_interval_of_paired_answers(place):
    """Somewhat wider than that of two classifiers of the same training images."""
    store, table, y = place
    (each,) = bb.probe.classify(
        store, table.with_columns(label=pl.Series(y)), classifier="ridge", split_by=WAYS
    ).differences
    low, high = each.difference.interval
    assert each.metric == "accuracy" and low < each.difference.value < high and high - low < 0.3
