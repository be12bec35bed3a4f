"""Is a store what it says? Objects are held against digests, arrays against their space, all against each other."""

import hashlib
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from store.adopted import check_adopted, read_adopted
from store.aside import set_aside
from store.collection import Collection, check_name, some
from store.errors import BBError
from store.head import head_part, is_derived
from store.labels import LabelTable
from store.layout import Malformed, is_digest, plain_size, read_space
from store.mirror import ALL
from store.rows import RowIndex
from store.runs import read_run
from store.segment import Segment
from store.space import FeatureSpace, short
from store.store import Store
from store.tolerance import relative_distance, tolerance_of

BLOCK_BYTES = 32 * 2**20


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
    adopted: list[str] = field(default_factory=list)
    signatures: int = 0
    faults: list[Fault] = field(default_factory=list)
    moved: dict[str, str] = field(default_factory=dict)


def verify(store: Store, *, progress: Callable[[int], None] = lambda segments: None) -> Findings:
    """Reads all of a store. `progress` is told how many segments are done. Changes nothing; see `repair`."""
    found = Findings()
    if store.source:
        store.source.afresh = True  # what the place has now, not what the cache remembers
        found.faults += [Fault(str(error)) for error in store.source.need_sound(ALL)]
    collections = list(_collections(store, found))
    listed = _Listed.of(collections)
    for folder in _folders(store.root / "spaces", "*/zarr.json"):
        try:
            space = read_space(folder / "zarr.json")
        except BBError as error:
            found.faults.append(Fault(str(error)))
            continue
        found.spaces += 1
        fetch = store.source.array if store.source else None
        _check_space(folder, space, listed, store.revoked(), found, progress, fetch)
        _check_adopted(folder, space, found)
        _check_head_of(folder, space, found)
    _check_runs(store, found)
    _check_labels(store, found)
    _check_heads(store, found)
    _check_signatures(store, found)
    return found


def repair(store: Store, found: Findings) -> None:
    """Sets aside what was found bad, whole; `found.moved` says from where to where."""
    for bad in {fault.bad: None for fault in found.faults if fault.bad is not None}:
        found.moved[str(bad)] = str(set_aside(store.root, bad))


def _check_space(
    folder: Path,
    space: FeatureSpace,
    listed: "_Listed",
    revoked: Container[str],
    found: Findings,
    progress: Callable[[int], None],
    fetch: Callable[[Segment, str], None] | None,
) -> None:
    good: list[Segment] = []
    bad: list[tuple[Path, str]] = []
    for place in _folders(folder / "segments", "*/zarr.json"):
        try:
            segment = Segment.open(place, space, fetch)
            segment.check_digests()
            _check_rows(segment, space)
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
        remedy = f"bb probe head --load {name}" if is_derived(space) else f"bb extract --ckpt {name} --data NAME=DIR"
        found.faults.append(Fault(f"space {short(space.key)}: {what}", place, remedy))
    _check_replicates([segment for segment in good if segment.digest not in revoked], space, found)


def _check_adopted(folder: Path, space: FeatureSpace, found: Findings) -> None:
    """Records that older rows serve here. One whose older space is elsewhere serves nothing, and harms nothing."""
    for path in sorted((folder / "adopted").glob("*.json")):
        try:
            adopted = read_adopted(path)
            older = folder.parent / adopted.older / "zarr.json"
            if older.exists():
                check_adopted(adopted, space, read_space(older))
            found.adopted.append(adopted.words() + ("" if older.exists() else "; the older one is not here"))
        except BBError as error:
            remedy = "bb extract with the code that the space names"
            found.faults.append(Fault(f"space {short(space.key)}: {error}", path, remedy))


