"""Keeping a store: what verify finds, gc removes, compact merges, du and why say; in the verbs' words."""

import json
import os
import shutil
import sys
import threading
import time

import numpy as np
import polars as pl
import pytest

import bb
from bb.probe.run import FamilyInputs, extraction
from bb.probe.tasks.newt import Labels
from bb.store import BBError, Collection, Entry, Store, UsageError
from bb.store.files.canonical_json import sha256_hex
from bb.store.format.tolerance import relative_distance
from bb.store.local.segment import encode_segment
from bb.store.maintenance.compact import compact
from bb.store.maintenance.diff import compare, find_pairs
from bb.store.maintenance.gc import find_garbage, remove_garbage
from bb.store.maintenance.verify import repair, verify
from tests.helpers.stores import features, fill, images, put, read, run_record, segments, space, spread


@pytest.fixture
def store(tmp_path):
    """A collection, 20 rows in four segments, and a run."""
    made = Store.create(tmp_path / "s.bb")
    pics = made.put_collection(images(20))
    spread(made, space(), pics, features(space(), 20), 4)
    table = pl.DataFrame({"task": ["t"], "image_id": ["a"], "y": [1]})
    made.put_run(run_record(space=space().key), table, table)
    return made


def what(store):
    return "\n".join(fault.what for fault in verify(Store.open(store.root)).faults)


