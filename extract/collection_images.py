"""Images of a stored collection as pictures and arrays, for Python: read from their files when they are asked for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer, Num, UInt8
from PIL import Image, ImageColor, ImageDraw

from bb.extract.data.image_source import ImageFile, ImageSource
from bb.extract.data.source_spec import Root, parse_root
from bb.extract.embedding.images import UnreadableImage, decode
from bb.extract.scan_collection import find_known_files, hash_images
from bb.store import Store
from bb.store.errors import BBError, UsageError
from bb.store.features import only_version
from bb.store.format.collection import Collection
from bb.store.reporter import Reporter

Box = Sequence[float | int]  # x1, y1, x2, y2 in pixels of the image, the right way up
Colour = str | Sequence[int]
FRAME = "#ffd60a"  # yellow, as on bb's pages
NO_FILE = "no file"


class OtherImage(UnreadableImage):
    """A file under an image's ID that has other bytes than the collection's image."""


@dataclass(frozen=True, eq=False, repr=False)
class CollectionImages:
    """Images of a collection whose files are on this machine.

    image_ids  of the rows, in the collection's order or in the order asked for
    missing    images that were left out since no file has their ID: image ID to reason

    Every method that opens an image raises UnreadableImage, a BBError, where its file is damaged, gone, or not the
    one that the collection lists.
    """

    collection: Collection
    image_ids: list[str]
    missing: Mapping[str, str]
    _sources: Mapping[str, ImageSource] = field(repr=False)
    _digests: Mapping[str, bytes] = field(repr=False)

    def __len__(self) -> int:
        return len(self.image_ids)

    def __repr__(self) -> str:
        left_out = f", {len(self.missing)} images left out" if self.missing else ""
        return f"CollectionImages({len(self)} images of {self.collection.name}{left_out})"

    def picture(self, image_id: str) -> Image.Image:
        """The whole image, in mode RGB and the right way up. Raises UsageError for an ID that has no file here."""
        if image_id not in self._digests or image_id not in self._sources:
            raise UsageError(f"unknown image {image_id!r}: it is not among these {len(self)} images.")
        try:
            data = self._sources[image_id].read()
            if sha256(data).digest() != self._digests[image_id]:
                raise OtherImage(f"{image_id}: its file is not the one that collection {self.collection.name} lists")
            picture: Image.Image = decode(data).picture
        except OtherImage:
            raise
        except (OSError, BBError) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            raise UnreadableImage(f"{image_id}: {reason or error}") from None
        return picture

    def thumbnail(
        self, image_id: str, *, size: int = 192, colour: Colour | None = None, box: Box | None = None
    ) -> UInt8[np.ndarray, "h w 3"]:
        """The image made small, RGB.

        size    pixels of its longer side, at most: nothing is enlarged
        colour  of a frame: a name ("red"), "#rrggbb" or (red, green, blue), each 0 to 255; None draws no frame
        box     what the frame goes around, x1, y1, x2, y2 in pixels of the image; the whole image if None. A box
                without a colour is framed in yellow

        Raises UsageError for an unknown colour and for a box that is not within the image.
        """
        if size < 1:
            raise UsageError(f"thumbnails of {size} pixels can't be made: give a size of at least 1.")
        picture = self.picture(image_id)
        width, height = picture.size
        picture.thumbnail((size, size))
        if colour is not None or box is not None:
            edge = _edge(box or (0, 0, width, height), (width, height), picture.size)
            thickness = max(1, max(picture.size) // 64)
            ImageDraw.Draw(picture).rectangle(edge, outline=_rgb(FRAME if colour is None else colour), width=thickness)
        return np.array(picture)

    def transformed(self, transform: Callable[[Image.Image], Any]) -> "TransformedImages":
        """The images as rows of an array, such as a backbone's input: `transformed(backbone.make_img_transform())`."""
        return TransformedImages(self, transform)


