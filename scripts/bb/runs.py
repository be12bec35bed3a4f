"""Runs of every kind: those that exist are looked up, the others are computed, with progress."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from bb.console import Progress, stop_gracefully, warn
from bb.store.text.size import counted
from bb.stores import backbone_names

if TYPE_CHECKING:
    from bb.probe.features.missing import MissingPolicy
    from bb.probe.heads.derive import Derived, PreparedTraining
    from bb.probe.retrieval.run import PreparedRetrieval
    from bb.probe.run import FamilyInputs, FamilySpec
    from bb.store import Collection, FeatureSpace, Store
    from bb.store.local.runs import Run


def space_text(inputs: "FamilyInputs | PreparedRetrieval") -> str:
    from bb.store.format.space import short

    return ", ".join(inputs.store.backbones(inputs.space)) or short(inputs.space.key)


def spaces_to_probe(
    opened: "Store",
    collection: "Collection",
    image_ids: Sequence[str],
    ckpt: Sequence[str] | None,
    space: Sequence[str] | None,
    policy: "MissingPolicy",
    *,
    unless: "Callable[[FeatureSpace], bool] | None" = None,
) -> "tuple[list[FeatureSpace], dict[str, str]]":
    """The feature spaces that are asked for, and the images to leave out, which one of them does not have, with
    reasons."""
    from bb.probe.features.missing import note_on, settle_missing
    from bb.probe.features.select_spaces import choose_spaces

    spaces = choose_spaces(
        opened, collection, image_ids, backbones=backbone_names(ckpt, opened), keys=space or [], missing=policy
    )
    spaces = [each for each in spaces if not (unless and unless(each))]
    left_out = settle_missing(opened, spaces, collection, image_ids, policy)
    if left_out:
        warn(f"note: {note_on(left_out)}")
    return spaces, left_out


def note_damage(
    opened: "Store", spaces: "Sequence[FeatureSpace]", collection: "Collection", image_ids: list[str]
) -> None:
    """Names the damaged images among those that a model learns from or is tested on."""
    from bb.probe.features.damaged_images import damage_note, damage_record, damaged_images

    records = (damage_record(damaged_images(opened, space, collection, image_ids)) for space in spaces)
    warn(*dict.fromkeys(f"note: {damage}" for record in records if (damage := damage_note(record))))


def shared_notes(collection: "Collection", held_out: list[str], learned: list[str]) -> list[str]:
    """What to know where images that a model is tested on equal images that it learns from."""
    from bb.probe.tasks.leaks import shared_pictures

    if not (twins := shared_pictures(collection, held_out, learned)):
        return []
    one, other = twins[0]
    return [
        f"{len(twins)} of {len(held_out)} images that are not learned from are the same file as one that is, such as "
        f"{one!r} and {other!r}: scores on them say little of new images; take them out of the labels"
    ]


def probe_all(
    inputs: "Sequence[FamilyInputs]", specs: "Sequence[FamilySpec]", *, jobs: int | None, force: bool = False
) -> "list[tuple[Run, bool]]":
    """Each input with each spec: the run, and whether it was computed now. Finished runs stay if it is broken off."""
    from joblib import cpu_count

    from bb.probe.run import execute, prepare
    from bb.store.format.space import short

    results = []
    for prepared in [prepare(each, spec) for each in inputs for spec in specs]:  # what can't be fitted is said first
        each, spec = prepared.inputs, prepared.spec
        existing = prepared.existing()
        what = f"{space_text(each)}, n_train {spec.n_train}, seed {spec.seed}"
        if existing and not force:
            results.append((existing_run(what, existing), False))
            continue
        with Progress(what, len(each.labels.tasks), "tasks") as meter:
            run = execute(prepared, jobs=jobs or cpu_count(), progress=meter)
        notes = [f"{what}, {task}: {note}" for task, notes in run.record["notes"].items() for note in notes]
        warn(*notes[:5], *([f"{what}: {len(notes) - 5} more notes, which run.json lists"] if len(notes) > 5 else []))
        if any(other.record["scores"] != run.record["scores"] for other in existing):
            warn(f"{what}: run {short(run.run_id)} came out otherwise than before; both are kept, see `bb report -v`")
        results.append((run, True))
    return results


def retrieve_all(
    prepared: "Sequence[PreparedRetrieval]", *, jobs: int | None, force: bool = False
) -> "list[tuple[Run, bool]]":
    """The run of each, and whether it was computed now. Finished runs stay if it is broken off."""
    from bb.probe.retrieval.run import execute
    from bb.store.format.space import short

    results = []
    for each in prepared:
        existing, what = each.existing(), space_text(each)
        if existing and not force:
            results.append((existing_run(what, existing), False))
            continue
        with Progress(what, 1, "steps") as meter:
            run = execute(each, jobs=jobs, progress=meter)
        if any(other.record["scores"] != run.record["scores"] for other in existing):
            warn(f"{what}: run {short(run.run_id)} came out otherwise than before; both are kept")
        results.append((run, True))
    return results


def train_all(
    prepared: "Sequence[PreparedTraining]", log: Sequence[str], *, force: bool
) -> "list[tuple[Derived, bool]]":
    """What came of each training, and whether it was done now. Every epoch is reported to the loggers."""
    from contextlib import closing

    from bb.probe.heads.checkpoint import can_resume
    from bb.probe.heads.derive import execute, existing
    from bb.probe.retrieval.loggers.base import open_logger
    from bb.store.format.space import short

    results = []
    with ExitStack() as stack:
        loggers = [stack.enter_context(closing(open_logger(text))) for text in log]
        for logger in loggers:
            logger.log_pipeline_info({"verb": "bb probe head", **prepared[0].recipe.record()})
        for each in prepared:
            found = None if force else existing(each)
            if found:
                results.append((found, False))
                continue
            name = ", ".join(each.store.backbones(each.parent)) or short(each.parent.key)
            if can_resume(each.checkpoint):
                warn(f"head of {name}: going on from {each.checkpoint}")
            words = "stopping after this epoch; the state is kept, and the same command goes on"
            with stop_gracefully(words) as stop, Progress(f"head of {name}", each.recipe.epochs, "epochs") as meter:

                def on_epoch(
                    epoch: int, values: Mapping[str, float], name: str = name, meter: Progress = meter
                ) -> None:
                    meter(epoch)
                    for logger in loggers:
                        logger.log_scalars({f"{name}/{value}": number for value, number in values.items()}, epoch)

                made = execute(each, stop=stop, progress=on_epoch)
            results.append((made, True))
            if made.space is None and not made.kept:
                break
    return results


def existing_run(what: str, existing: "Sequence[Run]") -> "Run":
    """Of several runs of one ID the one to use; where others have other scores, which are not used is said."""
    from bb.store.local.runs import disagreement

    if found := disagreement(existing):
        warn(f"note: {what}: {len(existing)} runs of one ID disagree: {found}")
    return existing[0]


def is_of_backbone(run: "Run", backbones: set[str]) -> bool:
    """Whether a run is of one of the backbones; so is one of which that can't be read, for the report to name it."""
    found = run.record["backbones"]
    return not isinstance(found, list) or bool(backbones & set(map(str, found)))


def runs_text(runs: "Iterable[Run]", fresh: "Iterable[str]") -> str:
    """How many runs were computed, by their IDs, and how many were there: what was asked for twice is one."""
    made = set(fresh)
    there = {run.run_id for run in runs} - made
    return f"{counted(len(made), 'run')} computed, {len(there)} were there"


def when_made(run: "Run", fresh: bool) -> str:
    """What a table says of a run that was there before."""
    from bb.store.local.tier import Tier

    return "" if fresh else "was there" if run.tier < Tier.OTHER else "was there, origin unknown"
