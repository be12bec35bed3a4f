"""What a board of classification shows, in sentences: each follows from its figures by a rule."""

from collections.abc import Iterator

from bb.probe.classification.board import Board, Row, details
from bb.probe.classification.report.curves import learning_curves
from bb.probe.report.findings import further, leading, listed


def findings(board: Board) -> list[str]:
    """Which run is ahead, by how much, how sure that is, what is confused, and what more labels would bring."""
    return [*_leader(board), *_guessing(board), *_confused(board), *_more_labels(board)]


def _leader(board: Board) -> Iterator[str]:
    first, *others = board.rows
    found, label = first.metrics[board.metric], board.label(first)
    if found["value"] is None:
        yield f"No run has a {board.metric} here."
        return
    score = f"{found['value']:.3f}"
    score += f" (95% interval {found['low']:.3f} to {found['high']:.3f})" if found["low"] is not None else ""
    if not others:
        yield f"{label}: {board.metric} {score}. There is no other run to compare it with."
        return
    second = others[0].metrics[board.metric]["value"]
    ahead = "" if second is None else f", {found['value'] - second:.3f} ahead of {board.label(others[0])}, the next"
    what = f"{score} ({board.metric})"
    if same := _same(board):
        yield f"{listed([label, *map(board.label, same)], '; ')} have the same highest {board.metric}: {score}."
    elif any(row.tied is None for row in others):
        reason = found["reason"] or "not all differences have an interval"
        unsure = f"no interval says how sure that is ({reason})"
        yield f"{label} scores highest of {len(board.rows)} runs, {what}{ahead}; {unsure}."
    else:
        tied = [board.label(row) for row in others if row.tied]
        yield leading(label, what, ahead, tied, len(others), "runs", between="; ")


def _guessing(board: Board) -> Iterator[str]:
    low = board.rows[0].metrics[board.metric]["low"]
    if low is None or not board.guesses:
        return
    words, score = max(board.guesses, key=lambda guess: guess[1])
    if low <= score:
        words = "guessing" if words == "chance" else "always naming the commonest class"
        yield f"Even {board.label(board.rows[0])} can't be told apart from {words}, which scores {score:.3f}."


def _same(board: Board) -> list[Row]:
    """The runs that score as high as the first, but for rounding."""
    first, *others = (row.metrics[board.metric]["value"] for row in board.rows)
    pairs = zip(board.rows[1:], others, strict=True)
    return [row for row, value in pairs if None not in (first, value) and abs(value - first) < 1e-12]


def _confused(board: Board) -> Iterator[str]:
    found = details(board, board.rows[0])
    if not found or not found[1]:
        return
    pair, *others = found[1]
    who = board.label(board.rows[0]) if _same(board) else "It"
    taken = f"{board.classes[pair.true]} for {board.classes[pair.predicted]}"
    images = f"{pair.n} image{'s' * (pair.n != 1)}, {pair.share:.0%} of that class"
    if any(other.n == pair.n for other in others):
        yield f"{who} takes {taken} as often as any class for another: {images}."
    else:
        yield f"{who} most often takes {taken}: {images}."


def _more_labels(board: Board) -> Iterator[str]:
    """Of the best curve that ends in a number of shots."""
    curve = next(iter(learning_curves(board)), None)
    if curve is None or board.target == "values" or len(board.classes) < 2 or curve.points[-1].shots == "all":
        return
    points = [
        (point.shots, point.value, point.low, point.high)
        for point in curve.points
        if point.shots != "all" and point.low is not None and point.high is not None
    ]
    yield from further(curve.label, points, "training images of each class", draws=curve.points[-1].seeds)
