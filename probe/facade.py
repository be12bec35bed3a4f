"""`bb.probe.run` and `bb.probe.report`: the verbs `bb probe newt` and `bb report newt` as calls that print nothing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, SupportsIndex

import polars as pl

from bb.probe.classifiers.protocol import parse_protocol
from bb.probe.features.missing import MissingPolicy, note_on, settle_missing
from bb.probe.features.select_spaces import choose_spaces
from bb.probe.report.build import boards
from bb.probe.report.formats.inline import inline
from bb.probe.report.leaderboard import Leaderboard
from bb.probe.report.options import ReportOptions
from bb.probe.run import FamilyInputs, FamilySpec, execute, prepare
from bb.probe.tables.html_table import html_table
from bb.probe.tasks.few_shot import NTrain, check_seed, listed, parse_n_train
from bb.probe.tasks.leaks import find_leaks
from bb.probe.tasks.newt import Labels, parse_labels, read_labels
from bb.probe.tasks.stored_labels import find_labels, labels_of
from bb.store import Store, UsageError
from bb.store.features import spellings
from bb.store.find_collection import find_collection
from bb.store.format.space import short
from bb.store.local.runs import Run
from bb.store.reporter import Reporter, Silent

TASKS = "newt"


@dataclass(frozen=True, eq=False, repr=False)
class Runs:
    """Runs, in the order of feature spaces and then of what was asked.

    fresh    IDs of those that were computed now
    missing  images that were left out since they have no features: image ID to reason
    """

    runs: tuple[Run, ...]
    fresh: frozenset[str] = frozenset()
    missing: Mapping[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)

    def __len__(self) -> int:
        return len(self.runs)

    def __getitem__(self, place: int) -> Run:
        return self.runs[place]

    def __repr__(self) -> str:
        return f"Runs({len(self)} runs, {len(self.fresh)} computed now)"

    def _repr_html_(self) -> str:
        return html_table(self.frame(), repr(self))

    def frame(self) -> pl.DataFrame:
        """A row for each run: backbone, space, protocol, classifier, n_train, seed, mean, mean_over_tasks, run_id."""
        columns = ("protocol", "classifier", "n_train", "seed")
        rows = [
            {
                "backbone": ", ".join(run.record["backbones"]),
                "space": short(run.record["space"]),
                **{column: None if run.record[column] is None else str(run.record[column]) for column in columns},
                "mean": run.record["scores"]["mean"],
                "mean_over_tasks": run.record["scores"]["mean_over_tasks"],
                "run_id": run.run_id,
            }
            for run in self.runs
        ]
        return pl.DataFrame(rows)


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """Boards of runs that may be compared, one for each collection, protocol, test set and training pool."""

    boards: tuple[Leaderboard, ...]

    def __iter__(self) -> Iterator[Leaderboard]:
        return iter(self.boards)

    def __len__(self) -> int:
        return len(self.boards)

    def __getitem__(self, place: int) -> Leaderboard:
        return self.boards[place]

    def page(self) -> str:
        """The page of `bb report --html`, without thumbnails: its text, for a file that ends in .html."""
        from bb.probe.report.formats.html import page  # pictures are not needed for figures

        return page(self.boards)

    def __repr__(self) -> str:
        return f"Report({', '.join(f'{board.title}: {len(board.rows)} backbones' for board in self.boards)})"

    def _repr_html_(self) -> str:
        return inline(self.page(), repr(self))

    def frame(self) -> pl.DataFrame:
        """A row for each score with its interval, and whether it is the best or tied with that."""
        rows = [
            {
                "board": board.title,
                "protocol": board.protocol,
                "metric": board.metric,
                "backbone": row.label,
                "space": short(row.space),
                "n_train": str(n_train),
                "classifier": cell.origin.classifier,
                "score": cell.estimate.mean,
                "low": cell.estimate.low,
                "high": cell.estimate.high,
                "best": cell.best,
                "tied": cell.tied,
            }
            for board in self.boards
            for row in board.rows
            for n_train, cell in row.cells.items()
        ]
        return pl.DataFrame(rows)


def run(
    store: Store | str | Path,
    labels: str | Path | pl.DataFrame | None = None,
    data: str = "newt",
    *,
    ckpt: str | Sequence[str] = (),
    space: str | Sequence[str] = (),
    n_train: NTrain | SupportsIndex | Sequence[NTrain | SupportsIndex] = "all",
    seed: SupportsIndex | Sequence[SupportsIndex] = 0,
    protocol: str = "biobench",
    classifier: str = "auto",
    backend: str = "auto",
    missing: str = "error",
    max_missing: float | None = None,
    drop_leaks: bool = False,
    jobs: int | None = None,
    force: bool = False,
    reporter: Reporter | None = None,
) -> Runs:
    """Fits and scores probes on stored features, as `bb probe newt` does; runs that exist are not computed again.

    store     a store or its path
    labels    a table in NeWT's columns, or its file; the store's own if None
    data      the collection, NAME or NAME@DIGEST
    ckpt      backbones; space: keys of feature spaces. Without either, every space that has all the images
    reporter  gets notes and progress

    Raises UsageError and BBError, which name what to change.
    """
    reporter = reporter or Silent()
    opened = store if isinstance(store, Store) else Store.open(store)
    policy = MissingPolicy.parse(missing, max_missing)
    table = _labels(opened, labels, data)
    written = table.image_ids
    collection, match = find_collection(opened, data, written, tolerated=policy.allowed(len(written)))
    table = table.renamed(match)
    names = [_known_name(opened, name) for name in listed(ckpt)]
    spaces = choose_spaces(opened, collection, table.image_ids, backbones=names, keys=listed(space), missing=policy)
    left_out = settle_missing(opened, spaces, collection, table.image_ids, policy)
    table = table.without(left_out, max_missing, [each.key for each in spaces])
    leaks = find_leaks(table, collection)
    if drop_leaks and leaks:
        table = leaks.drop(table)
    notes = [note_on(left_out)] if left_out else []
    for note in (*notes, *table.notes, *([] if drop_leaks else leaks.notes)):
        reporter.info(note)
    labels_name = (
        Path(labels).stem if isinstance(labels, str | Path) and Path(labels).stem != "newt2021_labels" else None
    )
    inputs = [FamilyInputs.read(opened, each, collection, table, TASKS, labels_name) for each in spaces]
    chosen = parse_protocol(protocol)
    shots = [parse_n_train(shot) for shot in listed(n_train)]
    asked = [
        FamilySpec(chosen, shot, check_seed(number), classifier, backend, reporter.info)
        for shot in shots
        for number in listed(seed)
    ]
    specs = list(dict.fromkeys(spec.on(table) for spec in asked))
    prepared = [prepare(each, spec) for each in inputs for spec in specs]
    results = [_result(each, jobs, force, reporter) for each in prepared]
    return Runs(
        tuple(run for run, _ in results), frozenset(run.run_id for run, fresh in results if fresh), dict(left_out)
    )


def report(
    store: Store | str | Path,
    tasks: str = TASKS,
    *,
    reporter: Reporter | None = None,
    **question: Any,
) -> Report:
    """Compares runs with 95% intervals, as `bb report newt` does.

    question  fields of `bb.probe.report.options.ReportOptions`: metric, average, over, baseline, n_train, sort, …

    Raises UsageError where no run is of what is asked for.
    """
    reporter = reporter or Silent()
    opened = store if isinstance(store, Store) else Store.open(store)
    runs = list(opened.runs(on_damage=lambda error: reporter.info(f"left out: {error}")))
    return Report(tuple(boards(runs, tasks, ReportOptions(**question), on_damage=reporter.info)))


def _labels(store: Store, labels: str | Path | pl.DataFrame | None, data: str) -> Labels:
    if isinstance(labels, pl.DataFrame):
        return parse_labels(labels)
    if labels is not None:
        return read_labels(labels)
    stored = find_labels(store, TASKS, data.partition("@")[0])
    if stored is None:
        raise UsageError(f"{store.name} has no labels of {data}: give labels=, a table or a file in NeWT's columns.")
    return labels_of(stored)


def _known_name(store: Store, ckpt: str) -> str:
    """The name as the store has it; as it is where the store has none like it."""
    known = {name for space in store.spaces() for name in store.backbones(space)}
    return next((name for name in spellings(ckpt) if name in known), ckpt)


def _result(prepared: Any, jobs: int | None, force: bool, reporter: Reporter) -> tuple[Run, bool]:
    from joblib import cpu_count

    existing = prepared.existing()
    if existing and not force:
        return existing[0], False
    spec, total = prepared.spec, len(prepared.inputs.labels.tasks)
    task = f"space {short(prepared.inputs.space.key)}, n_train {spec.n_train}, seed {spec.seed}"
    made = execute(
        prepared, jobs=jobs or cpu_count(), progress=lambda done: reporter.progress(task, done, total, "tasks")
    )
    for name, notes in made.record["notes"].items():
        for note in notes:
            reporter.info(f"{task}, {name}: {note}")
    return made, True
