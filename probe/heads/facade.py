"""`bb.probe.train_head` and `bb.probe.use_head`: the verb `bb probe head` as calls that print nothing."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import SupportsIndex

import polars as pl

from bb.probe.features.find_features import FindCollection, find_spaces, in_collection, report_damage
from bb.probe.features.missing import MissingPolicy
from bb.probe.features.select_spaces import space_name
from bb.probe.heads.checkpoint import can_resume
from bb.probe.heads.derive import Derived, PreparedTraining, execute, existing, extend, load, prepare, unproven
from bb.probe.heads.recipe import HeadRecipe, parse_loss, parse_sampling
from bb.probe.retrieval.facade import items_of, name_of
from bb.probe.retrieval.labels import RetrievalLabels
from bb.probe.retrieval.loggers.base import PipelineLogger
from bb.probe.tables.html_table import html_table
from bb.probe.tasks.few_shot import check_seed, listed
from bb.probe.tasks.leaks import shared_note
from bb.store import Store
from bb.store.format.collection import only_collection
from bb.store.format.derived import head_name, is_derived
from bb.store.format.space import short
from bb.store.reporter import Reporter, Silent

Stopping = Callable[[str], AbstractContextManager[threading.Event | None]]  # gets what is said when it stops


@dataclass(frozen=True, eq=False, repr=False)
class Heads:
    """What came of each training, in the order of feature spaces.

    fresh  whether it was trained now, of each
    """

    made: tuple[Derived, ...]
    fresh: tuple[bool, ...]

    def __iter__(self) -> Iterator[Derived]:
        return iter(self.made)

    def __len__(self) -> int:
        return len(self.made)

    def __getitem__(self, place: int) -> Derived:
        return self.made[place]

    def __repr__(self) -> str:
        return f"Heads({len(self)} trainings, {sum(made.space is not None for made in self)} heads)"

    def _repr_html_(self) -> str:
        return html_table(self.frame(), repr(self))

    def frame(self) -> pl.DataFrame:
        """A row for each training: head and space (null where none is written), MAP@R in validation of the parent, of
        the head before training and of its best epoch, rows that were written, why the parent was kept or what is
        in doubt."""
        rows = []
        for made in self:
            training = made.training
            rows.append(
                {
                    "head": head_name(made.space.weights) if made.space else None,
                    "space": short(made.space.key) if made.space else None,
                    "parent": training.parent if training else None,
                    "start": training.start if training else None,
                    "best": training.best if training else None,
                    "rows": made.rows,
                    "note": made.kept or (unproven(training) if training else ""),
                }
            )
        return pl.DataFrame(rows)


def train_head(
    store: Store | str | Path,
    labels: str | Path | pl.DataFrame | RetrievalLabels,
    data: str | None = None,
    *,
    tasks: str | None = None,
    not_missing: Sequence[str] = (),
    loss: str = "triplet",
    miner: str | None = None,
    margin: str | float | None = None,
    bank: int = 0,
    sampler: str = "balanced",
    dim: int | None = None,
    hidden: int | None = None,
    start: str = HeadRecipe.start,
    epochs: int = HeadRecipe.epochs,
    patience: int = HeadRecipe.patience,
    lr: float = HeadRecipe.rate,
    decay: float = HeadRecipe.decay,
    warmup: int = HeadRecipe.warmup,
    seed: SupportsIndex = 0,
    accept: str = "better",
    ckpt: str | Sequence[str] = (),
    space: str | Sequence[str] = (),
    missing: str = "error",
    max_missing: float | None = None,
    same_images_as: Sequence[str] = (),
    loggers: Sequence[PipelineLogger] = (),
    force: bool = False,
    reporter: Reporter | None = None,
) -> Heads:
    """Trains a projection head on stored features, and writes what it makes of them as a feature space of its own.

    labels    a table with the columns image_id, label and what docs/heads.md says may be; or its file
    data      the collection, NAME or NAME@DIGEST; the store's only one if None
    tasks     what the head's record calls the table; by default as its file
    loggers   get the scalars of each epoch
    reporter  gets notes and progress

    The other arguments are the options of `bb probe head`. A training that was done is not done again; one that was
    broken off goes on. Raises UsageError and BBError, which say what to change.
    """
    reporter = reporter or Silent()
    policy = MissingPolicy.parse(missing, max_missing, same_images_as)
    recipe = HeadRecipe(
        parse_loss(loss, miner, None if margin is None else str(margin), bank), parse_sampling(sampler), dim, hidden,
        start, epochs, patience, lr, decay, warmup, check_seed(seed),
    )  # fmt: skip
    opened = store if isinstance(store, Store) else Store.open(store)
    prepared = prepare_all(
        opened, items_of(labels, not_missing), in_collection(opened, data, policy), tasks=tasks or name_of(labels),
        recipe=recipe, accept=accept, ckpt=listed(ckpt), space=listed(space), policy=policy, reporter=reporter,
    )  # fmt: skip
    return train_all(prepared, loggers=loggers, force=force, reporter=reporter)


def use_head(store: Store | str | Path, head: str, data: str | None = None) -> Derived:
    """Sends the rows of a collection through a head that is there, as `bb probe head --load` does.

    head  its name "head:DIGITS" in the store, or its file
    Errors: those of `bb.probe.heads.derive.load` and `extend`.
    """
    opened = store if isinstance(store, Store) else Store.open(store)
    loaded = load(opened, head)
    return extend(opened, loaded, opened.collection(data or only_collection(opened.collection_names()), []))


def prepare_all(
    store: Store,
    items: RetrievalLabels,
    find: FindCollection,
    *,
    tasks: str,
    recipe: HeadRecipe,
    accept: str,
    ckpt: Sequence[str],
    space: Sequence[str],
    policy: MissingPolicy,
    reporter: Reporter,
) -> list[PreparedTraining]:
    """A training for each feature space, to be looked up or done; what to know of the images goes to the reporter.

    Errors: those of `find`, `find_spaces` and `prepare`.
    """
    collection, match = find(items.image_ids.tolist())
    items = items.renamed(match)
    for note in items.notes:
        reporter.info(note)
    spaces, left_out = find_spaces(
        store, collection, items.image_ids.tolist(), ckpt=ckpt, space=space, policy=policy, reporter=reporter,
        unless=lambda each: not ckpt and not space and is_derived(each),
    )  # fmt: skip
    items = items.without(left_out, policy.unusual, policy.keys(store, spaces))
    report_damage(store, spaces, collection, items.image_ids.tolist(), reporter)
    if "split" in items.frame.columns:
        learned = (items.frame["split"] == "train").fill_null(False)
        held_out, learn_from = (items.frame.filter(side)["image_id"].to_list() for side in (~learned, learned))
        if note := shared_note(collection, held_out, learn_from):
            reporter.info(note)
    return [prepare(store, each, collection, items, tasks=tasks, recipe=recipe, accept=accept) for each in spaces]


def train_all(
    prepared: Sequence[PreparedTraining],
    *,
    loggers: Sequence[PipelineLogger],
    force: bool,
    reporter: Reporter,
    stopping: Stopping = lambda words: nullcontext(),
) -> Heads:
    """What came of each training, up to one that was stopped. Every epoch goes to the loggers.

    stopping  makes the event that stops a training, for as long as it runs
    """
    for logger in loggers:
        logger.log_pipeline_info({"verb": "bb probe head", **prepared[0].recipe.record()})
    results: list[tuple[Derived, bool]] = []
    for each in prepared:
        if found := None if force else existing(each):
            results.append((found, False))
            continue
        name = space_name(each.store, each.parent)
        if can_resume(each.checkpoint):
            reporter.info(f"head of {name}: going on from {each.checkpoint}")

        def on_epoch(epoch: int, values: Mapping[str, float], name: str = name) -> None:
            reporter.progress(f"head of {name}", epoch, prepared[0].recipe.epochs, "epochs")
            for logger in loggers:
                logger.log_scalars({f"{name}/{value}": number for value, number in values.items()}, epoch)

        with stopping("stopping after this epoch; the state is kept, and the same command goes on") as stop:
            made = execute(each, stop=stop, progress=on_epoch)
        results.append((made, True))
        if made.space is None and not made.kept:
            break
    return Heads(tuple(made for made, _ in results), tuple(fresh for _, fresh in results))
