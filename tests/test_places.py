"""The places where a store may lie: a folder, buckets on servers of two makers, a static web server."""

import pytest

from store.folder import Folder
from store.index import write_index
from store.url import open_place
from tests.hub import FakeHub
from tests.places import ReadingPlace, ReadOnlyPlace, WritingPlace, collection, files_of, groups, segment
from tests.servers import serving, static


@pytest.fixture
def hub(tmp_path, monkeypatch):
    fake = FakeHub()
    with serving(fake.handle) as endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        monkeypatch.setenv("HF_TOKEN", "hf_testing")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # the fake one has plain LFS
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
        yield fake


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
    @pytest.fixture
    def place(self, s3_rclone):
        return open_place(s3_rclone.url)

    @pytest.fixture
    def laid(self, place):
        return fill(place)


@pytest.mark.parametrize("ranges", [True, False])
class TestWeb(ReadingPlace, ReadOnlyPlace):
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
