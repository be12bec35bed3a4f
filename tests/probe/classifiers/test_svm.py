"""The search, against scikit-learn's own, and what a person sees when a task is bad."""

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import loguniform
from sklearn import config_context
from sklearn.model_selection import RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from bb.probe.classifiers import svm, svm_fit
from bb.probe.classifiers.svm import RandomSearchSVC
from bb.probe.classifiers.svm_fit import BadTask
from tests.helpers.examples import examples

GRID = {
    "C": loguniform(1e-3, 1e1),
    "kernel": ["rbf", "linear", "sigmoid", "poly"],
    "gamma": loguniform(1e-4, 1e-3),
}
N_ITER = max(30, examples(100))  # of the protocol's hundred candidates, the first


@dataclass(frozen=True)
class Example:
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray


def newt_like(n: int, d: int, seed: int, signal: float = 0.15, n_test: int = 60, shares: tuple = (1, 1)) -> Example:
    """Rows on a sphere, centred and normed again as the biobench protocol does, a weak class signal in a
    decaying spectrum."""
    rng = np.random.default_rng([seed, n, d])
    total = n + n_test
    counts = np.floor(np.array(shares) / sum(shares) * n).astype(int)
    counts[0] += n - counts.sum()
    y = np.concatenate([np.repeat(np.arange(len(shares)), counts), rng.integers(0, len(shares), n_test)])
    spectrum = (1 + np.arange(d)) ** -0.4
    x = rng.normal(size=(total, d)) * spectrum
    x += (
        signal * np.linalg.norm(spectrum) * (rng.normal(size=(len(shares), d)) * spectrum / np.linalg.norm(spectrum))[y]
    )
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    x -= x[:n].mean(axis=0)
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    # The protocol gives class 0 first; other orders must do too.
    order = rng.permutation(n) if seed % 2 else np.arange(n)
    return Example(x[:n][order], y[:n][order], x[n:])


def replaced(example: Example, change, labels=None) -> Example:
    y = example.y_train if labels is None else labels(example.y_train)
    return Example(change(example.x_train).astype(np.float32), y, change(example.x_test).astype(np.float32))


def duplicated_rows() -> Example:
    e = newt_like(20, 96, 1)
    return Example(np.tile(e.x_train, (2, 1)), np.tile(e.y_train, 2), np.concatenate([e.x_test, e.x_train]))


def contradictory_rows() -> Example:
    e = newt_like(20, 64, 1)
    return Example(np.tile(e.x_train, (2, 1)), np.concatenate([e.y_train, 1 - e.y_train]), e.x_test)


def mirrored() -> Example:
    """Each row's negative has the other label; the origin's decision value is zero but for rounding."""
    e = newt_like(16, 40, 3)
    return Example(
        np.concatenate([e.x_train, -e.x_train]),
        np.concatenate([e.y_train, 1 - e.y_train]),
        np.concatenate([np.zeros((3, 40), np.float32), e.x_test, -e.x_test]),
    )


def small_integers() -> Example:
    rng = np.random.default_rng(5)
    x = rng.integers(-1, 2, (44 + 40, 6)).astype(np.float32)
    return Example(x[:44], (np.arange(44) % 2), x[44:])


