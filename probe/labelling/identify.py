"""`bb.probe.identify`: the nearest known individuals of each unlabelled image, or none of these."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import polars as pl
from jaxtyping import Bool, Float64

from bb.probe.labelling.abstention import Acceptance, accept
from bb.probe.labelling.finder import MAX_TOP, TOP, Finder
from bb.probe.labelling.how_chosen import MORE, Measured, measured_on
from bb.probe.labelling.known_images import KnownImages, note_without
from bb.probe.labelling.open_set import (
    NONE,
    RIGHT,
    Calibration,
    ReplayAnswers,
    Replays,
    cross_fitted,
    error_of,
    replays,
)
from bb.probe.labelling.predict import check_target_error
from bb.probe.labelling.result import SHOWN, plain
from bb.probe.labelling.stored_model import keep, labels_digest, note_unkept
from bb.probe.statistics.multiclass.intervals import MetricEstimate
from bb.probe.tables.html_table import html_table
from bb.probe.tasks.few_shot import check_seed
from bb.probe.tasks.splits import FOLDS, check_folds, images_of
from bb.store import Store
from bb.store.errors import BBError, UsageError
from bb.store.format.space import short
from bb.store.reporter import Reporter, Silent
from bb.store.text.size import counted


@dataclass(frozen=True, eq=False, repr=False)
class Identified:
    """What `identify` gives.

    frame        a row for each image: `bb.probe.labelling.finder.COLUMNS`, then the nearest individuals
    backbones    the candidates with their error, the best first, which is used
    open_set     the share of wrong answers where a share of `none_share` of images shows no known individual
    of_known     of images of known individuals;  of_unknown: of others, which are taken for a known one
    nearest      of images of known individuals the share whose nearest individual is another one
    acceptance   of answers at the target error, "none of these" among them
    tested       labelled images that all this is measured on; chosen: how many others `bb suggest` chose
    """

    frame: pl.DataFrame
    backbones: list[tuple[str, float]]
    labelled: int
    individuals: int
    open_set: MetricEstimate
    of_known: MetricEstimate
    of_unknown: MetricEstimate
    nearest: MetricEstimate
    none_share: float
    target_error: float
    acceptance: Acceptance
    notes: tuple[str, ...]
    model: str | None = None
    tested: int = 0
    chosen: int = 0

    def __repr__(self) -> str:
        return f"Identified({len(self.frame)} images, {self.individuals} individuals, error {self.open_set.value:.3f})"

    def _repr_html_(self) -> str:
        return html_table(self.frame.head(SHOWN), repr(self))

    def record(self) -> dict[str, Any]:
        """The figures next to the table, JSON-ready."""
        return {
            **self.stated(),
            "predicted": len(self.frame),
            "accepted": int(self.frame["accepted"].sum()),
            "none_of_these": int(self.frame["label"].is_null().sum()),
            "model": self.model,
            "notes": list(self.notes),
        }

    def stated(self) -> dict[str, Any]:
        """What replays of the labelled images say, JSON-ready."""
        return {
            "backbones": [{"name": name, "error": error} for name, error in self.backbones],
            "labelled": self.labelled,
            "individuals": self.individuals,
            "tested": self.tested,
            "chosen": self.chosen,
            "error": plain(self.open_set),
            "error_of_known": plain(self.of_known),
            "error_of_unknown": plain(self.of_unknown),
            "error_of_nearest": plain(self.nearest),
            "none_share": self.none_share,
            "target_error": self.target_error,
            "threshold": self.acceptance.threshold,
            "accepted_of_labelled": self.acceptance.accepted,
            "error_of_accepted": self.acceptance.error,
            "error_of_accepted_interval": list(self.acceptance.interval) if self.acceptance.interval else None,
        }


def identify(
    store: Store | str | Path,
    labels: str | Path | pl.DataFrame,
    data: str | None = None,
    *,
    id: str | None = None,
    label: str | None = None,
    group: str | None = None,
    not_missing: Sequence[str] = (),
    ckpt: str | Sequence[str] = (),
    space: str | Sequence[str] = (),
    max_missing: float | None = None,
    top: int = TOP,
    none_share: float = 0.5,
    target_error: float = 0.05,
    folds: SupportsIndex = FOLDS,
    seed: SupportsIndex = 0,
    keep_model: bool = True,
    reporter: Reporter | None = None,
) -> Identified:
    """Says which known individual each unlabelled image shows, or none of these, as `bb predict --retrieve` does.

    labels      a table of individuals as docs/labels.md describes it, or its file; its split is not used
    group       images of one group, such as a burst, are not evidence for each other where the answers are tested
    top         how many of the nearest individuals each row names
    none_share  the share of images that show none of the known individuals: labels can't say, so it is an assumption

    Raises UsageError and BBError, which name what to change.
    """
    reporter = reporter or Silent()
    check_target_error(target_error)
    folds, seed = check_folds(folds), check_seed(seed)
    if not 1 <= top <= MAX_TOP:
        raise UsageError(f"--top {top} makes no sense: choose 1 to {MAX_TOP} individuals.")
    if not 0 < none_share < 1:
        raise UsageError(f"--none-share {none_share:g} is not a share: choose one between 0 and 1, such as 0.5.")
    opened = store if isinstance(store, Store) else Store.open(store)
    if keep_model:
        note_unkept(opened, reporter)
    known = KnownImages.read(
        opened, labels, data, id=id, label=label, group=group, not_missing=not_missing, ckpt=ckpt, space=space,
        max_missing=max_missing, reporter=reporter,
    )  # fmt: skip
    collection, spaces, task = known.images.collection, known.images.spaces, images_of(known.table)
    ids, y = task.ids.tolist(), np.asarray(task.y, np.int64)
    rest = known.others(ids)
    if not rest:
        raise BBError(f"every image of {collection.name} is labelled: leave labels empty, or add images.")
    features = known.features(ids)
    made = []
    for done, x in enumerate(features, 1):
        made.append(replays(x, y, task.group))
        reporter.progress("comparing labelled images", done, len(features), "backbones")
    if len(made) > 1 and folds < 3:
        raise UsageError(f"{len(made)} backbones can't be compared within {folds} folds: raise --folds to 3 or more.")
    errors, answers, tested = cross_fitted(made, folds, seed, none_share)
    order = sorted(range(len(errors)), key=lambda i: errors[i])
    measured = measured_on(known.table, ids)
    stated = _StatedErrors.of(tested, answers, measured, none_share, target_error)
    best = order[0]
    calibration = Calibration.fit(made[best], none_share)
    finder = Finder(spaces[best], features[best], y, task.classes, calibration, stated.acceptance.threshold, top)
    rest, without = finder.with_features(opened, collection, rest)
    notes = [*known.table.notes, *note_without(without), *filter(None, [measured.note])]
    if stated.once:
        notes.append(
            f"{counted(stated.once, 'individual')} with one labelled image, which is tested as an unknown one's"
        )
    if task.group is None:
        notes.append("without --group, images of one burst answer each other, and the stated error is too low")
    frames = list(finder.predictions(opened, collection, rest))
    if not frames:
        raise BBError(f"no other image of {collection.name} has features: run bb extract on it first.")
    names = known.names()
    found = Identified(
        pl.concat(frames),
        [(names[i], errors[i]) for i in order],
        len(ids),
        len(task.classes),
        stated.open_set,
        stated.of_known,
        stated.of_unknown,
        stated.nearest,
        none_share,
        target_error,
        stated.acceptance,
        tuple(notes),
        tested=int(measured.rows.sum()),
        chosen=measured.chosen,
    )
    if not keep_model:
        return found
    protocol = {
        "folds": folds, "seed": seed, "grouped": task.group is not None, "none_share": none_share, "top": top,
        "target_error": target_error, "candidates": sorted(each.key for each in spaces),
    }  # fmt: skip
    model = finder.model(
        backbone=(opened.backbones(finder.space) or [short(finder.space.key)])[0],
        collection=collection,
        labels=labels_digest(collection, ids, y, task.classes, task.group),
        protocol=protocol,
        stated=found.stated(),
    )
    digest, reason = keep(opened, model)
    return replace(found, model=digest, notes=(*notes, *filter(None, [reason])))


@dataclass(frozen=True, eq=False)
class _StatedErrors:
    """What is stated with the answers, as `Identified` has it; once: individuals with one measured image."""

    open_set: MetricEstimate
    of_known: MetricEstimate
    of_unknown: MetricEstimate
    nearest: MetricEstimate
    acceptance: Acceptance
    once: int

    @classmethod
    def of(
        cls, tested: Replays, answers: ReplayAnswers, measured: Measured, none_share: float, target_error: float
    ) -> "_StatedErrors":
        """Errors: BBError where no measured image shows an individual that another image shows."""
        kept = measured.rows[tested.image]
        if not (tested.outcome[kept] != NONE).any():
            raise BBError(
                "none of the labelled images drawn at random has a second image of its individual to be found by: "
                f"label {MORE} more with `bb suggest --strategy random`."
            )
        tested, answers = tested.among(kept), answers.among(kept)
        weight, removed = tested.weights(none_share), tested.outcome == NONE
        acceptance = accept(answers.confidence, answers.hit, target_error, group=tested.individual, weight=weight)
        if measured.unstated:
            acceptance = replace(acceptance, interval=None)

        def error(wrong: Bool[np.ndarray, " r"], weight: Float64[np.ndarray, " r"], claim: str) -> MetricEstimate:
            return measured.checked(error_of(wrong, weight, tested.individual, claim))

        images = f"images of which {none_share:g} show none of the known individuals, by individuals"
        known, unknown = np.ones(len(weight)) * ~removed, np.ones(len(weight)) * removed
        return cls(
            error(~answers.hit, weight, images),
            error(~answers.hit, known, "further images of known individuals"),
            error(~answers.hit, unknown, "images of further individuals"),
            error(tested.outcome != RIGHT, known, "further images of known individuals"),
            acceptance,
            int(measured.rows.sum()) - int((~removed).sum()),
        )
