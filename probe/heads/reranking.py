"""`bb probe rerank`: a pairwise model learned on one split, and what it changes on another."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float

from probe.heads.pairs import Learned
from probe.heads.pairwise import LearnedDistance, encode, load
from probe.retrieval.items import Items
from probe.retrieval.metrics import PER_R, per_query
from probe.retrieval.paired import Change, Scores, changes
from probe.retrieval.pairwise import Distance
from probe.retrieval.ranking import Ranking, hits
from probe.retrieval.rerank import Rerank
from probe.retrieval.search import search
from store.canonical import sha256_hex

DEEPEST = 1000  # items of a query that are looked at; with more relevant ones, PER_R's metrics are left out
SHOWN = ("cmc@1", "cmc@5", "precision@5", "map@10", *PER_R)


def depth(items: Items, least: int) -> int:
    """How many of the nearest images metrics are to see: as many as are relevant to any query, where that can be."""
    most = int(np.bincount(items.label_codes[items.gallery]).max())
    return max(least, 10, min(most, DEEPEST))


def scores_of(items: Items, ranking: Ranking, convention: str) -> Scores:
    """The metrics that are shown, of every query."""
    found = per_query(hits(items, ranking), ranking.relevant, convention=convention, retrieved=ranking.retrieved)
    if ranking.relevant.max(initial=0) > ranking.nearest.shape[1]:
        found = {name: values for name, values in found.items() if name not in PER_R}
    return {name: found[name] for name in SHOWN if name in found}


@dataclass(frozen=True, eq=False)
class Reranked:
    """What came of it.

    digest   SHA-256 of the model's file
    chosen   which candidate was taken (see `Learned`), or the file that the model was loaded from
    held_out MAP@R of the candidates on labels held out; empty of a model that was loaded
    changes  by metric
    """

    model: LearnedDistance | Distance
    digest: str
    chosen: str
    held_out: dict[str, float]
    before: Ranking
    after: Ranking
    changes: dict[str, Change]


def training(table: Items, split: str) -> Items:
    """The images of a split, whatever their roles. Errors: UsageError where there are none."""
    both = table.frame.with_columns(is_query=pl.lit(True), is_gallery=pl.lit(True))
    return replace(table, frame=both).split(split)


def loaded(file: Path, dim: int) -> Learned:
    """The model of a file. Errors: see `probe.heads.pairwise.load`."""
    return Learned(load(file, dim), {}, file.name)


def rerank(
    found: Learned, items: Items, features: Float[np.ndarray, "n d"], *, trivial: Distance, top_n: int, convention: str
) -> Reranked:
    """The nearest `top_n` of each query in the model's order, against the trivial one's.

    Where the model is the trivial one, nothing is put into another order. Errors: BBError where no query has anything
    relevant.
    """
    before = search(features, items, depth(items, top_n), distance=trivial.metric)
    digest = sha256_hex(encode(found.model))
    after = before
    if found.model != trivial:
        after = Rerank(found.model, features, top_n, digest)(before)
    ids = items.image_ids[before.query]
    told = changes(ids, *(scores_of(items, ranking, convention) for ranking in (before, after)))
    return Reranked(found.model, digest, found.chosen, dict(found.scores), before, after, told)
