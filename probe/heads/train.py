"""Training a head: on rows that are in memory, by a seed, until validation gets no better; resumed after a kill.

An epoch is decided by the seed, its number and the state before it, so training that went on from a checkpoint ends in
the same head as training that was never broken off (on one machine, with one number of threads).
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bb.probe.heads.checkpoint import Checkpoint
from bb.probe.heads.examples import Examples
from bb.probe.heads.initialisation import start
from bb.probe.heads.losses import FeatureLoss
from bb.probe.heads.model import Head
from bb.probe.heads.recipe import HeadRecipe
from bb.store.errors import BBError


@dataclass(frozen=True, eq=False)
class Trained:
    """What came of it.

    head     as it was after the epoch of the best validation; epoch 0 is the start
    history  validation after each epoch, the start first
    logs     of the loss, of the last batch
    stopped  whether a person stopped it before it was done
    """

    head: Head
    best: int
    history: tuple[float, ...]
    logs: Mapping[str, float] = field(default_factory=dict)
    stopped: bool = False


Validate = Callable[[Head], float]  # the higher the better
Progress = Callable[[int, Mapping[str, float]], None]


def train(
    examples: Examples,
    recipe: HeadRecipe,
    parent: str,
    validate: Validate,
    *,
    checkpoint: Path | None = None,
    every: float = 2.0,
    stop: threading.Event | None = None,
    progress: Progress = lambda epoch, values: None,
) -> Trained:
    """Trains a head for the features of a space whose key is `parent`.

    checkpoint  a file from which it goes on where that is there, and in which it leaves its state each `every`
                seconds and when it is stopped; the caller names it by all that decides the outcome, and removes it
    progress    gets every epoch that is done, its validation, and of its last batch what the loss logs
    Errors: BBError where features or weights are not finite; those of samplers and losses.
    """
    if not np.isfinite(examples.features).all():
        raise BBError("the features hold a NaN or an infinity: see `bb store verify`.")
    recipe.sampling.build(examples.labels, examples.category, recipe.seed)  # what it refuses is said first
    generator = torch.Generator().manual_seed(recipe.seed)
    head = start(examples, recipe, parent, generator)
    loss = recipe.build_loss(examples.classes, head.feat_dim, generator)
    parameters = [*head.parameters(), *loss.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=recipe.rate, weight_decay=recipe.decay)
    state = Checkpoint(head, loss, optimiser, checkpoint, every)
    if not state.resume():
        state.record(0, validate(head))
    data = torch.from_numpy(np.ascontiguousarray(examples.features)), torch.from_numpy(examples.labels.astype(np.int64))
    while state.epoch < recipe.epochs and state.epoch - state.best_epoch < recipe.patience:
        if stop is not None and stop.is_set():
            state.save()
            return Trained(state.best_head(), state.best_epoch, tuple(state.history), loss.last_logs, stopped=True)
        epoch = state.epoch + 1
        set_stage(head, loss, warming=epoch <= recipe.warmup)
        run_epoch(head, loss, optimiser, recipe, data, examples, epoch)
        state.record(epoch, validate(head))
        progress(epoch, {"validation": state.history[-1], **loss.last_logs})
    return Trained(state.best_head(), state.best_epoch, tuple(state.history), loss.last_logs)


def run_epoch(
    head: Head,
    loss: FeatureLoss,
    optimiser: torch.optim.Optimizer,
    recipe: HeadRecipe,
    data: tuple[Tensor, Tensor],
    examples: Examples,
    epoch: int,
) -> None:
    """One pass. Rows of a batch are gathered at once; a row that is drawn twice stands in it once."""
    x, y = data
    bank, rng = recipe.bank, np.random.default_rng((recipe.seed, epoch, 1))
    for drawn in recipe.sampling.build(examples.labels, examples.category, (recipe.seed, epoch)):
        batch = list(dict.fromkeys(drawn))
        rows = torch.tensor(batch)
        features, labels = head(x[rows]), y[rows]
        if bank is not None:
            beside = torch.from_numpy(bank.draw(batch, len(x), rng))
            features, labels = torch.cat([features, head.extract(x[beside])]), torch.cat([labels, y[beside]])
        value = loss(features, labels, len(batch))
        optimiser.zero_grad()
        if value.requires_grad:
            value.backward()
            optimiser.step()
    if not all(bool(parameter.isfinite().all()) for parameter in head.parameters()):
        raise BBError(
            f"the weights became NaN or infinite in epoch {epoch}: choose a smaller --lr than {recipe.rate:g}."
        )


def set_stage(head: Head, loss: FeatureLoss, *, warming: bool) -> None:
    """While warming up, only what began by chance is trained."""
    head.unfreeze()
    if warming:
        head.freeze()
        if not any(True for _ in loss.parameters()):
            head.stages[-1].unfreeze()
