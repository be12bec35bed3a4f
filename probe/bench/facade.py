"""`bb.probe.bench`: the verb `bb bench` as a call that prints nothing."""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bb.probe.bench.board import BenchBoard, board
from bb.probe.bench.page import page
from bb.probe.bench.plan import BenchPlan, Family
from bb.probe.classification.facade import classify, family_options
from bb.probe.classification.inputs import labelled_images
from bb.probe.features.missing import MissingPolicy
from bb.probe.features.select_spaces import space_name
from bb.probe.report.formats.inline import inline
from bb.probe.tasks.family import about
from bb.probe.tasks.registry import TASKS, family_labels
from bb.store import FeatureSpace, Store
from bb.store.errors import BBError, UsageError
from bb.store.features import spellings
from bb.store.format.collection import some
from bb.store.local.runs import Run
from bb.store.reporter import Reporter, Silent


@dataclass(frozen=True, eq=False, repr=False)
class Bench:
    """What came of a bench.

    runs    of each family
    fresh   IDs of the runs that were computed now
    failed  what could not be computed, each with the reason
    """

    board: BenchBoard
    runs: Mapping[str, tuple[Run, ...]]
    fresh: frozenset[str]
    failed: Mapping[str, str]

    def __len__(self) -> int:
        return sum(map(len, self.runs.values()))

    def __repr__(self) -> str:
        return f"Bench({self.board.title}: {len(self)} runs, {len(self.fresh)} computed now, {len(self.failed)} failed)"

    def _repr_html_(self) -> str:
        return inline(self.page(), repr(self))

    def page(self) -> str:
        """The board as one HTML file."""
        return page(self.board, self.runs)


@dataclass(frozen=True)
class Group:
    """The cells that share features: a family on a feature space. `same_as` are all spaces of the family."""

    family: Family
    space: str
    backbone: str
    same_as: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.family.name}, {self.backbone}"


def bench(
    plan: BenchPlan | str | Path | Mapping[str, Any],
    store: Store | str | Path | None = None,
    *,
    roots: Mapping[str, Path] | None = None,
    part: tuple[int, int] = (1, 1),
    compute: bool = True,
    jobs: int | None = None,
    reporter: Reporter | None = None,
) -> Bench:
    """Every family by every complete backbone by what the plan asks for; runs that exist are not computed again.

    plan      a file as `bb bench --example` prints one, or what it would hold, or a Plan
    store     a store or its path; the plan's if None
    roots     folders of collections, where the plan doesn't say them
    part      (I, N): of the pairs of a family and a backbone every N-th, from the I-th
    compute   whether runs that do not exist are made; else they are left out
    jobs      processes; as many as cores if None
    reporter  gets notes and progress

    What fails is named in `failed`, and leaves the rest alone. Errors: UsageError for a plan that makes no sense, and
    where no family is on disk.
    """
    reporter = reporter or Silent()
    if isinstance(plan, Mapping):
        plan = BenchPlan.parse(plan, Path(), "the plan")
    elif not isinstance(plan, BenchPlan):
        plan = BenchPlan.read(Path(plan))
    opened = store if isinstance(store, Store) else Store.open(store or plan.store or "features.bb")
    failed: dict[str, str] = {}
    groups: list[Group] = []
    for family in families_of(plan, opened, roots or {}):
        try:
            groups += _groups(plan, opened, family, reporter)
        except (BBError, OSError) as error:
            failed[family.name] = str(error)
    first, every = part
    groups = groups[first - 1 :: every]
    runs: dict[str, list[Run]] = {group.family.name: [] for group in groups}
    fresh: set[str] = set()
    for done, (group, found) in enumerate(_all(groups, plan, opened, compute, jobs), start=1):
        runs[group.family.name] += found.runs
        fresh |= found.fresh
        failed |= found.failed
        reporter.progress("families by backbones", done, len(groups), "pairs")
    made = {name: tuple({run.run_id: run for run in each}.values()) for name, each in runs.items() if each}
    return Bench(board(plan.title, made, failed), made, frozenset(fresh), failed)


def families_of(plan: BenchPlan, store: Store, roots: Mapping[str, Path]) -> Iterator[Family]:
    """Those of the plan; where it names none, those of the registry that the store and the disk have.

    Errors: UsageError where there are none.
    """
    known = set(store.collection_names())
    if plan.families is not None:
        for family in plan.families:
            yield _rooted(family, roots)
        return
    found = [name for name in TASKS.plugins if name in known and about(TASKS.load(name)).probe == "classify"]
    if not found:
        raise UsageError(
            f"{store.name} has features of none of the families {some(list(TASKS.plugins))}: name what it has, which "
            f'is {some(sorted(known))}, under [families.NAME] with data = "NAME" and labels = "FILE".'
        )
    yield from (_rooted(Family(name, name), roots) for name in found)


def _rooted(family: Family, roots: Mapping[str, Path]) -> Family:
    if family.root is None and family.labels is None and family.name in TASKS.plugins:
        root = roots.get(family.data) or roots.get(family.name)
        return Family(family.name, family.data, root, None, family.options)
    return family


