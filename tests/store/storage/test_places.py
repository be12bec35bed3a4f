"""The places where a store may lie: a folder, buckets on servers of two makers, a static web server."""

import os
from email.utils import formatdate

import pytest

from bb.store.errors import BBError
from bb.store.storage.huggingface import Hub
from bb.store.storage.index_json import write_index
from bb.store.storage.local import Folder
from bb.store.storage.retry import RetryPolicy
from bb.store.storage.url import open_place
from tests.contracts.storage import ReadingPlace, ReadOnlyPlace, WritingPlace
from tests.helpers.hub import hub
from tests.helpers.places import collection, files_of, groups, segment
from tests.helpers.servers import Bucket, Fault, body_of, free_port, serving, set_environment, static

__all__ = ["hub"]  # fixtures


def fill(place):
    """Lays a few real parts; path → bytes."""
    parcels = [*groups(), segment(3), segment(5, seed=1), collection()]
    for parcel in parcels:
        place.publish([parcel])
    return files_of(*parcels)


class TestFolder(ReadingPlace, WritingPlace):
    @pytest.fixture
    def place(self, tmp_path):
        (tmp_path / "s.bb").mkdir()
        return open_place(tmp_path / "s.bb")

    @pytest.fixture
    def laid(self, place):
        return fill(place)


class TestBucketOnMoto(ReadingPlace, WritingPlace):
    @pytest.fixture
    def place(self, s3):
        return open_place(f"{s3.url}/a/store.bb")

    @pytest.fixture
    def laid(self, place):
        return fill(place)


class TestBucketOnRclone(ReadingPlace, WritingPlace):
    def ranges_refused(self, place):
        return True  # its server answers 200 to them

    @pytest.fixture
    def place(self, s3_rclone):
        return open_place(s3_rclone.url)

    @pytest.fixture
    def laid(self, place):
        return fill(place)


@pytest.mark.parametrize("ranges", [True, False])
class TestWeb(ReadingPlace, ReadOnlyPlace):
    def ranges_refused(self, place):
        return not self.ranges

    @pytest.fixture(autouse=True)
    def know(self, ranges):
        self.ranges = ranges

    @pytest.fixture
    def place(self, tmp_path, ranges):
        with serving(static(tmp_path, ranges=ranges)) as url:
            yield open_place(f"{url}/some/store.bb")

    @pytest.fixture
    def laid(self, tmp_path):
        folder = Folder(tmp_path / "some" / "store.bb")
        laid = fill(folder)
        write_index(folder)
        return laid

    @pytest.fixture(autouse=True)
    def lie(self, laid):
        """Laid before anything is read."""


class TestHub(ReadingPlace, WritingPlace):
    @pytest.fixture
    def place(self, hub):
        return open_place(f"hf://datasets/{hub.repo}/stores/a.bb")

    @pytest.fixture
    def laid(self, place):
        return fill(place)

    def test_many_parcels_are_one_commit_and_none_is_sent_twice(self, place, hub):
        place.publish([*groups(), segment(), collection()])
        assert [len(paths) for paths in hub.commits] == [12]
        place.publish([*groups(), segment(), collection()])
        assert len(hub.commits) == 1

    def test_nothing_is_kept_in_the_librarys_cache(self, place, laid, tmp_path):
        for path, data in laid.items():
            place.read(path, len(data))
        assert not [path for path in (tmp_path / "hf").rglob("*") if path.is_file()]


QUICK = RetryPolicy(failures=3, connecting=2, wait=0.001)


@pytest.fixture
def quick(monkeypatch):
    """Neither bb nor huggingface_hub waits between attempts."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault(status=401), r"the Hub denies access \(401\). Log in with `hf auth login`, or set HF_TOKEN to a token"),
        (Fault(status=403), r"the Hub denies access \(403\). Log in"),
        (Fault(status=404, headers=(("X-Error-Code", "RepoNotFound"),)), "no such data set, or none that you may see"),
        (Fault(status=403, headers=(("X-Error-Code", "GatedRepo"),)), "its owner wants terms accepted"),
        (Fault(status=404, headers=(("X-Error-Code", "RevisionNotFound"),)), "there is no revision 'main'"),
        (Fault(status=503), "the Hub answers 503, [23] times in a row. Run the same command again later"),
        (Fault(status=429), "the Hub answers 429, [23] times in a row"),
        (Fault(refuse=True), "the connection broke, [23] times in a row"),
        (Fault(status=418), "the Hub answers 418."),
    ],
)
def test_what_the_hub_refuses_is_said(hub, quick, fault, message):
    place = Hub.open(hub.repo, "main", "", QUICK)
    hub.proxy.rule = lambda request, number: fault
    for way in (lambda: list(place.list()), lambda: place.read("zarr.json", 9), lambda: place.publish([collection()])):
        with pytest.raises(BBError, match=message) as caught:
            way()
        assert str(caught.value).startswith("hf://datasets/lab/features") and "hf_testing" not in str(caught.value)


def test_a_token_that_may_not_write(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    with pytest.raises(BBError, match=r"the Hub denies access \(403\).*write it where you push"):
        open_place(f"hf://datasets/{hub.repo}").publish([collection()])


def test_the_hub_stumbles_and_cuts(hub, quick):
    data = os.urandom(3 * 2**20)
    hub.files["big"] = data
    hub.proxy.now_and_then(Fault(status=503), Fault(cut=2**20), Fault(status=500), Fault(refuse=True), every=5)
    place = Hub.open(hub.repo, "main", "", QUICK)
    assert b"".join(place.stream("big")) == data
    place.publish([collection()])
    assert len(hub.files) == 2


def test_a_hub_that_nobody_runs(hub, quick, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    place = Hub.open("lab/features", "main", "", QUICK)
    with pytest.raises(BBError, match="hf://datasets/lab/features: the Hub can't be reached, 2 times in a row"):
        place.read("zarr.json", 9)


def test_offline_is_offline(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    from huggingface_hub.utils import close_session

    close_session()  # which remembers
    try:
        with pytest.raises(BBError, match="HF_HUB_OFFLINE is set, so the Hub is not asked. Unset it."):
            list(open_place("hf://datasets/lab/features").list())
    finally:
        monkeypatch.undo()
        close_session()


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_what_an_object_stores_redirect_to_another_port_gives_away(monkeypatch, code):
    """As docs/sharing.md says: obstore follows it, without what could be used; no upload's bytes go along."""
    got, data = [], b"of another host"

    def other(handler):
        got.append((handler.command, {name.lower() for name in handler.headers}, body_of(handler)))
        handler.send_response(200)
        for name, value in (("Content-Length", len(data)), ("ETag", '"x"'), ("Last-Modified", formatdate(usegmt=True))):
            handler.send_header(name, str(value))
        handler.end_headers()
        handler.wfile.write(data if handler.command == "GET" else b"")

    with serving(other) as there:

        def redirect(handler):
            body_of(handler)
            handler.send_response(code)
            handler.send_header("Location", f"{there}/elsewhere")
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        with serving(redirect) as endpoint:
            set_environment(monkeypatch, Bucket("bucket", endpoint))
            monkeypatch.setenv("AWS_SESSION_TOKEN", "TOKEN")
            place = open_place("s3://bucket/s.bb")
            assert place.read("zarr.json", 100) == data and list(place.look(["zarr.json"])) == ["zarr.json"]
            assert [command for command, _, _ in got] == ["GET", "HEAD"]
            assert all("authorization" not in names and "x-amz-security-token" in names for _, names, _ in got)
            del got[:]
            if code != 303:
                with pytest.raises(BBError):
                    place.replace("zarr.json", b"mine")
            assert got == []
