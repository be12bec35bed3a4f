"""The engine through scikit-learn: the reference that every other engine is held against.

Tasks run side by side in processes, each on one thread; scikit-learn's SVMs hold one core anyway.
"""

import signal
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from typing import Any, ClassVar

import numpy as np

from bb.probe.classifiers.engine import FitResult, Problem, checked
from bb.probe.classifiers.protocol import Classifier, GridLinearSVC, LinearSVM, PluginClassifier, RandomSearchSVM
from bb.probe.classifiers.registry import CLASSIFIERS
from bb.store.errors import BBError


class ScikitLearn:
    """Fulfils bb.probe.classifiers.engine.Engine."""

    name: ClassVar[str] = "sklearn"
    identical: ClassVar[bool] = True

    @property
    def version(self) -> str:
        return version("scikit-learn")

    def solve(self, problems: Iterable[Problem], classifier: Classifier, *, jobs: int) -> Iterator[FitResult]:
        import joblib

        work = checked(problems, classifier)
        if jobs == 1 or len(work) <= 1:
            yield from (_solve(problem, classifier, notes) for problem, notes in work)
            return
        parallel = joblib.Parallel(
            n_jobs=min(jobs, len(work)),
            backend="loky",
            return_as="generator_unordered",
            inner_max_num_threads=1,
            initializer=_leave_interrupts_to_parent,
        )
        outcomes = parallel(joblib.delayed(_solve)(problem, classifier, notes) for problem, notes in work)
        try:
            # `yield from` would close joblib's iterator before this `finally` is reached.
            for outcome in outcomes:  # noqa: UP028
                yield outcome
        finally:
            # Where the caller stops listening, by Ctrl-C too, this stops the workers. joblib warns that they
            # were still at work, which is the point.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                outcomes.close()


def estimator(classifier: Classifier, *, svc: Any, linear_svc: Any) -> Any:
    """The scikit-learn estimator that a classifier stands for, around scikit-learn's SVMs or cuML's."""
    from scipy.stats import loguniform
    from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, StratifiedKFold
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    match classifier:
        case PluginClassifier():
            return CLASSIFIERS.load(classifier.kind)()
        case LinearSVM(C=C, tol=tol):
            return svc.set_params(kernel="linear", C=C, tol=tol)
        case RandomSearchSVM():
            distributions = {
                "svc__C": loguniform(*classifier.C),
                "svc__gamma": loguniform(*classifier.gamma),
                "svc__kernel": list(classifier.kernel),
            }
            return RandomizedSearchCV(
                Pipeline([("scaler", StandardScaler()), ("svc", svc.set_params(tol=classifier.tol))]),
                distributions,
                n_iter=classifier.n_iter,
                cv=StratifiedKFold(classifier.folds),
                random_state=classifier.random_state,
                scoring="accuracy",
            )
        case GridLinearSVC():
            return GridSearchCV(
                linear_svc.set_params(tol=classifier.tol, max_iter=classifier.max_iter),
                {"C": list(classifier.C)},
                cv=StratifiedKFold(classifier.folds),
                scoring="accuracy",
            )


def fit(problem: Problem, classifier: Classifier, notes: tuple[str, ...], fitted: Any) -> FitResult:
    """Fit an estimator made by `estimator` to a problem; the library's warnings become notes of the outcome.

    Fold scores that are NaN rank last, as scikit-learn has it. Errors: BBError naming the task.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            fitted.fit(problem.x_train, problem.y_train)
            y_pred, decision = fitted.predict(problem.x_test), _decision(fitted, problem.x_test)
        except ValueError as error:
            raise BBError(f"task {problem.task!r} can't be fitted: {str(error).strip().splitlines()[0]}") from error

    searched = not isinstance(classifier, LinearSVM | PluginClassifier)
    return FitResult(
        problem.task,
        np.asarray(y_pred).astype(problem.y_train.dtype, copy=False),
        np.asarray(decision, dtype=np.float64).reshape(len(problem.x_test)),
        _parameters(fitted.best_params_) if searched else _fixed(classifier),
        float(fitted.best_score_) if searched else None,
        notes + _messages(caught),
    )


def _decision(fitted: Any, x_ND: np.ndarray) -> np.ndarray:
    """Positive for the larger label; of an estimator that gives probabilities, how much likelier that one is."""
    if hasattr(fitted, "decision_function"):
        decision = fitted.decision_function(x_ND)
        return decision[:, 1] - decision[:, 0] if np.ndim(decision) == 2 else decision
    likely_N2 = fitted.predict_proba(x_ND)
    return likely_N2[:, 1] - likely_N2[:, 0]


def _fixed(classifier: Classifier) -> dict[str, Any]:
    """The parameters of a classifier that searches for none."""
    return {"C": classifier.C, "kernel": "linear"} if isinstance(classifier, LinearSVM) else {}


def _solve(problem: Problem, classifier: Classifier, notes: tuple[str, ...]) -> FitResult:
    from sklearn.svm import SVC, LinearSVC

    random_state = classifier.random_state if isinstance(classifier, GridLinearSVC) else None
    svms = {"svc": SVC(), "linear_svc": LinearSVC(dual=False, random_state=random_state)}
    return fit(problem, classifier, notes, estimator(classifier, **svms))


def _parameters(best_params: dict[str, Any]) -> dict[str, Any]:
    """Chosen parameters under the SVM's own names, as Python's own types."""
    plain = {key.removeprefix("svc__"): value for key, value in best_params.items()}
    return {key: value.item() if isinstance(value, np.generic) else value for key, value in plain.items()}


def _messages(caught: list[warnings.WarningMessage]) -> tuple[str, ...]:
    """Each warning once, with how often it came; `check` has already noted classes smaller than the folds."""
    messages = Counter(str(warning.message).strip().splitlines()[0] for warning in caught)
    return tuple(
        f"scikit-learn: {message}" + (f" ({times} times)" if times > 1 else "")
        for message, times in messages.items()
        if not message.startswith("The least populated class in y")
    )


def _leave_interrupts_to_parent() -> None:
    # Ctrl-C reaches every process of the terminal; the parent stops its workers itself, without their
    # tracebacks.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
