"""What a page of retrieval shows, in a sentence that follows from its figures by a rule."""

from collections.abc import Sequence

from bb.probe.report.findings import leading, listed
from bb.probe.retrieval.statistics.paired_tests import QueryEstimate

ALPHA = 0.05
EQUAL = 1e-12  # below which two means differ by rounding alone


def leader(
    names: Sequence[str], scores: Sequence[QueryEstimate], p: Sequence[float | None], metric: str, claim: str
) -> str:
    """Which run is ahead, by how much, and how sure that is.

    names, scores  of the runs, the best first;  p: of each other one's difference from it, None where there is none
    claim          why there is none
    """
    first, n = names[0], len(names)
    score = f"{scores[0].mean:.3f}"
    score += f" (95% interval {scores[0].low:.3f} to {scores[0].high:.3f})" if scores[0].low is not None else ""
    what = f"{score} in {metric}"
    if n == 1:
        return f"{first} scores {what}. There is no other run to compare it with."
    apart = [scores[0].mean - each.mean for each in scores]
    if abs(apart[1]) < EQUAL:
        same = [name for name, less in zip(names, apart, strict=True) if abs(less) < EQUAL]
        return f"{listed(same)} have the same highest {metric}: {score}."
    ahead = f", {apart[1]:.3f} ahead of {names[1]}, the next"
    if None in p:
        return f"{first} scores highest of {n} runs, {what}{ahead}; how sure that is remains unknown ({claim})."
    tied = [name for name, each in zip(names[1:], p, strict=True) if each is not None and each > ALPHA]
    return leading(first, what, ahead, tied, n - 1, "runs")
