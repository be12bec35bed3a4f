"""How a head begins: a first layer in closed form, so that even a head that is hardly trained is worth something.

Of rows x of length 1, S is the covariance about the means of their labels and v = tr(S)/d its mean variance. The
whitened start first takes

    z = ((1 - a) S + a v I)^(-1/2) (x - m),    a = 0.1

after which rows of one label vary alike in all directions (within-class covariance normalisation: Hatch, Kajarekar and
Stolcke, Interspeech 2006; shrunk by a as in Friedman, JASA 84, 1989), and then the principal directions of z, those
first that tell most between all rows.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from probe.heads.examples import Examples
from probe.heads.head import Head, linear_layers
from probe.heads.recipe import Recipe

MOST_DIM = 128  # of a head whose length nobody said
SHRINKAGE = 0.1


def start(examples: Examples, recipe: Recipe, parent: str, generator: torch.Generator) -> Head:
    """A head before training. Its first layer is a closed solution, later ones are drawn from `generator`.

    "plain": W x, W the principal directions of rows x of length 1, so that where all are kept it is the parent's space
    turned. "whitened": W (x - m), m the mean, after evening out in all directions how much x varies within a label, as
    derived above. Directions beyond d are drawn.
    """
    d = examples.features.shape[1]
    dim = recipe.dim or min(d, MOST_DIM)
    head = Head(linear_layers(d, dim, recipe.hidden), parent)
    first, *later = head.stages
    with torch.no_grad():
        for stage in later:
            nn.init.kaiming_uniform_(stage.weight, nonlinearity="relu", generator=generator)
            stage.bias.zero_()
        weight, bias = directions(examples, first.out_features, recipe.start)
        if len(weight) < first.out_features:  # more than there are directions: the rest is drawn
            more = torch.randn(first.out_features - len(weight), d, generator=generator).numpy() / np.sqrt(d)
            weight, bias = np.concatenate([weight, more * np.abs(weight).mean()]), np.pad(bias, (0, len(more)))
        first.weight.copy_(torch.from_numpy(weight))
        first.bias.copy_(torch.from_numpy(bias))
    return head


def directions(examples: Examples, dim: int, how: str) -> tuple[Float[np.ndarray, "k d"], Float[np.ndarray, " k"]]:
    """W and the bias, of min(dim, d) rows: the first of the directions below."""
    x_ND = examples.features.astype(np.float64)
    x_ND /= np.linalg.norm(x_ND, axis=1, keepdims=True).clip(1e-12)
    if how == "plain":
        weight_KD = _principal(x_ND)[:dim]
        return weight_KD.astype(np.float32), np.zeros(len(weight_KD), np.float32)
    mean_D = x_ND.mean(axis=0)
    means_LD = np.zeros((examples.classes, x_ND.shape[1]))
    np.add.at(means_LD, examples.labels, x_ND)
    means_LD /= np.bincount(examples.labels, minlength=examples.classes).clip(1)[:, None]
    within_ND = x_ND - means_LD[examples.labels]
    s_DD = within_ND.T @ within_ND / len(x_ND)
    variance = max(np.trace(s_DD) / len(s_DD), 1e-12)
    values, vectors_DD = np.linalg.eigh((1 - SHRINKAGE) * s_DD + SHRINKAGE * variance * np.eye(len(s_DD)))
    white_DD = vectors_DD / np.sqrt(values.clip(1e-6 * variance)) @ vectors_DD.T
    weight_KD = _principal((x_ND - mean_D) @ white_DD)[:dim] @ white_DD
    return weight_KD.astype(np.float32), (-weight_KD @ mean_D).astype(np.float32)


def _principal(x_ND: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "d d"]:
    """Orthonormal rows, those first along which the rows of x are longest; each with its largest entry positive."""
    _, vectors_DD = np.linalg.eigh(x_ND.T @ x_ND)
    rows_DD = vectors_DD.T[::-1]
    return rows_DD * np.sign(rows_DD[np.arange(len(rows_DD)), np.abs(rows_DD).argmax(axis=1)])[:, None]
