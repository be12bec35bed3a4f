"""The places where a store may lie: a folder, buckets on servers of two makers, a static web server."""

import pytest

from store.folder import Folder
from store.index import write_index
from store.url import open_place
from tests.places import ReadingPlace, ReadOnlyPlace, WritingPlace, collection, files_of, groups, segment
from tests.servers import serving, static


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
