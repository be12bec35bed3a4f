"""An object store as a place for a store: Amazon's S3 and servers that speak its language, Google's, Azure's.

Credentials and endpoints come from the environment, as obstore reads them. A URL never holds any.
https://developmentseed.org/obstore/latest/authentication/
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError, InvalidPathError
from obstore.store import AzureStore, GCSStore, ObjectStore, S3Store

from bb.store.errors import BBError, UsageError
from bb.store.storage.base import FileInfo, LocalFile, Object, Upload
from bb.store.storage.obstore_client import Client, client_options, retry_config
from bb.store.storage.retry import PATIENCE, RetryPolicy, retry

PART = 8 * 2**20  # bytes; larger files are sent in parts, so that a broken connection costs one
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


@dataclass(frozen=True)
class Bucket:
    """See `bb.store.storage.base.Storage`."""

    url: str
    client: Client
    writes: ObjectStore = field(repr=False)
    writable: bool = True
    at_once: int = 1

    @classmethod
    def open(cls, scheme: str, bucket: str, prefix: str, patience: RetryPolicy = PATIENCE) -> "Bucket":
        """The folder `prefix` of a bucket ("" for all of it); `scheme` is s3, gs or az. Asks nobody yet."""
        url = f"{scheme}://{bucket}" + (f"/{prefix}" if prefix else "")
        reads, writes = (_connect(scheme, bucket, prefix, patience, writing=writing) for writing in (False, True))
        return cls(url, Client(url, reads, patience), writes)

    def list(self, prefix: str = "") -> Iterator[Object]:
        last: str | None = None
        below = f"{prefix}/" if prefix else None
        chunks: Any = iter(obstore.list(self.client.store, below, chunk_size=1000))

        def page() -> "list[Object] | None":
            nonlocal chunks
            try:
                return [Object(str(meta["path"]), int(meta["size"])) for meta in next(chunks, [])]
            except InvalidPathError as error:
                name = str(error).partition("\n")[0].partition(":")[2].strip()
                raise BBError(
                    f"{self.url} can't be listed, since it holds an object whose name is not a path ({name[:200]}). "
                    f"Remove that object."
                ) from None
            except Exception:  # whatever it was, this listing is over: another goes on behind what came
                chunks = iter(obstore.list(self.client.store, below, offset=last, chunk_size=1000))
                raise

        while objects := retry(page, self.client.judge, self.client.patience):
            yield from objects
            last = objects[-1].path

    def read(self, path: str, most: int) -> bytes:
        return self.client.read(path, most)

    def stream(self, path: str, start: int = 0) -> Iterator[bytes]:
        return self.client.stream(path, start)

    def look(self, paths: Sequence[str]) -> dict[str, FileInfo]:
        return self.client.look(paths)

    def read_range(self, path: str, start: int, size: int) -> bytes:
        return self.client.read_range(path, start, size)

    def publish(self, parcels: Sequence[Upload]) -> None:
        for parcel in parcels:
            part = parcel.part
            if self._is_there(part.path):
                continue
            beside = [file for file in parcel.files if file != part.marker]
            with ThreadPoolExecutor(max_workers=4) as pool:
                list(pool.map(lambda file: self._put(part.at(file), parcel.files[file]), beside))  # noqa: B023
            self._put(part.path, parcel.files[part.marker])

    def replace(self, path: str, data: bytes) -> None:
        self._put(path, data)

    def _is_there(self, path: str) -> bool:
        try:
            retry(
                lambda: obstore.head(self.client.store, path),
                lambda e: self.client.judge(e, path),
                self.client.patience,
            )
        except FileNotFoundError:
            return False
        return True

    def _put(self, path: str, data: LocalFile | Path | bytes) -> None:
        """The whole of it becomes visible at once. What is sent again is the same, so a second attempt does no harm."""

        def put() -> None:
            with nullcontext(data) if isinstance(data, bytes) else data.open("rb") as file:
                obstore.put(self.writes, path, file, chunk_size=PART, max_concurrency=4)

        retry(put, lambda error: self.client.judge(error, path), self.client.patience)


def _connect(scheme: str, bucket: str, prefix: str, patience: RetryPolicy, *, writing: bool) -> ObjectStore:
    endpoint = next((os.environ[name] for name in ENDPOINTS if os.environ.get(name)), "") if scheme == "s3" else ""
    parts = urlsplit(endpoint)
    if endpoint and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise UsageError(f"AWS_ENDPOINT_URL is {endpoint!r}, which is not a URL: set it to https://HOST, or unset it.")
    options: Any = client_options(patience, endpoint, writing=writing)
    retries: Any = retry_config(patience)
    try:
        if scheme == "s3":
            return S3Store(bucket, prefix=prefix or None, client_options=options, retry_config=retries)
        if scheme == "gs":
            return GCSStore(bucket, prefix=prefix or None, client_options=options, retry_config=retries)
        return AzureStore(bucket, prefix=prefix or None, client_options=options, retry_config=retries)
    except (BaseError, ValueError) as error:
        fact = str(error).partition("\n")[0][:200]
        raise UsageError(f"{scheme}://{bucket} can't be used as the environment has it: {fact}.") from None
