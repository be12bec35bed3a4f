"""DINOv2's nearest neighbours: votes of k training images, weighted by their similarity."""

from dataclasses import replace

import numpy as np

from bb.probe.classification.published.protocol import NONE, PublishedProtocol, Settings, whole
from bb.probe.classification.published.torch_random import TorchGenerator
from bb.probe.tasks.fold import Fold, Shots

K = (10, 20, 100, 200)


def settings(shots: Shots) -> Settings:
    """k of 10, 20, 100 and 200; with n images of each class those up to n, and n."""
    ks = K if shots == "all" else sorted({k for k in K if k <= shots} | {shots})
    return {f"k={k}": {"k": k, "max_k": max(ks)} for k in ks}


def draw(fold: Fold, shots: Shots, seed: int) -> Fold:
    """`filter_train`: class by class the first n of randperm, from one generator."""
    if shots == "all":
        return whole(fold, shots, seed)
    generator, drawn = TorchGenerator(seed), []
    for rows in fold.rows_of_classes:
        if len(rows):
            drawn.append(rows[generator.randperm(len(rows))[:shots]])
    return replace(fold, train=np.concatenate(drawn), val=NONE)


PROTOCOL = PublishedProtocol(
    name="dinov2-knn",
    title="weighted votes of the k nearest training images, by cosine",
    source="facebookresearch/dinov2, dinov2/eval/knn.py, 05c66df",
    paper="DINOv2 (arXiv 2304.07193)",
    tables=("ImageNet-1k, kNN column of the README of facebookresearch/dinov2 and of facebookresearch/dinov3",),
    classifier="knn",
    selection="nothing is chosen: k of 10, 20, 100 and 200 are reported; the source says that 20 usually works best",
    parameters={"temperature": 0.07},
    preprocessing="l2",
    any_shots=True,
    draw=draw,
    settings=settings,
    differs=(
        "the view: resize to 256 pixels (bicubic), central crop of 224",
        "with shots the draw follows the order of image IDs, in the source that of its files",
        "float16 or bfloat16 similarities on a GPU; equal ones are ordered arbitrarily there, here the lower row first",
    ),
)
