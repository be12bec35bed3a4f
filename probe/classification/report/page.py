"""`bb report classify --html`: scores, confusion, confused pairs and classes, in one file that works offline.

Pictures are SVG that follows the page's colours, light and dark. Every string goes through `text`.
"""

from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np
from jaxtyping import Int

from bb.probe.classification.board import Board, Row, SplitDifference, details, split_differences
from bb.probe.classification.comparisons.headline import Headline, headlines
from bb.probe.classification.comparisons.methods import bibtex, methods
from bb.probe.classification.comparisons.reference import Comparison
from bb.probe.classification.report import confusion
from bb.probe.classification.report.curves import learning_curves, most_reliable_first
from bb.probe.classification.report.figures import curves_picture, key_of, reliability_picture
from bb.probe.classification.report.findings import findings
from bb.probe.classification.report.hard_images import Hard, best_of_each, groups_of, hardest
from bb.probe.report.formats.bars import bar, bar_key
from bb.probe.report.formats.html_frame import answers, breakable, frame, head, text, wide
from bb.probe.report.formats.svg_cost import Spot, axis_of, cost_picture, cost_words
from bb.probe.report.formats.svg_parts import Picture, distinct
from bb.probe.retrieval.report.thumbnail import Thumbnail
from bb.probe.statistics.multiclass.by_class import OfClass

SHOWN = {
    "classes": ("accuracy", "balanced_accuracy", "macro_f1@wilds", "macro_f1@biobench", "top_5", "ece", "nll"),
    "traits": ("macro_f1", "mean_ap", "exact_match"),
    "values": ("r2", "mae", "rmse", "spearman"),
}
GROUPS = 100  # of a table, the worst first
MARKER = '<svg viewBox="0 0 12 12" aria-hidden="true">'


def page(boards: Sequence[Board], thumbnails: Mapping[str, Thumbnail], reference: Sequence[Comparison] = ()) -> str:
    """The whole file. thumbnails: small pictures of wrongly classified images, by image ID. reference: published scores
    next to ours. Of a protocol that draws the test images only the boards of its first seed are drawn.
    """
    means = _means([each for each in headlines(boards) if len(each.asked) > 1])
    boards = _first_draws(boards)
    nav = "".join(f'<a href="#board-{i}">{text(board.title)}</a>' for i, board in enumerate(boards))
    nav = ('<a href="#means">Means over seeds</a>' if means else "") + nav
    nav = ('<a href="#reference">Published scores</a>' if reference else "") + nav
    body = _published(reference) + means + "".join(_board(board, i, thumbnails) for i, board in enumerate(boards))
    runs = {row.run.run_id: row.run for board in boards for row in board.rows}
    splits = _splits(split_differences(list(runs.values())))
    title = f"bb: {', '.join(dict.fromkeys(board.tasks for board in boards))}"
    style = files("bb.probe.classification.report").joinpath("page.css").read_text(encoding="utf-8")
    return frame(title, nav=nav, body=body + splits, filtered="backbones", style=style)


def _first_draws(boards: Sequence[Board]) -> list[Board]:
    """Those whose test images a protocol drew only with their lowest seed; all others as they are."""

    def drawn(board: Board) -> tuple[object, ...]:
        record = board.rows[0].run.record
        return board.tasks, board.task, board.protocol, board.train_pool, record["n_train"]

    seed = {id(board): int(board.rows[0].run.record["seed"]) for board in boards}
    lowest: dict[tuple[object, ...], int] = {}
    for board in boards:
        lowest[drawn(board)] = min(seed[id(board)], lowest.get(drawn(board), seed[id(board)]))
    return [board for board in boards if board.split_by != "protocol" or seed[id(board)] == lowest[drawn(board)]]


def _means(found: Sequence[Headline]) -> str:
    """Of protocols with several seeds their headline."""
    rows = [
        [h.board.tasks, h.board.protocol, h.backbone, h.classifier, str(h.shots), h.metric, f"{h.value:.4f}",
         f"{h.sd:.4f}", h.seeds_text]
        for h in found
    ]  # fmt: skip
    columns = ("table", "protocol", "backbone", "classifier", "shots", "metric", "mean", "sd", "seeds")
    words = "The mean over each protocol's seeds. sd is over its draws of training images, not over further images."
    return _section("means", "Means over seeds", words, columns, rows) if rows else ""


