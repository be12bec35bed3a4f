"""`bb.probe.search`: the images of a collection whose features are nearest to a text, in bounded memory."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl
from jaxtyping import Float32, Int64

from bb.probe.tables.html_table import html_table
from bb.probe.text.stored_texts import check_projected, named, read_queries
from bb.store import Collection, FeatureSpace, Store, UsageError
from bb.store.features import spellings
from bb.store.format.collection import only_collection
from bb.store.format.space import short
from bb.store.format.text import is_for, is_projected, normalised
from bb.store.reporter import Reporter, Silent
from bb.store.text.command import command

BLOCK = 16_384  # images whose features are in memory at once
SCORES = 2**25  # of a block's images and all queries, at most


class QueryEncoder(Protocol):
    """What makes vectors of texts that are not stored; bb.extract.TextEncoder is one."""

    @property
    def space(self) -> FeatureSpace: ...
    def encode(self, texts: Sequence[str]) -> Any:
        """An object whose `x` is (n, d) float32, unit vectors."""
        ...


Load = Callable[[str], QueryEncoder]


@dataclass(frozen=True, eq=False)
class Gallery:
    """The images of a collection that have features in one space.

    rows    their places in the collection's table, ascending, so in order of image ID
    absent  how many images of the collection have none
    """

    store: Store
    space: FeatureSpace
    collection: Collection
    rows: Int64[np.ndarray, " n"]
    absent: int

    @classmethod
    def find(cls, store: Store, data: str | None, *, ckpt: str | None = None, space: str | None = None) -> "Gallery":
        """The projected space of a backbone that has most images of a collection; the store's only one by default.

        Errors: UsageError where there is none, or several hold as many.
        """
        collection = store.collection(data or only_collection(store.collection_names()), [])
        digests = collection.all_digests()
        if space:
            chosen = [store.space(space)]
            check_projected(store, chosen[0])
        else:
            names = None if ckpt is None else set(spellings(ckpt))
            of = [each for each in store.spaces() if names is None or names & set(store.backbones(each))]
            of = [each for each in of if store.has(each, digests).any()]
            projected = [each for each in of if is_projected(each)]
            if of and not projected and ckpt:
                check_projected(store, of[0])
            if not projected:
                name = ckpt or "ViT-B-16/openai"
                raise UsageError(
                    f"{store.name} has no features of {ckpt or 'a network that was trained with text'} on "
                    f"{collection.name}. To make them: "
                    f"{command('extract', ckpt=name, data=f'{collection.name}=DIR', store=store.name)}"
                )
            replaced = {older.key for each in projected for older in store.predecessors(each)}
            projected = [each for each in projected if each.key not in replaced] or projected
            counts = [int(store.has(each, digests).sum()) for each in projected]
            chosen = [each for each, n in zip(projected, counts, strict=True) if n == max(counts)]
        if len(chosen) > 1:
            listed = "\n".join(f"  --space {short(each.key)}  {named(store, each)}" for each in chosen)
            raise UsageError(f"{len(chosen)} feature spaces could be searched; choose one:\n{listed}")
        has = store.has(chosen[0], digests)
        rows = np.flatnonzero(has).astype(np.int64)
        if not len(rows):
            raise UsageError(
                f"{named(store, chosen[0])} has no features of {collection.name}. To make them: "
                f"{store.to_fill(chosen[0], collection.name)}"
            )
        return cls(store, chosen[0], collection, rows, int((~has).sum()))

    def blocks(self, size: int) -> Iterator[tuple[Int64[np.ndarray, " b"], Float32[np.ndarray, "b d"]]]:
        """Places in the collection's table, and unit vectors; a row of zeros stays."""
        ids = self.collection.table["image_id"]
        for start in range(0, len(self.rows), size):
            rows = self.rows[start : start + size]
            x = np.asarray(self.store.read(self.space, self.collection, ids[rows].to_list()), np.float32)
            norm = np.sqrt(np.einsum("bd,bd->b", x, x, dtype=np.float64))[:, None]
            yield rows, (x / np.where(norm > 0, norm, 1)).astype(np.float32)

    def nearest(
        self, w: Float32[np.ndarray, "q d"], n: int, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> tuple[Int64[np.ndarray, "q k"], Float32[np.ndarray, "q k"]]:
        """Of each query the n images of largest cosine, places in the table and cosines; of equal ones the first ID.

        w  unit vectors
        """
        k = min(n, len(self.rows))
        best = np.full((len(w), k), -np.inf, np.float32)
        place = np.full((len(w), k), -1, np.int64)
        done = 0
        for rows, x in self.blocks(max(1, min(BLOCK, SCORES // len(w)))):
            for q, scores in enumerate(w @ x.T):
                better = np.flatnonzero(scores > best[q, -1])
                found, where = np.append(best[q], scores[better]), np.append(place[q], rows[better])
                order = np.lexsort((where, -found))[:k]
                best[q], place[q] = found[order], where[order]
            done += len(rows)
            progress(done, len(self.rows))
        return place, best


def query_vectors(
    gallery: Gallery, texts: Sequence[str], *, text_space: str | None, encode: Load | None
) -> tuple[FeatureSpace, Float32[np.ndarray, "q d"]]:
    """Vectors of texts that go with a gallery: stored ones, or else those that an encoder makes.

    Errors: UsageError where neither can be had, and where the encoder is of another checkpoint.
    """
    try:
        return read_queries(gallery.store, gallery.space, texts, key=text_space)
    except UsageError:
        if encode is None or text_space is not None:
            raise
    names = gallery.store.backbones(gallery.space)
    encoder = encode(names[0] if names else "")
    if not is_for(encoder.space, gallery.space):
        raise UsageError(
            f"the text tower that was loaded is not of the checkpoint of {named(gallery.store, gallery.space)}: its "
            "image tower has other weights or another architecture. Give --ckpt with the file that the features are of."
        )
    return encoder.space, np.asarray(encoder.encode([normalised(text) for text in texts]).x, np.float32)


@dataclass(frozen=True, eq=False, repr=False)
class Hits:
    """What was found for a text.

    frame     rank from 1, image_id, score: the cosine, which ranks images of one query and is not a probability
    searched  images that have features; absent: the others of the collection
    """

    query: str
    backbone: str
    space: FeatureSpace
    text_space: FeatureSpace
    collection: Collection
    frame: pl.DataFrame
    searched: int
    absent: int

    def __len__(self) -> int:
        return self.frame.height

    def __repr__(self) -> str:
        return f"Hits({self.query!r}: {len(self)} of {self.searched} images of {self.collection.name})"

    def _repr_html_(self) -> str:
        return html_table(self.frame, repr(self))

    def record(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "query": self.query,
            "backbone": self.backbone,
            "space": self.space.key,
            "text_space": self.text_space.key,
            "collection": f"{self.collection.name}@{self.collection.digest}",
            "searched": self.searched,
            "absent": self.absent,
            "hits": self.frame.to_dicts(),
        }


def search(
    store: Store | str | Path,
    query: str,
    data: str | None = None,
    *,
    n: int = 20,
    ckpt: str | None = None,
    space: str | None = None,
    text_space: str | None = None,
    encode: Load | None = None,
    reporter: Reporter | None = None,
) -> Hits:
    """The n images of a collection whose features are nearest to a text, as `bb search` finds them.

    query   a stored text needs no torch; for any other give `encode`
    encode  loads what encodes it, by the backbone's name:
            `lambda name: bb.extract.TextEncoder.load(name, "plain")`
    data    the collection, NAME or NAME@DIGEST; the store's only one if None
    ckpt    a backbone, or `space` the key of its feature space; the only projected one by default

    Features are read in blocks, so memory does not grow with the collection. Raises UsageError and BBError, which say
    what to change: for features that are not projected, and for text vectors of another checkpoint.
    """
    reporter = reporter or Silent()
    if n < 1:
        raise UsageError(f"-n {n} asks for nothing: choose 1 or more.")
    if not normalised(query):
        raise UsageError("the text is empty: describe what the images show.")
    try:
        query.encode()
    except UnicodeEncodeError:  # bytes of another encoding in the command line
        raise UsageError(f"the text {query!r} is not UTF-8: type it again in a terminal that is.") from None
    opened = store if isinstance(store, Store) else Store.open(store)
    gallery = Gallery.find(opened, data, ckpt=ckpt, space=space)
    texts, w = query_vectors(gallery, [query], text_space=text_space, encode=encode)
    backbone = named(opened, gallery.space)
    place, score = gallery.nearest(w, n, lambda done, total: reporter.progress(backbone, done, total, "images"))
    ids = gallery.collection.table["image_id"][place[0]].to_list()
    frame = pl.DataFrame({"rank": range(1, len(ids) + 1), "image_id": ids, "score": score[0].astype(np.float64)})
    return Hits(query, backbone, gallery.space, texts, gallery.collection, frame, len(gallery.rows), gallery.absent)