@dataclass(frozen=True, eq=False)
class TransformedImages:
    """What a transform makes of images, row by row: it stands in for an array (n, ...) of features.

    transform  a picture in mode RGB -> an array or a tensor, of the same shape for all images
    """

    images: CollectionImages
    transform: Callable[[Image.Image], Any]

    @property
    def image_ids(self) -> list[str]:
        """Of the rows."""
        return self.images.image_ids

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """(n, ...), which opens the first image. Raises UsageError where there are no images."""
        if not len(self):
            raise UsageError(f"no image of collection {self.images.collection.name} has a file here.")
        return (len(self), *self[np.array([0])].shape[1:])

    def __getitem__(self, rows: Integer[np.ndarray, " b"]) -> Num[np.ndarray, "b ..."]:
        """Of these rows; an image that is named twice is opened once. Raises UnreadableImage."""
        once, place = np.unique(rows, return_inverse=True)
        arrays = [np.asarray(self.transform(self.images.picture(self.image_ids[row]))) for row in once.tolist()]
        return np.stack(arrays)[place]


def open_images(
    store: Store | str | Path,
    data: str | None,
    root: Root | str,
    *,
    image_ids: Sequence[str] | None = None,
    reporter: Reporter | None = None,
) -> CollectionImages:
    """The images of a stored collection, out of a folder or shards on this machine.

    store      a store or its path
    data       a collection, NAME or NAME@DIGEST; the store's only one if None
    root       the folder or the shards that it was extracted from, or copies of them
    image_ids  these images, in this order; all of the collection if None

    No image is opened yet. Raises UsageError for an unknown collection or root, BBError for image IDs that the
    collection does not have, and for shards that were never read on this machine.
    """
    store = Store.open(store) if isinstance(store, str | Path) else store
    collection = store.collection(data, image_ids) if data and image_ids is not None else only_version(store, data)
    wanted = list(image_ids) if image_ids is not None else collection.table["image_id"].to_list()
    digests = {image_id: bytes(key) for image_id, key in zip(wanted, collection.digests(wanted), strict=True)}
    files = find_known_files(parse_root(root) if isinstance(root, str) else root)
    sources: Mapping[str, ImageSource]
    if isinstance(files, dict):
        sources = {image_id: ImageFile(path) for image_id, path in files.items()}
    else:
        sources = hash_images(collection.name, files, read_only=True, known_only=True, reporter=reporter).sources
    present = [image_id for image_id in wanted if image_id in sources]
    missing = {image_id: NO_FILE for image_id in wanted if image_id not in sources}
    return CollectionImages(collection, present, missing, sources, digests)


def _edge(box: Box, of: tuple[int, int], to: tuple[int, int]) -> tuple[int, int, int, int]:
    """The outermost pixels of a box in a picture made small."""
    width, height = of
    if len(box) != 4 or not (0 <= box[0] < box[2] <= width and 0 <= box[1] < box[3] <= height):
        raise UsageError(
            f"the box {', '.join(f'{value:g}' for value in box)} is not within {width} x {height} pixels: give x1, y1, "
            "x2, y2 with x1 < x2 and y1 < y2 in pixels of the image, the right way up."
        )
    x1, y1, x2, y2 = box
    a, b = to[0] / width, to[1] / height
    left, top = min(int(a * x1), to[0] - 1), min(int(b * y1), to[1] - 1)
    return left, top, max(left, round(a * x2) - 1), max(top, round(b * y2) - 1)


def _rgb(colour: Colour) -> tuple[int, int, int]:
    try:
        red, green, blue = ImageColor.getrgb(colour)[:3] if isinstance(colour, str) else colour
        if all(0 <= value <= 255 for value in (red, green, blue)):
            return red, green, blue
    except ValueError:
        pass
    raise UsageError(f"unknown colour {colour!r}: give a name, '#rrggbb' or (red, green, blue), each 0 to 255.")
