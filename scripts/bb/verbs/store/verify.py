"""`bb store verify`: read all of the store and say what is wrong with it."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bb import options
from bb.console import ConsoleReporter, Progress, say, show_json, warn
from bb.probe.features.missing import describe_missing, incomplete_spaces
from bb.settings import Settings
from bb.store import BBError, UsageError
from bb.store.format.derived import is_derived
from bb.store.format.space import short
from bb.store.format.text import is_text
from bb.store.imported import is_imported
from bb.store.local.choose_version import newest
from bb.store.maintenance.sign import coverage
from bb.store.maintenance.verify import repair as set_bad_aside
from bb.store.maintenance.verify import verify
from bb.store.text.size import size_text
from bb.stores import open_store, parse_data, parse_names, require_extract
from bb.texts.store import revoked_texts, signed_texts

if TYPE_CHECKING:
    from bb.extract.reproduce.recompute import Recomputed
    from bb.extract.reproduce.sample import Images
    from bb.store import Store


def verb(
    ctx: typer.Context,
    store: options.StoreOption = options.DEFAULT_STORE,
    cache_size: options.CacheOption = None,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Move what is bad to STORE/aside/, and remove links; nothing else is deleted."),
    ] = False,
    recompute: Annotated[
        int | None,
        typer.Option("--recompute", min=1, help="Embed N images of each space anew, here, and compare; needs --data."),
    ] = None,
    data: options.DataOption = None,
    ckpt: options.CkptOption = None,
    space: Annotated[
        list[str] | None, typer.Option("--space", help="With --recompute: only these spaces.", callback=options.named)
    ] = None,
    sample_seed: Annotated[
        int | None,
        typer.Option("--seed", min=0, help="Random seed of the sample that --recompute draws. Default: a new one."),
    ] = None,
    device: Annotated[str, typer.Option(help="With --recompute: auto, cpu, cuda, cuda:N or mps.")] = "auto",
    batch_size: Annotated[str, typer.Option(help="With --recompute: images in a batch.")] = "auto",
    json_: options.JsonOption = False,
) -> None:
    if recompute is None and (data or ckpt or space or sample_seed is not None):
        raise UsageError("--data, --ckpt, --space and --seed say what --recompute N compares: give that, too.")
    opened = open_store(store, write=repair, cache_size=cache_size)
    if repair:
        opened.check_writable("spaces", "aside")
    images = _images_to_recompute(opened, data, ctx.obj) if recompute is not None else None
    total = opened.count_segments()
    with Progress("verifying", total, "segments") as meter:
        found = verify(opened, progress=meter)
    if repair:
        set_bad_aside(opened, found)
    compared: list[Recomputed] = []
    if images is not None and recompute is not None:
        seed = int.from_bytes(os.urandom(4)) if sample_seed is None else sample_seed
        compared = recompute_all(opened, images, recompute, seed, ckpt, space, device, batch_size)
    if json_:
        record = {
            **asdict(found),
            "faults": [{**asdict(f), "bad": str(f.bad) if f.bad else None} for f in found.faults],
            "signed": asdict(coverage(opened)) if found.signatures else None,
            "revoked": {part.digest: why for part, why in revoked_texts(opened).items()},
        }
        if images is not None:
            record |= {"seed": seed, "recompute": [each.record() for each in compared]}
        show_json(record)
    else:
        if found.signatures:
            say(*signed_texts(opened))
        for fault in found.faults:
            say(fault.what)
            if str(fault.bad) in found.moved:
                say(f"  moved to {found.moved[str(fault.bad)]}; to make it again: {fault.remedy}")
            elif str(fault.bad) in found.unlinked:
                say(f"  the link is removed; to make it again: {fault.remedy}")
        say(*(f"removed the link {path}; what it points to is still there" for path in found.unlinked))
        say(
            f"checked {found.spaces} spaces, {found.segments} segments ({found.rows} rows, {found.replicates} of them "
            f"replicates, {size_text(found.n_bytes)}), {found.collections} collections, "
            + (f"{found.labels} label tables, " if found.labels else "")
            + (f"{found.models} models, " if found.models else "")
            + f"{found.runs} runs: {len(found.faults)} faults"
        )
        say(*found.adopted, *(f"note: {note}" for note in _missing_notes(opened)))
        if any(fault.bad for fault in found.faults) and not repair:
            say("bb store verify --repair moves what is bad aside and says what to make again")
        if images is not None:
            say(f"sample drawn with --seed {seed}")
        for each in compared:
            say(each.describe(), *(f"  {fault}" for fault in each.faults), *(f"  note: {note}" for note in each.notes))
    if found.faults or any(each.faults for each in compared):
        raise typer.Exit(1)


def _missing_notes(opened: "Store") -> Iterator[str]:
    """What feature spaces do not have of the newest version of each collection that they have features of."""
    for name in opened.collection_names():
        try:
            collection = newest(opened.collections(name), opened.recorded)
        except BBError:  # a damaged one is a fault that is listed
            continue
        if collection:
            for space, missing in incomplete_spaces(opened, collection):
                yield f"of the {len(collection)} images of {name}, {describe_missing(opened, space, missing)}"


def _images_to_recompute(opened: "Store", data: Sequence[str] | None, settings: Settings) -> "Images":
    """The available images of the collections asked for; says which are not those that the store's collection lists."""
    require_extract("bb store verify --recompute")
    from bb.extract.reproduce.recompute import changed
    from bb.extract.reproduce.sample import Images
    from bb.extract.scan_collection import find_known_files, hash_images
    from bb.store.format.collection import check_name, some

    collections = parse_data(data, settings)
    nowhere = [name for name, root in collections.items() if root is None]
    if not collections or nowhere:
        name = nowhere[0] if nowhere else "newt"
        raise UsageError(f"--recompute embeds images, and where are they? Give --data {name}=DIR.")
    scans = {}
    for name, root in collections.items():
        check_name(name)
        with ConsoleReporter() as reporter:
            scans[name] = hash_images(name, find_known_files(root or Path()), reporter=reporter)
        if other := changed(opened, name, scans[name]):
            warn(f"{len(other)} available images differ from those of the store's collection {name}: {some(other)}")
        if not opened.collections(name):
            warn(f"the store has no collection {name}: its rows are found by the images' bytes alone")
    return Images.of(scans)