@pytest.fixture
def call(monkeypatch, capsys, store):
    def run(*arguments):
        monkeypatch.chdir(store.root.parent)
        monkeypatch.setattr(sys, "argv", ["bb", "store", *map(str, arguments), "--store", str(store.root)])
        with pytest.raises(SystemExit) as caught:
            bb.main()
            sys.exit(0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return caught.value.code or 0, out, err

    return run


# verify


def test_a_sound_store_is_counted_and_has_no_faults(store, call):
    status, out, _ = call("verify")
    assert status == 0
    assert out.startswith("checked 1 spaces, 4 segments (20 rows, 0 of them replicates, ")
    assert out.endswith("1 collections, 1 runs: 0 faults\n")
    assert json.loads(call("verify", "--json")[1])["faults"] == []


def test_verify_names_a_flipped_byte_and_repair_moves_the_segment(store, call):
    bad = segments(store)[1]
    chunk = bad / "img_features" / "c" / "0" / "0"
    data = bytearray(chunk.read_bytes())
    data[3] ^= 1
    chunk.write_bytes(data)
    status, out, _ = call("verify")
    assert status == 1
    assert f"segment {bad} is damaged: its img_features/c/0/0 does not have the digest in its manifest" in out
    assert "1 faults\nbb store verify --repair moves what is bad aside and says what to make again" in out
    status, out, _ = call("verify", "--repair")
    aside = store.root / "aside" / bad.relative_to(store.root)
    assert status == 1
    assert f"moved to {aside}; to make it again: bb extract --ckpt timm:tiny/untrained --data NAME=DIR" in out
    assert (aside / "img_features" / "c" / "0" / "0").read_bytes() == data
    assert call("verify")[0] == 0


def test_repair_moves_collections_and_runs(store):
    (parquet,) = (store.root / "collections" / "pics").iterdir()
    parquet.write_bytes(b"PAR1")
    (train,) = store.root.glob("runs/*/*/train.parquet")
    train.write_bytes(b"")
    found = verify(store)
    assert [fault.bad for fault in found.faults] == [parquet, train.parent]
    assert "collection pics@" in found.faults[0].what and "is damaged" in found.faults[0].what
    assert "train.parquet is not what run.json says" in found.faults[1].what
    assert found.faults[1].remedy == "the `bb probe` that made it, with --force"
    repair(store, found)
    assert verify(store).faults == []
    assert (store.root / "aside" / train.relative_to(store.root)).exists()
    parquet.write_bytes(b"PAR1")
    again = verify(store)
    repair(store, again)
    assert len(list((store.root / "aside" / "collections" / "pics").iterdir())) == 2, "nothing set aside is replaced"


def test_a_file_that_no_manifest_lists_is_found(store):
    (segments(store)[0] / "extra").write_bytes(b"")
    assert "it holds extra, which its manifest does not list" in what(store)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_must_be_finite(store, value):
    x = features(space(), 3)
    x[1, 2] = value
    folder = put(store, space(), x)
    assert f"segment {folder} has NaN or infinite features in row 1" in what(store)


def test_a_key_stands_once_in_a_segment(store):
    folder = put(store, space(), features(space(), 2), np.zeros((2, 32), np.uint8))
    assert f"segment {folder} has two rows of one image" in what(store)


@pytest.mark.parametrize("block", [2**25, 40])
def test_replicates_may_differ_by_the_tolerance(store, monkeypatch, block):
    """However many rows of them are held in memory at a time."""
    monkeypatch.setattr("bb.store.local.segment.BLOCK_BYTES", block)
    x = features(space(), 20)
    fill(store, space(), images(20), x * np.float16(1.001), {"lab": "b"})
    found = verify(store)
    assert (found.faults, found.replicates) == ([], 20)
    fill(store, space(), images(20), x * np.float16(1.01), {"lab": "c"})
    (*_, last) = verify(store).faults
    assert "disagree on" in last.what and "(0.002 is allowed): pics/0" in last.what
    assert "Which of them is right, extracting into an empty store will show." in last.what
    assert last.bad is None


def test_relative_distance():
    a, b = np.array([[3.0, 4.0], [0.0, 0.0]]), np.array([[3.0, 4.5], [0.0, 0.0]])
    np.testing.assert_allclose(relative_distance(a, b), [0.5 / np.hypot(3, 4.5), 0])


def test_ids_agree_with_collections(store):
    put(store, space(), features(space(), 1), images(1, salt="other").all_digests(), ["pics/000.png"])
    assert "has 1 rows whose image is another in every version of the collection: pics/000.png" in what(store)
    store.put_collection(images(1, salt="other"))
    assert what(store) == ""
    put(store, space(), features(space(), 1), images(1, salt="third").all_digests(), ["pics/new.png"])
    put(store, space(), features(space(), 1), images(1, salt="fourth").all_digests(), ["unknown/000.png"])
    assert what(store) == "", "an ID that no version has is nothing wrong"


def test_a_damaged_space_is_named_and_the_rest_is_checked(store):
    other = space(code="2" * 40)
    store.put_space(other)
    (store.root / "spaces" / other.key / "zarr.json").write_text("[]")
    found = verify(store)
    assert f"feature space {other.key} is damaged: its zarr.json is not a JSON object. Copy its" in found.faults[0].what
    assert found.segments == 4


def test_a_run_lies_under_its_id(store):
    (folder,) = store.root.glob("runs/*/*/")
    moved = store.root / "runs" / ("b" * 64) / folder.name
    shutil.copytree(folder, moved)
    assert f"run {moved} is damaged: its run.json has the ID aaa" in what(store)
    moved.rename(moved.parent / "short")
    assert f"run {moved.parent / 'short'} is not named by an ID and a digest" in what(store)


@pytest.mark.parametrize(
    ("raw", "said"),
    [(b"{}", "has no run_id, tasks"), (b"[" * 100_000, "can't be read"), (b'{"a"', "can't be read")],
)
def test_runs_of_wrong_shape_are_refused(tmp_path, raw, said):
    store = Store.create(tmp_path / "s.bb")
    folder = store.root / "runs" / ("a" * 64) / sha256_hex(raw)
    folder.mkdir(parents=True)
    (folder / "run.json").write_bytes(raw)
    with pytest.raises(BBError, match=f"is damaged: its run.json {said}"):
        list(store.runs())


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (pl.DataFrame({"image_id": ["a"]}), "it has the columns image_id String"),
        (images(2).table.with_columns(image_id=pl.lit("a")), "an image ID is missing or stands twice"),
        (images(2).table.with_columns(image_sha256=pl.lit(b"short")), "an image digest has not 32 bytes"),
        (images(2).table.with_columns(width=pl.lit("8")), "it has the columns .*width String"),
    ],
)
def test_collections_of_wrong_shape_are_refused(tmp_path, table, said):
    file = tmp_path / "t.parquet"
    table.write_parquet(file)
    raw = file.read_bytes()
    with pytest.raises(BBError, match=f"collection pics@.* is damaged: {said}.* Move its file out of the store"):
        Collection.from_parquet("pics", sha256_hex(raw), raw)
    for junk in (b"", b"PAR1", raw[:-20], raw[:-8] + b"\xff\xff\xff\x7fPAR1"):
        with pytest.raises(BBError, match="is damaged"):
            Collection.from_parquet("pics", sha256_hex(junk), junk)


