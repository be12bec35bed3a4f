"""The figures of a board: each cell's score with interval, rank, ties and differences, from the same resamples."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float64

from bb.probe.report.leaderboard import Delta, Estimate, Kind, LeaderboardCell, PublishedScore, Rank, Task, size
from bb.probe.report.options import ReportOptions
from bb.probe.report.provenance import Origin
from bb.probe.report.reference import FAMILY_TASKS
from bb.probe.statistics.bootstrap import Interval, Level, Resampled, resample
from bb.probe.statistics.comparison import Ranks, adjust, differences, letters, ranks
from bb.probe.statistics.leaders import Lead, leaders
from bb.probe.statistics.predictions import Table
from bb.probe.statistics.variance import split
from bb.probe.tasks.few_shot import NTrain
from bb.store.errors import BBError

ALPHA = 0.05
MAX_PAIRS = 1_000  # on a board, of cells at one n_train: where there are more, each is compared with the best alone


@dataclass(frozen=True)
class TableModel:
    """A model of the table: the column of its cell, and the rows that show it."""

    rows: tuple[str, ...]
    n_train: NTrain
    origin: Origin


@dataclass(frozen=True, eq=False)
class ResampledModels:
    """Models that are resampled together."""

    table: Table
    models: tuple[TableModel, ...]
    resampled: Resampled

    def columns(self) -> dict[NTrain, list[int]]:
        """The models of each n_train, by their places, the best first."""
        found: dict[NTrain, list[int]] = defaultdict(list)
        for place in np.argsort(-self.resampled.estimate, kind="stable").tolist():
            found[self.models[place].n_train].append(place)
        return found

    def pairs(self) -> list[tuple[int, int]]:
        return [pair for places in self.columns().values() for pair in combinations(places, 2)]

    def pairs_with(self, row: str | None) -> list[tuple[int, int]]:
        """Every other model less that of the row at the same n_train; less the best one without a row."""
        found = []
        for places in self.columns().values():
            bases = places[:1] if row is None else [p for p in places if row in self.models[p].rows]
            found += [(place, base) for base in bases for place in places if place != base]
        return found


@dataclass(frozen=True, eq=False)
class _Compared:
    """Pairs of each part, with p-values corrected for all of them. `test` is what these are of."""

    pairs: list[list[tuple[int, int]]]
    intervals: list[Interval]
    p: list[Float64[np.ndarray, " pairs"]]
    test: str

    def different(self, part: int, n: int) -> Bool[np.ndarray, "n n"]:
        found = np.zeros((n, n), bool)
        for (i, j), p in zip(self.pairs[part], self.p[part], strict=True):
            found[i, j] = found[j, i] = p <= ALPHA
        return found


def resampled_parts(table: Table, models: Sequence[TableModel], question: ReportOptions) -> list[ResampledModels]:
    """All models together, so that they share each resample; draws are those of one n_train each."""
    if question.over == "draws":
        columns = sorted({model.n_train for model in models}, key=size)
        chosen = [[p for p, model in enumerate(models) if model.n_train == n] for n in columns]
        levels: list[Level] = ["images" if n == "all" else "draws" for n in columns]  # "all" has no draws
    else:
        chosen, levels = [list(range(len(models)))], [question.over]
    average = question.average or ("images" if question.metric == "accuracy" else "tasks")
    parts = []
    for places, level in zip(chosen, levels, strict=True):
        part = table.some(places)
        found = resample(part, question.metric, average=average, over=(level,), resamples=question.resamples)
        if np.isnan(found.estimate).any():
            raise BBError(f"{question.metric} has no value on any of these tasks: choose another metric.")
        parts.append(ResampledModels(part, tuple(models[p] for p in places), found))
    return parts


def cells(
    parts: Sequence[ResampledModels], question: ReportOptions, family: str, tasks: Sequence[Task], baseline: str | None
) -> tuple[dict[tuple[str, NTrain], LeaderboardCell], str]:
    """The cell of each row and n_train, and what the p-values are of. `family` is the tasks' common name."""
    all_pairs = [part.pairs() for part in parts]
    lettered = sum(map(len, all_pairs)) <= MAX_PAIRS
    compared = _compare(parts, all_pairs if lettered else [part.pairs_with(None) for part in parts], question)
    with_base = _compare(parts, [part.pairs_with(baseline) for part in parts], question) if baseline else None
    made = {}
    for number, part in enumerate(parts):
        interval = part.resampled.interval()
        different = compared.different(number, len(part.models))
        splits, leads = _splits(part, question, tasks)
        variance = _variance(part.table) if question.details and question.metric == "accuracy" else None
        deltas = _deltas(with_base, number) if with_base else {}
        for n_train, places in part.columns().items():
            names = letters(different[np.ix_(places, places)]) if lettered else [""] * len(places)
            ranked = ranks(part.resampled.some(places))
            top = part.resampled.estimate[places[0]]
            for place, model in enumerate(places):
                best = bool(part.resampled.estimate[model] >= top - 1e-12)
                cell = LeaderboardCell(
                    estimate=_estimate(interval, model),
                    best=best,
                    tied=not best and not different[places[0], model],
                    group=names[place],
                    rank=_rank(ranked, place),
                    origin=part.models[model].origin,
                    delta=deltas.get(model),
                    beside=_beside(part, model, question, family),
                    splits={kind: {name: e[model] for name, e in found.items()} for kind, found in splits.items()},
                    leads=leads.get(model, {}),
                    variance=variance[model] if variance else {},
                )
                made.update({(row, n_train): cell for row in part.models[model].rows})
    return made, compared.test


