"""The images of a collection as the page shows them: by their row, never by a path that a browser names."""

from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from io import BytesIO
from typing import TYPE_CHECKING

from bb.console import ConsoleReporter
from bb.store import BBError, Collection
from bb.store.errors import UsageError

if TYPE_CHECKING:
    from bb.extract.data.image_source import ImageSource
    from bb.extract.data.source_spec import Root

SIZES = {"small": 240, "large": 1400}  # pixels of the longer side
KEPT = 512  # pictures in memory


class Pictures:
    """JPEG files of the images that are in the collection and in its folder or shards."""

    def __init__(self, collection: Collection, sources: "Mapping[str, ImageSource]") -> None:
        self.ids: list[str] = collection.table["image_id"].to_list()
        self._digests = collection.all_digests()
        self._sources = sources
        self.jpeg = lru_cache(KEPT)(self._jpeg)

    @classmethod
    def open(cls, collection: Collection, root: "Root") -> "Pictures":
        """Raises UsageError where none of the collection's images is there."""
        from bb.extract.data.image_source import ImageFile
        from bb.extract.scan_collection import find_known_files, hash_images

        images = find_known_files(root)
        sources: dict[str, ImageSource]
        if isinstance(images, dict):
            sources = {image_id: ImageFile(path) for image_id, path in images.items()}
        else:
            with ConsoleReporter() as reporter:
                sources = hash_images(collection.name, images, read_only=True, reporter=reporter).sources
        made = cls(collection, sources)
        if not sources.keys() & set(made.ids):
            raise UsageError(f"{root} has none of the images of {collection.name}: check --data {collection.name}=DIR.")
        return made

    def has(self, row: int) -> bool:
        return self.ids[row] in self._sources

    def _jpeg(self, row: int, size: str) -> bytes:
        """Raises BBError where the image can't be read, or is not the one that was embedded."""
        from bb.extract.embedding.images import UnreadableImage, decode, header
        from bb.extract.pipeline.decode_memory import DECODING

        image_id = self.ids[row]
        try:
            data = self._sources[image_id].read()
            if sha256(data).digest() != bytes(self._digests[row]):
                raise BBError(f"{image_id} was changed since it was embedded: run bb extract again.")
            with DECODING.hold(header(data).n_bytes):
                picture = decode(data).picture
                picture.thumbnail((SIZES[size], SIZES[size]))
        except (KeyError, OSError, UnreadableImage) as error:
            raise BBError(f"{image_id} can't be shown: {error}. Check it with bb data check.") from None
        buffer = BytesIO()
        picture.save(buffer, "JPEG", quality=85)
        return buffer.getvalue()
