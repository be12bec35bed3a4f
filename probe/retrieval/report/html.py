"""`bb report retrieval --html`: scores, and the worst queries with what they got, as one file that works offline."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any

from bb.probe.report.formats.html_frame import frame, text
from bb.probe.retrieval.paired_tests import Behind, Estimate
from bb.probe.retrieval.report.thumbnail import Thumbnail
from bb.probe.retrieval.report.worst_queries import Answer, Kind

DASH = "\N{EN DASH}"
LEGEND: dict[Kind, str] = {
    "query": "query",
    "hit": "hit: the same label",
    "miss": "miss: another label",
    "missed": "missed: the same label, but not among these",
}


@dataclass(frozen=True)
class Sheet:
    """What is told of one feature space.

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
    scores: Mapping[str, Estimate]
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


def page(sheets: Sequence[Sheet], labels: str, thumbnails: Mapping[str, Thumbnail]) -> str:
    """The whole file. Each picture is in it once, as a symbol, whatever the number of places that show it.

    labels      what the labels are called
    thumbnails  by image ID, as far as they are at hand
    """
    style = files("bb.probe.retrieval.report").joinpath("page.css").read_text(encoding="utf-8")
    nav = "".join(f'<a href="#s{place}">{text(sheet.name)}</a>' for place, sheet in enumerate(sheets))
    shown = set().union(*map(image_ids, sheets))
    symbols = {image_id: f"p{place}" for place, image_id in enumerate(sorted(shown & thumbnails.keys()))}
    pictures = "".join(_symbol(symbols[image_id], thumbnails[image_id]) for image_id in symbols)
    body = [
        f'<svg class="pictures" width="0" height="0" aria-hidden="true">{pictures}</svg>',
        _scores(sheets),
        *(_sheet(place, sheet, symbols) for place, sheet in enumerate(sheets)),
    ]
    return frame(f"Retrieval on {labels}", nav=nav, body="\n".join(body), filtered="queries", style=style)


def image_ids(sheet: Sheet) -> set[str]:
    """The images that are shown."""
    queries = {answer.image_id for answer in sheet.answers}
    return queries | {each.image_id for answer in sheet.answers for each in answer.shown}


def _symbol(name: str, picture: Thumbnail) -> str:
    return f'<symbol id="{name}" viewBox="0 0 {picture.width} {picture.height}">{picture.svg()}</symbol>'


def _scores(sheets: Sequence[Sheet]) -> str:
    metrics = list(sheets[0].scores)
    heads = "".join(_head(metric, "number") for metric in metrics)
    best = {metric: max(sheet.scores[metric].mean for sheet in sheets) for metric in metrics}
    rows = "".join(
        f'<tr><th scope="row" data-value="{text(sheet.name)}"><a href="#s{place}">{text(sheet.name)}</a></th>'
        + "".join(_score(sheet.scores[metric], best[metric]) for metric in metrics)
        + _behind(sheet.behind)
        + "</tr>"
        for place, sheet in enumerate(sheets)
    )
    heads += _head("less the first", "number")
    return (
        f'<section class="card"><h2 id="scores">Scores</h2><p>Means over queries; {text(sheets[0].claim)}. '
        f"The best of each metric is bold. Less the first is the difference in {text(sheets[0].metric)} from the first "
        "row; its p is corrected by Holm for the number of rows.</p>"
        '<div class="wide" tabindex="0" role="region" '
        'aria-labelledby="scores"><table class="board sortable"><caption class="unseen">Scores of each backbone.'
        f"</caption><thead><tr>{_head('backbone', 'text')}{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
        "</section>"
    )


def _head(words: str, kind: str) -> str:
    return f'<th scope="col" aria-sort="none" data-kind="{kind}"><button type="button">{text(words)}</button></th>'


