"""`bb.probe.report_retrieval`: the verb `bb report retrieval` as a call that prints nothing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from bb.probe.features.missing import missing_of
from bb.probe.features.select_spaces import stored_name
from bb.probe.report.formats.inline import inline
from bb.probe.report.withdrawn import withdrawn_notes
from bb.probe.retrieval.facade import items_of, name_of
from bb.probe.retrieval.labels import RetrievalLabels, assign
from bb.probe.retrieval.report.build import newest, roles, sheets
from bb.probe.retrieval.report.html import Sheet, page
from bb.probe.retrieval.report.thumbnail import Thumbnail
from bb.probe.tasks.few_shot import listed
from bb.store import BBError, Store, UsageError
from bb.store.format.space import short
from bb.store.local.runs import Run
from bb.store.reporter import Reporter, Silent
from bb.store.text.command import command
from bb.store.text.image_ids import match_ids


@dataclass(frozen=True, eq=False, repr=False)
class RetrievalReport:
    """Runs of retrieval on one table, the best first.

    name    what runs call the table
    items   its rows that were searched, by the collection's image IDs
    runs    the newest that can be compared
    sheets  what is reported of each: scores with intervals, and the worst queries with what they got
    """

    name: str
    items: RetrievalLabels
    runs: tuple[Run, ...]
    sheets: tuple[Sheet, ...]

    def __iter__(self) -> Iterator[Sheet]:
        return iter(self.sheets)

    def __len__(self) -> int:
        return len(self.sheets)

    def __getitem__(self, place: int) -> Sheet:
        return self.sheets[place]

    def page(self, thumbnails: Mapping[str, Thumbnail] | None = None) -> str:
        """The page of `bb report retrieval --html`: its text, for a file that ends in .html.

        thumbnails  by image ID; without them images are only named
        """
        return page(self.sheets, self.name, thumbnails or {}, self.runs)

    def __repr__(self) -> str:
        return f"RetrievalReport({self.name}: {len(self)} runs)"

    def _repr_html_(self) -> str:
        return inline(self.page(), repr(self))

    def frame(self) -> pl.DataFrame:
        """A row for each run and metric: backbone, space, metric, score, low and high of its 95% interval (null where
        there is none)."""
        return pl.DataFrame(
            [
                {
                    "backbone": sheet.name,
                    "space": short(sheet.space),
                    "metric": metric,
                    "score": estimate.mean,
                    "low": estimate.low,
                    "high": estimate.high,
                }
                for sheet in self
                for metric, estimate in sheet.scores.items()
            ]
        )


def report_retrieval(
    store: Store | str | Path,
    labels: str | Path | pl.DataFrame | RetrievalLabels,
    *,
    tasks: str | None = None,
    not_missing: Sequence[str] = (),
    ckpt: str | Sequence[str] = (),
    metric: str | None = None,
    queries: int = 20,
    top: int = 10,
    reporter: Reporter | None = None,
) -> RetrievalReport:
    """The scores of runs of retrieval with intervals, and the queries that they did worst on.

    labels   the table that `bb.probe.retrieve` was given, or its file
    tasks    what runs call the table; by default as its file
    ckpt     the backbones; all of them by default
    metric   that runs are ordered and the worst queries chosen by; the runs' main one if None
    queries  how many of the worst; top: how many results of each

    Errors: BBError where there are no such runs, or they were made on other labels; UsageError for an unknown metric.
    """
    reporter = reporter or Silent()
    for option, number in (("--queries", queries), ("--top", top)):
        if number < 1:
            raise UsageError(f"{option} {number} makes no sense: choose 1 or more.")
    opened = store if isinstance(store, Store) else Store.open(store)
    name, backbones = tasks or name_of(labels), {stored_name(opened, each) for each in listed(ckpt)}
    table = items_of(labels, not_missing)
    runs = opened.runs(on_damage=lambda error: reporter.info(f"left out: {error}"))
    chosen, notes = newest([run for run in runs if not backbones or is_of_backbone(run, backbones)], name)
    for note in (*withdrawn_notes(opened, chosen), *notes):
        reporter.info(note)
    if not chosen:
        file = "FILE" if isinstance(labels, pl.DataFrame) else table.source
        make = command("probe retrieval", labels=file, store=opened.name)
        raise BBError(
            f"{opened.name} has no runs of retrieval on {name}{' by these backbones' if backbones else ''}: {make}"
        )
    searched = [read(("image_id",)) for run in chosen[:1] for read in (run.train, run.predictions)]
    known = {image_id for each in searched for image_id in each["image_id"]}
    left_out = missing_of(chosen[0].record)
    match = match_ids(table.image_ids.tolist(), known | left_out.keys())
    items, _, _ = assign(table.renamed(match), **roles(chosen[0]))
    items = items.without(left_out)
    return RetrievalReport(
        name, items, tuple(chosen), tuple(sheets(chosen, items, metric=metric, queries=queries, top=top))
    )


def is_of_backbone(run: Run, backbones: set[str]) -> bool:
    """Whether a run is of one of the backbones; so is one of which that can't be read, for the report to name it."""
    found = run.record["backbones"]
    return not isinstance(found, list) or bool(backbones & set(map(str, found)))
