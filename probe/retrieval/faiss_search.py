"""A faster, approximate search for large galleries, through faiss; it says how much of the exact answer it finds."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Num
from joblib import cpu_count

from bb.probe.retrieval.evaluate import Retrieval, Searched
from bb.probe.retrieval.labels import RetrievalLabels
from bb.probe.retrieval.ranking import NO_MATCH, Ranking, count_relevant
from bb.probe.retrieval.search import Vectors, search_parts
from bb.store.errors import UsageError

QUERIES = 4096  # of a part
SMALL = 4096  # a gallery of fewer is searched whole: cells would be too few to learn


@dataclass(frozen=True)
class Faiss:
    """An inverted file: the gallery in about 4 √g cells around means, of which the nearest are looked at.

    probes   cells looked at for each query
    sample   queries on which it is compared with the exact search
    What it finds is measured again exactly and ordered as the exact search does, so only what is missed differs.
    """

    probes: int = 32
    sample: int = 1000

    def parameters(self) -> dict[str, Any]:
        return {"name": "faiss", **asdict(self)}

    @property
    def version(self) -> str:
        return str(_faiss().__version__)

    def bind(self, items: RetrievalLabels, jobs: int | None) -> Searched:
        """The search, as `evaluate` takes it."""

        def searched(vectors: Vectors, n: int, progress: Callable[[int, int], None]) -> Iterator[Ranking]:
            return self.search_parts(vectors, items, n, jobs=jobs, progress=progress)

        return searched

    def search_parts(
        self,
        vectors: Vectors,
        items: RetrievalLabels,
        n: int,
        *,
        jobs: int | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Iterator[Ranking]:
        """As `bb.probe.retrieval.search.search_parts`, but some neighbours may be missed."""
        faiss = _faiss()
        faiss.omp_set_num_threads(jobs or cpu_count())
        gallery, queries = items.gallery, items.queries
        # Unit vectors: the nearest by angle are the nearest by distance too. An L2 index serves both.
        x = vectors.x[gallery] if not vectors.is_cosine else vectors.side(gallery, asking=False)
        index = _index(faiss, x, self.probes)
        relevant = count_relevant(items)
        sequence = np.full(len(items), -1, np.int64) if items.sequence is None else items.sequence
        # The query and its sequence are found as well, and dropped: that many more are asked for.
        _, sizes = np.unique(sequence[gallery][sequence[gallery] >= 0], return_counts=True)
        wanted = min(n + 1 + int(sizes.max(initial=0)), len(gallery))
        for start in range(0, len(queries), QUERIES):
            query = queries[start : start + QUERIES]
            asking = vectors.x[query] if not vectors.is_cosine else vectors.side(query, asking=True)
            _, place = index.search(asking, wanted)
            rows = np.where(place >= 0, gallery[place], NO_MATCH)
            own = sequence[query][:, None]
            rows[(rows == query[:, None]) | ((own >= 0) & (sequence[rows] == own))] = NO_MATCH
            distance = vectors.measured(query, rows)
            best = np.lexsort((np.where(rows == NO_MATCH, len(items), rows), distance), axis=1)[:, :n]
            nearest, distance = np.take_along_axis(rows, best, 1), np.take_along_axis(distance, best, 1)
            if short := n - nearest.shape[1]:
                nearest = np.pad(nearest, ((0, 0), (0, short)), constant_values=NO_MATCH)
                distance = np.pad(distance, ((0, 0), (0, short)), constant_values=np.inf)
            progress(min(start + QUERIES, len(queries)), len(queries))
            yield Ranking(query, nearest, distance, relevant[start : start + QUERIES])

    def recall(
        self, features: Num[np.ndarray, "n d"], items: RetrievalLabels, how: Retrieval, jobs: int | None = None
    ) -> dict[str, float]:
        """The share of the exact search's nearest that are found, at each cut-off, on an even sample of queries."""
        every = items.queries[:: max(1, -(-len(items.queries) // self.sample))]
        asks = np.zeros(len(items), bool)
        asks[every] = True
        frame = items.frame.with_columns(is_query=asks)
        sampled = replace(items, frame=frame)
        vectors = Vectors.of(features, sampled, how.distance)
        n = max(how.ks)
        exact = np.concatenate([part.nearest for part in search_parts(vectors, sampled, n, jobs=jobs)])
        found = np.concatenate([part.nearest for part in self.search_parts(vectors, sampled, n, jobs=jobs)])
        shares = {"queries": float(len(every))}
        for k in how.ks:
            there = exact[:, :k] != NO_MATCH
            same = (exact[:, :k, None] == found[:, None, :k]).any(axis=2) & there
            shares[f"recall@{k}"] = float(same.sum() / max(1, there.sum()))
        return shares


def parse_index(text: str) -> Faiss | None:
    """What `--index` says; None is the exact search. Errors: UsageError for another, or where faiss is not there."""
    if text not in ("exact", "faiss"):
        raise UsageError(f"unknown index {text!r}: choose exact or faiss.")
    if text == "exact":
        return None
    _faiss()
    return Faiss()


def _index(faiss: Any, x: np.ndarray, probes: int) -> Any:
    flat = faiss.IndexFlatL2(x.shape[1])
    if len(x) < SMALL:
        flat.add(x)
        return flat
    cells = int(4 * np.sqrt(len(x)))
    index = faiss.IndexIVFFlat(flat, x.shape[1], cells, faiss.METRIC_L2)
    index.cp.seed = 0
    index.cp.max_points_per_centroid = 64
    index.cp.min_points_per_centroid = 1
    index.train(x)
    index.add(x)
    index.nprobe = min(probes, cells)
    return index


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise UsageError("--index faiss needs faiss: pip install 'backbone-bench[faiss]'.") from None
    return faiss
