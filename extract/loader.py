"""Reads, decodes and cuts images in threads, beside the forward pass."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from jaxtyping import UInt8
from joblib import cpu_count
from torch import Tensor

from extract.decoder import Decoder
from extract.geometry import Geometry
from extract.images import UnreadableImage
from extract.reading import cut, read_image
from extract.source import Source
from store import Entry


@dataclass(frozen=True)
class Loaded:
    """An image ready to be normalised, or the reason why it is not."""

    entry: Entry
    pixels: UInt8[Tensor, "3 h w"] | None
    reason: str = ""


def load_images(
    entries: Iterable[Entry],
    sources: Mapping[str, Source],
    decoder: Decoder,
    geometry: Geometry,
    *,
    ahead: int,
    threads: int | None = None,
) -> Generator[Loaded]:
    """Yields the entries in order, at most `ahead` of them loaded before they are asked for.

    Decoders let the interpreter lock go while they work, so threads do.
    """

    def load(entry: Entry) -> Loaded:
        try:
            picture = decoder.decode(read_image(entry, sources[entry.image_id]))
            return Loaded(entry, cut(decoder, picture, [geometry])[geometry])
        except UnreadableImage as error:
            return Loaded(entry, None, str(error))

    with ThreadPoolExecutor(threads or cpu_count(), thread_name_prefix="decode") as pool:
        waiting: deque[Future[Loaded]] = deque()
        try:
            for entry in entries:
                waiting.append(pool.submit(load, entry))
                if len(waiting) >= ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def batches(loaded: Iterable[Loaded], size: int) -> Iterator[list[Loaded]]:
    """In lists of that size, the last one as long as it gets."""
    batch: list[Loaded] = []
    for image in loaded:
        batch.append(image)
        if len(batch) >= size:
            yield batch
            batch = []
    if batch:
        yield batch
