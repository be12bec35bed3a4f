"""Reading from web servers that redirect elsewhere, or that send a byte now and then."""

import ssl
import threading
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bb.store import BBError
from bb.store.storage import web_client
from bb.store.storage.download import Archive, download
from bb.store.storage.http import Web
from bb.store.storage.retry import Pace, RetryPolicy, TooSlow, paced
from bb.store.storage.web_client import origin_of

BRIEF = RetryPolicy(failures=2, connecting=1, wait=0.01)
IMPATIENT = replace(BRIEF, silence=0.2)
TOO_SLOW = "fewer than 1000 bytes per second|timed out"  # on a busy machine no byte may come for 0.2 seconds


@contextmanager
def server(answer):
    """A server that `answer(handler)` speaks for; yields its URL and the paths asked for."""
    asked, halt = [], threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            with suppress(OSError):  # the client has had enough
                answer(self, halt)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = False  # so that closing it waits for every request to be answered
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}", asked
    finally:
        halt.set()
        httpd.shutdown()
        httpd.server_close()


def whole(handler, _, body=b"root"):
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def redirect(to, status=302):
    def answer(handler, _):
        if handler.path == "/there":
            return whole(handler, _)
        handler.send_response(status)
        handler.send_header("Location", to)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


READS = {
    "read": lambda web: web.read("zarr.json", 100),
    "stream": lambda web: b"".join(web.stream("zarr.json")),
    "range": lambda web: web.read_range("zarr.json", 0, 4),
    "look": lambda web: web.look(["zarr.json"]),
}


@pytest.mark.parametrize("how", READS)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_port_is_not_followed(how, status):
    with server(whole) as (other, asked), server(redirect(f"{other}/secret", status)) as (url, _):
        with pytest.raises(BBError, match=f"the server redirects bb from {url} to {other}") as caught:
            READS[how](Web.open(url, BRIEF))
        assert asked == [] and f"{url}/zarr.json" in str(caught.value) and "give its URL instead" in str(caught.value)


@pytest.mark.parametrize("to", ["http://localhost:{port}/there", "https://127.0.0.1:{port}/there", "//localhost/there"])
def test_nor_to_another_host_or_scheme(to):
    def answer(handler, halt):
        redirect(to.format(port=handler.server.server_port))(handler, halt)

    with server(answer) as (url, _), pytest.raises(BBError, match=f"the server redirects bb from {url} to http"):
        Web.open(url, BRIEF).read("zarr.json", 100)


def test_a_redirect_within_the_origin_is_followed():
    with server(redirect("/there")) as (url, asked):
        assert Web.open(url, BRIEF).read("zarr.json", 100) == b"root"
        assert asked == ["/zarr.json", "/there"]


def test_certificates_are_read_once_for_all_requests(monkeypatch, tmp_path):
    made, make = [], ssl.create_default_context
    monkeypatch.setattr(ssl, "create_default_context", lambda: made.append(make()) or made[-1])
    web_client._certificates.cache_clear()
    with server(whole) as (url, asked):
        for _ in range(3):
            assert Web.open(url, BRIEF).read("zarr.json", 100) == b"root"
        assert (len(asked), len(made)) == (3, 1)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "another.pem"))
        Web.open(url, BRIEF).read("zarr.json", 100)
        assert len(made) == 2


def test_an_origin_is_scheme_host_and_port():
    assert origin_of("http://Host:80/a") == origin_of("http://host/b") == "http://host"
    assert origin_of("https://host:8443/a") == "https://host:8443" != origin_of("https://host")


def drip(in_headers):
    """Sends a byte at a time, and never ends."""

    def answer(handler, halt):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"" if in_headers else b"Content-Length: 100000\r\n\r\n"))
        while not halt.wait(0.02):
            handler.wfile.write(b"X")
            handler.wfile.flush()

    return answer


@pytest.mark.parametrize("in_headers", [False, True])
def test_a_server_that_sends_a_byte_now_and_then_is_given_up(in_headers):
    broke = pytest.raises(BBError, match=f"the connection broke, 2 times in a row .({TOO_SLOW})")
    with server(drip(in_headers)) as (url, asked), broke:
        Web.open(url, IMPATIENT).read("zarr.json", 10**6)
    assert len(asked) == 2


@pytest.mark.parametrize("in_headers", [False, True])
def test_a_download_that_comes_a_byte_at_a_time_is_given_up(tmp_path, in_headers):
    with server(drip(in_headers)) as (url, asked):
        archive = Archive(f"{url}/a.tar.gz", "0" * 32, 100_000)
        with pytest.raises(BBError, match=TOO_SLOW):
            download(archive, tmp_path, tries=2, timeout=0.2, pause=lambda seconds: None)
    assert len(asked) == 2


def test_the_pace_counts_waiting_alone():
    pace = Pace(RetryPolicy(silence=10.0, least=100.0))
    for _ in range(50):
        pace.add(1000, 2.0)
    with pytest.raises(TooSlow, match="fewer than 100 bytes per second"):
        for _ in range(10):
            pace.add(99, 1.0)
    assert b"".join(paced(iter([b"a", b"b"]), RetryPolicy())) == b"ab"


def test_a_body_that_ends_early_is_asked_for_again():
    asked = []

    def answer(handler, _):
        asked.append(handler.path)
        handler.send_response(206)
        handler.send_header("Content-Length", "4")
        handler.end_headers()
        handler.wfile.write(b"ro" if len(asked) == 1 else b"root")

    for how in ("read", "stream", "range"):
        asked.clear()
        with server(answer) as (url, _):
            assert READS[how](Web.open(url, BRIEF))[-2:] == b"ot", how
        assert len(asked) == 2
