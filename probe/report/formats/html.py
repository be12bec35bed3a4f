"""`--html`: boards as one file that works from a disk.

The markup is newt.html's; here are pictures, sentences and what tables hold.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

from bb.probe.report.findings import findings
from bb.probe.report.formats import svg as figure
from bb.probe.report.formats import svg_parts
from bb.probe.report.formats.svg_cost import Spot, axis_of, cost_picture, cost_words
from bb.probe.report.formats.templates import render
from bb.probe.report.leaderboard import METRIC_WORDS, HardImage, Leaderboard, LeaderboardCell, LeaderboardRow, Task
from bb.probe.report.methods import bibtex, methods
from bb.store.text.printable import printable

CORRECTIONS = {"holm": "Holm", "bh": "Benjamini-Hochberg"}
Thumbnails = Mapping[tuple[str, str], bytes]
View = dict[str, Any]  # what the template shows of a board or a task, in addition to what these have


def page(boards: Sequence[Leaderboard], thumbnails: Thumbnails | None = None) -> str:
    """The whole file.

    thumbnails  JPEG files by (collection, image ID), as far as they are available
    """
    families = ", ".join(dict.fromkeys(board.tasks for board in boards))
    return render(
        "report/formats/newt.html",
        title=f"Backbones on {families}",
        filtered="backbones",
        data=[_data(board) if has_tasks(board) else {} for board in boards],
        boards=[_view(number, board, thumbnails or {}) for number, board in enumerate(boards)],
        tip=figure.describe,
        answers_of=_answers_of,
    )


def has_tasks(board: Leaderboard) -> bool:
    """Whether the board was asked for scores of each task."""
    return all("task" in cell.splits for row in board.rows for cell in row.cells.values())


def _data(board: Leaderboard) -> dict[str, object]:
    """What page.js needs: scores by n_train, row and task, to four digits."""
    low, high = figure.limits(board)
    names = [task.name for task in board.task_list]

    def of(cell: LeaderboardCell) -> list[float | None]:
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


def _view(number: int, board: Leaderboard, thumbnails: Thumbnails) -> View:
    """Of a board what is worked out for the page: names, pictures, sentences."""
    cells = [cell for row in board.rows for cell in row.cells.values()]
    bounds = [*(end for cell in cells for end in cell.estimate.ends), *(score for _, score in board.guesses)]
    last, key = board.columns[-1], f"b{number}"
    tasks = board.task_list if has_tasks(board) else ()
    limits = figure.limits(board) if tasks else (0.0, 1.0)
    shares = {row.label: row.cells[last].variance for row in board.rows if last in row.cells}
    return {
        "board": board,
        "number": number,
        "key": key,
        "name": f"{board.title}, {board.protocol}",
        "findings": " ".join(findings(board)),
        "correction": CORRECTIONS[board.correction],
        "grouped": any(cell.group for cell in cells),
        "ends": (min(bounds), max(bounds)),
        "cost": _cost(board),
        "curves": figure.curves(board),
        "curve_names": _curve_names(len(board.rows)),
        "ranks": figure.ranks(board),
        "scatter": figure.scatter(board) if tasks and len(board.rows) > 1 else None,
        "clusters": figure.cluster_key(board),
        "by_cluster": _by_cluster(board),
        "short_names": svg_parts.distinct([row.label for row in board.rows], 34),
        "variance": [(label, found) for label, found in shares.items() if found],
        "methods": methods(board),
        "bibtex": bibtex(board),
        "tasks": [_task(f"{key}-t{place}", board, task, limits, thumbnails) for place, task in enumerate(tasks)],
    }


def _curve_names(backbones: int) -> str:
    """Which learning curves are named."""
    if backbones <= svg_parts.NAMED:
        return "A marker and a colour for each backbone, named at its end."
    return (
        f"A marker and a colour for the first {svg_parts.NAMED} backbones of the leaderboard, named at their ends; the "
        "others are grey."
    )


def _by_cluster(board: Leaderboard) -> View | None:
    """Of each cluster its tasks and why it has no intervals; and the ends of its bars. None of fewer than two."""
    last = board.columns[-1]
    scores = [row.cells[last].splits.get("cluster", {}) for row in board.rows if last in row.cells]
    if len(scores[0]) < 2:
        return None
    bounds = [end for each in scores for e in each.values() for end in e.ends if not math.isnan(end)]
    bounds += [score for _, score in board.guesses[:1]]
    return {
        "tasks": {name: sum(task.cluster == name for task in board.task_list) for name in scores[0]},
        "no_interval": {name: e.no_interval for name, e in scores[0].items() if e.no_interval},
        "ends": (min(bounds), max(bounds)),
    }


def _cost(board: Leaderboard) -> View | None:
    """Score over cost; None where fewer than two backbones have a size on record."""
    n = board.columns[-1]
    spots = [
        Spot(row.label, e.mean, None if e.no_interval else (e.low, e.high), row.cost)
        for row in board.rows
        if n in row.cells
        for e in [row.cells[n].estimate]
    ]
    axis = axis_of(spots)
    if axis is None:
        return None
    picture = cost_picture(spots, axis, METRIC_WORDS.get(board.metric, board.metric), board.guesses)
    return {"words": cost_words(spots, axis, f"the score at n_train {n}"), "picture": picture}


def _task(key: str, board: Leaderboard, task: Task, limits: tuple[float, float], thumbnails: Thumbnails) -> View:
    """Of a task: its line of the heat map, its rows, the best first, and its pictures in base64 by image ID."""

    def mean(row: LeaderboardRow) -> float:
        return row.cells[board.hard_at].splits["task"][task.name].mean if board.hard_at in row.cells else 0

    pictures = {hard.image_id: thumbnails.get((board.collection, hard.image_id)) for hard in task.hardest}
    return {
        "task": task,
        "key": key,
        "heat": _heat(board, task, limits),
        "rows": sorted(board.rows, key=lambda row: -mean(row)),
        "pictures": {image_id: base64.b64encode(jpeg).decode() for image_id, jpeg in pictures.items() if jpeg},
    }


def _heat(board: Leaderboard, task: Task, limits: tuple[float, float]) -> list[tuple[str, str]]:
    """Of each backbone the colour and the text of its score at the last n_train."""
    low, high = limits
    last, cells = board.columns[-1], []
    for row in board.rows:
        value = row.cells[last].splits["task"][task.name].mean if last in row.cells else math.nan
        if math.isnan(value):
            cells.append(("none", "\N{EN DASH}"))
        else:
            cells.append((f"h{max(0, min(9, int((value - low) / (high - low) * 10)))}", f"{value:.3f}"))
    return cells


def _answers_of(task: Task, hard: HardImage) -> list[tuple[str, list[str]]]:
    """Which backbones are right about an image and which are not, in most of their draws."""
    wrong = [label for label, share in hard.wrong_by_backbone.items() if share >= 0.5]
    right = [label for label, share in hard.wrong_by_backbone.items() if share < 0.5]
    other, true = (task.class_name(y) for y in (1 - hard.y_true, hard.y_true))
    return [(words, names) for words, names in ((f"said {other}", wrong), (f"said {true}", right)) if names]
