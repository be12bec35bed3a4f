"""`bb.probe.rerank`: a pairwise model that is learned on one split, and what it changes on another."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, SupportsIndex

import polars as pl

from bb.probe.features.find_features import FindCollection, find_spaces, in_collection, report_damage
from bb.probe.features.missing import MissingPolicy
from bb.probe.features.select_spaces import space_names
from bb.probe.heads.pairwise.learn import Learned, learn
from bb.probe.heads.pairwise.model import load, save
from bb.probe.heads.pairwise.reranked import Reranked, compared, digest
from bb.probe.retrieval.evaluate import Retrieval
from bb.probe.retrieval.facade import find_or_make, items_of, name_of
from bb.probe.retrieval.labels import RetrievalLabels, assign
from bb.probe.retrieval.loggers.base import PipelineLogger
from bb.probe.retrieval.pairwise_model import Distance
from bb.probe.retrieval.rerank import Rerank
from bb.probe.retrieval.run import PreparedRetrieval, prepare
from bb.probe.tasks.few_shot import check_seed, listed
from bb.probe.tasks.leaks import shared_note
from bb.store import Collection, FeatureSpace, Store, UsageError
from bb.store.files.regular_file import check_output
from bb.store.format.space import short
from bb.store.reporter import Reporter, Silent


@dataclass(frozen=True)
class RerankRecipe:
    """What is asked of a re-ranking apart from its data: the options of `bb probe rerank`.

    test_on  the split that is tested on: "test" if None, or with `model` all rows
    save_to  the file that the model is written to; model: such a file, and nothing is learned
    """

    learn_on: str = "train"
    test_on: str | None = None
    top_n: int = 100
    distance: str = "cosine"
    convention: str = "standard"
    seed: int = 0
    save_to: Path | None = None
    model: Path | None = None

    def __post_init__(self) -> None:
        """Errors: UsageError for an unknown distance or convention, a bad seed, and files that exclude each other."""
        if self.save_to and self.model:
            raise UsageError("--save writes a model that is learned, and --load takes one: give one of them.")
        check_seed(self.seed)
        _ = self.how  # refuses unknown names

    @property
    def how(self) -> Retrieval:
        """The search that comes before, and how it is scored."""
        return Retrieval(distance=self.distance, convention=self.convention, pairs=False)

    def sides(
        self, table: RetrievalLabels
    ) -> tuple[RetrievalLabels | None, RetrievalLabels, dict[str, Any], list[str]]:
        """What is learned from, None where nothing is; what is tested on; its roles and warnings, as of `assign`."""
        train = None if self.model else training(table, self.learn_on)
        return train, *assign(table, split=self.test_on or ("all" if self.model else "test"))


@dataclass(frozen=True, eq=False)
class PreparedReranking:
    """A recipe with its data: the images that are learned from and tested on, and the feature spaces."""

    recipe: RerankRecipe
    store: Store
    collection: Collection
    spaces: Sequence[FeatureSpace]
    train: RetrievalLabels | None
    test: RetrievalLabels
    roles: dict[str, Any]
    warnings: Sequence[str]
    tasks: str

    def prepare(self, space: FeatureSpace) -> Callable[..., PreparedRetrieval]:
        """Makes the run on a space; `steps` re-rank what it finds."""
        return partial(
            prepare, self.store, space, self.collection, self.test, tasks=self.tasks, how=self.recipe.how,
            roles=self.roles, warnings=self.warnings,
        )  # fmt: skip


def rerank(
    store: Store | str | Path,
    labels: str | Path | pl.DataFrame | RetrievalLabels,
    data: str | None = None,
    *,
    tasks: str | None = None,
    not_missing: Sequence[str] = (),
    learn_on: str = RerankRecipe.learn_on,
    test_on: str | None = None,
    top_n: int = RerankRecipe.top_n,
    distance: str = RerankRecipe.distance,
    convention: str = RerankRecipe.convention,
    seed: SupportsIndex = 0,
    save_to: str | Path | None = None,
    model: str | Path | None = None,
    ckpt: str | Sequence[str] = (),
    space: str | Sequence[str] = (),
    missing: str = "error",
    max_missing: float | None = None,
    same_images_as: Sequence[str] = (),
    loggers: Sequence[PipelineLogger] = (),
    force: bool = False,
    reporter: Reporter | None = None,
) -> list[Reranked]:
    """Learns to put the nearest images into a better order, and says what that changes, for each feature space.

    labels    a table with the columns image_id, label and split, as docs/retrieval.md says; or its file
    data      the collection, NAME or NAME@DIGEST; the store's only one if None
    tasks     what runs call the table; by default as its file
    test_on   the split that is tested on: "test" if None, or with `model` all rows
    save_to   a file (safetensors) that the model is written to; model: such a file, and nothing is learned
    loggers   get means before and after
    reporter  gets notes and progress

    The other arguments are the options of `bb probe rerank`. Raises UsageError and BBError, which say what to change.
    """
    reporter = reporter or Silent()
    recipe = RerankRecipe(
        learn_on, test_on, top_n, distance, convention, check_seed(seed), Path(save_to) if save_to else None,
        Path(model) if model else None,
    )  # fmt: skip
    if recipe.save_to:
        read = Path(labels) if isinstance(labels, str | Path) else None
        check_output(recipe.save_to, f"save_to={recipe.save_to}", read)
    policy = MissingPolicy.parse(missing, max_missing, same_images_as)
    opened = store if isinstance(store, Store) else Store.open(store)
    prepared = prepare_all(
        opened, items_of(labels, not_missing), in_collection(opened, data, policy), recipe,
        tasks=tasks or name_of(labels), ckpt=listed(ckpt), space=listed(space), policy=policy, reporter=reporter,
    )  # fmt: skip
    return rerank_all(prepared, loggers=loggers, force=force, reporter=reporter)


def prepare_all(
    store: Store,
    table: RetrievalLabels,
    find: FindCollection,
    recipe: RerankRecipe,
    *,
    tasks: str,
    ckpt: Sequence[str],
    space: Sequence[str],
    policy: MissingPolicy,
    reporter: Reporter,
) -> PreparedReranking:
    """The images and feature spaces; nothing is learned. What to know of the images goes to the reporter.

    Errors: those of `find`, `find_spaces`, `assign` and `training`; UsageError for a file with several spaces.
    """
    collection, match = find(_image_ids(recipe, table))
    table = table.renamed(match)
    spaces, left_out = find_spaces(
        store, collection, _image_ids(recipe, table), ckpt=ckpt, space=space, policy=policy, reporter=reporter
    )
    table = table.without(left_out, policy.unusual, policy.keys(store, spaces))
    train, test, roles, warnings = recipe.sides(table)
    learned_from, asked = train.image_ids.tolist() if train else [], test.image_ids.tolist()
    report_damage(store, spaces, collection, sorted({*asked, *learned_from}), reporter)
    warnings += [note] if (note := shared_note(collection, asked, learned_from)) else []
    for warning in warnings:
        reporter.info(warning)
    if (recipe.save_to or recipe.model) and len(spaces) > 1:
        listing = "\n".join(f"  --space {short(s.key)}  {', '.join(store.backbones(s))}" for s in spaces)
        raise UsageError(
            f"a file holds the model of one feature space, and {len(spaces)} are there; choose:\n{listing}"
        )
    return PreparedReranking(recipe, store, collection, spaces, train, test, roles, warnings, tasks)


def rerank_all(
    prepared: PreparedReranking, *, loggers: Sequence[PipelineLogger], force: bool, reporter: Reporter
) -> list[Reranked]:
    """What the model changes on each feature space; it is written to the recipe's file, and the means logged."""
    recipe, found = prepared.recipe, []
    for step, (backbone, space) in enumerate(space_names(prepared.store, prepared.spaces).items()):
        make = prepared.prepare(space)
        before = make()
        if not before.existing():
            prepared.store.check_writable("runs", "local")  # before it learns
        learned = _learned(prepared, before, backbone, reporter)
        after = make(steps=steps(learned, before, recipe.top_n))
        one, other = (find_or_make(side, jobs=None, force=force, reporter=reporter)[0] for side in (before, after))
        changes = compared(one, other)
        found.append(Reranked(backbone, space, recipe.top_n, learned, one, other, changes))
        if recipe.save_to:
            save(learned.model, recipe.save_to)
        for logger in loggers:
            for metric, changed in changes.items():
                means = {"before": changed.before.mean, "after": changed.after.mean}
                logger.log_scalars({f"{backbone}/{side}/{metric}": mean for side, mean in means.items()}, step)
    for logger in loggers:
        logger.log_pipeline_info(
            {"labels": Path(prepared.test.source).name, "learn_on": None if recipe.model else recipe.learn_on,
             "top_n": recipe.top_n, "seed": recipe.seed, "how": recipe.how.parameters(), "roles": prepared.roles,
             "runs": {each.space.key: each.record()["runs"] for each in found},
             "models": {each.space.key: each.model for each in found}}
        )  # fmt: skip
    return found


