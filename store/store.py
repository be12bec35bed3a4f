"""The store: a folder in which everything is immutable and named by a digest. See docs/store.md."""

import getpass
import os
import platform
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Int, Num, UInt8

from bb.store.errors import BBError, Malformed, UsageError
from bb.store.files.atomic_write import publish_file, publish_sealed
from bb.store.files.canonical_json import sha256_hex
from bb.store.files.directory import Directory
from bb.store.files.limits import MAX_JSON_BYTES, parse_json
from bb.store.files.machine_key import is_mark, mark
from bb.store.files.regular_file import refuse_in_store
from bb.store.files.writable import check_writable
from bb.store.format.adopted import Adopted, check_adopted, read_adopted
from bb.store.format.collection import Collection, check_name, some
from bb.store.format.derived import is_derived, parent_key, read_head
from bb.store.format.labels import LabelTable
from bb.store.format.layout import FORMAT, clip, format_of, is_digest, read_plain, read_space
from bb.store.format.model import Model, model_part, read_model
from bb.store.format.space import FeatureSpace, short
from bb.store.format.text import COLLECTIONS, backbone_of, is_text
from bb.store.local.authors import read_authors
from bb.store.local.choose_version import choose_version
from bb.store.local.failures import Failures, read_failures, write_failures
from bb.store.local.replicates import disagreements
from bb.store.local.row_index import RowIndex, StaleIndex
from bb.store.local.row_index_cache import index_of, is_remembered
from bb.store.local.runs import Run, local_json, read_runs, write_run
from bb.store.local.segment import Segment, encode_rows, group_json, seal_segment
from bb.store.local.stored_rows import StoredRows
from bb.store.local.tier import Tier
from bb.store.signing.revocation import Revoked, Statements, read_folder
from bb.store.signing.statement import Revocation, SignedItem, Statement
from bb.store.storage.url import check_slip, is_url, open_place
from bb.store.text.command import command, extract_command

SHOWN = 3  # pairs of segments that disagree, before the others are merely counted

if TYPE_CHECKING:
    import polars as pl

    from bb.store.features import Features
    from bb.store.files.paths import Kind
    from bb.store.storage.read_cache import ReadCache


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=4)


class MissingRows(BBError):
    """Images that a feature space does not have; `image_ids` names them all."""

    def __init__(self, message: str, image_ids: Sequence[str]) -> None:
        super().__init__(message)
        self.image_ids = tuple(image_ids)


