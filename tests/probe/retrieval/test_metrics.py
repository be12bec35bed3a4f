"""Retrieval metrics against cases worked by hand, brute force, and three other libraries."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from sklearn.decomposition import PCA
from sklearn.metrics import average_precision_score, ndcg_score, roc_auc_score, roc_curve
from sklearn.neighbors import KNeighborsClassifier
from torchmetrics.functional import retrieval as theirs

from bb.probe.retrieval import metrics as counting
from bb.probe.retrieval.evaluate import pcf
from bb.probe.retrieval.metrics import knn_correct, per_query, summarise
from bb.probe.retrieval.pair_metrics import BINS, PairHistogram, pair_up
from bb.probe.retrieval.ranking import hits
from bb.probe.retrieval.search import Vectors, search
from bb.store.errors import UsageError
from tests.helpers.examples import examples
from tests.helpers.retrieval import items_of

NAN = float("nan")


def of(rows, relevant, **how):
    return per_query(np.array(rows, bool), np.array(relevant), **how)


# By hand: five queries, hits among four places, R relevant items
#   a  1 0 1 0   R = 2
#   b  0 1 1 1   R = 6
#   c  0 0 0 0   R = 3
#   d  1 1 1 1   R = 4
#   e  0 0 0 0   R = 0
HITS = [[1, 0, 1, 0], [0, 1, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]]
R = [2, 6, 3, 4, 0]
B4 = 1 / 2 + 2 / 3 + 3 / 4  # precisions at b's hits
LOG = np.log2([2, 3, 4, 5])
BY_HAND = {
    "standard": {
        "cmc@1": [1, 0, 0, 1, NAN],
        "cmc@4": [1, 1, 0, 1, NAN],
        "precision@1": [1, 0, 0, 1, NAN],
        "precision@4": [2 / 4, 3 / 4, 0, 1, NAN],
        "recall@1": [1 / 2, 0, 0, 1 / 4, NAN],
        "recall@4": [1, 3 / 6, 0, 1, NAN],
        "map@1": [1, 0, 0, 1, NAN],
        "map@4": [(1 + 2 / 3) / 2, B4 / 4, 0, 1, NAN],
        "mrr@1": [1, 0, 0, 1, NAN],
        "mrr@4": [1, 1 / 2, 0, 1, NAN],
        "ndcg@4": [
            (1 / LOG[0] + 1 / LOG[2]) / (1 / LOG[:2]).sum(),
            (1 / LOG[1:]).sum() / (1 / LOG).sum(),
            0,
            1,
            NAN,
        ],
        "r_precision": [1 / 2, 3 / 6, 0, 1, NAN],
        "map@r": [1 / 2, B4 / 6, 0, 1, NAN],
    },
    "oml": {
        "cmc@1": [1, 0, 0, 1, 0],
        "precision@4": [2 / 2, 3 / 4, 0, 1, 0],
        "recall@4": [1, 3 / 6, 0, 1, 0],
        "map@1": [1, 0, 0, 1, 0],
        "map@4": [(1 + 2 / 3) / 2, B4 / 3, 0, 1, 0],
        "map@r": [1 / 2, B4 / 6, 0, 1, 0],
    },
}


@pytest.mark.parametrize("convention", BY_HAND)
def test_metrics_worked_by_hand(convention):
    found = of(HITS, R, ks=(1, 4), convention=convention)
    for name, expected in BY_HAND[convention].items():
        assert found[name] == pytest.approx(expected, nan_ok=True), name


def test_open_metric_learnings_own_examples():
    """From the docstrings of its calc_cmc, calc_precision and calc_map; a missing place is no item retrieved."""
    rows, retrieved = [[1, 0, 0], [0, 1, 1], [0, 0, 0], [0, 0, 0]], np.array([2, 3, 2, 0])
    how = {"ks": (1, 2), "convention": "oml", "retrieved": retrieved}
    cmc = of(rows, [2, 2, 1, 0], **how)
    assert cmc["cmc@1"].tolist() == [1, 0, 0, 1] and cmc["cmc@2"].tolist() == [1, 1, 0, 1]
    precision = of(rows, [2, 3, 5, 2], **how)
    assert precision["precision@1"].tolist() == [1, 0, 0, 0] and precision["precision@2"].tolist() == [0.5, 0.5, 0, 0]
    ap = of(rows, [1, 1, 2, 0], **how)
    assert ap["map@1"].tolist() == [1, 0, 0, 1] and ap["map@2"].tolist() == [1, 0.5, 0, 1]


def test_oml_counts_nothing_found_of_nothing_relevant_as_right():
    for retrieved, expected in ((0, 1), (2, 0)):
        found = of([[0, 0]], [0], ks=(1,), convention="oml", retrieved=np.array([retrieved]))
        assert all(value.tolist() == [expected] for value in found.values())
    assert all(np.isnan(value).all() for value in of([[0, 0]], [0], ks=(1,), retrieved=np.array([0])).values())


def test_cut_offs_beyond_what_was_retrieved():
    found = of([[1, 0]], [3], ks=(5,))
    assert found["precision@5"].tolist() == [1 / 5] and found["map@5"].tolist() == [1 / 3]
    assert found["recall@5"].tolist() == [1 / 3] and found["mrr@5"].tolist() == [1]
    assert of(np.zeros((1, 0)), [3], ks=(5,))["mrr@5"].tolist() == [0]


def test_metrics_that_can_not_be_asked_for():
    for ks in ((), (0, 1), (2, 2), (100_001,)):
        with pytest.raises(UsageError, match="cut-offs .* make no sense: name at least one, each from 1 to 100000 and"):
            of(HITS, R, ks=ks)
    with pytest.raises(UsageError, match="unknown convention 'trec': choose standard or oml"):
        of(HITS, R, convention="trec")
    with pytest.raises(UsageError, match="unknown metric 'f1': choose cmc, precision, .*, map@r"):
        of(HITS, R, metrics=("f1",))


def naive(row, r, k, convention):
    """Each definition as a loop."""
    top = row[:k]
    precisions = [sum(row[: i + 1]) / (i + 1) for i in range(len(top)) if top[i]]
    gain = sum(1 / np.log2(i + 2) for i in range(len(top)) if top[i])
    oml = convention == "oml"
    return {
        "cmc": float(any(top)),
        "precision": sum(top) / (min(r, k) if oml else k),
        "recall": sum(top) / r,
        "map": sum(precisions) / ((sum(top) or 1) if oml else min(r, k)),
        "mrr": next((1 / (i + 1) for i, hit in enumerate(top) if hit), 0.0),
        "ndcg": gain / sum(1 / np.log2(i + 2) for i in range(min(r, k))),
    }


@settings(max_examples=examples(60))
@given(st.lists(st.lists(st.booleans(), min_size=7, max_size=7), min_size=1, max_size=6), st.integers(0, 9), st.data())
def test_metrics_are_their_definitions(rows, extra, data):
    relevant = [max(1, sum(row)) + data.draw(st.integers(0, extra)) for row in rows]
    for convention in ("standard", "oml"):
        found = of(rows, relevant, ks=(1, 3, 7), convention=convention)
        for q, (row, r) in enumerate(zip(rows, relevant, strict=True)):
            for k in (1, 3, 7):
                for name, expected in naive(row, r, k, convention).items():
                    assert found[f"{name}@{k}"][q] == pytest.approx(expected)
            precisions = [sum(row[: i + 1]) / (i + 1) for i in range(min(r, 7)) if row[i]]
            assert found["map@r"][q] == pytest.approx(sum(precisions) / r)
            assert found["r_precision"][q] == pytest.approx(sum(row[:r]) / r)


@pytest.fixture(scope="module")
def ranked():
    """A search of all, so that every library sees the same order."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 12, 240)
    centres = rng.standard_normal((12, 16))
    x = (centres[labels] + 1.3 * rng.standard_normal((240, 16))).astype(np.float32)
    items = items_of(labels)
    return x, labels, items, search(x, items, 239)


