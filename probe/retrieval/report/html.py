"""`bb report retrieval --html`: scores, and the worst queries with what they got, as one file that works offline."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bb.probe.features.extraction import Cost
from bb.probe.report.formats.templates import render
from bb.probe.retrieval.report.findings import leader
from bb.probe.retrieval.report.methods import bibtex, methods
from bb.probe.retrieval.report.thumbnail import Thumbnail
from bb.probe.retrieval.report.worst_queries import Answer, Kind
from bb.probe.retrieval.statistics.paired_tests import Behind, QueryEstimate
from bb.store.local.runs import Run

LEGEND: dict[Kind, str] = {
    "query": "query",
    "hit": "hit: the same label",
    "miss": "miss: another label",
    "missed": "missed: the same label, but not among these",
}


@dataclass(frozen=True)
class Sheet:
    """What is reported of one feature space.

    name        of the backbone
    space       key of the feature space
    facts       what was searched, in words
    scores      by metric, over all queries
    categories  mean score by category and metric; empty where there are none
    metric      that the sheets are ordered and the worst queries chosen by
    answers     these queries, the worst first
    behind      how far it is behind the first sheet in that metric; None of the first
    claim       what the intervals are for, or why there are none
    """

    name: str
    space: str
    facts: str
    scores: Mapping[str, QueryEstimate]
    categories: Mapping[str, Mapping[str, float]]
    metric: str
    answers: tuple[Answer, ...]
    behind: Behind | None = None
    claim: str = ""

    def record(self) -> dict[str, Any]:
        """All of it for JSON, with None for a mean that there is not."""
        means = {
            category: {metric: None if math.isnan(mean) else mean for metric, mean in found.items()}
            for category, found in self.categories.items()
        }
        return {**asdict(self), "categories": means}


def page(sheets: Sequence[Sheet], labels: str, thumbnails: Mapping[str, Thumbnail], runs: Sequence[Run] = ()) -> str:
    """The whole file. Each picture is in it once, as a symbol, whatever the number of places that show it.

    labels      what the labels are called
    thumbnails  by image ID, as far as they are available
    runs        that the sheets are of; without them there are no methods
    """
    shown = set().union(*map(image_ids, sheets))
    best = {metric: max(sheet.scores[metric].mean for sheet in sheets) for metric in sheets[0].scores}
    symbols = {image_id: f"p{place}" for place, image_id in enumerate(sorted(shown & thumbnails.keys()))}
    return render(
        "retrieval/report/page.html",
        title=f"Retrieval on {labels}",
        filtered="queries",
        findings=_findings(sheets),
        costs=_costs(sheets, runs),
        methods=methods(runs, sheets[0].metric, sheets[0].claim) if runs else "",
        bibtex=bibtex(runs) if runs else "",
        sheets=sheets,
        best=best,
        symbols=symbols,
        thumbnails=thumbnails,
        legend=LEGEND,
    )


def _costs(sheets: Sequence[Sheet], runs: Sequence[Run]) -> dict[str, Cost]:
    """What an image costs by each sheet's backbone; empty where no run records it."""
    by_space = {str(run.record["space"]): Cost.of(run.record) for run in runs}
    costs = {sheet.name: by_space.get(sheet.space, Cost()) for sheet in sheets}
    return costs if any(cost != Cost() for cost in costs.values()) else {}


def _findings(sheets: Sequence[Sheet]) -> str:
    first, *others = sheets
    scores = [sheet.scores[first.metric] for sheet in sheets]
    p = [sheet.behind.p if sheet.behind else None for sheet in others]
    return leader([sheet.name for sheet in sheets], scores, p, first.metric, first.claim)


def image_ids(sheet: Sheet) -> set[str]:
    """The images that are shown."""
    queries = {answer.image_id for answer in sheet.answers}
    return queries | {each.image_id for answer in sheet.answers for each in answer.shown}
