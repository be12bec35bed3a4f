"""`bb probe rerank`: a pairwise model learned on one split, and what it changes on another."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from probe.heads.pairs import Learned
from probe.heads.pairwise import encode, load
from probe.retrieval.items import Items
from probe.retrieval.paired import Change, changes_of
from probe.retrieval.pairwise import Distance
from probe.retrieval.rerank import Rerank
from probe.retrieval.run import Prepared
from probe.table import read_table
from store.canonical import sha256_hex
from store.runs import Run

SHOWN = ("cmc@1", "cmc@5", "precision@5", "map@10", "r_precision", "map@r")


def training(table: Items, split: str) -> Items:
    """The images of a split, whatever their roles. Errors: UsageError where there are none."""
    both = table.frame.with_columns(is_query=pl.lit(True), is_gallery=pl.lit(True))
    return replace(table, frame=both).split(split)


def loaded(file: Path, dim: int) -> Learned:
    """The model of a file. Errors: see `probe.heads.pairwise.load`."""
    return Learned(load(file, dim), {}, file.name)


def digest(found: Learned) -> str:
    """SHA-256 of the model's file."""
    return sha256_hex(encode(found.model))


def steps(found: Learned, before: Prepared, top_n: int) -> tuple[Rerank, ...]:
    """What re-ranks what is found before; nothing where the model is the distance that it was found by."""
    if found.model == Distance(before.how.distance):  # type: ignore[arg-type]  # one of the two, or no search would do
        return ()
    return (Rerank(found.model, before.features, top_n, digest(found)),)


def compared(before: Run, after: Run, metrics: Sequence[str] = SHOWN) -> dict[str, Change]:
    """What changed from one run to another of the same test set, by metric; those that both have."""
    table = read_table({"before": [before], "after": [after]})
    found = changes_of(table.only([metric for metric in metrics if metric in table.tasks]))
    return {metric: found[metric] for metric in metrics if metric in found}
