"""Runs that a call looked up or computed, of every kind of probe."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from bb.probe.tables.html_table import html_table
from bb.store.format.space import short
from bb.store.local.runs import Run, disagreement
from bb.store.reporter import Reporter


@dataclass(frozen=True, eq=False, repr=False)
class ComputedRuns:
    """Runs, in the order of feature spaces and then of what was asked. A kind of probe has its own `frame`.

    fresh    IDs of those that were computed now
    missing  images that were left out since they have no features: image ID to reason
    """

    runs: tuple[Run, ...]
    fresh: frozenset[str] = frozenset()
    missing: Mapping[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)

    def __len__(self) -> int:
        return len(self.runs)

    def __getitem__(self, place: int) -> Run:
        return self.runs[place]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} runs, {len(self.fresh)} computed now)"

    def _repr_html_(self) -> str:
        return html_table(self.frame(), repr(self))

    def frame(self) -> pl.DataFrame:
        raise NotImplementedError


def existing_run(what: str, existing: Sequence[Run], reporter: Reporter) -> Run:
    """Of several runs of one ID the one to use; where others have other scores, which are not used is said."""
    if found := disagreement(existing):
        reporter.info(f"{what}: {len(existing)} runs of one ID disagree: {found}")
    return existing[0]


def report_other_scores(what: str, run: Run, existing: Sequence[Run], reporter: Reporter) -> None:
    """Says where a run that was computed again has other scores than before."""
    if any(other.record["scores"] != run.record["scores"] for other in existing):
        reporter.info(f"{what}: run {short(run.run_id)} came out otherwise than before; both are kept")
