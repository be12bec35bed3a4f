"""The store as a whole: what goes in comes out, by plain zarr too, and nothing half-done or damaged is ever read."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import warnings

import numpy as np
import polars as pl
import pytest
import zarr

from bb.store import BBError, Collection, Entry, MissingRows, SegmentWriter, Store, UsageError
from bb.store.files.atomic_write import publish_folder
from bb.store.files.directory import Directory
from bb.store.files.paths import locate
from bb.store.local.segment import encode_segment
from bb.store.store import FORMAT
from tests.helpers.stores import features, fill, images, run_record, space


@pytest.mark.parametrize("kind", ["img", "patch"])
@pytest.mark.parametrize("stored", ["float16", "float32"])
def test_what_goes_in_comes_out_in_the_order_asked(tmp_path, kind, stored):
    store, where, pics = Store.create(tmp_path / "s.bb"), space(kind, stored), images(20)
    x = features(where, 20)
    fill(store, where, pics, x)
    store.put_collection(pics)
    ids = [f"{i:03d}.png" for i in (7, 3, 19, 3)]
    again = Store.open(tmp_path / "s.bb")
    got = again.read(again.space(where.key[:8]), again.collection("pics", ids), ids)
    assert got.dtype == where.dtype
    np.testing.assert_array_equal(got, x[[7, 3, 19, 3]])


def test_a_whole_segment_in_its_own_order_is_a_memory_map(tmp_path):
    store, where, pics = Store.create(tmp_path / "s.bb"), space(), images(20)
    x = features(where, 20)
    fill(store, where, pics, x)
    got = store.read(where, pics, pics.table["image_id"].to_list())
    assert isinstance(got.base, np.memmap) or isinstance(got, np.memmap)
    assert not got.flags.writeable
    np.testing.assert_array_equal(got, x)


def test_rows_come_from_several_segments(tmp_path):
    store, where, pics = Store.create(tmp_path / "s.bb"), space(), images(30)
    x = features(where, 30)
    writer = SegmentWriter(store, where, {})
    for start in range(0, 30, 10):
        rows = slice(start, start + 10)
        writer.add(pics.all_digests()[rows], [str(i) for i in range(10)], x[rows])
        writer.close()
    assert len(writer.published) == 3
    order = np.random.default_rng(1).permutation(30)
    np.testing.assert_array_equal(store.read(where, pics, [f"{i:03d}.png" for i in order]), x[order])


def test_plain_zarr_reads_every_array(tmp_path):
    store, where, pics = Store.create(tmp_path / "s.bb"), space(), images(5)
    x = features(where, 5)
    (digest,) = fill(store, where, pics, x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        group = zarr.open_group(tmp_path / "s.bb", mode="r")
        segment = group[f"spaces/{where.key}/segments/{digest}"]
        assert group.attrs["bb"] == {"format": FORMAT}
        np.testing.assert_array_equal(segment["img_features"][:], x)
        np.testing.assert_array_equal(segment["image_sha256"][:], pics.all_digests())
        assert list(segment["image_id"][:]) == [f"pics/{i:03d}.png" for i in range(5)]
        assert sorted(dict(group[f"spaces/{where.key}/segments"].groups())) == [digest]


def test_a_zstd_segment_reads_the_same(tmp_path):
    store, where, pics = Store.create(tmp_path / "s.bb"), space(), images(9)
    x = features(where, 9)
    digest, objects = encode_segment(where, pics.all_digests(), ["i"] * 9, x, {}, zstd=True)
    store.put_space(where)
    publish_folder(store.root, objects, store.root / "spaces" / where.key / "segments" / digest)
    np.testing.assert_array_equal(store.read(where, pics, pics.table["image_id"].to_list()), x)


def test_a_segment_is_named_by_its_manifest_which_lists_every_object(tmp_path):
    store, where, pics = Store.create(tmp_path / "s.bb"), space(), images(5)
    (digest,) = fill(store, where, pics, features(where, 5))
    folder = store.root / "spaces" / where.key / "segments" / digest
    raw = (folder / "zarr.json").read_bytes()
    assert hashlib.sha256(raw).hexdigest() == digest
    listed = json.loads(raw)["attributes"]["bb"]["objects"]
    there = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file() and p.parent != folder}
    assert listed.keys() == there.keys()
    for path, (size, sha256) in listed.items():
        data = there[path].read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (size, sha256)


def test_of_equal_keys_the_lowest_segment_digest_is_read(tmp_path):
    store, where, pics = Store.create(tmp_path / "s.bb"), space(), images(4)
    published = {}
    for seed in range(5):
        x = features(where, 4, seed)
        published[fill(store, where, pics, x, {"lab": seed})[0]] = x
    got = Store.open(store.root).read(where, pics, pics.table["image_id"].to_list())
    np.testing.assert_array_equal(got, published[min(published)])


def test_two_stores_merge_by_copying(tmp_path):
    where, pics = space(), images(10)
    x = features(where, 10)
    for name, rows in (("a", slice(0, 6)), ("b", slice(4, 10))):
        store = Store.create(tmp_path / name)
        store.put_collection(pics)
        SegmentWriter(store, where, {}).add(pics.all_digests()[rows], ["i"] * 6, x[rows])
        writer = SegmentWriter(store, where, {})
        writer.add(pics.all_digests()[rows], ["i"] * 6, x[rows])
        writer.close()
    shutil.copytree(tmp_path / "b", tmp_path / "a", dirs_exist_ok=True)
    merged = Store.open(tmp_path / "a")
    np.testing.assert_array_equal(merged.read(where, pics, pics.table["image_id"].to_list()), x)
    assert len(merged.collections("pics")) == 1


def test_what_is_missing_is_named_with_the_command_that_fills_it(tmp_path):
    store, where, pics = Store.create(tmp_path / "s.bb"), space(), images(9)
    part = images(5)
    fill(store, where, part, features(where, 5))
    ids = pics.table["image_id"].to_list()
    with pytest.raises(
        MissingRows, match="4 of 9 images of pics .* 005.png, 006.png, 007.png, … \\(1 more\\)"
    ) as caught:
        store.read(where, pics, ids)
    assert "bb extract --ckpt timm:tiny/untrained --data pics=DIR" in str(caught.value)
    assert caught.value.image_ids == ("005.png", "006.png", "007.png", "008.png")


def test_nothing_asked_for_is_nothing(tmp_path):
    store, where = Store.create(tmp_path / "s.bb"), space()
    assert store.read(where, images(1), []).shape == (0, 6)


def test_versions_of_a_collection(tmp_path):
    store = Store.create(tmp_path / "s.bb")
    five, nine, other = images(5), images(9), images(5, salt="other")
    assert store.put_collection(five) is five
    assert store.put_collection(images(5)).digest == five.digest
    store.put_collection(nine)
    ids = [f"{i:03d}.png" for i in range(5)]
    assert store.collection("pics", [*ids, "008.png"]).digest == nine.digest
    assert store.collection("pics", ids).digest == nine.digest  # the newer of two that agree
    store.put_collection(other)
    with pytest.raises(UsageError, match="(?s)3 versions of collection pics disagree.*--data pics@"):
        store.collection("pics", ids)
    assert store.collection(f"pics@{other.digest[:12]}", ids).digest == other.digest
    with pytest.raises(BBError, match="is missing 1 of 1 images: 999.png. Check the folder with `bb data check pics`"):
        store.collection("pics", ["999.png"])
    with pytest.raises(UsageError, match="no collection other .there: pics.*--data other=DIR"):
        store.collection("other", ids)


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "ü", "a" * 101, "con", "NUL.x", "com1", "a.", "a\n"])
def test_a_collection_needs_a_plain_name(name):
    with pytest.raises(UsageError, match="can't name a collection"):
        Collection.from_entries(name, [])


@pytest.mark.parametrize("name", ["console", "nul-1", "a.con", "com", "x_aux"])
def test_names_that_only_resemble_a_device_will_do(name):
    assert Collection.from_entries(name, []).name == name
    assert locate(f"collections/{name}/{'0' * 64}.parquet")


def test_a_collection_or_run_that_never_ends_is_not_waited_for(tmp_path):
    store = Store.create(tmp_path / "s.bb")
    run = store.put_run(run_record(), images(3).table, images(3).table)
    made = store.put_collection(images(3))
    for path in (store.root / "collections" / "pics" / f"{made.digest}.parquet", run.folder / "run.json"):
        path.unlink()
        os.mkfifo(path)
    with pytest.raises(BBError, match="collection pics: its .* is not a file. Move .* out of the store"):
        store.collections("pics")
    with pytest.raises(BBError, match="its run.json is not a file"):
        list(store.runs())


def test_what_an_interrupted_copy_left_makes_room(tmp_path):
    """Of the very segment, without its zarr.json, as rsync leaves it."""
    store = Store.create(tmp_path / "s.bb")
    fill(store, space(), images(5), features(space(), 5))
    (segment,) = store.segments(space())
    files = {str(p.relative_to(segment.folder)): p.read_bytes() for p in segment.folder.rglob("*") if p.is_file()}
    (segment.folder / "zarr.json").unlink()
    publish_folder(store.root, files, segment.folder)
    assert len(Store.open(store.root).segments(space())) == 1 and list((store.root / "tmp").iterdir()) == []


def test_an_image_id_stands_once_in_a_collection():
    with pytest.raises(BBError, match="names two images 'a'. Rename"):
        Collection.from_entries("pics", [Entry("a", b"1" * 32, 1, 1, 1), Entry("a", b"2" * 32, 1, 1, 1)])


def test_a_damaged_collection_is_refused(tmp_path):
    store = Store.create(tmp_path / "s.bb")
    store.put_collection(images(3))
    (path,) = (store.root / "collections" / "pics").iterdir()
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(BBError, match="pics@.* is damaged.*Delete the file"):
        store.collections("pics")


def test_a_segment_is_refused_under_another_name_or_space(tmp_path):
    store, where, pics = Store.create(tmp_path / "s.bb"), space(), images(3)
    (digest,) = fill(store, where, pics, features(where, 3))
    segments = store.root / "spaces" / where.key / "segments"
    stranger = space(weights="f" * 64)
    store.put_space(stranger)
    shutil.copytree(segments / digest, store.root / "spaces" / stranger.key / "segments" / digest)
    with pytest.raises(BBError, match="belongs to feature space .* but is stored under .* Move"):
        store.segments(stranger)
    (segments / digest).rename(segments / ("0" * 64))
    with pytest.raises(BBError, match="is damaged: its zarr.json does not have the digest in its name"):
        Store.open(store.root).segments(where)


def test_a_cut_array_is_refused(tmp_path):
    store, where, pics = Store.create(tmp_path / "s.bb"), space(), images(3)
    (digest,) = fill(store, where, pics, features(where, 3))
    chunk = store.root / "spaces" / where.key / "segments" / digest / "img_features" / "c" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    with pytest.raises(BBError, match="has 35 bytes, its segment says 36. Move .* and extract again"):
        Store.open(store.root).read(where, pics, ["000.png"])


def test_a_damaged_space_is_refused(tmp_path):
    store, where = Store.create(tmp_path / "s.bb"), space()
    store.put_space(where)
    meta = store.root / "spaces" / where.key / "zarr.json"
    meta.write_text(meta.read_text().replace("tiny", "huge"))
    with pytest.raises(BBError, match="is damaged: its fields have the key"):
        store.spaces()
    with pytest.raises(UsageError, match="'abc' names no feature space of .*see `bb store ls`"):
        store.space("abc")


def test_opening_what_is_no_store(tmp_path):
    with pytest.raises(BBError, match="found no store at .*: `bb extract` or `bb store pull URL` makes one"):
        Store.open(tmp_path / "none")
    (tmp_path / "zarr.json").write_text("{}")
    with pytest.raises(BBError, match="is not a bb store"):
        Store.open(tmp_path)
    (tmp_path / "zarr.json").write_text('{"attributes": {"bb": {"format": 2}}}')
    with pytest.raises(BBError, match="has store format 2, this bb reads 1"):
        Store.open(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"")
    with pytest.raises(BBError, match="exists and is not a bb store: give --store a new or empty folder"):
        Store.create(tmp_path / "photos")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BBError, match="not a bb store"):
        Store.create(tmp_path / "file")
    with pytest.raises(BBError, match="can't make a store at"):
        Store.create(tmp_path / "file" / "below")


def test_every_folder_on_the_way_to_a_file_is_synced(tmp_path, monkeypatch):
    """Else a power cut could leave a published marker whose chunk can't be reached."""
    synced, real = [], Directory.sync
    monkeypatch.setattr(
        Directory, "sync", lambda self, path="": synced.append((self.path / path).name) or real(self, path)
    )
    store, where, pics = Store.create(tmp_path / "s.bb"), space(), images(3)
    synced.clear()
    fill(store, where, pics, features(where, 3))
    assert synced.count("c") == 3 and synced.count("0") == 2  # image_sha256/c/0/0, image_id/c/0, img_features/c/0/0


