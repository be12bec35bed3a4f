"""`bb.probe.classify`: the verb `bb probe classify` as a call that prints nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bb.probe.classification.board import Board, SplitDifference, boards, split_differences
from bb.probe.classification.inputs import LabelledImages, labelled_images, space_name
from bb.probe.classification.published.protocol import NONE, check_options, parse_protocol
from bb.probe.classification.run import Inputs, Prepared, Spec, check_preprocessing, execute, prepare
from bb.probe.features.missing import AT_MOST, MissingPolicy
from bb.probe.tables.html_table import html_table
from bb.probe.tasks.fold import By, Fold, Shots, Split, parse_shots
from bb.probe.tasks.leaks import drop_split_leaks, split_leaks
from bb.probe.tasks.splits import FOLDS, images_of_tasks, split_table
from bb.probe.tasks.task_table import TaskTable
from bb.store import Store
from bb.store.local.runs import Run, disagreement
from bb.store.reporter import Reporter, Silent


@dataclass(frozen=True, eq=False, repr=False)
class Classified:
    """Runs on one table of labels.

    fresh        IDs of the runs that were computed now
    boards       the runs side by side, a board for each task and set of test images
    differences  between ways of splitting, where there are several
    images       the table, which rows and images are left over, and the images without features
    """

    runs: tuple[Run, ...]
    fresh: frozenset[str]
    boards: tuple[Board, ...]
    differences: tuple[SplitDifference, ...]
    images: LabelledImages

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)

    def __len__(self) -> int:
        return len(self.runs)

    def __repr__(self) -> str:
        return f"Classified({self.images.name}: {len(self)} runs, {len(self.fresh)} computed now)"

    def _repr_html_(self) -> str:
        return html_table(self.frame(), repr(self))

    def frame(self) -> pl.DataFrame:
        """A row for each run and metric, with its interval or the reason why it has none."""
        return pl.concat([board.frame() for board in self.boards])


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
    folds: int = FOLDS,
    classifier: str | Sequence[str] | None = None,
    preprocessing: str = "auto",
    protocol: str | Sequence[str] | None = None,
    shots: Shots | str | Sequence[Shots | str] | None = None,
    seed: int | Sequence[int] | None = None,
    ckpt: str | Sequence[str] = (),
    space: str | Sequence[str] = (),
    missing: str = "skip",
    max_missing: float | None = None,
    same_images_as: Sequence[str] = (),
    drop_leaks: bool = False,
    force: bool = False,
    reporter: Reporter | None = None,
) -> Classified:
    """Fits and scores classifiers on stored features of any labelled images; runs that exist are not computed again.

    store     a store or its path
    labels    a table as docs/labels.md describes it, or its file; the folders of the collection if None
    data      the collection, NAME or NAME@DIGEST; the store's only one if None
    tasks     what runs and reports call the table; by default as its file, or as the collection
    protocol  published ones, such as "dinov2-knn": each decides classifier, preprocessing, shots and seeds
    shots, seed  all images and seed 0 if None, or a protocol's grid
    reporter  is told of notes and progress

    The other arguments are the options of `bb probe classify`. Raises UsageError and BBError, which say what to change.
    """
    reporter = reporter or Silent()
    check_preprocessing(preprocessing)
    draws = None if shots is None else [parse_shots(each) for each in _listed(shots)]
    seeds = None if seed is None else list(dict.fromkeys(_listed(seed)))
    protocols = [parse_protocol(name) for name in dict.fromkeys(_listed(protocol or ()))]
    for each in protocols:
        decided = {"--classifier": classifier, "--preprocessing": "" if preprocessing == "auto" else preprocessing}
        draws_test = {"--split-by": split_by, "--drop-leaks": drop_leaks} if each.pool == "all" else {}
        check_options(each, {**decided, "--regression": regression, **draws_test})
        each.grid(draws, seeds)
    opened = store if isinstance(store, Store) else Store.open(store)
    named = {"id": id, "label": label, "split": split, "group": group, "task": task}
    images = labelled_images(
        opened,
        labels,
        data,
        {**named, "regression": regression, "not_missing": not_missing},
        ckpt=_listed(ckpt),
        space=_listed(space),
        policy=MissingPolicy.parse(missing, max_missing, list(same_images_as) or None),
        reporter=reporter,
        title=tasks,
    )
    ways = None if split_by is None else _listed(split_by)
    if protocols:
        prepared = [
            prepare(inputs, Spec.of(each, *cell))
            for each in protocols
            for splits in ([_pool(images)] if each.pool == "all" else _by_way(images, ways, folds, 0, drop_leaks))
            for inputs in _inputs(opened, images, splits)
            for cell in each.grid(draws, seeds)
        ]
    else:
        prepared = [
            prepare(inputs, Spec(kind, preprocessing, n, number))
            for number in seeds or [0]
            for splits in _by_way(images, ways, folds, number, drop_leaks)
            for inputs in _inputs(opened, images, splits)
            for kind in _listed(classifier or ("ridge" if regression else "logistic"))
            for n in dict.fromkeys(draws or [parse_shots("all")])
        ]
    results = [_result(each, force, reporter) for each in prepared]
    runs = tuple(run for run, _ in results)
    return Classified(
        runs,
        frozenset(run.run_id for run, fresh in results if fresh),
        tuple(boards(runs, images.name)),
        tuple(split_differences(runs)),
        images,
    )


def _by_way(
    images: LabelledImages, ways: Sequence[By] | None, folds: int, seed: int, drop_leaks: bool
) -> Iterator[list[Split]]:
    """The splits of all tasks, for each way of splitting."""
    made = split_table(images.table, ways, folds=folds, seed=seed)
    if drop_leaks:
        made = tuple(drop_split_leaks(each, split_leaks(each, images.collection)) for each in made)
    for way in dict.fromkeys(each.by for each in made):
        yield [each for each in made if each.by == way]


def _pool(images: LabelledImages) -> list[Split]:
    """All labelled images of each task, for a protocol that draws what is tested."""
    tasks = images_of_tasks(images.table)
    return [
        Split(task, "protocol", (Fold("drawn", task, np.arange(len(task.ids)), NONE, NONE),), len(task.ids))
        for task in tasks
    ]


def _inputs(store: Store, images: LabelledImages, splits: Sequence[Split]) -> Iterator[Inputs]:
    policy = images.policy
    for space in images.spaces:
        yield Inputs.read(
            store, space, images.collection, images.name, splits, missing=images.missing, notes=images.table.notes,
            max_missing=None if policy.at_most == AT_MOST else policy.at_most,
            same_images_as=policy.keys(store, images.spaces),
        )  # fmt: skip


def _result(prepared: Prepared, force: bool, reporter: Reporter) -> tuple[Run, bool]:
    """The run, and whether it was computed now."""
    spec = prepared.spec
    name = space_name(prepared.inputs.store, prepared.inputs.space)
    how = " ".join(filter(None, (spec.protocol.name, spec.setting))) if spec.protocol else spec.classifier
    what = f"{name}, {how}, shots {spec.shots}, seed {spec.seed}"
    existing = prepared.existing()
    if existing and not force:
        if found := disagreement(existing):
            reporter.info(f"{what}: {len(existing)} runs of one ID disagree: {found}")
        return existing[0], False
    total = sum(map(len, prepared.folds))
    return execute(prepared, progress=lambda done: reporter.progress(what, done, total, "folds")), True


def _listed(value: Any) -> list[Any]:
    return [value] if isinstance(value, str | int) else list(value)
