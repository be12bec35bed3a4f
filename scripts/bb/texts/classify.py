"""What `bb probe classify` and `bb report classify` print."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bb.console import say, show_table, warn
from bb.probe.tasks.registry import family_metrics

if TYPE_CHECKING:
    from bb.probe.classification.board import Board, SplitDifference

COLUMNS = {
    "classes": ("accuracy", "balanced_accuracy", "macro_f1@wilds", "top_5", "ece"),
    "traits": ("macro_f1", "mean_ap", "exact_match"),
    "values": ("r2", "mae", "rmse", "spearman"),
}


def score_text(found: "dict[str, Any] | None", digits: int = 3) -> str:
    """A value with its interval, or with a mark where no interval holds."""
    if not found or found["value"] is None:
        return ""
    value = f"{found['value']:.{digits}f}"
    if found["low"] is None:
        return f"{value} (no interval)"
    return f"{value} [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"


def show_board(board: "Board", *, verbose: bool = False) -> None:
    """A table in the terminal with the best run first, and what a reader should know."""
    say(board.title)
    names = dict.fromkeys((board.metric, *family_metrics(board.tasks), *COLUMNS[board.target]))
    shown = [name for name in names if any(name in row.metrics for row in board.rows)]
    columns = ["backbone", "classifier", "shots", *shown, "", *(["run"] if verbose else [])]
    rows = [
        [
            row.name, row.classifier, row.shots,
            *(score_text(row.metrics.get(name)) for name in shown),
            "best" if row.best else {True: "not distinguishable from the best", False: "", None: ""}[row.tied],
            *([row.run.run_id[:12]] if verbose else []),
        ]
        for row in board.rows
    ]  # fmt: skip
    show_table(columns, rows)
    if board.chance is not None and board.majority is not None:
        say(f"chance {board.chance:.3f}; always naming the commonest class scores an accuracy of {board.majority:.3f}")
    main = board.rows[0].metrics[board.metric]
    say(f"intervals: 95%, of {main['claim']}" if main["low"] is not None else f"no interval: {main['reason']}")
    warn(*(f"note: {note}" for note in board.notes))


def show_split_differences(found: "Sequence[SplitDifference]") -> None:
    """How much of a score is the same camera, or the same week."""
    if not found:
        return
    say("", "how much higher scores are where the split is drawn at random:")
    rows = []
    for each in found:
        low, high = each.difference.interval or (None, None)
        text = score_text({"value": each.difference.value, "low": low, "high": high})
        rows.append([each.name, each.classifier, each.shots, f"random less {each.split_by}", each.metric, text])
    show_table(["backbone", "classifier", "shots", "splits", "metric", "difference"], rows)


def show_details(board: "Board") -> None:
    """Of the best run the table of classes and the pairs most confused."""
    from bb.probe.classification.board import details

    found = details(board, board.rows[0])
    if found is None:
        return
    classes, confused, _ = found
    say("", f"classes, {board.rows[0].name} with {board.rows[0].classifier}:")

    def bounded(value: float, bounds: "tuple[float, float] | None") -> str:
        return (
            score_text({"value": value, "low": bounds and bounds[0], "high": bounds and bounds[1]})
            if value == value
            else ""
        )

    show_table(
        ["class", "images", "predicted", "recall", "precision", "F1"],
        [
            [
                board.classes[c.label], c.n, c.predicted,
                bounded(c.recall, c.recall_interval), bounded(c.precision, c.precision_interval),
                bounded(c.f1, c.f1_interval),
            ]
            for c in classes
        ],
        right=["images", "predicted"],
    )  # fmt: skip
    if confused:
        say("", "most confused:")
        show_table(
            ["images of", "taken for", "images", "share"],
            [[board.classes[c.true], board.classes[c.predicted], c.n, f"{c.share:.3f}"] for c in confused],
            right=["images", "share"],
        )
