"""HTTP: reads from a plain web server, never slower than a least rate, errors in words.

A redirect within the origin (scheme, host and port) is followed. One to elsewhere is not: a store's server could make
bb ask for what only this machine can reach.
"""

import io
import os
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.message import Message
from functools import lru_cache, partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPHandler, HTTPRedirectHandler, HTTPSHandler, OpenerDirector, Request, build_opener

from bb.store.errors import BBError
from bb.store.storage.base import FileInfo, TooLarge
from bb.store.storage.retry import LATER, PASSING, PATIENCE, ErrorInfo, Pace, RetryPolicy, TooSlow, retry, retry_stream

PIECE = 2**20
CONNECTING = 10.0  # seconds
PORTS = {"http": 80, "https": 443}


class Redirected(Exception):
    """The server named another origin."""


def origin_of(url: str) -> str:
    """Scheme, host and port, as people write them."""
    parts = urlsplit(url)
    port = parts.port or PORTS.get(parts.scheme, 0)
    return f"{parts.scheme}://{parts.hostname}" + ("" if port == PORTS.get(parts.scheme) else f":{port}")


@dataclass(frozen=True)
class WebClient:
    """See `bb.store.storage.base.Storage` and `bb.store.storage.base.Ranged` for the methods."""

    url: str
    patience: RetryPolicy = PATIENCE

    def read(self, path: str, most: int) -> bytes:
        return retry(partial(self._read, path, most), lambda error: self.judge(error, path), self.patience)

    def _read(self, path: str, most: int) -> bytes:
        whole = bytearray()
        for piece in self._stream(path, 0):
            whole += piece
            if len(whole) > most:
                raise TooLarge(f"{self.url}/{path} is larger than the {most} bytes that it can be.")
        return bytes(whole)

    def stream(self, path: str, start: int = 0) -> Iterator[bytes]:
        begin = partial(self._stream, path)
        return retry_stream(begin, start, lambda error: self.judge(error, path), self.patience)

    def look(self, paths: Sequence[str]) -> dict[str, FileInfo]:
        with ThreadPoolExecutor(min(16, len(paths) or 1), thread_name_prefix="look") as pool:
            found = zip(paths, pool.map(self._look, paths), strict=True)
            return {path: look for path, look in found if look}

    def _look(self, path: str) -> FileInfo | None:
        def head() -> FileInfo:
            with self._open(path, method="HEAD") as answer:
                if (size := answer.headers["Content-Length"]) is None:
                    raise BBError(f"{self.url}/{path}: the server does not say how large it is.")
                return FileInfo(int(size), answer.headers["ETag"] or answer.headers["Last-Modified"] or "")

        try:
            return retry(head, lambda error: self.judge(error, path), self.patience)
        except FileNotFoundError:
            return None

    def read_range(self, path: str, start: int, size: int) -> bytes:
        read = partial(self._read_range, path, start, size)
        return retry(read, lambda error: self.judge(error, path), self.patience) if size > 0 else b""

    def _read_range(self, path: str, start: int, size: int) -> bytes:
        try:
            answer = self._open(path, f"bytes={start}-{start + size - 1}")
        except HTTPError as error:
            if error.code == 416:  # there is nothing behind the last byte
                return b""
            raise
        with answer:
            if answer.status != 206:
                raise BBError(
                    f"{self.url}: the server knows no ranges: asked for a part of a file it sends all of it. Download "
                    f"the files, or serve them with one that does (nginx, Caddy, an object store)."
                )
            return b"".join(_pieces(answer, size))[:size]

    def _stream(self, path: str, start: int) -> Iterator[bytes]:
        try:
            answer = self._open(path, f"bytes={start}-" if start else None)
        except HTTPError as error:
            if start and error.code == 416:  # there is nothing behind the last byte
                return
            raise
        with answer:
            skip = start if answer.status != 206 else 0  # without ranges the server sends all of it
            for piece in _pieces(answer):
                if skip < len(piece):
                    yield piece[skip:]
                skip = max(0, skip - len(piece))

    def _open(self, path: str, asked: str | None = None, method: str = "GET") -> Any:
        parts = urlsplit(f"{self.url}/{path}")
        url = f"{parts.scheme}://{parts.netloc}{quote(parts.path, safe='/%@+=~')}"
        headers = {"User-Agent": "bb", "Accept-Encoding": "identity"} | ({"Range": asked} if asked else {})
        request = Request(url, headers=headers, method=method)
        return opener(self.patience, origin_of(self.url)).open(request, timeout=CONNECTING)

    def judge(self, error: Exception, path: str = "") -> ErrorInfo:
        """What an error means, in words. The server's own are not repeated."""
        place = f"{self.url}/{path}" if path else self.url
        cause = error.reason if isinstance(error, URLError) and isinstance(error.reason, Exception) else error
        patience = self.patience
        match error, cause:
            case HTTPError(code=404 | 410), _:
                raise FileNotFoundError(2, "no such file", place) from None
            case HTTPError(code=401), _:
                return ErrorInfo(
                    f"{self.url}: the server does not accept the credentials (401). Places that ask for a password "
                    f"can't be read over plain http(s)."
                )
            case HTTPError(code=403), _:
                return ErrorInfo(f"{place}: access is denied. Ask its owner for the right to it.")
            case HTTPError(code=code), _:
                many = patience.failures if code in PASSING else 1
                later = f"{{times}}. {LATER}" if many > 1 else "."
                return ErrorInfo(f"{place}: the server answers {code}{later}", many)
            case _, Redirected():
                return ErrorInfo(
                    f"{place}: the server redirects bb from {origin_of(self.url)} to {cause}. bb follows redirects "
                    f"within one host and port only: if you trust that address, give its URL instead."
                )
            case _, ssl.SSLError():
                return ErrorInfo(
                    f"{self.url}: no trusted TLS connection. If a proxy re-signs connections, or the server has a "
                    f"certificate of its own, set SSL_CERT_FILE to a PEM file with its root certificate."
                )
            case URLError(), OSError():
                why = "no address is found for it" if isinstance(cause, socket.gaierror) else "nobody answers there"
                return ErrorInfo(
                    f"{self.url}: {why}{{times}}. See that this machine is online and the address right; behind a "
                    f"proxy, set HTTPS_PROXY.",
                    patience.connecting,
                )
            case _, OSError() | HTTPException():
                slow = f" ({cause})" if isinstance(cause, TooSlow) else ""
                return ErrorInfo(f"{place}: the connection broke{{times}}{slow}. {LATER}", patience.failures)
        return ErrorInfo(f"{place}: {type(error).__name__}: {str(error)[:200]}.")


