"""`--html`: boards as one file that works from a disk. Pictures are drawn and tables are written here."""

import base64
import math
from collections.abc import Iterator, Mapping, Sequence

from bb.probe.report.findings import findings
from bb.probe.report.formats import svg as figure
from bb.probe.report.formats import svg_parts
from bb.probe.report.formats.bars import bar, bar_key
from bb.probe.report.formats.html_frame import answers, breakable, frame, head, wide
from bb.probe.report.formats.html_frame import text as _text
from bb.probe.report.formats.svg_cost import Spot, axis_of, cost_picture, cost_words
from bb.probe.report.leaderboard import METRIC_WORDS, Board, Cell, Estimate, Hard, Row, Task
from bb.probe.report.methods import bibtex, methods
from bb.probe.tasks.few_shot import NTrain
from bb.store.format.space import short
from bb.store.text.printable import printable

CORRECTIONS = {"holm": "Holm", "bh": "Benjamini-Hochberg"}
Thumbnails = Mapping[tuple[str, str], bytes]
SCATTER = "Scores of two backbones on each task; the table below has the same figures"
DASH = "\N{EN DASH}"


def page(boards: Sequence[Board], thumbnails: Thumbnails | None = None) -> str:
    """The whole file.

    thumbnails  JPEG files by (collection, image ID), as far as they are at hand
    """
    families = ", ".join(dict.fromkeys(board.tasks for board in boards))
    return frame(
        f"Backbones on {families}",
        nav="".join(f'<a href="#b{number}">{_text(_name(board))}</a>' for number, board in enumerate(boards)),
        body="\n".join(_board(number, board, thumbnails or {}) for number, board in enumerate(boards)),
        filtered="backbones",
        data=[_data(board) if has_tasks(board) else {} for board in boards],
    )


def has_tasks(board: Board) -> bool:
    """Whether the board was asked for scores of each task."""
    return all("task" in cell.splits for row in board.rows for cell in row.cells.values())


def _name(board: Board) -> str:
    return f"{board.title}, {board.protocol}"


def _data(board: Board) -> dict[str, object]:
    """What page.js needs: scores by n_train, row and task, to four digits."""
    low, high = figure.limits(board)
    names = [task.name for task in board.task_list]

    def of(cell: Cell) -> list[float | None]:
        found = [cell.splits["task"][name].mean for name in names]
        return [None if math.isnan(value) else round(value, 4) for value in found]

    values = [[of(row.cells[n]) if n in row.cells else None for row in board.rows] for n in board.columns]
    return {
        "rows": [printable(row.label) for row in board.rows],
        "axes": svg_parts.distinct([row.label for row in board.rows], 48),
        "columns": list(board.columns),
        "tasks": [printable(name) for name in names],
        "low": low,
        "high": high,
        "values": values,
    }


def _board(number: int, board: Board, thumbnails: Thumbnails) -> str:
    chance = f" To compare: {board.guessing}." if board.guessing else ""
    notes = "".join(f"<li>{_text(note)}</li>" for note in board.notes)
    return "\n".join(
        [
            f'<section class="main" id="b{number}" aria-labelledby="b{number}-title">',
            f'<h2 id="b{number}-title">{_text(_name(board))}</h2>',
            f'<p class="facts">{len(board.rows)} backbones, {board.n_tasks} tasks, {board.n_images} test images; '
            f"{_text(board.claim)}.{chance} Collection version {_code(short(board.collection_digest))}, "
            f"test set {_code(short(board.test_set))}{_pool(board)}.</p>",
            f'<div class="card"><h3>In short</h3><p>{_text(" ".join(findings(board)))}</p></div>',
            f'<div class="card note"><h3>Notes</h3><ul>{notes}</ul></div>' if notes else "",
            _leaderboard(number, board),
            _cost_card(board),
            _card("Learning curves", "Score over training images per task, with 95% bands; a dotted line is where the "
                  "classifier changes. A marker and a colour for each backbone, named at its end.", _svg(
                *figure.curves(board), "Learning curves; the leaderboard above has the same figures as a table")),
            _card("Ranks", "Rank among these, with 95% intervals that hold for all of them together.", _svg(
                *figure.ranks(board), "Rank intervals; the leaderboard above has the same figures as a table")),
            _heat(number, board) if has_tasks(board) else "",
            _scatter(number, board) if has_tasks(board) and len(board.rows) > 1 else "",
            _variance(board),
            _task_links(number, board) if has_tasks(board) else "",
            _methods(board),
            _origins(number, board),
            "</section>",
            *(
                _task(number, place, board, task, thumbnails)
                for place, task in enumerate(board.task_list)
                if has_tasks(board)
            ),
        ]
    )  # fmt: skip


