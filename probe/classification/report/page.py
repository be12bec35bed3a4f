"""`bb report classify --html`: scores, confusion, confused pairs and classes, in one file that works offline.

The markup is page.html's; here are pictures, as SVG that follows the page's colours, sentences and what tables hold.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from bb.probe.classification.board import Board, Row, details
from bb.probe.classification.comparisons.headline import Headline, headlines
from bb.probe.classification.comparisons.methods import bibtex, methods
from bb.probe.classification.comparisons.reference import Comparison
from bb.probe.classification.comparisons.split_differences import split_differences
from bb.probe.classification.report import confusion
from bb.probe.classification.report.curves import learning_curves, most_reliable_first
from bb.probe.classification.report.figures import curves_picture, key_of, reliability_picture
from bb.probe.classification.report.findings import findings
from bb.probe.classification.report.hard_images import Hard, best_of_each, groups_of, hardest
from bb.probe.report.formats.svg_cost import Spot, axis_of, cost_picture, cost_words
from bb.probe.report.formats.svg_parts import distinct
from bb.probe.report.formats.templates import render
from bb.probe.retrieval.report.thumbnail import Thumbnail

SHOWN = {
    "classes": ("accuracy", "balanced_accuracy", "macro_f1@wilds", "macro_f1@biobench", "top_5", "ece", "nll"),
    "traits": ("macro_f1", "mean_ap", "exact_match"),
    "values": ("r2", "mae", "rmse", "spearman"),
}
GROUPS = 100  # of a table, the worst first
View = dict[str, Any]  # what the template shows, in addition to what a board has


def page(boards: Sequence[Board], thumbnails: Mapping[str, Thumbnail], reference: Sequence[Comparison] = ()) -> str:
    """The whole file. thumbnails: small pictures of wrongly classified images, by image ID. reference: published scores
    next to ours. Of a protocol that draws the test images only the boards of its first seed are drawn.
    """
    means = [each for each in headlines(boards) if len(each.asked) > 1]
    boards = _first_draws(boards)
    runs = {row.run.run_id: row.run for board in boards for row in board.rows}
    splits = split_differences(list(runs.values()))
    bounds = [bound for each in splits for bound in (each.difference.value, *(each.difference.interval or ()))]
    return render(
        "classification/report/page.html",
        title=f"bb: {', '.join(dict.fromkeys(board.tasks for board in boards))}",
        filtered="backbones",
        sections=[section for section in (_published(reference), _means(means)) if section["rows"]],
        boards=[_view(f"board-{number}", board) for number, board in enumerate(boards)],
        thumbnails=thumbnails,
        differences=splits,
        unsure=list(
            dict.fromkeys(f"no interval: {each.difference.reason}" for each in splits if each.difference.reason)
        ),
        difference_ends=(min(0.0, *bounds), max(0.0, *bounds)) if bounds else None,
    )


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


def _means(found: Sequence[Headline]) -> View:
    """Of protocols with several seeds their headline."""
    return {
        "key": "means",
        "title": "Means over seeds",
        "words": "The mean over each protocol's seeds. sd is over its draws of training images, not over further "
        "images.",
        "columns": ("table", "protocol", "backbone", "classifier", "shots", "metric", "mean", "sd", "seeds"),
        "rows": [[*_of(h), f"{h.value:.4f}", f"{h.sd:.4f}", h.seeds_text] for h in found],
    }


def _published(found: Sequence[Comparison]) -> View:
    """Published scores, each with why it does not compare."""
    return {
        "key": "reference",
        "title": "Published scores",
        "words": "Ours are means over seeds. A difference with ~ does not compare, for the reasons in its row.",
        "columns": ("table", "protocol", "backbone", "classifier", "shots", "metric", "ours", "published",
                    "difference", "why it does not compare"),
        "rows": [
            [*_of(c.ours), f"{c.ours.value:.4f}", f"{c.theirs.score:.4f}",
             f"{'~' if c.obstacles else ''}{c.difference:+.4f}", "; ".join(c.obstacles)]
            for c in found
        ],
    }  # fmt: skip


def _of(h: Headline) -> list[str]:
    return [h.board.tasks, h.board.protocol, h.backbone, h.classifier, str(h.shots), h.metric]


def shown_images(boards: Sequence[Board]) -> dict[str, list[str]]:
    """Of each collection the available images that the page shows: of confused classes, and the hardest."""
    found: dict[str, list[str]] = {}
    for board in boards:
        record = board.rows[0].run.record
        ids = found.setdefault(f"{record['collection_name']}@{record['collection']}", [])
        ids += [image_id for _, pair in _pairs(board) for image_id in pair]
        ids += [hard.image_id for hard in hardest(board)]
    return found


def _view(key: str, board: Board) -> View:
    """Of a board what is worked out for the page; `best` is empty where its first run has no classes to show."""
    metrics = [metric for metric in SHOWN[board.target] if any(metric in row.metrics for row in board.rows)]
    view = {
        "board": board,
        "key": key,
        "facts": _facts(board),
        "findings": " ".join(findings(board)),
        "metrics": sorted(metrics, key=lambda metric: metric != board.metric),
        "compared": _compared(board),
        "unstated": board.unstated(metrics),
        "cost": _cost(board),
        "learning": _learning(board),
        "reliability": _reliability(board),
        "methods": methods(board),
        "bibtex": bibtex(board),
        "best": "",
    }
    found = details(board, board.rows[0])
    if not found:
        return view
    classes, _, answers = found
    best = f"{board.rows[0].name}, {board.rows[0].classifier}"
    return {
        **view,
        "best": best,
        "confusion": _confusion(board, key, answers.confusion, best),
        "pairs": list(_pairs(board)),
        "hardest": [(hard, _answers_of(board, hard)) for hard in hardest(board)],
        "classes": classes,
        "groups": _groups(board, best),
    }


def _facts(board: Board) -> str:
    main = board.rows[0].metrics[board.metric]
    words = [f"95% intervals, of {main['claim']}."] if main["low"] is not None else []
    if board.chance is not None and board.majority is not None:
        words.append(
            f"Guessing scores {board.chance:.3f}; naming the commonest class always, an accuracy of "
            f"{board.majority:.3f}."
        )
    return " ".join(words)


def _compared(board: Board) -> str:
    """What is said of differences between runs."""
    if any(row.group for row in board.rows):
        return (
            "Runs that share a letter can't be told apart: the interval of their difference holds 0. Ranks are those "
            "that these intervals leave; all hold together (Bonferroni)."
        )
    return "Each run is compared with the best alone." if len(board.rows) > 1 else ""


def _cost(board: Board) -> View | None:
    """Scores over cost, of each backbone's best run; None where fewer than two have a size on record."""
    spots = [
        Spot(row.name, found["value"], None if found["low"] is None else (found["low"], found["high"]), row.cost)
        for row in best_of_each(board)
        if (found := row.metrics[board.metric])["value"] is not None
    ]
    axis = axis_of(spots)
    if axis is None:
        return None
    words = cost_words(spots, axis, "the score of each backbone's best run")
    return {"words": words, "picture": cost_picture(spots, axis, board.metric, board.guesses)}


