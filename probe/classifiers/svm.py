"""scikit-learn's SVC, alone or in a randomised search: many small tasks at once, with the identical answer.

`RandomSearchSVC` gives per task what

    RandomizedSearchCV(make_pipeline(StandardScaler(), SVC()), distributions, n_iter=100, cv=5,
    random_state=42)

gives for the protocol's distributions: the scores of all candidates in all folds, the choice, and the
refitted classifier. Candidates are ParameterSampler's own draws and folds StratifiedKFold's own splits;
scaling, kernels and solver are done anew in compiled code (`bb.probe.classifiers.smo`, which says what equality depends
on). One fold of one task is one unit of work (`bb.probe.classifiers.svm_fit`).

Scores, choice, predictions and numbers of solver steps equal scikit-learn's; decision values differ in their
last bits (1e-10 is what the tests allow). That holds where libsvm was compiled without fused multiply-add, as
on x86-64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float32, Float64, Int, Shaped

from bb.probe.classifiers.svm_fit import (
    TOL,
    BadTask,
    Candidate,
    Classifier,
    ClassWeight,
    Decided,
    Grid,
    Task,
    check_tasks,
    decide_all,
    folds_of,
    notes_of,
    score_fold,
    threads,
    train_on,
)

SEARCHED_KERNELS = ("rbf", "linear", "sigmoid", "poly")  # in the order the protocol draws from
SEARCHED_C = (1e-3, 1e1)  # bounds, as are those of gamma
SEARCHED_GAMMA = (1e-4, 1e-3)


@dataclass(frozen=True)
class Scores:
    """The search's table in one task, in scikit-learn's terms. c candidates, f folds, p pairs of classes."""

    fold_scores: Float64[np.ndarray, "c f"]
    mean_score: Float64[np.ndarray, " c"]
    rank: Int[np.ndarray, " c"]
    best_index: int
    fold_n_iter: Int[np.ndarray, "c f p"]
    n_shared: int  # solver runs that another one's result served for


@dataclass(frozen=True)
class Search:
    """What the search found in one task: all candidates' scores, and the best of them trained on all rows."""

    candidates: tuple[Candidate, ...]
    scores: Scores
    best: Classifier
    notes: tuple[str, ...]

    @property
    def best_params(self) -> Candidate:
        return self.candidates[self.scores.best_index]

    @property
    def best_score(self) -> float:
        return float(self.scores.mean_score[self.scores.best_index])


class RandomSearchSVC:
    """A randomised search over SVCs on standardised features, for many tasks in one call.

    C, gamma        bounds between which they are drawn log-uniformly
    kernels         what the kernel is drawn from, in this order
    tol             the gap at which the solver stops
    class_weight    as scikit-learn's: None, "balanced" or {label: factor}
    n_threads       None takes all processors this process may use; any number gives the same bits
    share           let one linear fit serve smaller C where that is provably the same; changes no bit
    announce        called with a sentence before code is compiled (some ten seconds, once per machine)

    After `fit`, `results_` holds a `Search` per task.
    """

    def __init__(
        self,
        *,
        n_iter: int = 100,
        cv: int = 5,
        random_state: int = 42,
        C: tuple[float, float] = SEARCHED_C,
        gamma: tuple[float, float] = SEARCHED_GAMMA,
        kernels: tuple[str, ...] = SEARCHED_KERNELS,
        tol: float = TOL,
        class_weight: ClassWeight = None,
        n_threads: int | None = None,
        share: bool = True,
        announce: Callable[[str], None] | None = None,
    ) -> None:
        self.n_iter = n_iter
        self.cv = cv
        self.random_state = random_state
        self.C = C
        self.gamma = gamma
        self.kernels = kernels
        self.tol = tol
        self.class_weight = class_weight
        self.n_threads = n_threads
        self.share = share
        self.announce = announce

    def fit(self, tasks: Sequence[Task], names: Sequence[str] | None = None) -> RandomSearchSVC:
        """Search and refit every task.

        tasks    (x_train (n, d) float32, y_train (n,)) each; n, d and the labels may differ between tasks
        names    what messages call the tasks; by default their positions

        Raises BadTask, before any fitting, for a task with a value that is not finite, a single class, a
        class with fewer than 2 members, or no class with as many members as folds.
        """
        checked = check_tasks(tasks, names, self.class_weight)
        for task in checked:
            if task.counts.max() < self.cv:
                raise BadTask(f"task {task.name}: no class has as many members as folds, {self.cv} ({task.members})")
        candidates = draw_candidates(self.n_iter, self.random_state, self.C, self.gamma, self.kernels)
        grid = Grid(candidates, self.tol)
        with threads(self.n_threads, self.announce) as pool:
            folds = [
                [
                    pool.submit(score_fold, task, train, test, grid, self.share)
                    for train, test in folds_of(task, self.cv)
                ]
                for task in checked
            ]
            ranked = [_rank([fold.result() for fold in futures]) for futures in folds]
            refits = [
                pool.submit(train_on, task, candidates[scores.best_index], True, self.tol)
                for task, scores in zip(checked, ranked, strict=True)
            ]
            self.results_ = [
                Search(candidates, scores, refit.result(), notes_of(task, self.cv))
                for task, refit, scores in zip(checked, refits, ranked, strict=True)
            ]
        return self

    def decision_function(self, xs: Sequence[Float32[np.ndarray, "_m _d"]]) -> list[Float64[np.ndarray, " ..."]]:
        """Per task, decision values (m,), positive for the second class; of k > 2 classes (m, k)."""
        return [decision for decision, _ in decide_all(self._classifiers(), xs, self.n_threads, self.announce)]

    def predict(self, xs: Sequence[Float32[np.ndarray, "_m _d"]]) -> list[Shaped[np.ndarray, " _m"]]:
        """Per task, the predicted labels of its rows."""
        return [labels for _, labels in decide_all(self._classifiers(), xs, self.n_threads, self.announce)]

    def _classifiers(self) -> list[Classifier]:
        return [result.best for result in self.results_]


