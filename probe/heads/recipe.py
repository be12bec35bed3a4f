"""How a head is trained, as a person says it: words parsed once into frozen records that know how to build."""

import math
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Integer

from bb.probe.heads.losses import ArcFace, FeatureLoss, TripletLoss
from bb.probe.heads.miners import All, Bank, HardCluster, HardMiner, Miner, NHard
from bb.probe.heads.model import MAX_WIDTH
from bb.probe.heads.samplers import Balanced, BatchSampler, ByCategory, Seed
from bb.probe.tasks.few_shot import check_seed
from bb.store.errors import UsageError

MINERS: dict[str, Callable[..., Miner]] = {"all": All, "hard": HardMiner, "n-hard": NHard, "hard-cluster": HardCluster}
# By name, the default numbers in a batch: (categories x) labels x instances.
SAMPLERS = {"balanced": (16, 8), "category": (2, 8, 8), "distinct-categories": (2, 8, 8)}
N_HARD = (2, 10)
STARTS = ("whitened", "plain")


@dataclass(frozen=True)
class Triplet:
    """miner and its numbers; margin None is the soft margin; bank: rows added to each batch, 0 for none"""

    miner: str = "hard"
    n: tuple[int, ...] = ()
    margin: float | None = 0.2
    bank: int = 0

    def build(self, classes: int, dim: int, generator: torch.Generator) -> TripletLoss:
        return TripletLoss(MINERS[self.miner](*self.n), self.margin)


@dataclass(frozen=True)
class Angular:
    """ArcFace: margin in degrees."""

    margin: float = 28.6
    scale: float = 64.0

    def build(self, classes: int, dim: int, generator: torch.Generator) -> ArcFace:
        return ArcFace(classes, dim, margin=self.margin, scale=self.scale, generator=generator)


@dataclass(frozen=True)
class Sampling:
    """sizes: labels and instances in a batch, before them categories where the sampler knows of those"""

    name: str = "balanced"
    sizes: tuple[int, ...] = SAMPLERS["balanced"]

    def build(
        self, labels: Integer[np.ndarray, " n"], category: Integer[np.ndarray, " n"] | None, seed: Seed
    ) -> BatchSampler:
        """Errors: UsageError where the sampler is by category and there are none, and those of the samplers."""
        if self.name == "balanced":
            labels_in, instances = self.sizes
            return Balanced(labels, labels_in, instances, seed)
        if category is None:
            raise UsageError(f"--sampler {self.name} needs a column category in the labels, or choose balanced.")
        categories, labels_in, instances = self.sizes
        distinct = self.name == "distinct-categories"
        return ByCategory(labels, category, categories, labels_in, instances, seed, distinct)


