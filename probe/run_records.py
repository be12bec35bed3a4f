"""Whether run.json holds what the readers of its kind of run take from it: a stranger's may hold anything.

Each function says in what a record is not that; None where it is. Reports leave such a run out, and probes do it again.
"""

from collections.abc import Mapping
from typing import Any

from bb.probe.tasks.few_shot import MAX_SEED
from bb.store.format.layout import is_digest

TARGETS = ("classes", "traits", "values")
ROLES: dict[str, type] = {"split": str, "against": str, "folds": int, "seed": int}


def newt_problem(record: Mapping[str, Any]) -> str | None:
    """Of runs of NeWT's tasks."""
    seed, n_train, provenance, scores = (record[key] for key in ("seed", "n_train", "provenance", "scores"))
    right = {
        **{
            key: isinstance(record[key], str)
            for key in ("protocol", "classifier", "backend", "test_set", "collection_name")
        },
        "space": is_digest(record["space"]),
        "collection": is_digest(record["collection"]),
        "seed": seed is None or (type(seed) is int and 0 <= seed < MAX_SEED),
        "n_train": n_train == "all" or (type(n_train) is int and 0 < n_train < MAX_SEED),
        "backbones": _is_texts(record["backbones"]),
        "identical_to_sklearn": isinstance(record["identical_to_sklearn"], bool),
        "provenance": isinstance(provenance, dict) and isinstance(provenance.get("made"), str),
        "scores": _has_numbers(scores, "chance", "mean", "mean_over_tasks"),
    }
    used = record.get("n_used", [0, 0])
    optional = {
        "train_pool": isinstance(record.get("train_pool", ""), str),
        **{key: isinstance(record.get(key), str | None) for key in ("labels_name", "pooling")},
        "labels_notes": _is_texts(record.get("labels_notes", [])),
        "scores_without_leaks": (without := record.get("scores_without_leaks")) is None
        or (_has_numbers(without, "mean", "n") and _has_numbers(scores, "n")),
        "notes": _is_mapping(record.get("notes", {}), _is_texts),
        "class_names": isinstance(names := record.get("class_names", {}), dict)
        and all(isinstance(pair, list) and [type(name) for name in pair] == [str, str] for pair in names.values()),
        "n_used": isinstance(used, list) and [type(n) for n in used] == [int, int],
    }
    return _first_wrong(record, right | optional)


def classification_problem(record: Mapping[str, Any]) -> str | None:
    """Of runs of classification."""
    without = record.get("scores_without_leaks")
    right = {
        **{
            key: isinstance(record.get(key), str)
            for key in ("tasks", "classifier", "space", "collection", "collection_name")
        },
        "train_pool": isinstance(record.get("train_pool", ""), str),
        "test_set": isinstance(record.get("test_set"), str),
        "split_by": isinstance(record.get("split_by"), str),
        "target": record.get("target") in TARGETS,
        "seed": type(record.get("seed")) is int,
        "n_train": record.get("n_train") == "all" or type(record.get("n_train")) is int,
        "backbones": _is_texts(record.get("backbones")),
        "parameters": _are_parameters(record.get("parameters", {})),
        "published": record.get("published") is None or _is_published(record["published"]),
        "class_names": _is_mapping(record.get("class_names"), _is_texts),
        "labels_notes": _is_texts(record.get("labels_notes", [])),
        "notes": _is_mapping(record.get("notes", {}), _is_texts),
        "scores": _is_scores(record.get("scores")),
        "scores_without_leaks": without is None
        or (isinstance(without, dict) and (without.get("mean") is None or _has_numbers(record["scores"], "mean"))),
    }
    return _first_wrong(record, right)


def retrieval_problem(record: Mapping[str, Any], *, whole: bool = False) -> str | None:
    """Of runs of retrieval.

    whole  whether it has to hold what the probe prints of it, too, which runs made before may not have
    """
    how, scores = (record[key] if isinstance(record.get(key), dict) else {} for key in ("parameters", "scores"))
    roles = how.get("roles")
    absent = {} if whole else {"ks": [1], "knn": [], "overall": {}, "clusters": {}, "queries": 0, "gallery": 0}
    how, scores = absent | how, absent | scores
    units = record.get("units", {"n": 0, "kind": "", "shared": False})
    right = {
        **{key: isinstance(record[key], str) for key in ("space", "test_set", "collection", "collection_name")},
        "backbones": _is_texts(record["backbones"]),
        "parameters": all(isinstance(how.get(key), str) for key in ("distance", "convention"))
        and all(isinstance(how.get(key), list) for key in ("rerankers", "ks", "knn"))
        and bool(how["ks"])
        and isinstance(roles, dict)
        and all(key in roles and isinstance(roles[key], kind | None) for key, kind in ROLES.items()),
        "seed": record["seed"] is None or type(record["seed"]) is int,
        "units": _has_numbers(units, "n") and units.keys() >= {"kind", "shared"},
        "notes": _is_mapping(record.get("notes", {}), _is_texts),
        "index_recall": record.get("index_recall") is None or _is_mapping(record["index_recall"], _is_value),
        "scores": isinstance(scores.get("main"), str)
        and _has_numbers(scores, "mean", "queries", "gallery")
        and _is_mapping(scores.get("tasks"), lambda of: _has_numbers(of, "mean"))
        and _is_mapping(scores.get("overall"), _is_value)
        and _is_mapping(scores.get("categories"), lambda of: _is_mapping(of, _is_value))
        and _is_mapping(scores.get("clusters"), lambda of: _has_numbers(of, "mean", "n")),
    }
    return _first_wrong(record, right)


def _first_wrong(record: Mapping[str, Any], right: Mapping[str, bool]) -> str | None:
    wrong = [key for key, fits in right.items() if not fits]
    return f"its run.json has the {wrong[0]} {str(record.get(wrong[0]))[:80]!r}" if wrong else None


def _has_numbers(value: Any, *keys: str) -> bool:
    return isinstance(value, dict) and all(_is_value(value.get(key)) for key in keys)


def _are_parameters(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("preprocessing"), str | None)
        and isinstance(value.get("estimator"), dict | None)
    )


def _is_published(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and all(isinstance(value.get(key), str) for key in ("name", "source", "metric", "setting"))
        and isinstance(value.get("replica"), bool)
        and all(_is_texts(value.get(key)) for key in ("faults", "differs"))
        and isinstance(value.get("seeds"), list)
        and all(type(seed) is int for seed in value["seeds"])
    )


def _is_scores(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("main"), str)
        and _is_number(value.get("mean"))
        and _is_mapping(value.get("tasks"), lambda sides: _is_mapping(sides, _is_side))
    )


def _is_side(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and type(value.get("n")) is int
        and all(_is_number(value.get(key)) for key in ("chance", "majority"))
        and _is_mapping(value.get("metrics"), _is_metric)
    )


def _is_metric(value: Any) -> bool:
    """A value with both bounds or neither."""
    return (
        isinstance(value, dict)
        and all(key in value and _is_number(value[key]) for key in ("value", "low", "high"))
        and (value["low"] is None) == (value["high"] is None)
        and all(isinstance(value.get(key), str) for key in ("claim", "reason"))
    )


def _is_number(value: Any) -> bool:
    return value is None or _is_value(value)


def _is_value(value: Any) -> bool:
    return type(value) in (int, float)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _is_mapping(value: Any, fits: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) and fits(each) for key, each in value.items())