@dataclass(frozen=True, eq=False)
class _Found:
    runs: tuple[Run, ...]
    fresh: frozenset[str]
    failed: dict[str, str]

    def __add__(self, other: "_Found") -> "_Found":
        return _Found(self.runs + other.runs, self.fresh | other.fresh, self.failed | other.failed)


_NOTHING = _Found((), frozenset(), {})


def _labels(family: Family, store: Store) -> Any:
    """A table, its file, or None for the folders of the collection."""
    if family.labels is not None or family.name not in TASKS.plugins:
        return family.labels
    ids = {image_id for each in store.collections(family.data) for image_id in each.table["image_id"]}
    return family_labels(family.name, family.root, sorted(ids))


def _groups(plan: BenchPlan, store: Store, family: Family, reporter: Reporter) -> list[Group]:
    """The feature spaces of a family; images that one of them does not have are left out of all."""
    if family.data not in store.collection_names():
        raise BBError(f"{store.name} has no collection {family.data!r}: bb extract makes its features.")
    options = family.options
    columns = {key: options.get(key) for key in ("id", "label", "split", "group", "task")}
    images = labelled_images(
        store, _labels(family, store), family.data,
        {**columns, "regression": options.get("regression", False), "not_missing": options.get("not_missing", ())},
        ckpt=[], space=[],
        policy=MissingPolicy.parse(options.get("missing", "skip"), options.get("max_missing")),
        reporter=reporter, title=family.name,
    )  # fmt: skip
    spaces = images.spaces
    if plan.ckpts:
        wanted = {spelled for name in plan.ckpts for spelled in (name, *spellings(name))}
        spaces = [space for space in spaces if wanted & set(store.backbones(space))]
        if not spaces:
            raise BBError(f"none of {some(list(plan.ckpts))} has features of all images of {family.data}: "
                          "bb extract makes them.")  # fmt: skip
    same_as = tuple(space.key for space in spaces) if images.missing else ()
    return [Group(family, space.key, _name(store, space), same_as) for space in spaces]


def _name(store: Store, space: FeatureSpace) -> str:
    return space_name(store, space)


def _all(
    groups: Sequence[Group], plan: BenchPlan, store: Store, compute: bool, jobs: int | None
) -> Iterator[tuple[Group, _Found]]:
    """What came of each group, as they end."""
    import joblib

    jobs = min(jobs or joblib.cpu_count(), len(groups))
    if jobs <= 1:
        yield from ((group, _one(group, plan, store, compute)) for group in groups)
        return
    parallel = joblib.Parallel(jobs, backend="loky", return_as="generator_unordered", inner_max_num_threads=1)
    here = os.getcwd()
    work = (joblib.delayed(_numbered)(here, i, group, plan, store, compute) for i, group in enumerate(groups))
    with warnings.catch_warnings():
        # Between two groups loky replaces a worker that holds more memory than before, and warns of it.
        warnings.filterwarnings("ignore", "A worker stopped", UserWarning)
        for i, found in parallel(work):
            yield groups[i], found


def _options(family: Family, how: Mapping[str, Any]) -> dict[str, Any]:
    """The options of one way of classifying a family, as `bb probe FAMILY` has them."""
    given = {**family.options, **how}
    if family.labels is not None or family.name not in TASKS.plugins:
        return given
    own = {name: given.pop(name, None) for name in ("classifier", "pool_group", "poisonous")}
    protocols = given.get("protocol")
    return {**given, **family_options(family.name, family.root, protocol=protocols, **own)}


def _numbered(
    folder: str, number: int, group: Group, plan: BenchPlan, store: Store, compute: bool
) -> tuple[int, _Found]:
    os.chdir(folder)  # joblib keeps its processes: this one may have begun in another folder, and paths are relative
    return number, _one(group, plan, store, compute)


def _one(group: Group, plan: BenchPlan, store: Store, compute: bool) -> _Found:
    """The cells of a group; a family that can't be read is one failure."""
    asked: list[dict[str, Any]] = [{"protocol": list(plan.protocols)}] if plan.protocols else []
    if plan.classifiers or not plan.protocols:
        kinds = list(plan.classifiers) or None
        asked.append(
            {"classifier": kinds, "preprocessing": plan.preprocessing, "shots": plan.shots, "seed": plan.seeds}
        )
    return sum((_cells(group, how, store, compute) for how in asked), _NOTHING)


def _cells(group: Group, how: Mapping[str, Any], store: Store, compute: bool) -> _Found:
    """Those of one call of `classify`, which reads features once.

    Protocols that can't be run together, such as those that pool groups in two ways, are run one after the other.
    """
    family, protocols = group.family, how.get("protocol", ())
    try:
        made = classify(
            store, _labels(family, store), family.data, tasks=family.name, **_options(family, how),
            space=[group.space], same_images_as=group.same_as, keep_going=True, compute=compute,
        )  # fmt: skip
    except Exception as error:
        if len(protocols) > 1:
            return sum((_cells(group, {"protocol": [name]}, store, compute) for name in protocols), _NOTHING)
        reason = str(error) if isinstance(error, BBError) else f"{type(error).__name__}: {error}"
        return _Found((), frozenset(), {", ".join((group.name, *protocols)): reason})
    return _Found(made.runs, made.fresh, {f"{family.name}, {what}": why for what, why in made.failed.items()})
