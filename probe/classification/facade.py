"""`bb.probe.classify`: the verb `bb probe classify` as a call that prints nothing."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import Any, SupportsIndex, TypeVar

import numpy as np
import polars as pl

from bb.probe.classification.board import Board, boards
from bb.probe.classification.comparisons.headline import Headline, headlines
from bb.probe.classification.comparisons.split_differences import SplitDifference, split_differences
from bb.probe.classification.inputs import LabelledImages, labelled_images
from bb.probe.classification.open_set import fill_unknown, merge_unknown, poisonous_classes, read_poisonous, rejects
from bb.probe.classification.pool_groups import check_pooling
from bb.probe.classification.published.protocol import NONE, PublishedProtocol, check_options, parse_protocol
from bb.probe.classification.run import PreparedClassification, execute, prepare
from bb.probe.classification.run_inputs import Inputs
from bb.probe.classification.spec import Spec, check_preprocessing
from bb.probe.classifiers.estimator import reads_of
from bb.probe.computed_runs import existing_run
from bb.probe.features.missing import MissingPolicy
from bb.probe.features.select_spaces import space_name
from bb.probe.report.formats.inline import inline
from bb.probe.report.withdrawn import withdrawn_notes
from bb.probe.tasks.family import about
from bb.probe.tasks.few_shot import check_seed, listed
from bb.probe.tasks.fold import By, Fold, Shots, Split, parse_shots
from bb.probe.tasks.leaks import drop_split_leaks, split_leaks
from bb.probe.tasks.registry import TASKS
from bb.probe.tasks.splits import DRAWN, check_sides, images_of_tasks, split_table
from bb.probe.tasks.task_table import TaskTable
from bb.store import FeatureSpace, Store
from bb.store.errors import BBError, UsageError
from bb.store.local.runs import Run
from bb.store.reporter import Reporter, Silent

_T = TypeVar("_T")


@dataclass(frozen=True, eq=False, repr=False)
class Classified:
    """Runs on one table of labels.

    fresh   IDs of the runs that were computed now
    images  the table, which rows and images are left over, and the images without features
    failed  what could not be run, each with the reason, where one that fails does not stop the others
    """

    runs: tuple[Run, ...]
    fresh: frozenset[str]
    images: LabelledImages
    failed: dict[str, str] = field(default_factory=dict)

    @cached_property
    def boards(self) -> tuple[Board, ...]:
        """The runs side by side, a board for each task, set of test images and protocol."""
        return tuple(boards(self.runs, self.images.name)) if self.runs else ()

    @cached_property
    def differences(self) -> tuple[SplitDifference, ...]:
        """Between ways of splitting, where there are several."""
        return tuple(split_differences(self.runs))

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)

    def __len__(self) -> int:
        return len(self.runs)

    def page(self) -> str:
        """The page of `bb report classify --html`, without thumbnails: its text, for a file that ends in .html."""
        from bb.probe.classification.report.page import page  # pictures are not needed for figures

        return page(self.boards, {})

    def __repr__(self) -> str:
        return f"Classified({self.images.name}: {len(self)} runs, {len(self.fresh)} computed now)"

    def _repr_html_(self) -> str:
        return inline(self.page(), repr(self))

    @property
    def headlines(self) -> list[Headline]:
        """Means over seeds, of each backbone, classifier and number of shots."""
        return headlines(self.boards)

    def frame(self) -> pl.DataFrame:
        """A row for each run and metric, with its interval or the reason why it has none."""
        return pl.concat([board.frame() for board in self.boards])


@dataclass(frozen=True, eq=False, repr=False)
class ClassificationReport:
    """Boards of runs, one for each table, task, set of test images, pool of training images and published protocol."""

    boards: tuple[Board, ...]

    def __iter__(self) -> Iterator[Board]:
        return iter(self.boards)

    def __len__(self) -> int:
        return len(self.boards)

    def __getitem__(self, place: int) -> Board:
        return self.boards[place]

    @property
    def headlines(self) -> list[Headline]:
        """Means over seeds, of each backbone, classifier and number of shots."""
        return headlines(self.boards)

    def page(self) -> str:
        """The page of `bb report classify --html`, without thumbnails: its text, for a file that ends in .html."""
        from bb.probe.classification.report.page import page  # pictures are not needed for figures

        return page(self.boards, {})

    def __repr__(self) -> str:
        return f"ClassificationReport({', '.join(dict.fromkeys(board.tasks for board in self.boards))})"

    def _repr_html_(self) -> str:
        return inline(self.page(), repr(self))

    def frame(self) -> pl.DataFrame:
        """A row for each run and metric, with its interval or the reason why it has none."""
        return pl.concat([board.frame() for board in self.boards])


def report_classification(
    store: Store | str | Path, tasks: str | None = None, *, reporter: Reporter | None = None
) -> ClassificationReport:
    """Runs of `classify` with 95% intervals, as `bb report classify` shows them.

    tasks  what runs call the table of labels; all of them if None
    Errors: UsageError where no run is of what is asked for.
    """
    reporter = reporter or Silent()
    opened = store if isinstance(store, Store) else Store.open(store)
    runs = list(opened.runs(on_damage=lambda error: reporter.info(f"left out: {error}")))
    found = boards(runs, tasks, on_damage=reporter.info)
    for note in withdrawn_notes(opened, [row.run for board in found for row in board.rows]):
        reporter.info(note)
    return ClassificationReport(tuple(found))


def classify(
    store: Store | str | Path,
    labels: str | Path | pl.DataFrame | TaskTable | None = None,
    data: str | None = None,
    *,
    tasks: str | None = None,
    id: str | None = None,
    label: str | Sequence[str] | None = None,
    split: str | None = None,
    group: str | None = None,
    task: str | None = None,
    regression: bool = False,
    not_missing: Sequence[str] = (),
    split_by: By | Sequence[By] | None = None,
    pool_group: str | None = None,
    poisonous: str | Path | None = None,
    folds: SupportsIndex | None = None,
    classifier: str | Sequence[str] | None = None,
    preprocessing: str = "auto",
    protocol: str | Sequence[str] | None = None,
    shots: Shots | str | SupportsIndex | Sequence[Shots | str | SupportsIndex] | None = None,
    seed: SupportsIndex | Sequence[SupportsIndex] | None = None,
    ckpt: str | Sequence[str] = (),
    space: str | Sequence[str] = (),
    missing: str = "skip",
    max_missing: float | None = None,
    same_images_as: Sequence[str] = (),
    drop_leaks: bool = False,
    force: bool = False,
    keep_going: bool = False,
    compute: bool = True,
    reporter: Reporter | None = None,
) -> Classified:
    """Fits and scores classifiers on stored features of any labelled images; runs that exist are not computed again.

    store     a store or its path
    labels    a table as docs/labels.md describes it, or its file; the folders of the collection if None
    data      the collection, NAME or NAME@DIGEST; the store's only one if None
    tasks     what runs and reports call the table; by default as its file, or as the collection
    protocol  published ones, such as "dinov2-knn": each decides classifier, preprocessing, shots and seeds
    shots, seed  all images and seed 0 if None, or a protocol's grid
    keep_going  whether a run that fails leaves the others alone, and is named in `failed`
    compute   whether runs that do not exist are made; else they are left out
    reporter  gets notes and progress

    The other arguments are the options of `bb probe classify`. Raises UsageError and BBError, which say what to change.
    """
    reporter = reporter or Silent()
    check_preprocessing(preprocessing)
    check_pooling(pool_group, group)
    ways = None if split_by is None else listed(split_by)
    check_sides(split, ways)
    draws = None if shots is None else [parse_shots(each) for each in listed(shots)]
    seeds = None if seed is None else list(dict.fromkeys(map(check_seed, listed(seed))))
    protocols = [parse_protocol(name) for name in dict.fromkeys(listed(protocol or ()))]
    for each in protocols:
        decided = {"--classifier": classifier, "--preprocessing": "" if preprocessing == "auto" else preprocessing}
        drawn = {"--split": split, "--split-by": split_by, "--folds": folds, "--drop-leaks": drop_leaks}
        tests = drawn if each.pool == "all" else {}
        pooled = {"--pool-group": pool_group} if each.pool_group else {}
        check_options(each, {**decided, "--regression": regression, **tests, **pooled})
        each.grid(draws, seeds)
    kinds = [each.classifier for each in protocols] or listed(classifier or ("ridge" if regression else "logistic"))
    pool_group = _pooling_of(protocols, pool_group)
    reads, is_open = _features_of(kinds, preprocessing, pool_group), any(map(rejects, kinds))
    poison = _poisonous(protocols, poisonous, is_open)
    opened = store if isinstance(store, Store) else Store.open(store)
    named = {"id": id, "label": label, "split": split, "group": group, "task": task}
    images = labelled_images(
        opened,
        labels,
        data,
        {**named, "regression": regression, "not_missing": not_missing},
        ckpt=listed(ckpt),
        space=listed(space),
        policy=MissingPolicy.parse(missing, max_missing, list(same_images_as) or None),
        reporter=reporter,
        title=tasks,
        kind=reads,
    )
    if is_open:
        images = replace(images, table=fill_unknown(images.table))
    costly = None
    if poison is not None:
        costly, table = poisonous_classes(poison, images.table, str(poisonous))
        images = replace(images, table=table)
    if pool_group:
        known = images.table.notes
        images = images.pooled(pool_group)
        for note in images.table.notes[len(known) :]:
            reporter.info(note)
    kinds = list(dict.fromkeys(kinds))
    divide = partial(
        _by_way, images, ways, folds,
        drop_leaks=drop_leaks, is_open=is_open, with_val=bool(protocols),
    )  # fmt: skip
    if protocols:
        cells = list(_of_protocols(images, protocols, draws, seeds, costly, divide))
    else:
        specs = [Spec(kind, preprocessing, poisonous=costly) for kind in kinds]
        cells = list(_of_classifiers(specs, draws or ["all"], seeds or [0], divide))
    failed: dict[str, str] = {}

    def attempt(space: FeatureSpace, spec: Spec, step: Callable[[], _T]) -> _T | None:
        try:
            return step()
        except Exception as error:
            if not keep_going:
                raise
            reason = str(error) if isinstance(error, BBError) else f"{type(error).__name__}: {error}"
            failed[_words(opened, space, spec)] = reason
            return None

    results: dict[tuple[int, ...], tuple[Run, bool]] = {}
    for s, each_space in enumerate(images.spaces):
        prepared = []
        for cell, inputs in _with_inputs(opened, images, each_space, cells):
            if made := attempt(each_space, cell.spec, partial(prepare, inputs, cell.spec)):
                prepared.append(((*cell.place[:2], s, *cell.place[2:]), made))
        for place, ready in prepared:
            if (compute or ready.existing()) and (
                found := attempt(each_space, ready.spec, partial(find_or_make, ready, force, reporter))
            ):
                results[place] = found
    ordered = [results[place] for place in sorted(results)]
    runs = tuple(run for run, _ in ordered)
    say_of_table(images.table, runs, reporter)
    fresh = frozenset(run.run_id for run, is_fresh in ordered if is_fresh)
    return Classified(runs, fresh, images, failed)


def say_of_table(table: TaskTable, runs: Sequence[Run], reporter: Reporter) -> None:
    """What no run says of a table: those that were there may be of a table of which other things are to be said."""
    said = {note for run in runs for note in run.record.get("labels_notes", [])}
    for note in table.notes:
        if note not in said:
            reporter.info(note)


@dataclass(frozen=True, eq=False)
class _Cell:
    """What is run on each space. `place` is its order among the results, without that of the space, which is third."""

    place: tuple[int, ...]
    splits: list[Split]
    spec: Spec


def _of_protocols(
    images: LabelledImages,
    protocols: Sequence[PublishedProtocol],
    draws: Sequence[Shots] | None,
    seeds: Sequence[int] | None,
    costly: tuple[str, ...] | None,
    divide: Callable[[int], list[list[Split]]],
) -> Iterator[_Cell]:
    divided: list[list[Split]] | None = None
    for i, protocol in enumerate(protocols):
        if protocol.pool == "all":
            by_way = [_pool(images)]
        else:
            by_way = divided = divided or divide(0)
        for (w, splits), (j, cell) in product(enumerate(by_way), enumerate(protocol.grid(draws, seeds))):
            yield _Cell((i, w, j), splits, replace(Spec.of(protocol, *cell), poisonous=costly))


def _of_classifiers(
    specs: Sequence[Spec], draws: Sequence[Shots], seeds: Sequence[int], divide: Callable[[int], list[list[Split]]]
) -> Iterator[_Cell]:
    """Cells that share training sets come one after the other."""
    first = divide(seeds[0])
    fixed = not any(each.by in DRAWN for way in first for each in way)
    for i, seed in enumerate(seeds):
        by_way = first if fixed or not i else divide(seed)
        grid = product(enumerate(by_way), enumerate(dict.fromkeys(draws)), enumerate(specs))
        for (w, splits), (j, n), (k, spec) in grid:
            yield _Cell((i, w, k, j), splits, replace(spec, shots=n, seed=seed))


def _with_inputs(
    store: Store, images: LabelledImages, space: FeatureSpace, cells: Sequence[_Cell]
) -> Iterator[tuple[_Cell, Inputs]]:
    """Features are read once; cells of one split share their inputs, and what these keep."""
    policy = images.policy
    read = Inputs.read(
        store, space, images.collection, images.name, cells[0].splits, missing=images.missing, notes=images.table.notes,
        pooling=images.pooling, max_missing=policy.unusual,
        same_images_as=policy.keys(store, images.spaces),
    )  # fmt: skip
    inputs = {id(cell.splits): replace(read, splits=tuple(cell.splits)) for cell in cells}
    yield from ((cell, inputs[id(cell.splits)]) for cell in cells)


def family_options(
    name: str,
    root: Path | None,
    *,
    protocol: Sequence[str] | None = None,
    classifier: Sequence[str] | None = None,
    pool_group: str | None = None,
    poisonous: Path | None = None,
) -> dict[str, Any]:
    """Arguments of `classify` for a task family: those given, and the family's own for those that are None.

    A published protocol decides the classifier, and the pooling where it has one. pool_group "" is for none.
    Errors: UsageError for an unknown family or protocol.
    """
    of = about(TASKS.load(name))
    published = [parse_protocol(each) for each in protocol or ()]
    if classifier is None and of.classifier and not published:
        classifier = [of.classifier]
    if pool_group is None and not any(each.pool_group for each in published):
        pool_group = of.pool
    if poisonous is None and root and any(each.metric == "user_loss_score" for each in published):
        listed = root / of.poisonous
        poisonous = listed if of.poisonous and listed.is_file() else None
    return {"classifier": classifier, "pool_group": pool_group or None, "poisonous": poisonous}


def _pooling_of(protocols: Sequence[PublishedProtocol], asked: str | None) -> str | None:
    """How groups are pooled. Errors: UsageError where protocols pool in several ways."""
    ways = {each.pool_group or asked: each.name for each in protocols} or {asked: ""}
    if len(ways) > 1:
        one, other = list(ways.values())[:2]
        raise UsageError(f"--protocol {one} and {other} pool groups in different ways: run them one after the other.")
    return next(iter(ways))


def _poisonous(
    protocols: Sequence[PublishedProtocol], path: str | Path | None, is_open: bool
) -> dict[str, bool] | None:
    """Which classes are poisonous. Errors: UsageError where they are given in vain, or missing; as `read_poisonous`."""
    if path is None:
        if loss := [each.name for each in protocols if each.metric == "user_loss_score"]:
            raise UsageError(f"--protocol {loss[0]} scores a loss of poisonous species: name the table of them with "
                             "--poisonous poison_status_list.csv.")  # fmt: skip
        return None
    if not is_open:
        raise UsageError("--poisonous is of open sets, which no classifier here is for: add --classifier mahalanobis.")
    return read_poisonous(path)


def _features_of(kinds: Sequence[str], preprocessing: str, pool_group: str | None) -> str:
    """The kind of features that classifiers read. Errors: UsageError where they read two, or patches can't be so."""
    reads = {kind: reads_of(kind) for kind in kinds}
    if len(set(reads.values())) > 1:
        patch = next(kind for kind, of in reads.items() if of == "patch")
        other = next(kind for kind, of in reads.items() if of != "patch")
        raise UsageError(f"{patch} reads patch features and {other} image features: run them one after the other.")
    if "patch" in reads.values():
        if preprocessing not in ("auto", "none"):
            raise UsageError(f"--preprocessing {preprocessing} is of image features; {kinds[0]} takes none or auto.")
        if pool_group:
            raise UsageError(f"--pool-group pools image features, and {kinds[0]} reads patch features: leave it out.")
    return next(iter(reads.values()))