def test_half_a_surrogate_pair_does_not_stop_a_verb(store, call):
    key = "3" * 64
    path = store.root / "spaces" / key / "zarr.json"
    path.parent.mkdir()
    path.write_text('{"attributes": {"bb": {"space": {"\\ud800": 1}}}}')
    for arguments in (["verify"], ["verify", "--json"]):
        status, out, _ = call(*arguments)
        assert status == 1 and f"feature space {key} is damaged" in out


def test_a_run_names_its_space_in_a_word(tmp_path):
    store = Store.create(tmp_path / "s.bb")
    table = pl.DataFrame({"y": [1]})
    store.put_run(run_record(space=["x"]), table, table)
    with pytest.raises(BBError, match=r"is damaged: its run.json has the space \['x'\]"):
        find_garbage(store, unreferenced=True)


# gc


def test_gc_shows_first_and_removes_with_yes(store, call):
    old, young = store.root / "tmp" / "old", store.root / "tmp" / "young"
    for folder in (old, young):
        folder.mkdir(parents=True)
        (folder / "part").write_bytes(b"x" * 2000)
    past = time.time() - 3 * 86400
    for path in (old / "part", old, young):
        os.utime(path, (past, past))
    bad = segments(store)[0]
    (bad / "extra").write_bytes(b"")
    repair(store, verify(store))
    status, out, _ = call("gc")
    assert status == 0
    assert out.startswith("tmp/old: 2.0 kB, left 3 days ago by a process that died\n")
    assert f"aside/{bad.relative_to(store.root)}: " in out and "set aside" in out
    assert "young" not in out and "in all; bb store gc --yes removes it for good" in out
    assert old.exists()
    assert [entry["removed"] for entry in json.loads(call("gc", "--json")[1])] == [False, False]
    assert "removed " in call("gc", "--yes")[1]
    assert not old.exists() and young.exists() and not (store.root / "aside").exists()
    assert call("gc") == (0, "nothing to remove\n", "")
    assert len(store.segments(space())) == 3


def aged(path, seconds):
    """Sets the time of a file or folder so far back, or forward."""
    moment = time.time() - seconds
    for part in (*path.rglob("*"), path):
        os.utime(part, (moment, moment))


@pytest.mark.parametrize("wrong", [-400 * 86400, -3600, 400 * 86400])
def test_gc_asks_the_file_system_for_the_time(store, monkeypatch, wrong):
    """A machine whose clock is wrong, or a server's, neither loses what is young nor keeps what is old."""
    for name, age in (("old", 3 * 86400), ("young", 3600)):
        (store.root / "tmp" / name).mkdir(parents=True)
        (store.root / "tmp" / name / "part").write_bytes(b"x")
        aged(store.root / "tmp" / name, age)
    real = time.time
    monkeypatch.setattr("time.time", lambda: real() + wrong)
    assert [garbage.path.name for garbage in find_garbage(store)] == ["old"]
    assert sorted(path.name for path in (store.root / "tmp").iterdir()) == ["old", "young"]


def test_gc_keeps_remains_from_the_future_and_says_so(store, call):
    (store.root / "tmp" / "ahead").mkdir(parents=True)
    aged(store.root / "tmp" / "ahead", -40 * 86400)
    status, out, err = call("gc", "--yes")
    assert (status, out) == (0, "nothing to remove\n")
    assert "tmp/ahead is dated 40 days ahead of the disk's clock and is kept" in err
    assert (store.root / "tmp" / "ahead").exists()


def test_gc_takes_the_indexes_of_spaces_that_are_gone(store):
    for key in (space().key, "f" * 64):
        (store.root / "index" / "rows" / key).mkdir(parents=True)
        (store.root / "index" / "rows" / key / "x.rows").write_bytes(b"12")
    (garbage,) = find_garbage(store)
    assert (garbage.path.name, garbage.n_bytes, garbage.why) == ("f" * 64, 2, "index of a space that is gone")


def test_gc_takes_spaces_that_no_run_names_when_asked(store, call):
    other = space(code="2" * 40)
    fill(store, other, images(2), features(other, 2))
    assert find_garbage(store) == []
    status, out, _ = call("gc", "--unreferenced", "--yes")
    assert status == 0 and f"space {other.key[:12]} (timm:tiny/untrained) is named by no run" in out
    assert [s.key for s in Store.open(store.root).spaces()] == [space().key]


def test_gc_follows_no_link_and_leaves_the_store_alone(store, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"a")
    link = store.root / "aside" / "runs" / "x" / "y"
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "photos")
    for garbage in find_garbage(store):
        remove_garbage(store, garbage)
    assert not link.is_symlink() and (tmp_path / "photos" / "a.png").exists()