def test_metrics_agree_with_scikit_learn(ranked):
    _, _, items, ranking = ranked
    found = per_query(hits(items, ranking), ranking.relevant, ks=(10, 239))
    for q, row in enumerate(hits(items, ranking)):
        falling = -np.arange(len(row))
        assert found["map@239"][q] == pytest.approx(average_precision_score(row, falling))
        for k in (10, 239):
            assert found[f"ndcg@{k}"][q] == pytest.approx(ndcg_score(row[None].astype(int), falling[None], k=k))


def test_metrics_agree_with_torchmetrics(ranked):
    """Its precision and recall are standard's, its average precision at k divides as OML's does."""
    _, _, items, ranking = ranked
    rows, k = hits(items, ranking), 10
    standard = per_query(rows, ranking.relevant, ks=(k,))
    oml = per_query(rows, ranking.relevant, ks=(k,), convention="oml")
    preds = torch.linspace(1, 0, rows.shape[1])
    for q, row in enumerate(rows):
        target = torch.from_numpy(row)
        assert standard["cmc@10"][q] == pytest.approx(theirs.retrieval_hit_rate(preds, target, top_k=k).item())
        assert standard["precision@10"][q] == pytest.approx(theirs.retrieval_precision(preds, target, top_k=k).item())
        assert standard["recall@10"][q] == pytest.approx(theirs.retrieval_recall(preds, target, top_k=k).item())
        assert standard["mrr@10"][q] == pytest.approx(theirs.retrieval_reciprocal_rank(preds, target, top_k=k).item())
        assert standard["r_precision"][q] == pytest.approx(theirs.retrieval_r_precision(preds, target).item())
        assert oml["map@10"][q] == pytest.approx(theirs.retrieval_average_precision(preds, target, top_k=k).item())