def constant_columns(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x[:, ::3], x[:, 1] = 0.1, 1e-30
    return x


def low_rank(x: np.ndarray) -> np.ndarray:
    basis = np.random.default_rng(6).normal(size=(2, x.shape[1]))
    return x[:, :2] @ basis


SIZES = (
    (10, 64), (10, 384), (10, 768), (10, 1024), (20, 64), (20, 768), (20, 1024),
    (100, 64), (100, 256), (100, 1024), (220, 64), (220, 384), (220, 1024),
)  # fmt: skip

EXAMPLES = {
    **{f"n={n} d={d}": newt_like(n, d, seed) for seed, (n, d) in enumerate(SIZES)},
    "hard": newt_like(50, 128, 14, signal=0.0),
    "separable": newt_like(40, 256, 15, signal=3.0),
    "20 to 90": newt_like(110, 128, 17, shares=(9, 2)),
    "duplicated rows": duplicated_rows(),
    "contradictory rows": contradictory_rows(),
    "mirrored": mirrored(),
    "small integers": small_integers(),
    "constant columns": replaced(newt_like(30, 90, 18), constant_columns),
    "float16": replaced(newt_like(50, 192, 19), lambda x: x.astype(np.float16)),
    "low rank": replaced(newt_like(40, 128, 20), low_rank),
    "all equal": replaced(newt_like(24, 32, 21), lambda x: np.full_like(x, 0.3)),
    "far from zero": replaced(newt_like(30, 64, 22), lambda x: x + 4096),
    "one feature": replaced(newt_like(30, 64, 23), lambda x: x[:, :1]),
    "a class of three": newt_like(23, 64, 24, shares=(20, 3)),
    "words": replaced(newt_like(20, 64, 25), np.copy, lambda y: np.array(["owl", "hawk"])[y]),
    "three classes": newt_like(45, 96, 27, signal=0.5, shares=(2, 1, 1)),
    "five classes": newt_like(60, 64, 29, signal=0.6, shares=(1, 1, 1, 1, 1)),
}


def tasks(examples) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(e.x_train, e.y_train) for e in examples]


class ScaledSVC(SVC):
    """A pipeline of StandardScaler and SVC that scales the rows of a fold once, not for each candidate."""

    def fit(self, x, y):
        self.scaler = scaler_of(x.tobytes(), x.shape)
        return super().fit(self.scaler.transform(x), y)

    def predict(self, x):
        return super().predict(self.scaler.transform(x))

    def decision_function(self, x):
        return super().decision_function(self.scaler.transform(x))


@lru_cache(maxsize=16)
def scaler_of(rows: bytes, shape: tuple[int, int]) -> StandardScaler:
    return StandardScaler().fit(np.frombuffer(rows, np.float32).reshape(shape))


def oracle(example: Example) -> RandomizedSearchCV:
    """scikit-learn's search without its checks of every model's parameters and rows, which take longer than fits."""
    search = RandomizedSearchCV(ScaledSVC(), GRID, n_iter=N_ITER, random_state=42, scoring=accuracy)
    with config_context(skip_parameter_validation=True, assume_finite=True):
        return search.fit(example.x_train, example.y_train)


def accuracy(model, x: np.ndarray, y: np.ndarray) -> float:
    return (model.predict(x) == y).mean()


def fold_scores(search: RandomizedSearchCV) -> np.ndarray:
    return np.stack([search.cv_results_[f"split{i}_test_score"] for i in range(search.n_splits_)], axis=1)


@pytest.fixture(scope="module")
def oracles() -> dict[str, RandomizedSearchCV]:
    return {name: oracle(example) for name, example in EXAMPLES.items()}


@pytest.fixture(scope="module")
def ours() -> RandomSearchSVC:
    return RandomSearchSVC(n_iter=N_ITER, n_threads=2).fit(tasks(EXAMPLES.values()), names=list(EXAMPLES))


