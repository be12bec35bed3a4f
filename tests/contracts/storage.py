"""What every place keeps that a store is read from or written to."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from bb.store.errors import BBError, UsageError
from bb.store.files.paths import StorePart, locate, published
from bb.store.storage.base import Ranged, Upload
from bb.store.storage.index_json import INDEX, build, read_index, write_index
from tests.helpers.places import collection, files_of, groups, listed, segment
from tests.helpers.stores import space


class ReadingPlace:
    """A place in which `laid` (path → bytes) lies already; fixtures `place` and `laid`."""

    def test_it_lists_what_is_there_with_sizes(self, place, laid):
        assert {path: size for path, size in listed(place).items() if locate(path)} == {
            path: len(data) for path, data in laid.items()
        }
        below = f"spaces/{space().key}"
        assert listed(place, below) == {path: len(data) for path, data in laid.items() if path.startswith(f"{below}/")}
        assert listed(place, "labels") == {}

    def test_it_reads_whole_files_and_bounds_them(self, place, laid):
        for path, data in laid.items():
            assert place.read(path, len(data)) == data
            assert b"".join(place.stream(path)) == data
        path, data = max(laid.items(), key=lambda item: len(item[1]))
        with pytest.raises(BBError, match=f"{path} is larger than the {len(data) - 1} bytes that it can be"):
            place.read(path, len(data) - 1)

    def test_it_reads_on_from_any_byte(self, place, laid):
        path, data = max(laid.items(), key=lambda item: len(item[1]))
        for start in (1, len(data) // 2, len(data) - 1, len(data)):
            assert b"".join(place.stream(path, start)) == data[start:]

    def test_it_reads_any_part(self, place, laid):
        path, data = max(laid.items(), key=lambda item: len(item[1]))
        if self.ranges_refused(place):
            with pytest.raises(
                BBError, match=r"the server knows no ranges.*Download the files, or serve them with one"
            ):
                place.read_range(path, 1, 2)
            return
        for start, size in ((0, 1), (1, 2), (len(data) // 2, 10), (len(data) - 1, 1), (len(data) - 1, 9)):
            assert place.read_range(path, start, size) == data[start : start + size]
        assert place.read_range(path, 5, 0) == place.read_range(path, len(data), 3) == b""
        with pytest.raises(FileNotFoundError):
            place.read_range("runs/none", 0, 1)

    def test_it_looks_at_files_without_reading_them(self, place, laid):
        found = place.look([*laid, "runs/none"])
        assert {path: look.size for path, look in found.items()} == {path: len(data) for path, data in laid.items()}
        assert all(look.version for look in found.values()) and place.look(list(laid)) == found
        assert isinstance(place, Ranged)

    def ranges_refused(self, place) -> bool:
        return False

    def test_what_is_not_there_is_said(self, place):
        missing = f"runs/{'0' * 64}/{'1' * 64}/run.json"
        with pytest.raises(FileNotFoundError):
            place.read(missing, 10)
        with pytest.raises(FileNotFoundError):
            list(place.stream(missing))

    def test_threads_may_share_it(self, place, laid):
        with ThreadPoolExecutor(8) as pool:
            got = list(pool.map(lambda path: place.read(path, 10**6), list(laid) * 5))
        assert got == list(laid.values()) * 5

    def test_its_url_shows_no_secret(self, place):
        for word in ("testing-secret", "testing-access"):
            assert word not in repr(place) and word not in place.url


class WritingPlace:
    """An empty place that can be written; fixture `place`."""

    def test_what_is_published_can_be_listed_and_read(self, place, tmp_path):
        run = StorePart("run", f"runs/{'0' * 64}/{'1' * 64}", "run.json")
        file = tmp_path / "predictions"
        file.write_bytes(bytes(range(256)) * 50_000)
        parcels = [
            *groups(),
            segment(),
            collection(),
            Upload(run, {"run.json": b"{}", "predictions.parquet": file, "train.parquet": b"t"}),
        ]
        for start in range(0, len(parcels), place.at_once):
            place.publish(parcels[start : start + place.at_once])
        laid = files_of(*parcels) | {run.at("predictions.parquet"): file.read_bytes()}
        assert listed(place) == {path: len(data) for path, data in laid.items()}
        assert {path: place.read(path, len(data)) for path, data in laid.items()} == laid
        assert len(published(listed(place))) == len(parcels)

    def test_what_is_there_already_stays(self, place):
        table = collection()
        place.publish([table])
        place.publish([Upload(table.part, {table.part.marker: b"another"})])
        assert place.read(table.part.path, 100) == b"a table"

    def test_what_was_left_half_done_is_finished(self, place):
        whole = segment()
        beside = {file: data for file, data in whole.files.items() if file != "zarr.json"}
        for file in list(beside)[:2]:
            place.replace(whole.part.at(file), beside[file][:1])
        assert whole.part not in published(listed(place))
        place.publish([whole])
        assert {path: place.read(path, 10**6) for path in files_of(whole)} == files_of(whole)

    def test_two_may_publish_the_same_at_once(self, place):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(place.publish, [[segment()]] * 4))
        assert {path: place.read(path, 10**6) for path in files_of(segment())} == files_of(segment())

    def test_an_index_is_replaced(self, place):
        for data in (b"old", b"new and longer", b"n"):
            place.replace(INDEX, data)
            assert place.read(INDEX, 100) == data

    def test_an_index_tells_what_is_published_and_nothing_else(self, place):
        whole, table = segment(), collection()
        place.publish([whole])
        place.publish([table])
        place.replace(f"spaces/{space().key}/segments/{'0' * 64}/image_id/zarr.json", b"no marker")
        place.replace("notes.txt", b"no part")
        write_index(place)
        laid = files_of(whole, table)
        assert {item.path: item.size for item in read_index(place)} == {p: len(data) for p, data in laid.items()}
        assert place.read(INDEX, 10**6) == build(place)  # though it lies there itself now


class ReadOnlyPlace:
    """A place that only reads; fixture `place`."""

    def test_it_refuses_to_be_written(self, place):
        assert not place.writable
        with pytest.raises(UsageError, match="can only be read"):
            place.publish([collection()])
        with pytest.raises(UsageError, match="can only be read"):
            place.replace(INDEX, b"{}")
