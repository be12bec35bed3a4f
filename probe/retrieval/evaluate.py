"""From features and labels to scores: how a retrieval is judged, in one frozen record, and what it came to."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int64
from joblib import cpu_count

from bb.probe.retrieval.labels import OVERALL, RetrievalLabels
from bb.probe.retrieval.metrics import (
    AT_K,
    KS,
    MAIN,
    PER_R,
    check_convention,
    check_ks,
    knn_correct,
    per_query,
    summarise,
)
from bb.probe.retrieval.pair_metrics import FMRS, check_fmrs, pair_up
from bb.probe.retrieval.ranking import NO_MATCH, Ranking, count_relevant, hits
from bb.probe.retrieval.search import Vectors, check_distance, search_parts, tiles_of
from bb.probe.retrieval.statistics.units import Units, effects, sample_every
from bb.store.errors import BBError, UsageError

SHARES = (0.5, 0.9)
ROUNDING = 1e-9  # a share of variance that is smaller is rounding: 4 points span 3 directions, not 4
SHOWN = 10  # places of each query that are kept to look at


@dataclass(frozen=True)
class Retrieval:
    """How a retrieval is judged.

    metrics     of `bb.probe.retrieval.metrics`: those with a cut-off, and r_precision and map@r
    ks          their cut-offs
    knn         how many neighbours vote on a label, each gives "knn@k"
    fmrs        false match rates of FNMR@FMR; with pairs
    pairs       whether all pairs are counted, for AUROC and FNMR@FMR: as much work again as the search
    shares      of variance, each gives "pcf@share"
    """

    distance: str = "cosine"
    convention: str = "standard"
    metrics: tuple[str, ...] = (*AT_K, *PER_R)
    ks: tuple[int, ...] = KS
    knn: tuple[int, ...] = (1, 5, 20)
    pairs: bool = True
    fmrs: tuple[float, ...] = FMRS
    shares: tuple[float, ...] = SHARES

    def __post_init__(self) -> None:
        """Errors: UsageError for an unknown distance or convention, and for cut-offs or rates that make no sense; other
        values are checked where they are used."""
        check_distance(self.distance)
        check_convention(self.convention)
        check_ks(self.ks)
        if self.knn:
            check_ks(self.knn)
        check_fmrs(self.fmrs)

    def parameters(self) -> dict[str, Any]:
        """For run.json."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def depth(self, items: RetrievalLabels) -> int:
        """How many neighbours of each query the metrics look at; as many as there are relevant ones, for map@r."""
        deepest = int(count_relevant(items).max()) if set(self.metrics) & set(PER_R) else 0
        return max(*self.ks, *self.knn, deepest, SHOWN)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a retrieval came to.

    top      the first SHOWN items of each query
    values   (q,) each, by metric; NaN where a query has no value
    units    what was sampled, see there
    effects  (units,) each, by metric: what a unit's images in the gallery take from, or leave to, the others' scores
    whole    numbers that belong to no query, by category: AUROC, FNMR@FMR and PCF
    tied     how much counting in bins could matter to AUROC; None without pairs
    """

    items: RetrievalLabels
    top: Ranking
    values: Mapping[str, Float64[np.ndarray, " q"]]
    units: Units
    effects: Mapping[str, Float64[np.ndarray, " units"]]
    whole: Mapping[str, Mapping[str, float]]
    tied: float | None

    @property
    def left_out(self) -> int:
        """Queries for which the gallery has nothing relevant."""
        return int((self.top.relevant == 0).sum())

    @property
    def main(self) -> str:
        """The metric that stands for all: map@r, or else the first."""
        return MAIN if MAIN in self.values else next(iter(self.values))

    def summary(self) -> dict[str, dict[str, float]]:
        """{"overall": {metric: mean}, category: {...}}, means over queries that have a value."""
        found = reduce(self.items, self.top.query, self.values)
        return {name: {**found.get(name, {}), **self.whole.get(name, {})} for name in {**found, **self.whole}}


def reduce(
    items: RetrievalLabels, query: Int64[np.ndarray, " q"], values: Mapping[str, Float64[np.ndarray, " q"]]
) -> dict[str, dict[str, float]]:
    """Means overall and by the queries' category."""
    codes = items.category_codes
    return summarise(values, None if codes is None else codes[query], items.categories)


def score(items: RetrievalLabels, ranking: Ranking, how: Retrieval) -> dict[str, Float64[np.ndarray, " q"]]:
    """Metrics of each query of a ranking by name: of a search, a re-ranker, a threshold."""
    values = per_query(
        hits(items, ranking), ranking.relevant, ks=how.ks, metrics=how.metrics, convention=how.convention,
        retrieved=ranking.retrieved,
    )  # fmt: skip
    if how.knn:
        near = ranking.nearest[:, : max(how.knn)]
        label = np.where(near == NO_MATCH, NO_MATCH, items.label_codes[near])
        truth = items.label_codes[ranking.query]
        values |= {f"knn@{k}": knn_correct(label, truth, k) for k in how.knn}
    return values