def test_two_processes_may_make_a_store_at_once(tmp_path, monkeypatch):
    """The second looked before the first had its marker in place, and finds the first one's folders."""
    Store.create(tmp_path / "s.bb").put_collection(images(1))
    real, answers = type(tmp_path).exists, [False]
    monkeypatch.setattr(
        type(tmp_path), "exists", lambda path: answers.pop() if path.name == "zarr.json" and answers else real(path)
    )
    assert Store.create(tmp_path / "s.bb").collection_names() == ["pics"]


def test_many_segments_need_few_descriptors(tmp_path):
    import resource

    store, where, pics = Store.create(tmp_path / "s.bb"), space(), images(60)
    for i in range(60):
        part = pics.all_digests()[i : i + 1]
        store.put_segment(where, part, [str(i)], features(where, 1, i), {})
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = [os.open(store.root, os.O_RDONLY) for _ in range(20)]  # the lowest, which may lie between others
    for descriptor in free:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(free) + 1, limits[1]))
    try:
        got = Store.open(store.root).read(where, pics, pics.table["image_id"].to_list())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert got.shape == (60, 6)


def test_a_segment_closes_by_rows_bytes_or_time(tmp_path, monkeypatch):
    monkeypatch.setattr("bb.store.segment_writer.MAX_SECONDS", 60.0)
    store, pics = Store.create(tmp_path / "s.bb"), images(10)
    now = [0.0]
    writer = SegmentWriter(store, space(), {}, clock=lambda: now[0])
    x = features(space(), 10)
    assert writer.max_rows == 8192
    writer.add(pics.all_digests()[:5], ["i"] * 5, x[:5])
    assert writer.published == []
    now[0] = 60.0
    writer.add(pics.all_digests()[5:6], ["i"], x[5:6])
    writer.wait()
    assert [s.rows for s in store.segments(space())] == [6]
    wide = space(output={"kind": "img", "pooling": "cls", "dim": 2**24})
    assert SegmentWriter(store, wide, {}).max_rows == 2
    many = np.zeros((8200, 32), np.uint8)
    writer.add(many, ["i"] * 8200, np.zeros((8200, 6), np.float16))
    writer.wait()
    assert sorted(s.rows for s in store.segments(space())) == [6, 8192]
    writer.close()
    assert sorted(s.rows for s in store.segments(space())) == [6, 8, 8192]


