"""`bb.probe.score_search`: how well a space of images answers texts whose relevant images are known (INQUIRE)."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float32

from bb.probe.retrieval.statistics.clustered import Clustered
from bb.probe.statistics.ranked_lists import METRICS, ListScores, score_list
from bb.probe.tables.html_table import html_table
from bb.probe.tables.table_file import read_table_file
from bb.probe.text.search import Gallery, Load, query_vectors
from bb.probe.text.stored_texts import named
from bb.store import BBError, FeatureSpace, Store, UsageError
from bb.store.format.collection import some
from bb.store.format.text import normalised
from bb.store.reporter import Reporter, Silent
from bb.store.text.image_ids import match_ids

K = 50  # INQUIRE's full-rank cut-off
TEXT = ("query_text", "text", "query")
IMAGE = ("image_path", "image_id", "image", "path")
KINDS = ("supercategory", "category", "iconic_group")


@dataclass(frozen=True)
class MeanInterval:
    """A mean over queries; low and high are None where there are too few queries for an interval."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, eq=False, repr=False)
class SearchScores:
    """Scores of one space of images.

    frame    a row for each query: query_id, query_text, positives, the columns KINDS that the file has, and METRICS
    means    by metric, with 95% intervals for further queries of this kind
    k        cut-off; None where fixed candidates were ranked
    notes    what a reader of the scores should know
    """

    backbone: str
    space: FeatureSpace
    text_space: FeatureSpace
    collection: str
    frame: pl.DataFrame
    means: dict[str, MeanInterval]
    k: int | None
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"SearchScores({self.backbone}: AP {self.means['ap'].value:.3f} over {len(self.frame)} queries)"

    def _repr_html_(self) -> str:
        return html_table(self.frame, repr(self))

    def by(self, column: str) -> pl.DataFrame:
        """Means by supercategory, category or iconic group. Errors: UsageError where the queries don't have it."""
        if column not in self.frame.columns:
            there = ", ".join(kind for kind in KINDS if kind in self.frame.columns) or "none of these columns"
            raise UsageError(f"--by {column}: the queries have {there}.")
        return self.frame.group_by(column).agg(pl.len().alias("queries"), pl.col(METRICS).mean()).sort(column)

    def record(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "backbone": self.backbone,
            "space": self.space.key,
            "text_space": self.text_space.key,
            "collection": self.collection,
            "k": self.k,
            "means": {name: asdict(mean) for name, mean in self.means.items()},
            "queries": self.frame.to_dicts(),
            "notes": list(self.notes),
        }


def score_search(
    store: Store | str | Path,
    queries: str | Path,
    relevant: str | Path,
    data: str | None = None,
    *,
    candidates: str | Path | None = None,
    k: int = K,
    ckpt: str | None = None,
    space: str | None = None,
    text_space: str | None = None,
    encode: Load | None = None,
    reporter: Reporter | None = None,
) -> SearchScores:
    """AP@k, nDCG@k and MRR of text queries, as INQUIRE counts them: see bb.probe.statistics.ranked_lists.

    queries     a table with query_id and query_text, and perhaps supercategory, category and iconic_group
    relevant    a table with query_id and image_path: the relevant images of each query
    candidates  a table with query_id and image_path: only these are ranked for a query (INQUIRE-Rerank, 100 each), all
                of them are scored, and relevant images among them are all that count
    k           of all images of the collection that many are retrieved (INQUIRE-Fullrank, 50)

    The other arguments are those of `bb.probe.search`. Relevant images that the collection or the space does not have
    count as not retrieved. Queries without a relevant image are left out. Raises UsageError and BBError, which say what
    to change.
    """
    reporter = reporter or Silent()
    if k < 1:
        raise UsageError(f"-k {k} retrieves nothing: choose 1 or more.")
    opened = store if isinstance(store, Store) else Store.open(store)
    asked = _read_queries(Path(queries))
    known = set(asked["query_id"])
    gallery = Gallery.find(opened, data, ckpt=ckpt, space=space)
    notes: list[str] = []
    absent: dict[str, int] = {}
    positives = _pairs(Path(relevant), "relevant images", known, gallery, absent, notes)
    ranked = _pairs(Path(candidates), "candidates", known, gallery, absent, notes) if candidates else None
    if ranked is not None:
        positives = {q: images & ranked[q] for q, images in positives.items() if q in ranked}
    kept = asked.filter(pl.col("query_id").is_in([q for q, images in positives.items() if images]))
    if kept.is_empty():
        raise BBError(f"no query of {queries} has a relevant image in {relevant}, so there is nothing to score.")
    if left_out := len(asked) - len(kept):
        notes.append(f"{left_out} of {len(asked)} queries have no relevant image and are left out")
    texts, w = query_vectors(gallery, kept["query_text"].to_list(), text_space=text_space, encode=encode)
    if ranked is None:
        name = named(opened, gallery.space)
        place, score = gallery.nearest(w, k, lambda done, total: reporter.progress(name, done, total, "images"))
        scored = [
            score_list(np.isin(rows, list(positives[q])), cosine, len(positives[q]))
            for q, rows, cosine in zip(kept["query_id"], place, score, strict=True)
        ]
    else:
        scored = [
            _rerank(gallery, vector, ranked[q], positives[q]) for q, vector in zip(kept["query_id"], w, strict=True)
        ]
    counted = pl.Series("positives", [len(positives[q]) for q in kept["query_id"]])
    frame = kept.with_columns(counted, *(pl.Series(name, [getattr(s, name) for s in scored]) for name in METRICS))
    return SearchScores(
        named(opened, gallery.space), gallery.space, texts, f"{gallery.collection.name}@{gallery.collection.digest}",
        frame, _means(frame), None if ranked is not None else k, tuple(notes),
    )  # fmt: skip


