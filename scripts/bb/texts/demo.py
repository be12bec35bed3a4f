"""What `bb demo` says of its table of digits: sentences that follow from the scores."""

from collections.abc import Iterator

from bb.probe.report.leaderboard import Leaderboard, LeaderboardRow
from bb.probe.tasks.few_shot import NTrain

PIXELS = "demo:pixels"


def digits_story(board: Leaderboard) -> Iterator[str]:
    """What the scores of the pixels, of pretrained and of untrained networks mean, and what they don't."""
    yield "Digits of 8 by 8 pixels show how bb works; which backbone suits photographs, they can't say."
    pixels = [row for row in board.rows if row.label.startswith(PIXELS)]
    untrained = [row for row in board.rows if row.label.endswith("/untrained")]
    pretrained = [row for row in board.rows if row not in (*pixels, *untrained)]
    for n in board.columns:
        yield from _column(n, *(_best(rows, n) for rows in (pixels, pretrained, untrained)))
    if pretrained and pixels and all(row.cells[n].best for row in pixels for n in board.columns if n in row.cells):
        yield (
            "ImageNet's networks learned to tell photographs apart by texture, colour and shape. An enlarged digit has "
            "little of these, and few labels can't show a classifier which of 1,280 features matter: so the 64 grey "
            "values win. Photographs are another matter: bb demo --pretrained --images DIR."
        )
    yield from _changes(board)


def _column(
    n: NTrain, pixels: LeaderboardRow | None, pretrained: LeaderboardRow | None, untrained: LeaderboardRow | None
) -> Iterator[str]:
    scores = [
        f"{what} {row.cells[n].mean:.3f}"
        for what, row in (
            ("the grey values themselves score", pixels),
            ("the best network with ImageNet weights", pretrained),
            ("the best untrained network", untrained),
        )
        if row
    ]
    if len(scores) > 1:
        yield f"With {n} labels a task {', '.join(scores)}."


def _changes(board: Leaderboard) -> Iterator[str]:
    """Says why scores fall where labels are added."""
    for before, after in zip(board.columns, board.columns[1:], strict=False):
        both = [row for row in board.rows if before in row.cells and after in row.cells]
        kinds = {row.cells[n].origin.classifier for row in both for n in (before, after)}
        if len(kinds) > 1 and (fall := [row.label for row in both if row.cells[after].mean < row.cells[before].mean]):
            yield (
                f"From {before} to {after} labels {len(fall)} of {len(both)} scores fall: biobench's protocol changes "
                f"the classifier there ({' to '.join(_kind(both[0], n) for n in (before, after))}), so the two columns "
                "are not a learning curve. --svm linear keeps one classifier."
            )


def _kind(row: LeaderboardRow, n: NTrain) -> str:
    return str(row.cells[n].origin.classifier)


def _best(rows: list[LeaderboardRow], n: NTrain) -> LeaderboardRow | None:
    return max((row for row in rows if n in row.cells), key=lambda row: row.cells[n].mean, default=None)
