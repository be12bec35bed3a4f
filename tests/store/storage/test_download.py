"""Downloading from servers that misbehave, and unpacking archives that do."""

import errno
import gzip
import hashlib
import io
import itertools
import os
import socket
import ssl
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import pytest

from bb.store.errors import BBError
from bb.store.storage import download as fetch
from bb.store.storage.download import Archive, download, is_unpacked, unpack

BODY = bytes(itertools.islice(itertools.cycle(range(251)), 300_000))
MD5 = hashlib.md5(BODY).hexdigest()


@dataclass
class Server:
    """What the server shall do, request by request, and what it was asked."""

    body: bytes = BODY
    ranges: bool = True
    length: bool = True
    statuses: list[int] = field(default_factory=list)  # for the first requests, before it serves
    cuts: list[int] = field(default_factory=list)  # bytes after which the next bodies break off
    content_range: str | None = None  # a lie
    stall: threading.Event | None = None  # keep silent until it is set
    asked: list[str | None] = field(default_factory=list)  # the Range header of each request
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/newt/a.tar.gz"

    def archive(self, md5: str = MD5, size: int | None = None) -> Archive:
        return Archive(self.url, md5, size)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = request.headers["Range"]
        self.asked.append(asked)
        if self.stall:
            self.stall.wait()
        if self.statuses:
            request.send_error(self.statuses.pop(0), "\x1b[31mwords of the server's own")
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.ranges else 0
        if start and start >= len(self.body):
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(self.body)}")
            request.end_headers()
            return
        rest = self.body[start:]
        request.send_response(206 if start else 200)
        if start:
            told = self.content_range or f"bytes {start}-{len(self.body) - 1}/{len(self.body)}"
            request.send_header("Content-Range", told)
        if self.length:
            request.send_header("Content-Length", str(len(rest)))
        request.end_headers()
        request.wfile.write(rest[: self.cuts.pop(0)] if self.cuts else rest)


@contextmanager
def serving(server: Server, context: ssl.SSLContext | None = None) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that hang up
        if context:
            http.socket = context.wrap_socket(http.socket, server_side=True)
        server.port = http.server_address[1]
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            if server.stall:
                server.stall.set()
            http.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Server()) as server:
        yield server


@pytest.fixture
def pauses() -> list[float]:
    return []


def fails(archive: Archive, folder: Path, *, pauses: list[float] | None = None, **options: object) -> str:
    with pytest.raises(BBError) as caught:
        download(archive, folder, pause=(pauses if pauses is not None else []).append, **options)  # type: ignore[arg-type]
    return str(caught.value)


# --- download ---