def test_metrics_agree_with_pytorch_metric_learning(ranked):
    x, labels, items, ranking = ranked
    found = summarise(per_query(hits(items, ranking), ranking.relevant, ks=(1,)))["overall"]
    unit = torch.nn.functional.normalize(torch.from_numpy(x))
    calculator = AccuracyCalculator(
        include=("precision_at_1", "r_precision", "mean_average_precision_at_r"), k="max_bin_count"
    )
    expected = calculator.get_accuracy(unit, torch.from_numpy(labels))
    assert found["precision@1"] == pytest.approx(expected["precision_at_1"])
    assert found["r_precision"] == pytest.approx(expected["r_precision"])
    assert found["map@r"] == pytest.approx(expected["mean_average_precision_at_r"])


def test_many_queries_are_worked_on_in_chunks(ranked, monkeypatch):
    _, _, items, ranking = ranked
    whole = per_query(hits(items, ranking), ranking.relevant, retrieved=ranking.retrieved, convention="oml")
    monkeypatch.setattr(counting, "CHUNK", 10_000)
    chunked = per_query(hits(items, ranking), ranking.relevant, retrieved=ranking.retrieved, convention="oml")
    assert all(np.array_equal(whole[name], chunked[name]) for name in whole)


def test_means_by_category_leave_out_what_has_no_value():
    values = {"a": np.array([1, 0, NAN, 0.5]), "b": np.full(4, NAN)}
    found = summarise(values, np.array([0, 1, 1, -1]), ("x", "y"))
    assert found == {"overall": {"a": 0.5}, "x": {"a": 1.0}, "y": {"a": 0.0}}
    assert summarise(values) == {"overall": {"a": 0.5}}


# k-NN accuracy


def test_votes_of_neighbours():
    label = np.array([[1, 2, 2, 1], [3, 4, 5, 5], [0, -1, -1, -1], [-1, -1, -1, -1]])
    truth = np.array([1, 5, 0, 0])
    assert knn_correct(label, truth, 1) == pytest.approx([1, 0, 1, NAN], nan_ok=True)
    assert knn_correct(label, truth, 3) == pytest.approx([0, 0, 1, NAN], nan_ok=True)
    # two and two: the label of the nearest wins
    assert knn_correct(label, truth, 4) == pytest.approx([1, 1, 1, NAN], nan_ok=True)
    assert np.isnan(knn_correct(np.zeros((2, 0), np.int64), np.array([0, 1]), 3)).all()


def test_votes_agree_with_scikit_learn_where_no_two_labels_are_as_common():
    rng = np.random.default_rng(1)
    x, labels = rng.standard_normal((300, 6)).astype(np.float32), rng.integers(0, 2, 300)
    items = items_of(labels, is_query=np.arange(300) < 80, is_gallery=np.arange(300) >= 80)
    ranking = search(x, items, 9, distance="euclidean")
    for k in (1, 5, 9):  # odd, and two labels: no draw
        model = KNeighborsClassifier(k).fit(x[80:], labels[80:])
        expected = model.predict(x[:80]) == labels[:80]
        assert np.array_equal(knn_correct(items.label_codes[ranking.nearest], labels[:80], k), expected)


# Pairs