def _pool(board: Board) -> str:
    return f", training pool {_code(short(board.train_pool))}" if board.train_pool else ""


def _card(title: str, words: str, inside: str) -> str:
    return f'<section class="card"><h3>{title}</h3><p>{words}</p>{wide(inside, title)}</section>'


def _svg(inside: str, width: svg_parts.Number, height: svg_parts.Number, label: str, classes: str = "") -> str:
    return (
        f'<svg class="figure {classes}" viewBox="0 0 {width:g} {height:g}" role="group" aria-label="{_text(label)}">'
        f"{inside}</svg>"
    )


def _leaderboard(number: int, board: Board) -> str:
    cells = [cell for row in board.rows for cell in row.cells.values()]
    bounds = [value for cell in cells for value in cell.estimate.ends]
    bounds += [score for _, score in board.guesses]
    ends = min(bounds), max(bounds)
    last = board.columns[-1]
    heads = "".join(head(words, "descending" if n == last else "none") for n, words in board.heads.items())
    rows = "".join(
        f"{_row_head(row)}{''.join(_score(number, place, board, row, n, ends) for n in board.columns)}{_cost(row)}</tr>"
        for place, row in enumerate(board.rows)
    )
    legend = [
        f"Best at its n_train: bold with *. Not called different from it (p &gt; 0.05; {_text(board.test)}, "
        f"{CORRECTIONS[board.correction]} over the board): =."
    ]
    if any(cell.group for cell in cells):
        legend.append("Backbones that share a letter are not called different.")
    if board.baseline is not None:
        legend.append(f"Δ: less {_text(board.baseline)}, p corrected for all such differences.")
    if board.reference is not None:
        legend.append(
            f"Beside: ours less {_text(board.reference)}, means over the tasks that both have; ~ marks what does not "
            "compare, for the reasons that the notes name."
        )
    return (
        f'<section class="card"><h3 id="b{number}-leaderboard">Leaderboard</h3><p>{" ".join(legend)} '
        f"A score leads to where it comes from.</p>{bar_key(board.guesses)}"
        + wide(
            '<table class="board sortable"><caption class="unseen">Scores with 95% intervals.</caption>'
            f"<thead><tr>{head('backbone', 'none', 'text')}{heads}{head('cost of an image')}</tr></thead>"
            f"<tbody>{rows}</tbody></table>",
            "Leaderboard",
        )
        + "</section>"
    )


def _row_head(row: Row) -> str:
    label = _text(row.label)
    return f'<tr data-label="{label}"><th scope="row" data-value="{label}">{breakable(row.label)}</th>'


def _score(number: int, place: int, board: Board, row: Row, n: NTrain, ends: tuple[float, float]) -> str:
    cell = row.cells.get(n)
    if cell is None:
        return f'<td data-value="">{DASH}</td>'
    e = cell.estimate
    mean = f"{e.mean:.3f}"
    shown = f"<b>{mean}</b>*" if cell.best else f'<span class="mean">{mean}</span>{"=" if cell.tied else ""}'
    lines = [
        _bounds(e),
        f"rank {cell.rank.rank:g}{_ranks(cell)}{', group ' if cell.group else ''}{cell.group}",
    ]
    if cell.delta is not None:
        p = "p &lt; 0.001" if cell.delta.p < 0.001 else f"p = {cell.delta.p:.3f}"
        words = f"Δ {_signed(cell.delta.difference)}, {p}"
        lines.append(f'<span class="yes">{words}</span>' if cell.delta.p <= 0.05 else words)
    if cell.beside is not None:
        lines.append(f"beside {_signed(cell.beside.difference)}{'~' * bool(cell.beside.obstacles)}")
    small = "".join(f'<span class="small">{line}</span>' for line in lines)
    return (
        f'<td class="{"best" if cell.best else ""}" data-value="{e.mean!r}" data-n="{n}">'
        f'<a class="score" href="#b{number}-o{place}-{n}" data-tip="{_text(figure.words(cell))}">{shown}</a>'
        f"{bar(e.mean, None if e.no_interval else (e.low, e.high), ends, board.guesses)}{small}</td>"
    )