# compact


@pytest.mark.parametrize("kind", ["img", "patch"])
def test_compact_merges_and_changes_no_bit(tmp_path, kind):
    store, where = Store.create(tmp_path / "s.bb"), space(kind)
    spread(store, where, images(20), features(where, 20), 5)
    before = read(store, where)
    done = compact(store, where)
    assert (len(done.merged), len(done.made)) == (5, 1)
    (segment,) = Store.open(store.root).segments(where)
    assert read(store, where).tobytes() == before.tobytes()
    assert sorted(segment.array("image_id")) == [f"pics/{i:03d}.png" for i in range(20)]
    assert verify(store).faults == []
    assert len(list((store.root / "aside").glob("spaces/*/segments/*"))) == 5
    assert compact(store, where).made == ()


def test_compact_fills_segments_to_the_writers_limit(store, monkeypatch):
    monkeypatch.setattr("bb.store.segment_writer.MAX_ROWS", 8)
    before = read(store)
    done = compact(store, space())
    assert (len(done.merged), len(done.made)) == (4, 3)
    assert sorted(s.rows for s in Store.open(store.root).segments(space())) == [4, 8, 8]
    assert read(store).tobytes() == before.tobytes()
    assert compact(Store.open(store.root), space()).made == ()


def test_compact_keeps_each_distinct_provenance(tmp_path):
    store = Store.create(tmp_path / "s.bb")
    for salt, name in enumerate(["timm:a", "timm:a", "timm:b"]):
        fill(store, space(), images(3, salt=salt), features(space(), 3), {"backbone": name, "device": "cpu"})
    compact(store, space())
    fresh = Store.open(store.root)
    (segment,) = fresh.segments(space())
    assert [origin["backbone"] for origin in segment.origins] == ["timm:a", "timm:b"]
    assert fresh.backbones(space()) == ["timm:a", "timm:b"]
    assert all("made" in origin for origin in segment.origins)


def test_a_run_after_compaction_tells_of_the_same_extraction(store):
    labels = Labels((), pl.DataFrame({"id": [f"{i:03d}.png" for i in range(20)]}))

    def facts():
        inputs = FamilyInputs.read(Store.open(store.root), space(), images(20), labels, "newt")
        return extraction(inputs.store, inputs.space), inputs.features.tobytes()

    before = facts()
    compact(store, space())
    assert facts() == before
    assert before[0] == [{"backbone": "timm:tiny/untrained", "device": "cpu"}]


@pytest.mark.parametrize("seed", range(8))
def test_compact_keeps_what_is_read_where_replicates_differ(tmp_path, seed, monkeypatch):
    """Overlapping segments, small and full, with other bits for the same images."""
    monkeypatch.setattr("bb.store.segment_writer.MAX_ROWS", 8)
    store, rng, pics = Store.create(tmp_path / "s.bb"), np.random.default_rng(seed), images(20)
    spread(store, space(), pics, features(space(), 20), 5)
    for lab in range(8):
        rows = rng.choice(20, size=rng.integers(1, 9), replace=False)
        x = features(space(), 20, seed=int(rng.integers(2)))[rows]
        put(store, space(), x, pics.all_digests()[rows], [f"pics/{i}" for i in rows], {"lab": lab})
    before, n = read(store), len(segments(store))
    monkeypatch.setattr("bb.store.maintenance.compact.set_aside", lambda *_: None)
    compact(store, space())
    assert read(store).tobytes() == before.tobytes(), "killed before the old ones are moved"
    monkeypatch.undo()
    monkeypatch.setattr("bb.store.segment_writer.MAX_ROWS", 8)
    compact(Store.open(store.root), space())
    assert read(store).tobytes() == before.tobytes()
    assert len(segments(store)) <= n


def test_compact_moves_nothing_where_a_segment_is_damaged(store):
    chunk = segments(store)[2] / "img_features" / "c" / "0" / "0"
    chunk.write_bytes(bytes(chunk.stat().st_size))
    with pytest.raises(BBError, match="does not have the digest in its manifest"):
        compact(store, space())
    assert len(segments(store)) == 4