def opener(patience: RetryPolicy, origin: str | None = None) -> OpenerDirector:
    """What sends requests, by the proxies and certificates that the environment names now. Its answers raise TooSlow
    where headers or body come too slowly.

    origin  which redirects may not leave; None for where any is followed, since what comes is known by its digest or is
            not read
    """
    return build_opener(_Redirects(origin), _Http(patience), _Https(patience))


def _pieces(answer: Any, most: int | None = None) -> Iterator[bytes]:
    """A body, until its end or `most` bytes. Raises ConnectionError where it ends before its length."""
    length, done = answer.length, 0
    while (most is None or done < most) and (piece := answer.read1(PIECE)):
        done += len(piece)
        yield piece
    if length is not None and done < (length if most is None else min(length, most)):
        raise ConnectionError("the connection ended early")  # which http.client takes for the end of the body


class _Redirects(HTTPRedirectHandler):
    def __init__(self, origin: str | None) -> None:
        self.origin = origin

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: Message, newurl: str
    ) -> Request | None:
        if self.origin and (there := origin_of(newurl)) != self.origin:
            raise Redirected(there[:200])
        method = req.get_method()
        found = super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]
        if found is not None:
            found.method = method
        return found


class _Http(HTTPHandler):
    def __init__(self, patience: RetryPolicy) -> None:
        super().__init__()
        self.patience = patience

    def http_open(self, req: Request) -> HTTPResponse:
        return self.do_open(partial(_connection, HTTPConnection, self.patience), req)


class _Https(HTTPSHandler):
    def __init__(self, patience: RetryPolicy) -> None:
        self.context = _certificates(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
        super().__init__(context=self.context)
        self.patience = patience

    def https_open(self, req: Request) -> HTTPResponse:
        make = partial(_connection, HTTPSConnection, self.patience)
        return self.do_open(make, req, context=self.context)


@lru_cache(4)  # reading the certificates takes longer than a request to a server nearby
def _certificates(file: str | None, folder: str | None) -> ssl.SSLContext:
    """Those that the variables name, or the system's. OpenSSL reads the variables itself."""
    return ssl.create_default_context()


def _connection(kind: type[HTTPConnection], patience: RetryPolicy, host: str, **options: Any) -> HTTPConnection:
    connection = kind(host, **options)
    connection.response_class = partial(_response, patience)  # type: ignore[assignment]
    return connection


def _response(patience: RetryPolicy, sock: socket.socket, *arguments: Any, **options: Any) -> HTTPResponse:
    sock.settimeout(patience.silence)
    return HTTPResponse(_Paced(sock, patience), *arguments, **options)  # type: ignore[arg-type]


@dataclass
class _Paced:
    """A socket as http.client reads it, headers and body, at no less than a least rate."""

    sock: socket.socket
    patience: RetryPolicy

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_PacedFile(self.sock.makefile("rb", buffering=0), Pace(self.patience)))


class _PacedFile(io.RawIOBase):
    def __init__(self, file: Any, pace: Pace) -> None:
        self.file, self.pace = file, pace

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        started = time.monotonic()
        size: int = self.file.readinto(buffer) or 0
        self.pace.add(size, time.monotonic() - started)
        return size

    def close(self) -> None:
        self.file.close()
        super().close()
