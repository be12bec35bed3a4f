"""Learning a pairwise model: a closed start, then hard pairs; what to take of it is decided on labels held out.

The start W of `bb.probe.heads.pairwise.model`, with the covariance S of the rows (of length 1) about the means of
their labels,
and its mean variance v = tr(S)/d:

    W = ((1 - a) S + a v I)^(-1/2)

so directions in which images of one label differ count little, and those that tell labels apart count (within-class
covariance normalisation: Hatch, Kajarekar and Stolcke, Interspeech 2006; a shrinks S as Friedman, JASA 84, 1989). Then
U, s and b go down the cross-entropy of pairs as a re-ranker meets them: images with their nearest ones, and with others
of their label; in each step, pairs of one label weigh as much together as those of two.

How much is shrunk and how many epochs U is trained for is decided in folds of labels held out; and so is whether a
learned model is taken at all: only where it is better than the trivial one beyond chance, with labels as what was
sampled. Then all of it is done once more on all labels.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from jaxtyping import Float, Float64, Int
from torch.nn import functional

from bb.probe.heads.pairwise.model import LearnedDistance
from bb.probe.retrieval.labels import RetrievalLabels, parse_items
from bb.probe.retrieval.metrics import per_query
from bb.probe.retrieval.pairwise_model import Distance
from bb.probe.retrieval.ranking import Ranking, hits
from bb.probe.retrieval.rerank import Rerank
from bb.probe.retrieval.search import search
from bb.probe.retrieval.statistics.clustered import LEVEL, MIN_UNITS, Clustered
from bb.probe.retrieval.statistics.units import Units, effects, sample_every
from bb.probe.tasks.few_shot import check_seed
from bb.store.errors import BBError

SHRINKAGE = (0.01, 0.1, 0.3, 1.0)  # 1 whitens nothing
FOLDS = 5
EPOCHS, PATIENCE = 30, 3  # at most; and further ones without a better score
RATE = 1e-4
QUERIES, NEAR, SAME = 32, 16, 8  # a step: that many images, each with that many of its nearest and of its label


@dataclass(frozen=True, eq=False)
class PairwiseExamples:
    """What is learned from, row by row.

    features  (n, d) rows of length 1, float32
    labels    (n,) codes
    sequence  (n,) codes, -1 of none; images of one are not a pair. None where there are no sequences
    """

    features: Float[np.ndarray, "n d"]
    labels: Int[np.ndarray, " n"]
    sequence: Int[np.ndarray, " n"] | None

    def only(self, rows: np.ndarray) -> "PairwiseExamples":
        return PairwiseExamples(
            self.features[rows], self.labels[rows], None if self.sequence is None else self.sequence[rows]
        )


@dataclass(frozen=True, eq=False)
class Learned:
    """What came of it.

    model    the trivial distance where no learned one was shown to be better on labels held out
    scores   MAP@R on these labels by candidate: "trivial", "whitened 0.1", "whitened 0.1, 3 epochs"
    chosen   the name of the candidate that the model is
    refused  why no learned one was taken, else empty
    """

    model: LearnedDistance | Distance
    scores: Mapping[str, float]
    chosen: str
    refused: str = ""


def learn(
    features: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    sequence: Int[np.ndarray, " n"] | None = None,
    *,
    trivial: Distance,
    top_n: int = 100,
    epochs: int = EPOCHS,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Learned:
    """Learns to tell pairs of one label from others, on labels that need not be those it will be used on.

    trivial   the distance that it must beat, and that finds the nearest images
    top_n     how many of them it will be given
    progress  gets how many steps of how many are done: a fold's start or epoch each
    Errors: BBError where fewer than four labels have two images, or these have but one sequence; where features are
    not finite. UsageError for a bad seed.
    """
    check_seed(seed)
    wide = features.astype(np.float32)
    if not np.isfinite(wide).all():
        raise BBError("the features hold a NaN or an infinity: see `bb store verify`.")
    examples = PairwiseExamples(wide / np.linalg.norm(wide, axis=1, keepdims=True).clip(1e-12), labels, sequence)
    codes, counts = np.unique(labels, return_counts=True)
    several = codes[counts > 1]
    if len(several) < 4:
        raise BBError(
            f"a pairwise model is learned from at least 4 labels with two images each; {len(several)} of "
            f"{len(codes)} here have them. Take another split, or a model that is learned: --load FILE."
        )
    folds = min(FOLDS, len(several) // 2)
    fold_of = dict(
        zip(np.random.default_rng(seed).permutation(several).tolist(), np.arange(len(several)) % folds, strict=True)
    )
    fold = np.array([fold_of.get(label, -1) for label in labels.tolist()])
    parts = [(examples.only((fold != f) & (fold >= 0)), examples.only(fold == f)) for f in range(folds)]
    looks = [_Look.at(held, trivial, top_n) for _, held in parts]
    total, done = folds * (len(SHRINKAGE) + epochs), 0

    def held_out(models: Iterable[LearnedDistance | Distance]) -> Scores:
        nonlocal done
        found = []
        for model, look in zip(models, looks, strict=True):
            found.append(look.score(model))
            done += isinstance(model, LearnedDistance)
            progress(done, total)
        return np.concatenate(found, axis=1)

    scores = {TRIVIAL: held_out([trivial] * folds)}
    if not scores[TRIVIAL].size:
        raise BBError("all images of each label are of one sequence, so no pairs are left to learn from.")
    for shrinkage in SHRINKAGE:
        scores[PairwiseCandidate(shrinkage)] = held_out(start(fit, shrinkage) for fit, _ in parts)
    best = _best({each: found for each, found in scores.items() if each != TRIVIAL})
    runs = [trained(start(fit, best.shrinkage), fit, trivial, top_n, seed) for fit, _ in parts]
    for epoch in range(1, epochs + 1):
        scores[PairwiseCandidate(best.shrinkage, epoch)] = held_out(next(run) for run in runs)
        if _best(scores).epochs <= epoch - PATIENCE:
            break
    progress(total, total)
    chosen = _best({each: found for each, found in scores.items() if each != TRIVIAL})
    mean_of = {str(each): float(found[0].mean()) for each, found in scores.items()}
    label = np.concatenate([look.label for look in looks])
    if refused := _refused(label, scores[TRIVIAL], scores[chosen], len(scores) - 1):
        return Learned(trivial, mean_of, str(TRIVIAL), refused)
    whole = examples.only(fold >= 0)
    model = start(whole, chosen.shrinkage)
    for _ in zip(range(chosen.epochs), trained(model, whole, trivial, top_n, seed), strict=False):
        pass
    return Learned(model, mean_of, str(chosen))


@dataclass(frozen=True)
class PairwiseCandidate:
    """The trivial distance (nothing shrunk, as nothing is whitened), or the start after that many epochs."""

    shrinkage: float
    epochs: int = 0

    def __str__(self) -> str:
        if math.isnan(self.shrinkage):
            return "trivial"
        return f"whitened {self.shrinkage}" + (f", {self.epochs} epochs" if self.epochs else "")


TRIVIAL = PairwiseCandidate(math.nan)
Scores = Float64[np.ndarray, "2 queries"]  # MAP@R, and what a query's label takes from the others: see `Clustered`


def _best(scores: Mapping[PairwiseCandidate, Scores]) -> PairwiseCandidate:
    """The highest mean; of equal ones the first."""
    return max(scores, key=lambda each: scores[each][0].mean())


def _refused(label: Int[np.ndarray, " queries"], trivial: Scores, best: Scores, candidates: int) -> str:
    """Why the best of some candidates is not taken; empty where it is better than the trivial one beyond chance.

    Labels are what was sampled; the interval is widened for the number of candidates by Bonferroni.
    """
    found = Clustered.of(label, np.stack([trivial[0], best[0]]), np.stack([trivial[1], best[1]]))
    if not found.enough:
        return f"{found.units} labels with two images are too few to hold out (at least {MIN_UNITS})"
    bounds = found.difference(1, 0, 1 - (1 - LEVEL) / candidates)
    if bounds.low > 0:
        return ""
    apart = found.mean[1] - found.mean[0]
    return (
        f"on {found.units} labels held out, the best of {candidates} candidates changes MAP@R by {apart:+.3f} "
        f"[{bounds.low:+.3f}, {bounds.high:+.3f}], widened for their number, which is not beyond chance"
    )


def start(examples: PairwiseExamples, shrinkage: float) -> LearnedDistance:
    """The closed start."""
    x_ND = examples.features.astype(float)
    codes, place = np.unique(examples.labels, return_inverse=True)
    means_LD = np.zeros((len(codes), x_ND.shape[1]))
    np.add.at(means_LD, place, x_ND)
    means_LD /= np.bincount(place)[:, None]
    within_ND = x_ND - means_LD[place]
    s_DD = within_ND.T @ within_ND / len(x_ND)
    mean_variance = max(np.trace(s_DD) / len(s_DD), 1e-12)
    values, vectors_DD = np.linalg.eigh((1 - shrinkage) * s_DD + shrinkage * mean_variance * np.eye(len(s_DD)))
    values = values.clip(1e-6 * mean_variance)  # rounding leaves some below 0
    return LearnedDistance(x_ND.mean(axis=0), vectors_DD / np.sqrt(values) @ vectors_DD.T)


def trained(
    model: LearnedDistance, examples: PairwiseExamples, trivial: Distance, top_n: int, seed: int
) -> Iterator[LearnedDistance]:
    """The same model after one epoch more at each step."""
    rng = np.random.default_rng(seed)
    x_ND = torch.from_numpy(examples.features)
    near = _Look.at(examples, trivial, top_n).ranking.nearest
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE)
    while True:
        order = rng.permutation(len(x_ND))
        for begin in range(0, len(order), QUERIES):
            first, second = _pairs(examples, near, order[begin : begin + QUERIES], rng)
            differ = examples.labels[first] != examples.labels[second]
            if differ.all() or not differ.any():
                continue
            weight = np.where(differ, 0.5 / differ.mean(), 0.5 / (1 - differ.mean()))
            rows, place = np.unique(np.concatenate([first, second]), return_inverse=True)
            z_ND = model.embed(x_ND[rows])  # an image is in many pairs, and embedded once
            odds = model.odds(z_ND[place[: len(first)]], z_ND[place[len(first) :]])
            loss = functional.binary_cross_entropy_with_logits(
                odds, torch.from_numpy(differ.astype(np.float32)), torch.from_numpy(weight.astype(np.float32))
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        yield model


def _pairs(
    examples: PairwiseExamples, near: np.ndarray, queries: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Each query with some of its nearest and some of its label; neither with itself nor with its sequence."""
    by_label = np.argsort(examples.labels, kind="stable")
    sorted_labels = examples.labels[by_label]
    low, high = (np.searchsorted(sorted_labels, examples.labels[queries], side) for side in ("left", "right"))
    same = by_label[rng.integers(low[:, None], high[:, None], (len(queries), SAME))]
    hard = np.take_along_axis(near[queries], rng.integers(0, near.shape[1], (len(queries), NEAR)), axis=1)
    second = np.concatenate([same, hard], axis=1).ravel()
    first = np.repeat(queries, SAME + NEAR)
    keep = (second >= 0) & (first != second)
    if examples.sequence is not None:
        keep &= (examples.sequence[first] != examples.sequence[second]) | (examples.sequence[first] < 0)
    return first[keep], second[keep]


