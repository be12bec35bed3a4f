"""Mean ranks of a board of several families, whose true ranks are known."""

from functools import partial

import numpy as np
from scipy.special import ndtri

from bb.probe.statistics.comparison import mean_ranks
from bb.probe.statistics.multiclass.together import TaskScore, together
from worlds import Share, World

DRAWS = 1_000
# Tasks, images of each, and columns: ways of classifying that are tested on the same images.
FAMILIES = ((1, 200, 2), (10, 40, 1), (1, 600, 3))


def scores(rng: np.random.Generator, truth: np.ndarray, tasks: int, images: int) -> np.ndarray:
    """(columns, models, tasks, images) right or not, where `truth` is the accuracy of each column and model. A third of
    what is hard is the image, for all columns and models, and a third what a column makes of it."""
    columns, models = truth.shape
    hard = rng.normal(size=(tasks, images)) + rng.normal(size=(columns, 1, tasks, images))
    margin = ndtri(truth)[..., None, None] * np.sqrt(3)
    return margin + hard + rng.normal(size=(columns, models, tasks, images)) > 0


def ranked(models: int, apart: float, mixed: bool, repetitions: int) -> list[Share]:
    """Backbones `apart` in accuracy from each other, around 0.8; mixed: in another order in each column.

    A backbone's interval holds if its true mean rank is inside.
    """
    columns = sum(count for *_, count in FAMILIES)
    order = np.random.default_rng([models, int(1000 * apart)])
    steps = np.stack([order.permutation(models) if mixed else np.arange(models) for _ in range(columns)])
    truth = 0.8 + apart * ((models - 1) / 2 - steps)
    weight = np.repeat([1 / count for *_, count in FAMILIES], [count for *_, count in FAMILIES]) / len(FAMILIES)
    rank = weight @ (1 + steps)
    names = [str(k) for k in range(models)]
    inside, width = [], []
    for seed in range(repetitions):
        rng, estimate, blocks, first = np.random.default_rng([models, int(1000 * apart), mixed, seed]), [], [], 0
        for number, (tasks, images, count) in enumerate(FAMILIES):
            right = scores(rng, truth[first : first + count], tasks, images)
            estimate.append(right.mean(axis=(2, 3)))
            ids = [[f"{number} {task} {i}" for i in range(images)] for task in range(tasks)]
            items = [
                [[TaskScore(ids[t], one[t].mean(), one[t] / images, of_answers=True) for t in range(tasks)]]
                for column in right
                for one in column
            ]
            varies = together([f"{c} {name}" for c in range(count) for name in names], items, seed=seed)
            blocks.append((list(range(first, first + count)), varies))
            first += count
        found = mean_ranks(np.concatenate(estimate), blocks, weight, draws=DRAWS)
        inside.append((found.low <= rank + 1e-9) & (rank - 1e-9 <= found.high))
        width.append((found.high - found.low).mean())
    of_each = np.mean(inside, axis=0)
    return [
        Share("one backbone, the least of all", float(of_each.min()), repetitions, 0.95),
        Share("all backbones together", float(np.mean(np.all(inside, axis=1))), repetitions),
        Share("width, of what is possible", float(np.mean(width) / (models - 1)), repetitions),
    ]


def worlds() -> list[World]:
    return [
        World("mean ranks, 6 backbones 2 points apart", partial(ranked, 6, 0.02, False)),
        World("mean ranks, 6 backbones 0.5 points apart", partial(ranked, 6, 0.005, False)),
        World("mean ranks, 6 backbones 2 points apart, mixed", partial(ranked, 6, 0.02, True)),
        World("mean ranks, 6 backbones 6 points apart, mixed", partial(ranked, 6, 0.06, True)),
    ]
