"""MIEB's linear probe: scikit-learn's logistic regression on 16 images of each class."""

from dataclasses import replace

import numpy as np

from bb.probe.classification.published.protocol import NONE, PublishedProtocol
from bb.probe.tasks.fold import Fold, Shots

SEED, SHOTS = 42, 16


def draw(fold: Fold, shots: Shots, seed: int) -> Fold:
    """`_undersample_data`, experiment number `seed`: indices are shuffled again from where they are, always by seed 42.

    The first images of each class are taken, in the order of the shuffled indices.
    """
    assert shots != "all"
    order = list(range(len(fold.train)))
    for _ in range(seed + 1):
        np.random.RandomState(SEED).shuffle(order)
    rows, taken = fold.train[order], dict[int, int]()
    drawn = []
    for row, y in zip(rows.tolist(), fold.task.y[rows].tolist(), strict=True):
        if taken.get(y, 0) < shots:
            taken[y] = taken.get(y, 0) + 1
            drawn.append(row)
    return replace(fold, train=np.array(drawn, np.int64), val=NONE)


PROTOCOL = PublishedProtocol(
    name="mieb-linear",
    title="logistic regression of at most 100 steps on 16 images of each class; the mean of 5 draws",
    source="embeddings-benchmark/mteb, mteb/abstasks/classification.py, 012fa96, and "
           "mteb/abstasks/Image/AbsTaskImageClassification.py, 030153d",
    paper="MIEB (github.com/embeddings-benchmark/mteb)",
    tables=("MIEB's board, column of linear probes: accuracy",),
    classifier="logistic-lbfgs",
    selection="nothing is chosen: C = 1",
    parameters={"max_iter": 100},
    shots=(SHOTS,),
    seeds=(0, 1, 2, 3, 4),
    draw=draw,
    faults=(
        "all experiments have seed 42: each shuffles the indices that the one before left, so they are not independent "
        "draws",
        "100 steps of lbfgs are often too few, so scores depend on how features are scaled and on scikit-learn's "
        "version; bb calls scikit-learn with the same parameters",
    ),
    differs=(
        "draws follow the order of image IDs, in the source that of its Hugging Face data set",
        "features are fitted in float32",
    ),
)  # fmt: skip
