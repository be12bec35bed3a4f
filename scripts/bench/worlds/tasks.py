"""Intervals of scores of tasks."""

from functools import partial

import numpy as np

from bb.probe.statistics.bootstrap import resample
from worlds import Share, World
from worlds.probit import LEVEL, Probit

NEAR = (0.93, 0.98)
# With 20 images at 0.95 the nearest coverages of any interval of the number of right answers are 92.5 and 98.4; with 50
# at 0.99, 91.1 and 98.6; with 100 at 0.98, 94.9 and 98.5.
FEW = (0.93, 0.99)


def covered(world: Probit, low: float, high: float, repetitions: int) -> list[Share]:
    """The share of worlds whose interval holds the truth; or that are refused one."""
    held, refused = [], 0
    for _, table, truth in world.tables(repetitions, 1):
        found = resample(table, world.metric, average=world.average, over=world.over).interval(LEVEL)
        if found.reason:
            refused += len(truth)
        else:
            held.append((found.low <= truth) & (truth <= found.high))
            assert (found.low <= found.estimate).all() and (found.estimate <= found.high).all()
            assert (found.low < found.high).all()
    every = np.concatenate([*held, np.zeros(0, bool)])
    shares = [Share("coverage", float(every.mean()), len(every), low, high)] if len(every) else []
    if refused:
        total = refused + len(every)
        shares.append(Share("refused", refused / total, total, 0.0 if shares else 1.0, 0.1 if shares else 1.0))
    return shares


def held(name: str, world: Probit, low: float = 0.94, high: float = 0.96) -> World:
    return World(name, partial(covered, world, low, high))


def near_one() -> list[World]:
    lone = {"task_sd": 0.0}
    return [
        *(held(f"8 images, accuracy {a}", Probit(a, 1, 8, **lone), *NEAR) for a in (0.8, 0.9, 0.95)),
        held("20 images, accuracy 0.95", Probit(0.95, 1, 20, **lone), *FEW),
        held("50 images, accuracy 0.99", Probit(0.99, 1, 50, **lone), *FEW),
        held("100 images, accuracy 0.98", Probit(0.98, 1, 100, **lone), *FEW),
        held("30 images, accuracy 0.9", Probit(0.9, 1, 30, **lone), *NEAR),
        held("5 tasks of 20, accuracy 0.98", Probit(0.98, 5, 20), *FEW),
        held("40 tasks of 8, accuracy 0.98", Probit(0.98, 40, 8), *NEAR),
        held("4 tasks of the same 50 images, accuracy 0.97", Probit(0.97, 4, 50, serves=4), *FEW),
        held("3 draws, 50 images, accuracy 0.97", Probit(0.97, 1, 50, draws=3, **lone), *FEW),
        held("40 groups of 5, accuracy 0.97", Probit(0.97, 1, 200, groups=5, **lone), *FEW),
    ]


def groups() -> list[World]:
    """Of 20 images each, which have much in common, or something."""
    return [
        *(held(f"{g} groups", Probit(0.8, 1, 20 * g, 0.0, groups=20)) for g in (2, 3, 4, 5, 8, 10)),
        *(held(f"{g} groups, less alike", Probit(0.8, 1, 20 * g, 0.0, groups=20, image_sd=0.4)) for g in (5, 8, 10)),
        held("10 groups, accuracy 0.6", Probit(0.6, 1, 200, 0.0, groups=20)),
        held("10 groups in 2 tasks", Probit(0.8, 2, 100, groups=20)),
        held("10 groups, each in 4 of 40 tasks", Probit(0.8, 40, 40, groups=160)),
        held("10 groups of uneven sizes", Probit(0.8, 1, 200, 0.0, groups=20, uneven=True)),
        held("30 groups of uneven sizes", Probit(0.8, 1, 300, 0.0, groups=10, uneven=True)),
    ]


def bent() -> list[World]:
    """Metrics that are no means, and biased for few images."""
    f1, ap = "macro_f1", "average_precision"
    return [
        held("macro_f1, 10 tasks of 100", Probit(0.8, 10, 100, metric=f1)),
        held("macro_f1, 40 tasks of 20", Probit(0.8, 40, 20, metric=f1)),
        held("macro_f1, 40 tasks of 20, accuracy 0.7", Probit(0.7, 40, 20, metric=f1)),
        held("macro_f1, 40 tasks of 20, ten of each class", Probit(0.8, 40, 20, metric=f1, chosen=True)),
        held("macro_f1, NeWT's shape", Probit(0.8, 164, 100, metric=f1, chosen=True)),
        held("average_precision, 10 tasks of 100, 10% positives", Probit(0.8, 10, 100, metric=ap, positives=0.1)),
        held("the same, ten in each", Probit(0.8, 10, 100, metric=ap, positives=0.1, chosen=True)),
        held("average_precision, 40 tasks of 20", Probit(0.8, 40, 20, metric=ap)),
        held("average_precision, one task of 200, 20 positives",
             Probit(0.8, 1, 200, metric=ap, positives=0.1, chosen=True)),
        held("average_precision, 40 tasks of 20, two positives",
             Probit(0.8, 40, 20, metric=ap, positives=0.1, chosen=True)),
    ]  # fmt: skip


def worlds() -> list[World]:
    tasks, draws = ("tasks", "images"), ("draws", "images")
    return [
        *near_one(),
        *groups(),
        *bent(),
        *(held(f"accuracy {a}", Probit(a, 40, 40)) for a in (0.6, 0.75, 0.9, 0.95)),
        held("mean over images", Probit(0.8, 40, 40, average="images")),
        held("one task of 500", Probit(0.8, 1, 500)),
        held("each image in 4 tasks", Probit(0.8, 40, 40, serves=4)),
        held("groups of 5 images", Probit(0.8, 40, 40, groups=5)),
        held("3 draws, as they are", Probit(0.8, 40, 40, draws=3, draw_sd=0.4)),
        *(held(f"{s} draws, resampled", Probit(0.8, 40, 40, draws=s, draw_sd=0.4, over=draws)) for s in (3, 5)),
        *(held(f"{t} tasks, resampled", Probit(0.8, t, 40, over=tasks)) for t in (20, 40, 160)),
        held("each image in 4 tasks, resampled", Probit(0.8, 40, 40, serves=4, over=tasks)),
        held("tasks and 3 draws", Probit(0.8, 40, 40, draws=3, draw_sd=0.4, over=("tasks", "draws", "images"))),
        held("NeWT's shape", Probit(0.8, 164, 110, average="images")),
        *(held(f"{metric}", Probit(0.8, 10, 100, metric=metric)) for metric in ("balanced_accuracy", "auroc")),
        held("5 tasks, resampled", Probit(0.8, 5, 40, over=tasks)),
        held("10 tasks, resampled", Probit(0.8, 10, 40, over=tasks)),
        held("accuracy 0.98, 40 tasks, resampled", Probit(0.98, 40, 40, over=tasks)),
        held("tasks that are alike, resampled", Probit(0.8, 40, 40, 0.1, over=tasks)),
        *(held(f"{s} draws of 1 task", Probit(0.8, 1, 500, draws=s, draw_sd=0.4, over=draws)) for s in (2, 3, 5)),
    ]
