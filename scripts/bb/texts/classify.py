"""What `bb probe classify` and `bb report classify` print."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bb.console import say, show_table, warn
from bb.probe.tasks.registry import family_metrics

if TYPE_CHECKING:
    from bb.probe.classification.board import Board
    from bb.probe.classification.comparisons.reference import Comparison
    from bb.probe.classification.comparisons.side_differences import SideDifference
    from bb.probe.classification.comparisons.split_differences import SplitDifference

COLUMNS = {
    "classes": ("accuracy", "balanced_accuracy", "macro_f1@wilds", "top_5", "ece", "user_loss_score"),
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
    seeds = len({row.run.record["seed"] for row in board.rows}) > 1
    columns = ["backbone", "classifier", "shots", *["seed"] * seeds, *shown, "", *(["run"] if verbose else [])]
    rows = [
        [
            row.name, row.classifier, row.shots, *[row.run.record["seed"]] * seeds,
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
    if main["low"] is not None:
        say(f"intervals: 95%, of {main['claim']}")
    say(*board.unstated(shown))
    warn(*(f"note: {note}" for note in board.notes))


def show_boards(found: "Sequence[Board]", *, verbose: bool = False, with_details: bool = False) -> None:
    """All boards, then means over seeds. Where a protocol draws the test images, each draw's board with -v alone."""
    from bb.probe.classification.comparisons.headline import headlines

    drawn = [board for board in found if board.split_by == "protocol" and not verbose]
    shown = [board for board in found if board not in drawn]
    for number, board in enumerate(shown):
        if number:
            say("")
        show_board(board, verbose=verbose)
        if with_details:
            show_details(board)
    means = [each for each in headlines(found) if each.board.protocol and (each.board in drawn or len(each.asked) > 1)]
    if means:
        say(*[""] * bool(shown), "means over the seeds of each protocol (sd: over its draws, not over further images):")
        rows = [
            [
                f"{each.board.tasks}, {each.board.task}" if each.board.task != "classify" else each.board.tasks,
                each.board.protocol, each.backbone, each.classifier, each.shots, each.metric, f"{each.value:.4f}",
                f"{each.sd:.4f}", each.seeds_text,
            ]
            for each in means
        ]  # fmt: skip
        columns = ["table", "protocol", "backbone", "classifier", "shots", "metric", "mean", "sd", "seeds"]
        show_table(columns, rows, right=["shots", "mean", "sd"])
    warn(*dict.fromkeys(f"note: {note}" for board in drawn for note in board.notes))


def show_comparisons(name: str, found: "Sequence[Comparison]") -> None:
    """Published scores next to ours, and what keeps them from comparing."""
    if not found:
        warn(f"note: {name} has no score of these backbones on these tables")
        return
    say("", f"next to {name}; ~ does not compare:")
    rows = [
        [
            each.ours.board.tasks, each.ours.backbone, each.ours.classifier, each.ours.shots, each.ours.metric,
            f"{each.ours.value:.4f}", f"{each.theirs.score:.4f}",
            f"{'~' if each.obstacles else ''}{each.difference:+.4f}",
        ]
        for each in found
    ]  # fmt: skip
    columns = ["table", "backbone", "classifier", "shots", "metric", "ours", "published", "difference"]
    show_table(columns, rows, right=["shots", "ours", "published", "difference"])
    reasons: dict[str, list[str]] = {}
    for each in found:
        for reason in each.obstacles:
            reasons.setdefault(reason, []).append(each.ours.backbone)
    for reason, backbones in reasons.items():
        say(f"~ {reason} ({len(backbones)} of {len(found)}: {', '.join(dict.fromkeys(backbones))})")


def show_split_differences(found: "Sequence[SplitDifference]") -> None:
    """How much of a score is the same camera, or the same week."""
    if not found:
        return
    say("", "how much higher scores are where the split is drawn at random:")
    rows, seeds = [], len({each.seed for each in found}) > 1
    for each in found:
        low, high = each.difference.interval or (None, None)
        text = score_text({"value": each.difference.value, "low": low, "high": high})
        ways = f"random less {each.split_by}"
        rows.append([each.name, each.classifier, each.shots, *[each.seed] * seeds, ways, each.metric, text])
    show_table(["backbone", "classifier", "shots", *["seed"] * seeds, "splits", "metric", "difference"], rows)
    warn(*dict.fromkeys(f"note: no interval: {each.difference.reason}" for each in found if each.difference.reason))


def show_side_differences(found: "Sequence[SideDifference]") -> None:
    """How much of a score is of the places that were trained on."""
    if not found:
        return
    say("", "how much higher scores are on one side than on the other:")
    rows = []
    for each in found:
        low, high = each.difference.interval or (None, None)
        text = score_text({"value": each.difference.value, "low": low, "high": high})
        rows.append(
            [each.name, each.classifier, each.shots, f"{each.one} less {each.other}", each.difference.metric, text]
        )
    show_table(["backbone", "classifier", "shots", "sides", "metric", "difference"], rows)
    warn(*dict.fromkeys(f"note: no interval: {each.difference.reason}" for each in found if each.difference.reason))


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
