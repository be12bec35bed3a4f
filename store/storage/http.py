"""A static web server as a place for a store: read only, and listed by its `index.json`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

from bb.store.errors import UsageError
from bb.store.storage.base import FileInfo, Object, Upload
from bb.store.storage.index_json import read_index
from bb.store.storage.retry import PATIENCE, RetryPolicy
from bb.store.storage.web_client import WebClient


@dataclass(frozen=True)
class Web:
    """See `bb.store.storage.base.Storage`. Ranges are used where the server knows them."""

    url: str
    client: WebClient
    writable: bool = False
    at_once: int = 1

    @classmethod
    def open(cls, url: str, patience: RetryPolicy = PATIENCE) -> "Web":
        """The store below a URL. Asks nobody yet."""
        return cls(url, WebClient(url, patience))

    def list(self, prefix: str = "") -> Iterator[Object]:
        below = f"{prefix}/" if prefix else ""
        return (item for item in read_index(self) if item.path.startswith(below))

    def read(self, path: str, most: int) -> bytes:
        return self.client.read(path, most)

    def stream(self, path: str, start: int = 0) -> Iterator[bytes]:
        return self.client.stream(path, start)

    def look(self, paths: Sequence[str]) -> dict[str, FileInfo]:
        return self.client.look(paths)

    def read_range(self, path: str, start: int, size: int) -> bytes:
        return self.client.read_range(path, start, size)

    def publish(self, parcels: Sequence[Upload]) -> None:
        self._refuse()

    def replace(self, path: str, data: bytes) -> None:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise UsageError(
            f"{self.url} can only be read. Copy the store to the web server's folder, for example with rsync over ssh, "
            f"and run `bb store index` on it there."
        )