def _check_rows(segment: Segment, space: FeatureSpace) -> None:
    """Raises BBError where a key stands twice, or a feature is NaN or infinite."""
    remedy = f"Move {segment.folder} out of the store and extract again."
    keys = np.ascontiguousarray(segment.keys).view("S32").reshape(-1)
    if len(np.unique(keys)) != len(keys):
        raise BBError(f"segment {segment.folder} has two rows of one image. {remedy}")
    features = segment.array(space.array)
    step = max(1, BLOCK_BYTES // features[0].nbytes)
    for start in range(0, len(features), step):
        finite = np.isfinite(features[start : start + step]).all(axis=tuple(range(1, features.ndim)))
        if not finite.all():
            row = start + int(np.flatnonzero(~finite)[0])
            raise BBError(f"segment {segment.folder} has NaN or infinite features in row {row}. {remedy}")


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


def _check_replicates(segments: list[Segment], space: FeatureSpace, found: Findings) -> None:
    """Rows of one image in several segments, held against the one that is read."""
    index = RowIndex.build(segments)
    tolerance = tolerance_of(space)
    for which, segment in enumerate(index.segments):
        position = index.find(np.asarray(segment.keys))
        elsewhere = np.flatnonzero(index.segment[position] != which)
        found.replicates += len(elsewhere)
        features = segment.array(space.array)
        for other in np.unique(index.segment[position[elsewhere]]):
            rows = elsewhere[index.segment[position[elsewhere]] == other]
            theirs = index.segments[other].array(space.array)
            step = max(1, BLOCK_BYTES // features[0].nbytes)  # rows, which no segment's size makes more memory of
            blocks = [rows[start : start + step] for start in range(0, len(rows), step)]
            distance = np.concatenate(
                [relative_distance(features[block], theirs[index.row[position[block]]]) for block in blocks]
            )
            if (far := distance > tolerance).any():
                ids = segment.array("image_id")[rows[far]].tolist()
                found.faults.append(
                    Fault(
                        f"space {short(space.key)}: segments {short(index.segments[other].digest)} and "
                        f"{short(segment.digest)} disagree on {int(far.sum())} images by up to "
                        f"{distance.max():.2g} ({tolerance:g} is allowed): {some(ids)}. Which of them is right, "
                        f"extracting into an empty store will show."
                    )
                )


def _collections(store: Store, found: Findings) -> Iterator[Collection]:
    for path in sorted((store.root / "collections").glob("*/*.parquet")):
        found.collections += 1
        name = path.parent.name
        try:
            check_name(name)
            yield Collection.from_file(path)
        except BBError as error:
            found.faults.append(Fault(str(error), path, f"bb extract --ckpt CKPT --data {name}=DIR"))


def _check_runs(store: Store, found: Findings) -> None:
    for folder in _folders(store.root / "runs", "*/*/run.json"):
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
    for path in sorted((store.root / "labels").glob("*/*.parquet")):
        found.labels += 1
        try:
            check_name(path.parent.name)
            LabelTable.from_file(path)
        except BBError as error:
            found.faults.append(Fault(str(error), path, "bb extract, or bb probe with --labels"))


def _check_heads(store: Store, found: Findings) -> None:
    """Each is named by the digest of its bytes, and that of each derived space is there."""
    for path in sorted(store.root.glob("heads/*.safetensors")):
        try:
            plain_size(path.parent, path.name)
            with open(path, "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != path.stem:
                    raise Malformed("it does not have the digest in its name")
        except Malformed as fact:
            found.faults.append(Fault(f"{path} is damaged: {fact}.", path, "copy it from another store"))


def _check_head_of(folder: Path, space: FeatureSpace, found: Findings) -> None:
    """That the head of a derived space is there; `_check_heads` says whether it is sound."""
    if not is_derived(space):
        return
    part = head_part(space)
    if part is None:
        fact = f"its weights {space.weights[:80]!r} are no digest of a head"
    elif not (folder.parent.parent / part.path).exists():
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


def _folders(top: Path, marker: str) -> list[Path]:
    return [path.parent for path in sorted(top.glob(marker))]
