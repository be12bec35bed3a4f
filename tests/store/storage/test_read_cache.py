"""A store used in place: through a bounded cache, only what is needed, checked before it is used, never written."""

import os
import shutil

import numpy as np
import obstore
import pytest

from bb.store import BBError, Collection, SegmentWriter, Store, UsageError
from bb.store.maintenance.verify import verify
from bb.store.storage.index_json import INDEX, write_index
from bb.store.storage.local import Folder
from bb.store.storage.read_cache import ReadCache, parse_size
from bb.store.storage.url import open_place
from tests.helpers.places import copy
from tests.helpers.servers import Fault, serving, static
from tests.helpers.stores import features, fill, images, run_record, space

SPACES = [space(), space(weights="5" * 64), space("patch")]
PICS = images(20)
SPACE = f"spaces/{SPACES[0].key}/zarr.json"
IDS = PICS.table["image_id"].to_list()


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def local(tmp_path):
    """Three spaces of twenty rows in two segments each, a collection, a run."""
    store = Store.create(tmp_path / "a.bb")
    for which, where in enumerate(SPACES):
        x = features(where, 20, which)
        for half in (slice(0, 10), slice(10, 20)):
            writer = SegmentWriter(store, where, {"backbone": f"timm:tiny{which}/untrained"})
            writer.add(PICS.all_digests()[half], [f"pics/{i}" for i in IDS[half]], x[half])
            writer.close()
    store.put_collection(PICS)
    store.put_run(run_record(), PICS.table, PICS.table)
    return store


@pytest.fixture
def url(local, s3, faults):
    copy(local.root, open_place(f"{s3.url}/a.bb"))
    faults.asked.clear()
    return f"{s3.url}/a.bb"


def test_what_is_read_is_what_the_local_store_has(local, url):
    remote = Store.open(url)
    assert remote.spaces() == local.spaces()
    assert remote.collection_names() == ["pics"]
    for where in SPACES:
        asked = [IDS[i] for i in (7, 3, 19, 3)]
        got = remote.read(where, remote.collection("pics", asked), asked)
        np.testing.assert_array_equal(got, local.read(where, PICS, asked))
        assert remote.backbones(where) == local.backbones(where)
    assert remote.name == url


def test_only_what_is_needed_is_fetched(url, faults):
    remote = Store.open(url)
    remote.read(SPACES[0], remote.collection("pics", IDS[:3]), IDS[:3])  # which lie in one of two segments
    fetched = [path for path in faults.paths() if "/c/" in path]
    assert all(f"/spaces/{SPACES[0].key}/" in path for path in fetched)
    assert len([path for path in fetched if "img_features" in path]) == 1
    assert len([path for path in fetched if "image_sha256" in path]) == 2
    assert [path for path in faults.paths() if "image_id/" in path] == []
    other = [path for path in faults.paths() if f"{SPACES[1].key}/segments/" in path]
    assert all(path.endswith("/segments/zarr.json") for path in other)  # the group, which is the space's own


def test_what_is_here_is_not_fetched_again(url, faults):
    for _ in range(2):
        faults.asked.clear()
        remote = Store.open(url)
        got = remote.read(SPACES[0], remote.collection("pics", IDS), IDS)
    asked = [path for path in faults.paths() if not path.endswith("/a.bb/zarr.json")]
    assert [path for path in asked if "/a.bb/" in path] == []
    assert got.shape == (20, 6)


def test_what_is_no_longer_listed_is_dropped(url):
    remote = Store.open(url)
    remote.read(SPACES[0], PICS, IDS)
    gone, stays = remote.segments(SPACES[0])
    place = open_place(url)
    obstore.delete(place.writes, f"spaces/{SPACES[0].key}/segments/{gone.digest}/zarr.json")
    again = Store.open(url)
    assert [s.digest for s in again.segments(SPACES[0])] == [stays.digest]
    assert not gone.folder.exists()


def test_a_byte_flipped_in_the_bucket_is_caught_by_name(url, faults):
    remote = Store.open(url)
    faults.rule = lambda request, number: Fault(flip=5) if request.path.endswith("img_features/c/0/0") else None
    with pytest.raises(BBError, match=rf"{url}/spaces/{SPACES[0].key}/segments/\w+/img_features/c/0/0 does not have"):
        remote.read(SPACES[0], PICS, IDS)
    assert not list(remote.root.rglob("img_features/c/0/0"))
    faults.rule = lambda request, number: None
    assert remote.read(SPACES[0], PICS, IDS).shape == (20, 6)  # nothing wrong was kept


