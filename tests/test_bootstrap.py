"""Bootstrap intervals: against scipy's, against the binomial, and the promises of their docstring."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from probe import bootstrap
from probe.bootstrap import interval


def ids(n: int) -> list[str]:
    return [f"{i}.jpg" for i in range(n)]


def test_agrees_with_scipy_where_each_image_has_one_row():
    scores = np.random.default_rng(1).random((300, 2))
    ours = interval(ids(300), scores, resamples=20_000)
    for model in range(2):
        theirs = scipy.stats.bootstrap(
            (scores[:, model],),
            np.mean,
            method="percentile",
            n_resamples=20_000,
            rng=np.random.default_rng(2),
        )
        assert ours.estimate[model] == pytest.approx(scores[:, model].mean())
        # A 2.5% quantile of 20,000 draws has a standard error of about 0.02 standard deviations.
        assert ours.low[model] == pytest.approx(theirs.confidence_interval.low, abs=0.1 * theirs.standard_error)
        assert ours.high[model] == pytest.approx(theirs.confidence_interval.high, abs=0.1 * theirs.standard_error)


def test_agrees_with_scipy_where_images_have_several_rows():
    rng = np.random.default_rng(3)
    image_of_row = np.repeat(np.arange(60), rng.integers(1, 6, 60))
    scores = (rng.random(len(image_of_row)) < 0.3 + 0.6 * (image_of_row % 2)).astype(float)
    sums, rows = np.bincount(image_of_row, scores), np.bincount(image_of_row)

    def ratio(sums: np.ndarray, rows: np.ndarray, axis: int) -> np.ndarray:
        return sums.sum(axis) / rows.sum(axis)

    theirs = scipy.stats.bootstrap(
        (sums, rows),
        ratio,
        paired=True,
        method="percentile",
        n_resamples=20_000,
        rng=np.random.default_rng(4),
    )
    ours = interval([str(i) for i in image_of_row], scores[:, None], resamples=20_000)
    assert ours.low[0] == pytest.approx(theirs.confidence_interval.low, abs=0.1 * theirs.standard_error)
    assert ours.high[0] == pytest.approx(theirs.confidence_interval.high, abs=0.1 * theirs.standard_error)
    alone = interval(ids(len(scores)), scores[:, None], resamples=20_000)
    assert ours.high[0] - ours.low[0] > 1.2 * (alone.high[0] - alone.low[0])  # rows of an image are no strangers


def test_zeros_and_ones_follow_the_binomial():
    scores = np.zeros((200, 1))
    scores[:150] = 1
    got = interval(ids(200), scores, resamples=50_000)
    low, high = scipy.stats.binom(200, 0.75).ppf([0.025, 0.975]) / 200
    assert abs(got.low[0] - low) <= 0.005 + 1e-12 and abs(got.high[0] - high) <= 0.005 + 1e-12


@settings(max_examples=50, deadline=None)
@given(data=st.data(), n=st.integers(1, 30), models=st.integers(1, 4))
def test_holds_the_estimate_and_knows_no_row_order(data: st.DataObject, n: int, models: int):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    image_ids = [f"{i}" for i in rng.integers(0, max(1, n // 2), n)]
    scores = rng.choice([0, 1 / 3, 2 / 3, 1], (n, models))
    got = interval(image_ids, scores, resamples=200)
    assert (got.low <= got.estimate).all() and (got.estimate <= got.high).all()

    rows = rng.permutation(n)
    shuffled = interval([image_ids[row] for row in rows], scores[rows], resamples=200)
    assert all(np.array_equal(a, b) for a, b in zip(got, shuffled, strict=True))


def test_models_share_each_resample(monkeypatch: pytest.MonkeyPatch):
    scores = np.random.default_rng(5).random((40, 3))
    scores[:, 2] = scores[:, 0] + 0.25
    together = interval(ids(40), scores)
    assert together.low[2] == pytest.approx(together.low[0] + 0.25)
    assert together.high[2] == pytest.approx(together.high[0] + 0.25)
    monkeypatch.setattr(bootstrap, "BLOCK", 40 * 7)  # many small blocks instead of one
    assert np.allclose(interval(ids(40), scores), together, rtol=0, atol=1e-12)


def test_seed_level_and_constant_scores():
    scores = np.random.default_rng(6).random((50, 1))
    assert interval(ids(50), scores, seed=1) == interval(ids(50), scores, seed=1)
    assert interval(ids(50), scores, seed=1) != interval(ids(50), scores, seed=2)
    narrow, wide = interval(ids(50), scores, level=0.5), interval(ids(50), scores, level=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high
    same = interval(ids(50), np.full((50, 1), 0.1))
    assert same.high - same.low < 1e-15
