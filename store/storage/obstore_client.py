"""obstore's clients: made from the environment, read with patience, and their errors in words for a person."""

import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import NotSupportedError
from obstore.store import ObjectStore

from bb.store.errors import BBError, UsageError
from bb.store.storage.base import FileInfo, TooLarge
from bb.store.storage.retry import LATER, PASSING, PATIENCE, ErrorInfo, RetryPolicy, TooSlow, paced, retry, retry_stream

if TYPE_CHECKING:
    from obstore import GetResult  # a type that only its stubs have

PIECE = 2**20
LOOPBACK = ("localhost", "127.0.0.1", "::1")
UNTRUSTED = re.compile(r"InvalidCertificate|UnknownIssuer|CertificateError|InvalidMessage|AlertReceived|HandshakeFail")
BROKEN = re.compile(r"kind: (Timeout|Request|Interrupted|Decode|Body)|TimedOut|IncompleteMessage|IncompleteBody")
METADATA = re.compile(r"169\.254\.169\.254|/latest/api/token|metadata\.google\.internal|/metadata/identity")
BAD_KEY = {"SignatureDoesNotMatch", "InvalidAccessKeyId", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"}
ELSEWHERE = {"PermanentRedirect", "AuthorizationHeaderMalformed"}

# What to set, by scheme: (who one is, an open place's).
CREDENTIALS = {
    "s3": ("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN where there is one)", "AWS"),
    "gs": ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE"),
    "az": ("AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY", "AZURE"),
}


def client_options(patience: RetryPolicy, endpoint: str = "", *, writing: bool = False) -> dict[str, Any]:
    """For obstore: no limit on a whole transfer but on silence, plain HTTP on loopback alone, SSL_CERT_FILE's roots.

    While a body is sent nobody answers, so a part of an upload gets ten times as long. There is no option that limits
    redirects: docs/sharing.md says what they give away.
    """
    parts = urlsplit(endpoint)
    silence = timedelta(seconds=patience.silence * (10 if writing else 1))
    options: dict[str, Any] = {
        "connect_timeout": timedelta(seconds=10), "timeout": timedelta(days=1), "read_timeout": silence
    }  # fmt: skip
    if parts.scheme == "http" and parts.hostname in LOOPBACK:
        options["allow_http"] = True
    if file := os.environ.get("SSL_CERT_FILE"):
        try:
            options["root_certificate"] = Path(file).read_bytes()
        except OSError as error:
            raise UsageError(f"SSL_CERT_FILE names {file}, which can't be read ({error.strerror}).") from None
    return options


def retry_config(patience: RetryPolicy) -> dict[str, Any]:
    """For obstore: two quick attempts more at a page of a listing or a part of an upload; the policy has the rest."""
    backoff = {"init_backoff": timedelta(seconds=patience.wait / 5), "max_backoff": timedelta(seconds=1), "base": 2}
    return {"max_retries": 2, "backoff": backoff, "retry_timeout": timedelta(minutes=3)}


@dataclass(frozen=True)
class Client:
    """Reads from one place through obstore; `judge` turns its errors into words."""

    url: str
    store: ObjectStore = field(repr=False)
    patience: RetryPolicy = PATIENCE

    def read(self, path: str, most: int) -> bytes:
        """See `bb.store.storage.base.Storage.read`."""
        return retry(lambda: self._read(path, most), lambda error: self.judge(error, path), self.patience)

    def _read(self, path: str, most: int) -> bytes:
        result = obstore.get(self.store, path)
        whole = bytearray()
        if result.meta["size"] <= most:
            for piece in self._paced(result):
                whole += piece
                if len(whole) > most:
                    break
            else:
                return bytes(whole)
        raise TooLarge(f"{self.url}/{path} is larger than the {most} bytes that it can be.")

    def stream(self, path: str, start: int = 0) -> Iterator[bytes]:
        """See `bb.store.storage.base.Storage.stream`."""
        return retry_stream(
            lambda begin: self._stream(path, begin), start, lambda error: self.judge(error, path), self.patience
        )

    def _stream(self, path: str, start: int) -> Iterator[bytes]:
        skip = 0
        try:
            result = obstore.get(self.store, path, options={"range": {"offset": start}} if start else None)
        except Exception as error:
            if start and _status(error) == 416:  # there is nothing behind the last byte
                return
            if not isinstance(error, NotSupportedError) and "NotPartial" not in str(error):
                raise
            result, skip = obstore.get(self.store, path), start  # the server knows no ranges, and sends all of it
        for piece in self._paced(result):
            if skip < len(piece):
                yield bytes(piece[skip:]) if skip else bytes(piece)
            skip = max(0, skip - len(piece))

    def _paced(self, result: "GetResult") -> Iterator[bytes]:
        # As they come, since a piece of a fixed size could be waited for without end.
        return paced(result.stream(1), self.patience)

    def look(self, paths: Sequence[str]) -> dict[str, FileInfo]:
        """See `bb.store.storage.base.Ranged.look`."""
        with ThreadPoolExecutor(min(16, len(paths) or 1), thread_name_prefix="look") as pool:
            found = zip(paths, pool.map(self._look, paths), strict=True)
            return {path: look for path, look in found if look}

    def _look(self, path: str) -> FileInfo | None:
        try:
            meta = retry(lambda: obstore.head(self.store, path), lambda error: self.judge(error, path), self.patience)
        except FileNotFoundError:
            return None
        # Where a server gives no time, obstore says the epoch.
        time = meta["last_modified"].timestamp()
        return FileInfo(int(meta["size"]), meta["e_tag"] or (str(time) if time > 0 else ""))

    def read_range(self, path: str, start: int, size: int) -> bytes:
        """See `bb.store.storage.base.Ranged.read_range`."""
        return retry(lambda: self._read_range(path, start, size), lambda error: self.judge(error, path), self.patience)

    def _read_range(self, path: str, start: int, size: int) -> bytes:
        if size <= 0:
            return b""
        try:
            result = obstore.get(self.store, path, options={"range": (start, start + size)})
            return b"".join(self._paced(result))
        except Exception as error:
            if _status(error) == 416:
                return b""
            if isinstance(error, NotSupportedError) or "NotPartial" in str(error):
                raise BBError(
                    f"{self.url}: the server knows no ranges: asked for a part of a file it sends all of it. Download "
                    f"the files, or serve them with one that does (nginx, Caddy, an object store)."
                ) from None
            raise

    def judge(self, error: Exception, path: str = "") -> ErrorInfo:
        """What an error of obstore's means. The server's own words are not repeated, only its error code."""
        whole = str(error)
        if isinstance(error, TooSlow):
            return ErrorInfo(
                f"{self.url}/{path}: the connection broke{{times}} ({error}). {LATER}", self.patience.failures
            )
        status, found = _status(error), re.search(r"<Code>(\w{1,60})</Code>", whole)
        code, place = found[1] if found else "", f"{self.url}/{path}" if path else self.url
        detail = f" ({code})" if code else ""
        scheme = urlsplit(self.url).scheme
        keys, prefix = CREDENTIALS[scheme]
        if isinstance(error, FileNotFoundError) and code not in ("NoSuchBucket", "ContainerNotFound"):
            raise FileNotFoundError(2, "no such file", place) from None
        if METADATA.search(whole):
            return ErrorInfo(
                f"{self.url}: no credentials are found. Set {keys}, or {prefix}_SKIP_SIGNATURE=true "
                f"where anybody may read."
            )
        if code == "RequestTimeTooSkewed":
            return ErrorInfo(
                f"{self.url}: this machine's clock is wrong, says the server. Set the clock and run again."
            )
        if code in ("NoSuchBucket", "ContainerNotFound"):
            return ErrorInfo(
                f"{self.url}: there is no such bucket. Create it, or correct its name"
                + (" or AWS_ENDPOINT_URL." if scheme == "s3" else ".")
            )
        if code in BAD_KEY or status == 401:
            return ErrorInfo(
                f"{self.url}: the server does not accept the credentials ({code or status}). Correct {keys}."
            )
        if status == 403:
            return ErrorInfo(f"{place}: access is denied{detail}. Ask its owner for the right to it.")
        if "redirect without LOCATION" in whole or code in ELSEWHERE:
            return ErrorInfo(f"{self.url}: the bucket is in another region. Set AWS_REGION to it.")
        if status in PASSING:
            return ErrorInfo(f"{place}: the server answers {status}{{times}}. {LATER}", self.patience.failures)
        if status is not None:
            return ErrorInfo(f"{place}: the server answers {status}{detail}.")
        if "BadScheme" in whole:
            return ErrorInfo(
                f"{self.url}: its endpoint is plain http. Give an https one, or set {prefix}_ALLOW_HTTP=true "
                f"where you trust every machine between."
            )
        if UNTRUSTED.search(whole):
            return ErrorInfo(
                f"{self.url}: no trusted TLS connection. If a proxy re-signs connections, or the server has a "
                f"certificate of its own, set SSL_CERT_FILE to a PEM file with its root certificate."
            )
        if "kind: Connect" in whole or "dns error" in whole:
            why = "no address is found for it" if "dns error" in whole else "nobody answers there"
            return ErrorInfo(
                f"{self.url}: {why}{{times}}. See that this machine is online and the address right; behind a proxy, "
                f"set HTTPS_PROXY."
                + (" AWS_ENDPOINT_URL names a server other than Amazon's." if scheme == "s3" else ""),
                self.patience.connecting,
            )
        if BROKEN.search(whole):
            return ErrorInfo(f"{place}: the connection broke{{times}}. {LATER}", self.patience.failures)
        fact = whole.partition("\n")[0].rpartition(" - ")[2]
        return ErrorInfo(f"{place}: {fact[:200]}.")


def _status(error: Exception) -> int | None:
    found = re.search(r"status code: (\d{3})", str(error))
    return int(found[1]) if found else None
