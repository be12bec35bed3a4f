"""How much higher a score is where the split is drawn at random than where groups, or times, are kept apart."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from jaxtyping import Int64

from bb.probe.classification.board import run_name, trait_answers
from bb.probe.statistics import multilabel, regression
from bb.probe.statistics.multiclass.intervals import WIDENING, MetricEstimate, difference, not_shown
from bb.probe.statistics.multiclass.metrics import METRICS
from bb.probe.statistics.multiclass.predictions import Predictions
from bb.store.local.runs import Run


@dataclass(frozen=True)
class SplitDifference:
    """Of two runs that differ in the way of splitting alone: the score at random less the other."""

    name: str
    classifier: str
    shots: str
    seed: int
    task: str
    split_by: str
    metric: str
    difference: MetricEstimate


def split_differences(runs: Sequence[Run]) -> list[SplitDifference]:
    """Of runs that differ in the way of splitting alone, on images that both test: random less the other."""
    found = []
    by_way: dict[tuple[str, ...], dict[str, Run]] = {}
    for run in runs:
        record = run.record
        key = tuple(str(record.get(name)) for name in ("tasks", "space", "classifier", "n_train", "seed", "published"))
        by_way.setdefault(key, {})[str(record.get("split_by"))] = run
    for ways in by_way.values():
        at_random = ways.pop("random", None)
        if at_random is None:
            continue
        for way, other in sorted(ways.items()):
            record = other.record
            for task, sides in record["scores"]["tasks"].items():
                metric = str(record["scores"]["main"])
                made = _difference(at_random, other, task, metric) if len(sides) == 1 else None
                if made is not None:
                    how = str(record["classifier"]), str(record["n_train"]), int(record["seed"])
                    found.append(SplitDifference(run_name(other), *how, task, way, metric, made))
    return found


def _difference(at_random: Run, other: Run, task: str, metric: str) -> MetricEstimate | None:
    """None where no image is in both, and of metrics of probabilities, which no table of predictions has."""
    match other.record.get("target"):
        case "classes":
            return _of_classes(at_random, other, task, metric)
        case "traits":
            (ids, one), (other_ids, two) = (trait_answers(run, task, run.predictions()) for run in (at_random, other))
            here, there = np.isin(ids, other_ids), np.isin(other_ids, ids)
            if not here.any():
                return None
            one, two = one.among(here), two.among(there)
            both = one.known & two.known
            made = multilabel.difference(replace(one, seen=both), replace(two, seen=both), multilabel.METRICS[metric])
        case _:
            one_value, two_value = (_values(run, task) for run in (at_random, other))
            both_ids = sorted(one_value.keys() & two_value.keys())
            if not both_ids:
                return None
            y = np.array([two_value[image_id][0] for image_id in both_ids])
            scores = [
                regression.METRICS[metric].value(y, np.array([each[image_id][1] for image_id in both_ids]))
                for each in (one_value, two_value)
            ]
            made = MetricEstimate(metric, scores[0] - scores[1], None, "these models, on further images")
    why = _reason(at_random, task, metric) or _reason(other, task, metric)
    why = why or not_shown(f"differences in {metric} between ways of splitting")
    return MetricEstimate(metric, made.value, None, made.claim, why)


def _reason(run: Run, task: str, metric: str) -> str:
    """Why a run's own score has no interval; empty where it has one."""
    (side,) = run.record["scores"]["tasks"][task].values()
    return str(side["metrics"][metric]["reason"])


def _of_classes(at_random: Run, other: Run, task: str, name: str) -> MetricEstimate | None:
    ours, theirs = (_by_image(run, task) for run in (at_random, other))
    both = sorted(ours.keys() & theirs.keys())
    metric = METRICS.get(name)
    if not both or metric is None:
        return None
    classes, group = len(other.record["class_names"][task]), _codes(theirs, both)
    one, two = (
        Predictions(
            np.array([each[image_id][0] for image_id in both], np.int64),
            np.array([each[image_id][1] for image_id in both], np.int64),
            classes,
            None,
            group,
        )
        for each in (ours, theirs)
    )
    return difference(one, two, metric, widening=1 + WIDENING)


def _by_image(run: Run, task: str) -> dict[str, tuple[int, int, int | None]]:
    """Of each tested image its class, the predicted one, and its group."""
    table = run.predictions(["task", "image_id", "y_true", "y_pred", "group"]).filter(pl.col("task") == task)
    return {
        image_id: (int(y), int(predicted), group)
        for image_id, y, predicted, group in table.select("image_id", "y_true", "y_pred", "group").iter_rows()
    }


def _codes(found: dict[str, tuple[int, int, int | None]], image_ids: Sequence[str]) -> Int64[np.ndarray, " n"] | None:
    codes = [found[image_id][2] for image_id in image_ids]
    return None if None in codes else np.array(codes, np.int64)


def _values(run: Run, task: str) -> dict[str, tuple[float, float]]:
    """Of each tested image its number, and the predicted one."""
    rows = run.predictions(["task", "image_id", "y_true", "y_pred"]).filter(pl.col("task") == task)
    return {image_id: (y, predicted) for image_id, y, predicted in rows.drop("task").iter_rows()}
