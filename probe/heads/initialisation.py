"""How a head begins: a first layer in closed form, so that even a head that is hardly trained is worth something.

Of rows x of length 1, S is the covariance about the means of their labels and v = tr(S)/d its mean variance. The
whitened start first takes

    z = ((1 - a) S + a v I)^(-1/2) (x - m)

after which rows of one label vary alike in all directions (within-class covariance normalisation: Hatch, Kajarekar and
Stolcke, Interspeech 2006), and then the principal directions of z, those first that tell most between all rows. a is
what Ledoit and Wolf (Journal of Multivariate Analysis 88, 2004) estimate to bring the shrunk S nearest to the true
one: near 1, which whitens nothing, for few rows of many dimensions. It is at least 0.1, since the inverse of S, which
is what is used, suffers more than S does from directions in which rows happen to agree.
"""

import numpy as np
import torch
from jaxtyping import Float, Integer
from sklearn.covariance import ledoit_wolf_shrinkage
from torch import nn

from bb.probe.heads.examples import Examples
from bb.probe.heads.model import Head, linear_layers
from bb.probe.heads.recipe import HeadRecipe

MOST_DIM = 128  # of a head whose length is not given
LEAST_SHRINKAGE = 0.1


def start(examples: Examples, recipe: HeadRecipe, parent: str, generator: torch.Generator) -> Head:
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
    within_ND = contrasts(x_ND, examples.labels)
    s_DD = within_ND.T @ within_ND / max(1, len(within_ND))
    variance = max(np.trace(s_DD) / len(s_DD), 1e-12)
    a = float(ledoit_wolf_shrinkage(within_ND, assume_centered=True)) if len(within_ND) > 1 else 1.0
    a = max(a, LEAST_SHRINKAGE)
    values, vectors_DD = np.linalg.eigh((1 - a) * s_DD + a * variance * np.eye(len(s_DD)))
    white_DD = vectors_DD / np.sqrt(values.clip(1e-6 * variance)) @ vectors_DD.T
    weight_KD = _principal((x_ND - mean_D) @ white_DD)[:dim] @ white_DD
    return weight_KD.astype(np.float32), (-weight_KD @ mean_D).astype(np.float32)


def contrasts(x_ND: Float[np.ndarray, "n d"], labels: Integer[np.ndarray, " n"]) -> Float[np.ndarray, "m d"]:
    """Each row less the mean of those of its label before it (Helmert's contrasts), scaled to the rows' own variance.

    They have the covariance of rows about the mean of their label and, unlike deviations from it, are independent of
    each other, which is what the shrinkage is estimated for. A label with k rows has k - 1.
    """
    found = []
    for label in np.unique(labels):
        own = x_ND[labels == label]
        before = np.arange(1, len(own))[:, None]
        found.append((own[1:] - own.cumsum(axis=0)[:-1] / before) * np.sqrt(before / (before + 1)))
    return np.concatenate(found)


def _principal(x_ND: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "d d"]:
    """Orthonormal rows, those first along which the rows of x are longest; each with its largest entry positive."""
    _, vectors_DD = np.linalg.eigh(x_ND.T @ x_ND)
    rows_DD = vectors_DD.T[::-1]
    return rows_DD * np.sign(rows_DD[np.arange(len(rows_DD)), np.abs(rows_DD).argmax(axis=1)])[:, None]