@pytest.mark.parametrize(
    "what", ["segments/", "collections/", "img_features/c", "image_id/c", "train.parquet", "run.json", SPACE]
)
def test_verify_of_a_url_names_what_is_wrong(url, faults, what):
    found = verify(Store.open(url))
    assert (found.faults, found.segments, found.rows, found.collections) == ([], 6, 60, 1)
    shutil.rmtree(Store.open(url).root)
    flipped = []

    def rule(request, number):
        if (
            request.method == "GET"
            and what in request.path
            and not flipped
            and not request.path.endswith("s/zarr.json")
        ):
            flipped.append(request.path)
        return Fault(flip=0) if request.path in flipped else None

    faults.rule = rule
    found = verify(Store.open(url))
    assert len(found.faults) == 1
    named = flipped[0].partition("a.bb/")[2].removesuffix("train.parquet")
    assert f"{url}/{named}" in found.faults[0].what
    if what == SPACE:
        with pytest.raises(BBError, match=f"{SPACE}: its .*, so it is damaged or was tampered with, and is not used"):
            Store.open(url).spaces()


def test_verify_of_a_url_believes_no_cache(local, url, faults):
    remote = Store.open(url)
    remote.read(SPACES[0], remote.collection("pics", IDS), IDS)
    assert verify(remote).faults == []
    for what in ("img_features/c/0/0", "img_features/zarr.json", "collections/pics"):
        faults.rule = lambda request, number, what=what: Fault(flip=9) if what in request.path else None
        found = verify(Store.open(url)).faults
        assert found and all(what in fault.what for fault in found)
    faults.rule = lambda request, number: None
    assert verify(Store.open(url)).faults == []


def test_an_array_that_another_process_drops_is_fetched_again(url, monkeypatch):
    dropped, asked = [], set()
    real = ReadCache.array

    def array(self, segment, name):
        real(self, segment, name)
        chunk = segment.folder / segment.arrays[name].paths[1]
        if not dropped and chunk in asked:  # at the second call, which is the reader's own
            dropped.append(chunk)
            chunk.unlink()
        asked.add(chunk)

    monkeypatch.setattr(ReadCache, "array", array)
    remote = Store.open(url)
    assert remote.read(SPACES[0], remote.collection("pics", IDS), IDS).shape == (20, 6) and dropped


def test_a_connection_that_breaks_and_a_server_that_stumbles_do_not_matter(local, url, faults, monkeypatch):
    monkeypatch.setattr("bb.store.storage.retry.time.sleep", lambda seconds: None)
    faults.now_and_then(Fault(status=503), Fault(cut=50), Fault(status=500), Fault(refuse=True), Fault(status=429))
    remote = Store.open(url)
    np.testing.assert_array_equal(remote.read(SPACES[0], PICS, IDS), local.read(SPACES[0], PICS, IDS))
    assert len(faults.asked) > 20


def test_the_cache_keeps_its_bound(local, url):
    one = local.segments(SPACES[0])[0].n_bytes
    manifests = sum(f.stat().st_size for f in local.root.rglob("*.json")) + 4000
    bound = manifests + 2 * one
    for _ in range(2):
        remote = Store.open(url, cache_size=bound)
        for where in SPACES:
            np.testing.assert_array_equal(remote.read(where, PICS, IDS), local.read(where, PICS, IDS))
        held = sum(f.stat().st_size for f in (remote.root.parent).rglob("*") if f.is_file())
        assert held <= bound


def test_the_longest_unused_goes_first(local, s3):
    where = space(output={"kind": "img", "pooling": "cls", "dim": 4096})
    for half in (slice(0, 10), slice(10, 20)):
        local.put_segment(where, PICS.all_digests()[half], IDS[half], features(where, 10), {})
    copy(local.root, open_place(f"{s3.url}/b.bb"))
    remote = Store.open(f"{s3.url}/b.bb")
    a, b = remote.segments(where)
    for segment in (a, b):
        segment.array("img_features")
    chunks = [s.folder / "img_features/c/0/0" for s in (a, b)]
    os.utime(chunks[0], (1, 1))
    os.utime(chunks[1], (2, 2))
    a.array("img_features")  # is used now
    held = sum(f.stat().st_size for f in (remote.root.parent).rglob("*") if f.is_file())
    tight = ReadCache(remote.source.place, remote.root, most=held)
    tight._make_room(1)
    assert [chunk.exists() for chunk in chunks] == [True, False]


