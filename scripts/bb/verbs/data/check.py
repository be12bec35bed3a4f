"""`bb data check`"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bb import options
from bb.console import ConsoleReporter, Progress, say, warn
from bb.settings import labels_beside
from bb.stores import backbone_names, one_collection, open_store, parse_data, require_images

if TYPE_CHECKING:
    from bb.extract.data.scan import Scan


def verb(
    ctx: typer.Context,
    data: Annotated[list[str] | None, typer.Argument(help="NAME, NAME=DIR or NAME=SHARDS.")] = None,
    follow_links: options.FollowOption = False,
    decode: Annotated[
        bool, typer.Option("--decode", help="Decode every image as bb extract would, instead of its header alone.")
    ] = False,
    duplicates: Annotated[
        bool, typer.Option("--duplicates", help="Compare stored features instead, and list images that look alike.")
    ] = False,
    ckpt: options.CkptOption = None,
    space: options.SpacesOption = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="With --duplicates: also say which pairs are across a split.")
    ] = None,
    cosine: Annotated[
        float | None, typer.Option("--cosine", help="With --duplicates: the least cosine of a pair; 0.62.")
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", help="Write a task family's labels; with --duplicates every pair; - is standard output."),
    ] = None,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="With --duplicates: list every pair.")] = False,
    store: options.StoreOption = options.DEFAULT_STORE,
) -> None:
    if duplicates:
        _check_duplicates(ctx, data, ckpt, space, labels, cosine, csv, verbose, store)
        return
    _refuse_alone({"--ckpt": ckpt, "--space": space, "--labels": labels, "--cosine": cosine})
    if csv:
        _write_labels(data, csv, ctx)
        return
    require_images("bb data check")
    from bb.extract.scan_collection import find_files, hash_images
    from bb.probe.features.missing import describe_missing, failed_of, incomplete_spaces
    from bb.probe.tasks.newt import read_labels
    from bb.probe.tasks.registry import TASKS
    from bb.store import Collection, UsageError
    from bb.store.format.space import short
    from bb.store.storage.url import is_url
    from bb.store.text.command import command
    from bb.store.text.image_ids import explain, match_ids
    from bb.store.text.lookalike import shown
    from bb.texts.families import check_family

    opened = open_store(store) if is_url(store) or (Path(store) / "zarr.json").exists() else None
    collections = parse_data(data, ctx.obj)
    if not collections:
        raise UsageError("which collection? bb data check NAME=DIR, or a NAME from bb.toml.")
    wrong = 0
    for name, root in collections.items():
        if root is None:
            raise UsageError(f"where are the images of {name}? {command('data check', f'{name}=DIR')}")
        table = None
        if name in TASKS and name != "newt":
            table = check_family(name, root)
            if table is None:
                wrong += 1
                continue
        left_out: list[str] = []
        files = find_files(root, follow_links=follow_links, announce=left_out.append)
        with ConsoleReporter() as reporter:
            found = hash_images(name, files, reporter=reporter)
        problems = dict(found.failed)  # one for each image
        if decode:
            faults, notes = _decoding_faults(name, found)
            problems |= faults
            left_out += notes
        else:
            problems |= _header_faults(found)
        copies = len(found.entries) - len({entry.image_sha256 for entry in found.entries})
        if opened:
            for incomplete, missing in incomplete_spaces(opened, Collection.from_entries(name, found.entries)):
                left_out.append(f"{store}: {describe_missing(opened, incomplete, missing)}")
                for image_id, why in failed_of(missing).items():
                    problems.setdefault(image_id, f"no features in space {short(incomplete.key)}: {why}")
        if table is not None:
            match = match_ids(table.image_ids, found.sources)
            problems |= dict.fromkeys(match.unmatched, "named by the labels, but not there")
            if unnamed := sorted(set(found.sources).difference(match.ids)):
                left_out.append(f"{len(unnamed)} images that the labels do not name, such as {shown(unnamed[0])}")
        elif (file := labels_beside(root)) and file.exists():
            newt = read_labels(file)
            match = match_ids(newt.image_ids, found.sources)
            problems |= dict.fromkeys(match.unmatched, "named by the labels, but not there")
            hint = explain(match.unmatched, found.sources)
            warn(*(f"note: {note}" for note in (*newt.notes, match.note, hint) if note))
            say(f"{name}: {newt.note or 'all 164 tasks'}, {len(newt.image_ids)} images named by the labels")
        decoded = "" if not decode else ", decoded" if problems else ", all decoded"
        count = f"{len(found.sources)} images in {root}{decoded}"
        say(f"{name}: {count}, {copies} of them copies of others, {len(problems)} problems")
        say(*(f"  {image_id}: {problem}" for image_id, problem in problems.items()))
        say(*(f"  note: {words}" for words in left_out))
        wrong += len(problems)
    if wrong:
        raise typer.Exit(1)


def _write_labels(data: list[str] | None, csv: Path, ctx: typer.Context) -> None:
    """The table of a task family as CSV, for verbs that take --labels; no image is read."""
    from bb.probe.tasks.registry import TASKS
    from bb.store import UsageError
    from bb.texts.families import write_labels

    found = parse_data(data, ctx.obj) if data else {}
    if len(found) != 1 or (name := next(iter(found))) not in TASKS:
        raise UsageError("--csv writes the labels of one task family, FAMILY=DIR, or pairs with --duplicates: "
                         f"{', '.join(found) or 'nothing'} is named; the families are {', '.join(TASKS)}.")  # fmt: skip
    write_labels(name, found[name], csv)


def _check_duplicates(
    ctx: typer.Context,
    data: list[str] | None,
    ckpt: list[str] | None,
    space: list[str] | None,
    labels: Path | None,
    cosine: float | None,
    csv: Path | None,
    verbose: bool,
    store: str,
) -> None:
    """No image is read: features and their images' names are in the store."""
    from bb.probe.classification.duplicate_images import duplicate_images
    from bb.probe.features.duplicates import COSINE
    from bb.store import UsageError
    from bb.store.format.space import short
    from bb.texts.duplicates import show_duplicates
    from bb.texts.report import check_files

    if data and len(data) > 1:
        raise UsageError(f"--duplicates compares the images of one collection, not of {', '.join(data)}: name one.")
    check_files({"--csv": csv} if csv else {}, labels)
    opened = open_store(store)
    name, _ = one_collection(opened, data[0] if data else None, ctx.obj)
    names = backbone_names(ckpt, opened)
    found = duplicate_images(
        opened, name, ckpt=names, space=space or (), labels=labels, cosine=COSINE if cosine is None else cosine
    )
    backbone = ", ".join(opened.backbones(found.space)) or short(found.space.key)
    show_duplicates(found, backbone, csv=csv, verbose=verbose)


