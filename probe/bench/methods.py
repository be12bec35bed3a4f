"""The paragraph "Methods" of a paper for a board of `bb bench`, from what its runs record, and BibTeX."""

from collections.abc import Iterator, Mapping, Sequence

from bb.probe.bench.board import BenchBoard
from bb.probe.classification.comparisons.methods import classifier_sentences, data_set, protocol_entry, split_words
from bb.probe.features.extraction import Cost
from bb.probe.report.paper import bibliography, compared, computed_by, joined
from bb.store.local.runs import Run

Runs = Mapping[str, Sequence[Run]]  # of each family


def methods(board: BenchBoard, runs: Runs) -> str:
    """One paragraph in English, for pasting; empty where there are no runs."""
    by_space = {space: row.name for row in board.rows for space in row.spaces}
    order = {name: place for place, name in enumerate(dict.fromkeys(by_space.values()))}
    named = [(by_space[run.record["space"]], run) for each in runs.values() for run in each]
    if not named:
        return ""
    names, every = zip(*sorted(named, key=lambda each: order[each[0]]), strict=True)
    sets = f"{len(runs)} set{'s' * (len(runs) > 1)} of labelled images"
    said = [
        compared({name: Cost.of(run.record) for name, run in zip(names, every, strict=True)}, sets),
        *_families(board, runs),
        *classifier_sentences(every),
        *_statistics(board),
        computed_by(every, names),
    ]
    return " ".join(said)


def bibtex(runs: Runs) -> str:
    """BibTeX of the data sets and the protocols, as far as bb knows them, and of bb."""
    protocols = (protocol_entry(run.record) for each in runs.values() for run in each)
    return bibliography([*map(data_set, runs), *protocols])


def _families(board: BenchBoard, runs: Runs) -> Iterator[str]:
    for family, each in runs.items():
        sides = {c.side: c for c in board.columns if c.family == family}
        tested = [f"{c.n} test images{f' of {c.tasks} tasks' if c.tasks > 1 else ''}" for c in sides.values()]
        splits = {split_words(run.record, side) for run in each for side in _sides(run)}
        yield f"{family}: {joined(tested)}. {'. '.join(sorted(splits))}."


def _sides(run: Run) -> list[str]:
    return [side for sides in run.record["scores"]["tasks"].values() for side in sides]


def _statistics(board: BenchBoard) -> Iterator[str]:
    metrics = {column.metric.replace("_", " "): None for column in board.columns}
    means = [name for name in ("seeds", "tasks") if any(getattr(column, name) > 1 for column in board.columns)]
    averaged = f", the mean over {joined(means)}" if means else ""
    yield (
        f"We report {joined(list(metrics))}{averaged}, with 95% intervals for further test images of each set, after "
        "Agresti and Coull (Student's t where the score is not a rate), with a variance from the influence of each "
        "independent unit."
    )
    if board.ranked > 1:
        yield (
            "Backbones were ranked by each score; a mean rank weighs each set of images the same. Its 95% interval, "
            "after Mogstad, Romano, Shaikh and Wilhelm, comes from a backbone's differences to all others in all "
            "scores at once, held against 1,000 to 10,000 draws of equal backbones; two backbones are called different "
            "where their intervals do not overlap. Nothing is claimed of other sets of images."
        )
