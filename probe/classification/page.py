"""`bb report classify --html`: scores, confusion, confused pairs and classes, in one file that works offline.

Pictures are SVG that follows the page's colours, light and dark. Every string goes through `text`.
"""

from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np
from jaxtyping import Int

from bb.probe.classification.board import Board, Row, details
from bb.probe.classification.curves import learning_curves, most_reliable_first
from bb.probe.classification.figures import curves_picture, key_of, reliability_picture
from bb.probe.report.formats.html_frame import frame, text
from bb.probe.report.formats.svg_parts import Picture
from bb.probe.retrieval.report.thumbnail import Thumbnail
from bb.probe.statistics.multiclass.by_class import OfClass

SHOWN = {
    "classes": ("accuracy", "balanced_accuracy", "macro_f1@wilds", "macro_f1@biobench", "top_5", "ece", "nll"),
    "traits": ("macro_f1", "mean_ap", "exact_match"),
    "values": ("r2", "mae", "rmse", "spearman"),
}
LARGEST = 60  # classes of a confusion matrix; of more only those most confused are drawn
SIDE = 14  # pixels of a cell of it


def page(boards: Sequence[Board], thumbnails: Mapping[str, Thumbnail]) -> str:
    """The whole file. thumbnails: small pictures of wrongly classified images, by image ID."""
    nav = "".join(f'<a href="#board-{i}">{text(board.title)}</a>' for i, board in enumerate(boards))
    body = "".join(_board(board, i, thumbnails) for i, board in enumerate(boards))
    title = f"bb: {', '.join(dict.fromkeys(board.tasks for board in boards))}"
    style = files("bb.probe.classification").joinpath("page.css").read_text(encoding="utf-8")
    return frame(title, nav=nav, body=body, filtered="backbones", style=style)


def shown_images(boards: Sequence[Board]) -> dict[str, list[str]]:
    """Of each collection the images that the page shows, if they are at hand: two of each pair of confused classes."""
    found: dict[str, list[str]] = {}
    for board in boards:
        record = board.rows[0].run.record
        name = f"{record['collection_name']}@{record['collection']}"
        found.setdefault(name, []).extend(image_id for _, ids in _pairs(board) for image_id in ids)
    return found


def _board(board: Board, number: int, thumbnails: Mapping[str, Thumbnail]) -> str:
    parts = [
        f'<section><h2 id="board-{number}" tabindex="-1">{text(board.title)}</h2>',
        f'<p class="facts">{text(_facts(board))}</p>',
        _scores(board),
        _learning(board),
        _reliability(board),
    ]
    found = details(board, board.rows[0])
    if found:
        classes, _, answers = found
        best = f"{board.rows[0].name}, {board.rows[0].classifier}"
        parts += [
            _confusion(board, answers.confusion, best),
            _confused(board, thumbnails, best),
            _classes(board, classes, best),
        ]
    if board.notes:
        notes = "".join(f"<li>{text(note)}</li>" for note in board.notes)
        parts.append(f'<div class="card note"><h3>Notes</h3><ul>{notes}</ul></div>')
    return "".join(parts) + "</section>"


def _facts(board: Board) -> str:
    main = board.rows[0].metrics[board.metric]
    words = [f"95 % intervals, of {main['claim']}." if main["low"] is not None else f"No interval: {main['reason']}."]
    if board.chance is not None and board.majority is not None:
        words.append(
            f"Guessing scores {board.chance:.3f}; naming the commonest class always, an accuracy of "
            f"{board.majority:.3f}."
        )
    tied = sum(bool(row.tied) for row in board.rows)
    if len(board.rows) > 1:
        words.append(
            f"{tied} of the others are not distinguishable from the best." if tied
            else "The best is better than all others." if all(row.tied is False for row in board.rows[1:]) else ""
        )  # fmt: skip
    return " ".join(filter(None, words))


