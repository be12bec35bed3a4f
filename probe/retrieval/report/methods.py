"""The paragraph "Methods" of a paper for runs of retrieval, from what they record, and BibTeX."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bb.probe.features.extraction import Cost
from bb.probe.report.paper import bibliography, compared, computed_by, joined
from bb.probe.retrieval.statistics.paired_tests import MANY
from bb.probe.tasks.family import about
from bb.probe.tasks.registry import TASKS
from bb.store.format.space import short
from bb.store.local.runs import Run

CONVENTIONS = {
    "standard": "Queries without a relevant image are left out of the means.",
    "oml": "Scores are counted as Open Metric Learning 4.0 does.",
}


def methods(runs: Sequence[Run], metric: str, claim: str) -> str:
    """One paragraph in English, for pasting.

    metric  that the runs are ordered by;  claim: what the intervals are for, or why there are none
    """
    first, names = runs[0].record, run_names(runs)
    backbones = {", ".join(run.record["backbones"]): Cost.of(run.record) for run in runs}
    scores = first["scores"]
    on = f"{first['tasks']}, with {scores['queries']} queries and {scores['gallery']} images in the gallery"
    said = [compared(backbones, on), *_search(runs, names), *_statistics(runs, metric, claim), computed_by(runs, names)]
    return " ".join(said)


def run_names(runs: Sequence[Run]) -> list[str]:
    """What each run is called: its backbone, re-ranked or not, with the run's ID where that is not enough."""
    backbones = [
        ", ".join(run.record["backbones"]) + (" re-ranked" if run.record["parameters"]["rerankers"] else "")
        for run in runs
    ]
    return [
        name if name and backbones.count(name) == 1 else f"{name} {short(run.run_id)}".strip()
        for name, run in zip(backbones, runs, strict=True)
    ]


def bibtex(runs: Sequence[Run]) -> str:
    """BibTeX of the data set, as far as bb knows it, and of bb."""
    tasks = runs[0].record["tasks"]
    return bibliography([about(TASKS.load(tasks)).citation if tasks in TASKS.plugins else ""])


def _search(runs: Sequence[Run], names: Sequence[str]) -> Iterator[str]:
    how = runs[0].record["parameters"]
    yield f"{_roles(how['roles'])} No image is retrieved for itself or for one of its sequence."
    ways: dict[str, list[str]] = {}
    for name, run in zip(names, runs, strict=True):
        ways.setdefault(_way(run.record), []).append(name)
    if len(ways) == 1:
        yield f"The gallery was ranked by {next(iter(ways))}."
    else:
        yield f"The gallery was ranked by {'; by '.join(f'{way} ({joined(of)})' for way, of in ways.items())}."
    yield CONVENTIONS.get(how["convention"], f"Scores are counted by the convention {how['convention']}.")


def _roles(roles: Mapping[str, Any]) -> str:
    """Which images ask and which answer."""
    split, against, folds = roles["split"], roles["against"], roles["folds"]
    images = "All images" if split in (None, "all") else f"The images of the split {split}"
    if against is not None:
        said = f"{images} were queries, those of the split {against} the gallery."
    else:
        said = f"{images} were queries and gallery of each other, as far as the table gives them no other role."
    return said if folds is None else f"{said} They were dealt into {folds} folds (seed {roles['seed']})."


def _way(record: Mapping[str, Any]) -> str:
    """By which distance, index and re-ranking."""
    how = record["parameters"]
    index, steps = how.get("index"), [each for each in how["rerankers"] if isinstance(each, dict)]
    searched = f"approximately by {_values(index)}" if isinstance(index, dict) else "exactly"
    return f"{how['distance']} distance, {searched}" + "".join(f", then by {_values(step)}" for step in steps)


def _values(mapping: Mapping[str, Any]) -> str:
    """As "faiss (factory IVF10)": the first value, and the others with their names."""
    first, *others = [(key, value) for key, value in mapping.items() if value is not None]
    return f"{first[1]}" + (f" ({', '.join(f'{key} {value}' for key, value in others)})" if others else "")


def _statistics(runs: Sequence[Run], metric: str, claim: str) -> Iterator[str]:
    if not claim.startswith("95%"):
        yield f"We report {metric}, the mean over queries; {claim}."
        return
    yield (
        f"We report {metric}, the mean over queries, with {claim}, after Agresti and Coull with the effective number "
        f"of queries; the independent units are {MANY.get(str(runs[0].record['units']['kind']), 'units')}."
    )
    if len(runs) > 1:
        yield (
            "Runs were compared with the first by the interval of their paired difference (Newcombe's square-and-add), "
            "without resampling; p-values are corrected for all comparisons by Holm's method at the 5% level."
        )
