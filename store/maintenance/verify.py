"""Is a store what it says? Objects are held against digests, arrays against their space, all against each other."""

import hashlib
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bb.store.errors import BBError, Malformed
from bb.store.files.directory import Directory
from bb.store.files.paths import Kind
from bb.store.files.quarantine import set_aside
from bb.store.format.adopted import check_adopted, read_adopted
from bb.store.format.collection import Collection, check_name, some
from bb.store.format.derived import head_part, is_derived
from bb.store.format.labels import LabelTable
from bb.store.format.layout import is_digest, open_plain, read_space
from bb.store.format.model import read_model
from bb.store.format.space import FeatureSpace, short
from bb.store.format.text import backbone_of, is_text
from bb.store.imported import is_imported
from bb.store.local.replicates import disagreements
from bb.store.local.row_index import RowIndex
from bb.store.local.runs import read_run
from bb.store.local.segment import Segment
from bb.store.local.tier import Tier
from bb.store.storage.read_cache import ALL
from bb.store.store import Store
from bb.store.text.command import command, extract_command


@dataclass(frozen=True)
class Fault:
    """Something wrong.

    what    which thing, and what is wrong with it
    bad     the segment, collection, run, label table or adopted record that is to be set aside; None where none is
            known to be the wrong one
    remedy  what brings back what is lost with it
    """

    what: str
    bad: Path | None = None
    remedy: str = ""


@dataclass
class Findings:
    """What was looked at, and what is wrong."""

    spaces: int = 0
    segments: int = 0
    rows: int = 0
    replicates: int = 0
    n_bytes: int = 0
    collections: int = 0
    runs: int = 0
    labels: int = 0
    models: int = 0
    adopted: list[str] = field(default_factory=list)
    signatures: int = 0
    faults: list[Fault] = field(default_factory=list)
    moved: dict[str, str] = field(default_factory=dict)
    unlinked: list[str] = field(default_factory=list)


def verify(store: Store, *, progress: Callable[[int], None] = lambda segments: None) -> Findings:
    """Reads all of a store. `progress` gets how many segments are done. Changes nothing; see `repair`."""
    found = Findings()
    if store.source:
        store.source.afresh = True  # what the place has now, not what the cache remembers
        found.faults += [Fault(str(error)) for error in store.source.need_sound(ALL)]
    collections = list(_collections(store, found))
    listed = _Listed.of(collections)
    for folder in _folders(store, "spaces/*/zarr.json"):
        try:
            space = read_space(store.root, folder.name)
        except BBError as error:
            found.faults.append(Fault(str(error)))
            continue
        found.spaces += 1
        fetch = store.source.array if store.source else None
        _check_space(store, space, listed, found, progress, fetch)
        _check_adopted(store, space, found)
        _check_head_of(store, space, found)
    _check_runs(store, found)
    _check_labels(store, found)
    _check_heads(store, found)
    _check_models(store, found)
    _check_signatures(store, found)
    return found


def repair(store: Store, found: Findings) -> None:
    """Sets aside what was found bad, whole; `found.moved` says from where to where.

    Links, which no store may hold, not even in `aside/`, are removed, and what they point to stays: `found.unlinked`.
    """
    below = Directory(store.root)
    for bad in {fault.bad: None for fault in found.faults if fault.bad is not None}:
        path = below.relative(bad)
        there = below.stat(path)
        if there is None:
            continue
        inside = list(below.walk(path)) if stat.S_ISDIR(there.st_mode) else [(path, there)]
        for each, status in inside:
            if stat.S_ISLNK(status.st_mode):
                below.remove(each)
                found.unlinked.append(str(store.root / each))
        if not stat.S_ISLNK(there.st_mode):
            found.moved[str(bad)] = str(set_aside(store.root, bad))


def _check_space(
    store: Store,
    space: FeatureSpace,
    listed: "_Listed",
    found: Findings,
    progress: Callable[[int], None],
    fetch: Callable[[Segment, str], None] | None,
) -> None:
    good: list[Segment] = []
    bad: list[tuple[Path, str]] = []
    for place in _folders(store, f"spaces/{space.key}/segments/*/zarr.json"):
        try:
            segment = Segment.open(place, space, fetch)
            segment.check_digests()
            segment.check_rows(space)
            found.faults += _check_ids(segment, listed)
            good.append(segment)
            found.rows += segment.rows
            found.n_bytes += segment.n_bytes
        except BBError as error:
            bad.append((place, str(error)))
        found.segments += 1
        progress(found.segments)
    names = sorted({str(o["backbone"]) for s in good for o in s.origins if "backbone" in o})
    for place, what in bad:
        name = names[0] if names else "CKPT"
        remedy = (
            command("probe head", load=name)
            if is_derived(space)
            else command("store import", "ARRAY.npy", ids="IDS.csv", name=name)
            if is_imported(space)
            else extract_command(backbone_of(name), text="NAME=FILE")
            if is_text(space)
            else extract_command(name, data="NAME=DIR")
        )
        found.faults.append(Fault(f"space {short(space.key)}: {what}", place, remedy))
    revoked = store.revoked()
    _check_replicates([segment for segment in good if segment.digest not in revoked], space, store.tier, found)