def _scores(board: Board) -> str:
    """The leaderboard: a dot for the score, a band for its interval, a dashed line for chance."""
    names = [name for name in SHOWN[board.target] if any(name in row.metrics for row in board.rows)]
    names.sort(key=lambda name: name != board.metric)
    head = "".join(f"<th>{text(name)}</th>" for name in names)
    rows = []
    for row in board.rows:
        place = "best" if row.best else "not distinguishable from the best" if row.tied else ""
        cells = "".join(f"<td>{_score(row.metrics.get(name), board, name)}</td>" for name in names)
        label = f"{row.name} {row.classifier}"
        rows.append(
            f'<tr data-label="{text(label)}"><th scope="row">{text(row.name)}<span class="small">'
            f"{text(row.classifier)}, shots {text(row.shots)}, seed "
            f'{text(row.run.record["seed"])}</span><span class="small yes">{text(place)}</span></th>{cells}</tr>'
        )
    return (
        '<div class="card"><h3>Scores</h3><p>The mark is the score, the band its interval; a dashed line is guessing.'
        f'</p><div class="wide"><table class="board"><thead><tr><th>backbone</th>{head}</tr></thead><tbody>'
        f"{''.join(rows)}</tbody></table></div></div>"
    )


def _score(found: Mapping[str, Any] | None, board: Board, name: str) -> str:
    if not found or found["value"] is None:
        return ""
    words = f"<b>{found['value']:.3f}</b>"
    if found["low"] is None:
        return f'{words}<span class="small" title="{text(found["reason"])}">no interval</span>'
    words += f'<span class="small">{found["low"]:.3f} to {found["high"]:.3f}</span>'
    if not 0 <= found["low"] <= found["high"] <= 1:
        return words
    low, high, value = (100 * found[key] for key in ("low", "high", "value"))
    chance = f'<line class="chance" x1="{100 * board.chance:.2f}" x2="{100 * board.chance:.2f}" y1="0" y2="7"/>' if (
        board.chance is not None and name == "accuracy") else ""  # fmt: skip
    return (
        f'<svg class="bar" viewBox="0 0 100 7" preserveAspectRatio="none" aria-hidden="true"><rect class="whole" '
        f'width="100" height="7"/><rect class="range" x="{low:.2f}" width="{high - low:.2f}" height="7"/>{chance}'
        f'<rect class="mark" x="{max(value - 0.6, 0):.2f}" width="1.2" height="7"/></svg>{words}'
    )


def _learning(board: Board) -> str:
    """Scores over shots; nothing where all runs have one number of them."""
    curves = learning_curves(board)
    if len({point.shots for curve in curves for point in curve.points}) < 2:
        return ""
    words = f"{board.metric} over the training images of each class; bands are 95 % intervals."
    if any(point.seeds > 1 for curve in curves for point in curve.points):
        words += " A point of several seeds is their mean, and its band the mean of their intervals."
    picture = curves_picture(curves, board.metric, board.chance if board.metric.endswith("accuracy") else None)
    drawn = _figure(picture, f"learning curves of {board.metric}", "figure")
    marker = '<svg viewBox="0 0 12 12" aria-hidden="true">'
    key = "".join(f"<li>{marker}{shape}</svg> {text(label)}</li>" for shape, label in key_of(curves))
    return (
        f'<div class="card"><h3>Learning curves</h3><p>{text(words)}</p><ul class="key narrow">{key}</ul>'
        f'<div class="wide">{drawn}</div></div>'
    )


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
    drawn = _figure(reliability_picture(bins), "reliability diagram", "figure square")
    return f'<div class="card"><h3>Reliability</h3><p>{text(words)}</p>{drawn}</div>'


def _figure(picture: Picture, label: str, classes: str) -> str:
    inside, width, height = picture
    box = f'viewBox="0 0 {width:g} {height:g}"'
    return f'<svg class="{classes}" {box} role="img" aria-label="{text(label)}">{inside}</svg>'


