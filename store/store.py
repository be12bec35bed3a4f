"""The store: a folder in which everything is immutable and named by a digest. See docs/store.md."""

import getpass
import json
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Num, UInt8

from store.adopted import Adopted, check_adopted, read_adopted
from store.canonical import sha256_hex
from store.collection import Collection, check_name, some
from store.errors import BBError, UsageError
from store.head import is_derived, parent_key, read_head
from store.labels import LabelTable
from store.layout import FORMAT, is_digest, read_space
from store.publish import publish_file, publish_sealed
from store.revoked import Revoked, Statements, read_folder
from store.row_index import index_of, is_remembered
from store.rows import RowIndex, StaleIndex
from store.runs import Run, local_json, read_runs, write_run
from store.segment import Segment, encode_rows, group_json, seal_segment
from store.signature import Revocation, Statement
from store.space import FeatureSpace, short
from store.url import is_url, open_place

if TYPE_CHECKING:
    import polars as pl

    from store.mirror import Mirror
    from store.paths import Kind


class MissingRows(BBError):
    """Images that a feature space lacks; `image_ids` names them all."""

    def __init__(self, message: str, image_ids: Sequence[str]) -> None:
        super().__init__(message)
        self.image_ids = tuple(image_ids)


@dataclass(frozen=True)
class Store:
    """A store in a local folder.

    Its state is the folder's; an instance only remembers what can't change: the segments and signatures it has read,
    and which rows sets of segments hold.

    trusted  public keys whose revocations are heeded, each with a name (see store/revoked.py for the others)
    """

    root: Path
    trusted: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    _segments: dict[tuple[str, str], Segment] = field(default_factory=dict, repr=False, compare=False)
    source: "Mirror | None" = field(default=None, repr=False, compare=False)
    runs_to: "Store | None" = field(default=None, repr=False, compare=False)
    _rows: dict[str, RowIndex] = field(default_factory=dict, repr=False, compare=False)
    _statements: dict[str, Statement | str] = field(default_factory=dict, repr=False, compare=False)
    _judged: dict[tuple[str, ...], Revoked] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(cls, root: str | Path, *, cache_size: int | None = None) -> "Store":
        """Opens an existing store, of a URL in place and read only. Raises BBError where there is none.

        cache_size  of a URL: bytes that the caches of all places may take, `store.mirror.DEFAULT_SIZE` if None
        """
        if is_url(root):
            from store.mirror import DEFAULT_SIZE, Mirror

            source = Mirror.open(open_place(root), DEFAULT_SIZE if cache_size is None else cache_size)
            return replace(cls.open(source.root), source=source)
        root = Path(root)
        try:
            meta = json.loads((root / "zarr.json").read_bytes())
            found = meta["attributes"]["bb"]["format"]
        except FileNotFoundError:
            raise BBError(
                f"there is no store at {root}: `bb extract` or `bb store pull URL` makes one, --store names another."
            ) from None
        except (KeyError, TypeError, ValueError, NotADirectoryError):
            raise BBError(
                f"{root} is not a bb store (its zarr.json says nothing of bb): --store names another."
            ) from None
        if found != FORMAT:
            raise BBError(f"{root} has store format {found}, this bb reads {FORMAT}: install a bb that knows it.")
        return cls(root)

    @classmethod
    def create(cls, root: str | Path) -> "Store":
        """Opens a store, making it first where there is none. Raises BBError where other files are in the way."""
        root = Path(root)
        if (root / "zarr.json").exists():
            return cls.open(root)
        strangers = root.exists() and (
            not root.is_dir() or any(path.name not in ("tmp", "spaces") for path in root.iterdir())
        )
        if strangers and not (root / "zarr.json").exists():  # which another process may have made meanwhile
            raise BBError(f"{root} exists and is not a bb store: give --store a new or empty folder.")
        try:
            root.mkdir(parents=True, exist_ok=True)
            publish_file(root, group_json({}), root / "spaces" / "zarr.json")
            publish_file(root, group_json({"bb": {"format": FORMAT}}), root / "zarr.json")
        except OSError as error:
            raise BBError(f"can't make a store at {root}: {error.strerror}. --store names another place.") from None
        return cls(root)

    @property
    def name(self) -> str:
        """Its path or URL, as messages and commands have it."""
        return self.source.url if self.source else str(self.root)

    def require_writable(self) -> None:
        """Raises UsageError where the store is used in place."""
        if self.source:
            raise UsageError(
                f"{self.name} is read only in place: pull it first with `bb store pull {shlex.quote(self.name)}`, "
                f"work on the local store, and push."
            )

    def _need(self, kind: "Kind", owner: str | None = None) -> None:
        if self.source:
            self.source.need(kind, owner)

    # Feature spaces and their segments

    def spaces(self) -> list[FeatureSpace]:
        """All feature spaces, in order of key."""
        self._need("space")
        return [read_space(path) for path in sorted((self.root / "spaces").glob("*/zarr.json"))]

    def space(self, key: str) -> FeatureSpace:
        """The feature space of a key or of the beginning of one. Raises UsageError where it names none or several."""
        keys = [path.parent.name for path in (self.root / "spaces").glob("*/zarr.json")]
        found = sorted(k for k in keys if k.startswith(key))
        if len(found) != 1 or not key:
            what = f"begins {len(found)} feature spaces" if found else "names no feature space"
            raise UsageError(f"{key!r} {what} of {self.name}: see `bb store ls`.")
        return read_space(self.root / "spaces" / found[0] / "zarr.json")

    def put_space(self, space: FeatureSpace) -> None:
        """Makes the groups of a feature space; nothing where they are there."""
        self.require_writable()
        folder = self.root / "spaces" / space.key
        publish_file(self.root, group_json({}), folder / "segments" / "zarr.json")
        attributes = {"bb": {"format": FORMAT, "space": space.record()}}
        publish_file(self.root, group_json(attributes), folder / "zarr.json")

    def segment_digests(self, space: FeatureSpace) -> list[str]:
        """Names of the published segments of a feature space that are not revoked, ascending; they are not opened."""
        self._need("segment", space.key)
        folder = self.root / "spaces" / space.key / "segments"
        try:
            names = sorted(os.listdir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return []
        revoked = self.revoked()
        return [name for name in names if name not in revoked and os.path.exists(f"{folder}/{name}/zarr.json")]

    def segments(self, space: FeatureSpace) -> list[Segment]:
        """Published segments of a feature space that are not revoked, in order of digest."""
        return [self._segment(space, digest) for digest in self.segment_digests(space)]

    def _segment(self, space: FeatureSpace, digest: str) -> Segment:
        if (space.key, digest) not in self._segments:
            folder = self.root / "spaces" / space.key / "segments" / digest
            self._segments[space.key, digest] = Segment.open(folder, space, self.source.array if self.source else None)
        return self._segments[space.key, digest]

    def readable(self, space: FeatureSpace) -> list[Segment]:
        """The segments that a read of a space looks into, in order of precedence: its own, then those it adopted."""
        return [segment for each in (space, *self.older(space)) for segment in self.segments(each)]

    def count_segments(self) -> int:
        """How many there are in all, revoked ones included."""
        if self.source:
            return sum(part.kind == "segment" for part in self.source.parts)
        return sum(1 for _ in (self.root / "spaces").glob("*/segments/*/zarr.json"))

    def backbones(self, space: FeatureSpace) -> list[str]:
        """The names under which the rows of a space were extracted: provenance, so there may be several, or none."""
        origins = [origin for segment in self.readable(space) for origin in segment.origins]
        return sorted({str(origin["backbone"]) for origin in origins if "backbone" in origin})

    def put_segment(
        self,
        space: FeatureSpace,
        image_sha256: UInt8[np.ndarray, "n 32"],
        image_ids: Sequence[str],
        features: Num[np.ndarray, "n ..."],
        provenance: Mapping[str, Any],
    ) -> str:
        """Publishes rows as one segment (see `encode_rows` for the shapes) and returns its digest."""
        objects = encode_rows(space, image_sha256, image_ids, features)
        self.put_space(space)

        def seal(digests: dict[str, str]) -> tuple[Path, bytes]:
            digest, manifest = seal_segment(space, len(image_ids), objects, digests, provenance)
            self._refuse_revoked("segment", digest)
            return self.root / "spaces" / space.key / "segments" / digest, manifest

        return publish_sealed(self.root, objects, seal, before=lambda target: self._put_local(target.name)).name

    def rows(self, space: FeatureSpace, *, afresh: bool = False) -> RowIndex:
        """The index of all rows published so far; `afresh` reads it of all segments, whatever is remembered.

        The space's own rows win over adopted ones, of those the lowest key's.
        """
        own, *adopted = [self._own_rows(each, afresh=afresh) for each in (space, *self.older(space))]
        try:
            return RowIndex.join([own, *adopted]) if adopted else own
        except StaleIndex:
            return self.rows(space, afresh=True)

    def _own_rows(self, space: FeatureSpace, *, afresh: bool) -> RowIndex:
        digests = self.segment_digests(space)
        if strangers := [name for name in digests if not is_digest(name)]:
            self._segment(space, strangers[0])  # which says what is wrong with it
        known = self._rows.get(space.key)
        if self.source and known is None and not is_remembered(self.root, space.key, digests):
            self.source.arrays([self._segment(space, digest) for digest in digests], "image_sha256")
        index = index_of(self.root, space.key, digests, partial(self._segment, space), known, afresh=afresh)
        self._rows[space.key] = index
        return index

    def has(self, space: FeatureSpace, digests: UInt8[np.ndarray, "n 32"]) -> Bool[np.ndarray, " n"]:
        """Which image digests the space has features of."""
        return self.rows(space).find(digests) >= 0

    def read(self, space: FeatureSpace, collection: Collection, image_ids: Sequence[str]) -> Num[np.ndarray, "n ..."]:
        """Features of images in the order asked, (n, D) or (n, P, Dp), in the stored dtype.

        The array may be a read-only memory map. Raises MissingRows, which says how many rows are missing, which, and
        the command that fills them; BBError for IDs that the collection lacks.
        """
        if not image_ids:
            return np.empty((0, *space.row_shape), dtype=space.dtype)
        wanted = collection.digests(image_ids)
        rows = self.rows(space)
        try:
            return self._gather(rows, space, collection, image_ids, wanted)
        except (StaleIndex, MissingRows):
            if rows.checked:
                raise
            return self._gather(self.rows(space, afresh=True), space, collection, image_ids, wanted)

    def _gather(
        self,
        rows: RowIndex,
        space: FeatureSpace,
        collection: Collection,
        image_ids: Sequence[str],
        wanted: UInt8[np.ndarray, "n 32"],
    ) -> Num[np.ndarray, "n ..."]:
        position = rows.find(wanted)
        if (position < 0).any():
            absent = [image_id for image_id, row in zip(image_ids, position, strict=True) if row < 0]
            raise MissingRows(
                f"{len(absent)} of {len(image_ids)} images of {collection.name} have no features in space "
                f"{short(space.key)}: {some(absent)}. To fill them: {self._to_fill(space, collection.name)}",
                absent,
            )
        if self.source:
            self.source.arrays(rows.origins(position), space.array)
        return rows.gather(position, space.array)

    def _to_fill(self, space: FeatureSpace, collection: str) -> str:
        """The command that makes the rows which a space lacks."""
        names, at = self.backbones(space), f"--store {shlex.quote(self.name)}"
        if is_derived(space):
            return (
                f"extract them into space {short(parent_key(space))}, of which it was made, then "
                f"bb probe head --load {names[0] if names else 'head:DIGITS'} --data {collection} {at}"
            )
        return (
            f"bb extract --ckpt {shlex.quote(names[0] if names else 'CKPT')} --data {collection}=DIR {at} "
            f"--precision {space.numerics['compute']} --store-dtype {space.numerics['stored']}"
            + (" --patch" if space.kind == "patch" else "")
        )

    # Older spaces of other code, whose rows serve too

    def put_adopted(self, adopted: Adopted, space: FeatureSpace) -> None:
        """Publishes the record that rows of an older space serve in `space`. Raises BBError where it can't be so."""
        check_adopted(adopted, space, self.space(adopted.older))
        self._refuse_revoked("adopted record", adopted.digest)
        self.put_space(space)
        self._put_local(adopted.digest)
        publish_file(self.root, adopted.raw, self.root / "spaces" / space.key / "adopted" / f"{adopted.digest}.json")

    def adopted(self, space: FeatureSpace) -> list[Adopted]:
        """The records of a space that are believed, not revoked, and whose older space is here, in order of digest.

        `bb store verify` names the others.
        """
        believed = []
        paths = sorted((self.root / "spaces" / space.key / "adopted").glob("*.json"))
        revoked = self.revoked() if paths else {}
        for path in paths:
            if path.stem in revoked:
                continue
            try:
                record = read_adopted(path)
                older = self.root / "spaces" / record.older / "zarr.json"
                if older.exists():
                    check_adopted(record, space, read_space(older))
                    believed.append(record)
            except BBError:
                continue
        return believed

    def older(self, space: FeatureSpace) -> list[FeatureSpace]:
        """The spaces whose rows serve in `space`, adopted by it or by one of them, in order of key."""
        found, ahead = {space.key: space}, [space]
        while ahead:
            for record in self.adopted(ahead.pop()):
                if record.older not in found:
                    found[record.older] = self.space(record.older)
                    ahead.append(found[record.older])
        return [found[key] for key in sorted(found.keys() - {space.key})]

    def lenders(self, space: FeatureSpace, digests: UInt8[np.ndarray, "n 32"]) -> list[str]:
        """Keys of the older spaces out of which a read of these images takes rows, sorted."""
        return sorted({str(segment.manifest["space"]) for segment in self.origins(space, digests)} - {space.key})

    def origins(self, space: FeatureSpace, digests: UInt8[np.ndarray, "n 32"]) -> list[Segment]:
        """The segments out of which a read of these images takes rows; images that are not there count for nothing."""
        rows = self.rows(space)
        position = rows.find(digests)
        try:
            return rows.origins(position[position >= 0])
        except StaleIndex:
            rows = self.rows(space, afresh=True)
            return rows.origins((position := rows.find(digests))[position >= 0])

    # Collections

    def put_collection(self, collection: Collection) -> Collection:
        """Publishes a version; where one with the same images is there already, returns that one."""
        self.require_writable()
        for version in self.collections(collection.name):
            if version.same_images(collection):
                return version
        self._refuse_revoked(f"collection {collection.name}@", collection.digest)
        target = self.root / "collections" / collection.name / f"{collection.digest}.parquet"
        self._put_local(collection.digest)
        publish_file(self.root, collection.parquet, target)
        return collection

    def collections(self, name: str) -> list[Collection]:
        """All versions of a collection that are not revoked, in order of digest."""
        check_name(name)
        self._need("collection", name)
        revoked = self.revoked()
        files = sorted(f for f in (self.root / "collections" / name).glob("*.parquet") if f.stem not in revoked)
        return [Collection.from_file(file) for file in files]

    def collection_names(self) -> list[str]:
        if self.source:
            return sorted({part.owner for part in self.source.parts if part.kind == "collection"})
        return sorted({path.parent.name for path in (self.root / "collections").glob("*/*.parquet")})

    def collection(self, name: str, image_ids: Sequence[str]) -> Collection:
        """The version of `name` (or `name@digest`) that holds these images.

        Several versions serve as one where they agree on every image asked for; where they do not, or none holds all
        of them, UsageError says so: guessing would be to reuse what may be stale.
        """
        name, _, digest = name.partition("@")
        versions = [v for v in self.collections(name) if v.digest.startswith(digest)]
        if not versions:
            known = ", ".join(self.collection_names()) or "none"
            asked = f"{name}@{digest}" if digest else name
            gone = (self.root / "collections" / name).is_dir() and bool(self.revoked())
            raise UsageError(
                f"{self.name} has no collection {asked}{' that is not revoked' if gone else ''} (there: {known}). "
                f"To make it: bb extract --ckpt CKPT --data {name}=DIR"
            )
        whole = [v for v in versions if (v.find(image_ids) >= 0).all()]
        if not whole:
            versions[0].digests(image_ids)  # raises, naming the images that are missing
        if any(not np.array_equal(v.digests(image_ids), whole[0].digests(image_ids)) for v in whole[1:]):
            choices = ", ".join(f"{name}@{short(v.digest)} ({len(v)} images)" for v in whole)
            raise UsageError(
                f"versions of collection {name} disagree on the images asked for: {choices}. "
                f"Choose one with --data {name}@DIGEST."
            )
        return whole[0]

    # Labels

    def put_labels(self, tasks: str, table: "pl.DataFrame", *, collection: str, licence: str) -> LabelTable:
        """Publishes a task family's table on a collection; where the same is there already, returns that one.

        Raises BBError where the licence does not allow it. See `LabelTable` for the columns.
        """
        self.require_writable()
        made = LabelTable.from_table(tasks, table, collection=collection, licence=licence)
        for version in self.labels(tasks):
            if (version.collection, version.licence) == (collection, made.licence) and version.same_labels(made):
                return version
        self._refuse_revoked(f"labels {tasks}@", made.digest)
        self._put_local(made.digest)
        publish_file(self.root, made.parquet, self.root / "labels" / tasks / f"{made.digest}.parquet")
        return made

    def labels(self, tasks: str) -> list[LabelTable]:
        """All label tables of a task family that are not revoked, in order of digest. BBError where one is damaged."""
        check_name(tasks)
        revoked = self.revoked()
        files = sorted(f for f in (self.root / "labels" / tasks).glob("*.parquet") if f.stem not in revoked)
        return [LabelTable.from_file(file) for file in files]

    def label_families(self) -> list[str]:
        return sorted({path.parent.name for path in (self.root / "labels").glob("*/*.parquet")})

    # Trained heads, of which derived spaces are made (see store/head.py)

    def put_head(self, data: bytes) -> str:
        """Publishes a head's file and returns its digest."""
        self.require_writable()
        digest = sha256_hex(data)
        self._refuse_revoked("head", digest)
        self._put_local(digest)
        publish_file(self.root, data, self.root / "heads" / f"{digest}.safetensors")
        return digest

    def heads(self) -> list[str]:
        """Digests of the heads that are not revoked, ascending; they are not opened."""
        if self.source:
            there = sorted(part.digest for part in self.source.parts if part.kind == "head")
        else:
            there = sorted(file.stem for file in (self.root / "heads").glob("*.safetensors"))
        revoked = self.revoked()
        return [digest for digest in there if digest not in revoked]

    def head(self, digest: str) -> bytes:
        """A head's file. Raises BBError where it is not here, or is not what its name says."""
        self._need("head")
        return read_head(self.root, digest)

    # Runs

    def put_run(
        self,
        record: Mapping[str, Any],
        predictions: "pl.DataFrame",
        train: "pl.DataFrame",
        retrieved: "pl.DataFrame | None" = None,
    ) -> Run:
        """Publishes a run, in `runs_to` where there is one; one of the same ID stays, as its sibling."""
        if self.runs_to:
            return self.runs_to.put_run(record, predictions, train, retrieved)
        self.require_writable()
        run = write_run(self.root, record, predictions, train, retrieved)
        self._put_local(run.digest)
        return run

    def runs(self, run_id: str | None = None, on_damage: Callable[[BBError], None] | None = None) -> Iterator[Run]:
        """Published runs that are not revoked, all or of one ID. A damaged one raises, or is told to `on_damage`."""
        if self.runs_to:
            yield from self.runs_to.runs(run_id, on_damage)
        for error in self.source.need_sound(("run",), run_id) if self.source else ():
            if on_damage is None:
                raise error
            on_damage(error)
        yield from read_runs(self.root, run_id, on_damage, self.revoked())

    # Signatures and revocations

    def statements(self) -> Statements:
        """What stands in `signatures/`: valid statements, and what is wrong with the other files."""
        return read_folder(self.root, self._statements)

    def judged(self) -> Revoked:
        """What is revoked here, and which revocations are not heeded. Without signatures, it costs one look."""
        found = self.statements()
        names = tuple(found.valid)
        if names not in self._judged:
            self._judged[names] = found.revoked(self.trusted, self.made_here)
        return self._judged[names]

    def revoked(self) -> Mapping[str, Revocation]:
        """Digests of what is taken back, which nobody is to read, each with the statement that says so."""
        return self.judged().heeded

    def made_here(self, digest: str) -> bool:
        """Whether a segment, collection or run was made in this store."""
        return (self.root / "local" / f"{digest}.json").is_file()

    def _refuse_revoked(self, what: str, digest: str) -> None:
        if digest in self.revoked():
            raise BBError(
                f"{what} {short(digest)} is revoked and would not be read: `bb store verify` says by whom and why."
            )

    # What never leaves the machine

    def local(self, digest: str) -> dict[str, Any]:
        """Host, user and command line of a segment or run that was made here; empty where it came from elsewhere."""
        path = self.root / "local" / f"{digest}.json"
        return json.loads(path.read_bytes()) if path.is_file() else {}

    def _put_local(self, digest: str) -> None:
        record = {"host": platform.node(), "user": _user(), "argv": sys.argv}
        publish_file(self.root, local_json(record), self.root / "local" / f"{digest}.json")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a passwd entry
        return ""
