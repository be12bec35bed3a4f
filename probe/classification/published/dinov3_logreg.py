"""DINOv3's logistic regression: C is chosen on a tenth of each class, or on a hundredth with few shots."""

from dataclasses import replace

import numpy as np

from bb.probe.classification.published.dinov2_logreg import PATH
from bb.probe.classification.published.protocol import PublishedProtocol, Settings
from bb.probe.classification.published.torch_random import TorchGenerator
from bb.probe.tasks.fold import Fold, Shots
from bb.store.errors import BBError


def draw(fold: Fold, shots: Shots, seed: int) -> Fold:
    """`split_train_val_datasets`, unless the table has a side val; then `_subset_dataset_per_class` for few shots.

    The training images are shuffled by seed 0, and the first tenth of each class, at least one, is held out.
    """
    y = fold.task.y
    train, val = fold.train, fold.val
    if not len(val):
        train = train[TorchGenerator(0).randperm(len(train))]
        share = 0.1 if shots == "all" else 0.01
        held_out = np.zeros(len(train), bool)
        for label in np.unique(y[train]):
            places = np.flatnonzero(y[train] == label)
            held_out[places[: max(1, int(share * len(places)))] if len(places) > 1 else places[:0]] = True
        train, val = train[~held_out], train[held_out]
        if not len(val):
            raise BBError(
                f"task {fold.task.name!r}: no class has two training images, so none is left to choose C on. Add "
                "images, or a side val to the table's split."
            )
    if shots != "all":
        generator, kept = TorchGenerator(seed), np.zeros(len(train), bool)
        for label in np.unique(y[train]):
            places = np.flatnonzero(y[train] == label)
            kept[places[generator.randperm(len(places))[:shots]]] = True
        train = train[kept]
    return replace(fold, train=train, val=val)


def settings(shots: Shots) -> Settings:
    """With few shots the validation images are not fitted."""
    return {"": {} if shots == "all" else {"refit": False}}


PROTOCOL = PublishedProtocol(
    name="dinov3-logreg",
    title="multinomial logistic regression; C by accuracy on a tenth of each class, then all are fitted",
    source="facebookresearch/dinov3, dinov3/eval/log_regression.py, 78dc9b8, and dinov3/eval/data.py, 3039bd3",
    paper="DINOv3 (github.com/facebookresearch/dinov3)",
    tables=("the results of dinov3/eval/log_regression.py (results-log-regression.csv)",),
    classifier="logistic",
    selection="45 C, 10 ** linspace(-6, 5), by accuracy on the table's side val, or on the first tenth (with --shots a "
              "hundredth) of each class after a shuffle of seed 0; of equal ones the smallest; then training and "
              "validation images are fitted together, with --shots the training images alone",
    parameters={"C": PATH},
    any_shots=True,
    draw=draw,
    settings=settings,
    differs=(
        "the view: resize to 224 pixels (bicubic), central crop of 224",
        "the source fits with scikit-learn's lbfgs (1,000 iterations, tol 1e-12), which may stop before the optimum at "
        "small and at very large C; bb's fit is the optimum, and C at which none can be certified are passed over",
        "the shuffle follows the order of image IDs, in the source that of its files",
    ),
)  # fmt: skip
