"""`bb.probe.run` and `bb.probe.report`: the verbs `bb probe newt` and `bb report newt` as calls that print nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsIndex

import polars as pl
from joblib import cpu_count

from bb.probe.classifiers.choose_engine import choose
from bb.probe.classifiers.protocol import PROTOCOLS, parse_protocol
from bb.probe.computed_runs import ComputedRuns, existing_run, report_other_scores
from bb.probe.features.damaged_images import damage_note, damage_record
from bb.probe.features.find_features import FindCollection, find_spaces, in_collection
from bb.probe.features.missing import MissingPolicy
from bb.probe.features.select_spaces import space_name
from bb.probe.report.build import boards
from bb.probe.report.formats.inline import inline
from bb.probe.report.leaderboard import Leaderboard
from bb.probe.report.options import ReportOptions
from bb.probe.report.run_diff import Difference, compare, find_run
from bb.probe.report.withdrawn import withdrawn_notes
from bb.probe.run import FamilyInputs, FamilySpec, PreparedRun, execute, prepare
from bb.probe.tasks.few_shot import SEED_OF_ALL, NTrain, check_jobs, check_seed, listed, parse_n_train
from bb.probe.tasks.leaks import find_leaks
from bb.probe.tasks.newt import Labels, parse_labels, read_labels
from bb.probe.tasks.stored_labels import find_labels, labels_of
from bb.store import Store, UsageError
from bb.store.format.derived import SEEN, head_name
from bb.store.format.space import short
from bb.store.local.runs import Run
from bb.store.reporter import Reporter, Silent
from bb.store.trained_heads import has_seen

TASKS = "newt"
NOTES = 5  # on tasks of a run, that are reported one by one


@dataclass(frozen=True, eq=False, repr=False)
class Runs(ComputedRuns):
    """Runs of `run`."""

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
    same_images_as: Sequence[str] = (),
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
    check_jobs(jobs)
    opened = store if isinstance(store, Store) else Store.open(store)
    policy = MissingPolicy.parse(missing, max_missing, same_images_as)
    prepared, left_out = prepare_all(
        opened, _labels(opened, labels, data), in_collection(opened, data, policy), labels_name=name_of(labels),
        n_train=[parse_n_train(shot) for shot in listed(n_train)], seed=[check_seed(each) for each in listed(seed)],
        protocol=protocol, classifier=classifier, backend=backend, ckpt=listed(ckpt), space=listed(space),
        policy=policy, drop_leaks=drop_leaks, reporter=reporter,
    )  # fmt: skip
    found = [find_or_make(each, jobs=jobs, force=force, reporter=reporter) for each in prepared]
    return Runs(tuple(run for run, _ in found), frozenset(run.run_id for run, is_fresh in found if is_fresh), left_out)


def prepare_all(
    store: Store,
    labels: Labels,
    find: FindCollection,
    *,
    labels_name: str | None,
    n_train: Sequence[NTrain],
    seed: Sequence[int],
    protocol: str,
    classifier: str,
    backend: str,
    ckpt: Sequence[str],
    space: Sequence[str],
    policy: MissingPolicy,
    drop_leaks: bool,
    reporter: Reporter,
) -> tuple[list[PreparedRun], dict[str, str]]:
    """A run for each feature space, n_train and seed, to be looked up or made, and the images that are left out, with
    reasons. What a reader of the scores should know goes to the reporter.

    Errors: those of `find`, `find_spaces`, `choose` and `prepare`.
    """
    chosen = parse_protocol(protocol)
    if labels.note:
        reporter.info(labels.note)
    collection, match = find(labels.image_ids)
    labels = labels.renamed(match)
    spaces, left_out = find_spaces(
        store, collection, labels.image_ids, ckpt=ckpt, space=space, policy=policy, reporter=reporter
    )
    labels = labels.without(left_out, policy.unusual, policy.keys(store, spaces))
    leaks = find_leaks(labels, collection)
    if drop_leaks and leaks:
        labels = leaks.drop(labels)
    for note in (*labels.notes, *([] if drop_leaks else leaks.notes)):
        reporter.info(note)
    tested = collection.digests(sorted({image_id for task in labels.tasks for image_id in task.test_ids.tolist()}))
    for each in spaces:
        if has_seen(store, each, tested):
            reporter.info(f"{head_name(each.weights)} {SEEN}")
    choose(backend)  # one that is unknown or not there is said before anything is read
    inputs = [FamilyInputs.read(store, each, collection, labels, TASKS, labels_name) for each in spaces]
    for each_inputs in inputs:
        if damage := damage_note(damage_record(each_inputs.damaged())):
            reporter.info(f"{space_name(store, each_inputs.space)}: {damage}")
    requested = [
        FamilySpec(chosen, shot, number, classifier, backend, reporter.info)
        for shot in dict.fromkeys(n_train)
        for number in ([SEED_OF_ALL] if shot == "all" else dict.fromkeys(seed))
    ]
    for shot in dict.fromkeys(spec.n_train for spec in requested if spec.on(labels).n_train != spec.n_train):
        reporter.info(f"n_train {shot} takes every training image of every task, so it is scored as n_train all")
    specs = list(dict.fromkeys(spec.on(labels) for spec in requested))
    return [prepare(each, spec) for each in inputs for spec in specs], left_out  # what can't be fitted is said first


def find_or_make(prepared: PreparedRun, *, jobs: int | None, force: bool, reporter: Reporter) -> tuple[Run, bool]:
    """The run, and whether it was computed now; where runs of its ID disagree, the reporter says so."""
    existing, what = prepared.existing(), run_name(prepared)
    if existing and not force:
        return existing_run(what, existing, reporter), False
    total = len(prepared.inputs.labels.tasks)
    run = execute(
        prepared, jobs=jobs or cpu_count(), progress=lambda done: reporter.progress(what, done, total, "tasks")
    )
    notes = [f"{what}, {task}: {note}" for task, notes in run.record["notes"].items() for note in notes]
    more = [f"{what}: {len(notes) - NOTES} more notes, which run.json lists"] if len(notes) > NOTES else []
    for note in (*notes[:NOTES], *more):
        reporter.info(note)
    report_other_scores(what, run, existing, reporter)
    return run, True


def run_name(prepared: PreparedRun) -> str:
    """What messages call a run."""
    inputs, spec = prepared.inputs, prepared.spec
    return f"{space_name(inputs.store, inputs.space)}, n_train {spec.n_train}, seed {spec.seed}"


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
    found = boards(runs, tasks, ReportOptions.parse(**question), on_damage=reporter.info)
    if not found:
        others = sorted({str(run.record["tasks"]) for run in runs if run.record["protocol"] in tuple(PROTOCOLS)})
        there = f"they are on {', '.join(others)}" if others else "bb.probe.run makes them"
        raise UsageError(f"{opened.name} has no runs of NeWT's protocols on {tasks!r}: {there}.")
    for note in withdrawn_notes(opened, runs):
        reporter.info(note)
    return Report(tuple(found))


def compare_runs(store: Store | str | Path, a: str, b: str, *, reporter: Reporter | None = None) -> Difference:
    """In what two runs differ: inputs, tasks, images, as `bb report diff` says.

    a, b  IDs of runs, or their beginnings
    Errors: UsageError where there is no such run, or several.
    """
    reporter = reporter or Silent()
    opened = store if isinstance(store, Store) else Store.open(store)
    runs = list(opened.runs(on_damage=lambda error: reporter.info(f"left out: {error}")))
    return compare(find_run(runs, a), find_run(runs, b))


def _labels(store: Store, labels: str | Path | pl.DataFrame | None, data: str) -> Labels:
    if isinstance(labels, pl.DataFrame):
        return parse_labels(labels)
    if labels is not None:
        return read_labels(labels)
    stored = find_labels(store, TASKS, data.partition("@")[0])
    if stored is None:
        raise UsageError(f"{store.name} has no labels of {data}: give labels=, a table or a file in NeWT's columns.")
    return labels_of(stored)


def name_of(labels: str | Path | pl.DataFrame | None) -> str | None:
    """What a person calls a table of labels; None where it is NeWT's own, or one that the store has (@DIGEST)."""
    name = Path(labels).stem if isinstance(labels, str | Path) else ""
    return None if name in ("", "newt2021_labels") or name.startswith("@") else name
