"""Confusion matrices as SVG: similar classes side by side, whole and in parts that can be read."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from bb.probe.report.formats.svg_parts import LETTER, Picture, distinct, escape

LARGEST = 60  # classes of a picture whose cells have names
PART = 40  # classes of a part of a larger one
SIDE = 14  # pixels of a cell with a name
WHOLE = 600  # pixels of a matrix without names
BINS = 150  # rows of it: of more classes, neighbours share one
NAME = 24  # letters of a class
OPTIMAL = 300  # classes of which an optimal order of leaves is found in a second

Counts = Int[np.ndarray, "k k"]


class Part(NamedTuple):
    """Neighbouring classes of a large matrix: their numbers, and how many images of them are taken for others'."""

    classes: Int[np.ndarray, " c"]
    leaving: int


def most_confused(counts: Counts) -> Int[np.ndarray, " c"]:
    """The classes of which most images are wrong or that most are taken for, in the order of `similar`."""
    wrong = counts - np.diag(np.diagonal(counts))
    drawn = np.sort(np.argsort(-(wrong.sum(axis=0) + wrong.sum(axis=1)), kind="stable")[:LARGEST])
    return drawn[similar(counts[np.ix_(drawn, drawn)])]


def similar(counts: Counts) -> Int[np.ndarray, " k"]:
    """An order in which classes that are confused stand together (average linkage, optimal leaves)."""
    if len(counts) < 3:
        return np.arange(len(counts))
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    apart = 1 - np.clip((share + share.T) / 2, 0, 1)
    np.fill_diagonal(apart, 0)
    condensed = squareform(apart, checks=False)
    return leaves_list(linkage(condensed, "average", optimal_ordering=len(counts) <= OPTIMAL))


def parts_of(counts: Counts, order: Int[np.ndarray, " k"]) -> list[Part]:
    """The classes in this order, PART at a time."""
    made = []
    for chosen in np.array_split(order, -(-len(order) // PART)):
        outside = np.setdiff1d(order, chosen)
        made.append(Part(chosen, int(counts[np.ix_(chosen, outside)].sum())))
    return made


def named_picture(counts: Counts, order: Int[np.ndarray, " c"], classes: Sequence[str]) -> Picture:
    """A cell for each of these classes (row) and what its images were taken for (column), with the classes' names."""
    matrix = counts[np.ix_(order, order)]
    share = matrix / np.maximum(counts[order].sum(axis=1, keepdims=True), 1)
    names = distinct([classes[k] for k in order], NAME)
    margin, size = 10 + LETTER * max(map(len, names)), SIDE * len(order)
    parts = [f'<rect class="grid" x="{margin:g}" y="{margin:g}" width="{size}" height="{size}"/>']
    for i, j in zip(*np.nonzero(matrix), strict=True):
        words = f"{classes[order[i]]} taken for {classes[order[j]]}: {matrix[i, j]} ({share[i, j]:.0%})"
        parts.append(
            f'<rect class="{"right" if i == j else "wrong"}" x="{margin + SIDE * j:g}" y="{margin + SIDE * i:g}" '
            f'width="{SIDE - 1}" height="{SIDE - 1}" fill-opacity="{0.12 + 0.88 * share[i, j]:.2f}">'
            f"<title>{escape(words)}</title></rect>"
        )
    for place, (name, k) in enumerate(zip(names, order, strict=True)):
        at, title = margin + SIDE * place + 10, f"<title>{escape(classes[k])}</title>"
        parts.append(f'<text x="{margin - 5:g}" y="{at:g}" text-anchor="end">{escape(name)}{title}</text>')
        parts.append(f'<text transform="translate({at:g} {margin - 5:g}) rotate(-90)">{escape(name)}{title}</text>')
    return "".join(parts), margin + size + 2, margin + size + 2


def whole_picture(counts: Counts, parts: Sequence[Part], key: str) -> Picture:
    """All classes in the order of the parts, as shades; a square around each part leads to the element {key}-{part}."""
    order = np.concatenate([part.classes for part in parts])
    bins = min(BINS, len(order))
    place = np.arange(len(order)) * bins // len(order)
    matrix = np.zeros((bins, bins))
    np.add.at(matrix, np.ix_(place, place), counts[np.ix_(order, order)])
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = WHOLE / bins
    drawn = [f'<rect class="grid" width="{WHOLE}" height="{WHOLE}"/>', *_shades(share, side)]
    start = 0
    for number, part in enumerate(parts):
        at, size = WHOLE * start / len(order), WHOLE * len(part.classes) / len(order)
        label = f"part {number + 1}, {len(part.classes)} classes"
        drawn.append(
            f'<a href="#{key}-{number}" aria-label="{label}"><rect class="zone" x="{at:.1f}" y="{at:.1f}" '
            f'width="{size:.1f}" height="{size:.1f}"><title>{label}</title></rect></a>'
        )
        start += len(part.classes)
    return "".join(drawn), WHOLE, WHOLE


def _shades(share: np.ndarray, side: float) -> Iterator[str]:
    """Cells of about the same share as one path each, the diagonal by itself."""
    level = np.ceil(4 * np.sqrt(share)).astype(int)
    diagonal = np.eye(len(share), dtype=bool)
    for kind, cells in (("right", diagonal), ("wrong", ~diagonal)):
        for step in range(1, 5):
            found = zip(*np.nonzero((level == step) & cells), strict=True)
            path = "".join(f"M{side * j:.1f} {side * i:.1f}h{side:.1f}v{side:.1f}h-{side:.1f}z" for i, j in found)
            if path:
                yield f'<path class="{kind}" fill-opacity="{0.1 + 0.225 * step:.2f}" d="{path}"/>'