def _confusion(board: Board, counts: Int[np.ndarray, "k k"], best: str) -> str:
    """A cell for each class (row) and what its images were taken for (column), similar classes side by side."""
    drawn = np.arange(len(counts))
    note = ""
    if len(drawn) > LARGEST:
        wrong = counts - np.diag(np.diagonal(counts))
        drawn = np.sort(np.argsort(-(wrong.sum(axis=0) + wrong.sum(axis=1)), kind="stable")[:LARGEST])
        note = f" Of {len(counts)} classes the {LARGEST} that are confused most are drawn."
    order = drawn[_similar(counts[np.ix_(drawn, drawn)])]
    matrix = counts[np.ix_(order, order)]
    totals = np.maximum(counts[order].sum(axis=1, keepdims=True), 1)
    share, left, size = matrix / totals, 150, SIDE * len(order)
    cells = []
    for i, j in zip(*np.nonzero(matrix), strict=True):
        words = f"{board.classes[order[i]]} taken for {board.classes[order[j]]}: {matrix[i, j]} ({share[i, j]:.0%})"
        kind = "right" if i == j else "wrong"
        cells.append(
            f'<rect class="{kind}" x="{left + SIDE * j}" y="{SIDE * i}" width="{SIDE - 1}" height="{SIDE - 1}" '
            f'fill-opacity="{0.12 + 0.88 * share[i, j]:.2f}"><title>{text(words)}</title></rect>'
        )
    names = "".join(
        f'<text x="{left - 5}" y="{SIDE * i + 10}" text-anchor="end">{text(_cut(board.classes[k]))}</text>'
        for i, k in enumerate(order)
    )
    width, height = left + size + 2, size + 2
    return (
        f'<div class="card"><h3>Confusion</h3><p>{text(best)}. A row for each true class, a column for each predicted '
        "one, in the same order: similar classes stand together. The stronger a cell, the larger its share of the row."
        f'{text(note)}</p><div class="wide"><svg class="confusion" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="confusion matrix"><rect class="grid" x="{left}" y="0" '
        f'width="{size}" height="{size}"/>{"".join(cells)}{names}</svg></div></div>'
    )


def _similar(counts: Int[np.ndarray, "k k"]) -> Int[np.ndarray, " k"]:
    """An order in which classes that are confused stand together (average linkage, optimal leaves)."""
    if len(counts) < 3:
        return np.arange(len(counts))
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    apart = 1 - np.clip((share + share.T) / 2, 0, 1)
    np.fill_diagonal(apart, 0)
    return leaves_list(linkage(squareform(apart, checks=False), "average", optimal_ordering=True))


def _pairs(board: Board) -> Iterator[tuple[Any, list[str]]]:
    """The most confused pairs of the best run, each with up to two images that were confused."""
    row: Row = board.rows[0]
    found = details(board, row)
    if not found:
        return
    table = row.run.predictions(["task", "cluster", "image_id", "y_true", "y_pred"])
    here = table.filter((table["task"] == board.task) & (table["cluster"] == board.side)).sort("image_id")
    for pair in found[1]:
        mine = here.filter((here["y_true"] == pair.true) & (here["y_pred"] == pair.predicted))
        yield pair, mine["image_id"].head(2).to_list()


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
    return (
        f'<div class="card"><h3>Most confused</h3><p>{text(best)}.</p><div class="wide"><table><thead><tr><th>images of'
        "</th><th>taken for</th><th>images</th><th>share of the class</th><th>such as</th></tr></thead><tbody>"
        f"{''.join(rows)}</tbody></table></div></div>"
    )


def _picture(thumbnail: Thumbnail | None) -> str:
    if thumbnail is None:
        return ""
    size = f"0 0 {thumbnail.width} {thumbnail.height}"
    return f'<svg class="picture" viewBox="{size}" aria-hidden="true">{thumbnail.svg()}</svg>'


def _classes(board: Board, classes: Sequence[OfClass], best: str) -> str:
    rows = "".join(
        f'<tr><th scope="row">{text(board.classes[c.label])}</th><td class="number">{c.n}</td>'
        f'<td class="number">{c.predicted}</td>'
        + "".join(
            f"<td>{_bounded(value, bounds)}</td>"
            for value, bounds in (
                (c.recall, c.recall_interval), (c.precision, c.precision_interval), (c.f1, c.f1_interval),
            )
        )
        + "</tr>"
        for c in classes
    )  # fmt: skip
    return (
        f'<div class="card"><h3>Classes</h3><p>{text(best)}. Intervals are of each class alone.</p><div class="wide">'
        "<table><thead><tr><th>class</th><th>images</th><th>predicted</th><th>recall</th><th>precision</th><th>F1</th>"
        f"</tr></thead><tbody>{rows}</tbody></table></div></div>"
    )


def _bounded(value: float, bounds: tuple[float, float] | None) -> str:
    if np.isnan(value):
        return ""
    words = f"{bounds[0]:.2f} to {bounds[1]:.2f}" if bounds else "no interval"
    return f'{value:.3f}<span class="small">{words}</span>'


def _cut(name: str) -> str:
    return name if len(name) <= 22 else f"{name[:21]}…"
