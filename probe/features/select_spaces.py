"""Which feature spaces a probe reads: by backbone, by key, or every one that is complete."""

from collections.abc import Sequence

from store import Collection, FeatureSpace, Store, UsageError
from store.head import is_head_name
from store.space import short


def choose_spaces(
    store: Store,
    collection: Collection,
    image_ids: Sequence[str],
    *,
    backbones: Sequence[str],
    keys: Sequence[str],
) -> list[FeatureSpace]:
    """The spaces for `--ckpt` (canonical names) and `--space`; without either, every one that has all the images.

    Errors: UsageError where a backbone has no features at all, where several of its spaces hold all the images, or
    where nothing is complete. A single incomplete space is returned: reading it says what is missing.
    """
    chosen = [store.space(key) for key in keys]
    for space in chosen:
        if space.kind != "img":
            raise UsageError(f"--space {short(space.key)} holds {space.kind} features; bb probe takes image features.")
    spaces = [space for space in store.spaces() if space.kind == "img"]
    names = {space.key: store.backbones(space) for space in spaces}
    wanted = collection.digests(image_ids)
    complete = {space.key for space in spaces if store.has(space, wanted).all()}
    for backbone in backbones:
        found = [space for space in spaces if backbone in names[space.key]]
        if any(backbone in names[space.key] for space in chosen):  # --space has decided which of its spaces
            continue
        whole = _newest_code(store, [space for space in found if space.key in complete])
        if not found:
            raise UsageError(
                f"{store.name} has no features of {backbone}. "
                + (
                    "To make them: bb probe head; `bb store ls` lists those that are there."
                    if is_head_name(backbone)
                    else f"To make them: bb extract --ckpt {backbone} --data {collection.name}=DIR"
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
            raise UsageError(
                f"no feature space of {store.name} has all {len(image_ids)} images of {collection.name}. "
                f"See `bb store ls`; to fill one: bb extract --ckpt CKPT --data {collection.name}=DIR"
            )
    return list({space.key: space for space in chosen}.values())


def _newest_code(store: Store, spaces: list[FeatureSpace]) -> list[FeatureSpace]:
    """Without those that another one adopted, whose rows are read there; of a circle the lowest key stays."""
    older = {space.key: {each.key for each in store.older(space)} for space in spaces}

    def replaced(space: FeatureSpace) -> bool:
        by = [key for key, adopted in older.items() if space.key in adopted]
        return any(key not in older[space.key] or key < space.key for key in by)

    return [space for space in spaces if not replaced(space)]


def describe(space: FeatureSpace) -> str:
    """What tells the spaces of one backbone apart, in a line."""
    view, numerics = space.view, space.numerics
    return (
        f"{numerics['compute']} stored as {numerics['stored']}, crop {view.get('crop')}, "
        f"code {short(space.code)}, weights {short(space.weights)}"
    )
