"""Reads, decodes and transforms images in threads, beside the forward pass."""

import hashlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from joblib import cpu_count
from PIL.Image import Image
from torch import Tensor

from extract.images import UnreadableImage, decode
from extract.source import Source
from store import Entry


@dataclass(frozen=True)
class Loaded:
    """An image ready for a backbone (pixels: float32, 3 × h × w), or the reason why it is not."""

    entry: Entry
    pixels: Tensor | None
    reason: str = ""


def load_images(
    entries: Iterable[Entry],
    sources: Mapping[str, Source],
    transform: Callable[[Image], Tensor],
    *,
    ahead: int,
    threads: int | None = None,
) -> Generator[Loaded]:
    """Yields the entries in order, at most `ahead` of them loaded before they are asked for.

    Pillow lets the interpreter lock go while it decodes and resizes, so threads do.
    """

    def load(entry: Entry) -> Loaded:
        try:
            data = sources[entry.image_id].read()
            if hashlib.sha256(data).digest() != entry.image_sha256:
                return Loaded(entry, None, "changed while bb ran; run again")
            return Loaded(entry, transform(decode(data)))
        except UnreadableImage as error:
            return Loaded(entry, None, str(error))
        except (MemoryError, RuntimeError, ValueError) as error:  # of the transform, on a picture of some odd shape
            return Loaded(entry, None, f"can't be transformed: {error or type(error).__name__}")
        except OSError as error:
            return Loaded(entry, None, f"can't be read: {error.strerror or error}")

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
