"""Which stored vectors of texts can be compared with which image features, and those vectors."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, UInt8

from bb.store import Collection, FeatureSpace, Store, UsageError
from bb.store.format.collection import some
from bb.store.format.space import short
from bb.store.format.text import (
    COLLECTIONS,
    backbone_of,
    collection_of,
    is_for,
    is_projected,
    is_text,
    is_text_collection,
    normalised,
    templates_of,
    text_keys,
)
from bb.store.text.command import command


def named(store: Store, space: FeatureSpace) -> str:
    """The backbones of a space, for messages."""
    return ", ".join(store.backbones(space)) or f"space {short(space.key)}"


def check_projected(store: Store, space: FeatureSpace) -> None:
    """Errors: UsageError where image features were not projected into a space shared with text."""
    if not is_projected(space):
        raise UsageError(
            f"space {short(space.key)} of {named(store, space)} is not projected into a space shared with text, so no "
            f"text can be compared with it. Extract a network that has both: "
            f"{command('extract', ckpt='ViT-B-16/openai', data='NAME=DIR', store=store.name)}"
        )


def class_texts(store: Store, classes: Sequence[str], text: str | None) -> Collection:
    """The collection of texts that has all of some classes: the named one, or the store's only one.

    Errors: UsageError where there is none, or several; where it misses a class, with its name; SeveralVersions.
    """
    name, _, digest = (text or "").partition("@")
    known = [each for each in store.collection_names() if is_text_collection(each)]
    make = command("extract", text=f"{name.removeprefix(COLLECTIONS) or 'NAME'}=FILE", ckpt="CKPT", store=store.name)
    if not name and len(known) != 1:
        listed = ", ".join(each.removeprefix(COLLECTIONS) for each in known)
        raise UsageError(
            f"which texts? --text NAME; {store.name} has {listed}."
            if known
            else f"{store.name} has no texts. To make them of a file with a name on each line: {make}"
        )
    collection = collection_of(name) if name else known[0]
    versions = [each for each in store.collections(collection) if each.digest.startswith(digest)]
    shown = collection.removeprefix(COLLECTIONS)
    if not versions:
        listed = ", ".join(each.removeprefix(COLLECTIONS) for each in known) or "none"
        raise UsageError(f"{store.name} has no texts {text!r}; it has {listed}. To make them: {make}")
    there = {image_id for version in versions for image_id in version.table["image_id"]}
    if missing := [each for each in classes if normalised(each) not in there]:
        raise UsageError(
            f"the texts {shown} do not have {len(missing)} of {len(classes)} classes of the labels: "
            f"{some([repr(each) for each in missing])}. Add them to the file of names under the names that the labels "
            f"use, then: {command('extract', text=f'{shown}=FILE', ckpt='CKPT', store=store.name)}"
        )
    return store.collection(f"{collection}@{digest}" if digest else collection, [normalised(each) for each in classes])


def find_text_space(
    store: Store,
    images: FeatureSpace,
    keys: UInt8[np.ndarray, "n 32"],
    *,
    key: str | None = None,
    plain: bool = False,
    make: str = "NAME=FILE",
) -> FeatureSpace:
    """The text space that goes with a space of images and has all of some texts.

    key    of the space that is meant, or its beginning
    plain  whether of several the one is taken whose only template is the text itself
    make   what a message gives to `bb extract --text`

    Errors: UsageError where there is none: because there are no text vectors, those that are there are of another
    network, or some texts have none; and where several would do.
    """
    spaces = [store.space(key)] if key else [space for space in store.spaces() if is_text(space)]
    if key and not is_text(spaces[0]):
        raise UsageError(f"--text-space {key} holds {named(store, spaces[0])}, which are image features.")
    names = store.backbones(images)
    to_make = f"To make them: {command('extract', text=make, ckpt=names[0] if names else 'CKPT', store=store.name)}"
    if not spaces:
        raise UsageError(f"{store.name} has no vectors of texts. {to_make}")
    fitting = [space for space in spaces if is_for(space, images)]
    if not fitting:
        theirs = sorted({backbone_of(name) for space in spaces for name in store.backbones(space)})
        also = " (of other weights or another architecture)" if set(theirs) & set(names) else ""
        raise UsageError(
            f"the text vectors are of {', '.join(theirs) or 'a network without a name'}{also}, the images of "
            f"{named(store, images)}: both must come from one checkpoint. {to_make}"
        )
    counts = {space.key: int(store.has(space, keys).sum()) for space in fitting}
    whole = [space for space in fitting if counts[space.key] == len(keys)]
    if not whole:
        most = max(counts.values())
        raise UsageError(
            f"{len(keys) - most} of {len(keys)} texts have no vector of {named(store, images)} in {store.name}. "
            f"{to_make}"
        )
    if plain and len(whole) > 1:
        whole = [space for space in whole if len(templates_of(space)) == 1] or whole
    if len(whole) > 1:
        listed = "\n".join(f"  --text-space {short(space.key)}  {describe(space)}" for space in whole)
        raise UsageError(f"{len(whole)} spaces of text vectors would do; choose one:\n{listed}")
    return whole[0]


def describe(space: FeatureSpace) -> str:
    """What tells the text spaces of one backbone apart, in a line."""
    templates = templates_of(space)
    first = f", such as {templates[0]!r}" if templates else ""
    return f"{len(templates)} template{'s' * (len(templates) != 1)}{first}, code {short(space.code)}"


def read_texts(store: Store, space: FeatureSpace, keys: UInt8[np.ndarray, "n 32"]) -> Float32[np.ndarray, "n d"]:
    """Vectors of texts that a text space has, in the order of their keys."""
    rows = store.rows(space)
    position = rows.find(keys)
    if store.source:
        store.source.arrays(rows.origins(position), space.array)
    return np.array(rows.gather(position, space.array), np.float32)


def read_queries(
    store: Store, images: FeatureSpace, texts: Sequence[str], *, key: str | None = None
) -> tuple[FeatureSpace, Float32[np.ndarray, "n d"]]:
    """The stored vectors of some texts, and their space. Errors: as `find_text_space`."""
    keys = text_keys(texts)
    space = find_text_space(store, images, keys, key=key, plain=True, make="queries=FILE")
    return space, read_texts(store, space, keys)
