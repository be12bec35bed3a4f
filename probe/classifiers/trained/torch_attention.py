"""Training of attentive probes: several at once, which share each batch that is read. float32 on the CPU."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from bb.probe.classifiers.trained.torch_loops import batches, circumstances, cosine, finite, seeded, set_rate

__all__ = ["circumstances", "train_attentive"]

EPSILON = 1e-6  # of AIM's BatchNorm
WITHOUT_CHOICE = (1e-3, 0.0)


@runtime_checkable
class ProbeRecipe(Protocol):
    """As in trained/attentive.py."""

    epochs: int
    batch: int
    lr: tuple[float, ...]
    weight_decay: tuple[float, ...]
    held_out: float
    seed: int


@dataclass(frozen=True, eq=False)
class FittedProbe:
    """A fitted probe, in float64: queries (heads, d) as scores take them, values (heads, d / heads, d), mean (d,) and
    scale (d,) of tokens, coef (k, d)."""

    arrays: list[np.ndarray]
    lr: float
    weight_decay: float
    held_out_accuracy: float | None


class Probe(nn.Module):
    """AIM's head; first weights are made in the order in which its own are."""

    def __init__(self, d: int, k: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.key, self.value = nn.Linear(d, d, bias=False), nn.Linear(d, d, bias=False)
        self.query = nn.Parameter(torch.randn(d) * 0.02)
        self.linear = nn.Linear(d, k, bias=False)

    def queries(self) -> Float[Tensor, "h d"]:
        """What tokens are multiplied with to get their scores."""
        query, width = self.query.view(self.heads, 1, -1), self.query.numel() // self.heads
        return (query @ self.key.weight.view(self.heads, width, -1)).squeeze(1) / math.sqrt(width)

    def forward(self, x: Float[Tensor, "b p d"]) -> Float[Tensor, "b k"]:
        """Of tokens after BatchNorm, which is the same for all probes of a batch."""
        pooled = (x @ self.queries().T).softmax(dim=1).transpose(1, 2) @ x
        values = self.value.weight.view(self.heads, -1, x.shape[2])
        return self.linear(torch.einsum("bhd,hcd->bhc", pooled, values).flatten(1))


def train_attentive(X: Any, codes: Int64[np.ndarray, " n"], k: int, heads: int, recipe: ProbeRecipe) -> FittedProbe:
    """Chooses a learning rate and a decay on rows held out, and fits all rows.

    X  (n, p, d): an array, or stored rows that are read batch by batch
    Errors: BBError where the weights become infinite.
    """
    order = torch.randperm(len(X), generator=torch.Generator().manual_seed(recipe.seed)).numpy()
    tested, rest = np.sort(order[: int(len(X) * recipe.held_out)]), np.sort(order[int(len(X) * recipe.held_out) :])
    pairs, accuracy = list(product(recipe.lr, recipe.weight_decay)), None
    if len(pairs) > 1 and (not len(tested) or len(np.unique(codes[rest])) < 2):
        pairs = [WITHOUT_CHOICE]
    if len(pairs) > 1:
        probes, mean, scale = _train(X, rest, codes, k, heads, recipe, pairs)
        right = np.zeros(len(pairs), np.int64)
        for rows in np.array_split(tested, -(-len(tested) // recipe.batch)):
            x, y = (_read(X, rows) - mean) * scale, torch.from_numpy(codes[rows])
            with torch.no_grad():
                right += [int((probe(x).argmax(dim=1) == y).sum()) for probe in probes]
        best = int(right.argmax())
        pairs, accuracy = [pairs[best]], float(right[best] / len(tested))
    (probe,), mean, scale = _train(X, np.arange(len(X)), codes, k, heads, recipe, pairs)
    values = probe.value.weight.view(heads, -1, X.shape[2])
    with torch.no_grad():
        learned = [probe.queries(), values, mean, scale, probe.linear.weight]
    arrays = [each.astype(np.float64) for each in finite(learned, pairs[0][0])]
    return FittedProbe(arrays, *pairs[0], accuracy)


def _train(
    X: Any,
    rows: Int64[np.ndarray, " n"],
    codes: Int64[np.ndarray, " all"],
    k: int,
    heads: int,
    recipe: ProbeRecipe,
    pairs: Sequence[tuple[float, float]],
) -> tuple[list[Probe], Tensor, Tensor]:
    """A probe for each learning rate and decay, all from the same first weights; mean and scale of all tokens."""
    d, each = X.shape[2], math.ceil(len(rows) / recipe.batch)
    probes, optimisers = [], []
    for lr, decay in pairs:
        with seeded(recipe.seed):
            probe = Probe(d, k, heads)
        probes.append(probe)
        optimisers.append(torch.optim.AdamW(probe.parameters(), lr=lr, weight_decay=decay))
    total, squares, steps = np.zeros(d), np.zeros(d), recipe.epochs * each
    for step, chosen in enumerate(batches(len(rows), recipe.batch, recipe.seed, steps)):
        batch = rows[chosen.numpy()]
        x, y = _read(X, batch), torch.from_numpy(codes[batch])
        mean, variance = x.mean(dim=(0, 1)), x.var(dim=(0, 1), correction=0)
        if step < each:
            total += mean.double().numpy() * len(batch)
            squares += (variance.double() + mean.double() ** 2).numpy() * len(batch)
        x = (x - mean) * (variance + EPSILON).rsqrt()
        for probe, optimiser, (lr, _) in zip(probes, optimisers, pairs, strict=True):
            set_rate(optimiser, cosine(step / steps, lr, 0.0))
            optimiser.zero_grad(set_to_none=True)
            F.cross_entropy(probe(x), y).backward()
            optimiser.step()
    mean_of_all = total / len(rows)
    spread = np.sqrt(np.maximum(squares / len(rows) - mean_of_all**2, 0) + EPSILON)
    return probes, torch.from_numpy(mean_of_all).float(), torch.from_numpy(1 / spread).float()


def _read(X: Any, rows: Int64[np.ndarray, " b"]) -> Float[Tensor, "b p d"]:
    """Rows in the order given, float32. Sorted, neighbours on the disk are read together."""
    order = np.argsort(rows, kind="stable")
    x = np.empty((len(rows), *X.shape[1:]), np.float32)
    x[order] = X[rows[order]]
    return torch.from_numpy(x)