def test_what_fails_in_the_background_is_raised_and_the_rest_is_published(tmp_path, monkeypatch):
    store, pics = Store.create(tmp_path / "s.bb"), images(30)
    x, real, calls = features(space(), 30), Store.put_segment, []

    def once(self, where, keys, *rest):
        calls.append(len(keys))
        if len(calls) == 1:
            raise OSError(28, "No space left on device")
        return real(self, where, keys, *rest)

    monkeypatch.setattr("bb.store.segment_writer.MAX_ROWS", 10)
    monkeypatch.setattr(Store, "put_segment", once)
    writer = SegmentWriter(store, space(), {})
    with pytest.raises(OSError, match="No space left"):
        for row in range(30):
            writer.add(pics.all_digests()[row : row + 1], ["i"], x[row : row + 1])
        writer.close()
    writer.close()
    assert len(writer.published) == len(calls) - 1
    assert sorted(writer.published) == store.segment_digests(space())


def test_a_write_that_fails_leaves_nothing_visible(tmp_path, monkeypatch):
    store, where, pics = Store.create(tmp_path / "s.bb"), space(), images(3)
    store.put_space(where)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bb.store.files.directory.os.rename", full)
    with pytest.raises(OSError, match="No space left"):
        fill(store, where, pics, features(where, 3))
    assert store.segments(where) == []
    assert list((store.root / "tmp").iterdir()) == []


