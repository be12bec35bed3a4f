"""The contract of an estimator: a classifier of any number of classes, or a regressor, in scikit-learn's words.

An estimator is one class in a file of probe/classifiers/multiclass/ and one line of the registry; a plug-in's entry
point comes in by the same registry. It is made without arguments: its parameters are dataclass fields whose defaults
are the published ones. Every estimator passes the suite in tests/contracts/classifier.py.

Targets
classes  (n,) integers 0 … k-1, gaps allowed
traits   (n, t) 0 or 1, NaN where unknown: several labels of one image
values   (n,) float64: regression
"""

from collections.abc import Mapping
from dataclasses import fields
from itertools import chain
from typing import Any, ClassVar, Literal, Protocol, get_args, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64, Shaped

from bb.probe.classifiers.registry import CLASSIFIERS
from bb.store.errors import BBError, Malformed, UsageError

Target = Literal["classes", "traits", "values"]
NEVER = -1  # the fold of a row that is never held out
WHAT: dict[str, str] = {"classes": "classes", "traits": "multi-label targets", "values": "regression targets"}


@runtime_checkable
class Estimator(Protocol):
    """Fits one task. Features are float; anything else than float32 is cast to float32.

    targets      what y may be
    classes_     after `fit`: the distinct labels, ascending; of traits arange(t); empty for values
    parameters_  after `fit`: what was chosen and how well it is known, JSON-ready

    One that chooses its parameters on held-out rows takes their fold, or NEVER, as `fit(X, y, held_out=…)`.
    One of classes without probabilities may have `best(X)`: the place in `classes_` of each row's largest decision, of
    equal ones the first, (m,) int64, and that decision, (m,) float64, for less than all decisions cost.
    Where it gives probabilities it has `predict_proba(X)`, (m, k) float64, and bb's own have `proba_of(decision)`, the
    same of decisions that are known. Where a store can keep it, fitted to classes, it has `arrays()`, what `fit` made
    as float32, float64 or int64 of one or two axes, and `with_arrays(arrays)`, which makes a new estimator a fitted
    one, bit for bit, or raises Malformed.
    """

    targets: ClassVar[frozenset[str]]
    classes_: Shaped[np.ndarray, " k"]
    parameters_: dict[str, Any]

    def fit(self, X: Float[np.ndarray, "n d"], y: Shaped[np.ndarray, "rows ..."]) -> "Estimator":
        """Errors: BBError where y has one class, or features are not finite."""
        ...

    def predict(self, X: Float[np.ndarray, "m d"]) -> Shaped[np.ndarray, "m ..."]:
        """(m,) of y's values; (m, t) zeros and ones of traits."""
        ...

    def decision_function(self, X: Float[np.ndarray, "m d"]) -> Float64[np.ndarray, "m k"]:
        """(m, k), the predicted class has the largest; of traits (m, t), positive for 1; of values (m, 1)."""
        ...

    def parameters(self) -> dict[str, Any]:
        """All that decides the outcome apart from the data, JSON-ready."""
        ...


def names(target: Target = "classes") -> list[str]:
    """bb's own estimators and those of plug-ins that fit a kind of target."""
    return [name for name, kind in CLASSIFIERS.usable().items() if target in targets_of(kind)]


def find(name: str, *targets: Target) -> Any:
    """The kind of a name. Errors: UsageError with those that fit some kinds of target, any by default; PluginError."""
    try:
        return CLASSIFIERS.load(name)
    except UsageError:
        fitting = [names(target) for target in targets or get_args(Target)]
        known = ", ".join(dict.fromkeys(chain(*fitting)))
        raise UsageError(f"Unknown classifier {name!r}: choose {known}.") from None


def make(name: str, target: Target = "classes", parameters: Mapping[str, Any] | None = None) -> Any:
    """A new estimator of a name for a kind of target; `parameters` are set in place of its defaults.

    Errors: UsageError for an unknown name and for an estimator that can't fit such targets; PluginError.
    """
    kind = find(name, target)
    if target not in targets_of(kind):
        raise UsageError(f"{name!r} can't fit {WHAT[target]}; choose {', '.join(names(target))}.")
    return kind(**(parameters or {}))


def targets_of(kind: Any) -> frozenset[str]:
    """What a kind fits: nothing for a record of parameters without `fit`, classes where a plug-in doesn't say."""
    return frozenset(getattr(kind, "targets", ("classes",))) if hasattr(kind, "fit") else frozenset()


