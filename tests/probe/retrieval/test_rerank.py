"""Re-rankers and thresholds: whatever the ranking and the model, the result is a ranking of the same queries."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bb.probe.retrieval.pairwise_model import Distance, Separable
from bb.probe.retrieval.ranking import Ranking
from bb.probe.retrieval.rerank import AdaptiveThreshold, ConstantThreshold, Rerank, Step, apply
from tests.contracts.pairwise_model import check_pairwise_model
from tests.helpers.examples import examples

ITEMS, DIM = 12, 3


@dataclass(frozen=True, eq=False)
class Given:
    """A model that knows each pair's distance: features are one-hot rows."""

    table: np.ndarray

    def forward(self, x1, x2):
        return self.predict(x1, x2)

    def predict(self, x1, x2):
        return self.table[x1.argmax(axis=1), x2.argmax(axis=1)].astype(np.float32)


ONE_HOT = np.eye(ITEMS, dtype=np.float32)
SIGNED = st.floats(-1e6, 1e6, width=32) | st.sampled_from([0.0, -0.0, -1.0, 1.0])


@st.composite
def rankings(draw):
    n, queries = draw(st.integers(1, ITEMS - 1)), draw(st.integers(1, 4))
    nearest, distance = [], []
    for query in range(queries):
        others = [row for row in range(ITEMS) if row != query]
        found = draw(st.permutations(others))[: draw(st.integers(0, n))]
        values = sorted(draw(st.lists(SIGNED, min_size=len(found), max_size=len(found))))
        nearest.append(found + [-1] * (n - len(found)))
        distance.append(values + [np.inf] * (n - len(found)))
    return Ranking(np.arange(queries), np.array(nearest, np.int64), np.array(distance, np.float32), np.full(queries, 3))


@st.composite
def models(draw):
    values = draw(st.lists(SIGNED, min_size=ITEMS**2, max_size=ITEMS**2))
    return Given(np.array(values, np.float32).reshape(ITEMS, ITEMS))


def steps():
    return st.one_of(
        st.builds(lambda model, n: Rerank(model, ONE_HOT, n), models(), st.integers(2, ITEMS + 2)),
        st.builds(ConstantThreshold, SIGNED),
        st.builds(AdaptiveThreshold, st.floats(0, 10)),
    )


def assert_sound(ranking, before):
    there = ranking.nearest >= 0
    assert (np.diff(there.astype(int), axis=1) <= 0).all(), "something stands after a place where nothing does"
    assert np.array_equal(np.isinf(ranking.distance), ~there)
    finite = np.where(there, ranking.distance, np.finfo(np.float32).max)
    assert (np.diff(finite, axis=1) >= 0).all(), "distances ascend"
    assert ranking.nearest.dtype == np.int64 and ranking.distance.dtype == np.float32
    assert ranking.nearest.shape == before.nearest.shape
    assert np.array_equal(ranking.query, before.query) and np.array_equal(ranking.relevant, before.relevant)
    for row, old in zip(ranking.nearest, before.nearest, strict=True):
        kept = row[row >= 0]
        assert len(set(kept)) == len(kept) and set(kept) <= set(old)


@settings(max_examples=examples(150))
@given(rankings(), st.lists(steps(), max_size=4))
def test_any_steps_in_a_row_make_a_ranking_of_the_same_queries(ranking, chain):
    nearest, distance = ranking.nearest.copy(), ranking.distance.copy()
    found = ranking
    for step in chain:
        assert isinstance(step, Step)
        assert_sound(step(found), found)
        found = step(found)
    assert_sound(apply(ranking, chain), ranking)
    assert np.array_equal(ranking.nearest, nearest) and np.array_equal(ranking.distance, distance)  # left as it was


@settings(max_examples=examples(150))
@given(rankings(), models(), st.integers(2, ITEMS + 2))
def test_the_nearest_are_in_the_order_of_the_model_and_the_others_stay(ranking, model, top_n):
    found = Rerank(model, ONE_HOT, top_n)(ranking)
    assert np.array_equal(found.nearest[:, top_n:], ranking.nearest[:, top_n:])
    assert np.array_equal(found.distance[:, top_n:], ranking.distance[:, top_n:])
    for query, new, old in zip(ranking.query, found.nearest[:, :top_n], ranking.nearest[:, :top_n], strict=True):
        assert sorted(new) == sorted(old)
        expected = sorted((model.table[query, row] + 0.0, row) for row in old if row >= 0)
        assert [row for _, row in expected] == [row for row in new if row >= 0]


@settings(max_examples=examples(100))
@given(rankings(), models(), models(), st.integers(2, ITEMS))
def test_the_last_of_several_re_rankers_decides(ranking, first, second, top_n):
    both = apply(ranking, [Rerank(first, ONE_HOT, top_n), Rerank(second, ONE_HOT, top_n)])
    assert np.array_equal(both.nearest, Rerank(second, ONE_HOT, top_n)(ranking).nearest)


@settings(max_examples=examples(100))
@given(rankings(), models())
def test_a_whole_ranking_has_the_distances_of_the_model(ranking, model):
    found = Rerank(model, ONE_HOT, ITEMS)(ranking)
    for query, row, distance in zip(found.query, found.nearest, found.distance, strict=True):
        assert distance[row >= 0].tolist() == model.table[query, row[row >= 0]].tolist()


def one(distance, nearest=None):
    distance = np.array([distance], np.float32)
    rows = np.arange(1, distance.shape[1] + 1)[None] if nearest is None else np.array([nearest])
    return Ranking(np.array([0]), rows.astype(np.int64), distance, np.array([2]))