def _check_adopted(store: Store, space: FeatureSpace, found: Findings) -> None:
    """Records that older rows serve here. One whose older space is elsewhere serves nothing, and harms nothing."""
    for path in _paths(store, f"spaces/{space.key}/adopted/*.json"):
        try:
            adopted = read_adopted(path)
            is_here = store.directory.exists(f"spaces/{adopted.older}/zarr.json")
            if is_here:
                check_adopted(adopted, space, read_space(store.root, adopted.older))
            found.adopted.append(adopted.describe() + ("" if is_here else "; the older one is not here"))
        except BBError as error:
            remedy = "bb extract with the code that the space names"
            found.faults.append(Fault(f"space {short(space.key)}: {error}", path, remedy))


@dataclass(frozen=True)
class _Listed:
    """The image digests that any version of a collection gives an ID: collection/ID → digests."""

    digests: dict[str, set[bytes]]

    @classmethod
    def of(cls, collections: list[Collection]) -> "_Listed":
        digests: dict[str, set[bytes]] = {}
        for version in collections:
            columns = version.table.select("image_id", "image_sha256")
            for image_id, digest in columns.iter_rows():
                digests.setdefault(f"{version.name}/{image_id}", set()).add(digest)
        return cls(digests)


def _check_ids(segment: Segment, listed: _Listed) -> Iterator[Fault]:
    """Rows whose ID the collections give to other images. An ID in no version is fine: `--limit` names few images."""
    image_ids = segment.array("image_id")
    wrong = []
    for image_id, key in zip(image_ids, segment.keys, strict=True):
        known = listed.digests.get(str(image_id))
        if known is not None and key.tobytes() not in known:
            wrong.append(str(image_id))
    if wrong:
        yield Fault(
            f"segment {segment.folder} has {len(wrong)} rows whose image is another in every version of the "
            f"collection: {some(wrong)}. Rows are found by image digest, so no wrong one is read."
        )


def _check_replicates(
    segments: list[Segment], space: FeatureSpace, tier: Callable[[Kind, str, str], Tier], found: Findings
) -> None:
    """Rows of one image in several segments, held against the one that is read."""
    index = RowIndex.build(segments).preferring(lambda digest: tier("segment", space.key, digest))
    found.replicates += int((index.again.segment != index.segment[index.again.position]).sum())
    for pair in disagreements(index, space):
        found.faults.append(
            Fault(
                f"space {short(space.key)}: {pair.describe(space)}. The rows of {short(pair.read)} are read. Which of "
                f"them is right, extracting into an empty store will show."
            )
        )


def _collections(store: Store, found: Findings) -> Iterator[Collection]:
    for path in _paths(store, "collections/*/*.parquet"):
        found.collections += 1
        name = path.parent.name
        try:
            check_name(name)
            yield Collection.from_file(path)
        except BBError as error:
            found.faults.append(Fault(str(error), path, command("extract", ckpt="CKPT", data=f"{name}=DIR")))


def _check_runs(store: Store, found: Findings) -> None:
    for folder in _folders(store, "runs/*/*/run.json"):
        found.runs += 1
        try:
            if not (is_digest(folder.name) and is_digest(folder.parent.name)):
                raise BBError(f"run {folder} is not named by an ID and a digest.")
            run = read_run(folder)
            run.predictions()
            run.train()
            run.retrieved()
        except BBError as error:
            found.faults.append(Fault(str(error), folder, "the `bb probe` that made it, with --force"))


def _check_labels(store: Store, found: Findings) -> None:
    for path in _paths(store, "labels/*/*.parquet"):
        found.labels += 1
        try:
            check_name(path.parent.name)
            LabelTable.from_file(path)
        except BBError as error:
            found.faults.append(Fault(str(error), path, "bb extract, or bb probe with --labels"))


def _check_heads(store: Store, found: Findings) -> None:
    """Each is named by the digest of its bytes, and that of each derived space is there."""
    for path in _paths(store, "heads/*.safetensors"):
        try:
            with open_plain(store.directory.below("heads"), path.name) as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != path.stem:
                    raise Malformed("it does not have the digest in its name")
        except Malformed as fact:
            found.faults.append(Fault(f"{path} is damaged: {fact}.", path, "copy it from another store"))


def _check_models(store: Store, found: Findings) -> None:
    """Each is named by the digest of its bytes, is a model, and is for the space in whose folder it is."""
    for path in _paths(store, "models/*/*.safetensors"):
        found.models += 1
        try:
            read_model(store.root, path.parent.name, path.stem)
        except BBError as error:
            found.faults.append(Fault(str(error), path, "copy it from another store, or fit it again"))


def _check_head_of(store: Store, space: FeatureSpace, found: Findings) -> None:
    """That the head of a derived space is there; `_check_heads` says whether it is sound."""
    if not is_derived(space):
        return
    part = head_part(space)
    if part is None:
        fact = f"its weights {space.weights[:80]!r} are not the digest of a head"
    elif not store.directory.exists(part.path):
        fact = f"its head {short(space.weights)} is not in the store: copy {part.path} from another store"
    else:
        return
    found.faults.append(Fault(f"space {short(space.key)} can't be filled further: {fact}."))


def _check_signatures(store: Store, found: Findings) -> None:
    statements = store.statements()
    found.signatures = len(statements.valid) + len(statements.faults)
    for name, fact in statements.faults.items():
        path = store.root / "signatures" / f"{name}.json"
        what = f"signature {path} is damaged or forged, and counts for nothing: {fact}."
        found.faults.append(Fault(what, path, "copy it from another store"))


def _folders(store: Store, marker: str) -> list[Path]:
    return [path.parent for path in _paths(store, marker)]


def _paths(store: Store, pattern: str) -> list[Path]:
    return [store.root / path for path in store.directory.match(pattern)]
