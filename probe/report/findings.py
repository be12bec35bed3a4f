"""What a board shows, in sentences: each follows from its figures by a rule, and says where nothing can be said."""

from collections.abc import Iterator, Sequence

import numpy as np

from bb.probe.report.leaderboard import SAME_SHARES, Leaderboard, LeaderboardCell, LeaderboardRow
from bb.probe.statistics.learning_law import forecast
from bb.probe.tasks.few_shot import NTrain

NAMED = 3  # backbones that a sentence names
MORE = 40  # labels that a forecast is of, but never more than there are
LEAST_SIZES = 3  # numbers of labels that a law is put through
DRAWS = 1000
SHARED = 0.3  # of the variance of a draw's score: the test images, which are the same at all numbers of labels


def findings(board: Leaderboard) -> list[str]:
    """Which backbone is ahead, by how much, how sure that is, and what that does not say; the answer first."""
    last = board.columns[-1]
    return [*_column(board, last), *_other_columns(board, last), *_more_labels(board, last), *_caveats(board, last)]


def _column(board: Leaderboard, n: NTrain) -> Iterator[str]:
    """The answer at one n_train."""
    first, *others = _by_score(board, n)
    cell, where = first.cells[n], with_images(n)
    score = f"{cell.mean:.3f}"
    if not cell.estimate.no_interval:
        score += f" (95% interval {cell.estimate.low:.3f} to {cell.estimate.high:.3f})"
    same = [row.label for row in others if row.cells[n].best]
    if not others:
        yield f"{first.label} scores {score} {where}. Add another backbone to compare it with."
    elif same:
        yield f"{listed([first.label, *same])} have the same highest score {where}: {score}."
    elif cell.estimate.no_interval:
        yield f"{first.label} scores highest of {len(others) + 1} backbones {where}, {score}, but {_unsure(cell)}."
    else:
        ahead = f", {cell.mean - others[0].cells[n].mean:.3f} ahead of {others[0].label}, the next"
        tied = [row.label for row in others if row.cells[n].tied]
        yield leading(first.label, score, ahead, tied, len(others), "backbones", f" {where}")
    yield from _guessing(board, first.label, cell)


def _unsure(cell: LeaderboardCell) -> str:
    return f"no interval can be stated ({cell.estimate.no_interval}), so how sure that is remains unknown"


def _guessing(board: Leaderboard, label: str, cell: LeaderboardCell) -> Iterator[str]:
    """Whether the highest score is more than guessing gives."""
    if board.chance is None or cell.estimate.no_interval:
        return
    common = board.majority is not None and board.majority >= board.chance + SAME_SHARES
    bar = board.majority if common and board.majority is not None else board.chance
    what = "always naming the commonest class" if common else "guessing"
    if cell.estimate.low <= bar:
        yield f"Even {label} can't be told apart from {what}, which scores {bar:.3f}."


def _other_columns(board: Leaderboard, last: NTrain) -> Iterator[str]:
    """At which n_train another backbone is ahead, and whether it can be distinguished from the first."""
    first = _by_score(board, last)[0]
    for n in board.columns[:-1]:
        leader = _by_score(board, n)[0]
        if first.label == leader.label or n not in first.cells or first.cells[n].best:
            continue
        cell = first.cells[n]
        unsure = cell.tied or bool(leader.cells[n].estimate.no_interval)
        doubt = ", but the two can't be told apart" if unsure else ""
        yield f"{with_images(n).capitalize()}, {leader.label} is ahead of {first.label}{doubt}."


def _more_labels(board: Leaderboard, last: NTrain) -> Iterator[str]:
    """What more labels would bring the leader, where it has scores with intervals at three numbers of them or more."""
    leader = _by_score(board, last)[0]
    classifier = leader.cells[last].origin.classifier
    points = [
        (n, *cell.estimate[:3])
        for n, cell in leader.cells.items()
        if n != "all" and cell.origin.classifier == classifier and not cell.estimate.no_interval
    ]
    if last != "all":
        draws = len(leader.cells[last].origin.runs)
        yield from further(leader.label, points, "training images a task", board.n_tasks, draws)


