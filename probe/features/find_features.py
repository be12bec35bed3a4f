"""From the images that a table names to the feature spaces that have them, with what is left out or known of them."""

from collections.abc import Callable, Sequence

from bb.probe.features.damaged_images import damage_note, damage_record, damaged_images
from bb.probe.features.missing import MissingPolicy, note_on, settle_missing
from bb.probe.features.select_spaces import choose_spaces
from bb.store import Collection, FeatureSpace, Store
from bb.store.find_collection import find_collection
from bb.store.format.collection import only_collection
from bb.store.reporter import Reporter
from bb.store.text.image_ids import IdMatch

# The version of a collection that has a table's images, as the table writes them, and what the collection calls them.
FindCollection = Callable[[Sequence[str]], tuple[Collection, IdMatch]]


def in_collection(store: Store, data: str | None, policy: MissingPolicy) -> FindCollection:
    """Looks in the collection NAME or NAME@DIGEST, or the store's only one. Errors: those of `find_collection`."""

    def find(written: Sequence[str]) -> tuple[Collection, IdMatch]:
        name = data or only_collection(store.collection_names())
        return find_collection(store, name, written, tolerated=policy.allowed(len(set(written))))

    return find


def find_spaces(
    store: Store,
    collection: Collection,
    image_ids: Sequence[str],
    *,
    ckpt: Sequence[str],
    space: Sequence[str],
    policy: MissingPolicy,
    reporter: Reporter,
    kind: str = "img",
    unless: Callable[[FeatureSpace], bool] = lambda space: False,
) -> tuple[list[FeatureSpace], dict[str, str]]:
    """The feature spaces to read, and the images to leave out, which one of them does not have, with reasons.

    ckpt    names of backbones; space: keys. Without either, every space that has the images
    unless  spaces that are not taken, although they fit
    Errors: those of `choose_spaces` and `settle_missing`.
    """
    spaces = choose_spaces(store, collection, image_ids, backbones=ckpt, keys=space, missing=policy, kind=kind)
    spaces = [each for each in spaces if not unless(each)]
    missing = settle_missing(store, spaces, collection, image_ids, policy)
    if missing:
        reporter.info(note_on(missing))
    return spaces, missing


def report_damage(
    store: Store, spaces: Sequence[FeatureSpace], collection: Collection, image_ids: Sequence[str], reporter: Reporter
) -> None:
    """Names the damaged images among those that a model learns from or is tested on."""
    records = (damage_record(damaged_images(store, each, collection, list(image_ids))) for each in spaces)
    for note in dict.fromkeys(note for record in records if (note := damage_note(record))):
        reporter.info(note)