def _bounds(e: Estimate) -> str:
    return "no interval" if e.no_interval else f"{e.low:.3f}{DASH}{e.high:.3f}{'' if e.holds else ' !'}"


def _ranks(cell: Cell) -> str:
    return "" if cell.rank.low == cell.rank.high else f" ({cell.rank.low}{DASH}{cell.rank.high})"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def _cost(row: Row) -> str:
    """A cell with what an image costs, in order of parameters."""
    lines = "".join(f'<span class="small">{_text(line)}</span>' for line in row.cost.words())
    return f'<td class="cost" data-value="{row.cost.parameters or ""}">{lines}</td>'


def _cost_card(board: Board) -> str:
    """Score over cost; nothing where fewer than two backbones have a size on record."""
    n = board.columns[-1]
    spots = [
        Spot(row.label, e.mean, None if e.no_interval else (e.low, e.high), row.cost)
        for row in board.rows
        if n in row.cells
        for e in [row.cells[n].estimate]
    ]
    axis = axis_of(spots)
    if axis is None:
        return ""
    return _card(
        "Score and cost", _text(cost_words(spots, axis, f"the score at n_train {n}")),
        _svg(*cost_picture(spots, axis, METRIC_WORDS.get(board.metric, board.metric), board.guesses),
             "Scores over cost; the leaderboard above has the same figures as a table"),
    )  # fmt: skip


def _heat(number: int, board: Board) -> str:
    low, high = figure.limits(board)
    last = board.columns[-1]
    heads = "".join(
        f'<th scope="col" data-label="{_text(row.label)}" title="{_text(row.label)}">{_text(name)}</th>'
        for row, name in zip(board.rows, svg_parts.distinct([row.label for row in board.rows], 34), strict=True)
    )
    rows = []
    for task_place, task in enumerate(board.task_list):
        cells = []
        for place, row in enumerate(board.rows):
            value = row.cells[last].splits["task"][task.name].mean if last in row.cells else math.nan
            level = "none" if math.isnan(value) else f"h{max(0, min(9, int((value - low) / (high - low) * 10)))}"
            shown = DASH if math.isnan(value) else f"{value:.3f}"
            cells.append(f'<td class="{level}" data-row="{place}" data-label="{_text(row.label)}">{shown}</td>')
        rows.append(
            f'<tr data-task="{task_place}"><th scope="row">'
            f'<a href="#b{number}-t{task_place}">{_text(task.name)}</a></th>'
            f"{''.join(cells)}</tr>"
        )
    return (
        '<section class="card"><h3>Tasks and backbones</h3>'
        "<p>The more colour, the better. A task leads to its hardest images.</p>"
        f"{_pick(board, number)}"
        + wide(
            f'<table class="heat" id="b{number}-heat"><caption>Score of each backbone on each task.</caption>'
            f'<thead><tr><th scope="col">task</th>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table>',
            "Scores of each task",
        )
        + "</section>"
    )


def _pick(board: Board, number: int) -> str:
    return (
        f'<div class="pick"><label>n_train <select class="heat-column" data-board="{number}" autocomplete="off">'
        f"{_columns(board)}</select></label></div>"
    )


def _columns(board: Board) -> str:
    last = len(board.columns) - 1
    return "".join(
        f'<option value="{place}"{" selected" if place == last else ""}>{n}</option>'
        for place, n in enumerate(board.columns)
    )


