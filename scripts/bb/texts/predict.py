"""What `bb predict` prints of its predictions, and how far to trust them."""

from typing import TYPE_CHECKING

from bb.console import say, warn
from bb.texts.classify import score_text

if TYPE_CHECKING:
    from bb.probe.labelling.identify import Identified
    from bb.probe.labelling.result import Labelled
    from bb.probe.labelling.use_model import Applied


def show_labelled(found: "Labelled", again: str) -> None:
    """Of a run that fitted a classifier. `again`: the command that uses it, to which --model is added."""
    figures, acceptance = found.record(), found.acceptance
    names = [name for name, _ in found.backbones]
    best = " and ".join(names) if found.ensemble else names[0]
    say(f"{len(found.frame)} images predicted from {found.labelled} labels with {best}, {found.setting.classifier}")
    random = found.tested < found.labelled
    like = (
        f"images of the collection, from {found.tested} drawn at random"
        if random
        else "further images like the labelled ones"
    )
    say(f"accuracy of {like}: {score_text(figures['accuracy'])}")
    if figures["accuracy_of_new_groups"]:
        say(f"accuracy of images of a further group: {score_text(figures['accuracy_of_new_groups'])}")
    if acceptance.threshold is None:
        say(f"no prediction is accepted: none is sure enough for an error of {found.target_error:g}; label more images")
    else:
        say(
            f"{figures['accepted']} accepted, with a probability of {acceptance.threshold:.3f} or more; of labelled "
            f"images like these {acceptance.error:.3f} were wrong (--target-error {found.target_error:g})"
        )
    if found.model:
        say(f"the classifier is kept as model {found.model[:12]}; for other images: {again}")
    warn(*(f"note: {note}" for note in found.notes))


def show_identified(found: "Identified", again: str) -> None:
    """Of a run that looked for known individuals. `again`: the command that looks for them in other images."""
    figures, acceptance = found.record(), found.acceptance
    say(
        f"{len(found.frame)} images compared with {found.labelled} of {found.individuals} individuals by "
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
    if acceptance.threshold is None:
        say(f"no answer is accepted: none is sure enough for an error of {found.target_error:g}; label more images")
    else:
        say(
            f"{figures['accepted']} accepted, with a probability of {acceptance.threshold:.3f} or more; of labelled "
            f"images like these {acceptance.error:.3f} were wrong (--target-error {found.target_error:g})"
        )
    if found.model:
        say(f"the individuals are kept as model {found.model[:12]}; for other images: {again}")
    warn(*(f"note: {note}" for note in found.notes))


def show_applied(found: "Applied") -> None:
    """Of a run that used a kept model."""
    from bb.probe.labelling.use_model import stated_score

    figures, model = found.record(), found.model
    name, measured = found.collection.name, model.collection[0]
    say(f"{len(found.frame)} images of {name} predicted by model {model.digest[:12]}: {model.described}")
    for field, text in (
        ("accuracy", "accuracy of images like the labelled ones"),
        ("accuracy_of_new_groups", "accuracy of images of a further group"),
        ("error", "error of answers, unknown individuals among the images"),
    ):
        if score := stated_score(model.stated, field):
            say(f"measured on {measured} when it was fitted, {text}: {score_text(score)}")
    threshold = model.calibration.get("threshold")
    if threshold is None:
        say("no prediction is accepted: none of the labelled images was predicted surely enough")
    else:
        say(f"{figures['accepted']} accepted, with a probability of {threshold:.3f} or more")
    warn(*(f"note: {note}" for note in found.notes))