def differences(search: RandomSearchSVC, oracles: dict[str, RandomizedSearchCV]) -> list[str]:
    """What of each task's outcome differs from scikit-learn's."""
    found = []
    tests = [e.x_test for e in EXAMPLES.values()]
    outcomes = zip(
        EXAMPLES.items(), search.results_, search.predict(tests), search.decision_function(tests), strict=True
    )
    for (name, example), result, predicted, decision in outcomes:
        theirs = oracles[name]
        svc = theirs.best_estimator_
        equal = {
            "fold scores": np.array_equal(result.scores.fold_scores, fold_scores(theirs), equal_nan=True),
            "mean": np.array_equal(result.scores.mean_score, theirs.cv_results_["mean_test_score"]),
            "rank": np.array_equal(result.scores.rank, theirs.cv_results_["rank_test_score"]),
            "best_index_": result.scores.best_index == theirs.best_index_,
            "best_params_": vars(result.best_params) == theirs.best_params_,
            "predictions": np.array_equal(predicted, theirs.predict(example.x_test)),
            "n_iter_": np.array_equal(result.best.n_iter, svc.n_iter_),
            "support_": np.array_equal(result.best.support, svc.support_),
            "dual_coef_": np.array_equal(result.best.dual_coef, svc.dual_coef_),
            "intercept_": np.array_equal(result.best.intercept, svc.intercept_),
            "decision": np.allclose(decision, theirs.decision_function(example.x_test), rtol=0, atol=1e-10),
        }
        found += [f"{name}: {what}" for what, same in equal.items() if not same]
    return found


@pytest.mark.e2e
def test_search_equals_scikit_learn(ours: RandomSearchSVC, oracles: dict[str, RandomizedSearchCV]) -> None:
    assert len(EXAMPLES) >= 24
    assert differences(ours, oracles) == []
    assert any(
        np.ptp(result.scores.fold_scores, axis=0).min() == 0 for result in ours.results_
    )  # a fold that tells nothing apart


