"""`bb probe rerank`: a pairwise model learned on one split, and what it changes on another."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from probe.heads.pairs import EPOCHS, Learned, learn
from probe.heads.pairwise import LearnedDistance, encode, load
from probe.retrieval.items import Items
from probe.retrieval.paired import Change, changes
from probe.retrieval.pairwise import Distance
from probe.retrieval.ranking import Ranking
from probe.retrieval.report import depth, scores_of
from probe.retrieval.rerank import Rerank
from probe.retrieval.search import search
from store.canonical import sha256_hex


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


def learned(
    items: Items,
    features: Float[np.ndarray, "n d"],
    *,
    trivial: Distance,
    top_n: int,
    seed: int,
    epochs: int = EPOCHS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Learned:
    """See `probe.heads.pairs.learn`; the rows that are neither query nor in the gallery are learned from, too."""
    return learn(
        features,
        items.label_codes,
        items.sequence,
        trivial=trivial,
        top_n=top_n,
        seed=seed,
        epochs=epochs,
        progress=progress,
    )


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
