"""The paragraph "Methods" of a paper for a board of classification, from what its runs record, and BibTeX."""

from collections.abc import Iterator
from typing import Any

from bb.probe.classification.board import Board, Row
from bb.probe.report.methods import own_bibtex, size_of
from bb.probe.tasks.family import about
from bb.probe.tasks.registry import TASKS
from bb.store.format.space import short
from bb.store.plugins import OWN
from bb.store.versions import installed

PREPROCESSING = {
    "none": "taken as they are",
    "l2": "scaled to unit length",
    "center-l2": "scaled to unit length, centred on the training images' mean and scaled again",
    "standard": "standardised by the training images",
    "standard-l2": "standardised by the training images and scaled to unit length",
}
SPLITS = {
    "column": "The split is the table's own",
    "random": "Each image was tested once, by stratified cross-validation ({side})",
    "group": "Each image was tested once, by cross-validation that keeps the images of a group together ({side})",
    "time": "The latest images were tested by classifiers fitted to the earlier ones",
    "protocol": "The protocol draws the images that are tested",
}
LISTED = 6  # of a classifier's parameters and of digests


def methods(board: Board) -> str:
    """One paragraph in English, for pasting."""
    return " ".join([*_features(board), *_classifiers(board), *_statistics(board), *_record(board)])


def bibtex(board: Board) -> str:
    """BibTeX of the data set, as far as bb knows it, and of bb."""
    known = about(TASKS.load(board.tasks)).citation if board.tasks in TASKS.plugins else ""
    return "\n\n".join(filter(None, (known, own_bibtex())))


def _features(board: Board) -> Iterator[str]:
    rows = {row.run.record["space"]: row for row in board.rows}
    names = ", ".join(f"{row.name}{size_of(row.cost)}" for row in rows.values())
    what = {"classes": f"{len(board.classes)} classes", "traits": f"{len(board.classes)} traits"}.get(board.target, "")
    yield (
        f"We compared {len(rows)} frozen vision {'backbone' if len(rows) == 1 else 'backbones'} ({names}) on "
        f"{board.tasks}{f' ({what})' if what else ''} with {board.n} test images. Each image was embedded once, "
        "without augmentation, through the evaluation transform of the backbone's own weights."
    )


def _classifiers(board: Board) -> Iterator[str]:
    split = SPLITS.get(board.split_by, f"The split is by {board.split_by}").replace("{side}", board.side)
    groups = board.rows[0].run.record["scores"]["tasks"][board.task][board.side].get("groups")
    yield f"{split}." + (f" The test images are of {groups} groups." if type(groups) is int else "")
    kinds = dict.fromkeys(_words(row) for row in board.rows)
    yield f"{'Classifiers' if len(kinds) > 1 else 'The classifier'}: {'; '.join(kinds)}."
    if board.protocol:
        first: dict[str, Any] = board.rows[0].run.record.get("published") or {}
        yield f"This is the protocol {board.protocol} (after {first.get('source', 'a source that is not recorded')})."
    shots = sorted({str(row.shots) for row in board.rows}, key=lambda text: (text == "all", text.zfill(9)))
    seeds = sorted({int(row.run.record["seed"]) for row in board.rows})
    if shots != ["all"]:
        order = "" if board.protocol else " in the order of a SHA-256 of task, image and seed"
        numbers = ", ".join(map(str, seeds))
        yield f"Training images of each class ({', '.join(shots)}) were drawn{order}; seeds {numbers}."


def _words(row: Row) -> str:
    """A run's classifier with the parameters that it records: long lists by their ends."""
    parameters = row.run.record.get("parameters") or {}
    how = parameters.get("preprocessing") or "none"
    estimator = parameters.get("estimator") or {}
    named = [f"{name} {_value(value)}" for name, value in sorted(estimator.items()) if value is not None][:LISTED]
    return f"{row.classifier} on features {PREPROCESSING.get(how, how)}" + (f" ({', '.join(named)})" if named else "")


def _value(value: Any) -> str:
    if isinstance(value, list) and len(value) > 3:
        return f"{_value(value[0])} to {_value(value[-1])} in {len(value)} steps"
    if isinstance(value, list):
        return " and ".join(map(_value, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _statistics(board: Board) -> Iterator[str]:
    main = board.rows[0].metrics[board.metric]
    name = "Student's t" if board.target == "values" else "Agresti and Coull"
    sure = (
        f"95% intervals of {main['claim']}, after {name}, with a variance from the influence of each independent unit"
        if main["low"] is not None
        else f"no interval: {main['reason']}"
    )
    yield f"We report {board.metric.replace('_', ' ')}, with {sure}."
    if any(row.tied is not None for row in board.rows):
        yield (
            "Runs were compared by intervals of paired differences over the same images, corrected for all comparisons "
            "by Bonferroni's method at the 5% level."
        )


def _record(board: Board) -> Iterator[str]:
    record = board.rows[0].run.record
    spaces = ", ".join(dict.fromkeys(f"{row.name} {short(row.run.record['space'])}" for row in board.rows))
    runs = [short(row.run.run_id) for row in board.rows]
    some = ", ".join(runs[:LISTED]) + (f" and {len(runs) - LISTED} more" if len(runs) > LISTED else "")
    yield (
        f"Computed with bb {installed(OWN) or 'from a checkout'}; collection {record['collection_name']} "
        f"{short(record['collection'])}, test set {short(record['test_set'])}; feature spaces {spaces}; runs {some}."
    )