def _score(score: Estimate, best: float) -> str:
    shown = f"<b>{score.mean:.3f}</b>" if score.mean == best else f"{score.mean:.3f}"
    bounds = "" if score.low is None else f"{score.low:.3f}{DASH}{score.high:.3f}"
    return f'<td data-value="{score.mean!r}">{shown}<span class="small">{bounds}</span></td>'


def _behind(behind: Behind | None) -> str:
    if behind is None:
        return f'<td data-value="0">{DASH}</td>'
    d = behind.difference
    bounds = "" if behind.p is None else f"{d.low:+.3f} to {d.high:+.3f}, p = {behind.p:.4f}"
    return f'<td data-value="{d.mean!r}">{d.mean:+.3f}<span class="small">{bounds}</span></td>'


def _sheet(place: int, sheet: Sheet, symbols: Mapping[str, str]) -> str:
    legend = "".join(f'<span class="{kind}">{words}</span>' for kind, words in LEGEND.items())
    answers = "".join(_answer(answer, sheet.metric, symbols) for answer in sheet.answers)
    return "\n".join(
        [
            f'<section class="main" id="s{place}" aria-labelledby="s{place}-title">',
            f'<h2 id="s{place}-title" tabindex="-1">{text(sheet.name)}</h2>',
            f'<p class="facts">{text(sheet.facts)}; feature space <code>{text(sheet.space[:12])}</code></p>',
            _categories(sheet),
            f'<section class="card"><h3>Worst queries</h3><p>Those of the lowest {text(sheet.metric)}, the worst '
            f'first, with what is nearest to them.</p><p class="legend">{legend}</p>',
            f'<ol class="answers">{answers}</ol></section>',
            "</section>",
        ]
    )


def _categories(sheet: Sheet) -> str:
    if not sheet.categories:
        return ""
    metrics = list(sheet.scores)
    rows = "".join(
        f'<tr><th scope="row" data-value="{text(name)}">{text(name or "(none)")}</th>'
        + "".join(
            f'<td class="number" data-value="">{DASH}</td>'
            if math.isnan(means[metric])
            else f'<td class="number" data-value="{means[metric]!r}">{means[metric]:.3f}</td>'
            for metric in metrics
        )
        + "</tr>"
        for name, means in sheet.categories.items()
    )
    heads = "".join(_head(metric, "number") for metric in metrics)
    return (
        '<section class="card"><h3>Categories</h3><div class="wide"><table class="sortable">'
        f"<caption>Means over the queries of each category.</caption><thead><tr>{_head('category', 'text')}{heads}"
        f"</tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def _answer(answer: Answer, metric: str, symbols: Mapping[str, str]) -> str:
    tiles = [_tile("query", "query", answer.image_id, answer.label, answer.category, symbols)]
    for each in answer.shown:
        said = "" if each.distance is None else f"distance {each.distance:.4g}"
        title = f"{each.rank} {each.kind}" if each.rank else each.kind
        tiles.append(_tile(each.kind, title, each.image_id, each.label, said, symbols))
    label = text(f"{answer.image_id} {answer.label} {answer.category}")
    missed = sum(each.kind == "missed" for each in answer.shown)
    more = f", of which {missed} are shown" if missed < answer.missed else ""
    return (
        f'<li data-label="{label}"><h4>{text(answer.label)}: {text(metric)} {answer.score:.3f}; {answer.missed} of '
        f'{answer.relevant} missed{more}</h4><ul class="tiles">{"".join(tiles)}</ul></li>'
    )


def _tile(kind: Kind, title: str, image_id: str, label: str, said: str, symbols: Mapping[str, str]) -> str:
    picture = ""
    if (name := symbols.get(image_id)) is not None:
        words = text(f"{title}: {label}")
        picture = f'<svg class="picture" role="img" aria-label="{words}"><use href="#{name}"/></svg>'
    small = f'<span class="small">{text(said)}</span>' if said else ""
    return f'<li class="{kind}"><b>{text(title)}</b>{picture}{text(label)}{small}<code>{text(image_id)}</code></li>'