def model_of(*distances):
    table = np.zeros((ITEMS, ITEMS), np.float32)
    table[0, 1 : 1 + len(distances)] = distances
    return Given(table)


@pytest.mark.parametrize(
    ("old", "new", "order", "expected"),
    [
        ([0.125, 0.25, 0.5, 0.75], [0.5, 0.25, 0.375], [2, 3, 1, 4], [0.25, 0.375, 0.5, 0.75]),  # fits as it is
        ([0.125, 0.25, 0.5, 0.75], [5, 1, 2], [2, 3, 1, 4], [-3.25, -2.25, 0.75, 0.75]),  # moved down by 4.25
        ([-4, -3, -2, -1], [-1, 2, -3], [3, 1, 2, 4], [-6, -4, -1, -1]),  # negative ones: moved down by 3
        ([0, 0, 0, 0], [0, 0, 0], [1, 2, 3, 4], [0, 0, 0, 0]),
        ([0.5, 1, 2, np.inf], [9, 8, 7], [3, 2, 1, 4], [7, 8, 9, np.inf]),  # nothing comes after
    ],
)
def test_hand_worked(old, new, order, expected):
    found = Rerank(model_of(*new), ONE_HOT, 3)(one(old))
    assert found.nearest.tolist() == [order] and found.distance.tolist() == [expected]


def test_equal_distances_stand_in_order_of_image_id():
    found = Rerank(model_of(1, 1, 0, 1), ONE_HOT, 4)(one([1, 2, 3, 4], [4, 2, 1, 3]))
    assert found.nearest.tolist() == [[3, 1, 2, 4]]


def test_many_pairs_come_in_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, DIM)).astype(np.float32)
    nearest = np.stack([rng.permutation(np.delete(np.arange(40), q))[:20] for q in range(40)])
    ranking = Ranking(np.arange(40), nearest, np.sort(rng.random((40, 20)), axis=1).astype(np.float32), np.full(40, 1))
    whole = Rerank(Distance(), features, 15)(ranking)
    monkeypatch.setattr("bb.probe.retrieval.pairwise_model.FLOATS", 7 * DIM)
    parts = Rerank(Distance(), features, 15)(ranking)
    assert np.array_equal(whole.nearest, parts.nearest) and np.array_equal(whole.distance, parts.distance)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (Given(np.full((ITEMS, ITEMS), np.nan)), "the model gave a distance that is not a number"),
        (type("Wide", (Given,), {"predict": lambda self, a, b: a})(np.zeros(1)), "distances of shape (3, 12) for 3"),
    ],
)
def test_a_model_that_gives_no_distances(model, said):
    with pytest.raises(ValueError) as error:
        Rerank(model, ONE_HOT, 3)(one([1, 2, 3]))
    assert said in str(error.value)


def test_one_place_has_one_order():
    with pytest.raises(ValueError, match=r"^the nearest 1 have one order: top_n must be at least 2$"):
        Rerank(Distance(), ONE_HOT, 1)


def test_a_constant_threshold():
    found = ConstantThreshold(0.5)(one([-1, 0.25, 0.5, 0.75]))
    assert found.nearest.tolist() == [[1, 2, -1, -1]] and found.distance.tolist() == [[-1, 0.25, np.inf, np.inf]]
    assert ConstantThreshold(-2.0)(one([-1, 0])).nearest.tolist() == [[-1, -1]]


def test_an_adaptive_threshold_cuts_before_the_first_wide_gap():
    ranking = Ranking(
        np.array([0, 1, 2]),
        np.array([[1, 2, 3, 4], [5, 6, 7, 8], [9, -1, -1, -1]]),
        np.array([[0, 1, 9, 10], [0, 1, 2, 3], [5, np.inf, np.inf, np.inf]], np.float32),
        np.array([2, 2, 2]),
    )
    found = AdaptiveThreshold(2.0)(ranking)  # gaps 1, 8, 1, 1, 1, 1: their mean is 13/6, and only 8 is above 26/6
    assert found.nearest.tolist() == [[1, 2, -1, -1], [5, 6, 7, 8], [9, -1, -1, -1]]
    alone = one([1, np.inf])
    assert AdaptiveThreshold(0.0)(alone) is alone  # no gap at all


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_trivial_model(metric):
    from sklearn.metrics.pairwise import paired_cosine_distances, paired_euclidean_distances

    rng = np.random.default_rng(1)
    x1, x2 = rng.normal(size=(2, 30, DIM)).astype(np.float32)
    expected = {"cosine": paired_cosine_distances, "euclidean": paired_euclidean_distances}[metric](x1, x2)
    model = Distance(metric)
    assert isinstance(model, Separable)
    for found in (model.predict(x1, x2), model.forward(x1, x2)):
        assert found.dtype == np.float32 and np.allclose(found, expected, atol=1e-6)
    assert np.array_equal(model.predict(x1, x2), model.predict(x2, x1))

    pytest.importorskip("torch")
    check_pairwise_model(model, DIM)


def test_a_row_of_zeros_is_as_far_from_all():
    zero, some = np.zeros((1, DIM), np.float32), np.ones((1, DIM), np.float32)
    assert Distance().predict(zero, some).tolist() == [1.0] == Distance().predict(zero, zero).tolist()


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_trivial_model_passes_gradients_on(metric):
    torch = pytest.importorskip("torch")
    x1 = torch.tensor([[1.0, 2.0], [3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    x2 = torch.tensor([[2.0, 1.0], [3.0, 4.0], [0.0, 0.0]])
    Distance(metric).forward(x1, x2).sum().backward()
    assert torch.isfinite(x1.grad).all() and x1.grad[0].abs().sum() > 0
