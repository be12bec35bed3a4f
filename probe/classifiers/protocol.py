"""How a task is scored: what is done to the features, and which classifier is fitted to them.

Protocols and classifiers are frozen records of parameters; engines do the fitting (probe/classifiers/engine.py). All
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

from bb.probe.classifiers.preprocess import preprocess
from bb.probe.classifiers.registry import CLASSIFIERS
from bb.probe.tasks.few_shot import NTrain
from bb.store.errors import UsageError


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


@dataclass(frozen=True)
class PluginClassifier:
    """A classifier of a plug-in, by its name. `code` is the hash of the plug-in's package: part of a run's identity."""

    kind: str
    code: str

    @classmethod
    def find(cls, kind: str) -> "PluginClassifier":
        """Errors: UsageError where no plug-in has a classifier of that name, PluginError where it can't be imported."""
        if kind not in CLASSIFIERS or CLASSIFIERS.plugins[kind].own:
            plugins = [name for name, plugin in CLASSIFIERS.plugins.items() if not plugin.own]
            raise UsageError(f"--svm {kind!r} is unknown; choose {', '.join(('auto', 'linear', 'search', *plugins))}.")
        code = CLASSIFIERS.plugins[kind].tree_hash()
        CLASSIFIERS.load(kind)
        return cls(kind, code)


Classifier: TypeAlias = LinearSVM | RandomSearchSVM | GridLinearSVC | PluginClassifier


@dataclass(frozen=True)
class BioBench:
    """The protocol of biobench (github.com/samuelstevens/biobench): centred unit vectors and an SVM.

    The classifier is the one that `init_svc` in src/biobench/newt/__init__.py chooses: a linear SVM below `search_from`
    training images per task, else a search. There "all" is n_train = -1, so that it gets the linear SVM too; the
    NeWT scores that biobench publishes are of that kind.
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
        return preprocess("center-l2", x_train, x_test)

    def classifier(self, n_train: NTrain, kind: str = "auto") -> Classifier:
        """The classifier for the training images requested per task; `kind` other than "auto" forces one."""
        match kind:
            case "linear":
                return self.linear
            case "search":
                return self.search
            case "auto":
                return self.linear if n_train == "all" or n_train < self.search_from else self.search
            case _:
                return PluginClassifier.find(kind)

    def parameters(self) -> dict[str, Any]:
        """Everything that decides the outcome apart from the data, JSON-ready."""
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
        train, test = preprocess("standard", x_train, x_test)
        return preprocess("l2", train, test)

    def classifier(self, n_train: NTrain, kind: str = "auto") -> Classifier:
        """The grid search, whatever n_train, or a plug-in's. Errors: UsageError for any other choice of SVM."""
        if kind in CLASSIFIERS and not CLASSIFIERS.plugins[kind].own:
            return PluginClassifier.find(kind)
        if kind != "auto":
            raise UsageError(f"--svm {kind} has no meaning in newt2021, which has one classifier; leave --svm out.")
        return self.search

    def parameters(self) -> dict[str, Any]:
        """Everything that decides the outcome apart from the data, JSON-ready."""
        return _parameters(self)


Protocol: TypeAlias = BioBench | NeWT2021


def kind_of(classifier: Classifier) -> str:
    """A classifier in the words of `--svm`: "linear" where one SVM is fitted, "search" where many are; or its name."""
    if isinstance(classifier, PluginClassifier):
        return classifier.kind
    return "linear" if isinstance(classifier, LinearSVM) else "search"


def candidates_of(classifier: Classifier) -> int:
    """How many candidates are compared in each task."""
    match classifier:
        case LinearSVM() | PluginClassifier():
            return 1
        case RandomSearchSVM():
            return classifier.n_iter
        case GridLinearSVC():
            return len(classifier.C)


PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in (BioBench(), NeWT2021())}


def parse_protocol(name: str) -> Protocol:
    """A protocol by its name, with its published parameters. Errors: UsageError."""
    if name not in PROTOCOLS:
        raise UsageError(
            f"--protocol {name!r} is unknown; choose {' or '.join(PROTOCOLS)}. Protocols of other tasks are those of "
            "`bb probe classify --protocol`."
        )
    return PROTOCOLS[name]


def _parameters(protocol: Protocol) -> dict[str, Any]:
    record = {"name": protocol.name, "preprocessing": protocol.preprocessing, **asdict(protocol)}
    return _with_lists(record)


def _with_lists(value: Any) -> Any:
    """JSON knows no tuples: what is written must equal what is read back."""
    if isinstance(value, dict):
        return {key: _with_lists(item) for key, item in value.items()}
    return [_with_lists(item) for item in value] if isinstance(value, tuple) else value
