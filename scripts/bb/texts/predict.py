"""What `bb predict` prints of its predictions, and how far to trust them."""

from typing import TYPE_CHECKING, Any

from bb.console import say, warn
from bb.store.text.size import counted
from bb.texts.classify import score_text

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from bb.probe.labelling.identify import Identified
    from bb.probe.labelling.result import Labelled
    from bb.probe.labelling.use_model import Applied


def show_labelled(found: "Labelled", again: str) -> None:
    """Of a run that fitted a classifier. `again`: the command that uses it, to which --model is added."""
    figures, acceptance = found.record(), found.acceptance
    names = [name for name, _ in found.backbones]
    best = " and ".join(names) if found.ensemble else names[0]
    images, labels = counted(len(found.frame), "image"), counted(found.labelled, "label")
    say(f"{images} predicted from {labels} with {best}, {found.setting.classifier}")
    random = found.tested < found.labelled
    like = (
        f"images of the collection, from {found.tested} drawn at random"
        if random
        else "further images like the labelled ones"
    )
    say(f"accuracy of {like}: {score_text(figures['accuracy'])}")
    if figures["accuracy_of_new_groups"]:
        say(f"accuracy of images of a further group: {score_text(figures['accuracy_of_new_groups'])}")
    _say_reasons(found.notes, figures["accuracy"], figures["accuracy_of_new_groups"])
    if found.by_group and found.known_groups:
        pooled = found.by_group.pooled
        say(f"{figures['accepted']} accepted for an error of {found.target_error:g} (--target-error)")
        known = counted(found.known_groups, "image")
        say(f"  {_from(pooled.threshold, found.by_group.own)} of {known} of labelled groups{_wrong(pooled.error)}")
        if found.known_groups < len(found.frame):
            say(f"  {_from(acceptance.threshold)} of other images{_wrong(acceptance.error)}")
    elif acceptance.threshold is None:
        say(f"no prediction is accepted: none is sure enough for an error of {found.target_error:g}; label more images")
    else:
        target = f" (--target-error {found.target_error:g})"
        say(
            accepted_text(figures["accepted"], len(found.frame), acceptance.threshold)
            + _wrong(acceptance.error)
            + target
        )
    if found.model:
        say(f"the classifier is kept as model {found.model[:12]}; for other images: {again}")
    warn(*(f"note: {note}" for note in found.notes))


def _say_reasons(notes: "Collection[str]", *scores: "Mapping[str, Any] | None") -> None:
    """Why scores have no interval, where no note says it."""
    for reason in dict.fromkeys(each["reason"] for each in scores if each and each["low"] is None):
        if reason not in notes:
            say(f"no interval: {reason}")


def _from(threshold: float | None, own: "Collection[str]" = ()) -> str:
    """What is accepted of a kind of images. own: groups with a threshold of their own."""
    least = "none" if threshold is None else f"those with a probability of {threshold:.3f} or more"
    return least + (f" (with thresholds of their own in {counted(len(own), 'group')})" if own else "")


def accepted_text(accepted: int, of: int, threshold: float) -> str:
    """How many of some predictions are accepted, and which."""
    if not accepted:
        return f"none of {of} is accepted: that takes a probability of {threshold:.3f} or more"
    return f"{accepted} of {of} accepted: those with a probability of {threshold:.3f} or more"


def _wrong(error: float | None) -> str:
    return "" if error is None else f"; of labelled images like these {error:.3f} were wrong"


def show_identified(found: "Identified", again: str) -> None:
    """Of a run that looked for known individuals. `again`: the command that looks for them in other images."""
    figures, acceptance = found.record(), found.acceptance
    say(
        f"{counted(len(found.frame), 'image')} compared with {found.labelled} of {found.individuals} individuals by "
        f"{found.backbones[0][0]}: {figures['none_of_these']} show none of these"
    )
    say(
        f"wrong answers, if {found.none_share:g} of the images show none of these (--none-share): "
        f"{score_text(figures['error'])}"
    )
    say(
        f"of images of known individuals {score_text(figures['error_of_known'])}, of others "
        f"{score_text(figures['error_of_unknown'])}"
    )
    _say_reasons(found.notes, figures["error"], figures["error_of_known"], figures["error_of_unknown"])
    if acceptance.threshold is None:
        say(f"no answer is accepted: none is sure enough for an error of {found.target_error:g}; label more images")
    else:
        target = f" (--target-error {found.target_error:g})"
        say(
            accepted_text(figures["accepted"], len(found.frame), acceptance.threshold)
            + _wrong(acceptance.error)
            + target
        )
    if found.model:
        say(f"the individuals are kept as model {found.model[:12]}; for other images: {again}")
    warn(*(f"note: {note}" for note in found.notes))


def show_applied(found: "Applied") -> None:
    """Of a run that used a kept model."""
    from bb.probe.labelling.use_model import stated_score

    figures, model = found.record(), found.model
    name, measured = found.collection.name, model.collection[0]
    say(f"{counted(len(found.frame), 'image')} of {name} predicted by model {model.digest[:12]}: {model.described}")
    for field, text in (
        ("accuracy", "accuracy of images like the labelled ones"),
        ("accuracy_of_new_groups", "accuracy of images of a further group"),
        ("error", "error of answers, unknown individuals among the images"),
    ):
        if score := stated_score(model.stated, field):
            say(f"measured on {measured} when it was fitted, {text}: {score_text(score)}")
    threshold, groups = model.calibration.get("threshold"), model.calibration.get("groups")
    if found.known_groups and groups:
        say(f"{figures['accepted']} accepted")
        say(f"  {_from(groups['pooled'], groups['own'])} of {counted(found.known_groups, 'image')} of labelled groups")
        if found.known_groups < len(found.frame):
            say(f"  {_from(threshold)} of other images")
    elif threshold is None:
        say("no prediction is accepted: none of the labelled images was predicted surely enough")
    else:
        say(accepted_text(figures["accepted"], len(found.frame), threshold))
    warn(*(f"note: {note}" for note in found.notes))
