"""From fitted classifiers to a model of the store and back; nothing is fitted on the way."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64

from bb.probe.classifiers.estimator import make
from bb.probe.classifiers.preprocess import PREPROCESSING
from bb.probe.git_commit import commit
from bb.probe.labelling.cross_validation import Fitted, Setting
from bb.probe.labelling.group_thresholds import Thresholds
from bb.probe.labelling.predictor import Predictor
from bb.probe.statistics.multiclass.calibration import COLDEST, HOTTEST
from bb.store import Collection, FeatureSpace, Store
from bb.store.errors import BBError, Malformed, UsageError
from bb.store.files.canonical_json import digest_of
from bb.store.format.model import Model
from bb.store.format.space import short
from bb.store.reporter import Reporter
from bb.store.versions import versions

VERSIONS = ("backbone-bench", "numba", "numpy", "scikit-learn", "scipy")


def labels_digest(
    collection: Collection,
    image_ids: Sequence[str],
    y: Int64[np.ndarray, " n"],
    classes: Sequence[str],
    group: Int64[np.ndarray, " n"] | None = None,
) -> str:
    """The digest of labels: of each image's digest with its class and, where there are groups, which are together."""
    keys = [key.tobytes().hex() for key in collection.digests(image_ids)]
    groups = [None] * len(keys) if group is None else group.tolist()
    return digest_of(sorted([key, classes[label], of] for key, label, of in zip(keys, y.tolist(), groups, strict=True)))


def model_of(
    predictor: Predictor,
    *,
    backbones: Sequence[str],
    collection: Collection,
    labels: str,
    protocol: Mapping[str, Any],
    stated: Mapping[str, Any],
) -> Model:
    """The model of a predictor, not yet published.

    Errors: UsageError where a classifier, such as a plug-in's, can't be written as arrays.
    """
    arrays: dict[str, np.ndarray] = {}
    for i, fitted in enumerate(predictor.fitted):
        if not hasattr(fitted.estimator, "arrays") or not hasattr(fitted.estimator, "with_arrays"):
            raise UsageError(
                f"classifier {fitted.setting.classifier!r} has no methods arrays() and with_arrays(), which write and "
                "read what it has learned."
            )
        arrays[f"{i}.labelled"] = np.asarray(fitted.x_train)
        arrays |= {f"{i}.fitted.{name}": np.asarray(x) for name, x in fitted.estimator.arrays().items()}
    first = predictor.fitted[0]
    return Model(
        "",
        "classes",
        tuple(predictor.spaces),
        tuple(backbones),
        predictor.classes,
        labels,
        (collection.name, collection.digest),
        len(first.x_train),
        {
            "classifier": first.setting.classifier,
            "preprocessing": first.setting.how,
            "parameters": first.estimator.parameters(),
            **protocol,
        },
        {
            "temperatures": [each.heat for each in predictor.fitted],
            "threshold": predictor.threshold,
            **({"groups": predictor.of_groups.record()} if predictor.of_groups else {}),
        },
        stated,
        provenance(),
        arrays,
    )


def provenance() -> dict[str, Any]:
    """Which code and libraries fitted a model. Without a date: the same fit makes the same file."""
    return {"code": commit(), "versions": versions(VERSIONS)}