def _scatter(number: int, board: Board) -> str:
    def options(chosen: int) -> str:
        return "".join(
            f'<option value="{place}"{" selected" if place == chosen else ""}>{_text(row.label)}</option>'
            for place, row in enumerate(board.rows)
        )

    return (
        f'<section class="card scatter" data-board="{number}"><h3>Two backbones, task by task</h3>'
        "<p>A point is a task, coloured by its cluster; above the line the second backbone is better.</p>"
        f"{_cluster_key(board)}"
        f'<div class="pick"><label>across <select autocomplete="off">{options(0)}</select></label>'
        f'<label>up <select autocomplete="off">{options(1)}</select></label>'
        f'<label>n_train <select autocomplete="off">{_columns(board)}</select></label></div>'
        f"{_svg(*figure.scatter(board), SCATTER, 'square')}"
        "<p><output></output></p><details><summary>As a table</summary>"
        + wide(
            '<table><caption>Scores of the two backbones.</caption><thead><tr><th scope="col">task</th><th scope="col" '
            'class="of">across</th><th scope="col" class="of">up</th></tr></thead><tbody></tbody></table>',
            "Scores of the two backbones",
        )
        + "</details></section>"
    )


def _cluster_key(board: Board) -> str:
    keys = (
        f'<li><svg class="key" viewBox="0 0 12 12" aria-hidden="true"><circle class="{colour}" cx="6" cy="6" '
        f'r="5"/></svg> {_text(cluster)}</li>'
        for cluster, colour in figure.cluster_colours(board).items()
    )
    return f'<ul class="key" aria-label="Clusters">{"".join(keys)}</ul>'


def _variance(board: Board) -> str:
    last = board.columns[-1]
    found = {row.label: row.cells[last].variance for row in board.rows if last in row.cells}
    sources = next((tuple(shares) for shares in found.values() if shares), ())
    if not sources:
        return ""
    rows = "".join(
        f'<tr data-label="{_text(label)}"><th scope="row">{breakable(label)}</th>'
        + "".join(f'<td class="number">{_percent(shares[source])}</td>' for source in sources)
        + "</tr>"
        for label, shares in found.items()
        if shares
    )
    heads = "".join(f'<th scope="col">{_text(source)}</th>' for source in sources)
    return _card(
        "Where the variance comes from",
        f"Shares of the variance of the mean over tasks at n_train {last}: were there other tasks like these, other "
        "test images, other draws of training images. Draws are unknown with one seed.",
        f'<table><caption>Sources of variance.</caption><thead><tr><th scope="col">backbone</th>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table>",
    )


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{100 * share:.0f}%"


def _task_links(number: int, board: Board) -> str:
    links = "".join(
        f'<li><a href="#b{number}-t{place}">{_text(task.name)}</a></li>' for place, task in enumerate(board.task_list)
    )
    return f'<section class="card"><h3>Tasks and their hardest images</h3><ul class="tasks">{links}</ul></section>'


def _task(number: int, place: int, board: Board, task: Task, thumbnails: Thumbnails) -> str:
    where = "/".join(word for word in (task.cluster, task.subcluster) if word)
    heads = "".join(head(words, "descending" if n == board.columns[-1] else "none") for n, words in board.heads.items())
    order = sorted(
        board.rows,
        key=lambda row: -(row.cells[board.hard_at].splits["task"][task.name].mean if board.hard_at in row.cells else 0),
    )
    rows = "".join(
        f"{_row_head(row)}{''.join(_task_score(row.cells.get(n), task) for n in board.columns)}</tr>" for row in order
    )
    hard = "".join(_hard(board, task, each, thumbnails) for each in task.hardest)
    shown = (
        f"<p>Test images that backbones get wrong most often at n_train {board.hard_at}, each averaged over seeds.</p>"
        f'<ol class="hard">{hard}</ol>'
        if hard
        else f"<p>Every backbone gets every test image right at n_train {board.hard_at}.</p>"
    )
    return (
        f'<section class="task" id="b{number}-t{place}" aria-labelledby="b{number}-t{place}-title">'
        f'<p><a href="#b{number}">← {_text(_name(board))}</a></p>'
        f'<h2 id="b{number}-t{place}-title" tabindex="-1">{_text(task.name)}</h2>'
        f'<p class="facts">{_text(where)}; {task.n} test images</p>'
        f'<section class="card"><h3>Hardest images</h3>{shown}</section>'
        '<section class="card"><h3>Scores</h3>'
        + wide(
            '<table class="sortable"><caption>Scores on this task, with 95% intervals for further test images.'
            f"</caption><thead><tr>{head('backbone', 'none', 'text')}{heads}</tr></thead><tbody>{rows}</tbody></table>",
            "Scores on this task",
        )
        + "</section></section>"
    )