@dataclass(frozen=True)
class Store:
    """A store in a local folder.

    Its state is the folder's; an instance only remembers what can't change: the segments and signatures it has read,
    and which rows sets of segments hold.

    trusted  public keys whose rows are preferred and whose revocations count, each with a name (see
             store/signing/revocation.py)
    say      hears what a reader of features should know: replicates that disagree
    """

    root: Path
    trusted: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    say: Callable[[str], None] = field(default=_warn, repr=False, compare=False)
    _segments: dict[tuple[str, str], Segment] = field(default_factory=dict, repr=False, compare=False)
    source: "ReadCache | None" = field(default=None, repr=False, compare=False)
    runs_to: "Store | None" = field(default=None, repr=False, compare=False)
    _rows: dict[str, RowIndex] = field(default_factory=dict, repr=False, compare=False)
    _statements: dict[str, Statement | str] = field(default_factory=dict, repr=False, compare=False)
    _judged: dict[tuple[str, ...], Revoked] = field(default_factory=dict, repr=False, compare=False)
    _vouched: dict[tuple[str, ...], frozenset[SignedItem]] = field(default_factory=dict, repr=False, compare=False)
    _made_here: dict[str, bool] = field(default_factory=dict, repr=False, compare=False)
    _disagreements: dict[tuple[str, ...], list[str]] = field(default_factory=dict, repr=False, compare=False)
    _warned: set[str] = field(default_factory=set, repr=False, compare=False)

    @classmethod
    def open(cls, root: str | Path, *, cache_size: int | None = None) -> "Store":
        """Opens an existing store, of a URL in place and read only. Raises BBError where there is none.

        cache_size  of a URL: bytes that the caches of all places may take, `bb.store.storage.read_cache.DEFAULT_SIZE`
                    if None
        """
        check_slip(root)
        if is_url(root):
            from bb.store.storage.read_cache import DEFAULT_SIZE, ReadCache

            source = ReadCache.open(open_place(root), DEFAULT_SIZE if cache_size is None else cache_size)
            try:
                return replace(cls.open(source.root), source=source)
            except BBError:
                if (source.root / "zarr.json").exists():
                    raise
                raise BBError(f"{source.root}, the cache of {root}, was removed while bb ran: rerun.") from None
        root = Path(root)
        folder = Directory(root)
        try:
            folder.refuse_links()
            found = format_of(folder.read("zarr.json", MAX_JSON_BYTES) or b"")
        except FileNotFoundError:
            raise BBError(
                f"found no store at {root}: `bb extract` or `bb store pull URL` makes one, --store names another."
            ) from None
        except NotADirectoryError:
            found = None
        if found is None:
            raise BBError(f"{root} is not a bb store (its zarr.json says nothing of bb): --store names another.")
        if found != FORMAT:
            raise BBError(f"{root} has store format {clip(found)}, this bb reads {FORMAT}: install a bb that knows it.")
        return cls(root)

    @classmethod
    def create(cls, root: str | Path) -> "Store":
        """Opens a store, making it first where there is none. Raises BBError where other files, or a store, are in the
        way."""
        check_slip(root)
        root = Path(root)
        if os.path.lexists(root / "zarr.json"):
            return cls.open(root)
        unexpected = root.exists() and (
            not root.is_dir() or any(path.name not in ("tmp", "spaces") for path in root.iterdir())
        )
        if unexpected and not os.path.lexists(root / "zarr.json"):  # which another process may have made meanwhile
            raise BBError(f"{root} exists and is not a bb store: give --store a new or empty folder.")
        refuse_in_store(root.absolute().parent, f"the new store {root}")
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

    @property
    def directory(self) -> Directory:
        """Guarded access to its files."""
        return Directory(self.root)

    def require_writable(self) -> None:
        """Raises UsageError where the store is used in place."""
        if self.source:
            raise UsageError(
                f"{self.name} is read only in place: pull it first with `{command('store pull', self.name)}`, "
                f"work on the local store, and push."
            )

    def check_writable(self, *folders: str) -> None:
        """Raises UsageError or BBError where nothing can be written to the store, or to some of its folders.

        To be asked before long work whose result goes there; runs go to `runs_to` where there is one.
        """
        if self.runs_to:
            return self.runs_to.check_writable(*folders)
        self.require_writable()
        check_writable(self.root, folders)

    def _need(self, kind: "Kind", owner: str | None = None) -> None:
        if self.source:
            self.source.need(kind, owner)

    # Feature spaces and their segments

    def spaces(self) -> list[FeatureSpace]:
        """All feature spaces, in order of key."""
        self._need("space")
        return [read_space(self.root, key) for key in self._space_keys()]

    def _space_keys(self) -> list[str]:
        return [path.split("/")[1] for path in self.directory.match("spaces/*/zarr.json")]

    def space(self, key: str) -> FeatureSpace:
        """The feature space of a key or of the beginning of one. Raises UsageError where it names none or several."""
        keys = [k for k in self._space_keys() if k.startswith(key)]
        if len(keys) != 1 or not key:
            what = f"begins {len(keys)} feature spaces" if keys else "names no feature space"
            raise UsageError(f"{key!r} {what} of {self.name}: see `bb store ls`.")
        return read_space(self.root, keys[0])

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
        names = self.directory.marked(f"spaces/{space.key}/segments", "zarr.json")
        revoked = self.revoked()
        return [name for name in names if name not in revoked]

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
        return [segment for each in (space, *self.predecessors(space)) for segment in self.segments(each)]

    def count_segments(self) -> int:
        """How many there are in all, revoked ones included."""
        if self.source:
            return sum(part.kind == "segment" for part in self.source.parts)
        return sum(len(self.directory.marked(f"spaces/{key}/segments", "zarr.json")) for key in self._space_keys())

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
        *,
        made_here: bool = True,
    ) -> str:
        """Publishes rows as one segment (see `encode_rows` for the shapes) and returns its digest.

        made_here  whether the rows were computed here, and not just copied from segments that came from elsewhere
        """
        objects = encode_rows(space, image_sha256, image_ids, features)
        self.put_space(space)

        def seal(digests: dict[str, str]) -> tuple[Path, bytes]:
            digest, manifest = seal_segment(space, len(image_ids), objects, digests, provenance)
            self._refuse_revoked("segment", digest)
            return self.root / "spaces" / space.key / "segments" / digest, manifest

        return publish_sealed(
            self.root, objects, seal, before=lambda target: self._put_local(target.name, made_here)
        ).name

    def rows(self, space: FeatureSpace, *, afresh: bool = False) -> RowIndex:
        """The index of all rows published so far; `afresh` reads it of all segments, whatever is remembered.

        Of replicates that of the lowest tier is read (see store/local/replicates.py), of these the space's own before
        adopted
        ones, of those the lowest key's.
        """
        index, older = self._all_rows(space, afresh=afresh), self._older_tiers(space)

        def rank(digest: str) -> Tier:
            owner = str(index.segments.open(digest).manifest["space"])
            # Rows that serve here because a record says so are trusted no more than the record.
            return max(self.tier("segment", owner, digest), older.get(owner, Tier.MADE_HERE))

        try:
            return index.preferring(rank)
        except StaleIndex:
            return self.rows(space, afresh=True)

    def _all_rows(self, space: FeatureSpace, *, afresh: bool = False) -> RowIndex:
        """The same rows, without regard to which of several replicates is read."""
        own, *adopted = [self._own_rows(each, afresh=afresh) for each in (space, *self.predecessors(space))]
        try:
            return RowIndex.join([own, *adopted]) if adopted else own
        except StaleIndex:
            return self._all_rows(space, afresh=True)

    def _own_rows(self, space: FeatureSpace, *, afresh: bool) -> RowIndex:
        digests = self.segment_digests(space)
        if unexpected := [name for name in digests if not is_digest(name)]:
            self._segment(space, unexpected[0])  # which says what is wrong with it
        known = self._rows.get(space.key)
        if self.source and known is None and not is_remembered(self.root, space.key, digests):
            self.source.arrays([self._segment(space, digest) for digest in digests], "image_sha256")
        index = index_of(self.root, space.key, digests, partial(self._segment, space), known, afresh=afresh)
        self._rows[space.key] = index
        return index

    def has(self, space: FeatureSpace, digests: UInt8[np.ndarray, "n 32"]) -> Bool[np.ndarray, " n"]:
        """Which image digests the space has features of."""
        return self._all_rows(space).find(digests) >= 0

    def read(self, space: FeatureSpace, collection: Collection, image_ids: Sequence[str]) -> Num[np.ndarray, "n ..."]:
        """Features of images in the order asked, (n, D) or (n, P, Dp), in the stored dtype.

        The array may be a read-only memory map. Raises MissingRows, which says how many rows are missing, which, and
        the command that fills them; BBError for IDs that the collection does not have.
        """
        if not image_ids:
            return np.empty((0, *space.row_shape), dtype=space.dtype)
        wanted = collection.digests(image_ids)
        rows = self.rows(space)
        for text in self.disagreements(space, wanted):
            if text not in self._warned:
                self._warned.add(text)
                self.say(text)
        try:
            return self._gather(rows, space, collection, image_ids, wanted)
        except (StaleIndex, MissingRows):
            if rows.checked:
                raise
            return self._gather(self.rows(space, afresh=True), space, collection, image_ids, wanted)

    def open_rows(self, space: FeatureSpace, collection: Collection, image_ids: Sequence[str]) -> StoredRows:
        """As `read`, but each row is read when it is asked for. Errors: as `read`."""
        wanted = collection.digests(image_ids)
        rows = self.rows(space, afresh=True)
        position = self._found(rows, space, collection, image_ids, wanted)
        return StoredRows(rows, position, space.array, space.row_shape, space.dtype)

    def _gather(
        self,
        rows: RowIndex,
        space: FeatureSpace,
        collection: Collection,
        image_ids: Sequence[str],
        wanted: UInt8[np.ndarray, "n 32"],
    ) -> Num[np.ndarray, "n ..."]:
        return rows.gather(self._found(rows, space, collection, image_ids, wanted), space.array)

    def _found(
        self,
        rows: RowIndex,
        space: FeatureSpace,
        collection: Collection,
        image_ids: Sequence[str],
        wanted: UInt8[np.ndarray, "n 32"],
    ) -> Int[np.ndarray, " n"]:
        """Where the rows are, once they are available. Errors: MissingRows."""
        position = rows.find(wanted)
        if (position < 0).any():
            absent = [image_id for image_id, row in zip(image_ids, position, strict=True) if row < 0]
            raise MissingRows(
                f"{len(absent)} of {len(image_ids)} images of {collection.name} have no features in space "
                f"{short(space.key)}: {some(absent)}. To fill them: {self.to_fill(space, collection.name)}",
                absent,
            )
        if self.source:
            self.source.arrays(rows.origins(position), space.array)
        return position

    def features(
        self,
        ckpt: str | None = None,
        data: str | None = None,
        *,
        image_ids: Sequence[str] | None = None,
        space: str | None = None,
        kind: str = "img",
    ) -> "Features":
        """The features of a backbone on a collection: `ids, x = store.features("timm:resnet18", "pics")`.

        ckpt       a backbone's name as `--ckpt` takes it or as the store has it; the store's only one if None
        data       a collection, NAME or NAME@DIGEST; the store's only one if None
        image_ids  of these images, in this order; all of the collection if None
        space      a feature space's key or its beginning, where a backbone has several
        kind       "img" or "patch"

        Images without features are left out and named in `missing` of the result. Raises UsageError where the names
        lead to nothing or to several things, BBError for image IDs that the collection does not have.
        """
        from bb.store.features import read_features

        return read_features(self, ckpt, data, image_ids=image_ids, space=space, kind=kind)

    def disagreements(self, space: FeatureSpace, digests: UInt8[np.ndarray, "n 32"]) -> list[str]:
        """What a reader of these images' rows should know of replicates that differ beyond the tolerance."""
        rows = self.rows(space)
        if not len(rows.again):
            return []

        def origin(digest: str) -> str:
            owner = str(rows.segments.open(digest).manifest["space"])
            return f"{short(digest)} ({self.tier('segment', owner, digest).describe()})"

        known = (space.key, sha256_hex(np.ascontiguousarray(digests).data), *rows.segments.digests)
        if known not in self._disagreements:
            pairs = disagreements(rows, space, rows.find(digests))
            more = f"space {short(space.key)}: {len(pairs) - SHOWN} more pairs of segments disagree (`bb store verify`)"
            self._disagreements[known] = [
                f"space {short(space.key)}: {pair.describe(space)}. The rows of {origin(pair.read)} are read, not "
                f"those of {origin(pair.other)}. `bb store verify --recompute 64` shows which are right; move the "
                f"other segment out of the store."
                for pair in sorted(pairs, key=lambda each: -len(each.image_ids))[:SHOWN]
            ] + ([more] if len(pairs) > SHOWN else [])
        return self._disagreements[known]

    def tier(self, kind: "Kind", owner: str, digest: str) -> Tier:
        """Where an object comes from, which decides what is read where several say different things."""
        if self.made_here(digest):
            return Tier.MADE_HERE
        return Tier.TRUSTED if SignedItem(kind, owner, digest) in self._trusted_items() else Tier.OTHER

    def _trusted_items(self) -> frozenset[SignedItem]:
        """What a trusted key has signed."""
        statements = self.statements()
        names = tuple(statements.valid)
        if names not in self._vouched:
            self._vouched[names] = statements.signed_by(self.trusted)
        return self._vouched[names]

    def to_fill(self, space: FeatureSpace, collection: str, backbone: str | None = None) -> str:
        """The command that makes the rows which a space does not have; `backbone` names one that the store has no rows
        of."""
        names = self.backbones(space) or ([backbone] if backbone else [])
        if is_derived(space):
            load = names[0] if names else "head:DIGITS"
            return (
                f"extract them into space {short(parent_key(space))}, of which it was made, then "
                f"{command('probe head', load=load, data=collection, store=self.name)}"
            )
        if is_text(space):
            backbone = backbone_of(names[0]) if names else "CKPT"
            return extract_command(backbone, text=f"{collection.removeprefix(COLLECTIONS)}=FILE", store=self.name)
        return extract_command(
            names[0] if names else "CKPT",
            data=f"{collection}=DIR",
            store=self.name,
            precision=space.numerics["compute"],
            store_dtype=space.numerics["stored"],
            patch=space.kind == "patch",
            pool_grid="x".join(map(str, space.pool_grid)) if space.pool_grid else None,
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
        paths = [self.root / path for path in self.directory.match(f"spaces/{space.key}/adopted/*.json")]
        revoked = self.revoked() if paths else {}
        for path in paths:
            if path.stem in revoked:
                continue
            try:
                record = read_adopted(path)
                if self.directory.exists(f"spaces/{record.older}/zarr.json"):
                    check_adopted(record, space, read_space(self.root, record.older))
                    believed.append(record)
            except BBError:
                continue
        return believed

    def predecessors(self, space: FeatureSpace) -> list[FeatureSpace]:
        """The spaces whose rows serve in `space`, adopted by it or by one of them, in order of key."""
        return [self.space(key) for key in sorted(self._older_tiers(space))]

    def _older_tiers(self, space: FeatureSpace) -> dict[str, Tier]:
        """The keys of those spaces, each with the tier of the records by which it serves here: the best way's worst."""
        tiers, ahead = {space.key: Tier.MADE_HERE}, [space]
        while ahead:
            newer = ahead.pop(0)
            for record in self.adopted(newer):
                tier = max(tiers[newer.key], self.tier("adopted", newer.key, record.digest))
                if tier < tiers.get(record.older, tier + 1):
                    tiers[record.older] = tier
                    ahead.append(self.space(record.older))
        del tiers[space.key]
        return tiers

    def adopted_from(self, space: FeatureSpace, digests: UInt8[np.ndarray, "n 32"]) -> list[str]:
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

    def damaged(self, space: FeatureSpace, digests: UInt8[np.ndarray, "n 32"]) -> dict[bytes, str]:
        """Of those images that the rows of a space say are damaged: image digest → reason."""
        wanted = {bytes(digest) for digest in digests}
        reason_of: dict[bytes, str] = {}
        for segment in self.readable(space):
            reasons = segment.damaged
            for row, reason in reasons.items():
                if (digest := bytes(segment.keys[row])) in wanted:
                    reason_of.setdefault(digest, reason)
        return reason_of

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
        return [Collection.from_file(file) for file in self._files(f"collections/{name}/*.parquet")]

    def _files(self, pattern: str) -> list[Path]:
        """The files of a pattern that are not revoked by the digest in their names, in order of digest."""
        revoked = self.revoked()
        files = [self.root / path for path in self.directory.match(pattern)]
        return [file for file in files if file.stem not in revoked]

    def collection_names(self) -> list[str]:
        if self.source:
            return sorted({part.owner for part in self.source.parts if part.kind == "collection"})
        return sorted({path.split("/")[1] for path in self.directory.match("collections/*/*.parquet")})

    def collection(self, name: str, image_ids: Sequence[str], *, tolerated: int = 0) -> Collection:
        """The version of `name` (or `name@digest`) that holds these images, all but as many as are `tolerated`.

        Several versions serve as one where they agree on every image asked for. Raises SeveralVersions where they do
        not, since guessing would be to reuse what may be stale; BBError where none holds the images, UsageError where
        there is no such version.
        """
        name, _, digest = name.partition("@")
        versions = [v for v in self.collections(name) if v.digest.startswith(digest)]
        if not versions:
            known = ", ".join(self.collection_names()) or "none"
            asked = f"{name}@{digest}" if digest else name
            gone = self.directory.is_folder(f"collections/{name}") and bool(self.revoked())
            raise UsageError(
                f"{self.name} has no collection {asked}{' that is not revoked' if gone else ''} (there: {known}). "
                f"To make it: {command('extract', ckpt='CKPT', data=f'{name}=DIR')}"
            )
        return choose_version(versions, image_ids, tolerated=tolerated, recorded=self.recorded)

    def recorded(self, collection: Collection) -> datetime | None:
        """When a version came into this store; None where the store is elsewhere."""
        status = self.directory.stat(f"collections/{collection.name}/{collection.digest}.parquet")
        return datetime.fromtimestamp(status.st_mtime) if status and not self.source else None

    # Images that could not be embedded

    def put_failures(self, collection: str, spaces: Sequence[FeatureSpace], failures: Failures) -> None:
        """Remembers, on this machine, why images of a collection have no row in these spaces."""
        self.require_writable()
        write_failures(self.root, collection, [space.key for space in spaces], failures)

    def failures(self, collection: str, space: FeatureSpace) -> Failures:
        """Why images of a collection have no row in a space (or in the one it was derived from), as far as known."""
        keys = [space.key, parent_key(space)] if is_derived(space) else [space.key]
        return read_failures(self.root, collection, keys)

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
        return [LabelTable.from_file(file) for file in self._files(f"labels/{tasks}/*.parquet")]

    def label_families(self) -> list[str]:
        return sorted({path.split("/")[1] for path in self.directory.match("labels/*/*.parquet")})

    # Trained heads, of which derived spaces are made (see store/format/derived.py)

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
        if not self.source:
            return [file.stem for file in self._files("heads/*.safetensors")]
        there = sorted(part.digest for part in self.source.parts if part.kind == "head")
        revoked = self.revoked()
        return [digest for digest in there if digest not in revoked]

    def head(self, digest: str) -> bytes:
        """A head's file. Raises BBError where it is not here, or is not what its name says."""
        self._need("head")
        return read_head(self.root, digest)

    # Fitted classifiers (see store/format/model.py)

    def put_model(self, model: Model) -> str:
        """Publishes a fitted classifier and returns its digest; the same one is published once.

        Errors: UsageError for one that is too large, and where the store is only read; BBError where it is revoked.
        """
        self.require_writable()
        raw = model.encode()
        digest = sha256_hex(raw)
        self._refuse_revoked("model", digest)
        path = self.root / model_part(model.owner, digest).path
        if not self.directory.exists(self.directory.relative(path)):
            self._put_local(digest)
            publish_file(self.root, raw, path)
        return digest

    def models(self) -> dict[str, str]:
        """Digests of the models that are not revoked, ascending, with the key of each one's space; none is opened."""
        if self.source:
            parts = [(part.digest, part.owner) for part in self.source.parts if part.kind == "model"]
        else:
            paths = [path.split("/") for path in self.directory.match("models/*/*.safetensors")]
            parts = [(digest, owner) for _, owner, name in paths if is_digest(digest := name.partition(".")[0])]
        revoked = self.revoked()
        return {digest: owner for digest, owner in sorted(parts) if digest not in revoked}

    def model(self, digest: str) -> Model:
        """A model. Errors: UsageError where there is none; BBError where it is damaged."""
        owner = self.models().get(digest)
        if owner is None:
            raise UsageError(f"{self.name} has no model {short(digest)}: `bb store ls` lists them.")
        self._need("model", owner)
        return read_model(self.root, owner, digest)

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
        return replace(run, tier=self.tier("run", run.run_id, run.digest))

    def runs(self, run_id: str | None = None, on_damage: Callable[[BBError], None] | None = None) -> Iterator[Run]:
        """Published runs that are not revoked, all or of one ID. A damaged one raises, or is passed to `on_damage`.

        Several may answer one question: `bb.store.local.runs.by_precedence` says which is to be used.
        """
        if self.runs_to:
            yield from self.runs_to.runs(run_id, on_damage)
        for error in self.source.need_sound(("run",), run_id) if self.source else ():
            if on_damage is None:
                raise error
            on_damage(error)
        for run in read_runs(self.root, run_id, on_damage, self.revoked()):
            yield replace(run, tier=self.tier("run", run.run_id, run.digest))

    # Signatures and revocations

    def statements(self) -> Statements:
        """What stands in `signatures/`: valid statements, and what is wrong with the other files."""
        return read_folder(self.root, self._statements)

    def judged(self) -> Revoked:
        """What is revoked here, and which revocations are ignored. Without signatures, it costs one look."""
        signed = self.statements()
        names = tuple(signed.valid)
        if names not in self._judged:
            authors: Mapping[str, str] = {}
            if signed.revocations:
                authors = signed.sole_signers() if self.source else read_authors(self.root)
            self._judged[names] = signed.revoked(self.trusted, authors, self.made_here)
        return self._judged[names]

    def revoked(self) -> Mapping[str, Revocation]:
        """Digests of what is taken back, which nobody is to read, each with the statement that says so."""
        return self.judged().effective

    def made_here(self, digest: str) -> bool:
        """Whether this user's machine made a segment, collection, run …: its local record has the machine's mark."""
        if digest not in self._made_here:
            self._made_here[digest] = is_mark(f"made here {digest}", self.local(digest).get("mark"))
        return self._made_here[digest]

    def _refuse_revoked(self, what: str, digest: str) -> None:
        if digest in self.revoked():
            raise BBError(
                f"{what} {short(digest)} is revoked and would not be read: `bb store verify` says by whom and why."
            )

    # What never leaves the machine

    def local(self, digest: str) -> dict[str, Any]:
        """Host, user and command line of a segment or run that was made here; empty where it came from elsewhere.

        Empty too where the file is not one that bb writes: a store may have come with a folder `local/` of its own.
        """
        try:
            record = parse_json(read_plain(self.directory.below("local"), f"{digest}.json"))
            right = all(isinstance(record[name], str) for name in ("host", "user"))
            right = right and isinstance(record["argv"], list) and all(isinstance(word, str) for word in record["argv"])
        except (Malformed, OSError, ValueError, TypeError, KeyError):
            return {}
        return record if right else {}

    def _put_local(self, digest: str, made_here: bool = True) -> None:
        argv = [word.encode(errors="replace").decode() for word in sys.argv]  # paths may not be UTF-8
        record = {"host": platform.node(), "user": _user(), "argv": argv}
        if made_here and (own_mark := mark(f"made here {digest}")):
            record["mark"] = own_mark
        self._made_here.pop(digest, None)
        publish_file(self.root, local_json(record), self.root / "local" / f"{digest}.json")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a passwd entry
        return ""
