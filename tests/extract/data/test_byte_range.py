"""Large files read by parts: where they lie does not matter, and neighbours come in one request."""

import pickle
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bb.extract.data.byte_range import BLOCK, Remote, local, place_at
from bb.extract.data.prefetch_cache import PrefetchCache
from bb.store.errors import BBError
from tests.helpers.hub import hub
from tests.helpers.remote_files import forget
from tests.helpers.servers import proxy_to, serving, static

__all__ = ["forget", "hub"]  # fixtures

DATA = np.random.default_rng(0).bytes(3 * BLOCK + 12345)


@pytest.fixture
def web(tmp_path):
    """(a file on a web server, the proxy that logs what is asked of it)"""
    (tmp_path / "a.tar").write_bytes(DATA)
    with serving(static(tmp_path)) as url, proxy_to(url) as proxy:
        yield remote(proxy.url, "a.tar"), proxy


def remote(folder, file):
    return Remote(folder, file, place_at(folder).look([file])[file])


def asked(proxy):
    """(first, last) byte of each request for a range."""
    ranges = [request.range for request in proxy.asked if request.range]
    return [tuple(map(int, text.removeprefix("bytes=").split("-"))) for text in ranges]


def test_a_file_on_disk(tmp_path):
    (tmp_path / "a.tar").write_bytes(DATA)
    file = local(tmp_path / "a.tar")
    assert file.size == len(DATA) and file.version and file.url == str(tmp_path / "a.tar")
    assert b"".join(file.stream()) == DATA
    assert file.read(5, 7) == DATA[5:12] and file.read(len(DATA), 0) == b""
    with pytest.raises(OSError, match="is shorter than it was"):
        file.read(len(DATA) - 3, 4)


def test_neighbours_come_in_one_request(web):
    file, proxy = web
    size = 50_000
    starts = range(0, len(DATA) - size, size)
    assert [file.read(start, size) for start in starts] == [DATA[start : start + size] for start in starts]
    ranges = asked(proxy)
    assert ranges[0] == (0, size - 1)  # who reads one image only gets no more
    assert sorted(ranges[1:]) == [(i * BLOCK, min((i + 1) * BLOCK, len(DATA)) - 1) for i in range(4)]


def test_neighbours_may_come_out_of_order_and_from_many_threads(web):
    file, proxy = web
    size = 20_000
    file.read(0, 1)
    starts = list(range(0, len(DATA) - size, size))
    random.Random(0).shuffle(block := starts[:40])
    with ThreadPoolExecutor(16) as pool:
        got = list(pool.map(lambda start: file.read(start, size), block + starts[40:]))
    assert got == [DATA[start : start + size] for start in block + starts[40:]]
    assert len(asked(proxy)) <= 1 + 4 + 3  # each block once, and what other threads ran ahead of


def test_images_far_apart_come_alone(web):
    file, proxy = web
    for start in (0, 2 * BLOCK, BLOCK // 2 + 5):
        assert file.read(start, 100) == DATA[start : start + 100]
    assert asked(proxy) == [(start, start + 99) for start in (0, 2 * BLOCK, BLOCK // 2 + 5)]


def test_one_that_is_larger_than_a_block_comes_alone(web):
    file, proxy = web
    file.read(0, 10)
    assert file.read(10, BLOCK + 3) == DATA[10 : BLOCK + 13]
    assert asked(proxy)[1:] == [(10, BLOCK + 12)]


def test_a_file_that_is_gone_or_shorter_is_an_error_of_that_file(web, tmp_path):
    file, _ = web
    with pytest.raises(OSError, match="is shorter than it was"):
        file.read(len(DATA) - 1, 2)
    (tmp_path / "a.tar").write_bytes(DATA[:1000])
    with pytest.raises(OSError, match="is shorter than it was"):
        file.read(500, 1000)
    (tmp_path / "a.tar").unlink()
    with pytest.raises(FileNotFoundError):
        file.read(500, 1000)


def test_a_server_without_ranges_is_refused(tmp_path):
    (tmp_path / "a.tar").write_bytes(DATA[:1000])
    with serving(static(tmp_path, ranges=False)) as url:
        file = remote(url, "a.tar")
        assert b"".join(file.stream()) == DATA[:1000]
        with pytest.raises(BBError, match=r"the server knows no ranges: .* Download the files, or serve them with one"):
            file.read(5, 10)


def test_another_process_may_have_it(web):
    file, _ = web
    assert pickle.loads(pickle.dumps(file)) == file
    assert pickle.loads(pickle.dumps(file)).read(3, 4) == DATA[3:7]


def test_a_bucket(s3):
    import obstore

    place = place_at(s3.url)
    obstore.put(place.writes, "deep/a.tar", DATA)
    file = remote(f"{s3.url}/deep", "a.tar")
    assert file.size == len(DATA) and file.version
    assert [file.read(start, 10) for start in (0, 5, 2 * BLOCK)] == [DATA[s : s + 10] for s in (0, 5, 2 * BLOCK)]
    assert b"".join(file.stream()) == DATA


def test_the_hub(hub):
    hub.files["deep/a.tar"] = DATA
    file = remote(f"hf://datasets/{hub.repo}/deep", "a.tar")
    assert [file.read(start, 10) for start in (0, 5, 2 * BLOCK)] == [DATA[s : s + 10] for s in (0, 5, 2 * BLOCK)]
    assert b"".join(file.stream()) == DATA
    before = file.version
    hub.files["deep/a.tar"] = DATA[1:] + b"x"
    assert remote(f"hf://datasets/{hub.repo}/deep", "a.tar").version != before


def test_a_shelf_keeps_what_fits_and_the_latest():
    shelf = PrefetchCache(100, len)
    for key in range(10):
        assert shelf.get(key, lambda: bytes(30)) == bytes(30)
    assert [key for key in range(10) if shelf.has(key)] == [7, 8, 9]
    assert len(shelf.get("large", lambda: bytes(1000))) == 1000
    assert shelf.has("large") and not any(shelf.has(key) for key in range(10))


def test_a_shelf_makes_each_thing_once_for_all_threads():
    shelf, made, gate = PrefetchCache(100, len), [], threading.Event()

    def make():
        gate.wait()
        made.append(1)
        return b"x"

    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(shelf.get, "key", make) for _ in range(8)]
        gate.set()
        assert {future.result() for future in waiting} == {b"x"}
    assert made == [1]


def test_a_shelf_forgets_what_could_not_be_made():
    shelf = PrefetchCache(100, len)

    def fail():
        raise OSError("no")

    for make in (fail, fail):
        with pytest.raises(OSError, match="no"):
            shelf.get("key", make)
    shelf.prepare("key", lambda: b"x")
    assert shelf.get("key", fail) == b"x"


def test_a_shelf_prepares_no_more_at_once_than_it_may():
    shelf, gate = PrefetchCache(100, len, ahead=2), threading.Event()
    for key in range(5):
        shelf.prepare(key, lambda: b"x" if gate.wait() else b"")
    assert [shelf.has(key) for key in range(5)] == [True, True, False, False, False]
    gate.set()
    assert shelf.get(1, bytes) == b"x"