def _task_score(cell: Cell | None, task: Task) -> str:
    e = cell.splits["task"][task.name] if cell else None
    if e is None or math.isnan(e.mean):
        return f'<td data-value="">{DASH}</td>'
    return f'<td data-value="{e.mean!r}">{e.mean:.3f}<span class="small">{_bounds(e)}</span></td>'


def _hard(board: Board, task: Task, hard: Hard, thumbnails: Thumbnails) -> str:
    data = thumbnails.get((board.collection, hard.image_id))
    picture = ""
    if data is not None:
        source = base64.b64encode(data).decode()
        alt = _text(f"test image {hard.image_id}")
        picture = f'<img src="data:image/jpeg;base64,{source}" alt="{alt}" loading="lazy">'
    return (
        f"<li>{picture}<b>{100 * hard.wrong:.0f}% wrong</b>, {_text(task.class_name(hard.y_true))}<br>"
        f"{_code(hard.image_id)}{_said(task, hard)}</li>"
    )


def _said(task: Task, hard: Hard) -> str:
    """Which backbones are right about an image and which are not, in most of their draws."""
    wrong = [label for label, share in hard.said.items() if share >= 0.5]
    right = [label for label, share in hard.said.items() if share < 0.5]
    other, true = (task.class_name(y) for y in (1 - hard.y_true, hard.y_true))
    return answers([(words, names) for words, names in ((f"said {other}", wrong), (f"said {true}", right)) if names])


def _methods(board: Board) -> str:
    return _card(
        "Methods",
        "For a paper; check it against what you did.",
        f'<p class="paste">{_text(methods(board))}</p><details><summary>BibTeX</summary>'
        f"<pre>{_text(bibtex(board))}</pre></details>",
    )


def _origins(number: int, board: Board) -> str:
    return _card(
        "Where each figure comes from",
        "The commands are put together from what the runs record. They need the same collection, and its labels.",
        "".join(
            _origin(f"b{number}-o{place}-{n}", row, n, cell)
            for place, row in enumerate(board.rows)
            for n, cell in row.cells.items()
        ),
    )


def _origin(key: str, row: Row, n: NTrain, cell: Cell) -> str:
    facts = "".join(f"<dt>{_text(name)}</dt><dd>{value}</dd>" for name, value in _facts(cell))
    return (
        f'<details class="origin" id="{key}" data-label="{_text(row.label)}"><summary>{_text(row.label)}, n_train {n}: '
        f"{cell.mean:.3f}</summary><dl>{facts}</dl></details>"
    )


def _facts(cell: Cell) -> Iterator[tuple[str, str]]:
    origin = cell.origin
    no = "can't be told: a field of the run is no word of the command line"
    yield "made again by", f"<pre><code>{_text(origin.command)}</code></pre>" if origin.command else no
    if origin.extract:
        yield "features by", f"<pre><code>{_text(origin.extract)}</code></pre>"
    yield "feature space", _code(origin.space)
    yield "collection", _code(origin.collection)
    yield "protocol", _text(f"{origin.protocol}, classifier {origin.classifier}, n_train {origin.n_train}")
    yield "seeds", _text(", ".join("none" if seed is None else str(seed) for seed in origin.seeds))
    yield "engine", _text(origin.backend)
    yield "devices", _text(", ".join(origin.devices) or "not recorded")
    yield "versions", "<br>".join(map(_text, origin.versions)) or "not recorded"
    yield "embedded with", "<br>".join(map(_text, origin.extracted)) or "not recorded"
    for run in origin.runs:
        seed = "" if run.seed is None else f", seed {run.seed}"
        commit = f", commit {run.commit}" if run.commit else ""
        yield "run", f"{_code(run.run_id)}<br>{_text(f'made {run.made}{seed}{commit}')}"


def _code(text: str) -> str:
    return f"<code>{_text(text)}</code>"
