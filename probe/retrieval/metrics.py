"""How well each query was answered: CMC, precision, recall, MAP, R-precision, MAP@R, MRR and NDCG, per query.

Every metric is a number per query, computed for all queries at once from two arrays:

hits      (q, n) bool   whether the item at each place has the query's label; False where nothing was retrieved
relevant  (q,)          how many such items the gallery has, R

What happens without a hit or without a relevant item is a convention:

Standard  MAP@k divides by min(R, k), precision@k by k; a query with R = 0 has no value (NaN), and is left out of means
OML       that of Open Metric Learning: MAP@k divides by the hits in the top k, precision@k by min(R, k); a query with
          R = 0 counts 1 where nothing was retrieved and 0 where something was

Formulas stand in docs/retrieval.md. Sources: Musgrave, Belongie and Lim, "A Metric Learning Reality Check", ECCV 2020
(R-precision, MAP@R); Järvelin and Kekäläinen, ACM TOIS 20, 2002 (NDCG).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Bool, Float64, Int64

from bb.probe.retrieval.labels import OVERALL
from bb.store.errors import UsageError

Convention = Literal["standard", "oml"]
CONVENTIONS: tuple[str, ...] = get_args(Convention)
KS = (1, 5, 10)
MAX_K = 100_000
PER_R = ("r_precision", "map@r")  # those that look as deep as each query has relevant items
MAIN = "map@r"
CHUNK = 2**21  # places of hits that are worked on at once


@dataclass(frozen=True, eq=False)
class RankingSums:
    """What the metrics are computed from, with the sums that several of them need.

    hits       (q, n)
    relevant   (q,) R
    retrieved  (q,) how many items each query has
    found      (q, n + 1) hits among the first k, at place k
    gain       (q, n + 1) sum of precisions at the hits among the first k, at place k
    """

    hits: Bool[np.ndarray, "q n"]
    relevant: Int64[np.ndarray, " q"]
    retrieved: Int64[np.ndarray, " q"]
    found: Int64[np.ndarray, "q n_1"]
    gain: Float64[np.ndarray, "q n_1"]
    convention: Convention

    @classmethod
    def of(
        cls,
        hits: Bool[np.ndarray, "q n"],
        relevant: Int64[np.ndarray, " q"],
        convention: Convention,
        retrieved: Int64[np.ndarray, " q"] | None,
    ) -> "RankingSums":
        q, n = hits.shape
        found = np.zeros((q, n + 1), np.int64)
        np.cumsum(hits, axis=1, out=found[:, 1:])
        gain = np.zeros((q, n + 1))
        np.cumsum(np.where(hits, found[:, 1:] / np.arange(1, n + 1), 0), axis=1, out=gain[:, 1:])
        return cls(hits, relevant, np.full(q, n) if retrieved is None else retrieved, found, gain, convention)

    def at(self, sums: np.ndarray, k: int) -> np.ndarray:
        """Sums over the first k items, or over all where there are fewer."""
        return sums[:, min(k, sums.shape[1] - 1)]

    def at_r(self, sums: np.ndarray) -> np.ndarray:
        """Sums over the first R items of each query."""
        return sums[np.arange(len(sums)), np.minimum(self.relevant, sums.shape[1] - 1)]

    @property
    def is_oml(self) -> bool:
        return self.convention == "oml"


def _divide(numerator: np.ndarray, denominator: Any) -> Float64[np.ndarray, " q"]:
    """0 where the denominator is."""
    denominator = np.broadcast_to(np.asarray(denominator, float), numerator.shape)
    return np.divide(numerator, denominator, out=np.zeros(numerator.shape), where=denominator > 0)


def _cmc(a: RankingSums, k: int) -> np.ndarray:
    return (a.at(a.found, k) > 0).astype(float)


def _precision(a: RankingSums, k: int) -> np.ndarray:
    return _divide(a.at(a.found, k), np.minimum(np.minimum(a.relevant, k), a.retrieved) if a.is_oml else k)


def _recall(a: RankingSums, k: int) -> np.ndarray:
    return _divide(a.at(a.found, k), a.relevant)


def _map(a: RankingSums, k: int) -> np.ndarray:
    return _divide(a.at(a.gain, k), a.at(a.found, k) if a.is_oml else np.minimum(a.relevant, k))


def _mrr(a: RankingSums, k: int) -> np.ndarray:
    """1 / the place of the first hit, 0 where it is not among the first k."""
    top = a.hits[:, :k]
    return np.where(top.any(axis=1), 1 / (1 + top.argmax(axis=1)), 0) if top.shape[1] else np.zeros(len(top))


def _ndcg(a: RankingSums, k: int) -> np.ndarray:
    top = a.hits[:, :k]
    discount = 1 / np.log2(np.arange(2, k + 2))
    best = np.concatenate([[0], np.cumsum(discount)])[np.minimum(a.relevant, k)]
    gain = np.zeros((len(top), top.shape[1] + 1))
    np.cumsum(top * discount[: top.shape[1]], axis=1, out=gain[:, 1:])  # added in order: a product's last bits vary
    return _divide(gain[:, -1], best)


AT_K: dict[str, Callable[[RankingSums, int], np.ndarray]] = {
    "cmc": _cmc,
    "precision": _precision,
    "recall": _recall,
    "map": _map,
    "mrr": _mrr,
    "ndcg": _ndcg,
}


def per_query(
    hits: Bool[np.ndarray, "q n"],
    relevant: Int64[np.ndarray, " q"],
    *,
    ks: Sequence[int] = KS,
    metrics: Sequence[str] = (*AT_K, *PER_R),
    convention: str = "standard",
    retrieved: Int64[np.ndarray, " q"] | None = None,
) -> dict[str, Float64[np.ndarray, " q"]]:
    """Metrics by name, "cmc@1" to "ndcg@10", "r_precision" and "map@r", each a value per query.

    hits       nearest first
    ks         cut-offs
    metrics    of AT_K and PER_R; those of PER_R are right only where hits are as deep as the largest R
    retrieved  how many items each query has, where they may be fewer than n: after a threshold, for example
    Errors: UsageError for an unknown metric or convention, or a cut-off below 1.
    """
    check_ks(ks)
    check_convention(convention)
    if unknown := [name for name in metrics if name not in AT_K and name not in PER_R]:
        raise UsageError(f"unknown metric {unknown[0]!r}: choose {', '.join((*AT_K, *PER_R))}.")
    step = max(1, CHUNK // max(1, hits.shape[1]))
    if len(hits) > step:
        parts = [slice(start, start + step) for start in range(0, len(hits), step)]
        done = [
            per_query(
                hits[part], relevant[part], ks=ks, metrics=metrics, convention=convention,
                retrieved=None if retrieved is None else retrieved[part],
            )
            for part in parts
        ]  # fmt: skip
        return {name: np.concatenate([values[name] for values in done]) for name in done[0]}
    a = RankingSums.of(hits, relevant, convention, retrieved)  # type: ignore[arg-type]
    values = {f"{name}@{k}": AT_K[name](a, k) for name in metrics if name in AT_K for k in ks}
    if "r_precision" in metrics:
        values["r_precision"] = _divide(a.at_r(a.found), relevant)
    if "map@r" in metrics:
        values["map@r"] = _divide(a.at_r(a.gain), relevant)
    nothing = relevant == 0
    if nothing.any():
        without = np.where(a.retrieved[nothing] == 0, 1.0, 0.0) if a.is_oml else np.nan
        for value in values.values():
            value[nothing] = without
    return values


def check_convention(convention: str) -> None:
    """Errors: UsageError for an unknown one."""
    if convention not in CONVENTIONS:
        raise UsageError(f"unknown convention {convention!r}: choose {' or '.join(CONVENTIONS)}.")


def check_ks(ks: Sequence[int]) -> None:
    """Errors: UsageError unless there are cut-offs, each from 1 to MAX_K and once."""
    if not ks or min(ks) < 1 or max(ks) > MAX_K or len(set(ks)) < len(ks):
        raise UsageError(f"cut-offs {list(ks)} make no sense: name at least one, each from 1 to {MAX_K} and only once.")


def summarise(
    values: Mapping[str, Float64[np.ndarray, " q"]],
    category: Int64[np.ndarray, " q"] | None = None,
    names: Sequence[str] = (),
) -> dict[str, dict[str, float]]:
    """Means over the queries that have a value: {"overall": {metric: mean}, category: {metric: mean}, ...}.

    category  code of each query's category, its place in `names`; a negative one counts overall only
    A metric without any value is left out.
    """
    out: dict[str, dict[str, float]] = {OVERALL: {}, **{name: {} for name in names}}
    bins = len(names) + 1  # the first for what has no category, or no value
    every = None if category is None else category + 1
    counts = np.zeros(bins, np.int64) if every is None else np.bincount(every, minlength=bins)
    for metric, value in values.items():
        there = ~np.isnan(value)
        whole = bool(there.all())
        if there.any():
            out[OVERALL][metric] = float((value if whole else value[there]).mean())
        if every is not None:
            place = every if whole else np.where(there, every, 0)
            count = counts if whole else np.bincount(place, minlength=bins)
            total = np.bincount(place, weights=value, minlength=bins)
            for code in np.flatnonzero(count[1:]).tolist():
                out[names[code]][metric] = float(total[code + 1] / count[code + 1])
    return out


def knn_correct(label: Int64[np.ndarray, "q n"], truth: Int64[np.ndarray, " q"], k: int) -> Float64[np.ndarray, " q"]:
    """1 where the commonest label among the k nearest is the query's, else 0; of equally common ones the nearest wins.

    label  codes of the retrieved items, nearest first, -1 where there is none; a query without any has no value (NaN)
    """
    top = label[:, :k]
    if not top.shape[1]:
        return np.full(len(truth), np.nan)
    there = top >= 0
    votes = np.stack([(top == top[:, [i]]).sum(axis=1) for i in range(top.shape[1])], axis=1) * there
    vote = top[np.arange(len(top)), votes.argmax(axis=1)]  # the first of the most: the nearest
    return np.where(there.any(axis=1), (vote == truth).astype(float), np.nan)