@dataclass(frozen=True)
class HeadRecipe:
    """All that decides a head apart from the data.

    dim       length of its features; None: as many as it is given, 128 at most
    hidden    width of a hidden layer; None: the head is linear
    start     the first layer before training: "whitened" or "plain", see `bb.probe.heads.train.start`
    epochs    at most; patience: epochs without a better validation after which it ends
    rate      of AdamW, with its weight decay
    warmup    epochs in which only what began by chance is trained: the loss's own parameters, or the last layer
    """

    loss: Triplet | Angular = Triplet()
    sampling: Sampling = Sampling()
    dim: int | None = None
    hidden: int | None = None
    start: str = "whitened"
    epochs: int = 100
    patience: int = 10
    rate: float = 1e-3
    decay: float = 1e-4
    warmup: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Errors: UsageError for numbers that make no sense, and for a warm-up in which nothing would be trained."""
        for name, size in (("--dim", self.dim), ("--hidden", self.hidden)):
            if size is not None and not 1 <= size <= MAX_WIDTH:
                raise UsageError(f"{name} {size} makes no sense: choose 1 to {MAX_WIDTH}.")
        for name, value, least in (
            ("--epochs", self.epochs, 1), ("--patience", self.patience, 1), ("--warmup", self.warmup, 0),
        ):  # fmt: skip
            if value < least:
                raise UsageError(f"{name} {value} makes no sense: choose {least} or more.")
        check_seed(self.seed)
        if self.start not in STARTS:
            raise UsageError(f"--start {self.start} is unknown; there are {', '.join(STARTS)}.")
        if not (0 < self.rate < math.inf and 0 <= self.decay < math.inf):
            raise UsageError(f"--lr {self.rate:g} with --decay {self.decay:g} makes no sense: choose 0.001 and 0.0001.")
        if self.warmup and self.hidden is None and isinstance(self.loss, Triplet):
            raise UsageError(
                "--warmup freezes all but what begins by chance, which a linear head with the triplet loss has "
                "nothing of: choose --hidden or --loss arcface, or leave it out."
            )

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "loss": {"name": "triplet" if isinstance(self.loss, Triplet) else "arcface",
                                         **asdict(self.loss)}}  # fmt: skip

    @property
    def bank(self) -> Bank | None:
        return Bank(self.loss.bank) if isinstance(self.loss, Triplet) and self.loss.bank else None

    def build_loss(self, classes: int, dim: int, generator: torch.Generator) -> FeatureLoss:
        return self.loss.build(classes, dim, generator)


def parse_loss(
    loss: str = "triplet", miner: str | None = None, margin: str | None = None, bank: int = 0
) -> Triplet | Angular:
    """`--loss`, `--miner NAME[:NxM]`, `--margin`, `--bank`. Errors: UsageError for what is unknown, or not together."""
    if loss not in ("triplet", "arcface"):
        raise UsageError(f"unknown loss {loss!r}: choose triplet or arcface.")
    try:
        value = None if margin in (None, "soft") else float(margin)
    except ValueError:
        raise UsageError(f"--margin {margin} is neither a number nor soft.") from None
    if loss == "arcface":
        if miner is not None or bank:
            raise UsageError("--miner and --bank are for --loss triplet: ArcFace learns from every feature by itself.")
        if margin == "soft":
            raise UsageError("--margin soft is for --loss triplet: ArcFace's is an angle in degrees.")
        return Angular() if value is None else Angular(value)
    if bank < 0:
        raise UsageError(f"--bank {bank} makes no sense: choose how many rows, or 0 for none.")
    name, n = _sized("--miner", miner or "hard", MINERS)
    if n and (name != "n-hard" or len(n) != 2):
        raise UsageError(f"--miner {miner}: write n-hard:2x10 for the 2 hardest positives and 10 hardest negatives.")
    found = Triplet(name, n or (N_HARD if name == "n-hard" else ()), 0.2 if margin is None else value, bank)
    found.build(0, 0, torch.Generator())  # which checks the numbers
    return found


def parse_sampling(text: str = "balanced") -> Sampling:
    """`--sampler NAME[:SIZES]`: balanced:16x8, category:2x8x8, distinct-categories:2x8x8. Errors: UsageError."""
    name, sizes = _sized("--sampler", text, SAMPLERS)
    default = SAMPLERS[name]
    if sizes and len(sizes) != len(default):
        example = "x".join(map(str, default))
        raise UsageError(f"--sampler {text}: {name} takes {len(default)} sizes, as in {name}:{example}.")
    return Sampling(name, sizes or default)


def _sized(option: str, text: str, known: dict[str, Any]) -> tuple[str, tuple[int, ...]]:
    """The name and the numbers of "NAME:4x2"."""
    name, colon, numbers = text.partition(":")
    if name not in known:
        raise UsageError(f"{option} {text} is unknown; there are {', '.join(known)}.")
    if colon and not re.fullmatch(r"\d{1,6}(x\d{1,6})*", numbers):
        raise UsageError(
            f"{option} {text}: after the colon, write numbers with x between them, for example {name}:4x2."
        )
    return name, tuple(map(int, numbers.split("x"))) if colon else ()
