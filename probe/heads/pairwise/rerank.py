"""`bb probe rerank`: a pairwise model learned on one split, and what it changes on another."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from bb.probe.heads.pairwise.learn import Learned
from bb.probe.heads.pairwise.model import encode, load
from bb.probe.retrieval.labels import RetrievalLabels
from bb.probe.retrieval.pairwise_model import Distance
from bb.probe.retrieval.rerank import Rerank
from bb.probe.retrieval.run import PreparedRetrieval
from bb.probe.retrieval.statistics.paired_tests import Change, QueryEstimate, change, of_runs
from bb.store.files.canonical_json import sha256_hex
from bb.store.local.runs import Run

SHOWN = ("cmc@1", "cmc@5", "precision@5", "map@10", "r_precision", "map@r")


def training(table: RetrievalLabels, split: str) -> RetrievalLabels:
    """The images of a split, whatever their roles. Errors: UsageError where there are none."""
    both = table.frame.with_columns(is_query=pl.lit(True), is_gallery=pl.lit(True))
    return replace(table, frame=both).split(split)


def loaded(file: Path, dim: int) -> Learned:
    """The model of a file. Errors: see `bb.probe.heads.pairwise.model.load`."""
    return Learned(load(file, dim), {}, file.name)


def digest(found: Learned) -> str:
    """SHA-256 of the model's file."""
    return sha256_hex(encode(found.model))


def steps(found: Learned, before: PreparedRetrieval, top_n: int) -> tuple[Rerank, ...]:
    """What re-ranks what is found before; nothing where the model is the distance that it was found by."""
    if found.model == Distance(before.how.distance):  # type: ignore[arg-type]  # one of the two, or no search would do
        return ()
    return (Rerank(found.model, before.features, top_n, digest(found)),)


def compared(before: Run, after: Run, metrics: Sequence[str] = SHOWN) -> dict[str, Change]:
    """What changed from one run to another of the same test set, by metric; nothing where they are the same run."""
    both = [metric for metric in metrics if metric in before.record["scores"]["tasks"]]
    found = {metric: of_runs([before, after], metric) for metric in both}
    changes = {metric: change(each) for metric, each in found.items() if each is not None}
    if before.run_id == after.run_id:
        nothing = QueryEstimate(0.0, 0.0, 0.0)
        return {metric: replace(each, difference=nothing, p=1.0) for metric, each in changes.items()}
    return changes
