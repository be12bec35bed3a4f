"""Several models' scores on the same images as one `Resampled`: intervals of means over tasks and seeds, and ranks.

What an image adds to each model's metric is known (contributions.py); centred in what is not drawn again, it is the
influence from which bootstrap.py's covariances follow. A class of one image shows no variance by itself: all of one
task are centred at their common mean, which is more than their variance within classes, never less.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int, Int64

from bb.probe.statistics.bootstrap import ModelCovariance, Resampled
from bb.probe.statistics.influence import WeightedTasks, of_units
from bb.probe.statistics.multiclass.intervals import FEWEST_FREEDOM, FEWEST_UNITS, not_shown
from bb.store.errors import BBError

RESAMPLES = 10_000


@dataclass(frozen=True, eq=False)
class TaskScore:
    """One model's score on one task.

    image_ids      of the tested images, in order
    contributions  what each adds to the metric
    group          of images that are not independent; None where they are
    stratum        what is not drawn again, such as the true class; None where all images are
    of_answers     whether each is right or wrong, so that the variance follows from the mean
    """

    image_ids: Sequence[str]
    value: float
    contributions: Float64[np.ndarray, " n"]
    group: Int[np.ndarray, " n"] | None = None
    stratum: Int[np.ndarray, " n"] | None = None
    of_answers: bool = False


def together(names: Sequence[str], models: Sequence[Sequence[Sequence[TaskScore]]], *, seed: int = 0) -> Resampled:
    """The mean over tasks of each model's scores, of the mean over its runs, which differ in what was trained on.

    models  of each model its runs, and of each run its tasks: the same tasks and images everywhere
    Errors: BBError where images are others.
    """
    tasks = models[0][0]
    for run in (run for runs in models for run in runs):
        same = len(run) == len(tasks) and all(a.image_ids == b.image_ids for a, b in zip(run, tasks, strict=True))
        if not same:
            raise BBError("the models were not tested on the same images, so nothing can be said of their differences.")
    share = 1 / len(tasks)
    influence, strata, units, weight = [], [], [], []
    for number, task in enumerate(tasks):
        found = np.stack([np.mean([run[number].contributions for run in runs], axis=0) for runs in models], axis=1)
        stratum = _strata(task)
        size = np.bincount(stratum)
        centred = (
            found - (np.stack([np.bincount(stratum, column) for column in found.T], axis=1) / size[:, None])[stratum]
        )
        influence.append(share * centred)
        weight.append(share / (len(size) * size[stratum]))
        strata.append(stratum)
        units.append([f"group {g}" for g in task.group] if task.group is not None else list(task.image_ids))
    values = np.array([[np.mean([run[t].value for run in runs]) for runs in models] for t in range(len(tasks))])
    task_of = np.repeat(np.arange(len(tasks)), [len(each) for each in strata])
    offsets = np.cumsum([0, *(int(each.max()) + 1 for each in strata)])
    stratum = np.concatenate([each + offset for each, offset in zip(strata, offsets, strict=False)])
    unit = np.unique(np.concatenate(units), return_inverse=True)[1].astype(np.int64)
    items = WeightedTasks(
        np.concatenate(influence), np.zeros(len(models)), np.concatenate(weight), task_of, stratum, unit
    )
    found_units = of_units(items)
    alone = all(task.group is None for task in tasks) and len(tasks) == 1
    freedom = np.inf if alone and tasks[0].of_answers else found_units.freedom
    return Resampled(
        models=tuple(names),
        metric="score",
        average="tasks",
        over=("images",),
        estimate=values.mean(axis=0),
        by_task=values,
        weight=np.full(len(tasks), share),
        bias=np.zeros(len(models)),
        spread=ModelCovariance.of(found_units.influence, freedom),
        draws=None,
        units=found_units.size,
        bounded=True,
        reason=_reason(tasks, found_units.freedom),
        resamples=RESAMPLES,
        seed=seed,
    )


def _strata(task: TaskScore) -> Int64[np.ndarray, " n"]:
    """From 0, without gaps; those of one image are one stratum."""
    n = len(task.image_ids)
    if task.stratum is None:
        return np.zeros(n, np.int64)
    stratum = np.unique(task.stratum, return_inverse=True)[1]
    lone = np.bincount(stratum)[stratum] == 1
    return np.unique(np.where(lone, -1, stratum), return_inverse=True)[1].astype(np.int64)


def _reason(tasks: Sequence[TaskScore], freedom: float) -> str:
    grouped = [task for task in tasks if task.group is not None]
    if grouped and len(tasks) > 1:
        return not_shown("means over tasks whose images are in groups")
    if grouped and (count := len(np.unique(grouped[0].group))) < FEWEST_UNITS:  # type: ignore[arg-type]
        return f"{count} groups are too few: an interval needs {FEWEST_UNITS}"
    if grouped and freedom < FEWEST_FREEDOM:
        return "a few of the groups have most of the weight: an interval needs more even ones"
    return ""