Searched = Callable[[Vectors, int, Callable[[int, int], None]], Iterator[Ranking]]


def evaluate(
    features: Float[np.ndarray, "n d"],
    items: RetrievalLabels,
    how: Retrieval = Retrieval(),
    *,
    searched: Searched | None = None,
    jobs: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Search, score and summarise.

    features  (n, d) of the items, in their order
    searched  another search than the exact one: of vectors, depth and progress to rankings of consecutive queries
    progress  gets how many of how many steps are done
    Errors: those of `Vectors.of` and of the metrics; BBError where no query has anything relevant.
    """
    jobs = jobs or cpu_count()
    if not count_relevant(items).any():
        raise BBError(
            f"{items.source}: no query has anything relevant in the gallery, so there is nothing to score: each label "
            "stands on one image, or on images of one sequence or fold only."
        )
    vectors = Vectors.of(features, items, how.distance)
    later = tiles_of(len(items.queries), len(items.gallery), np.array_equal(items.queries, items.gallery))
    beyond = len(later) if how.pairs else 0

    before = 0

    def report_done(done: int, total: int) -> None:
        nonlocal before
        before = total
        progress(done, total + beyond)

    depth, units = how.depth(items), Units.of(items)
    deep = depth + units.largest if units.shared else depth
    every = sample_every(len(items.queries), len(units.names), depth, deep)
    found = (
        searched(vectors, deep, report_done)
        if searched
        else search_parts(vectors, items, deep, jobs=jobs, progress=report_done)
    )
    tops: list[Ranking] = []
    scored: list[dict[str, np.ndarray]] = []
    taken: dict[str, np.ndarray] = {}
    for ranking in found:
        scored.append(score(items, ranking, how))
        tops.append(ranking.top(SHOWN))
        if units.shared:
            part = effects(units, ranking, scored[-1], lambda other: score(items, other, how), depth, every)
            taken = {name: taken.get(name, 0) + change for name, change in part.items()}
    whole = _components(features, items, how.shares)
    tied = None
    if how.pairs:
        pairs = pair_up(vectors, items, jobs=jobs, progress=lambda done, total: progress(before + done, before + total))
        whole[OVERALL] = {**pairs.values(how.fmrs), **whole[OVERALL]}
        tied = pairs.tied() if pairs.complete else None
    values = {name: np.concatenate([part[name] for part in scored]) for name in scored[0]}
    return Evaluation(items, join(tops), values, units, taken, whole, tied)


def join(parts: Sequence[Ranking]) -> Ranking:
    """Rankings of consecutive queries as one."""
    columns = ("query", "nearest", "distance", "relevant")
    return Ranking(*(np.concatenate([getattr(part, name) for part in parts]) for name in columns))


def _components(features: np.ndarray, items: RetrievalLabels, shares: Sequence[float]) -> dict[str, dict[str, float]]:
    whole = {OVERALL: pcf(features, shares)}
    for code, name in enumerate(items.categories):
        whole[name] = pcf(features[items.category_codes == code], shares)
    return whole


def pcf(features: Float[np.ndarray, "n d"], shares: Sequence[float] = SHARES) -> dict[str, float]:
    """The share of d principal components that carry a share of the variance, by name: {"pcf@0.5": ...}.

    It is n/d for the smallest n with λ1 + … + λn >= share (λ1 + … + λd), λ the eigenvalues of the covariance, largest
    first. Empty where there is no variance: one row, or all rows the same. Errors: UsageError unless 0 < share <= 1.
    """
    if wrong := [share for share in shares if not 0 < share <= 1]:
        raise UsageError(f"a share of variance of {wrong[0]:g} makes no sense: choose above 0 and at most 1.")
    x = features.astype(np.float64)
    x -= x.mean(axis=0)
    small = x @ x.T if len(x) < x.shape[1] else x.T @ x  # both have the same eigenvalues, but for zeros
    eigenvalues = np.maximum(np.linalg.eigvalsh(small)[::-1], 0)
    total = eigenvalues.sum()
    if len(features) < 2 or total <= 0:
        return {}
    explained = np.cumsum(eigenvalues) / total
    counts = [int(np.searchsorted(explained, share - ROUNDING)) + 1 for share in shares]
    return {f"pcf@{share:g}": count / features.shape[1] for share, count in zip(shares, counts, strict=True)}
