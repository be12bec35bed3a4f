"""BioCLIP 2's few-shot evaluation: k images of each class train, all others are tested."""

import random
from dataclasses import replace

import numpy as np

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
    for _, number in [cell for cell in _order() if cell <= (shots, seed)]:
        generator = random.Random(number)
        for rows in first.values():
            generator.shuffle(rows)
    train = [row for rows in first.values() for row in rows[:shots]]
    test = [row for rows in first.values() for row in rows[shots:]]
    if not test:
        raise BBError(
            f"task {task.name!r}: no class has more than {shots} images, so none is left to test. Add images, or give "
            "fewer with --shots."
        )
    return replace(fold, train=np.array(train, np.int64), test=np.sort(np.array(test, np.int64)), val=NONE)


def _order() -> list[tuple[int, int]]:
    return [(shots, number) for shots in SHOTS for number in range(FOLDS)]


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
