"""`bb.probe.zeroshot`: classification by stored vectors of the classes' names, without a training image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, SupportsIndex

import polars as pl

from bb.probe.classification.facade import Classified, find_or_make, say_of_table
from bb.probe.classification.inputs import LabelledImages, labelled_images
from bb.probe.classification.run import PreparedClassification, prepare
from bb.probe.classification.run_inputs import Inputs
from bb.probe.classification.spec import Spec
from bb.probe.classifiers.multiclass.zero_shot import ZeroShot
from bb.probe.features.missing import MissingPolicy
from bb.probe.tasks.few_shot import check_seed
from bb.probe.tasks.fold import By, Split
from bb.probe.tasks.splits import check_folds, check_sides, split_table, tested_whole
from bb.probe.text.stored_texts import check_projected, class_texts, find_text_space, named, read_texts
from bb.store import BBError, FeatureSpace, Store, UsageError
from bb.store.format.collection import some
from bb.store.format.text import COLLECTIONS, normalised, templates_of
from bb.store.reporter import Reporter, Silent


def zeroshot(
    store: Store | str | Path,
    labels: str | Path | pl.DataFrame | None = None,
    data: str | None = None,
    *,
    text: str | None = None,
    text_space: str | None = None,
    tasks: str | None = None,
    id: str | None = None,
    label: str | Sequence[str] | None = None,
    split: str | None = None,
    group: str | None = None,
    task: str | None = None,
    not_missing: Sequence[str] = (),
    split_by: By | None = None,
    folds: SupportsIndex | None = None,
    seed: SupportsIndex = 0,
    ckpt: str | Sequence[str] = (),
    space: str | Sequence[str] = (),
    missing: str = "skip",
    max_missing: float | None = None,
    force: bool = False,
    reporter: Reporter | None = None,
) -> Classified:
    """Scores zero-shot classification on the test images of a table, as `bb probe zeroshot` does.

    store       a store or its path
    labels      a table as docs/labels.md describes it, or its file; the folders of the collection if None
    text        the texts that `bb extract --text` stored under this name, the classes' among them; else the only ones
    text_space  the key of a text space, where several have the texts
    ckpt, space  without either, every complete space whose images match the texts
    reporter    gets notes and progress

    It is tested on the images that `bb.probe.classify` would test with the same `split_by`, `folds` and `seed`, so its
    runs stand on one board with fitted classifiers; on all images where nothing could be trained.

    Raises UsageError and BBError, which say what to change; a network whose text vectors are of another checkpoint is
    refused by name.
    """
    reporter = reporter or Silent()
    seed = check_seed(seed)
    folds = None if folds is None else check_folds(folds)
    check_sides(split, split_by and [split_by])
    opened = store if isinstance(store, Store) else Store.open(store)
    named_columns = {"id": id, "label": label, "split": split, "group": group, "task": task}
    keys = [space] if isinstance(space, str) else list(space)
    backbones = [ckpt] if isinstance(ckpt, str) else list(ckpt)
    images = labelled_images(
        opened,
        labels,
        data,
        {**named_columns, "not_missing": not_missing},
        ckpt=backbones,
        space=keys,
        policy=MissingPolicy.parse(missing, max_missing),
        reporter=reporter,
        title=tasks,
    )
    if images.table.target != "classes":
        raise UsageError(f"{images.table.source} has {images.table.target}: zero-shot needs one class for each image.")
    splits = _splits(images, split_by, folds, seed, reporter)
    prepared, refused = [], []
    for each in images.spaces:
        try:
            prepared.append(_prepare(opened, images, each, splits, text, text_space, seed))
        except UsageError as error:
            if backbones or keys or len(images.spaces) == 1:
                raise
            refused.append(str(error))
    if not prepared:
        raise UsageError(refused[0])
    for reason in refused:
        reporter.info(f"left out: {reason}")
    results = [find_or_make(each, force, reporter) for each in prepared]
    runs = tuple(run for run, _ in results)
    say_of_table(images.table, runs, reporter)
    fresh = frozenset(run.run_id for run, new in results if new)
    return Classified(runs, fresh, images)


def _splits(
    images: LabelledImages, split_by: By | None, folds: int | None, seed: int, reporter: Reporter
) -> tuple[Split, ...]:
    """As for classifiers that are fitted; all images of each task where these could not be."""
    try:
        return split_table(images.table, split_by and [split_by], folds=folds, seed=seed)
    except UsageError:
        raise
    except BBError as error:
        if split_by is not None:
            raise
        reporter.info(f"all labelled images are tested: {error}")
    return tested_whole(images.table)


def _prepare(
    store: Store,
    images: LabelledImages,
    space: FeatureSpace,
    splits: Sequence[Split],
    text: str | None,
    text_space: str | None,
    seed: int,
) -> PreparedClassification:
    check_projected(store, space)
    classes = list(dict.fromkeys(name for split in splits for name in split.task.classes))
    texts = class_texts(store, classes, text)
    keys = texts.digests([normalised(name) for name in classes])
    name = texts.name.removeprefix(COLLECTIONS)
    chosen = find_text_space(store, space, keys, key=text_space, make=f"{name}=FILE")
    row_of = {each: row for row, each in enumerate(classes)}
    x, templates = read_texts(store, chosen, keys), len(templates_of(chosen))
    given = {split.task.name: ZeroShot(x[[row_of[each] for each in split.task.classes]]) for split in splits}
    distinct = {bytes(key): each for key, each in zip(keys, classes, strict=True)}
    alike = [each for key, each in zip(keys, classes, strict=True) if distinct[bytes(key)] != each]
    notes = [*images.table.notes]
    if alike:
        notes.append(
            f"{len(alike)} classes have the text of another class, such as {some([repr(each) for each in alike])}: the "
            "first of them is predicted"
        )
    facts: dict[str, Any] = {
        "text_space": chosen.key,
        "texts": {"collection": name, "digest": texts.digest, "backbone": named(store, chosen)},
    }
    classifier = f"zeroshot ({name}, {templates} template{'s' * (templates != 1)})"
    inputs = Inputs.read(store, space, images.collection, images.name, splits, missing=images.missing, notes=notes)
    return prepare(inputs, Spec(classifier, "none", 0, seed, given=given, facts=facts))
