"""The engine of bb's own: scikit-learn's very answers from compiled code, many tasks at once
(probe/classifiers/svm.py).

newt2021's grid is fitted by scikit-learn's LinearSVC itself, without the search's bookkeeping and on threads:
liblinear lets the interpreter lock go, so no worker process has to start. Its solver takes nearly all the time of a
full-size task and its last bits depend on the order of its sums, so little more is possible with the same answer.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from typing import ClassVar

import numpy as np

from bb.probe.classifiers import svm, svm_fit
from bb.probe.classifiers.engine import FitResult, Problem, checked
from bb.probe.classifiers.linear_svc_search import grid_search, stratified
from bb.probe.classifiers.protocol import Classifier, GridLinearSVC, LinearSVM, RandomSearchSVM
from bb.store.errors import BBError

ALGORITHM = "1"  # a change that could change an answer raises it: the version is part of a run's identity
MEMORY_A_THREAD = 256 * 2**20  # bytes; some 3,200 training and as many test rows of 1,024 features
TASKS_AT_ONCE = 8  # for each thread: few enough that progress shows, many enough that no thread waits

_Fitted = tuple[Problem, tuple[str, ...]]  # a problem and the notes of its check


@dataclass(frozen=True)
class Exact:
    """Fulfils bb.probe.classifiers.engine.Engine. `announce` hears when code has to be compiled, once on a
    machine.
    """

    announce: Callable[[str], None] | None = None
    name: ClassVar[str] = "exact"
    identical: ClassVar[bool] = True

    @property
    def version(self) -> str:
        return f"{ALGORITHM} (numba {version('numba')}, scikit-learn {version('scikit-learn')})"

    def solve(self, problems: Iterable[Problem], classifier: Classifier, *, jobs: int) -> Iterator[FitResult]:
        work = checked(problems, classifier)
        for start in range(0, len(work), jobs * TASKS_AT_ONCE):
            some = work[start : start + jobs * TASKS_AT_ONCE]
            match classifier:
                case LinearSVM():
                    yield from self._fit(some, classifier, jobs)
                case RandomSearchSVM():
                    yield from self._search(some, classifier, jobs)
                case GridLinearSVC():
                    yield from _grid(some, classifier, jobs)

    def _fit(self, work: list[_Fitted], classifier: LinearSVM, jobs: int) -> Iterator[FitResult]:
        svc = svm.SVC(C=classifier.C, tol=classifier.tol, n_threads=jobs, announce=self.announce)
        svc.fit([(p.x_train, p.y_train) for p, _ in work], names=[p.task for p, _ in work])
        tests = [p.x_test for p, _ in work]
        for (p, notes), y_pred, decision in zip(work, svc.predict(tests), svc.decision_function(tests), strict=True):
            yield FitResult(p.task, y_pred, decision, {"C": classifier.C, "kernel": "linear"}, None, notes)

    def _search(self, work: list[_Fitted], classifier: RandomSearchSVM, jobs: int) -> Iterator[FitResult]:
        search = svm.RandomSearchSVC(
            n_iter=classifier.n_iter,
            cv=classifier.folds,
            random_state=classifier.random_state,
            C=classifier.C,
            gamma=classifier.gamma,
            kernels=classifier.kernel,
            tol=classifier.tol,
            n_threads=jobs,
            announce=self.announce,
        ).fit([(p.x_train, p.y_train) for p, _ in work], names=[p.task for p, _ in work])
        tests = [p.x_test for p, _ in work]
        answers = zip(search.predict(tests), search.decision_function(tests), strict=True)
        for (p, notes), found, (y_pred, decision) in zip(work, search.results_, answers, strict=True):
            yield FitResult(p.task, y_pred, decision, vars(found.best_params), found.best_score, notes)


def fits(n: int, m: int, d: int) -> bool:
    """Whether a two-class task of n training and m test rows of d features keeps within `MEMORY_A_THREAD`."""
    return svm_fit.bytes_a_thread(n, m, d) <= MEMORY_A_THREAD


def _grid(work: list[_Fitted], classifier: GridLinearSVC, jobs: int) -> list[FitResult]:
    from threadpoolctl import threadpool_limits

    # Filters of warnings are the whole process's: set here, around the threads, and not in each of them.
    with warnings.catch_warnings(), threadpool_limits(1), ThreadPoolExecutor(jobs) as pool:
        warnings.simplefilter("ignore")
        return list(pool.map(lambda fitted: _fit_grid(fitted[0], fitted[1], classifier), work))


def _fit_grid(problem: Problem, notes: tuple[str, ...], classifier: GridLinearSVC) -> FitResult:
    """What GridSearchCV over LinearSVC(dual=False) gives: accuracy in each fold, the first of the best, a refit."""
    x, y = problem.x_train, problem.y_train
    try:
        found = grid_search(x, y, classifier, stratified(y, classifier.folds))
    except ValueError as error:
        raise BBError(f"task {problem.task!r} can't be fitted: {str(error).splitlines()[0]}") from error
    if found.unconverged:
        notes = (*notes, f"scikit-learn: Liblinear failed to converge ({found.unconverged} times)")
    return FitResult(
        problem.task,
        found.model.predict(problem.x_test),
        found.model.decision_function(problem.x_test).astype(np.float64),
        {"C": found.C},
        found.cv_score,
        notes,
    )