def test_shared_files_name_no_person_host_or_path(tmp_path, monkeypatch):
    monkeypatch.setattr("bb.store.store.platform.node", lambda: "a-secret-host")
    monkeypatch.setattr("bb.store.store.getpass.getuser", lambda: "a-secret-person")
    store, where, pics = Store.create(tmp_path / "s.bb"), space(), images(3)
    (digest,) = fill(store, where, pics, features(where, 3))
    store.put_collection(pics)
    assert store.local(digest)["host"] == "a-secret-host"
    assert store.local("0" * 64) == {}
    for path in store.root.rglob("*"):
        if path.is_file() and path.parent.name != "local":
            data = path.read_bytes()
            for secret in ("a-secret-host", "a-secret-person", str(tmp_path)):
                assert secret.encode() not in data, (path, secret)


def test_shapes_and_dtypes_are_checked_before_writing():
    with pytest.raises(ValueError, match="features are float64, the space stores float16"):
        encode_segment(space(), np.zeros((2, 32), np.uint8), ["a", "b"], np.zeros((2, 6)), {})
    with pytest.raises(ValueError, match="do not fit"):
        encode_segment(space(), np.zeros((2, 32), np.uint8), ["a", "b"], np.zeros((2, 7), np.float16), {})


def test_runs_are_immutable_siblings(tmp_path):
    store = Store.create(tmp_path / "s.bb")
    table = pl.DataFrame({"task": ["t"], "image_id": ["a"], "y": [1]})
    first = store.put_run(run_record(scores={"mean": 0.1}), table, table)
    second = store.put_run(run_record(scores={"mean": 0.2}), table, table)
    assert first.digest != second.digest
    found = list(store.runs("a" * 64))
    assert {r.record["scores"]["mean"] for r in found} == {0.1, 0.2}
    assert found[0].predictions().equals(table)
    assert store.local(first.digest)["argv"] == sys.argv
    with pytest.raises(ValueError, match="run has no \\['scores'\\]"):
        record = run_record()
        del record["scores"]
        store.put_run(record, table, table)
    (first.folder / "train.parquet").write_bytes(b"")
    with pytest.raises(BBError, match="run aaaaaaaaaaaa is damaged: .*train.parquet"):
        first.train()
    (first.folder / "run.json").write_bytes(b"{}")
    with pytest.raises(BBError, match="is damaged: its run.json"):
        list(store.runs())


