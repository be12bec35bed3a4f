"""The training loops: float32 on the CPU, every random number from a seed.

Equal seeds give equal bits on one machine with one number of threads; on others sums are taken in another order.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from bb.store.errors import BBError

FINAL_SHARE = 1e-2  # of the first learning rate, at the end of linear-adamw's cosine
HALVED_AFTER = 20
NEGLIGIBLE = 1e-12  # sum of learning rates: no weight moves further under Adam

Array = Float32[np.ndarray, "..."]


@runtime_checkable
class LinearRecipe(Protocol):
    """As in trained/linear_adamw.py."""

    steps: int
    batch: int
    lr: float
    weight_decay: float
    seed: int


@runtime_checkable
class TwoLayerRecipe(Protocol):
    """As in trained/mlp_multilabel.py."""

    hidden: int
    dropout: float
    lr: float
    halve_every: Any
    epochs: int | None
    steps: int | None
    batch: int
    seed: int


def circumstances() -> dict[str, Any]:
    """What the bits depend on apart from recipe and data."""
    return {"torch": torch.__version__, "threads": torch.get_num_threads(), "dtype": "float32", "device": "cpu"}


def train_linear(
    x: Float32[np.ndarray, "n d"], codes: Int64[np.ndarray, " n"], k: int, recipe: LinearRecipe
) -> tuple[list[Array], float]:
    """LayerNorm's scale and shift (d,), W (k, d) and b (k,), and the loss of the last batch.

    The normalised rows x̂ depend on no parameter, so they are made once; and W (scale x̂ + shift) + b is taken as
    (W scale) x̂ + (W shift + b), whose elementwise part is of the size of W and not of the batch.
    """
    with seeded(recipe.seed):
        layer = nn.Linear(x.shape[1], k)
    scale, shift = nn.Parameter(torch.ones(x.shape[1])), nn.Parameter(torch.zeros(x.shape[1]))
    optimiser = torch.optim.AdamW(
        [
            {"params": [layer.weight], "weight_decay": recipe.weight_decay},
            {"params": [scale, shift, layer.bias], "weight_decay": 0.0},
        ],
        lr=recipe.lr,
    )
    rows, y = F.layer_norm(torch.from_numpy(x), x.shape[1:]), torch.from_numpy(codes)
    loss = torch.tensor(0.0)
    for step, batch in enumerate(batches(len(x), recipe.batch, recipe.seed, recipe.steps), 1):
        outputs = F.linear(rows[batch], layer.weight * scale, layer.weight @ shift + layer.bias)
        loss = F.cross_entropy(outputs, y[batch])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        set_rate(optimiser, cosine(step / recipe.steps, recipe.lr, recipe.lr * FINAL_SHARE))
    return finite([scale, shift, layer.weight, layer.bias], recipe.lr), loss.item()


def train_two_layers(
    x: Float32[np.ndarray, "n d"], y: Float64[np.ndarray, "n t"], recipe: TwoLayerRecipe
) -> tuple[list[Array], float]:
    """Weights and biases of both layers, (h, d), (h,), (t, h), (t,), and the loss of the last batch."""
    epoch = math.ceil(len(x) / recipe.batch)
    steps = recipe.steps if recipe.epochs is None else recipe.epochs * epoch
    assert steps is not None
    with seeded(recipe.seed):
        network = nn.Sequential(
            nn.Linear(x.shape[1], recipe.hidden), nn.Dropout(recipe.dropout), nn.Linear(recipe.hidden, y.shape[1])
        )
        optimiser = torch.optim.Adam(network.parameters(), lr=recipe.lr)
        rows, known = torch.from_numpy(x), torch.from_numpy(~np.isnan(y))
        targets, loss = torch.from_numpy(np.nan_to_num(y).astype(np.float32)), torch.tensor(0.0)
        unit = epoch if recipe.halve_every == "epoch" else 1
        for step, batch in enumerate(batches(len(x), recipe.batch, recipe.seed, steps)):
            rate = recipe.lr * 0.5 ** (step // unit // HALVED_AFTER)
            if 2 * HALVED_AFTER * unit * rate < NEGLIGIBLE:
                break
            set_rate(optimiser, rate)
            loss = F.binary_cross_entropy_with_logits(network(rows[batch])[known[batch]], targets[batch][known[batch]])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
    return finite(list(network.parameters()), recipe.lr), loss.item()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's own random numbers as after `torch.manual_seed(seed)`; afterwards as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def batches(n: int, size: int, seed: int, steps: int) -> Iterator[Tensor]:
    """Rows of that many batches: each epoch a `randperm` of one generator, its last batch what is left."""
    generator = torch.Generator().manual_seed(seed)
    while steps > 0:
        of_epoch = torch.randperm(n, generator=generator).split(size)[:steps]
        yield from of_epoch
        steps -= len(of_epoch)


def cosine(progress: float, first: float, last: float) -> float:
    """A learning rate along half a cosine; progress from 0 to 1."""
    return last + 0.5 * (first - last) * (1 + math.cos(progress * math.pi))


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate


def finite(parameters: Sequence[Tensor], lr: float) -> list[Array]:
    """As arrays. Errors: BBError where training went to infinity."""
    if not all(bool(parameter.isfinite().all()) for parameter in parameters):
        raise BBError(f"the weights became NaN or infinite at a learning rate of {lr:g}: choose a smaller one.")
    return [parameter.detach().numpy().copy() for parameter in parameters]
