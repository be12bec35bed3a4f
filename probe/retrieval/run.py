"""One retrieval run: how one feature space answers one set of labelled queries; from the store and back to it."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Num

from bb.probe.features.damaged_images import damage_note, damage_record, damaged_images
from bb.probe.features.extraction import extraction
from bb.probe.features.missing import missing_record, note_on
from bb.probe.git_commit import commit
from bb.probe.retrieval.evaluate import Evaluation, Retrieval, evaluate
from bb.probe.retrieval.faiss_search import Faiss
from bb.probe.retrieval.labels import OVERALL, RetrievalLabels
from bb.probe.retrieval.ranking import NO_MATCH, hits
from bb.probe.retrieval.rerank import Step, then
from bb.probe.retrieval.statistics.paired_tests import effect_of_queries, sampled
from bb.probe.run_records import retrieval_problem
from bb.store import Collection, FeatureSpace, Store
from bb.store.files.canonical_json import digest_of, sha256_hex
from bb.store.format.derived import SEEN, head_name
from bb.store.local.runs import Run, by_precedence
from bb.store.trained_heads import has_seen
from bb.store.versions import versions

PROTOCOL = "retrieval"
ALGORITHM = "2"  # a change that could change an answer raises it: it is part of a run's identity
VERSIONS = ("backbone-bench", "numba", "numpy", "polars")


@dataclass(frozen=True, eq=False)
class PreparedRetrieval:
    """A run that can be looked up or made: its ID covers all that decides the outcome.

    tasks     the labels' name
    roles     how queries and gallery were distinguished, for a reader: the options that were given
    features  (n, d) of the items, in their order and the stored dtype
    faiss     the index to search by; None for the exact search
    warnings  of the labels, see `assign`; they stand in the run
    steps     what is done to the rankings before they are scored
    """

    store: Store
    space: FeatureSpace
    collection: Collection
    items: RetrievalLabels
    tasks: str
    how: Retrieval
    roles: dict[str, Any]
    features: Num[np.ndarray, "n d"]
    faiss: Faiss | None
    warnings: tuple[str, ...]
    test_set: str
    run_id: str
    steps: tuple[Step, ...] = ()

    def existing(self) -> list[Run]:
        """Runs of this ID in the store that can be read, the one to use first."""
        found = self.store.runs(self.run_id)
        return by_precedence(run for run in found if retrieval_problem(run.record, whole=True) is None)

    @property
    def parameters(self) -> dict[str, Any]:
        index = None if self.faiss is None else self.faiss.parameters()
        return {
            **self.how.parameters(),
            "roles": self.roles,
            "index": index,
            "rerankers": [step.parameters() for step in self.steps],
        }


def prepare(
    store: Store,
    space: FeatureSpace,
    collection: Collection,
    items: RetrievalLabels,
    *,
    tasks: str,
    how: Retrieval,
    roles: dict[str, Any] | None = None,
    faiss: Faiss | None = None,
    warnings: Sequence[str] = (),
    steps: Sequence[Step] = (),
) -> PreparedRetrieval:
    """Reads the features and names the run; nothing is searched.

    The ID is SHA-256 of the canonical JSON of: protocol and its parameters, index and its version, the items (image
    ID, label, role, category, sequence), SHA-256 of their feature rows. The test set is the items and the metrics:
    runs that share it can be compared. Errors: MissingRows where the space does not have images that the labels name.
    """
    features = store.read(space, collection, items.image_ids.tolist())
    rows = np.ascontiguousarray(features)
    columns = [name for name in items.frame.columns if name not in ("split", "x1", "y1", "x2", "y2")]
    table = [columns, *map(list, items.frame.select(columns).iter_rows())]
    how_scored = {key: value for key, value in how.parameters().items() if key != "distance"}
    test_set = digest_of([table, how_scored])
    prepared = PreparedRetrieval(
        store,
        space,
        collection,
        items,
        tasks,
        how,
        roles or {},
        features,
        faiss,
        tuple(warnings),
        test_set,
        "",
        tuple(steps),
    )
    identity = {
        "tasks": tasks,
        "protocol": PROTOCOL,
        "parameters": prepared.parameters,
        "backend": _backend(faiss),
        "items": table,
        "features": [str(rows.dtype), list(rows.shape), sha256_hex(rows.view(np.uint8).data)],
    }
    return replace(prepared, run_id=digest_of(identity))


def execute(
    prepared: PreparedRetrieval,
    *,
    jobs: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Run:
    """Searches, scores and publishes. Errors: those of `evaluate`; then nothing is published."""
    items, space = prepared.items, prepared.space
    prepared.store.check_writable("runs", "local")
    started, clock = datetime.now(UTC), time.monotonic()
    faiss = prepared.faiss
    searched = None if faiss is None else faiss.bind(items, jobs)
    found = evaluate(
        prepared.features,
        items,
        prepared.how,
        searched=then(searched, items, prepared.steps, jobs) if prepared.steps else searched,
        jobs=jobs,
        progress=progress,
    )
    seconds = time.monotonic() - clock
    name, version = _backend(faiss)
    record = {
        "run_id": prepared.run_id,
        "tasks": prepared.tasks,
        "protocol": PROTOCOL,
        "parameters": prepared.parameters,
        "n_train": "all",
        "seed": None,
        "classifier": None,
        "backend": name,
        "backend_version": version,
        "identical_to_sklearn": faiss is None,
        "index_recall": None if faiss is None else faiss.recall(prepared.features, items, prepared.how, jobs),
        "test_set": prepared.test_set,
        "space": space.key,
        "adopted": prepared.store.adopted_from(space, prepared.collection.digests(items.image_ids.tolist())),
        "collection": prepared.collection.digest,
        "collection_name": prepared.collection.name,
        "backbones": prepared.store.backbones(space),
        "width": prepared.features.shape[1],
        "view": dict(space.view),
        "scores": _scores(found),
        "units": sampled(found),
        "notes": {PROTOCOL: notes} if (notes := list(_notes(prepared, found))) else {},
        "damaged": _damage(prepared),
        **missing_record(items.missing, items.max_missing, items.same_images_as, space),
        "provenance": {
            "made": started.isoformat(timespec="microseconds"),  # so that no run done again is the same file
            "seconds": round(seconds, 3),
            "commit": commit(),
            "versions": versions(VERSIONS if faiss is None else (*VERSIONS, "faiss-cpu")),
            "extraction": extraction(prepared.store, space),
        },
    }
    return prepared.store.put_run(record, predictions(found), _gallery(items), retrieved(found))


def _notes(prepared: PreparedRetrieval, found: Evaluation) -> Iterator[str]:
    """What a reader of the scores should know."""
    yield from prepared.warnings
    if prepared.items.missing:
        yield note_on(prepared.items.missing)
    ids = prepared.items.image_ids
    keys = prepared.collection.digests(ids.tolist())
    yield from prepared.store.disagreements(prepared.space, keys)
    if has_seen(prepared.store, prepared.space, keys):
        yield f"{head_name(prepared.space.weights)} {SEEN}"
    if note := damage_note(_damage(prepared)):
        yield note
    digests = np.ascontiguousarray(keys).view("V32").ravel()
    _, first, counts = np.unique(digests, return_index=True, return_counts=True)
    twice = first[counts > 1]
    if len(twice):
        one, other = ids[digests == digests[twice[0]]][:2].tolist()
        yield (
            f"{len(twice)} image{'s stand' if len(twice) > 1 else ' stands'} under more than one ID, such as {one!r} "
            f"and {other!r}: each finds itself in the other; leave one out, or give both one sequence"
        )
    if found.left_out:
        counted = "are left out of the means" if prepared.how.convention == "standard" else "count as misses"
        yield f"{found.left_out} of {len(found.top)} queries have nothing relevant in the gallery and {counted}"


def _damage(prepared: PreparedRetrieval) -> dict[str, Any]:
    ids = prepared.items.image_ids.tolist()
    return damage_record(damaged_images(prepared.store, prepared.space, prepared.collection, ids))


def predictions(found: Evaluation) -> pl.DataFrame:
    """A row per metric and query that has a value, in the columns of every run: task is the metric, score its value.

    y_true is 1 and y_pred whether the nearest item is a hit; decision is its distance, negative, 0 without any. unit
    is what the query was sampled with, effect its part of what the unit takes from the others: see `Clustered`.
    """
    items, query = found.items, found.top.query
    category = items.category
    first = hits(items, found.top)[:, 0].astype(np.uint8)
    nearest = found.top.distance[:, 0].astype(np.float64)
    ids = pl.Series(items.image_ids[query].tolist(), dtype=pl.String)
    cluster = [""] * len(query) if category is None else category[query].tolist()
    base = pl.DataFrame(
        {
            "cluster": pl.Series(cluster, dtype=pl.String),
            "subcluster": pl.Series([None] * len(query), dtype=pl.String),
            "image_id": ids,
            "y_true": np.ones(len(query), np.uint8),
            "y_pred": first,
            "decision": np.where(np.isfinite(nearest), -nearest, 0),
            "unit": pl.Series(found.units.names, dtype=pl.String).gather(found.units.code[query]),
        }
    )
    tables = [
        base.select(
            pl.lit(name).alias("task"),
            pl.all(),
            pl.Series("score", value.astype(np.float32)),
            pl.Series("effect", effect_of_queries(found, name)),
        ).filter(pl.Series(~np.isnan(value)))
        for name, value in sorted(found.values.items())
    ]
    return pl.concat(tables)


def retrieved(found: Evaluation) -> pl.DataFrame:
    """The first items of each query: image_id, rank from 1, retrieved_id, distance, hit."""
    items, top = found.items, found.top
    there = top.nearest != NO_MATCH
    query, place = np.nonzero(there)
    ids = pl.Series(items.image_ids.tolist(), dtype=pl.String)
    return pl.DataFrame(
        {
            "image_id": ids.gather(top.query[query]),
            "rank": (place + 1).astype(np.uint32),
            "retrieved_id": ids.gather(top.nearest[there]),
            "distance": top.distance[there],
            "hit": hits(items, top)[there],
        }
    )


def _gallery(items: RetrievalLabels) -> pl.DataFrame:
    """In the place of a run's training images stands what answers: task "gallery", image_id, y the label's code."""
    rows = items.gallery
    ids = pl.Series(items.image_ids[rows].tolist(), dtype=pl.String)
    return pl.DataFrame({"task": ["gallery"] * len(rows), "image_id": ids, "y": items.label_codes[rows]})


def _scores(found: Evaluation) -> dict[str, Any]:
    """Of run.json: all means, and the main metric under the names that runs of every protocol have."""
    summary, main = found.summary(), found.main
    counts = {name: int((~np.isnan(value)).sum()) for name, value in found.values.items()}
    overall = summary[OVERALL]
    category = found.items.category
    asked = [] if category is None else category[found.top.query].tolist()
    value = found.values[main]
    return {
        "main": main,
        "mean": overall[main],
        "n": counts[main],
        "queries": len(found.top),
        "left_out": found.left_out,
        "gallery": len(found.items.gallery),
        "auroc_tied": found.tied,
        OVERALL: overall,
        "categories": {name: values for name, values in summary.items() if name != OVERALL},
        "tasks": {name: {"mean": overall[name], "n": n} for name, n in sorted(counts.items()) if n},
        "clusters": {
            name: {"mean": values[main], "n": int((~np.isnan(value[np.array(asked) == name])).sum())}
            for name, values in summary.items()
            if name != OVERALL and main in values
        },
        "subclusters": {},
    }


def _backend(faiss: Faiss | None) -> list[str]:
    return ["exact", ALGORITHM] if faiss is None else ["faiss", faiss.version]
