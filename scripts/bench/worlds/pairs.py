"""Differences between equal models: their intervals, and how often tests at 5% call them different."""

from functools import partial

import numpy as np

from bb.probe.statistics.bootstrap import resample
from bb.probe.statistics.comparison import adjust, differences
from worlds import Share, World
from worlds.probit import LEVEL, Probit

FLIPS = 1_000
FAMILY = 6  # equal models compared with each other
ALPHA = 1 - LEVEL


def compared(world: Probit, low: float, high: float, repetitions: int) -> list[Share]:
    """The coverage of a difference's interval, the false positives of each test, and of families."""
    held, hits, count = [], {"test": [], "McNemar": [], "family, Holm": []}, 0
    for seed, table, truth in world.tables(max(1, repetitions // 3), FAMILY):
        families = np.arange(len(truth)).reshape(-1, FAMILY)
        i, j = np.triu_indices(FAMILY, 1)
        chosen = list(zip(families[:, i].ravel().tolist(), families[:, j].ravel().tolist(), strict=True))
        done = resample(table, world.metric, average=world.average, over=world.over)
        found = differences(table, done, pairs=chosen, permutations=FLIPS, seed=seed)
        true = truth[found.first] - truth[found.second]
        held.append((found.interval.low <= true) & (true <= found.interval.high))
        p = found.p.reshape(len(families), -1)
        hits["test"].append(found.p <= ALPHA)
        if found.mcnemar is not None:
            hits["McNemar"].append(found.mcnemar <= ALPHA)
        hits["family, Holm"].append(np.array([adjust(row, "holm").min() <= ALPHA for row in p]))
        count += len(families)
    # A share of pairs is at least as sure as one of worlds, each of which has several.
    return [Share("coverage of differences", float(np.concatenate(held).mean()), count, low, high)] + [
        Share(f"called different, {name}", float(np.concatenate(found).mean()), count, 0.0, 0.05)
        for name, found in hits.items()
        if found
    ]


def pairs(name: str, world: Probit, low: float = 0.94, high: float = 0.96) -> World:
    return World(f"pairs, {name}", partial(compared, world, low, high))


def worlds() -> list[World]:
    tasks, draws, few = ("tasks", "images"), ("draws", "images"), (0.94, 1.0)
    return [
        # Where few answers differ no interval could leave 0 out, and coverage goes to 100%.
        pairs("8 images, accuracy 0.8", Probit(0.8, 1, 8, 0.0), *few),
        pairs("20 images, accuracy 0.95", Probit(0.95, 1, 20, 0.0), *few),
        pairs("100 images, accuracy 0.98", Probit(0.98, 1, 100, 0.0), *few),
        *(pairs(f"{g} groups", Probit(0.8, 1, 20 * g, 0.0, groups=20), *few) for g in (5, 8, 10)),
        pairs("10 groups, accuracy 0.97", Probit(0.97, 1, 200, 0.0, groups=20), *few),
        pairs("macro_f1, 40 tasks of 20", Probit(0.8, 40, 20, metric="macro_f1")),
        pairs(
            "average_precision, 10 tasks of 100, 10% positives",
            Probit(0.8, 10, 100, metric="average_precision", positives=0.1),
        ),
        pairs("auroc, 10 tasks of 100", Probit(0.8, 10, 100, metric="auroc")),
        pairs("5 draws of 1 task", Probit(0.8, 1, 500, draws=5, draw_sd=0.4, over=draws)),
        pairs("accuracy 0.6", Probit(0.6, 40, 40)),
        pairs("accuracy 0.95", Probit(0.95, 40, 40)),
        pairs("mean over images", Probit(0.8, 40, 40, average="images")),
        pairs("each image in 4 tasks", Probit(0.8, 40, 40, serves=4)),
        pairs("groups of 5 images", Probit(0.8, 40, 40, groups=5)),
        pairs("3 draws, resampled", Probit(0.8, 40, 40, draws=3, draw_sd=0.4, over=draws)),
        pairs("20 tasks, resampled", Probit(0.8, 20, 40, apart=0.2, over=tasks)),
        pairs("40 tasks, resampled", Probit(0.8, 40, 40, apart=0.2, over=tasks)),
        pairs("40 tasks, all models alike", Probit(0.8, 40, 40, over=tasks), *few),
    ]
