"""From what a person types to stores, collections and names of backbones."""

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bb.console import ConsoleReporter, warn
from bb.options import DEFAULT_STORE
from bb.settings import Settings, parse_data_root

if TYPE_CHECKING:
    import typer

    from bb.extract.backbones.name import BackboneName
    from bb.extract.data.source_spec import Root
    from bb.probe.features.missing import MissingPolicy
    from bb.store import Collection, Store
    from bb.store.text.image_ids import IdMatch


NEEDED_FOR_IMAGES = ("PIL", "simplejpeg")
NEEDED_TO_EXTRACT = ("torch", "torchvision", "timm", "open_clip", "PIL", "safetensors")


def open_store(place: str, *, create: bool = False, write: bool = False, cache_size: str | None = None) -> "Store":
    """The store at a path or, where it is only read, at a URL. `create` makes it where there is none."""
    from bb.store import Store
    from bb.store.files.filesystem import caution
    from bb.store.signing.trust import Trust
    from bb.store.storage.read_cache import parse_size
    from bb.store.storage.url import is_url

    if not is_url(place):
        place = str(local_folder(place))
    elif create or write:
        local_folder(place)
    trusted = Trust.load(trust_file()).keys
    new = create and not (Path(place) / "zarr.json").exists()
    size = parse_size(cache_size) if cache_size else None
    store = Store.create(place) if create else Store.open(place, cache_size=size)
    if create and (said := caution(Path(place))):
        warn(f"note: {place} is on {said}")
    if new:
        warn(f"made a new store at {place}")
    return replace(store, trusted=trusted, say=lambda text: warn(f"warning: {text}"))


def local_folder(place: str) -> Path:
    """The folder of a store, of a path or a `file://` URL. Raises UsageError for any other URL."""
    from bb.store import UsageError
    from bb.store.storage.local import Folder
    from bb.store.storage.url import is_url, open_place
    from bb.store.text.command import command

    if is_url(place):
        raise UsageError(
            f"{place} is read only in place: work on a local store (`{command('store pull', place)}`), and push."
        )
    found = open_place(place)
    return found.root if isinstance(found, Folder) else Path(place)


def store_to_name(ctx: "typer.Context", store: str) -> str | None:
    """The store as a suggested command names it: None where this command used it, and bb takes it without."""
    usual = ctx.lookup_default("store") or DEFAULT_STORE
    return None if store == usual == ctx.params["store"] and "BB_STORE" not in os.environ else store


def trust_file() -> Path:
    """The public keys that this user trusts."""
    from bb.store.files.machine_key import user_folder

    return user_folder() / "trust.json"


def key_file() -> Path:
    """This user's private key, where no other is named."""
    from bb.store.files.machine_key import user_folder

    return user_folder() / "key.pem"


def parse_data(given: Sequence[str] | None, settings: Settings) -> "dict[str, Root | None]":
    """Collections by name, each with its folder or shards where they are known; all of bb.toml where none is given.

    Errors: UsageError, also for a name that no collection can have.
    """
    from bb.store import UsageError
    from bb.store.format.collection import check_name

    found: dict[str, Root | None] = {} if given else dict(settings.data)
    for text in given or ():
        name, equals, folder = text.partition("=")
        if equals and not folder:
            raise UsageError(f"--data {text} names no folder: write {name}=DIR.")
        if name in found:
            raise UsageError(f"--data names {name} twice: give each collection a name of its own.")
        found[name] = parse_data_root(folder) if equals else settings.data.get(name.partition("@")[0])
    for name, root in found.items():
        if root is not None:
            check_name(name.partition("@")[0])
    return found


def parse_names(ckpts: Sequence[str] | None) -> "list[BackboneName]":
    from bb.extract.backbones.name import BackboneName

    return list(dict.fromkeys(BackboneName.parse(text) for text in ckpts or []))


def require_extract(verb: str) -> None:
    require(verb, NEEDED_TO_EXTRACT, "extract")


def require_images(verb: str) -> None:
    require(verb, NEEDED_FOR_IMAGES, "images")


def require(verb: str, modules: Sequence[str], extra: str) -> None:
    from bb.store import UsageError

    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"{verb} needs {', '.join(missing)}: pip install 'backbone-bench[{extra}]'")


def backbone_names(ckpt: Sequence[str] | None, opened: "Store | None" = None) -> list[str]:
    """What --ckpt names, as provenance has it: backbones, heads of derived spaces, and any name that a store has."""
    from bb.extract.backbones.name import shared_name
    from bb.store.format.derived import check_head_name, is_head_name

    stored = {name for space in opened.spaces() for name in opened.backbones(space)} if opened and ckpt else set()
    named = [text for text in ckpt or [] if text in stored]
    rest = [text for text in ckpt or [] if text not in stored]
    heads = [check_head_name(text) for text in rest if is_head_name(text)]
    parsed = parse_names([text for text in rest if not is_head_name(text)])
    return list(dict.fromkeys([*named, *map(shared_name, parsed), *heads]))


