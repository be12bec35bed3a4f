"""Text queries with known relevant images are scored as INQUIRE scores them, over all images and over candidates."""

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import average_precision_score, ndcg_score

from bb.probe import score_search
from bb.store import BBError, UsageError
from tests.helpers.texts import text_store, unit

QUERIES = tuple(f"query {q}" for q in range(8))


@pytest.fixture
def place(tmp_path):
    store, ids, _, x, w = text_store(tmp_path / "s.bb", classes=QUERIES, n=80)
    rng = np.random.default_rng(5)
    relevant = {q: {int(i) for i in rng.choice(80, 1 + q, replace=False)} | {q, q + 8} for q in range(8)}
    frame = pl.DataFrame({"query_id": [f"q{q}" for q in range(8)], "query_text": QUERIES, "category": ["a", "b"] * 4})
    frame.write_csv(tmp_path / "queries.csv")
    pairs = [(f"q{q}", f"train/{ids[i]}") for q in relevant for i in relevant[q]]
    pl.DataFrame(pairs, schema=["query_id", "image_path"], orient="row").write_csv(tmp_path / "relevant.csv")
    cosine = (unit(x.astype(np.float64)) @ w.T.astype(np.float64)).T
    return store, tmp_path, ids, relevant, cosine


def test_scores_are_those_of_scikit_learn(place):
    store, folder, _, relevant, cosine = place
    found = score_search(store, folder / "queries.csv", folder / "relevant.csv", k=10)
    for q, row in enumerate(found.frame.iter_rows(named=True)):
        top = np.argsort(-cosine[q], kind="stable")[:10]
        y, n = np.isin(top, list(relevant[q])), len(relevant[q])
        ap = average_precision_score(y, cosine[q][top]) * y.sum() / min(n, 10) if y.any() else 0
        unseen = n - int(y.sum())
        ndcg = ndcg_score([[*y, *[1] * unseen]], [[*cosine[q][top], *[-100] * unseen]], k=10)
        assert (row["ap"], row["ndcg"]) == (pytest.approx(ap, abs=1e-6), pytest.approx(ndcg, abs=1e-6))
        assert row["positives"] == n and row["recall"] == y.sum() / n
    mean = found.means["ap"]
    assert mean.value == pytest.approx(found.frame["ap"].mean()) and mean.low < mean.value < mean.high
    assert found.by("category")["queries"].to_list() == [4, 4]
    assert found.record()["means"]["ap"]["value"] == mean.value and found.k == 10
    with pytest.raises(UsageError, match="--by family: the queries have category"):
        found.by("family")


def test_fixed_candidates_are_ranked_alone(place):
    store, folder, ids, relevant, cosine = place
    rng = np.random.default_rng(1)
    candidates = {q: sorted({int(i) for i in rng.choice(80, 20, replace=False)} | {q}) for q in range(8)}
    rows = [(f"q{q}", ids[i], i in relevant[q]) for q in candidates for i in candidates[q]]
    path = folder / "candidates.csv"
    pl.DataFrame(rows, schema=["query_id", "image", "relevant"], orient="row").write_csv(path)
    for truth in (folder / "relevant.csv", path):
        found = score_search(store, folder / "queries.csv", truth, candidates=path)
        for q, row in enumerate(found.frame.iter_rows(named=True)):
            y = np.isin(candidates[q], list(relevant[q]))
            assert row["ap"] == pytest.approx(average_precision_score(y, cosine[q][candidates[q]]), abs=1e-6)
            assert row["recall"] == 1 and row["positives"] == y.sum()
        assert found.k is None


def test_images_that_are_not_there_count_as_missed(place):
    store, folder, ids, _, _ = place
    pl.DataFrame({"query_id": ["q0", "q0", "q9"], "image_path": [ids[0], "gone.jpg", ids[1]]}).write_csv(
        folder / "r.csv"
    )
    found = score_search(store, folder / "queries.csv", folder / "r.csv", k=80)
    assert found.frame["positives"].to_list() == [2] and found.frame["recall"].to_list() == [0.5]
    assert found.means["ap"].low is None
    assert found.notes == (
        "r.csv: 1 query IDs are not among the queries: q9",
        "r.csv: 1 of 2 images are not in pics or have no features, and count as not retrieved: gone.jpg",
        "7 of 8 queries have no relevant image and are left out",
    )
    candidates = folder / "c.csv"
    pl.DataFrame({"query_id": ["q0"] * 3, "image_path": ["gone.jpg", ids[0], ids[5]]}).write_csv(candidates)
    (row,) = score_search(
        store, folder / "queries.csv", folder / "r.csv", candidates=candidates
    ).frame.iter_rows(named=True)  # fmt: skip
    assert row["positives"] == 2 and row["mrr"] in (1, 0.5) and row["recall"] == 1 and row["ap"] < 1


@pytest.mark.parametrize(
    ("queries", "relevant", "error", "message"),
    [
        (None, "", UsageError, "found no queries at"),
        ("id,text\n1,a\n", "", UsageError, "does not have the column query_id"),
        ("query_id\n1\n", "", UsageError, "does not have the column query_text"),
        ("query_id,query_text\n1,a\n1,b\n", "", BBError, "line 2: its query_id stands twice"),
        ("query_id,query_text\n1,Star\n", None, UsageError, "found no relevant images at"),
        ("query_id,query_text\n1,Star\n", "query_id,x\n1,1\n", UsageError, "does not have the column image_path"),
        (
            "query_id,query_text\n1,Star\n",
            "query_id,image\n2,000.jpg\n",
            BBError,
            "no query of .* has a relevant image",
        ),
    ],
)
def test_what_is_refused(tmp_path, queries, relevant, error, message):
    store, *_ = text_store(tmp_path / "s.bb")
    for name, content in (("q.csv", queries), ("r.csv", relevant)):
        if content is not None:
            (tmp_path / name).write_text(content)
    with pytest.raises(error, match=message):
        score_search(store, tmp_path / "q.csv", tmp_path / "r.csv")