@pytest.mark.e2e  # compiles the solver anew
def test_with_float32_state_the_search_does_not_equal_scikit_learn(
    oracles: dict[str, RandomizedSearchCV], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above can fail: the solver's precision matters, and is looked at."""
    monkeypatch.setattr(svm_fit, "STATE", np.empty(0, np.float32))
    found = differences(RandomSearchSVC(n_iter=N_ITER, n_threads=2).fit(tasks(EXAMPLES.values())), oracles)
    assert any("fold scores" in what for what in found)
    assert any("best_index_" in what for what in found)


def bits(search: RandomSearchSVC, xs: list[np.ndarray]) -> list[bytes]:
    decisions = search.decision_function(xs)
    return [
        b"".join(
            np.ascontiguousarray(part).tobytes()
            for part in (
                r.scores.fold_scores,
                r.scores.fold_n_iter,
                r.scores.rank,
                r.best.dual_coef,
                r.best.intercept,
                r.best.support,
                decision,
            )
        )
        for r, decision in zip(search.results_, decisions, strict=True)
    ]


def test_order_threads_and_sharing_change_no_bit(ours: RandomSearchSVC) -> None:
    examples = list(EXAMPLES.values())
    expected = bits(ours, [e.x_test for e in examples])
    for n_threads, share in ((1, True), (3, True), (2, False)):
        order = np.random.default_rng(n_threads).permutation(len(examples))
        shuffled = [examples[i] for i in order]
        search = RandomSearchSVC(n_iter=N_ITER, n_threads=n_threads, share=share).fit(tasks(shuffled))
        assert bits(search, [e.x_test for e in shuffled]) == [expected[i] for i in order]
        assert any(r.scores.n_shared > 0 for r in search.results_) == share


def test_a_cost_at_the_peak_is_not_shared() -> None:
    """Costs around the largest dual value of a linear fit: at that value and below, the solver runs anew."""
    example = EXAMPLES["n=20 d=64"]
    (task,) = svm_fit.check_tasks(tasks([example]), None, None)
    rows = np.arange(20)
    peak = np.abs(svm_fit.train_on(task, svm_fit.Candidate("linear", 10.0), True).dual_coef).max()
    costs = [10.0, np.nextafter(peak, 1), peak, np.nextafter(peak, 0), peak / 3]
    grid = svm_fit.Grid(tuple(svm_fit.Candidate("linear", cost) for cost in costs))
    scores, steps, n_shared = svm_fit.score_fold(task, rows, rows, grid, share=True)
    assert n_shared == 1
    for cost, score, n_iter in zip(costs, scores, steps, strict=True):
        svc = make_pipeline(StandardScaler(), SVC(kernel="linear", C=cost)).fit(example.x_train, example.y_train)
        assert score == svc.score(example.x_train, example.y_train)
        np.testing.assert_array_equal(n_iter, svc[-1].n_iter_)


def test_read_only_and_transposed_features_serve_as_well(ours: RandomSearchSVC) -> None:
    example = EXAMPLES["n=20 d=64"]
    index = list(EXAMPLES).index("n=20 d=64")
    x_train, x_test = example.x_train.copy(), np.asfortranarray(example.x_test)
    x_train.flags.writeable = False
    search = RandomSearchSVC(n_iter=N_ITER).fit([(x_train, example.y_train)])
    assert bits(search, [x_test]) == [bits(ours, [e.x_test for e in EXAMPLES.values()])[index]]


def test_steps_of_every_fold_equal_libsvm() -> None:
    example = EXAMPLES["n=20 d=64"]
    result = RandomSearchSVC().fit(tasks([example])).results_[0]
    (task,) = svm_fit.check_tasks(tasks([example]), None, None)
    for fold, (train, _) in enumerate(svm_fit.folds_of(task, 5)):
        for i, c in enumerate(result.candidates):
            svc = make_pipeline(StandardScaler(), SVC(C=c.C, kernel=c.kernel, gamma=c.gamma))
            svc.fit(example.x_train[train], example.y_train[train])
            np.testing.assert_array_equal(result.scores.fold_n_iter[i, fold], svc[-1].n_iter_)


@pytest.mark.parametrize("name", ["20 to 90", "three classes"])
def test_class_weight_equals_scikit_learn(name: str) -> None:
    example = EXAMPLES[name]
    search = RandomSearchSVC(class_weight="balanced").fit(tasks([example]))
    pipeline = make_pipeline(StandardScaler(), SVC(class_weight="balanced"))
    grid = {f"svc__{name}": values for name, values in GRID.items()}
    theirs = RandomizedSearchCV(pipeline, grid, n_iter=100, random_state=42).fit(example.x_train, example.y_train)
    np.testing.assert_array_equal(search.results_[0].scores.fold_scores, fold_scores(theirs))
    assert search.results_[0].scores.best_index == theirs.best_index_
    np.testing.assert_array_equal(search.predict([example.x_test])[0], theirs.predict(example.x_test))


@pytest.mark.parametrize("kernel", svm_fit.KERNELS)
@pytest.mark.parametrize("weight", [None, "balanced"])
def test_plain_svc_equals_scikit_learn(kernel: str, weight: str | None) -> None:
    names = ("n=10 d=384", "mirrored", "all equal", "words", "three classes", "five classes")
    examples = [EXAMPLES[name] for name in names] + [newt_like(n, 64, n) for n in (2, 4, 9)]
    svc = svm.SVC(kernel=kernel, C=2.0, gamma=0.5, class_weight=weight).fit(tasks(examples))
    xs = [e.x_test for e in examples]
    for e, fitted, y, decision in zip(examples, svc.results_, svc.predict(xs), svc.decision_function(xs), strict=True):
        theirs = SVC(kernel=kernel, C=2.0, gamma=0.5, class_weight=weight).fit(e.x_train, e.y_train)
        np.testing.assert_array_equal(fitted.support, theirs.support_)
        np.testing.assert_array_equal(fitted.dual_coef, theirs.dual_coef_)
        np.testing.assert_array_equal(fitted.intercept, theirs.intercept_)
        np.testing.assert_array_equal(fitted.n_iter, theirs.n_iter_)
        np.testing.assert_array_equal(y, theirs.predict(e.x_test))
        np.testing.assert_allclose(decision, theirs.decision_function(e.x_test), rtol=0, atol=1e-10)


def test_a_class_smaller_than_the_folds_is_noted(ours: RandomSearchSVC) -> None:
    notes = {name: result.notes for name, result in zip(EXAMPLES, ours.results_, strict=True) if result.notes}
    assert notes == {
        "a class of three": ("class 1 has 3 members, fewer than the 5 folds: some folds are scored without it",)
    }


@settings(max_examples=examples(50))
@given(counts=st.lists(st.integers(2, 9), min_size=2, max_size=4), seed=st.integers(0, 2**32 - 1))
def test_no_fold_trains_without_a_class(counts: list[int], seed: int) -> None:
    """So no score is NaN, and the engine needs no rule for it."""
    y = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    if max(counts) >= 5:
        (task,) = svm_fit.check_tasks([(np.zeros((y.size, 1), np.float32), y)], None, None)
        assert all(np.unique(y[train]).size == len(counts) for train, _ in svm_fit.folds_of(task, 5))


def spoiled(value: float) -> tuple[np.ndarray, np.ndarray]:
    x = EXAMPLES["n=20 d=64"].x_train.copy()
    x[7, 3] = value
    return x, EXAMPLES["n=20 d=64"].y_train


ZEROS = np.zeros((12, 3), np.float32)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (spoiled(np.nan), "task owl: row 7 has a feature that is not finite"),
        (spoiled(np.inf), "task owl: row 7 has a feature that is not finite"),
        ((ZEROS, np.zeros(12, int)), "task owl: its 12 training rows are not of two classes or more (0: 12)"),
        ((ZEROS, np.arange(12) // 11), "task owl: every class needs 2 members or more (0: 11, 1: 1)"),
        ((ZEROS[:8], np.arange(8) % 2), "task owl: no class has as many members as folds, 5 (0: 4, 1: 4)"),
        ((ZEROS, np.zeros(11, int)), "task owl: 12 rows but labels of shape (11,)"),
        (
            (ZEROS[:0], np.zeros(0, int)),
            "task owl: features must be a float32 matrix, not float32 of shape (0, 3)",
        ),
    ],
)
def test_bad_tasks_are_refused_by_name_before_any_fitting(bad, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(svm, "score_fold", lambda *_: pytest.fail("fitted"))
    with pytest.raises(BadTask) as error:
        RandomSearchSVC().fit([*tasks([EXAMPLES["n=20 d=64"]]), bad], names=["hawk", "owl"])
    assert str(error.value) == message


def test_bad_test_rows_are_refused() -> None:
    search = RandomSearchSVC(n_iter=2).fit(tasks([EXAMPLES["n=20 d=64"]]), names=["owl"])
    with pytest.raises(BadTask, match="task owl: 3 features, but fitted on 64"):
        search.predict([ZEROS])
    with pytest.raises(BadTask, match="task owl: row 0 has a feature that is not finite"):
        search.predict([np.full((2, 64), np.nan, np.float32)])
    with pytest.raises(ValueError, match="1 tasks were fitted but 2 arrays given"):
        search.predict([ZEROS, ZEROS])


def test_candidates_are_checked() -> None:
    with pytest.raises(ValueError, match="kernel 'cosine' is none of linear, poly, rbf, sigmoid"):
        svm_fit.Candidate("cosine", 1.0)
    with pytest.raises(ValueError, match="C must be positive and gamma not negative"):
        svm_fit.Candidate("rbf", 0.0)


@pytest.mark.e2e  # compiles the solver anew
def test_compiling_is_said_once(tmp_path) -> None:
    """In a fresh process with an empty cache the first fit says so; a second process, with the cache full, is
    silent."""
    script = (
        "import numpy as np; from bb.probe.classifiers.svm import SVC; x = np.eye(4, dtype=np.float32); said = []\n"
        "import scipy.stats, sklearn.model_selection, numba\n"
        "for _ in range(2): SVC(announce=said.append).fit([(x, np.arange(4) % 2)])\n"
        "print(said)"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    first, second = (
        subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    )
    assert first.startswith(f"[{svm_fit.FIRST_USE!r}]")
    assert second.startswith("[]")
