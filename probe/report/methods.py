"""The paragraph "Methods" of a paper, from what a board's runs record, and the entries for its list of references."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from bb.probe.features.extraction import Cost, count_text
from bb.probe.report.leaderboard import METRIC_WORDS, Leaderboard, LeaderboardCell
from bb.probe.report.provenance import Origin
from bb.store.format.space import short
from bb.store.plugins import OWN
from bb.store.versions import installed

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
BB = """@misc{bb,
  author = {{The bb authors}}, title = {bb: which frozen vision backbone, and how sure are we?}, version = {%s}}"""


def methods(board: Leaderboard) -> str:
    """One paragraph in English, for pasting; it names what the runs do not record as not recorded."""
    return " ".join([*_features(board), *_classifiers(board), *_statistics(board), *_record(board)])


def bibtex(board: Leaderboard) -> str:
    """BibTeX of the data set and the protocol, as far as bb knows them, and of bb."""
    entries = [NEWT] if board.tasks == "newt" else []
    entries += [BIOBENCH] if board.protocol == "biobench" else []
    return "\n\n".join([*entries, own_bibtex()])


def own_bibtex() -> str:
    """The entry of the bb that is running."""
    return BB % (installed(OWN) or "from a checkout")


def _cells(board: Leaderboard) -> Iterator[LeaderboardCell]:
    return (cell for row in board.rows for cell in row.cells.values())


def _features(board: Leaderboard) -> Iterator[str]:
    labels = ", ".join(f"{row.label}{size_of(row.cost)}" for row in board.rows)
    n = len(board.rows)
    yield (
        f"We compared {n} frozen vision {'backbone' if n == 1 else 'backbones'} ({labels}) on {board.n_tasks} tasks of "
        f"{board.tasks} with {board.n_images} test images. Each image was embedded once, without augmentation, through "
        "the evaluation transform of the backbone's own weights."
    )


def size_of(cost: Cost) -> str:
    """What is on record of a backbone's size, in brackets."""
    sizes = [f"{count_text(cost.parameters)} parameters"] if cost.parameters else []
    sizes += [f"{cost.gflops:.3g} GFLOPs an image"] if cost.gflops else []
    sizes += [f"{cost.pixels[0]}x{cost.pixels[1]} pixels"] if cost.pixels else []
    return f" ({', '.join(sizes)})" if sizes else ""


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
        *numbers, last = map(str, some)
        images = f"{', '.join(numbers)} and {last}" if numbers else last
        parts.append(f"with {images} training images{'' if last == 'all' else ' a task'}, {kind}")
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
    spaces = ", ".join(f"{row.label} {short(row.space)}" for row in board.rows)
    digests = sorted({short(made.digest) for cell in _cells(board) for made in cell.origin.runs})
    some = ", ".join(digests[:6]) + (f" and {len(digests) - 6} more" if len(digests) > 6 else "")
    yield (
        f"Computed with bb {installed(OWN) or 'from a checkout'}; collection {board.collection} "
        f"{short(board.collection_digest)}, test set {short(board.test_set)}; feature spaces {spaces}; runs {some}."
    )
