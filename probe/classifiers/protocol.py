"""How a task is scored: what is done to the features, and which classifier is fitted to them.

Protocols and classifiers are frozen records of parameters; engines do the fitting (probe/engine.py). All
parameters are part of a run's identity.

The arithmetic is that of numpy and scikit-learn, so that a script without bb can repeat it to the bit:

biobench    x = features.astype(np.float32)
            x = sklearn.preprocessing.normalize(x)                      each row by its own norm; see below
            mean = normalised training rows .mean(axis=0)               float32, rows in the order fitted
            x = normalize(x - mean)                                     both splits
newt2021    x = features.astype(np.float32)
            scaler = StandardScaler().fit(training rows)
            x = normalize(scaler.transform(x))                          both splits

`normalize` leaves a row whose norm is zero (below 10 float32 epsilons) as it is, where a division would make
NaN.
"""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
from jaxtyping import Float, Float32

from probe.sampling import NTrain
from store.errors import UsageError

SVM_CHOICES = ("auto", "linear", "search")


@dataclass(frozen=True)
class LinearSVM:
    """sklearn.svm.SVC(kernel="linear"), fitted once."""

    C: float = 1.0
    tol: float = 1e-3


@dataclass(frozen=True)
class RandomSearchSVM:
    """RandomizedSearchCV over make_pipeline(StandardScaler(), SVC()), refitted with the first-best candidate.

    C and gamma are drawn log-uniformly between their two bounds (scipy.stats.loguniform), kernel from the
    list in this order, as ParameterSampler draws them from random_state; `folds` is cv, by accuracy.
    """

    C: tuple[float, float] = (1e-3, 1e1)
    gamma: tuple[float, float] = (1e-4, 1e-3)
    kernel: tuple[str, ...] = ("rbf", "linear", "sigmoid", "poly")
    n_iter: int = 100
    folds: int = 5
    random_state: int = 42
    tol: float = 1e-3


@dataclass(frozen=True)
class GridLinearSVC:
    """GridSearchCV over LinearSVC(dual=False), refitted with the first-best C; `folds` is cv, by accuracy."""

    C: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1e0, 1e1, 1e2, 1e3)
    folds: int = 3
    tol: float = 1e-5
    random_state: int = 0
    max_iter: int = 1000


Classifier: TypeAlias = LinearSVM | RandomSearchSVM | GridLinearSVC


@dataclass(frozen=True)
class BioBench:
    """The protocol of biobench (github.com/samuelstevens/biobench): centred unit vectors, a searched SVM.

    Below `search_from` training images a task, a search over folds has too little to go by and a linear SVM
    is used.
    """

    name: ClassVar[str] = "biobench"
    preprocessing: ClassVar[tuple[str, ...]] = ("float32", "l2", "subtract_train_mean", "l2")
    search_from: int = 10
    linear: LinearSVM = LinearSVM()
    search: RandomSearchSVM = RandomSearchSVM()

    def preprocess(
        self, x_train: Float[np.ndarray, "n d"], x_test: Float[np.ndarray, "m d"]
    ) -> tuple[Float32[np.ndarray, "n d"], Float32[np.ndarray, "m d"]]:
        """Make the features of both splits ready for the classifier; NaN and infinity pass through."""
        train, test = _l2_normalize(_float32(x_train)), _l2_normalize(_float32(x_test))
        mean = train.mean(axis=0)
        return _l2_normalize(train - mean), _l2_normalize(test - mean)

    def classifier(self, n_train: NTrain, svm: str = "auto") -> LinearSVM | RandomSearchSVM:
        """The classifier for so many training images asked for; `svm` other than "auto" forces one."""
        match svm:
            case "linear":
                return self.linear
            case "search":
                return self.search
            case "auto":
                return self.search if n_train == "all" or n_train >= self.search_from else self.linear
            case _:
                raise UsageError(f"--svm {svm!r} is unknown; choose {', '.join(SVM_CHOICES)}.")

    def parameters(self) -> dict[str, Any]:
        """Everything that decides the outcome beside the data, JSON-ready."""
        return _parameters(self)


@dataclass(frozen=True)
class NeWT2021:
    """NeWT's authors' own (github.com/visipedia/newt): standardised unit vectors, a LinearSVC grid search."""

    name: ClassVar[str] = "newt2021"
    preprocessing: ClassVar[tuple[str, ...]] = ("float32", "standard_scaler", "l2")
    search: GridLinearSVC = GridLinearSVC()

    def preprocess(
        self, x_train: Float[np.ndarray, "n d"], x_test: Float[np.ndarray, "m d"]
    ) -> tuple[Float32[np.ndarray, "n d"], Float32[np.ndarray, "m d"]]:
        """As `BioBench.preprocess`. The scaler sees the whole training split, as the authors have it."""
        import sklearn
        from sklearn.preprocessing import StandardScaler

        with sklearn.config_context(assume_finite=True):
            scaler = StandardScaler().fit(_float32(x_train))
            train, test = scaler.transform(_float32(x_train)), scaler.transform(_float32(x_test))
        return _l2_normalize(train), _l2_normalize(test)

    def classifier(self, n_train: NTrain, svm: str = "auto") -> GridLinearSVC:
        """The grid search, whatever n_train. Errors: UsageError for any other choice of SVM."""
        if svm != "auto":
            raise UsageError(f"--svm {svm} has no meaning in newt2021, which has one classifier; leave --svm out.")
        return self.search

    def parameters(self) -> dict[str, Any]:
        """Everything that decides the outcome beside the data, JSON-ready."""
        return _parameters(self)


Protocol: TypeAlias = BioBench | NeWT2021


def kind_of(classifier: Classifier) -> str:
    """A classifier in the words of `--svm`: "linear" where one SVM is fitted, "search" where many are."""
    return "linear" if isinstance(classifier, LinearSVM) else "search"


def candidates_of(classifier: Classifier) -> int:
    """How many candidates are compared in each task."""
    match classifier:
        case LinearSVM():
            return 1
        case RandomSearchSVM():
            return classifier.n_iter
        case GridLinearSVC():
            return len(classifier.C)


PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in (BioBench(), NeWT2021())}


def parse_protocol(name: str) -> Protocol:
    """A protocol by its name, with its published parameters. Errors: UsageError."""
    if name not in PROTOCOLS:
        raise UsageError(f"--protocol {name!r} is unknown; choose {' or '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]


def _parameters(protocol: Protocol) -> dict[str, Any]:
    record = {"name": protocol.name, "preprocessing": protocol.preprocessing, **asdict(protocol)}
    return _with_lists(record)


def _with_lists(value: Any) -> Any:
    """JSON knows no tuples: what is written must equal what is read back."""
    if isinstance(value, dict):
        return {key: _with_lists(item) for key, item in value.items()}
    return [_with_lists(item) for item in value] if isinstance(value, tuple) else value


def _float32(x: Float[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    return x.astype(np.float32, copy=False)


def _l2_normalize(x_ND: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    import sklearn
    from sklearn.preprocessing import normalize

    # What isn't finite is refused with the task's name when the problem is checked, so not here without it.
    with sklearn.config_context(assume_finite=True):
        return normalize(x_ND)
