"""DINOv2's logistic regression: C is chosen on a random tenth of the training images."""

from dataclasses import replace

import numpy as np

from bb.probe.classification.published.protocol import PublishedProtocol
from bb.probe.classification.published.torch_random import TorchGenerator
from bb.probe.tasks.fold import Fold, Shots
from bb.store.errors import BBError

# 10 ** torch.linspace(-6, 5, 45) in float32, as NumPy has it: 3 of the 45 differ from torch's in the last bit.
PATH = tuple((np.float32(10) ** np.linspace(-6, 5, 45, dtype=np.float32)).astype(float).tolist())


def draw(fold: Fold, shots: Shots, seed: int) -> Fold:
    """Validation images as the table has them; else the first tenth of torch.randperm after torch.manual_seed(0)."""
    if len(fold.val):
        return fold
    order = fold.train[TorchGenerator(seed).randperm(len(fold.train))]
    held_out = len(order) // 10
    if not held_out:
        raise BBError(
            f"task {fold.task.name!r}: {len(order)} training images have no tenth to choose C on. Add images, or a "
            "side val to the table's split."
        )
    return replace(fold, train=order[held_out:], val=order[:held_out])


PROTOCOL = PublishedProtocol(
    name="dinov2-logreg",
    title="multinomial logistic regression; C by accuracy on a tenth of the training images, then all are fitted",
    source="facebookresearch/dinov2, dinov2/eval/log_regression.py, 05c66df",
    paper="DINOv2 (arXiv 2304.07193)",
    tables=("linear evaluation by logistic regression",),
    classifier="logistic",
    selection="45 C, 10 ** linspace(-6, 5), by accuracy on the table's side val, or on a tenth of the training images "
              "(torch.manual_seed(0), randperm); of equal ones the smallest; then training and validation images are "
              "fitted together",
    parameters={"C": PATH},
    draw=draw,
    differs=(
        "the view: resize to 224 pixels (bicubic), central crop of 224",
        "the source fits with cuML's L-BFGS (1,000 iterations, tol 1e-12), which may stop before the optimum at small "
        "and at very large C; bb's fit is the optimum, and C at which none can be certified are passed over",
        "the tenth follows the order of image IDs, in the source that of its files; on a GPU the source's randperm is "
        "another stream",
    ),
)  # fmt: skip