def test_it_can_not_be_written(local, url):
    remote = Store.open(url)
    message = rf"{url} is read only in place: pull it first with `bb store pull {url}`"
    with pytest.raises(UsageError, match=message):
        remote.put_collection(PICS)
    with pytest.raises(UsageError, match=message):
        fill(remote, SPACES[0], PICS, features(SPACES[0], 20))
    with pytest.raises(UsageError, match=message):
        remote.put_run(run_record(), PICS.table, PICS.table)


def test_where_no_store_lies_is_said(s3):
    with pytest.raises(BBError, match=f"found no store at {s3.url}/nowhere: `bb store push` makes one there"):
        Store.open(f"{s3.url}/nowhere")


def test_where_no_store_lies_on_a_web_server_nothing_is_said_of_push(tmp_path):
    with serving(static(tmp_path)) as base, pytest.raises(BBError, match=f"at {base}/nowhere: --store names another"):
        Store.open(f"{base}/nowhere")


def test_what_is_no_store_is_said_by_its_url(s3):
    place = open_place(f"{s3.url}/other")
    place.replace("zarr.json", b'{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    with pytest.raises(BBError, match=f"^{s3.url}/other is not a bb store"):
        Store.open(f"{s3.url}/other")


def test_a_web_server_will_do(local, tmp_path):
    write_index(Folder(local.root))
    with serving(static(tmp_path)) as base:
        remote = Store.open(f"{base}/a.bb")
        np.testing.assert_array_equal(remote.read(SPACES[0], PICS, IDS), local.read(SPACES[0], PICS, IDS))


def test_a_stale_index_is_said(local, tmp_path):
    write_index(Folder(local.root))
    gone = local.segments(SPACES[0])[0]
    (gone.folder / "zarr.json").unlink()
    with serving(static(tmp_path)) as base:
        remote = Store.open(f"{base}/a.bb")
        with pytest.raises(BBError, match=f"{gone.digest}/zarr.json was listed, but is not there.*`bb store index`"):
            remote.segments(SPACES[0])


def test_a_hostile_index_lays_nothing_outside(local, tmp_path):
    served = tmp_path / "served"
    os.rename(local.root, served)
    write_index(Folder(served))
    names = [
        "../evil/zarr.json",
        "/etc/passwd",
        "spaces/../../x/zarr.json",
        "a" * 900,
        "collections/../x.parquet",
        "tmp/x",
    ]
    head, tail = (served / INDEX).read_text().split('"objects":{')
    (served / INDEX).write_text(head + '"objects":{' + "".join(f'"{name}":3,' for name in names) + tail)
    before = {path for path in tmp_path.rglob("*")}
    with serving(static(tmp_path)) as base:
        remote = Store.open(f"{base}/served")
        assert len(remote.source.parts) == 4 + 6 + 2
        remote.read(SPACES[0], PICS, IDS)
    assert all(path.is_relative_to(tmp_path / "cache") for path in set(tmp_path.rglob("*")) - before)


def test_objects_that_never_end_are_not_taken(local, url, faults):
    remote = Store.open(url)
    long = Fault(status=200, body=bytes(3 * 2**20))
    faults.rule = lambda request, number: long if "/segments/" in request.path else None
    with pytest.raises(BBError, match="is larger than the 1048576 bytes that it can be"):
        remote.segments(SPACES[0])
    faults.rule = lambda request, number: long if "image_sha256/c" in request.path else None
    with pytest.raises(BBError, match="image_sha256/c/0/0 has more than 320 bytes, its segment says 320"):
        remote.rows(SPACES[0])


@pytest.mark.parametrize(
    ("text", "size"), [("500MB", 500 * 10**6), ("20 gb", 20 * 10**9), ("1.5GB", 1_500_000_000), ("123", 123)]
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1", "10 XB", "1e9"])
def test_sizes_that_are_none(text):
    with pytest.raises(UsageError, match="write 500MB, 20GB or a number of bytes"):
        parse_size(text)


def test_two_collections_of_one_name_are_told_apart(local, url):
    other = Collection.from_entries("pics", [])
    assert other.digest != PICS.digest and [v.digest for v in Store.open(url).collections("pics")] == [PICS.digest]
