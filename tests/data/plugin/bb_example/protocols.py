"""A published protocol: nearest class means of two images, the mean of two draws."""

from dataclasses import replace

import numpy as np

from bb.probe.classification.published.protocol import PublishedProtocol


def draw(fold, shots, seed):
    order = np.random.default_rng(seed).permutation(fold.train)
    rows = [order[fold.task.y[order] == y][:shots] for y in np.unique(fold.train_y)]
    return replace(fold, train=np.concatenate(rows), val=fold.val[:0])


FEW_SHOT = PublishedProtocol(
    name="letters-few-shot",
    title="nearest class mean of two images",
    source="example/letters, few_shot.py",
    paper="Letters",
    tables=("Letters, table 1",),
    classifier="centroid",
    selection="nothing is chosen",
    shots=(2,),
    seeds=(0, 1),
    draw=draw,
    replica=False,
)