def all_pairs(x, items, distance):
    x = x.astype(float)
    x = x / np.linalg.norm(x, axis=1, keepdims=True) if distance == "cosine" else x
    apart = 1 - x @ x.T if distance == "cosine" else np.sqrt(((x[:, None] - x[None]) ** 2).sum(axis=2))
    may = np.zeros(apart.shape, bool)
    may[np.ix_(items.queries, items.gallery)] = True
    np.fill_diagonal(may, False)
    if items.sequence is not None:
        may &= (items.sequence[:, None] != items.sequence[None]) | (items.sequence < 0)[:, None]
    same = items.label_codes[:, None] == items.label_codes[None]
    return apart[may], same[may]


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("roles", ["leave one out", "overlapping with sequences"])
def test_pairs_agree_with_scikit_learn(distance, roles, monkeypatch):
    from bb.probe.retrieval import pair_metrics as pairing
    from bb.probe.retrieval import search as searching

    monkeypatch.setattr(searching, "BLOCK", 32)
    monkeypatch.setattr(pairing, "BLOCK", 32)
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 6, 120)
    x = (rng.standard_normal((6, 8))[labels] + rng.standard_normal((120, 8))).astype(np.float32)
    columns = {}
    if roles != "leave one out":
        columns = {
            "is_query": np.arange(120) < 80,
            "is_gallery": np.arange(120) > 30,
            "sequence": [None if i % 5 == 0 else f"s{i % 7}" for i in range(120)],
        }
    items = items_of(labels, **columns)
    pairs = pair_up(Vectors.of(x, items, distance), items, jobs=2)
    apart, same = all_pairs(x, items, distance)
    assert pairs.positive.sum() == same.sum() and pairs.negative.sum() == (~same).sum()
    assert abs(pairs.auroc() - roc_auc_score(same, -apart)) <= pairs.tied() + 1e-5
    assert pairs.tied() < 1e-4
    fmr, tpr, _ = roc_curve(same, -apart, drop_intermediate=False)
    for rate in (0.5, 0.1, 0.01):
        assert pairs.fnmr(rate) == pytest.approx(1 - tpr[fmr <= rate].max(), abs=2e-3)


def counted(positive, negative):
    both = [np.bincount(np.array(distances), minlength=BINS).astype(np.int64) for distances in (positive, negative)]
    return PairHistogram(*both)


def test_pairs_worked_by_hand():
    pairs = counted([0, 0, 1, 1, 2, 2, 5, 5, 9, 9], [3, 3, 4, 4, 6, 6, 7, 7, 8, 8])
    assert pairs.fnmr(0.1) == pytest.approx(0.4) and pairs.fnmr(0.5) == pytest.approx(0.2)  # OML's own example
    assert pairs.fnmr(0.0) == pytest.approx(0.4) and pairs.fnmr(1.0) == 0
    assert pairs.auroc() == pytest.approx((6 * 10 + 2 * 6 + 0) / 100) and pairs.tied() == 0
    equal = counted([1], [1])
    assert equal.auroc() == 0.5 and equal.tied() == 0.5
    assert pairs.values([0.1]).keys() == {"auroc", "fnmr@fmr=0.1"}


def test_pairs_of_one_kind_say_nothing():
    alone = counted([1, 2], np.zeros(0, np.int64))
    assert alone.values() == {} and np.isnan(alone.tied())
    with pytest.raises(UsageError, match="a false match rate of 1.5 is not a share: choose between 0 and 1"):
        alone.fnmr(1.5)


# Principal components


def test_components_worked_by_hand():
    assert pcf(np.eye(4, 10, dtype=np.float32), (0.5, 1.0)) == {"pcf@0.5": 0.2, "pcf@1": 0.3}  # 4 points span 3
    assert pcf(np.ones((5, 3), np.float32)) == {} and pcf(np.ones((1, 3), np.float32)) == {}
    with pytest.raises(UsageError, match="a share of variance of 0 makes no sense: choose above 0 and at most 1"):
        pcf(np.eye(3, dtype=np.float32), (0.0,))


@pytest.mark.parametrize("shape", [(300, 20), (15, 40)])
def test_components_agree_with_scikit_learn(shape):
    x = (np.random.default_rng(3).standard_normal(shape) * np.linspace(0.1, 3, shape[1])).astype(np.float32)
    for share in (0.3, 0.5, 0.9):
        assert pcf(x, (share,))[f"pcf@{share}"] == PCA(share, svd_solver="full").fit(x).n_components_ / shape[1]