def _by_way(
    images: LabelledImages,
    ways: Sequence[By] | None,
    folds: SupportsIndex | None,
    seed: int,
    *,
    drop_leaks: bool,
    is_open: bool,
    with_val: bool,
) -> list[list[Split]]:
    """The splits of all tasks, for each way of splitting. with_val: as of `split_leaks`."""
    made = split_table(images.table, ways, folds=folds, seed=seed)
    if is_open:
        made = tuple(map(merge_unknown, made))
    if drop_leaks:
        members = images.pooling.members if images.pooling else {}
        found = (split_leaks(each, images.collection, members, with_val=with_val) for each in made)
        made = tuple(drop_split_leaks(each, leaks) for each, leaks in zip(made, found, strict=True))
    return [[each for each in made if each.by == way] for way in dict.fromkeys(each.by for each in made)]


def _pool(images: LabelledImages) -> list[Split]:
    """All labelled images of each task, for a protocol that draws what is tested."""
    tasks = images_of_tasks(images.table)
    return [
        Split(task, "protocol", (Fold("drawn", task, np.arange(len(task.ids)), NONE, NONE),), len(task.ids))
        for task in tasks
    ]


def find_or_make(prepared: PreparedClassification, force: bool, reporter: Reporter) -> tuple[Run, bool]:
    """The run of prepared inputs, and whether it was computed now; what it says of the table is of the present one."""
    spec = prepared.spec
    what = _words(prepared.inputs.store, prepared.inputs.space, spec)
    existing = prepared.existing()
    if existing and not force:
        run = existing_run(what, existing, reporter)
        return replace(run, record={**run.record, "labels_notes": prepared.labels_notes}), False
    total = sum(map(len, prepared.folds))
    return execute(prepared, progress=lambda done: reporter.progress(what, done, total, "folds")), True


def _words(store: Store, space: FeatureSpace, spec: Spec) -> str:
    how = " ".join(filter(None, (spec.protocol.name, spec.setting))) if spec.protocol else spec.classifier
    return f"{space_name(store, space)}, {how}, shots {spec.shots}, seed {spec.seed}"