class SVC:
    """One SVC with given parameters on features as they are, for many tasks in one call.

    Parameters as in `RandomSearchSVC`; gamma is a number. After `fit`, `results_` holds a `Classifier` per
    task."""

    def __init__(
        self,
        *,
        C: float = 1.0,
        kernel: str = "linear",
        gamma: float = 1.0,
        tol: float = TOL,
        class_weight: ClassWeight = None,
        n_threads: int | None = None,
        announce: Callable[[str], None] | None = None,
    ) -> None:
        self.C = C
        self.kernel = kernel
        self.gamma = gamma
        self.tol = tol
        self.class_weight = class_weight
        self.n_threads = n_threads
        self.announce = announce

    def fit(self, tasks: Sequence[Task], names: Sequence[str] | None = None) -> SVC:
        """Fit every task; arguments as in `RandomSearchSVC.fit`. One member of a class is enough here."""
        checked = check_tasks(tasks, names, self.class_weight, smallest=1)
        candidate = Candidate(self.kernel, self.C, self.gamma)
        with threads(self.n_threads, self.announce) as pool:
            self.results_ = list(pool.map(lambda task: train_on(task, candidate, False, self.tol), checked))
        return self

    def decision_function(self, xs: Sequence[Float32[np.ndarray, "_m _d"]]) -> list[Float64[np.ndarray, " ..."]]:
        """As `RandomSearchSVC.decision_function`."""
        return [decision for decision, _ in self.answers(xs)]

    def predict(self, xs: Sequence[Float32[np.ndarray, "_m _d"]]) -> list[Shaped[np.ndarray, " _m"]]:
        """As `RandomSearchSVC.predict`."""
        return [labels for _, labels in self.answers(xs)]

    def answers(self, xs: Sequence[Float32[np.ndarray, "_m _d"]]) -> list[Decided]:
        """Per task, decision values and predicted labels, for the price of one."""
        return decide_all(self.results_, xs, self.n_threads, self.announce)


@cache
def draw_candidates(
    n_iter: int,
    random_state: int,
    C: tuple[float, float] = SEARCHED_C,
    gamma: tuple[float, float] = SEARCHED_GAMMA,
    kernels: tuple[str, ...] = SEARCHED_KERNELS,
) -> tuple[Candidate, ...]:
    """A search's candidates: ParameterSampler's draws, which RandomizedSearchCV would make."""
    from scipy.stats import loguniform
    from sklearn.model_selection import ParameterSampler

    distributions = {"C": loguniform(*C), "kernel": list(kernels), "gamma": loguniform(*gamma)}
    draws = ParameterSampler(distributions, n_iter, random_state=random_state)
    return tuple(Candidate(str(d["kernel"]), float(d["C"]), float(d["gamma"])) for d in draws)


def _rank(
    folds: Sequence[tuple[Float64[np.ndarray, " c"], Int[np.ndarray, "c p"], int]],
) -> Scores:
    """Mean, rank and choice as RandomizedSearchCV computes them: the first of the best wins."""
    scores = np.array([score for score, _, _ in folds]).T  # arranged as there: np.average sums in that order
    mean = np.average(scores, axis=1)
    rank = np.searchsorted(np.sort(-mean), -mean).astype(np.int32) + np.int32(1)
    n_iter = np.stack([steps for _, steps, _ in folds], axis=1)
    return Scores(scores, mean, rank, int(rank.argmin()), n_iter, sum(shared for *_, shared in folds))