def _learned(prepared: PreparedReranking, before: PreparedRetrieval, backbone: str, reporter: Reporter) -> Learned:
    """The model of the recipe's file, or a new one."""
    recipe, train = prepared.recipe, prepared.train
    if recipe.model or train is None:
        return loaded(recipe.model or Path(), before.features.shape[1])
    return learn(
        prepared.store.read(before.space, prepared.collection, train.image_ids.tolist()),
        train.label_codes,
        train.sequence,
        trivial=Distance(recipe.distance),  # type: ignore[arg-type]  # the recipe has checked it
        top_n=recipe.top_n,
        seed=recipe.seed,
        progress=partial(_progress, reporter, f"{backbone}: learning from {len(train)} images"),
    )


def _image_ids(recipe: RerankRecipe, table: RetrievalLabels) -> list[str]:
    """Of all rows that are learned from or tested on."""
    train, test, *_ = recipe.sides(table)
    return sorted({*test.image_ids.tolist(), *(train.image_ids.tolist() if train else ())})


def _progress(reporter: Reporter, task: str, done: int, total: int) -> None:
    reporter.progress(task, done, total, "steps")


def training(table: RetrievalLabels, split: str) -> RetrievalLabels:
    """The images of a split, whatever their roles. Errors: UsageError where there are none."""
    both = table.frame.with_columns(is_query=pl.lit(True), is_gallery=pl.lit(True))
    return replace(table, frame=both).split(split)


def loaded(file: Path, dim: int) -> Learned:
    """The model of a file. Errors: see `bb.probe.heads.pairwise.model.load`."""
    return Learned(load(file, dim), {}, file.name)


def steps(found: Learned, before: PreparedRetrieval, top_n: int) -> tuple[Rerank, ...]:
    """What re-ranks what is found before; nothing where the model is the distance that it was found by."""
    if found.model == Distance(before.how.distance):  # type: ignore[arg-type]  # one of the two, or no search would do
        return ()
    return (Rerank(found.model, before.features, top_n, digest(found)),)