def _refuse_alone(given: Mapping[str, object]) -> None:
    from bb.store import UsageError

    if alone := [option for option, value in given.items() if value]:
        raise UsageError(f"{', '.join(alone)} is for near-duplicates: give --duplicates, too.")


def _header_faults(found: "Scan") -> dict[str, str]:
    from bb.extract.check_images import unreadable

    nameless = [entry for entry in found.entries if entry.width is None]
    return {entry.image_id: str(unreadable(entry, found)) for entry in nameless}


def _decoding_faults(name: str, found: "Scan") -> tuple[dict[str, str], list[str]]:
    """Images that can't be decoded or are damaged, and notes on others."""
    from joblib import cpu_count

    from bb.extract.check_images import check_images
    from bb.extract.embedding.images import UnreadableImage

    with Progress(f"decoding {name}", len(found.entries), "images") as meter:
        outcomes = check_images(found, threads=cpu_count(), progress=meter)
    faults: dict[str, str] = {}
    notes = []
    for image_id, outcome in outcomes:
        if isinstance(outcome, UnreadableImage):
            faults[image_id] = str(outcome)
        elif outcome.damage:
            faults[image_id] = f"damaged: {outcome.damage}"
        if not isinstance(outcome, UnreadableImage) and outcome.note:
            notes.append(f"{image_id}: {outcome.note}")
    return faults, notes
