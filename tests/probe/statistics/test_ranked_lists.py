"""AP@k, nDCG@k and MRR are scikit-learn's with INQUIRE's factors, ties included."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, ndcg_score

from bb.probe.statistics.ranked_lists import score_list


def inquire(hit, score, positives):
    """Written from the definition: scikit-learn's AP by a factor, its nDCG with unseen positives at score -100."""
    k = len(hit)
    ap = average_precision_score(hit, score) * hit.sum() / min(positives, k) if hit.any() else 0.0
    unseen = positives - int(hit.sum())
    y, s = [*hit.astype(int), *[1] * unseen], [*score, *[-100] * unseen]
    ndcg = ndcg_score([y], [s], k=k) if len(y) > 1 else float(y[0])
    first = next((1 / rank for rank, found in enumerate(hit, 1) if found), 0.0)
    return ap, ndcg, first, hit.sum() / k, hit.sum() / positives


@pytest.mark.parametrize("ties", [False, True])
def test_lists_are_scored_as_scikit_learn_scores_them(ties):
    rng = np.random.default_rng(int(ties))
    for _ in range(300):
        k = int(rng.integers(1, 60))
        hit = rng.random(k) < rng.choice([0.05, 0.3, 0.9])
        score = np.sort(rng.integers(0, 6, k) / 10 if ties else rng.normal(size=k))[::-1]
        positives = max(1, int(hit.sum()) + int(rng.choice([0, 3, 100])))
        found = score_list(hit, score, positives)
        expected = inquire(hit, score, positives)
        assert [found.ap, found.ndcg, found.mrr, found.precision, found.recall] == pytest.approx(expected, abs=1e-12)


def test_values_by_hand():
    found = score_list(np.array([True, False, True]), np.array([3.0, 2.0, 1.0]), 4)
    assert found.ap == pytest.approx((1 + 2 / 3) / 2 * 2 / 3)
    assert (found.mrr, found.precision, found.recall) == (1.0, pytest.approx(2 / 3), 0.5)
    assert score_list(np.array([False, True]), np.array([1.0, 0.0]), 1).mrr == 0.5


@pytest.mark.parametrize(
    ("hit", "score", "positives"), [([], [], 1), ([True], [1.0], 0), ([True, True], [0.0, 1.0], 2), ([False], [1.0], 0)]
)
def test_what_is_no_ranked_list_is_refused(hit, score, positives):
    with pytest.raises(ValueError, match="no ranked list"):
        score_list(np.array(hit, bool), np.array(score), positives)
