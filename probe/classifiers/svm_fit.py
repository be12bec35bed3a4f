"""One support vector machine on one task, in compiled code: what is checked before, one fold of a search, one
classifier, its decisions. `bb.probe.classifiers.svm` does many of them at once.

A fold, a classifier or the decisions of one are a unit of work, on threads that do not hold the interpreter lock; a
unit needs `bytes_a_thread`, whatever the number of tasks. Scaling, kernels and solver are those of
`bb.probe.classifiers.smo`.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
from jaxtyping import Float32, Float64, Int, Shaped
from threadpoolctl import ThreadpoolController

KERNELS = ("linear", "poly", "rbf", "sigmoid")  # a kernel's index is its number in bb.probe.classifiers.smo
TOL = 1e-3
STATE = np.empty(0)  # the solver keeps its state in this dtype
FIRST_USE = "compiling the SVM solver for this machine, once; it is kept for later runs"

Decided = tuple[Float64[np.ndarray, "..."], Shaped[np.ndarray, " _m"]]  # decision values, predicted labels
ClassWeight = Mapping[Hashable, float] | str | None
Task = tuple[Float32[np.ndarray, "_n _d"], Shaped[np.ndarray, " _n"]]  # sizes differ between tasks


class BadTask(ValueError):
    """A task that cannot be fitted. The message names it and says why."""


@dataclass(frozen=True)
class Candidate:
    """What a search chooses among; degree is 3 and coef0 is 0. A linear kernel has no use for gamma."""

    kernel: str
    C: float
    gamma: float = 1.0

    def __post_init__(self) -> None:
        if self.kernel not in KERNELS:
            raise ValueError(f"kernel {self.kernel!r} is none of {', '.join(KERNELS)}")
        if not (0 < self.C < np.inf and 0 <= self.gamma < np.inf):
            raise ValueError(f"C must be positive and gamma not negative, both finite: C={self.C}, gamma={self.gamma}")


@dataclass(frozen=True)
class Scaling:
    """StandardScaler's parameters as it applies them to float32 rows."""

    mean: Float32[np.ndarray, " d"]
    scale: Float32[np.ndarray, " d"]


@dataclass(frozen=True)
class Classifier:
    """A trained SVC, in scikit-learn's terms and with its signs.

    k classes make p = k (k-1) / 2 pairs; there are s support vectors.
    """

    task: str
    candidate: Candidate
    classes: Shaped[np.ndarray, " k"]
    support: Int[np.ndarray, " s"]
    dual_coef: Float64[np.ndarray, "rows s"]
    intercept: Float64[np.ndarray, " p"]
    n_iter: Int[np.ndarray, " p"]
    scaling: Scaling | None
    x_train: Float32[np.ndarray, "n d"]  # the rows it was trained on, not copied; support says which it needs
    pair_coef: Float64[np.ndarray, "p s"]  # libsvm's signs: positive for the first class of a pair
    rho: Float64[np.ndarray, " p"]


def bytes_a_thread(n: int, m: int, d: int, n_classes: int = 2) -> int:
    """What one unit of work allocates at most, for n training rows, m test rows and d features: float64 rows,
    their dot products, and a float32 kernel matrix (twice where pairs of classes are cut from it)."""
    return 8 * (n + m) * d + 8 * n * (n + m) + 4 * n * (n + 16) * (1 if n_classes == 2 else 2)


@dataclass(frozen=True)
class CheckedTask:
    """A task that can be fitted: labels encoded as indices into `classes`."""

    name: str
    x: Float32[np.ndarray, "n d"]
    y: Int[np.ndarray, " n"]
    classes: Shaped[np.ndarray, " k"]
    counts: Int[np.ndarray, " k"]
    class_weight: ClassWeight

    @property
    def members(self) -> str:
        """How many members each of the first classes has, for messages."""
        return ", ".join(f"{label}: {count}" for label, count in zip(self.classes[:8], self.counts[:8], strict=True))


def check_tasks(
    tasks: Sequence[Task], names: Sequence[str] | None, class_weight: ClassWeight, smallest: int = 2
) -> list[CheckedTask]:
    """Tasks with their labels encoded; their names are their positions where none are given.

    Raises BadTask for one that can't be fitted: `smallest` is the number of members that each class needs.
    """
    names = [str(i) for i in range(len(tasks))] if names is None else names
    if len(names) != len(tasks):
        raise ValueError(f"{len(tasks)} tasks but {len(names)} names")
    checked = []
    for name, (x, y) in zip(names, tasks, strict=True):
        _check_rows(name, x)
        y = np.asarray(y)
        if y.shape != x.shape[:1]:
            raise BadTask(f"task {name}: {x.shape[0]} rows but labels of shape {y.shape}")
        classes, encoded, counts = np.unique(y, return_inverse=True, return_counts=True)
        task = CheckedTask(name, np.ascontiguousarray(x), encoded, classes, counts, class_weight)
        if classes.size < 2:
            raise BadTask(f"task {name}: its {y.size} training rows are not of two classes or more ({task.members})")
        if counts.min() < smallest:
            raise BadTask(f"task {name}: every class needs {smallest} members or more ({task.members})")
        checked.append(task)
    return checked