def test_compact_in_words(store, call):
    other = space(code="2" * 40)
    fill(store, other, images(2), features(other, 2))
    status, out, _ = call("compact")
    assert status == 0
    assert out == (
        f"space {space().key[:12]}: 4 segments merged into 1\n"
        "the old ones are set aside: bb store gc shows them, bb store gc --yes removes them\n"
    )
    assert call("compact", space().key[:8])[1] == "nothing to merge\n"
    assert json.loads(call("compact", "--json")[1])[0]["merged"] == []
    assert "cpu" in call("info", space().key)[1]


def test_compact_killed_at_any_step_loses_nothing(tmp_path, monkeypatch):
    """What SIGKILL would leave, before each step that reaches the disk, reads the same and can be finished."""
    store = Store.create(tmp_path / "s.bb")
    store.put_collection(images(20))
    spread(store, space(), images(20), features(space(), 20), 3)
    fill(store, space(), images(4), features(space(), 4, seed=1), {"lab": "b"})
    before, left, one_at_a_time = read(store), [], threading.Lock()

    def counted(name):
        def call(*args, **kwargs):
            with one_at_a_time:
                left.append(shutil.copytree(store.root, tmp_path / str(len(left))))
                return getattr(os, name)(*args, **kwargs)

        return call

    class Os:
        def __getattr__(self, name):
            return counted(name) if name in ("fsync", "rename", "replace") else getattr(os, name)

    monkeypatch.setattr("bb.store.files.directory.os", Os())
    compact(store, space())
    monkeypatch.undo()
    assert len(left) > 20
    for root in left:
        assert read(Store.open(root)).tobytes() == before.tobytes()
        compact(Store.open(root), space())
        assert read(Store.open(root)).tobytes() == before.tobytes()
        assert len(Store.open(root).segments(space())) == 1


# du


def test_du_by_backbone_and_collection(store, call):
    birds = Collection.from_entries("birds", [Entry("b.png", b"b" * 32, 1, 8, 8)])
    fill(store, space(), birds, features(space(), 1))
    status, out, _ = call("du")
    assert status == 0
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["backbone", "space", "collection", "rows", "size"]
    assert lines[1][:4] == ["timm:tiny/untrained", space().key[:12], "pics", "20"]
    assert lines[2][2:4] == ["birds", "1"]
    assert out.splitlines()[-1].endswith("in all")
    shown = json.loads(call("du", "--json")[1])
    whole = sum(s.n_bytes for s in Store.open(store.root).segments(space()))
    assert sum(u["bytes"] for u in shown["features"]) == whole
    assert shown["others"]["runs"] > 0 and shown["others"]["aside"] == 0


# why


def test_why_names_each_field_in_words(store, call):
    other = space(view={"mean": [0.5, 0.25, 1.0], "size": [4, 8], "fill": 0}, code="2" * 40)
    fill(store, other, images(2), features(other, 2))
    assert compare(space(), other).fields == {
        "org": "same",
        "architecture": "same",
        "weights": "same",
        "view": "fill only in the second (0), size 8 against 4 x 8",
        "output": "same",
        "numerics": "same",
        "code": "differs, 111111111111 against 222222222222",
    }
    status, out, _ = call("why", space().key[:6], other.key[:6])
    assert status == 0
    assert out.startswith(f"{space().key[:12]} against {other.key[:12]}\n  org: same\n")
    assert json.loads(call("why", "timm:tiny/untrained", "--json")[1])[0]["fields"]["weights"] == "same"
    assert len(find_pairs(store, ["timm:tiny/untrained"])) == 1


def test_why_says_what_it_needs(store, call):
    assert call("why", "timm:none")[::2] == (
        2,
        f"bb: timm:none has 0 feature spaces in {store.root}, two are needed to compare: see `bb store ls`.\n",
    )
    assert "compares two feature spaces, 3 are given" in call("why", "a", "b", "c")[2]
    with pytest.raises(UsageError, match="names no feature space"):
        find_pairs(store, ["zz", "zz"])


def test_a_merged_zstd_segment_reads_the_same(tmp_path):
    from bb.store.files.atomic_write import publish_folder

    store, pics = Store.create(tmp_path / "s.bb"), images(20)
    store.put_space(space())
    x = features(space(), 20)
    for rows in (slice(0, 10), slice(10, 20)):
        digest, objects = encode_segment(space(), pics.all_digests()[rows], ["i"] * 10, x[rows], {}, zstd=True)
        publish_folder(store.root, objects, store.root / "spaces" / space().key / "segments" / digest)
    compact(store, space())
    np.testing.assert_array_equal(read(store), x)