def _compare(
    parts: Sequence[ResampledModels], pairs: list[list[tuple[int, int]]], question: ReportOptions
) -> _Compared:
    found = [
        differences(part.table, part.resampled, pairs=of_part) if of_part else None
        for part, of_part in zip(parts, pairs, strict=True)
    ]
    raw = [np.zeros(0) if one is None else one.p for one in found]
    adjusted = adjust(np.concatenate(raw), question.correction)
    ends = np.cumsum([len(p) for p in raw])[:-1]
    none = np.zeros(0)
    empty = Interval(none, none, none, np.zeros(0, bool))
    return _Compared(
        pairs,
        [empty if one is None else one.interval for one in found],
        np.split(adjusted, ends),
        next((one.test for one in found if one is not None), "none"),
    )


def _deltas(compared: _Compared, part: int) -> dict[int, Delta]:
    interval = compared.intervals[part]
    return {
        first: Delta(
            float(interval.estimate[k]), float(interval.low[k]), float(interval.high[k]), float(compared.p[part][k])
        )
        for k, (first, _) in enumerate(compared.pairs[part])
    }


def _splits(
    part: ResampledModels, question: ReportOptions, tasks: Sequence[Task]
) -> tuple[dict[Kind, dict[str, list[Estimate]]], dict[int, dict[str, Lead]]]:
    """Of each model, in each cluster, subcluster or task: intervals over test images, and its leads."""
    names: dict[Kind, dict[str, list[str]]] = {kind: defaultdict(list) for kind in question.kinds}
    for task in tasks:
        of_kind: dict[Kind, str | None] = {
            "cluster": task.cluster,
            "subcluster": task.subcluster and f"{task.cluster}/{task.subcluster}",
            "task": task.name,
        }
        for kind in question.kinds:
            if (name := of_kind[kind]) is not None:
                names[kind][name].append(task.name)
    whole = part.resampled
    found: dict[Kind, dict[str, list[Estimate]]] = {}
    clusters: dict[str, tuple[Table, Resampled]] = {}
    for kind, members in names.items():
        found[kind] = {}
        for name, of_name in sorted(members.items()):
            some = part.table.only(of_name)
            resampled = resample(some, question.metric, average=whole.average)
            interval = resampled.interval()
            found[kind][name] = [_estimate(interval, place) for place in range(len(part.models))]
            if kind == "cluster":
                clusters[name] = some, resampled
    return found, leaders(clusters, part.columns().values(), question.correction)


def _variance(table: Table) -> list[dict[str, float | None]] | None:
    try:
        return [found.shares for found in split(table)]
    except BBError:  # a task of one test image shows none
        return None


def _beside(part: ResampledModels, model: int, question: ReportOptions, family: str) -> PublishedScore | None:
    """The reference's scores of a backbone: of the whole family if it has one, else on the tasks that both have."""
    if question.reference is None:
        return None
    origin = part.models[model].origin
    theirs = question.reference.scores_of(origin.backbones, part.models[model].rows)
    if family in theirs:
        found, ours, n = [theirs[family]], [float(part.resampled.estimate[model])], len(part.table.tasks)
        whole = FAMILY_TASKS.get(family, n)
        partial = () if n == whole else (f"it is over all {whole} tasks, ours over {n}",)
    else:
        by_task = zip(part.table.tasks, part.resampled.by_task[:, model].tolist(), strict=True)
        pairs = [(theirs[task], mean) for task, mean in by_task if task in theirs and mean == mean]
        found, ours, n, partial = [each for each, _ in pairs], [mean for _, mean in pairs], len(pairs), ()
    if not found:
        return None
    obstacles = [why for each in found for why in each.obstacles(origin, question.metric)]
    score = float(np.mean([each.score for each in found]))
    return PublishedScore(score, float(np.mean(ours)), n, tuple(dict.fromkeys((*obstacles, *partial))))


def _estimate(interval: Interval, model: int) -> Estimate:
    return Estimate(
        float(interval.estimate[model]),
        float(interval.low[model]),
        float(interval.high[model]),
        bool(interval.holds[model]) or bool(np.isnan(interval.estimate[model])),
        interval.reason,
    )


def _rank(ranked: Ranks, place: int) -> Rank:
    rank = float(ranked.rank[place])
    return Rank(rank, None, None) if ranked.reason else Rank(rank, int(ranked.low[place]), int(ranked.high[place]))