def _check_rows(name: str, x: Float32[np.ndarray, "n d"]) -> None:
    if x.ndim != 2 or x.dtype != np.float32 or x.size == 0:
        raise BadTask(f"task {name}: features must be a float32 matrix, not {x.dtype} of shape {x.shape}")
    if not np.isfinite(x).all():
        row = int(np.flatnonzero(~np.isfinite(x).all(axis=1))[0])
        raise BadTask(f"task {name}: row {row} has a feature that is not finite")


def folds_of(task: CheckedTask, cv: int) -> list[tuple[Int[np.ndarray, " _t"], Int[np.ndarray, " _v"]]]:
    """StratifiedKFold's splits: rows to train on and to test on.

    Members of a class are spread over the folds, so with 2 or more of each class every training part has one:
    no fit fails, and no score is NaN.
    """
    from sklearn.model_selection import StratifiedKFold

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")  # `notes_of` says so
        return list(StratifiedKFold(cv).split(task.y, task.y))


def notes_of(task: CheckedTask, cv: int) -> tuple[str, ...]:
    """Which classes are smaller than the number of folds."""
    small = task.counts < cv
    return tuple(
        f"class {label} has {count} members, fewer than the {cv} folds: some folds are scored without it"
        for label, count in zip(task.classes[small], task.counts[small], strict=True)
    )


class Grid:
    """Candidates as arrays; `visit` is the order that lets costs be shared: linear first, costs
    descending."""

    def __init__(self, candidates: tuple[Candidate, ...], tol: float = TOL) -> None:
        self.candidates = candidates
        self.tol = tol
        self.kinds = np.array([KERNELS.index(c.kernel) for c in candidates])
        self.gammas = np.array([c.gamma for c in candidates])
        self.costs = np.array([c.C for c in candidates])
        self.visit = np.lexsort((-self.costs, self.kinds != KERNELS.index("linear")))


@contextlib.contextmanager
def threads(n_threads: int | None, announce: Callable[[str], None] | None) -> Iterator[ThreadPoolExecutor]:
    """Threads to run compiled code on. BLAS is kept to one in each: several would sum in another order."""
    _load(announce)
    n = n_threads if n_threads is not None else _n_processors()
    with _blas().limit(limits=1, user_api="blas"), ThreadPoolExecutor(n) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _n_processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _load(announce: Callable[[str], None] | None) -> None:
    """Load the compiled code, or compile it and say so."""
    from numba.core import event

    class Announcer(event.Listener):
        announced = False

        def on_start(self, event: object) -> None:
            if announce is not None and not self.announced:
                announce(FIRST_USE)
            self.announced = True

        def on_end(self, event: object) -> None: ...

    with event.install_listener("numba:compile", Announcer()):
        _solve_a_toy()


@cache
def _solve_a_toy() -> None:
    """Go through all compiled code once, in one thread, so that it is there before others need it."""
    x = np.array([[0, 1], [1, 0], [0, 2], [2, 0]], np.float32)
    task = CheckedTask("toy", x, np.array([0, 1, 0, 1]), np.array([0, 1]), np.array([2, 2]), None)
    candidate = Candidate("linear", 1.0)
    score_fold(task, np.arange(4), np.arange(4), Grid((candidate,)), share=True)
    _decide(train_on(task, candidate, scaled=True), x)


def _weights(task: CheckedTask, rows: Int[np.ndarray, " t"]) -> Float64[np.ndarray, " k"]:
    if task.class_weight is None:
        return np.ones(task.classes.size)
    from sklearn.utils.class_weight import compute_class_weight

    labels = task.classes[task.y[rows]]
    return np.asarray(compute_class_weight(task.class_weight, classes=task.classes, y=labels), np.float64)


def grouped_by_class(
    task: CheckedTask, rows: Int[np.ndarray, " t"]
) -> tuple[Int[np.ndarray, " t"], Int[np.ndarray, " starts"]]:
    """Rows grouped by class, in their order within each, and where each class starts."""
    y = task.y[rows]
    starts = np.concatenate([[0], np.cumsum(np.bincount(y, minlength=task.classes.size))])
    return rows[np.argsort(y, kind="stable")], starts


def score_fold(
    task: CheckedTask, train: Int[np.ndarray, " t"], test: Int[np.ndarray, " v"], grid: Grid, share: bool
) -> tuple[Float64[np.ndarray, " c"], Int[np.ndarray, "c p"], int]:
    """Scores and solver steps of all candidates in one fold, and how many solver runs sharing saved."""
    from bb.probe.classifiers import smo

    scaling = Scaling(*smo.moments(task.x, train))
    grouped, starts = grouped_by_class(task, train)
    scores, n_iter, n_shared = smo.score_candidates(
        _standardise(task.x, grouped, scaling), starts, _standardise(task.x, test, scaling), task.y[test],
        grid.kinds, grid.gammas, grid.costs, grid.visit, _weights(task, train), grid.tol, share, STATE,
    )  # fmt: skip
    return scores, n_iter, n_shared


