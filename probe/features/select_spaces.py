"""Which feature spaces a probe reads: by backbone, by key, or every one that is complete."""

from collections.abc import Mapping, Sequence
from typing import Any

from bb.probe.features.missing import STOP, MissingPolicy, describe_missing, missing_from, remedy
from bb.store import Collection, FeatureSpace, Store, UsageError
from bb.store.features import spellings
from bb.store.format.derived import is_head_name
from bb.store.format.space import short
from bb.store.format.text import is_text
from bb.store.text.command import command

NAMES = {"img": "image features", "patch": "patch features"}
TAKERS = {"img": "bb probe takes", "patch": "classifier attentive takes"}
LISTED = 3  # spaces in a message


def choose_spaces(
    store: Store,
    collection: Collection,
    image_ids: Sequence[str],
    *,
    backbones: Sequence[str],
    keys: Sequence[str],
    missing: MissingPolicy = STOP,
    kind: str = "img",
) -> list[FeatureSpace]:
    """The spaces for `--ckpt` and `--space`; without either, every one that has all the images.

    missing  lets a space that does not have a few images count as having all
    kind     of the features: "img" or "patch"

    Errors: UsageError where a backbone has no features at all, where several of its spaces hold all the images, or
    where nothing is complete. A single incomplete space is returned: `settle_missing` says what is missing.
    """
    backbones = [stored_name(store, name) for name in backbones]
    chosen = [store.space(key) for key in keys]
    for space in chosen:
        if space.kind != kind:
            raise UsageError(f"--space {short(space.key)} holds {NAMES[space.kind]}; {TAKERS[kind]} {NAMES[kind]}.")
        if is_text(space):
            raise UsageError(f"--space {short(space.key)} holds vectors of texts; name one of image features.")
    spaces = [space for space in store.spaces() if space.kind == kind and not is_text(space)]
    make = {"patch": True, "pool_grid": "4x4"} if kind == "patch" else {}
    what = "features" if kind == "img" else NAMES[kind]
    names = {space.key: store.backbones(space) for space in spaces}
    rows = collection.find(image_ids)
    wanted = collection.all_digests()[rows[rows >= 0]]
    n_missing = {space.key: len(rows) - int(store.has(space, wanted).sum()) for space in spaces}
    complete = {key for key, n in n_missing.items() if n <= missing.allowed(len(rows))}
    for backbone in backbones:
        found = [space for space in spaces if backbone in names[space.key]]
        if any(backbone in names[space.key] for space in chosen):  # --space has decided which of its spaces
            continue
        whole = _newest_code(store, [space for space in found if space.key in complete])
        if not found:
            patched = any(each.kind == "patch" and backbone in store.backbones(each) for each in store.spaces())
            known = f" but {NAMES['patch']}" if kind == "img" and patched else ""
            raise UsageError(
                f"{store.name} has no {what} of {backbone}{known}. "
                + (
                    "To make them: bb probe head; `bb store ls` lists those that are there."
                    if is_head_name(backbone)
                    else f"To make them: {command('extract', ckpt=backbone, data=f'{collection.name}=DIR', **make)}"
                )
            )
        if len(whole) > 1 or (not whole and len(found) > 1):
            listed = "\n".join(f"  --space {short(space.key)}  {describe(space)}" for space in whole or found)
            state = "hold" if whole else "hold a part of"
            raise UsageError(
                f"{len(whole or found)} feature spaces of {backbone} {state} the images; choose one:\n{listed}"
            )
        chosen.append((whole or found)[0])
    if not backbones and not keys:
        chosen = _newest_code(store, [space for space in spaces if space.key in complete and names[space.key]])
        if not chosen:
            nearest = sorted((space for space in spaces if names[space.key]), key=lambda space: n_missing[space.key])
            raise _incomplete(store, collection, image_ids, nearest, missing, make)
    return list({space.key: space for space in chosen}.values())


def _incomplete(
    store: Store,
    collection: Collection,
    image_ids: Sequence[str],
    nearest: list[FeatureSpace],
    policy: MissingPolicy,
    make: Mapping[str, Any],
) -> UsageError:
    """Says what the spaces do not have, the one that misses least first."""
    what = f"no feature space of {store.name} has all {len(image_ids)} images of {collection.name}"
    if not nearest:
        return UsageError(
            f"{what}. To make one: {command('extract', ckpt='CKPT', data=f'{collection.name}=DIR', **make)}"
        )
    missing = [missing_from(store, space, collection, image_ids) for space in nearest[:LISTED]]
    lines = [describe_missing(store, space, found) for space, found in zip(nearest[:LISTED], missing, strict=True)]
    more = len(nearest) - len(lines)
    return UsageError(
        "\n".join([f"{what}:", *(f"  {line}" for line in lines), *([f"  … and {more} more spaces"] if more else [])])
        + f"\n{remedy(store, nearest[0], collection, missing[0], len(image_ids), policy)}"
    )


def _newest_code(store: Store, spaces: list[FeatureSpace]) -> list[FeatureSpace]:
    """Without those that another one adopted, whose rows are read there; of a circle the lowest key stays."""
    older = {space.key: {each.key for each in store.predecessors(space)} for space in spaces}

    def replaced(space: FeatureSpace) -> bool:
        by = [key for key, adopted in older.items() if space.key in adopted]
        return any(key not in older[space.key] or key < space.key for key in by)

    return [space for space in spaces if not replaced(space)]


def stored_name(store: Store, ckpt: str) -> str:
    """The name of a backbone as the store has it; as it is where the store has none like it."""
    known = {name for space in store.spaces() for name in store.backbones(space)}
    return next((name for name in spellings(ckpt) if name in known), ckpt)


def space_name(store: Store, space: FeatureSpace) -> str:
    """The backbones of a space, or the beginning of its key."""
    return ", ".join(store.backbones(space)) or short(space.key)


def space_names(store: Store, spaces: Sequence[FeatureSpace]) -> dict[str, FeatureSpace]:
    """Spaces by what they are called: their backbone, with the key where that does not tell them apart."""
    named = [(", ".join(store.backbones(each)), each) for each in spaces]
    names = [name for name, _ in named]
    return {
        name if name and names.count(name) == 1 else f"{name} {short(each.key)}".strip(): each for name, each in named
    }


def describe(space: FeatureSpace) -> str:
    """What tells the spaces of one backbone apart, in a line."""
    view, numerics = space.view, space.numerics
    return (
        f"{numerics['compute']} stored as {numerics['stored']}, crop {view.get('crop')}, {_tokens(space)}"
        f"code {short(space.code)}, weights {short(space.weights)}"
    )


def _tokens(space: FeatureSpace) -> str:
    pooled = f" pooled to {space.pool_grid[0]}x{space.pool_grid[1]}" if space.pool_grid else ""
    return f"{space.row_shape[0]} tokens{pooled}, " if space.kind == "patch" else ""
