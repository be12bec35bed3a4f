"""Rank intervals of ten close models, whose true ranks are known."""

from functools import partial

import numpy as np
from scipy.special import ndtr, ndtri

from bb.probe.statistics.bootstrap import resample
from bb.probe.statistics.comparison import ranks
from bb.probe.statistics.predictions import Table
from worlds import Share, World
from worlds.probit import LEVEL

MODELS = 10
RESAMPLES = 1_000


def ranked(tasks: int, images: int, apart: float, repetitions: int) -> list[Share]:
    """Models `apart` in accuracy from each other, around 0.8; half of what is hard is the image."""
    truth = 0.8 + apart * (np.arange(MODELS)[::-1] - (MODELS - 1) / 2)
    margin = ndtri(truth) * np.sqrt(2)
    assert np.allclose(ndtr(margin / np.sqrt(2)), truth)
    together, alone = [], []
    rank = np.arange(1, MODELS + 1)
    n = tasks * images
    ids = np.arange(n).astype(str)
    for seed in range(repetitions):
        rng = np.random.default_rng([tasks, images, seed])
        score = margin[:, None] + rng.normal(size=n) + rng.normal(size=(MODELS, n)) > 0
        table = Table(
            models=tuple(map(str, range(MODELS))),
            model=np.arange(MODELS),
            seeds=(0,) * MODELS,
            tasks=tuple(map(str, range(tasks))),
            starts=np.arange(tasks + 1) * images,
            image_ids=ids,
            units=tuple(ids.tolist()),
            unit=np.arange(n),
            y_true=np.zeros(n, np.int64),
            fields={"score": score.astype(float)},
        )
        found = ranks(resample(table, resamples=RESAMPLES, seed=seed), LEVEL)
        together.append(((found.low <= rank) & (rank <= found.high)).all())
        alone.append((found.alone_low <= rank) & (rank <= found.alone_high))
    by_model = np.mean(alone, axis=0)
    return [
        Share("all ten together", float(np.mean(together)), repetitions, 0.95),
        Share("the best, alone", float(by_model[0]), repetitions, 0.95),
        Share("the worst, alone", float(by_model[-1]), repetitions, 0.95),
    ]


def worlds() -> list[World]:
    return [
        World("ranks, 10 models 0.5 points apart, 10 tasks of 100", partial(ranked, 10, 100, 0.005)),
        World("ranks, 10 models 0.1 points apart, 5 tasks of 40", partial(ranked, 5, 40, 0.001)),
        World("ranks, 10 models 2 points apart, 10 tasks of 100", partial(ranked, 10, 100, 0.02)),
    ]
