"""What a board of `bb bench` shows, in sentences: each follows from its figures by a rule."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from bb.probe.bench.board import BenchBoard, BenchRow
from bb.probe.report.findings import leading, listed
from bb.probe.statistics.comparison import competition_ranks

EQUAL = 1e-9  # below which two mean ranks differ by rounding alone


def findings(board: BenchBoard) -> list[str]:
    """Which backbone has the best mean rank, who can't be told apart from it, and which is first on how many families.

    Two backbones are told apart where the intervals of their mean ranks do not overlap.
    """
    ranked = [row for row in board.rows if row.rank is not None]
    return [*_leader(board, ranked), *_first_on(board, ranked), *_caveats(board, len(ranked))]


def _leader(board: BenchBoard, ranked: Sequence[BenchRow]) -> Iterator[str]:
    if not ranked:
        yield "No backbone has a score in every column, so none is ranked." if board.columns else "There are no scores."
        return
    first, *others = ranked
    if not others:
        yield f"{first.name} alone has a score in every column. There is no other backbone to compare it with."
        return
    rank, high = first.rank or 0.0, first.high or 0.0
    where = f" over {_counted(len(_families(board)))}"
    score = f"{rank:.2f} (95% interval {first.low or 0.0:.2f} to {high:.2f})"
    apart = [(row.rank or 0.0) - rank for row in others]
    if apart[0] < EQUAL:
        same = [first.name, *(row.name for row, less in zip(others, apart, strict=True) if less < EQUAL)]
        yield f"{listed(same)} have the same best mean rank{where}: {rank:.2f}."
        return
    ahead = f", {apart[0]:.2f} ahead of {others[0].name}, the next"
    tied = [row.name for row in others if (row.low or 0.0) <= high]
    best = "has the best mean rank"
    yield leading(first.name, score, ahead, tied, len(others), "backbones", where, best=best, highest=best)


def _first_on(board: BenchBoard, ranked: Sequence[BenchRow]) -> Iterator[str]:
    """On how many families a backbone has the best mean rank of the family's columns."""
    families = _families(board)
    if len(families) < 2 or len(ranked) < 2:
        return
    scores = [[cell.value if cell else np.nan for cell in row.cells] for row in ranked]
    best, worst = competition_ranks(np.array(scores, np.float64).T)
    count = Counter({row.name: 0 for row in ranked})
    shared = False
    for family in families:
        columns = [place for place, column in enumerate(board.columns) if column.family == family]
        mean = (best + worst)[columns].mean(axis=0) / 2
        leaders = [row.name for row, each in zip(ranked, mean, strict=True) if each < mean.min() + EQUAL]
        count.update(leaders)
        shared |= len(leaders) > 1
    (name, n), *others = [item for item in count.most_common() if item[1]]
    every = "both families" if n == 2 else f"all {_counted(n)}"
    said = every if n == len(families) else f"{n} of {_counted(len(families))}"
    each = listed([f"{other} on {k}" for other, k in others]) if others else ""
    equals = ", where equals count for each" if shared else ""
    yield f"By score alone, {name} is first on {said}{f'; {each}' if each else ''}{equals}."


def _caveats(board: BenchBoard, ranked: int) -> Iterator[str]:
    left_out = [row.name for row in board.rows if row.rank is None]
    if left_out and ranked:
        verb, have = ("is", "has") if len(left_out) == 1 else ("are", "have")
        yield f"{listed(left_out)} {verb} not ranked, and {have} no score in some column."
    unsure = sum(map(bool, board.reasons))
    if unsure and ranked > 1:
        columns = f"{unsure} of {len(board.columns)} columns"
        yield f"In {columns} no difference can be shown, so that every rank there counts as possible."


def _families(board: BenchBoard) -> list[str]:
    return list(dict.fromkeys(column.family for column in board.columns))


def _counted(n: int) -> str:
    return f"{n} {'family' if n == 1 else 'families'}"
