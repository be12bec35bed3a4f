"""Exact logistic regression beside scikit-learn's."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from bb.probe.classifiers.multiclass import logistic, softmax_path
from bb.probe.classifiers.multiclass.logistic import NEVER, PATH, Logistic, _best, _HeldOut
from bb.probe.classifiers.multiclass.softmax_kernels import add_diagonal, add_product
from bb.probe.classifiers.multiclass.softmax_path import SoftmaxPath
from bb.probe.classifiers.preprocess import preprocess
from bb.store.errors import BBError


def digits(n=600):
    x, y = load_digits(return_X_y=True)
    train, test = preprocess("center-l2", x[:n].astype(np.float32), x[n:].astype(np.float32))
    return train, y[:n], test, y[n:]


def blobs(n, d, k, spread=2.0, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % k
    return (rng.normal(size=(k, d))[y] + spread * rng.normal(size=(n, d))).astype(np.float32), y


def sklearn(C, x, y):
    return LogisticRegression(C=C, tol=1e-8, max_iter=5000).fit(x.astype(np.float64), y)


def assert_same(solution, oracle, tolerance):
    coef, intercept = oracle.coef_, oracle.intercept_
    if len(intercept) == 1:
        coef, intercept = np.concatenate([-coef, coef]) / 2, np.concatenate([-intercept, intercept]) / 2
    scale = np.abs(coef).max()
    np.testing.assert_allclose(solution.coef, coef - coef.mean(axis=0), atol=tolerance * scale)
    np.testing.assert_allclose(solution.intercept, intercept - intercept.mean(), atol=3 * tolerance * scale)


@pytest.fixture(params=[0, softmax_path.FEW], ids=["as for many rows", "compiled whole"])
def way(request, monkeypatch):
    """Both ways to fit few rows: the one of many rows, and Newton's method in softmax_newton.py."""
    monkeypatch.setattr(softmax_path, "FEW", request.param)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("n", "d", "k"), [(300, 20, 5), (60, 100, 4), (200, 15, 2)], ids=["tall", "in the span of the rows", "two classes"]
)
def test_coefficients_are_scikit_learns(n, d, k):
    x, y = blobs(n, d, k)
    x[:, 0] += 5  # a feature far from 0, which b has to make up for
    Cs = [1e-4, 1e-2, 1.0, 30.0]
    for solution in SoftmaxPath(x, y, k, penalty=2.0 if k == 2 else 1.0).solve(Cs):
        assert_same(solution, sklearn(solution.C, x, y), 2e-3)


@pytest.mark.usefixtures("way")
def test_the_path_on_digits_agrees_with_scikit_learn():
    x, y, x_test, _ = digits(300)
    solutions = list(SoftmaxPath(x, y, 10).solve(PATH))
    assert max(solution.certificate for solution in solutions) <= 1e-6
    for solution in solutions[:40:11]:  # beyond, scikit-learn would need thousands of steps
        scores = x_test @ solution.coef.T + solution.intercept
        agree = scores.argmax(axis=1) == sklearn(solution.C, x, y).predict(x_test)
        assert agree.mean() >= 0.999


@pytest.mark.parametrize("few", [0, softmax_path.FEW], ids=["as for many rows", "compiled whole"])
@pytest.mark.parametrize(("flipped", "most"), [(0, (10, 30)), (6, (100, 600))], ids=["separated", "but for six rows"])
def test_rows_that_a_classifier_separates_are_fitted_at_every_c(flipped, most, few, monkeypatch):
    """Their p is so near 1 that only its distance from 1 says anything, or six of them have all the weight."""
    monkeypatch.setattr(softmax_path, "FEW", few)
    x, y = blobs(400, 20, 4, spread=0.7)
    y[:flipped] = (y[:flipped] + 1) % 4
    solutions = list(SoftmaxPath(x, y, 4).solve(PATH))
    assert len(solutions) == len(PATH) and max(solution.passes for solution in solutions) <= most[few > 0]
    for solution in solutions[24:40:7]:
        oracle = LogisticRegression(C=solution.C, solver="newton-cholesky", tol=1e-12, max_iter=1000)
        assert_same(solution, oracle.fit(x.astype(np.float64), y), 2e-3)