def predictor_of(model: Model, source: str) -> Predictor:
    """The predictor of a model that anybody may have made.

    source  the store, for messages
    Errors: UsageError for another task than classes, an unknown classifier, and one whose parameters are others here;
    BBError for a damaged model.
    """
    if model.task != "classes":
        raise UsageError(f"model {short(model.digest)} finds individuals, it has no classes to predict.")
    how, classifier = model.protocol.get("preprocessing"), model.protocol.get("classifier")
    if not isinstance(classifier, str) or how not in PREPROCESSING:
        raise damaged(model, source, f"it has the preprocessing {how!r} and the classifier {classifier!r}")
    made = [make(classifier) for _ in model.spaces]
    if made[0].parameters() != model.protocol.get("parameters"):
        raise UsageError(
            f"model {short(model.digest)} was fitted by {classifier!r} with other parameters than this bb has: fit it "
            "again with `bb predict`."
        )
    try:
        temperatures, threshold, of_groups = _calibration(model)
        parts = [_arrays_of(model, i) for i in range(len(model.spaces))]
        if sum(map(len, parts)) != len(model.arrays):
            raise Malformed("it has other arrays, too")
        fitted = []
        for estimator, arrays, space, heat in zip(made, parts, model.spaces, temperatures, strict=True):
            x = labelled_rows(arrays, space, model.images)
            fitted_arrays = {name.removeprefix("fitted."): each for name, each in arrays.items() if name != "labelled"}
            estimator.with_arrays(fitted_arrays)
            widths = {fitted_arrays[name].shape[-1] for name in ("coef", "mean", "rows") if name in fitted_arrays}
            if widths != {x.shape[1]} or fitted_arrays["classes"].tolist() != list(range(len(model.classes))):
                raise Malformed(f"its arrays are not for {len(model.classes)} classes of {x.shape[1]} features")
            setting = Setting(classifier, str(how))
            fitted.append(Fitted(estimator, setting, x, heat, len(model.classes)))
    except Malformed as fact:
        raise damaged(model, source, str(fact)) from None
    return Predictor(model.spaces, fitted, model.classes, threshold, of_groups)


def labelled_rows(arrays: Mapping[str, np.ndarray], space: FeatureSpace, images: int) -> np.ndarray:
    """The rows of the labelled images, in the space's dtype. Errors: Malformed where they are others."""
    x = arrays.get("labelled")
    if x is None or x.dtype != space.dtype or x.shape != (images, *space.row_shape):
        what = "missing" if x is None else f"{x.dtype} of shape {x.shape}"
        raise Malformed(f"its labelled rows are {what}, not {images} of space {short(space.key)}")
    return x


def damaged(model: Model, source: str, fact: str) -> BBError:
    return BBError(
        f"model {short(model.digest)} in {source} is damaged: {fact}. Fit it again with `bb predict`, or use another."
    )


def note_unkept(store: Store, reporter: Reporter) -> None:
    """Says before the work that a store can't be written, so that no model will be kept."""
    try:
        store.check_writable("models", "local")
    except BBError as error:
        reporter.info(f"the model will not be kept: {error}")


def keep(store: Store, model: Model) -> tuple[str | None, str]:
    """Publishes a model: its digest and "", or None and why it is not kept."""
    try:
        store.check_writable("models", "local")
        return store.put_model(model), ""
    except BBError as error:
        return None, f"the model is not kept: {error}"


def _arrays_of(model: Model, i: int) -> dict[str, np.ndarray]:
    prefix = f"{i}."
    return {name.removeprefix(prefix): x for name, x in model.arrays.items() if name.startswith(prefix)}


def _calibration(model: Model) -> tuple[list[float], float | None, Thresholds | None]:
    if model.calibration.keys() - {"groups"} != {"temperatures", "threshold"}:
        raise Malformed("its calibration has other fields")
    temperatures, threshold = model.calibration["temperatures"], model.calibration["threshold"]
    if not isinstance(temperatures, list) or len(temperatures) != len(model.spaces):
        raise Malformed(f"it has {temperatures!r:.80} for temperatures")
    if not all(number(each, COLDEST, HOTTEST) for each in temperatures):
        raise Malformed(f"it has {temperatures!r:.80} for temperatures")
    if threshold is not None and not number(threshold):
        raise Malformed(f"it has {threshold!r:.80} for a threshold")
    return [float(each) for each in temperatures], threshold, _of_groups(model.calibration.get("groups"))


def _of_groups(found: object) -> Thresholds | None:
    if found is None:
        return None
    if not isinstance(found, dict) or found.keys() != {"pooled", "own", "others"}:
        raise Malformed("its thresholds of groups have other fields")
    pooled, own, others = found["pooled"], found["own"], found["others"]
    if not isinstance(own, dict) or not isinstance(others, list) or not all(isinstance(each, str) for each in others):
        raise Malformed("its thresholds of groups are not by name")
    if not all(each is None or number(each) for each in (pooled, *own.values())):
        raise Malformed(f"it has {(pooled, *own.values())!r:.80} for thresholds of groups")
    return Thresholds(pooled, own, frozenset(others))


def number(value: object, least: float = 0.0, most: float = 1.0) -> bool:
    """Whether a JSON value is a number from `least` to `most`."""
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most