def train_on(task: CheckedTask, candidate: Candidate, scaled: bool, tol: float = TOL) -> Classifier:
    """One classifier on all rows of a task."""
    from bb.probe.classifiers import smo

    rows = np.arange(task.y.size)
    grouped, starts = grouped_by_class(task, rows)
    scaling = Scaling(*smo.moments(task.x, rows)) if scaled else None
    kind = KERNELS.index(candidate.kernel)
    z = _standardise(task.x, grouped, scaling)
    coef, rho, n_iter = smo.fit_candidate(
        z, starts, kind, candidate.gamma, candidate.C, _weights(task, rows), tol, STATE
    )
    used = np.flatnonzero(coef.any(axis=0))
    support = grouped[used]
    pair_coef = np.ascontiguousarray(coef[:, used])
    sign = -1.0 if task.classes.size == 2 else 1.0  # scikit-learn turns the signs of two-class problems
    return Classifier(
        task=task.name,
        candidate=candidate,
        classes=task.classes,
        support=support,
        dual_coef=sign * _per_class(pair_coef, task.y[support], task.classes.size),
        intercept=sign * -rho,
        n_iter=n_iter,
        scaling=scaling,
        x_train=task.x,
        pair_coef=pair_coef,
        rho=rho,
    )


def _standardise(
    x: Float32[np.ndarray, "n d"], rows: Int[np.ndarray, " r"], scaling: Scaling | None
) -> Float64[np.ndarray, "r d"]:
    from bb.probe.classifiers import smo

    if scaling is None:
        return x[rows].astype(np.float64)
    z: Float64[np.ndarray, "r d"] = smo.standardise(x, rows, scaling.mean, scaling.scale)
    return z


def _per_class(
    pair_coef: Float64[np.ndarray, "p s"], y: Int[np.ndarray, " s"], n_classes: int
) -> Float64[np.ndarray, "rows s"]:
    """libsvm's layout: row r of a support vector's column is its part against the r-th of the other
    classes."""
    out = np.zeros((n_classes - 1, y.size))
    for pair, (a, b) in enumerate(combinations(range(n_classes), 2)):
        out[b - 1, y == a] = pair_coef[pair, y == a]
        out[a, y == b] = pair_coef[pair, y == b]
    return out


def decide_all(
    classifiers: Sequence[Classifier],
    xs: Sequence[Float32[np.ndarray, "_m _d"]],
    n_threads: int | None,
    announce: Callable[[str], None] | None,
) -> list[Decided]:
    """Decisions (m,), of k > 2 classes (m, k), and labels (m,) of each classifier on its rows.

    Raises BadTask for rows that are not finite or of another number of features.
    """
    if len(xs) != len(classifiers):
        raise ValueError(f"{len(classifiers)} tasks were fitted but {len(xs)} arrays given")
    for classifier, x in zip(classifiers, xs, strict=True):
        _check_rows(classifier.task, x)
        d = classifier.x_train.shape[1]
        if x.shape[1] != d:
            raise BadTask(f"task {classifier.task}: {x.shape[1]} features, but fitted on {d}")
    with threads(n_threads, announce) as pool:
        return list(pool.map(_decide, classifiers, xs))


def _decide(classifier: Classifier, x: Float32[np.ndarray, "m d"]) -> Decided:
    """Decision values in scikit-learn's shape and sign, and predicted labels."""
    from bb.probe.classifiers import smo

    z = _standardise(classifier.x_train, classifier.support, classifier.scaling)
    z_test = _standardise(np.ascontiguousarray(x), np.arange(x.shape[0]), classifier.scaling)
    candidate = classifier.candidate
    decision, labels = smo.decide_candidate(
        z, z_test, KERNELS.index(candidate.kernel), candidate.gamma, classifier.pair_coef, classifier.rho
    )
    n_classes = classifier.classes.size
    return -decision[0] if n_classes == 2 else one_vs_rest(decision, n_classes), classifier.classes[labels]


def one_vs_rest(decision: Float64[np.ndarray, "p m"], n_classes: int) -> Float64[np.ndarray, "m k"]:
    """Votes, plus the sum of confidences squashed below a third: scikit-learn's
    decision_function_shape="ovr"."""
    votes, confidence = np.zeros((2, n_classes, decision.shape[1]))
    start = 0
    for a in range(n_classes - 1):  # its pairs with all later classes, which sum in order as scikit-learn's do
        pairs = decision[start : start + n_classes - 1 - a]
        confidence[a] = np.add.accumulate(np.concatenate([confidence[a : a + 1], pairs]))[-1]
        confidence[a + 1 :] -= pairs
        votes[a] += (pairs >= 0).sum(axis=0)
        votes[a + 1 :] += pairs < 0
        start += len(pairs)
    return (votes + confidence / (3 * (np.abs(confidence) + 1))).T