@dataclass(frozen=True, eq=False)
class _Look:
    """Leave-one-out retrieval among some rows: how good a re-ranker is there."""

    examples: PairwiseExamples
    items: RetrievalLabels
    ranking: Ranking

    @classmethod
    def at(cls, examples: PairwiseExamples, trivial: Distance, top_n: int) -> "_Look":
        items = _items(examples)
        n = max(2, min(top_n, len(items) - 1))
        return cls(examples, items, search(examples.features, items, n, distance=trivial.metric))

    @property
    def label(self) -> Int[np.ndarray, " queries"]:
        """Of each query with anything relevant."""
        return self.examples.labels[self.ranking.query][self.ranking.relevant > 0]

    def score(self, model: LearnedDistance | Distance) -> Scores:
        """Of each query with anything relevant, of a list that may be shorter than R."""
        found, items = Rerank(model, self.examples.features, self.ranking.nearest.shape[1])(self.ranking), self.items
        units, depth = Units.of(items), int(found.relevant.max())
        every = sample_every(len(items), len(units.names), depth, found.nearest.shape[1])

        def scored(ranking: Ranking) -> dict[str, np.ndarray]:
            return per_query(hits(items, ranking), ranking.relevant, metrics=("map@r",))

        values = scored(found)
        effect = effects(units, found, values, scored, depth, every)["map@r"]
        there = found.relevant > 0
        unit = units.code[found.query][there]
        return np.stack([values["map@r"][there], (effect / np.bincount(unit, minlength=len(effect)).clip(1))[unit]])


def _items(examples: PairwiseExamples) -> RetrievalLabels:
    """The same rows in the same order, as items of their own."""
    rows = range(len(examples.labels))
    table = pl.DataFrame({"image_id": [f"{row:09d}" for row in rows], "label": examples.labels})
    if examples.sequence is not None:
        none = pl.lit(None, pl.Int64)
        sequence = pl.Series("sequence", examples.sequence)
        table = table.with_columns(pl.when(sequence >= 0).then(sequence).otherwise(none).alias("sequence"))
    return parse_items(table)
