"""A static web server as a place for a store: read only, and listed by its `index.json`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import urlsplit

from store.client import Client, client_options, require_obstore, retry_config
from store.errors import UsageError
from store.index import read_index
from store.patience import PATIENCE, Patience
from store.place import Look, Object, Parcel


@dataclass(frozen=True)
class Web:
    """See `store.place.Place`. Ranges are used where the server knows them."""

    url: str
    client: Client
    writable: bool = False
    at_once: int = 1

    @classmethod
    def open(cls, url: str, patience: Patience = PATIENCE) -> "Web":
        """The store below a URL. Asks nobody yet."""
        require_obstore("http")
        from obstore.store import HTTPStore

        options: Any = client_options(patience, url)
        options["allow_http"] = urlsplit(url).scheme == "http"  # it says so itself
        retries: Any = retry_config(patience)
        return cls(url, Client(url, HTTPStore(f"{url}/", client_options=options, retry_config=retries), patience))

    def list(self, prefix: str = "") -> Iterator[Object]:
        below = f"{prefix}/" if prefix else ""
        return (item for item in read_index(self) if item.path.startswith(below))

    def read(self, path: str, most: int) -> bytes:
        return self.client.read(path, most)

    def stream(self, path: str, start: int = 0) -> Iterator[bytes]:
        return self.client.stream(path, start)

    def look(self, paths: Sequence[str]) -> dict[str, Look]:
        return self.client.look(paths)

    def read_range(self, path: str, start: int, size: int) -> bytes:
        return self.client.read_range(path, start, size)

    def publish(self, parcels: Sequence[Parcel]) -> None:
        self._refuse()

    def replace(self, path: str, data: bytes) -> None:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise UsageError(
            f"{self.url} can only be read. Lay the store into the web server's folder, with rsync over ssh, say, and "
            f"run `bb store index` on it there."
        )
