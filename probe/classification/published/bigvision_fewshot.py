"""big_vision's few-shot evaluation: ridge regression in closed form on 1, 5, 10 and 25 images of each class."""

from dataclasses import replace

import numpy as np

from bb.probe.classification.published.protocol import NONE, PublishedProtocol
from bb.probe.tasks.fold import Fold, Shots


def draw(fold: Fold, shots: Shots, seed: int) -> Fold:
    """The first images of a permutation of each class, class by class from one generator; smaller draws are nested."""
    assert shots != "all"
    generator = np.random.default_rng(seed)
    drawn = [generator.permutation(rows)[:shots] for rows in fold.rows_of_classes]
    return replace(fold, train=np.concatenate(drawn), val=NONE)


PROTOCOL = PublishedProtocol(
    name="bigvision-fewshot",
    title="ridge regression with l2 = 1024 on 1, 5, 10 and 25 images of each class; the mean of 3 draws",
    source="google-research/big_vision, big_vision/evaluators/fewshot_lsr.py, 1475d53, and "
           "big_vision/configs/common_fewshot.py, 8ca9d84",
    paper="papers of google-research/big_vision",
    tables=("few-shot columns such as ImageNet 10-shot, which the source shows first: accuracy",),
    classifier="ridge-fixed",
    selection="nothing is chosen: l2 = 1024 on standardised features",
    parameters={"l2": 1024.0},
    shots=(1, 5, 10, 25),
    seeds=(0, 1, 2),
    draw=draw,
    faults=("the bias is a feature of constant 100, so it is penalised a little",),
    differs=(
        "the view: resize to 256 pixels, central crop of 224, values from -1 to 1",
        "the source takes features before the logits (pre_logits)",
        "the source solves in float32, bb in float64",
        "draws follow the order of image IDs and of class names, in the source those of its TFDS data set",
    ),
)  # fmt: skip