def one_collection(opened: "Store", data: str | None, settings: Settings) -> "tuple[str, Root | None]":
    """The collection that --data names, or the store's only one, and where its images are, if that is known."""
    from bb.store.format.collection import only_collection

    ((name, root),) = parse_data([data or only_collection(opened.collection_names())], settings).items()
    return name, root


def find_version(
    opened: "Store", name: str, root: "Root | None", written: Sequence[str], policy: "MissingPolicy"
) -> "tuple[Collection, IdMatch]":
    """The version of a collection that holds a table's images, and what it calls them.

    Where versions disagree, the one whose images are those in the folder (or shards), if that is known. Images are only
    read then. Errors: SeveralVersions, and those of `find_collection`.
    """
    from bb.store.find_collection import find_collection
    from bb.store.format.space import short
    from bb.store.local.choose_version import SeveralVersions, version_with
    from bb.store.text.image_ids import match_ids

    tolerated = policy.allowed(len(set(written)))
    try:
        return find_collection(opened, name, written, tolerated=tolerated)
    except SeveralVersions as several:
        if root is None or importlib.util.find_spec("PIL") is None:
            raise
        known = {image_id for version in several.versions for image_id in version.table["image_id"].to_list()}
        ids = sorted(set(match_ids(written, known).ids))
        from bb.extract.scan_collection import find_known_files, hash_images

        images = find_known_files(root)
        if isinstance(images, dict):
            images = {image_id: images[image_id] for image_id in ids if image_id in images}
        with ConsoleReporter() as reporter:
            entries = hash_images(name, images, reporter=reporter).entries
        here = {entry.image_id: entry.image_sha256 for entry in entries}
        chosen = version_with(several.versions, ids, [here.get(image_id) for image_id in ids])
        if chosen is None or not here:
            raise several.because(
                f"{root} holds none of them, since its images were replaced. Extract it again, or choose one"
            ) from None
    warn(f"note: versions of collection {name} disagree; {root} holds {name}@{short(chosen.digest)}, which is taken")
    return find_collection(opened, f"{name}@{chosen.digest}", written, tolerated=tolerated)


def collection_of(
    opened: "Store", data: str | None, image_ids: list[str], settings: Settings, policy: "MissingPolicy"
) -> "tuple[str, Root | None]":
    """The collection that labels are of, the one named or the only one that fits, and where its images are if known."""
    from bb.store import BBError, UsageError
    from bb.store.find_collection import find_collection
    from bb.store.local.choose_version import SeveralVersions

    names = opened.collection_names()
    if data:
        return one_collection(opened, data, settings)
    fitting, misfits = [], []
    for name in names:
        try:
            find_collection(opened, name, image_ids, tolerated=policy.allowed(len(image_ids)))
            fitting.append(name)
        except SeveralVersions:
            fitting.append(name)
        except BBError as error:
            misfits.append(f"note: {error}")
    if len(fitting) != 1:
        warn(*([] if fitting else misfits[:3]))
        what = f"{' and '.join(fitting)} hold" if fitting else f"none of {opened.name}'s collections holds"
        raise UsageError(f"{what} all {len(image_ids)} images of the labels: name the collection with --data NAME.")
    return one_collection(opened, fitting[0], settings)


def canonical_name(text: str) -> str:
    """A backbone as runs have it, where it is the name of one; else as it is."""
    from bb.extract.backbones.name import BackboneName, shared_name
    from bb.store import UsageError

    try:
        return shared_name(BackboneName.parse(text))
    except UsageError:
        return text


def open_to_probe(place: str, runs_to: str | None, cache_size: str | None) -> "tuple[Store, str]":
    """The store that features are read from, and the name of that into which runs go: itself where it is local."""
    from bb.store import UsageError
    from bb.store.storage.url import is_url

    if not is_url(place):
        if runs_to:
            raise UsageError(f"--runs-to is for a --store that is a URL; the runs of {place} go into it.")
        return open_store(place), place
    local = runs_to or DEFAULT_STORE
    if is_url(local):
        raise UsageError(f"--runs-to takes a local folder, not {local}: from there, `bb store push` copies the runs.")
    opened = open_store(place, cache_size=cache_size)
    beside = open_store(local, create=True)
    warn(f"{place} is only read: runs go to {local}")
    return replace(opened, runs_to=beside), local
