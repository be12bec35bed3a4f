"""The paragraph "Methods" for a board of NeWT, from what its runs record, and BibTeX."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from bb.probe.report.leaderboard import METRIC_WORDS, Leaderboard, LeaderboardCell
from bb.probe.report.paper import bibliography, compared, computed, joined
from bb.probe.report.provenance import Origin

CORRECTIONS = {"holm": "Holm's method", "bh": "Benjamini and Hochberg's method"}
TESTS = {
    "flips of images": "paired permutation tests (10,000 or more random sign flips of test images' differences)",
    "flips of tasks": "paired permutation tests (10,000 or more random sign flips of tasks' differences)",
    "t test": "paired t tests on the differences",
}
PREPROCESSING = {
    "biobench": "scaled to unit length, centred on the training images' mean and scaled again",
    "newt2021": "standardised by the training images and scaled to unit length",
}
SOURCES = {"biobench": "github.com/samuelstevens/biobench", "newt2021": "NeWT's authors"}

NEWT = """@inproceedings{vanhorn2021newt,
  author = {Van Horn, Grant and Cole, Elijah and Beery, Sara and Wilber, Kimberly and Belongie, Serge and
            {Mac Aodha}, Oisin},
  title = {Benchmarking Representation Learning for Natural World Image Collections},
  booktitle = {CVPR}, year = {2021}}"""
BIOBENCH = """@misc{stevens_biobench,
  author = {Stevens, Samuel}, title = {biobench}, howpublished = {github.com/samuelstevens/biobench}}"""


def methods(board: Leaderboard) -> str:
    """One paragraph in English, for pasting; it names what the runs do not record as not recorded."""
    return " ".join([*_features(board), *_classifiers(board), *_statistics(board), *_record(board)])


def bibtex(board: Leaderboard) -> str:
    """BibTeX of the data set and the protocol, as far as bb knows them, and of bb."""
    return bibliography([NEWT * (board.tasks == "newt"), BIOBENCH * (board.protocol == "biobench")])


def _cells(board: Leaderboard) -> Iterator[LeaderboardCell]:
    return (cell for row in board.rows for cell in row.cells.values())


def _features(board: Leaderboard) -> Iterator[str]:
    on = f"{board.n_tasks} tasks of {board.tasks} with {board.n_images} test images"
    yield compared({row.label: row.cost for row in board.rows}, on)


def _classifiers(board: Leaderboard) -> Iterator[str]:
    yield (
        f"Features were {PREPROCESSING[board.protocol]}, and classified by the protocol {board.protocol} "
        f"({SOURCES[board.protocol]}):"
    )
    kinds = {
        n: " or ".join(sorted({_words(row.cells[n].origin) for row in board.rows if n in row.cells}))
        for n in board.columns
    }
    parts = []
    for kind, some in groupby(board.columns, key=kinds.__getitem__):
        numbers = list(some)
        parts.append(f"with {joined(numbers)} training images{'' if numbers[-1] == 'all' else ' a task'}, {kind}")
    yield "; ".join(parts) + "."
    seeds = sorted({seed for cell in _cells(board) for seed in cell.origin.seeds if seed is not None})
    if seeds:
        one = len(seeds) == 1
        yield (
            f"Few-shot training sets were drawn in the order of a SHA-256 of task, image and seed, with the "
            f"{'seed' if one else 'seeds'} {', '.join(map(str, seeds))}"
            + ("." if one else "; a score is the mean over its seeds.")
        )


def _words(origin: Origin) -> str:
    """A classifier with the parameters that its runs record."""
    found: Any = origin.parameters.get(origin.classifier)
    try:
        if origin.classifier == "linear":
            return f"a linear SVM (C = {found['C']:g})"
        if origin.classifier == "search" and "n_iter" in found:
            (least_C, most_C), (least, most) = found["C"], found["gamma"]
            return (
                f"an SVM chosen from {found['n_iter']:d} random candidates (C in [{least_C:g}, {most_C:g}], gamma in "
                f"[{least:g}, {most:g}], kernels {', '.join(found['kernel'])}) by accuracy in {found['folds']:d}-fold "
                "cross-validation on standardised features"
            )
        if origin.classifier == "search":
            return (
                f"a linear SVM with C chosen from {', '.join(f'{C:g}' for C in found['C'])} by accuracy in "
                f"{found['folds']:d}-fold cross-validation"
            )
    except (KeyError, TypeError, ValueError):  # another bb's record, or a stranger's
        return f"the classifier {origin.classifier} (its parameters are not recorded)"
    return f"the classifier {origin.classifier}"


def _statistics(board: Leaderboard) -> Iterator[str]:
    metric = METRIC_WORDS.get(board.metric, board.metric)
    over = {"images": f"further {board.units}", "draws": "further draws of training images", "tasks": "further tasks"}
    whom = " and ".join(over[level] for level in board.over if not (level == "images" and "tasks" in board.over))
    yield (
        f"We report {metric}, averaged over {'test images' if board.average == 'images' else 'tasks'}, with 95% "
        f"intervals for {whom} after Agresti and Coull (Student's t where the score is not a rate), with a variance "
        "from the influence of each independent unit."
    )
    if board.test in TESTS:
        yield (
            f"Backbones were compared by {TESTS[board.test]}, corrected for all comparisons by "
            f"{CORRECTIONS[board.correction]} at the 5% level; rank intervals hold for all backbones together."
        )


def _record(board: Leaderboard) -> Iterator[str]:
    origins = [cell.origin for cell in _cells(board)]
    yield computed(
        (words for each in origins for words in each.versions),
        [(board.collection, board.collection_digest)],
        [board.test_set],
        ((row.label, row.space) for row in board.rows),
        ((made.run_id, made.digest) for each in origins for made in each.runs),
    )