def test_fetches_once(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    path = download(server.archive(size=len(BODY)), tmp_path / "new" / "folder", progress=lambda *at: seen.append(at))
    assert path == tmp_path / "new/folder/a.tar.gz"
    assert path.read_bytes() == BODY
    assert os.listdir(path.parent) == ["a.tar.gz"]
    assert seen[0] == (0, len(BODY)) and seen[-1] == (len(BODY), len(BODY)) and seen == sorted(seen)
    assert download(server.archive(), path.parent) == path
    assert server.asked == [None]


def test_a_file_with_another_md5_is_replaced(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(b"half of it")
    assert download(server.archive(), tmp_path).read_bytes() == BODY


def test_cut_connections_are_resumed(server: Server, tmp_path: Path, pauses: list[float]) -> None:
    server.cuts = [1000] * 20 + [50_000]  # more than `tries`, but each brings something
    assert download(server.archive(), tmp_path, pause=pauses.append).read_bytes() == BODY
    assert server.asked == [None, *(f"bytes={n}-" for n in range(1000, 21_000, 1000)), "bytes=70000-"]
    assert pauses == [1.0] * 21


def test_gives_up_when_nothing_more_comes(server: Server, tmp_path: Path, pauses: list[float]) -> None:
    server.cuts = [1000] + [0] * 10
    message = fails(server.archive(), tmp_path, pauses=pauses)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert message == (
        f"{server.url}: the connection failed, 5 times in a row (cut off after 1,000 of 300,000 bytes). Run "
        f"again; what has come is kept. Behind a proxy, set HTTPS_PROXY. Or download that URL by hand into "
        f"{tmp_path} and run again."
    )
    assert (tmp_path / "a.tar.gz.part").stat().st_size == 1000


def test_resumes_what_an_earlier_process_left(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz.part").write_bytes(BODY[:123_456])
    seen: list[int] = []
    path = download(server.archive(), tmp_path, progress=lambda done, total: seen.append(done))
    assert path.read_bytes() == BODY
    assert server.asked == ["bytes=123456-"]
    assert seen[0] == 123_456


@pytest.mark.parametrize("size", [None, len(BODY)])
def test_a_whole_part_needs_no_more_bytes(server: Server, tmp_path: Path, size: int | None) -> None:
    (tmp_path / "a.tar.gz.part").write_bytes(BODY)
    assert download(server.archive(size=size), tmp_path).read_bytes() == BODY
    assert server.asked == ([f"bytes={len(BODY)}-"] if size is None else [])


@pytest.mark.parametrize("size", [None, len(BODY)])
def test_a_part_that_is_too_long_is_dropped(server: Server, tmp_path: Path, size: int | None) -> None:
    (tmp_path / "a.tar.gz.part").write_bytes(BODY + b"more")
    assert download(server.archive(size=size), tmp_path, pause=lambda _: None).read_bytes() == BODY
    assert server.asked[-1] is None


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.ranges, server.cuts = False, [1000, 2000]
    assert download(server.archive(), tmp_path, pause=lambda _: None).read_bytes() == BODY
    assert server.asked == [None, "bytes=1000-", "bytes=2000-"]


@pytest.mark.parametrize("told", ["bytes 7-299999/300000", "bytes 1000-299999/*", "lines 1-2/3"])
def test_another_range_than_asked_is_not_appended(server: Server, tmp_path: Path, told: str) -> None:
    server.content_range, server.cuts = told, [1000]
    assert download(server.archive(), tmp_path, pause=lambda _: None).read_bytes() == BODY
    assert server.asked == [None, "bytes=1000-", None]


def test_a_server_that_tells_no_length(server: Server, tmp_path: Path) -> None:
    server.length = False
    seen: list[tuple[int, int | None]] = []
    assert download(server.archive(), tmp_path, progress=lambda *at: seen.append(at)).read_bytes() == BODY
    assert seen[-1] == (len(BODY), None)


def test_a_known_size_finds_a_cut_where_no_length_is_told(server: Server, tmp_path: Path) -> None:
    server.length, server.cuts = False, [1000]
    assert download(server.archive(size=len(BODY)), tmp_path, pause=lambda _: None).read_bytes() == BODY
    assert server.asked == [None, "bytes=1000-"]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_passing_answers_are_tried_again(server: Server, tmp_path: Path, pauses: list[float], status: int) -> None:
    server.statuses = [status, status]
    assert download(server.archive(), tmp_path, pause=pauses.append).read_bytes() == BODY
    assert pauses == [2.0, 4.0]


def test_a_server_that_stays_busy(server: Server, tmp_path: Path, pauses: list[float]) -> None:
    server.statuses = [503] * 5
    message = fails(server.archive(), tmp_path, pauses=pauses, tries=3)
    assert pauses == [2.0, 4.0]
    assert message.startswith(
        f"{server.url}: the server answers 503 Service Unavailable, 3 times in a row. Run again later; what "
        "has come is kept."
    )


@pytest.mark.parametrize("answer", ["404 Not Found", "403 Forbidden", "407 Proxy Authentication Required"])
def test_final_answers_are_final(server: Server, tmp_path: Path, pauses: list[float], answer: str) -> None:
    server.statuses = [int(answer[:3])]
    assert fails(server.archive(), tmp_path, pauses=pauses) == (
        f"{server.url}: the server answers {answer}. It may have moved, or a proxy may forbid it. Or "
        f"download that URL by hand into {tmp_path} and run again."
    )
    assert pauses == []


def test_a_wrong_md5_is_removed(server: Server, tmp_path: Path) -> None:
    assert fails(server.archive(md5="0" * 32), tmp_path) == (
        f"{server.url}: what came has md5 {MD5}, but {'0' * 32} is expected. It was removed; run again. If "
        "it comes out the same, a proxy alters it or the publisher has changed it."
    )
    assert os.listdir(tmp_path) == []


def test_another_size_is_refused_before_it_is_fetched(server: Server, tmp_path: Path) -> None:
    assert fails(server.archive(size=7), tmp_path) == (
        f"{server.url}: the server sends 300,000 bytes, but 7 are expected. A proxy's login page may stand "
        f"between, or the publisher has changed it. Or download that URL by hand into "
        f"{tmp_path} and run again."
    )


def test_a_login_page_costs_nothing_that_has_come(server: Server, tmp_path: Path) -> None:
    part = tmp_path / "a.tar.gz.part"
    part.write_bytes(BODY[:1000])
    server.body, server.ranges = b"<html>Please log in", False
    assert "the server sends 19 bytes, but 300,000 are expected" in fails(server.archive(size=len(BODY)), tmp_path)
    assert part.read_bytes() == BODY[:1000]


def test_silence_is_a_fault(tmp_path: Path) -> None:
    with serving(Server(stall=threading.Event())) as server:
        message = fails(server.archive(), tmp_path, timeout=0.05, tries=2)
    assert "the connection failed, 2 times in a row (timed out)" in message


def no_such_host(*_: object, **__: object) -> None:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def test_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pauses: list[float]) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", no_such_host)
    assert fails(Archive("https://example.org/a.tar.gz", MD5), tmp_path, pauses=pauses) == (
        "https://example.org/a.tar.gz: no address is found for it (Name or service not known), so this "
        "machine seems to be offline. Behind a proxy, set HTTPS_PROXY, and see that it is spelt right. Or "
        f"download that URL by hand into {tmp_path} and run again."
    )
    assert pauses == []


def test_a_line_that_drops_midway_may_come_back(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server.cuts = [1000]
    whole, pauses = socket.getaddrinfo, []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        monkeypatch.setattr(socket, "getaddrinfo", whole if len(pauses) == 3 else no_such_host)

    assert download(server.archive(), tmp_path, pause=pause).read_bytes() == BODY
    assert pauses == [1.0, 2.0, 4.0]


def test_nobody_listens(tmp_path: Path, pauses: list[float]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and no listen()
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/a.tar.gz"
        message = fails(Archive(url, MD5), tmp_path, pauses=pauses)
    assert message.startswith(f"{url}: the connection failed (") and "set HTTPS_PROXY" in message
    assert pauses == []


def test_proxy_variables_are_honoured(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.port}")
    archive = Archive("http://not.a.host.invalid/a.tar.gz", MD5)
    assert download(archive, tmp_path).read_bytes() == BODY


def test_no_tls_at_the_other_end(server: Server, tmp_path: Path) -> None:
    url = server.url.replace("http:", "https:")
    message = fails(Archive(url, MD5), tmp_path, tries=1)
    assert message.startswith(f"{url}: no trusted TLS connection (") and "SSL_CERT_FILE" in message


def test_a_certificate_that_is_not_trusted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pauses: list[float]
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=test -days 2"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    try:
        subprocess.run([*command.split(), *names], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs openssl's command line to make a certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(Server(), context) as server:
        archive = Archive(server.url.replace("http:", "https:"), MD5)
        assert fails(archive, tmp_path, pauses=pauses) == (
            f"{archive.url}: no trusted TLS connection (self-signed certificate). If a proxy re-signs "
            "connections, set SSL_CERT_FILE to a PEM file with its root certificate. Or download that URL by "
            f"hand into {tmp_path} and run again."
        )
        assert pauses == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert download(archive, tmp_path).read_bytes() == BODY


def free_bytes(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))


def test_what_cannot_fit_is_not_begun(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    free_bytes(monkeypatch, 200_000)
    assert fails(server.archive(), tmp_path) == (
        f"{tmp_path}: {server.url} needs 300,000 bytes here, and 200,000 are free. Make room or choose "
        "another folder, and run again."
    )
    (tmp_path / "a.tar.gz.part").write_bytes(BODY[:100_000])
    assert download(server.archive(), tmp_path).read_bytes() == BODY  # what is there needs no room


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: int) -> None:
    def full(*_: object) -> None:
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(fetch, "_write", full)
    assert fails(server.archive(), tmp_path) == (
        f"{tmp_path}: the disk or your quota is full. Make room or choose another folder, and run again."
    )


def test_a_folder_that_is_a_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert fails(server.archive(), tmp_path / "file") == (
        f"{tmp_path / 'file'}: can't be written (File exists). Fix this, or choose another folder."
    )


def test_two_at_once(server: Server, tmp_path: Path) -> None:
    inner: list[str] = []

    def progress(done: int, total: int | None) -> None:
        if not inner:
            inner.append(fails(server.archive(), tmp_path))

    assert download(server.archive(), tmp_path, progress=progress).read_bytes() == BODY
    assert inner == [f"{tmp_path / 'a.tar.gz.part'}: another process is at work on it. Wait for it, and run again."]


# --- unpack ---


def member(name: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def pack(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return path


GOOD = (
    member("./newt_images", type=tarfile.DIRTYPE, mode=0o000),
    member("./newt_images/1.jpg", b"one", mode=0o7777),
    member("newt_images/deep/2.jpg", b"two" * 1_000_000, mode=0o000),
    member("newt_labels.csv", b"id,label\n"),
)


def tree(folder: Path) -> dict[str, bytes]:
    """What a person sees, hidden files aside."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {name: path.read_bytes() for path in found if not (name := str(path.relative_to(folder))).startswith(".")}


UNPACKED = {
    "newt_images/1.jpg": b"one",
    "newt_images/deep/2.jpg": b"two" * 1_000_000,
    "newt_labels.csv": b"id,label\n",
}


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return pack(tmp_path / "good.tar.gz", *GOOD)


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "to"


def refuses(archive: Path, folder: Path) -> str:
    with pytest.raises(BBError) as caught:
        unpack(archive, folder)
    assert not folder.exists() or not [n for n in os.listdir(folder) if n.endswith((".unpacking", ".unpacked"))]
    return str(caught.value)


def test_unpacks_once(good: Path, to: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    assert not is_unpacked(good, to)
    assert unpack(good, to, progress=lambda *at: seen.append(at)) == ["newt_images", "newt_labels.csv"]
    assert tree(to) == UNPACKED
    assert seen[-1] == (good.stat().st_size, good.stat().st_size) and seen == sorted(seen)
    assert {path.stat().st_mode & 0o7000 for path in to.rglob("*")} == {0}
    good.unlink()
    assert is_unpacked(good, to)
    assert unpack(good, to) == ["newt_images", "newt_labels.csv"]


def test_nothing_half_unpacked_is_seen(good: Path, to: Path) -> None:
    def progress(done: int, total: int | None) -> None:
        assert tree(to) == {}

    unpack(good, to, progress=progress)
    assert sorted(os.listdir(to)) == [".good.tar.gz.unpacked", "newt_images", "newt_labels.csv"]


def test_a_killed_unpacking_is_begun_anew(good: Path, to: Path) -> None:
    (to / ".good.tar.gz.unpacking/newt_images").mkdir(parents=True)
    (to / ".good.tar.gz.unpacking/newt_images/1.jpg").write_bytes(b"o")
    unpack(good, to)
    assert tree(to) == UNPACKED


def test_a_killed_renaming_goes_on(good: Path, to: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = os.rename

    def once(source: Path, target: Path) -> None:
        monkeypatch.setattr(fetch.os, "rename", killed)
        rename(source, target)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fetch.os, "rename", once)
    with pytest.raises(KeyboardInterrupt):
        unpack(good, to)
    monkeypatch.undo()
    assert list(tree(to)) == ["newt_images/1.jpg", "newt_images/deep/2.jpg"]
    assert not is_unpacked(good, to)
    assert unpack(good, to) == ["newt_images", "newt_labels.csv"]
    assert tree(to) == UNPACKED and is_unpacked(good, to)


def test_what_is_there_is_not_overwritten(good: Path, to: Path) -> None:
    to.mkdir()
    (to / "newt_labels.csv").write_text("a person's own")
    assert refuses(good, to) == (
        f"{to / 'newt_labels.csv'}: something is there already that bb didn't unpack, or not wholly. If you "
        "know it to be whole, use it as it is; otherwise move it away and run again."
    )
    assert tree(to) == {"newt_labels.csv": b"a person's own"}
    (to / "newt_labels.csv").unlink()
    assert unpack(good, to)


def test_an_entry_that_has_gone_is_unpacked_anew(tmp_path: Path, to: Path) -> None:
    archive = pack(tmp_path / "one.tar.gz", member("a/b", b"c"))
    unpack(archive, to)
    (to / "a/b").unlink()
    (to / "a").rmdir()
    assert unpack(archive, to) == ["a"]
    assert tree(to) == {"a/b": b"c"}


@pytest.mark.parametrize(
    ("hostile", "fault"),
    [
        (member("../outside", b"x"), "'../outside' (a path that leads outside)"),
        (member("a/../../outside", b"x"), "'a/../../outside' (a path that leads outside)"),
        (member("/etc/outside", b"x"), "'/etc/outside' (an absolute path)"),
        (member("a/link", type=tarfile.SYMTYPE, linkname="1.jpg"), "'a/link' (a link)"),
        (member("a/link", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "'a/link' (a link)"),
        (member("a/link", type=tarfile.LNKTYPE, linkname="good"), "'a/link' (a link)"),
        (
            member("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
            "'null' (neither a plain file nor a folder)",
        ),
        (member("pipe", type=tarfile.FIFOTYPE), "'pipe' (neither a plain file nor a folder)"),
        (
            member("holes", pax_headers={"GNU.sparse.map": "0,1", "GNU.sparse.size": "9"}),
            "'holes' (neither a plain file nor a folder)",
        ),
        (member("d/" * 65 + "f"), f"{'d/' * 65 + 'f'!r} (no name for a file)"),
        (member("good", b"again"), "'good' (a second file of that name)"),
        (member("\x1b[31m/../x"), "'\\x1b[31m/../x' (a path that leads outside)"),
    ],
)
def test_hostile_members_are_named(
    tmp_path: Path, to: Path, hostile: tuple[tarfile.TarInfo, bytes], fault: str
) -> None:
    archive = pack(tmp_path / "bad.tar.gz", member("good", b"fine"), hostile, member("more", b"fine"))
    assert refuses(archive, to) == (
        f"{archive}: nothing was unpacked, since it holds {fault}. Such an archive isn't to be trusted: "
        "remove it, and get it from its publisher."
    )
    assert tree(to) == {} and not (tmp_path / "outside").exists()


def test_every_hostile_member_is_counted(tmp_path: Path, to: Path) -> None:
    archive = pack(tmp_path / "bad.tar.gz", *(member(f"../{n}") for n in range(13)))
    message = refuses(archive, to)
    assert all(f"'../{n}' (a path" in message for n in range(10)) and " and 3 more. Such" in message


def test_the_list_of_entries_cannot_be_forged(tmp_path: Path, to: Path) -> None:
    archive = pack(tmp_path / "bad.tar.gz", member(".bad.tar.gz.unpacked", b'["/etc"]'))
    assert "something is there already" in refuses(archive, to)


def test_a_bomb_is_refused_by_what_it_claims(tmp_path: Path, to: Path) -> None:
    info = tarfile.TarInfo("zeros")
    info.size = 2 << 30
    archive = tmp_path / "bomb.tar.gz"
    archive.write_bytes(gzip.compress(info.tobuf() + bytes(100_000)))
    assert refuses(archive, to) == (
        f"{archive}: no sound tar.gz ('zeros' goes beyond 1,073,741,824 bytes or 500,000 members). Remove "
        "it, and download it again."
    )


def test_a_bomb_of_many_members(tmp_path: Path, to: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "MAX_MEMBERS", 10)
    archive = pack(tmp_path / "bomb.tar.gz", *(member(f"f{n}") for n in range(11)))
    assert "'f10' goes beyond" in refuses(archive, to)


def test_a_bomb_that_grows_as_it_is_read(tmp_path: Path, to: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "ALWAYS_ALLOWED", 1 << 16)
    archive = pack(tmp_path / "bomb.tar.gz", *(member(f"f{n}", bytes(30_000)) for n in range(3)))
    assert "'f2' goes beyond 65,536 bytes" in refuses(archive, to)


def test_zeros_behind_the_end_are_bounded(tmp_path: Path, to: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "ALWAYS_ALLOWED", 1 << 16)
    archive = pack(tmp_path / "bomb.tar.gz", member("f", b"x"))
    archive.write_bytes(gzip.compress(gzip.decompress(archive.read_bytes()) + bytes(20 << 20)))
    assert "no sound tar.gz (goes beyond" in refuses(archive, to)


def test_joined_archives_are_unpacked_to_the_last_ones_end(tmp_path: Path, to: Path) -> None:
    one, other = (pack(tmp_path / f"{name}.tar.gz", member(name, b"x")) for name in "ab")
    both = tmp_path / "both.tar.gz"
    both.write_bytes(one.read_bytes() + other.read_bytes())
    assert unpack(both, to) == ["a", "b"]


@pytest.mark.parametrize(
    ("kind", "size"),
    [(tarfile.XHDTYPE, 10 << 20), (tarfile.XHDTYPE, -512), (tarfile.GNUTYPE_SPARSE, -1024)],
)
def test_a_header_is_bounded_too(tmp_path: Path, to: Path, kind: bytes, size: int) -> None:
    info = tarfile.TarInfo("long")
    info.type = kind
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = (size % (1 << 96) | 1 << 95).to_bytes(12, "big")  # base 256, which the top bit tells
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    archive = tmp_path / "bomb.tar.gz"
    archive.write_bytes(gzip.compress(bytes(block) + bytes(20 << 20)))
    assert f"{archive}: no sound tar.gz (" in refuses(archive, to)


@pytest.mark.parametrize("damage", ["cut", "noise", "no gzip", "no tar"])
def test_damage(good: Path, to: Path, damage: str) -> None:
    whole = good.read_bytes()
    good.write_bytes(
        {
            "cut": whole[: len(whole) // 2],
            "noise": whole[:200] + bytes(byte ^ 0xA5 for byte in whole[200:400]) + whole[400:],
            "no gzip": b"<html>",
            "no tar": gzip.compress(b"<html>" * 1000),
        }[damage]
    )
    message = refuses(good, to)
    assert message.startswith(f"{good}: no sound tar.gz (") and message.endswith("download it again.")


def test_an_empty_archive(tmp_path: Path, to: Path) -> None:
    assert "since it holds nothing." in refuses(pack(tmp_path / "empty.tar.gz"), to)


def test_no_archive(tmp_path: Path, to: Path) -> None:
    archive = tmp_path / "none.tar.gz"
    assert refuses(archive, to) == (
        f"{archive}: can't be read (No such file or directory). Fix this, or choose another folder."
    )


def test_no_room_to_unpack(good: Path, to: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free_bytes(monkeypatch, 10)
    assert f"{to}: {good} needs {good.stat().st_size:,} bytes here, and 10 are free." in refuses(good, to)


def test_a_disk_that_fills_up_while_unpacking(good: Path, to: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetch, "_write", full)
    assert "1.jpg: the disk or your quota is full." in refuses(good, to)


def test_a_server_that_does_not_answer_at_all_is_said_at_once(tmp_path, monkeypatch):
    """As without a connection: other silences are tried again."""

    class Opener:
        def open(self, request, timeout):
            assert timeout < 10
            raise URLError(TimeoutError("timed out"))

    monkeypatch.setattr("bb.store.storage.download.opener", lambda patience: Opener())
    with pytest.raises(BBError, match=r"the connection failed \(timed out\)\. .*set HTTPS_PROXY"):
        download(Archive("http://localhost/a.tar.gz", "0" * 32), tmp_path, pause=pytest.fail)