@pytest.mark.e2e
def test_killed_while_publishing_leaves_a_readable_store(tmp_path):
    """SIGKILL between any two steps of publishing: readers see the segment whole or not at all."""
    script = """
import os, sys, signal
import bb.store.files.directory
from tests.helpers.stores import *
victim = int(sys.argv[2])
step = 0
def counted(name):
    real = getattr(os, name)
    def call(*args, **kwargs):
        global step
        step += 1
        if step == victim:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    return call
class Os:
    def __getattr__(self, name):
        return counted(name) if name in ("fsync", "rename", "replace") else getattr(os, name)
bb.store.files.directory.os = Os()
s = Store.create(sys.argv[1])
fill(s, space(), images(3), features(space(), 3))
print(step)
"""
    steps = int(
        subprocess.run([sys.executable, "-c", script, tmp_path / "ok", "-1"], capture_output=True, check=True).stdout
    )
    assert steps > 10
    for victim in range(1, steps + 1, 5):
        root = tmp_path / str(victim)
        killed = subprocess.run([sys.executable, "-c", script, root, str(victim)], capture_output=True)
        assert killed.returncode == -9
        store = Store.create(root)
        assert [s.rows for s in store.segments(space())] in ([], [3])
        fill(store, space(), images(3), features(space(), 3))
        np.testing.assert_array_equal(
            store.read(space(), images(3), images(3).table["image_id"].to_list()), features(space(), 3)
        )
