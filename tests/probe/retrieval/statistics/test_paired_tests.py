"""Retrieval scores as a person reads them: from evaluations and from runs, with what they claim."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bb.probe.retrieval.evaluate import Retrieval, evaluate
from bb.probe.retrieval.labels import parse_items
from bb.probe.retrieval.statistics.paired_tests import (
    QueryEstimate,
    behind_first,
    change,
    claim,
    estimates,
    of_evaluations,
    of_models,
    sampled,
)
from bb.store.errors import BBError
from bb.store.local.runs import Run

HOW = Retrieval(ks=(1, 5), knn=(), pairs=False, shares=())


def evaluated(labels, each=6, spread=0.8, seed=0, models=2):
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(labels), each)
    items = parse_items(pl.DataFrame({"image_id": [f"{row:04}" for row in range(len(label))], "label": label}))
    centres = rng.normal(size=(labels, 8))
    return [
        evaluate(centres[label] + (spread + model) * rng.normal(size=(len(label), 8)), items, HOW, jobs=1)
        for model in range(models)
    ]


def test_estimates_hold_their_means_and_differences_theirs():
    found = evaluated(20)
    clustered = of_evaluations(found, "map@r")
    one, other = estimates(clustered)
    for estimate, evaluation in ((one, found[0]), (other, found[1])):
        assert estimate.mean == pytest.approx(evaluation.summary()["overall"]["map@r"])
        assert estimate.low < estimate.mean < estimate.high
    changed = change(clustered)
    assert (changed.before, changed.after, changed.queries, changed.units) == (one, other, 120, 20)
    assert changed.difference.mean == pytest.approx(other.mean - one.mean) and changed.p < 0.001
    assert changed.difference.high < 0


def test_each_less_the_first_is_corrected_for_their_number():
    clustered = of_evaluations(evaluated(20, models=3), "cmc@1")
    first, second, third = behind_first(clustered)
    raw = sorted([clustered.p(1, 0), clustered.p(2, 0)])
    assert first is None and sorted([second.p, third.p])[0] == pytest.approx(2 * raw[0])


def test_few_labels_have_means_and_nothing_else():
    clustered = of_evaluations(evaluated(4), "map@r")
    assert all(estimate.low is None is estimate.high for estimate in estimates(clustered))
    changed = change(clustered)
    assert changed.p is None and changed.difference.low is None
    assert behind_first(clustered)[1].p is None
    assert estimates(clustered)[0].text(3) == f"{clustered.mean[0]:.3f}"


def test_words():
    assert QueryEstimate(0.5, 0.25, 0.75).text(2) == "0.50 [0.25, 0.75]"
    assert QueryEstimate(0.5, 0.25, 0.75).text(1, "+") == "+0.5 [+0.2, +0.8]"
    (found,) = evaluated(20, models=1)
    assert sampled(found) == {"kind": "label", "shared": True, "n": 20}
    assert claim(sampled(found)) == "95% intervals for further labels like these 20, with images of their own"
    assert claim({"kind": "image", "shared": False, "n": 20}) == (
        "95% intervals for further queries like these 20, against the same gallery"
    )
    assert claim(sampled(found), 4) == "no intervals: 4 labels are too few to tell of further ones (at least 5)"


def test_runs_made_before_units_were_recorded_have_no_intervals():
    run = Run(Path("gone"), {"scores": {"tasks": {"map@r": {"mean": 0.5}}}})
    means, behind, said = of_models([run, run], "map@r")
    assert means[0] == QueryEstimate(0.5, None, None) and behind[1].p is None
    assert said.startswith("no intervals: the run was made before bb recorded what was sampled; run bb probe retrieval")


def test_a_metric_without_any_query():
    found = evaluated(6)
    for each in found:
        each.values["map@r"][:] = np.nan
    with pytest.raises(BBError) as said:
        of_evaluations(found, "map@r")
    assert str(said.value) == "no query has a map@r: nothing in the gallery is relevant to any. Check the labels."