def _learning(board: Board) -> View | None:
    """Scores over shots; None where all runs have one number of them."""
    curves = learning_curves(board)
    if len({point.shots for curve in curves for point in curve.points}) < 2:
        return None
    words = f"{board.metric} over the training images of each class; bands are 95% intervals."
    if any(point.seeds > 1 for curve in curves for point in curve.points):
        words += " A point of several seeds is their mean, and its band the mean of their intervals."
    return {"words": words, "key": key_of(curves), "picture": curves_picture(curves, board.metric, board.guesses)}


def _reliability(board: Board) -> View | None:
    """How often a confidence is right; None where no run gives probabilities."""
    found = most_reliable_first(board)
    if found is None:
        return None
    row, bins = found
    ece = row.metrics["ece"]["value"]
    words = (
        f"{row.name}, {row.classifier}, shots {row.shots}: a point for the images of about the same "
        "confidence. On the dotted line they are right as often as the classifier says; below it, less often. The bars "
        f"below count the images. The mean distance to the line is an ECE of {ece:.3f}."
    )
    if any(bin_.interval is None for bin_ in bins):
        words += " Points without a whisker have no interval: their images are in groups, or fewer than 8."
    return {"words": words, "picture": reliability_picture(bins)}


def _confusion(board: Board, key: str, counts: Int[np.ndarray, "k k"], best: str) -> View:
    """The whole matrix; of many classes those most confused, and all of them in parts."""
    words = (
        f"{best}. A row for each true class, a column for each predicted one, in the same order: similar classes "
        "stand together. The stronger a cell, the larger its share of the row."
    )
    if len(counts) <= confusion.LARGEST:
        order = confusion.similar(counts)
        return {"words": words, "picture": confusion.named_picture(counts, order, board.classes), "parts": ()}
    words += f" Of {len(counts)} classes the {confusion.LARGEST} that are confused most are drawn with their names."
    parts = confusion.parts_of(counts, confusion.similar(counts))
    return {
        "words": words,
        "picture": confusion.named_picture(counts, confusion.most_confused(counts), board.classes),
        "whole": confusion.whole_picture(counts, parts, f"{key}-part"),
        "parts": [
            (_part_words(board, part), confusion.named_picture(counts, part.classes, board.classes)) for part in parts
        ],
    }


def _part_words(board: Board, part: confusion.Part) -> str:
    first, last = distinct([board.classes[part.classes[k]] for k in (0, -1)], 32)
    images = f"{part.leaving} image{'s' * (part.leaving != 1)}"
    leaving = f"; {images} taken for classes of other parts" if part.leaving else ""
    return f"{len(part.classes)} classes, {first} to {last}{leaving}"


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


def _answers_of(board: Board, hard: Hard) -> list[tuple[str, list[str]]]:
    """Which backbones named which class, the class that most named first."""
    by_class: dict[int, list[str]] = {}
    for backbone, predicted in hard.predicted.items():
        by_class.setdefault(predicted, []).append(backbone)
    order = sorted(by_class.items(), key=lambda item: -len(item[1]))
    right = {hard.true: " (right)"}
    return [(f"{board.classes[k]}{right.get(k, '')}", names) for k, names in order]


def _groups(board: Board, best: str) -> View | None:
    """The groups of test images, the worst first."""
    found = groups_of(board, board.rows[0])
    if not found:
        return None
    shares = np.array([each.right / each.n for each in found])
    low, middle, high = np.quantile(shares, [0.25, 0.5, 0.75])
    words = (
        f"{best}. Half of the {len(found)} groups have an accuracy of {low:.3f} to {high:.3f}, with a median of "
        f"{middle:.3f}. Images of a group are not independent, so a group has no interval."
    )
    words += f" The {GROUPS} worst are shown." if len(found) > GROUPS else ""
    return {"words": words, "worst": found[:GROUPS]}
