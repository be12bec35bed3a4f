"""Fitted classifiers of a store, found by digest."""

from bb.store.errors import BBError, UsageError
from bb.store.format.layout import HEX
from bb.store.format.model import Model
from bb.store.format.space import short
from bb.store.store import Store

SHOWN = 8


def find_model(store: Store, beginning: str) -> Model:
    """The model of a digest or of the beginning of one.

    Errors: UsageError where it names none or several, with what there is; BBError where the model is damaged.
    """
    digests = list(store.models())
    meant = [digest for digest in digests if beginning and digest.startswith(beginning)]
    if len(meant) == 1:
        return store.model(meant[0])
    if not set(beginning) <= HEX or not beginning:
        what = "is not a model's digest or the beginning of one"
    else:
        what = f"begins the digests of {len(meant)} models" if meant else "names no model"
    there = ", ".join(map(short, (meant or digests)[:SHOWN])) or "none; `bb predict` without --model makes one"
    raise UsageError(f"--model {beginning!r} {what} of {store.name} (there: {there}).")


def readable_models(store: Store) -> tuple[list[Model], list[BBError]]:
    """The models of a store in order of digest, and what is wrong with the others."""
    models, faults = [], []
    for digest in store.models():
        try:
            models.append(store.model(digest))
        except BBError as error:
            faults.append(error)
    return models, faults