def further(
    label: str, points: Sequence[tuple[int, float, float, float]], labels: str, tasks: int = 1, draws: int = 1
) -> Iterator[str]:
    """A sentence on more labels, by the laws of `bb.probe.statistics.learning_law`; none of too few points.

    points  number of labels, score and 95% interval, ascending; of shares of right answers and their like
    labels  what is counted, in words
    tasks, draws  of training images, that each score is the mean over
    """
    if len(points) < LEAST_SIZES:
        return
    last, more = points[-1][1], min(MORE, points[-1][0])
    low, middle, high = forecast_score(points, more, tasks, draws)
    ahead = f"from {last:.3f} to about {middle:.2f}"
    if low > last:
        change = f"would bring {label} {ahead}"
    elif round(middle, 2) > round(last, 2):
        change = f"could bring {label} {ahead}, or nothing"
    else:
        change = f"would bring {label} no gain that can be foreseen: {ahead}"
    yield f"{more} more {labels} {change} (95% interval {low:.2f} to {high:.2f}), as its learning curve goes on."


def forecast_score(
    points: Sequence[tuple[int, float, float, float]], more: int, tasks: int, draws: int
) -> tuple[float, float, float]:
    """The score with `more` labels than the last of the points, as `further` says it: from, middle and to.

    docs/statistics.md has how often that holds, and scripts/bench/worlds/forecasts.py measures it.
    """
    sizes, scores, lows, highs = zip(*points, strict=True)
    spread = np.maximum((np.array(highs) - np.array(lows)) / (2 * 1.96), 1e-6)
    rng = np.random.default_rng(0)
    shared = SHARED / (SHARED + (1 - SHARED) / draws)  # the mean over draws has less of what is a classifier's own
    own = spread * np.sqrt(1 - shared)
    errors = np.sqrt(shared) * spread * rng.standard_normal((DRAWS, 1)) + own * rng.standard_normal((DRAWS, len(sizes)))
    drawn = np.clip(np.array(scores) + errors, 0, 1)
    drawn = forecast(list(sizes), drawn, own, sizes[-1] + more, rng, tasks * draws)
    low, middle, high = np.quantile(drawn, [0.025, 0.5, 0.975])
    return float(low), float(middle), float(high)


def _caveats(board: Leaderboard, last: NTrain) -> Iterator[str]:
    drawn = [row.cells[last] for row in board.rows if last in row.cells]
    if last != "all" and "draws" not in board.over and any(len(cell.origin.runs) == 1 for cell in drawn):
        yield "Each score is of one draw of training images; other draws (--seed) give other scores."
    if board.n_tasks > 1 and "tasks" not in board.over:
        yield f"This holds for these {board.n_tasks} tasks; it says little about others."


def _by_score(board: Leaderboard, n: NTrain) -> list[LeaderboardRow]:
    return sorted((row for row in board.rows if n in row.cells), key=lambda row: -row.cells[n].mean)


def with_images(n: NTrain) -> str:
    """How many images each task is trained on, in words."""
    return "with all training images" if n == "all" else f"with {n} training images a task"


def leading(
    first: str, score: str, ahead: str, tied: Sequence[str], others: int, of: str, where: str = "",
    *, best: str = "is the best", highest: str = "scores highest", between: str = ", ",
) -> str:  # fmt: skip
    """Who is first, and who can't be told apart from it.

    ahead   by how much of whom, after a comma; empty where that is not known
    tied    who can't be told apart, of `others` others;  of: what all of them are
    best    of one that can be told apart from every other;  highest: of any first one
    """
    if not tied:
        return f"{first} {best} of {others + 1} {of}{where}: {score}{ahead}. It can be told apart from every other."
    if len(tied) == others:
        which = "the other" if others == 1 else f"any of the other {others}"
        return f"{first} {highest}{where}, {score}, but can't be told apart from {which}."
    return (
        f"{first} {highest} of {others + 1} {of}{where}: {score}{ahead}. It can't be told apart from "
        f"{listed(tied, between)}."
    )


def listed(names: Sequence[str], between: str = ", ") -> str:
    """Some by name: three, and how many more."""
    some = list(names[:NAMED])
    if len(names) > NAMED:
        some.append(f"{len(names) - NAMED} more")
    return some[0] if len(some) == 1 else f"{between.join(some[:-1])} and {some[-1]}"