def _published(found: Sequence[Comparison]) -> str:
    """Published scores, each with why it does not compare."""
    rows = [
        [c.ours.board.tasks, c.ours.board.protocol, c.ours.backbone, c.ours.classifier, str(c.ours.shots),
         c.ours.metric, f"{c.ours.value:.4f}", f"{c.theirs.score:.4f}",
         f"{'~' if c.obstacles else ''}{c.difference:+.4f}", "; ".join(c.obstacles)]
        for c in found
    ]  # fmt: skip
    columns = ("table", "protocol", "backbone", "classifier", "shots", "metric", "ours", "published", "difference",
            "why it does not compare")  # fmt: skip
    words = "Ours are means over seeds. A difference with ~ does not compare, for the reasons in its row."
    return _section("reference", "Published scores", words, columns, rows) if rows else ""


def _section(name: str, title: str, words: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = "".join(
        f'<tr data-label="{text(row[2])}">{"".join(f"<td>{text(cell)}</td>" for cell in row)}</tr>' for row in rows
    )
    return (
        f'<section><h2 id="{name}" tabindex="-1">{title}</h2><div class="card"><p>{words}</p><div class="wide"><table>'
        f"<thead><tr>{''.join(f'<th>{column}</th>' for column in columns)}</tr></thead><tbody>{cells}</tbody></table>"
        "</div></div></section>"
    )


def shown_images(boards: Sequence[Board]) -> dict[str, list[str]]:
    """Of each collection the images that the page shows, if they are at hand: of confused classes, and the hardest."""
    found: dict[str, list[str]] = {}
    for board in boards:
        record = board.rows[0].run.record
        ids = found.setdefault(f"{record['collection_name']}@{record['collection']}", [])
        ids += [image_id for _, pair in _pairs(board) for image_id in pair]
        ids += [hard.image_id for hard in hardest(board)]
    return found


def _board(board: Board, number: int, thumbnails: Mapping[str, Thumbnail]) -> str:
    parts = [
        f'<section><h2 id="board-{number}" tabindex="-1">{text(board.title)}</h2>',
        f'<p class="facts">{text(_facts(board))}</p>',
        _card("In short", text(" ".join(findings(board)))),
        _scores(board),
        _cost(board),
        _learning(board),
        _reliability(board),
    ]
    found = details(board, board.rows[0])
    if found:
        classes, _, answers = found
        best = f"{board.rows[0].name}, {board.rows[0].classifier}"
        parts += [
            _confusion(board, number, answers.confusion, best),
            _confused(board, thumbnails, best),
            _hardest(board, thumbnails),
            _classes(board, classes, best),
            _groups(board, best),
        ]
    if board.notes:
        notes = "".join(f"<li>{text(note)}</li>" for note in board.notes)
        parts.append(f'<div class="card note"><h3>Notes</h3><ul>{notes}</ul></div>')
    parts.append(_methods(board))
    return "".join(parts) + "</section>"


def _card(title: str, words: str, inside: str = "") -> str:
    """words: HTML, as is what is inside."""
    return f'<div class="card"><h3>{title}</h3><p>{words}</p>{inside}</div>'


def _table(caption: str, heads: Sequence[str], rows: str, classes: str = "") -> str:
    """A table that scrolls by itself; heads are HTML."""
    return wide(
        f'<table class="{classes}"><caption class="unseen">{text(caption)}</caption><thead><tr>{"".join(heads)}</tr>'
        f"</thead><tbody>{rows}</tbody></table>",
        caption,
    )


def _methods(board: Board) -> str:
    entries = f"<details><summary>BibTeX</summary><pre>{text(bibtex(board))}</pre></details>"
    words = "For a paper; check it against what you did."
    return _card("Methods", words, f'<p class="paste">{text(methods(board))}</p>{entries}')


def _facts(board: Board) -> str:
    main = board.rows[0].metrics[board.metric]
    words = [f"95 % intervals, of {main['claim']}." if main["low"] is not None else f"No interval: {main['reason']}."]
    if board.chance is not None and board.majority is not None:
        words.append(
            f"Guessing scores {board.chance:.3f}; naming the commonest class always, an accuracy of "
            f"{board.majority:.3f}."
        )
    return " ".join(words)


def _scores(board: Board) -> str:
    """The leaderboard: a dot for the score, a band for its interval, dashed lines for what guessing scores."""
    names = [metric for metric in SHOWN[board.target] if any(metric in row.metrics for row in board.rows)]
    names.sort(key=lambda metric: metric != board.metric)
    heads = [head("run", kind="text")]
    heads += [head(metric, "descending" if metric == board.metric else "none") for metric in names]
    heads.append(head("cost of an image"))
    rows = []
    for row in board.rows:
        cells = "".join(_score(row.metrics.get(metric), board, metric) for metric in names)
        size = "".join(f'<span class="small">{text(line)}</span>' for line in row.cost.words())
        rows.append(
            f'<tr data-label="{text(row.name)} {text(row.classifier)}"><th scope="row" '
            f'data-value="{text(row.name)}">{breakable(row.name)}<span class="small">{text(row.classifier)}, '
            f"shots {text(row.shots)}, seed {text(row.run.record['seed'])}</span>{_standing(row)}</th>"
            f'{cells}<td class="cost" data-value="{row.cost.parameters or ""}">{size}</td></tr>'
        )
    words = "Each run is compared with the best alone. " if len(board.rows) > 1 else ""
    if any(row.group for row in board.rows):
        words = (
            "Runs that share a letter can't be told apart: the interval of their difference holds 0. Ranks are those "
            "that these intervals leave; all hold together (Bonferroni)."
        )
    table = _table(f"Scores on {board.title}", heads, "".join(rows), "board sortable")
    return _card("Scores", words, bar_key(board.guesses) + table)


def _standing(row: Row) -> str:
    lines = ["best" if row.best else "not distinguishable from the best" if row.tied else ""]
    if row.ranks:
        low, high = row.ranks
        lines.append(f"rank {low}{f' to {high}' if high > low else ''}, group {row.group}")
    return "".join(f'<span class="small{" yes" * row.best}">{text(line)}</span>' for line in lines if line)


def _score(found: Mapping[str, Any] | None, board: Board, metric: str) -> str:
    if not found or found["value"] is None:
        return '<td data-value="">\N{EN DASH}</td>'
    value, low, high = (found[key] for key in ("value", "low", "high"))
    drawn = bounds = ""
    if low is None:
        bounds = f'<span class="small" title="{text(found["reason"])}">no interval</span>'
    else:
        bounds = f'<span class="small">{low:.3f} to {high:.3f}</span>'
        if 0 <= low <= high <= 1:
            drawn = bar(value, (low, high), (0.0, 1.0), board.guesses if metric == board.metric else ())
    return f'<td data-value="{value!r}">{drawn}<b>{value:.3f}</b>{bounds}</td>'


def _cost(board: Board) -> str:
    """Scores over cost, of each backbone's best run; nothing where fewer than two have a size on record."""
    spots = [
        Spot(row.name, found["value"], None if found["low"] is None else (found["low"], found["high"]), row.cost)
        for row in best_of_each(board)
        if (found := row.metrics[board.metric])["value"] is not None
    ]
    axis = axis_of(spots)
    if axis is None:
        return ""
    drawn = _figure(cost_picture(spots, axis, board.metric, board.guesses), f"{board.metric} over cost", "figure")
    words = cost_words(spots, axis, "the score of each backbone's best run")
    return _card("Score and cost", text(words), wide(drawn, "Scores over cost"))


def _learning(board: Board) -> str:
    """Scores over shots; nothing where all runs have one number of them."""
    curves = learning_curves(board)
    if len({point.shots for curve in curves for point in curve.points}) < 2:
        return ""
    words = f"{board.metric} over the training images of each class; bands are 95 % intervals."
    if any(point.seeds > 1 for curve in curves for point in curve.points):
        words += " A point of several seeds is their mean, and its band the mean of their intervals."
    drawn = _figure(curves_picture(curves, board.metric, board.guesses), f"learning curves of {board.metric}", "figure")
    key = "".join(f"<li>{MARKER}{shape}</svg> {text(label)}</li>" for shape, label in key_of(curves))
    return _card("Learning curves", text(words), f'<ul class="key narrow">{key}</ul>{wide(drawn, "Learning curves")}')


def _reliability(board: Board) -> str:
    """How often a confidence is right; nothing where no run gives probabilities."""
    found = most_reliable_first(board)
    if found is None:
        return ""
    row, bins = found
    ece = row.metrics["ece"]["value"]
    words = (
        f"{row.name}, {row.classifier}, shots {row.shots}: a point for the images of about the same "
        "confidence. On the dotted line they are right as often as the classifier says; below it, less often. The bars "
        f"below count the images. The mean distance to the line is an ECE of {ece:.3f}."
    )
    if any(bin_.interval is None for bin_ in bins):
        words += " Points without a whisker have no interval: their images are in groups, or fewer than 8."
    return _card("Reliability", text(words), _figure(reliability_picture(bins), "reliability diagram", "figure square"))


def _figure(picture: Picture, label: str, classes: str, *, fixed: bool = False) -> str:
    """fixed: as large as it is drawn, whatever the page's width."""
    inside, width, height = picture
    box = f'viewBox="0 0 {width:g} {height:g}"' + (f' width="{width:g}" height="{height:g}"' if fixed else "")
    return f'<svg class="{classes}" {box} role="group" aria-label="{text(label)}">{inside}</svg>'


def _confusion(board: Board, number: int, counts: Int[np.ndarray, "k k"], best: str) -> str:
    """The whole matrix; of many classes those most confused, and the others in parts."""
    words = (
        f"{text(best)}. A row for each true class, a column for each predicted one, in the same order: similar classes "
        "stand together. The stronger a cell, the larger its share of the row."
    )
    key = "".join(
        f'<li>{MARKER}<circle class="{kind}" cx="6" cy="6" r="6"/></svg> {kind}</li>' for kind in ("right", "wrong")
    )
    many = len(counts) > confusion.LARGEST
    order = confusion.most_confused(counts) if many else confusion.similar(counts)
    picture = confusion.named_picture(counts, order, board.classes)
    drawn = wide(_figure(picture, "confusion matrix", "confusion", fixed=True), "Confusion matrix")
    if many:
        words += f" Of {len(counts)} classes the {confusion.LARGEST} that are confused most are drawn with their names."
        drawn += _parts(board, number, counts)
    return _card("Confusion", words, f'<ul class="key confusion">{key}</ul>{drawn}')


def _parts(board: Board, number: int, counts: Int[np.ndarray, "k k"]) -> str:
    """All classes as shades, and their parts, each with its names."""
    key = f"board-{number}-part"
    parts = confusion.parts_of(counts, confusion.similar(counts))
    whole = _figure(confusion.whole_picture(counts, parts, key), "confusion matrix of all classes", "confusion whole")
    drawn = []
    for place, part in enumerate(parts):
        picture = confusion.named_picture(counts, part.classes, board.classes)
        first, last = distinct([board.classes[part.classes[k]] for k in (0, -1)], 32)
        words = f"Part {place + 1}: {len(part.classes)} classes, {text(first)} to {text(last)}"
        words += f"; {part.leaving} images taken for classes of other parts" if part.leaving else ""
        figure = wide(_figure(picture, f"confusion matrix, part {place + 1}", "confusion", fixed=True), "Part")
        drawn.append(f'<details><summary id="{key}-{place}">{words}</summary>{figure}</details>')
    return f"<p>All classes: a square leads to a part with its names.</p>{whole}{''.join(drawn)}"


def _pairs(board: Board) -> Iterator[tuple[Any, list[str]]]:
    """The most confused pairs of the best run, each with an image that was confused and one of the other class."""
    row: Row = board.rows[0]
    found = details(board, row)
    if not found:
        return
    table = row.run.predictions(["task", "cluster", "image_id", "y_true", "y_pred"])
    here = table.filter((table["task"] == board.task) & (table["cluster"] == board.side)).sort("image_id")
    for pair in found[1]:
        answered = here.filter(here["y_pred"] == pair.predicted)
        sides = [answered.filter(answered["y_true"] == k)["image_id"].head(1) for k in (pair.true, pair.predicted)]
        yield pair, [image_id for side in sides for image_id in side.to_list()]


def _confused(board: Board, thumbnails: Mapping[str, Thumbnail], best: str) -> str:
    rows = []
    for pair, image_ids in _pairs(board):
        pictures = "".join(
            f"<figure>{_picture(thumbnails.get(i))}<figcaption>{text(i)}</figcaption></figure>" for i in image_ids
        )
        rows.append(
            f'<tr><th scope="row">{text(board.classes[pair.true])}</th><td>{text(board.classes[pair.predicted])}</td>'
            f'<td class="number">{pair.n}</td><td class="number">{pair.share:.1%}</td><td><div class="pair">{pictures}'
            "</div></td></tr>"
        )
    if not rows:
        return ""
    heads = [_head(each) for each in ("images of", "taken for", "images", "share of the class", "such as")]
    words = f"{text(best)}. Side by side: an image that was confused, and one of the other class that was right."
    return _card("Most confused", words, _table("Most confused classes", heads, "".join(rows)))


def _head(words: str) -> str:
    return f'<th scope="col">{words}</th>'


def _picture(thumbnail: Thumbnail | None) -> str:
    if thumbnail is None:
        return ""
    size = f"0 0 {thumbnail.width} {thumbnail.height}"
    return f'<svg class="picture" viewBox="{size}" aria-hidden="true">{thumbnail.svg()}</svg>'


def _hardest(board: Board, thumbnails: Mapping[str, Thumbnail]) -> str:
    found = hardest(board)
    if not found:
        return ""
    shown = "".join(
        f"<li>{_picture(thumbnails.get(hard.image_id))}<b>{100 * hard.wrong:.0f}% wrong</b>, "
        f"{text(board.classes[hard.true])}<br><code>{text(hard.image_id)}</code>{_said(board, hard)}</li>"
        for hard in found
    )
    words = "Images that the best runs of most backbones get wrong, and what each backbone said."
    return _card("Hardest images", words, f'<ol class="hard">{shown}</ol>')


def _said(board: Board, hard: Hard) -> str:
    """Which backbones named which class, the class that most named first."""
    by_class: dict[int, list[str]] = {}
    for backbone, predicted in hard.said.items():
        by_class.setdefault(predicted, []).append(backbone)
    order = sorted(by_class.items(), key=lambda item: -len(item[1]))
    right = {hard.true: " (right)"}
    return answers([(f"{board.classes[k]}{right.get(k, '')}", names) for k, names in order])


def _classes(board: Board, classes: Sequence[OfClass], best: str) -> str:
    rows = "".join(
        f'<tr><th scope="row" data-value="{text(board.classes[c.label])}">{text(board.classes[c.label])}</th>'
        f'<td class="number" data-value="{c.n}">{c.n}</td><td class="number" data-value="{c.predicted}">{c.predicted}'
        "</td>"
        + "".join(
            _bounded(value, bounds)
            for value, bounds in (
                (c.recall, c.recall_interval), (c.precision, c.precision_interval), (c.f1, c.f1_interval),
            )
        )
        + "</tr>"
        for c in classes
    )  # fmt: skip
    heads = [head("class", kind="text"), *map(head, ("images", "predicted", "recall", "precision", "F1"))]
    words = f"{text(best)}. Intervals are of each class alone."
    return _card("Classes", words, _table("Scores of each class", heads, rows, "sortable"))


def _bounded(value: float, bounds: tuple[float, float] | None) -> str:
    if np.isnan(value):
        return '<td data-value="">\N{EN DASH}</td>'
    words = f"{bounds[0]:.2f} to {bounds[1]:.2f}" if bounds else "no interval"
    return (
        f'<td data-value="{value!r}">{bar(value, bounds, (0.0, 1.0))}{value:.3f}<span class="small">{words}</span></td>'
    )


def _groups(board: Board, best: str) -> str:
    found = groups_of(board, board.rows[0])
    if not found:
        return ""
    shares = np.array([each.right / each.n for each in found])
    low, middle, high = np.quantile(shares, [0.25, 0.5, 0.75])
    words = (
        f"{text(best)}. Half of the {len(found)} groups have an accuracy of {low:.3f} to {high:.3f}, with a median of "
        f"{middle:.3f}. Images of a group are not independent, so a group has no interval."
    )
    words += f" The {GROUPS} worst are shown." if len(found) > GROUPS else ""
    rows = "".join(
        f'<tr><th scope="row" data-value="{text(each.name)}">{text(each.name)}</th><td class="number" '
        f'data-value="{each.n}">{each.n}</td><td data-value="{each.right / each.n!r}">'
        f"{bar(each.right / each.n, None, (0.0, 1.0))}{each.right / each.n:.3f}</td></tr>"
        for each in found[:GROUPS]
    )
    heads = [head("group", kind="text"), head("images"), head("accuracy", "ascending")]
    return _card("Groups", words, _table("Accuracy in each group", heads, rows, "sortable"))


def _splits(found: Sequence[SplitDifference]) -> str:
    """How much higher scores are where the split is drawn at random; nothing where there is one way of splitting."""
    if not found:
        return ""
    bounds = [bound for each in found for bound in (each.difference.value, *(each.difference.interval or ()))]
    ends = min(0.0, *bounds), max(0.0, *bounds)
    rows = []
    for each in found:
        low_high = each.difference.interval
        words = f"{low_high[0]:+.3f} to {low_high[1]:+.3f}" if low_high else "no interval"
        rows.append(
            f'<tr data-label="{text(each.name)}"><th scope="row">{breakable(each.name)}<span class="small">'
            f"{text(each.classifier)}, shots {text(each.shots)}</span></th><td>{text(each.task)}</td><td>random less "
            f"{text(each.split_by)}</td><td>{bar(each.difference.value, low_high, ends, [('no difference', 0.0)])}"
            f'{each.difference.value:+.3f}<span class="small">{words}</span></td></tr>'
        )
    heads = [_head(each) for each in ("run", "task", "splits", "difference")]
    words = (
        "How much higher a score is where images are split at random than where groups, or times, are kept apart: what "
        "a classifier owes to the same site, animal or day on both sides."
    )
    table = _table("Differences between ways of splitting", heads, "".join(rows), "board")
    return f"<section>{_card('Ways of splitting', words, bar_key([('no difference', 0.0)]) + table)}</section>"