def _rerank(gallery: Gallery, w: Float32[np.ndarray, " d"], ranked: set[int], positives: set[int]) -> ListScores:
    """The candidates of one query; a negative place stands for an image without features, which comes last."""
    rows = np.array(sorted(row for row in ranked if row >= 0), np.int64)
    only = Gallery(gallery.store, gallery.space, gallery.collection, rows, 0)
    place, score = only.nearest(w[None], len(rows)) if len(rows) else (np.empty((1, 0), int), np.empty((1, 0)))
    behind = np.array(sorted(row for row in ranked if row < 0), np.int64)
    order, cosine = np.append(place[0], behind), np.append(score[0], np.full(len(behind), -2.0))
    return score_list(np.isin(order, list(positives)), cosine, len(positives))


def _means(frame: pl.DataFrame) -> dict[str, MeanInterval]:
    """Each query is a unit: intervals are for further queries, and hold the collection fixed."""
    scores = frame.select(METRICS).to_numpy().T.astype(np.float64)
    found = Clustered.of(np.arange(len(frame)), scores)
    bounds = [found.interval(m) if found.enough else (None, None) for m in range(len(METRICS))]
    return {
        name: MeanInterval(float(value), *pair) for name, value, pair in zip(METRICS, found.mean, bounds, strict=True)
    }


def _read_queries(path: Path) -> pl.DataFrame:
    table = read_table_file(
        path, what=f"found no queries at {path}: a CSV or Parquet file with query_id and query_text.",
        columns=["query_id", *TEXT, *KINDS], remedy="Export it again as CSV.",
    )  # fmt: skip
    table.require(["query_id"], "It tells which images are relevant.")
    text = next((name for name in TEXT if name in table.columns), TEXT[0])
    table.require([text], "Each query is a text.")
    kinds = [name for name in KINDS if name in table.columns]
    read = table.select(ids=["query_id", text], optional=kinds)
    read.refuse(read.frame.filter(pl.col("query_id").is_duplicated()), "its query_id stands twice; give each its own")
    texts = [normalised(value) for value in read.frame[text]]
    return read.frame.select("query_id", pl.Series("query_text", texts), *kinds)


def _pairs(
    path: Path, what: str, queries: set[str], gallery: Gallery, absent: dict[str, int], notes: list[str]
) -> dict[str, set[int]]:
    """Of each query places in the collection's table; images without features have negative ones, kept in `absent`."""
    table = read_table_file(
        path, what=f"found no {what} at {path}: a CSV or Parquet file with query_id and image_path.",
        columns=["query_id", *IMAGE, "relevant"], remedy="Export it again as CSV.",
    )  # fmt: skip
    image = next((name for name in IMAGE if name in table.columns), IMAGE[0])
    table.require(["query_id", image], "Each row is a query and one of its images.")
    marked = ["relevant"] if "relevant" in table.columns and what == "relevant images" else []
    frame = table.select(ids=["query_id", image, *marked]).frame.rename({image: "image"})
    if marked:
        frame = frame.filter(pl.col("relevant").str.to_lowercase().is_in(["1", "1.0", "true"]))
    if others := sorted(set(frame["query_id"]) - queries):
        notes.append(f"{path.name}: {len(others)} query IDs are not among the queries: {some(others)}")
        frame = frame.filter(pl.col("query_id").is_in(list(queries)))
    written = frame["image"].unique(maintain_order=True).to_list()
    match = match_ids(written, gallery.collection.table["image_id"].to_list())
    if match.note:
        notes.append(f"{path.name}: {match.note}")
    rows = gallery.collection.find(match.ids)
    has = np.isin(rows, gallery.rows)
    place = {
        image: int(row) if there else -1 - absent.setdefault(image_id, len(absent))
        for image, image_id, row, there in zip(written, match.ids, rows, has, strict=True)
    }
    if gone := [image for image, there in zip(written, has.tolist(), strict=True) if not there]:
        counted = "count as not retrieved" if what == "relevant images" else "come last"
        notes.append(
            f"{path.name}: {len(gone)} of {len(written)} images are not in {gallery.collection.name} or have no "
            f"features, and {counted}: {some(gone)}"
        )
    found: dict[str, set[int]] = {}
    for query, name in frame.select("query_id", "image").iter_rows():
        found.setdefault(query, set()).add(place[name])
    return found
