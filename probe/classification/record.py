"""Whether a run's record has what a report of bb probe classify reads: a stranger's may hold anything."""

from typing import Any


def problem(record: dict[str, Any]) -> str | None:
    """In what a record is not what a report can read; None where it is."""
    notes, without = record.get("notes", {}), record.get("scores_without_leaks")
    right = {
        **{key: isinstance(record.get(key), str) for key in ("tasks", "classifier", "space", "collection_name")},
        "train_pool": isinstance(record.get("train_pool", ""), str),
        "test_set": isinstance(record.get("test_set"), str),
        "split_by": isinstance(record.get("split_by"), str),
        "target": isinstance(record.get("target"), str),
        "seed": type(record.get("seed")) is int,
        "n_train": record.get("n_train") == "all" or type(record.get("n_train")) is int,
        "backbones": _is_texts(record.get("backbones")),
        "published": record.get("published") is None or _is_published(record["published"]),
        "class_names": _is_mapping(record.get("class_names"), _is_texts),
        "labels_notes": _is_texts(record.get("labels_notes", [])),
        "notes": _is_mapping(notes, _is_texts),
        "scores": _is_scores(record.get("scores")),
        "scores_without_leaks": without is None or isinstance(without, dict),
    }
    wrong = [key for key, fits in right.items() if not fits]
    return f"its run.json has the {wrong[0]} {str(record.get(wrong[0]))[:80]!r}" if wrong else None


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
        and all(_is_number(value.get(key)) for key in ("value", "low", "high"))
        and (value.get("low") is None) == (value.get("high") is None)
        and all(isinstance(value.get(key), str) for key in ("claim", "reason"))
    )


def _is_number(value: Any) -> bool:
    return value is None or type(value) in (int, float)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _is_mapping(value: Any, fits: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) and fits(each) for key, each in value.items())
