"""The paragraph "Methods" of a paper for a board of classification, from what its runs record, and BibTeX."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bb.probe.classification.board import Board, shots_used
from bb.probe.report.paper import LISTED, bibliography, compared, computed_by, of_source
from bb.probe.tasks.family import about
from bb.probe.tasks.registry import TASKS
from bb.store.local.runs import Run

PREPROCESSING = {
    "none": "taken as they are",
    "l2": "scaled to unit length",
    "center-l2": "scaled to unit length, centred on the training images' mean and scaled again",
    "standard": "standardised by the training images",
    "standard-l2": "standardised by the training images and scaled to unit length",
}
SPLITS = {
    "column": "The split is the table's own",
    "random": "Every image was tested, by stratified cross-validation ({side})",
    "group": "Every image was tested, by cross-validation that keeps the images of a group together ({side})",
    "time": "The latest images were tested by classifiers fitted to the earlier ones",
    "protocol": "The protocol draws the images that are tested",
}


def methods(board: Board) -> str:
    """One paragraph in English, for pasting."""
    return " ".join([*_features(board), *_classifiers(board), *_statistics(board), *_record(board)])


def bibtex(board: Board) -> str:
    """BibTeX of the data set and the protocol, as far as bb knows them, and of bb."""
    return bibliography([data_set(board.tasks), *(protocol_entry(row.run.record) for row in board.rows)])


def data_set(tasks: str) -> str:
    """BibTeX of a task family, where it is one that bb knows."""
    return about(TASKS.load(tasks)).citation if tasks in TASKS.plugins else ""


def protocol_entry(record: Mapping[str, Any]) -> str:
    """BibTeX of a run's published protocol, where it has one."""
    published = record.get("published")
    return of_source(published["name"], published["source"]) if published else ""


def _features(board: Board) -> Iterator[str]:
    what = {"classes": f" ({len(board.classes)} classes)", "traits": f" ({len(board.classes)} traits)"}
    on = f"{board.tasks}{what.get(board.target, '')} with {board.n} test images"
    yield compared({row.name: row.cost for row in board.rows}, on)


def _classifiers(board: Board) -> Iterator[str]:
    yield f"{split_words(board.rows[0].run.record, board.side)}."
    groups = board.rows[0].run.record["scores"]["tasks"][board.task][board.side].get("groups")
    if type(groups) is int:
        yield f"The test images are of {groups} groups."
    yield from classifier_sentences([row.run for row in board.rows])


def split_words(record: Mapping[str, Any], side: str) -> str:
    """How a run's images were split, in a clause."""
    by = record["split_by"]
    return SPLITS.get(by, f"The split is by {by}").replace("{side}", side)


def classifier_sentences(runs: Sequence[Run]) -> Iterator[str]:
    """The classifiers of some runs with their parameters, the protocols, training images of each class, and seeds."""
    records = [run.record for run in runs]
    kinds = dict.fromkeys(map(_words, records))
    yield f"{'Classifiers' if len(kinds) > 1 else 'The classifier'}: {'; '.join(kinds)}."
    sources = {each["name"]: each["source"] for record in records if (each := record.get("published"))}
    for name, source in sources.items():
        yield f"The protocol {name} is after {source or 'a source that is not recorded'}."
    shots = sorted({str(shots_used(run)) for run in runs}, key=lambda text: (text == "all", text.zfill(9)))
    seeds = sorted({int(record["seed"]) for record in records})
    numbers = ", ".join(map(str, seeds))
    if shots != ["all"]:
        order = "" if sources else " in the order of a SHA-256 of task, image and seed"
        yield f"Training images of each class ({', '.join(shots)}) were drawn{order}; seeds {numbers}."
    elif len(seeds) > 1:
        yield f"Seeds {numbers}."


def _words(record: Mapping[str, Any]) -> str:
    """A run's protocol and classifier with the parameters that it records: long lists by their ends."""
    parameters, published = record.get("parameters") or {}, record.get("published") or {}
    how = parameters.get("preprocessing") or "none"
    estimator = parameters.get("estimator") or {}
    named = [f"{name} {_value(value)}" for name, value in sorted(estimator.items()) if value is not None][:LISTED]
    who = " ".join(filter(None, (str(record["classifier"]), published.get("setting"))))
    who = f"the protocol {published['name']}, {who}" if published else who
    return f"{who} on features {PREPROCESSING.get(how, how)}" + (f" ({', '.join(named)})" if named else "")


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
    yield computed_by([row.run for row in board.rows], [row.name for row in board.rows])