def reads_of(name: str) -> str:
    """The kind of features that a classifier reads: "img", or "patch" with features of three axes."""
    return str(getattr(CLASSIFIERS.load(name), "reads", "img")) if name in CLASSIFIERS else "img"


def parameters_of(estimator: Any) -> dict[str, Any]:
    """The fields of an estimator that its maker may set, JSON-ready."""
    values = {field.name: getattr(estimator, field.name) for field in fields(estimator) if field.init}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def checked_arrays(arrays: Mapping[str, np.ndarray], wanted: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Arrays from a file, where they are those of a fitted estimator.

    wanted  by name dtype and axes, such as "float64 k d"; one letter is one length everywhere, and k that of `classes`,
            ascending int64
    Errors: Malformed where names, dtypes, lengths or classes are others.
    """
    if arrays.keys() != {"classes", *wanted}:
        raise Malformed(f"it has the arrays {', '.join(sorted(arrays)) or 'none'} for {', '.join(wanted)}, classes")
    lengths: dict[str, int] = {}
    for name, text in {"classes": "int64 k", **wanted}.items():
        dtype, *axes = text.split()
        x = arrays[name]
        same = x.dtype == dtype and x.ndim == len(axes) and x.size > 0
        if not same or any(lengths.setdefault(axis, n) != n for axis, n in zip(axes, x.shape, strict=True)):
            raise Malformed(f"its array {name} is {x.dtype} of shape {x.shape}, not {text}")
    if len(arrays["classes"]) < 2 or (np.diff(arrays["classes"]) <= 0).any():
        raise Malformed("its classes are not ascending, or fewer than two")
    return dict(arrays)


def checked_features(X: Float[np.ndarray, "n d"], d: int | None = None) -> Float32[np.ndarray, "n d"]:
    """Features as float32. Errors: BBError where they are not finite, or have another width than those fitted."""
    x = np.ascontiguousarray(X, np.float32)
    if bad := int((~np.isfinite(x).all(axis=1)).sum()):
        raise BBError(f"{bad} of {len(x)} images have NaN or infinite features: extract them again, or leave them out.")
    if d is not None and x.shape[1] != d:
        raise BBError(
            f"images have {x.shape[1]} features, but the classifier was fitted on {d}: use one feature space."
        )
    return x


def checked_classes(y: Shaped[np.ndarray, " n"], n: int) -> tuple[Shaped[np.ndarray, " k"], Int64[np.ndarray, " n"]]:
    """The distinct classes and each row's place among them. Errors: BBError where there is only one class."""
    if len(y) != n:
        raise BBError(f"{n} rows of features but {len(y)} labels: give each row its label.")
    classes, codes = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise BBError(f"the training images are all of class {classes[0]}; a classifier needs two classes.")
    return classes, codes.astype(np.int64)


def checked_traits(y: Float[np.ndarray, "n t"], n: int) -> Float64[np.ndarray, "n t"]:
    """Traits as float64. Errors: BBError for other values than 0, 1 and NaN, and for a trait with one known value."""
    y = np.asarray(y, np.float64)
    if y.shape[0] != n:
        raise BBError(f"{n} rows of features but {y.shape[0]} rows of traits: give each row its traits.")
    if not np.isin(y[~np.isnan(y)], (0, 1)).all():
        raise BBError("a trait has other values than 0, 1 and unknown: fit values with ridge, or classes one by one.")
    if (alone := one_sided(y)).any():
        raise BBError(f"trait {alone.argmax()} has no image with 0 or none with 1 to train on: leave it out.")
    return y


def one_sided(y: Float64[np.ndarray, "n t"]) -> Bool[np.ndarray, " t"]:
    """Which traits have one known value alone, or none, so that nothing can be fitted to them."""
    return ~((y == 0).any(axis=0) & (y == 1).any(axis=0))


def checked_values(y: Float[np.ndarray, " n"], n: int) -> Float64[np.ndarray, " n"]:
    """Regression targets as float64. Errors: BBError where one is not finite."""
    if len(y) != n:
        raise BBError(f"{n} rows of features but {len(y)} values: give each row its value.")
    if bad := int((~np.isfinite(y)).sum()):
        raise BBError(f"{bad} of {n} values to train on are NaN or infinite: leave these images out.")
    return np.asarray(y, np.float64)
