"""BioCLIP 2's few-shot evaluation: k images of each class train, all others are tested."""

import random
from dataclasses import replace
from functools import lru_cache

import numpy as np
from jaxtyping import Int64

from bb.probe.classification.published.protocol import NONE, PublishedProtocol
from bb.probe.tasks.fold import Fold, Shots
from bb.store.errors import BBError
from bb.store.text.lookalike import shown

SHOTS, FOLDS = (1, 5), 5


def draw(fold: Fold, shots: Shots, seed: int) -> Fold:
    """`split` of the source: each class's list is shuffled in place, so that every draw starts from the one before.

    Classes are in the order in which they first occur. The draws before this one are those of the lower folds, and for
    5 images a class those of all folds of 1. Errors: BBError naming a class with too few images.
    """
    assert shots != "all"
    task = fold.task
    first: dict[int, list[int]] = {}
    for row in fold.train.tolist():
        first.setdefault(int(task.y[row]), []).append(row)
    few = [y for y, rows in first.items() if len(rows) < shots]
    if few:
        raise BBError(
            f"task {task.name!r}: class {shown(task.classes[few[0]])} has {len(first[few[0]])} images, and the "
            f"protocol trains on {shots} of each class. Leave out such classes, or give fewer with --shots."
        )
    sizes = tuple(map(len, first.values()))
    order = np.array([row for rows in first.values() for row in rows], np.int64)
    for number in [fold for k in SHOTS for fold in range(FOLDS) if (k, fold) <= (shots, seed)]:
        order = order[_shuffled(sizes, number)]
    place = np.concatenate([np.arange(size) for size in sizes])
    train, test = order[place < shots], order[place >= shots]
    if not len(test):
        raise BBError(
            f"task {task.name!r}: no class has more than {shots} images, so none is left to test. Add images, or give "
            "fewer with --shots."
        )
    return replace(fold, train=train, test=np.sort(test), val=NONE)


@lru_cache(maxsize=FOLDS)
def _shuffled(sizes: tuple[int, ...], number: int) -> Int64[np.ndarray, " n"]:
    """Where the entries of lists of these sizes, one after another, come from once each is shuffled."""
    generator, places, start = random.Random(number), list[int](), 0
    for size in sizes:
        block = list(range(start, start + size))
        generator.shuffle(block)
        places += block
        start += size
    return np.array(places, np.int64)


PROTOCOL = PublishedProtocol(
    name="bioclip2-fewshot",
    title="SimpleShot (CL2N) on 1 and 5 images a class, tested on all others; the mean of 5 draws",
    source="Imageomics/bioclip-2, src/evaluation/few_shot.py, 4f5bfdf",
    paper="BioCLIP 2 (github.com/Imageomics/bioclip-2)",
    tables=("one-shot and five-shot accuracy of species classification",),
    classifier="simpleshot",
    selection="nothing is chosen",
    parameters={"variant": "CL2N"},
    preprocessing="l2",
    shots=SHOTS,
    seeds=tuple(range(FOLDS)),
    draw=draw,
    pool="all",
    faults=(
        "the same lists are shuffled again for each draw, so a draw depends on those before it",
        "the standard deviation is over draws of the same images (ddof 0), not over further images",
    ),
    differs=(
        "draws follow the order of image IDs, in the source that of its metadata.csv",
        "the source's features come from automatic mixed precision",
    ),
)  # fmt: skip