def recompute_all(
    opened: "Store",
    images: "Images",
    n: int,
    seed: int,
    ckpt: Sequence[str] | None,
    keys: Sequence[str] | None,
    device: str,
    batch_size: str,
) -> "list[Recomputed]":
    """A sample of each space's images embedded anew. Raises BBError where no space has a row of any of them."""
    from bb.extract.backbones.device import Numerics
    from bb.extract.encoder.encoder import parse_batch_size
    from bb.extract.reproduce.recompute import recompute

    Numerics.resolve(device)
    size = parse_batch_size(batch_size)
    # Rows of derived spaces are made of other rows, not of images.
    spaces = (
        [opened.space(key) for key in keys]
        if keys
        else [s for s in opened.spaces() if not (is_derived(s) or is_imported(s) or is_text(s))]
    )
    if named := [short(space.key) for space in spaces if is_derived(space)]:
        raise UsageError(f"space {', '.join(named)} is derived by a head, not embedded: --recompute its parent.")
    if named := [short(space.key) for space in spaces if is_imported(space)]:
        raise UsageError(f"space {', '.join(named)} was imported: bb does not have the network that made it.")
    if named := [short(space.key) for space in spaces if is_text(space)]:
        raise UsageError(f"space {', '.join(named)} holds vectors of texts, and --recompute embeds images.")
    found = recompute(
        opened, images, spaces, n, seed=seed, names=parse_names(ckpt), device=device, batch_size=size, announce=warn
    )
    compared = list(found)
    if not compared:
        raise BBError(
            f"none of the {len(images.entries)} available images has a row in the feature spaces of {opened.name} that "
            f"are asked for: are they the images of this collection?"
        )
    return compared
