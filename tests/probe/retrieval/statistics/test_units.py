"""What was sampled: labels among each other, queries against a gallery; and what a unit takes from the others."""

import numpy as np
import polars as pl
import pytest

from bb.probe.retrieval.evaluate import Retrieval, evaluate, score
from bb.probe.retrieval.labels import parse_items
from bb.probe.retrieval.ranking import NO_MATCH, Ranking
from bb.probe.retrieval.search import search
from bb.probe.retrieval.statistics.units import Units, sample_every
from bb.store import BBError

N = 24
IDS = [f"{row:02}" for row in range(N)]
LABEL = [f"whale {row // 4}" for row in range(N)]
HALF = [row % 2 == 0 for row in range(N)]
APART = {"is_query": HALF, "is_gallery": [not half for half in HALF]}


def items_of(**columns):
    return parse_items(pl.DataFrame({"image_id": IDS, "label": LABEL, **columns}), source="whales.csv")


@pytest.mark.parametrize(
    "columns, kind, shared, units",
    [
        ({}, "label", True, 6),
        ({"sequence": [str(row // 2) for row in range(N)]}, "label", True, 6),
        ({"is_query": HALF, "is_gallery": [True] * N}, "label", True, 6),
        (APART, "image", False, N),
        ({**APART, "sequence": [str(row // 2) for row in range(N)]}, "sequence", False, N // 2),
        ({**APART, "sequence": ["a"] * 4 + [""] * (N - 4)}, "sequence", False, N - 3),
        ({"unit": [f"bay {row // 8}" for row in range(N)]}, "unit", True, 3),
        ({**APART, "unit": LABEL}, "unit", True, 6),
        ({**APART, "unit": [f"day {row % 5}" for row in range(N)]}, "unit", False, 5),
    ],
)
def test_what_was_sampled(columns, kind, shared, units):
    found = Units.of(items_of(**columns))
    assert (found.kind, found.shared, len(found.names)) == (kind, shared, units)


def test_folds_leave_labels_the_units():
    assert Units.of(items_of().folded(3, 0)).kind == "label"


def test_units_that_part_a_label_are_refused_among_queries_of_each_other():
    with pytest.raises(BBError) as caught:
        Units.of(items_of(unit=[f"bay {row % 2}" for row in range(N)]))
    assert str(caught.value) == (
        "whales.csv: label 'whale 0' has images in the units 'bay 0' and 'bay 1'. Where queries are searched among "
        "each other, a unit must hold all images of its labels: name coarser units, or leave out the column unit, so "
        "that labels are the units."
    )


HOW = Retrieval(ks=(1, 3), knn=(1, 3), pairs=False, shares=())


@pytest.mark.parametrize("columns", [{}, {"unit": [f"bay {row // 8}" for row in range(N)]}, {**APART, "unit": LABEL}])
def test_a_units_effect_is_what_changes_when_its_images_are_not_there(columns):
    features = np.random.default_rng(0).normal(size=(N, 3))
    items = items_of(**columns)
    found = evaluate(features, items, HOW, jobs=1)
    whole = search(features, items, N, jobs=1)
    unit = found.units.code
    for place in range(len(found.units.names)):
        out = (whole.nearest != NO_MATCH) & (unit[whole.nearest] == place)
        order = np.argsort(out, axis=1, kind="stable")
        nearest = np.take_along_axis(np.where(out, NO_MATCH, whole.nearest), order, axis=1)
        left = Ranking(whole.query, nearest, np.take_along_axis(whole.distance, order, axis=1), whole.relevant)
        others = unit[whole.query] != place
        for metric, after in score(items, left, HOW).items():
            expected = (after - found.values[metric])[others].sum()
            assert found.effects[metric][place] == pytest.approx(expected), (metric, place)


def test_a_gallery_that_stays_has_no_effects():
    assert evaluate(np.random.default_rng(0).normal(size=(N, 3)), items_of(**APART), HOW, jobs=1).effects == {}


def test_of_many_queries_a_sample_is_looked_at(monkeypatch):
    rng = np.random.default_rng(0)
    label = np.repeat(np.arange(30), 10)
    items = parse_items(pl.DataFrame({"image_id": [f"{row:03}" for row in range(300)], "label": label}))
    features = rng.normal(size=(30, 6))[label] + rng.normal(size=(300, 6))
    whole = evaluate(features, items, HOW, jobs=1).effects["map@r"]
    monkeypatch.setattr("bb.probe.retrieval.statistics.units.CELLS", 30_000)
    assert sample_every(300, 30, 10, 20) == 2
    sampled = evaluate(features, items, HOW, jobs=1).effects["map@r"]
    assert not np.array_equal(sampled, whole) and np.corrcoef(sampled, whole)[0, 1] > 0.8
    assert sampled.sum() == pytest.approx(whole.sum(), rel=0.15)