@pytest.mark.parametrize("odds", [1.0, 1e-5, 1e-12])
def test_products_with_the_hessian_keep_what_separates_likely_classes(odds):
    """Rows of three pairs, p 1 - 1.5 odds, odds and odds/2, of a fourth class that has odds² and is not kept."""
    rng = np.random.default_rng(0)
    z, v = (rng.normal(size=(rows, 16)).astype(np.float32) for rows in (30, 4))
    e = np.tile([1.0, odds, odds / 2, odds**2], (30, 1))
    p = e / e.sum(axis=1, keepdims=True)
    weights = np.where(np.arange(4) == 0, p * p[:, 1:].sum(axis=1, keepdims=True), p * (1 - p))
    levels = z.astype(np.float64) @ v.T.astype(np.float64)
    levels -= levels[:, :1]
    out, diagonal = np.zeros((2, 4, 16), np.float32)
    pairs = np.arange(31) * 3, np.tile([0, 1, 2], 30).astype(np.int32)
    add_product(z, *pairs, p[:, :3].astype(np.float32).ravel(), p[:, 3].astype(np.float32), v, out, 0, 30)
    add_diagonal(z, *pairs, weights[:, :3].astype(np.float32).ravel(), diagonal, 0, 30)
    mean = (p[:, :3] * levels[:, :3]).sum(axis=1) - p[:, 3] * (z @ v[0])
    expected = (p[:, :3] * (levels[:, :3] - mean[:, None])).T @ z
    np.testing.assert_allclose(out[:3], expected, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_allclose(diagonal[:3], weights[:, :3].T @ z**2, rtol=1e-4)
    assert not out[3].any() and not diagonal[3].any()


def test_the_certificate_is_the_gradient_on_the_rows_as_given():
    x, y = blobs(120, 30, 6)
    for solution in SoftmaxPath(x, y, 6).solve([0.01, 1.0]):
        scores = x.astype(np.float64) @ solution.coef.T + solution.intercept
        p = np.exp(scores - scores.max(axis=1, keepdims=True))
        residual = p / p.sum(axis=1, keepdims=True) - np.eye(6)[y]
        entries = np.concatenate([(residual.T @ x + solution.coef / solution.C).ravel(), residual.sum(axis=0)])
        np.testing.assert_allclose(solution.certified(), np.abs(entries).max() / 120, atol=1e-12)
        assert solution.certified() <= 1e-6


def test_features_in_other_units_give_the_same_fit():
    """Of norm 1 and of norm 1,000: C follows the square of the unit."""
    x, y = blobs(200, 40, 5)
    (one,), (other,) = (list(SoftmaxPath(x * np.float32(unit), y, 5).solve([1 / unit**2])) for unit in (1.0, 1024.0))
    np.testing.assert_allclose(other.coef * 1024, one.coef, atol=2e-3 * np.abs(one.coef).max())


def test_equal_rows_and_features_without_variance():
    x, y = blobs(90, 10, 3)
    x = np.concatenate([x, x, np.ones((90, 3), np.float32)], axis=1)
    x, y = np.concatenate([x, x]), np.concatenate([y, y])
    (solution,) = SoftmaxPath(x, y, 3).solve([1.0])
    assert_same(solution, sklearn(1.0, x, y), 2e-3)


def test_a_fit_that_is_not_exact_is_refused(monkeypatch):
    monkeypatch.setattr(softmax_path, "PASSES", 2)
    monkeypatch.setattr(softmax_path, "FEW", 0)
    x, y = blobs(60, 8, 3)
    with pytest.raises(BBError, match=r"^logistic at C = 10: the largest gradient entry is .* of n = 60, and a fit "):
        list(SoftmaxPath(x, y, 3).solve([10.0]))


@pytest.mark.parametrize(("n", "d", "k"), [(38, 1280, 8), (160, 1280, 8), (300, 64, 10), (24, 500, 2)])
def test_few_rows_are_fitted_as_many_are(n, d, k, monkeypatch):
    """The same rows right at every C, with as good a certificate."""
    x, y = blobs(n, d, k, spread=4.0)
    x, further = preprocess("center-l2", x, blobs(3 * n, d, k, spread=4.0)[0])
    scores, certificates = [], []
    for few in (0, softmax_path.FEW):
        monkeypatch.setattr(softmax_path, "FEW", few)
        path = logistic._path(x, y)
        assert path.few is (few > 0)
        fits = list(path.solve(PATH))
        scores.append(np.array([path.project(further) @ fit.w.T for fit in fits]))
        certificates.append(max(fit.certified() for fit in fits))
    assert (scores[0].argmax(axis=2) == scores[1].argmax(axis=2)).all() and max(certificates) <= 1e-6


def test_what_newtons_method_does_not_reach_is_left_to_the_steps_for_many_rows(monkeypatch):
    x, y = blobs(60, 100, 4)
    (expected,) = SoftmaxPath(x, y, 4).solve([1.0])
    monkeypatch.setattr(softmax_path, "newton", lambda *_: 0)
    (found,) = SoftmaxPath(x, y, 4).solve([1.0])
    np.testing.assert_allclose(found.coef, expected.coef, atol=1e-4)


@pytest.mark.usefixtures("way")
def test_a_large_c_alone_is_reached_by_way_of_smaller_ones():
    """Raw pixels: one step from zero fails."""
    x, y = load_digits(return_X_y=True)
    x, C = x.astype(np.float32), 1e3
    (alone,) = SoftmaxPath(x, y, 10).solve([C])
    *_, after_others = SoftmaxPath(x, y, 10).solve([10.0**i for i in range(-6, round(np.log10(C)) + 1)])
    assert max(alone.certified(), after_others.certified()) <= 1e-6
    both = [fit.w @ SoftmaxPath(x, y, 10).project(x).T for fit in (alone, after_others)]
    assert (both[0].argmax(axis=0) == both[1].argmax(axis=0)).all()


def test_what_no_smaller_c_helps_with_is_refused_by_the_c_that_was_asked_for():
    x, y = load_digits(return_X_y=True)
    with pytest.raises(BBError, match=r"^logistic at C = 1e\+30: the largest gradient entry"):
        list(SoftmaxPath(x.astype(np.float32), y, 10).solve([1e30]))


def test_C_is_the_smallest_with_the_most_held_out_rows_right():
    x, y, x_test, y_test = digits(200)
    Cs = tuple(10.0 ** np.arange(-4, 3))
    fitted = Logistic(C=Cs, folds=3).fit(x, y)
    right = [
        sum((sklearn(C, x[a], y[a]).predict(x[b]) == y[b]).sum() for a, b in StratifiedKFold(3).split(x, y)) for C in Cs
    ]
    assert fitted.parameters_["C"] == Cs[int(np.argmax(right))]
    assert fitted.parameters_["held_out_accuracy"] == max(right) / 200
    assert fitted.parameters_["certificate"] <= 1e-6
    oracle = sklearn(fitted.parameters_["C"], x, y)
    assert (fitted.predict(x_test) == oracle.predict(x_test)).mean() >= 0.999
    np.testing.assert_allclose(fitted.predict_proba(x_test), oracle.predict_proba(x_test), atol=2e-3)
    assert fitted.predict(x_test).shape == y_test.shape


def test_the_search_ends_where_all_held_out_rows_are_right(monkeypatch):
    """No larger C can be chosen, since of equal ones the smallest is: the choice is that of the whole path."""
    x, y = blobs(60, 20, 3, spread=0.3)
    folds = [_HeldOut(x, y, np.arange(60) % 5 == fold) for fold in range(5)]
    whole = np.sum([list(fold.right(PATH)) for fold in folds], axis=0)
    fits = []

    def counted(path, Cs, exact=logistic._exact):
        for found in exact(path, Cs):
            fits.append(found.C)
            yield found

    monkeypatch.setattr(logistic, "_exact", counted)
    Cs, right = _best(folds, PATH)
    assert whole.max() == right == 60 and len(Cs) == whole.argmax() + 1
    assert len(fits) == 5 * len(Cs) < 5 * len(PATH)


def test_a_validation_split_in_place_of_folds():
    x, y, _, _ = digits(400)
    held_out = np.where(np.arange(400) % 10 == 0, 0, NEVER)
    Cs = (1e-3, 1.0, 1e2)
    fitted = Logistic(C=Cs).fit(x, y, held_out=held_out)
    inside, outside = held_out == NEVER, held_out == 0
    right = [(sklearn(C, x[inside], y[inside]).predict(x[outside]) == y[outside]).sum() for C in Cs]
    assert fitted.parameters_["C"] == Cs[int(np.argmax(right))]
    assert fitted.parameters_["held_out_accuracy"] == max(right) / 40


def test_one_row_for_each_class_leaves_nothing_to_hold_out():
    x, y = blobs(4, 6, 4)
    assert Logistic().fit(x, y).parameters_["C"] == 1.0
    assert Logistic(C=(0.1,)).fit(x, y).parameters_["C"] == 0.1


def test_traits_are_binary_problems_over_their_known_rows():
    x, _ = blobs(150, 8, 3)
    rng = np.random.default_rng(1)
    y = (x[:, :2] + rng.normal(size=(150, 2)) > 0).astype(float)
    y[:30, 1] = np.nan
    fitted = Logistic(C=(0.5,)).fit(x, y)
    for trait, known in enumerate((slice(0, 150), slice(30, 150))):
        oracle = sklearn(0.5, x[known], y[known, trait])
        np.testing.assert_allclose(fitted.predict_proba(x)[:, trait], oracle.predict_proba(x)[:, 1], atol=1e-3)


def test_a_search_ends_where_fits_are_no_longer_exact_and_a_single_c_is_refused():
    """Rows that differ in the fourth digit only: float64 can't certify the largest C."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = (1 + 1e-5 * rng.normal(size=(60, 40)) + 1e-5 * y[:, None]).astype(np.float32) * 300
    found = Logistic().fit(x, y)
    assert found.parameters_["certificate"] <= 1e-6
    assert found.parameters_["C"] <= PATH[-1]


@pytest.mark.parametrize("seed", [2, 9, 18, 34])
def test_rows_that_are_separated_far_are_fitted(seed):
    """Curvatures underflow float32 at the largest C; the path ends at the last one that is certified."""
    rng, y = np.random.default_rng(seed), np.arange(4) % 2
    x = (rng.normal(size=(2, 96))[y] + 8 * rng.normal(size=(4, 96))).astype(np.float32)
    x, _ = preprocess("center-l2", x, x)
    assert Logistic().fit(x, y).predict(x).tolist() == y.tolist()
