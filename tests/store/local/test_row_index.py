"""The remembered index of a space's rows: derived, rebuilt when it does not fit, never trusted over the segments."""

import os
import shutil

import numpy as np
import pytest

from bb.store import MissingRows, SegmentWriter, Store
from bb.store.files import machine_key
from bb.store.local import row_index_cache as row_index
from bb.store.local.row_index import RowIndex, StaleIndex, words_of
from bb.store.local.row_index_cache import FEW, name_of
from bb.store.local.segment import Segment
from tests.helpers.stores import features, fill, images, space

N = 3 * (FEW + 6)
IDS = [f"{i:03d}.png" for i in range(N)]
X = features(space(), N)


@pytest.fixture(scope="module")
def laid(tmp_path_factory):
    """A space of more segments than are read without an index, three rows each."""
    store = Store.create(tmp_path_factory.mktemp("rows") / "s.bb")
    writer = SegmentWriter(store, space(), {"backbone": "timm:tiny/untrained"})
    keys = images(N).all_digests()
    for i in range(0, N, 3):
        writer.add(keys[i : i + 3], IDS[i : i + 3], X[i : i + 3])
        writer.close()
    return store.root


@pytest.fixture
def root(laid, tmp_path):
    shutil.copytree(laid, tmp_path / "s.bb")
    return tmp_path / "s.bb"


@pytest.fixture
def opened(monkeypatch):
    """Digests of the segments that were opened."""
    seen, real = [], Segment.open.__func__
    monkeypatch.setattr(
        Segment, "open", classmethod(lambda cls, folder, *rest: (seen.append(folder.name), real(cls, folder, *rest))[1])
    )
    return seen


def read(root, ids=IDS):
    return np.array(Store.open(root).read(space(), images(N), ids))


@pytest.fixture
def believed(monkeypatch):
    """Any index counts as written here, as one does that was damaged on the disk."""
    monkeypatch.setattr("bb.store.local.row_index_cache._is_mine", lambda *_: True)


def index_files(root):
    return sorted((root / "index" / "rows" / space().key).glob("*.rows"))


def changed(path, at, data):
    raw = bytearray(path.read_bytes())
    raw[at : at + len(data)] = data
    path.write_bytes(raw)


def columns(path):
    """Where the words, segments and rows begin in an index file."""
    raw = path.read_bytes()
    n, m = (int.from_bytes(raw[at : at + 8], "little") for at in (16, 24))
    start = 32 + 32 * n
    assert len(raw) == start + 40 * m and (n, m) == (N // 3, N)
    return start, start + 32 * m, start + 36 * m


def test_it_is_laid_once_and_opens_only_what_is_read(root, opened):
    assert read(root).tobytes() == X.tobytes()
    (file,) = index_files(root)
    assert file.name == name_of(Store.open(root).segment_digests(space()))
    assert len(opened) == N // 3
    opened.clear()
    np.testing.assert_array_equal(read(root, ["004.png", "100.png", "003.png"]), X[[4, 100, 3]])
    assert len(opened) == 2
    opened.clear()
    assert Store.open(root).has(space(), images(N + 1).all_digests()).tolist() == [True] * N + [False]
    assert opened == [] and index_files(root) == [file]


def test_few_segments_need_none(tmp_path):
    store = Store.create(tmp_path / "s.bb")
    fill(store, space(), images(5), X[:5])
    np.testing.assert_array_equal(store.read(space(), images(5), IDS[:5]), X[:5])
    assert not (store.root / "index").exists()


def test_added_segments_alone_are_read(root, opened):
    read(root)
    before = index_files(root)
    store, more = Store.open(root), images(N + 70)
    ids = more.table["image_id"].to_list()
    for i in range(N, N + 2):
        store.put_segment(space(), more.all_digests()[i : i + 1], [ids[i]], X[:1], {})
    opened.clear()
    assert store.has(space(), more.all_digests()).sum() == N + 2
    assert len(opened) == 2 and index_files(root) == before
    store.put_segment(space(), more.all_digests()[N + 2 : N + 3], [ids[N + 2]], X[:1], {})
    opened.clear()
    assert store.has(space(), more.all_digests()).sum() == N + 3  # from the index in memory
    assert len(opened) == 1
    for i in range(N + 3, N + 70):
        store.put_segment(space(), more.all_digests()[i : i + 1], [ids[i]], X[:1], {})
    assert Store.open(root).has(space(), more.all_digests()).all()
    (after,) = index_files(root)
    assert [after] != before


def test_of_equal_keys_the_lowest_digest_is_read_however_the_index_came_to_be(root):
    read(root)
    store = Store.open(root)
    for seed in range(6):
        store.put_segment(space(), images(N).all_digests()[:50], ["i"] * 50, features(space(), 50, seed), {"lab": seed})
    extended = read(root)
    shutil.rmtree(root / "index")
    assert read(root).tobytes() == extended.tobytes()
    built = RowIndex.build(store.segments(space()))
    assert built.gather(built.find(images(N).all_digests()), "img_features").tobytes() == extended.tobytes()


def test_a_segment_that_went_is_not_read(root):
    read(root)
    gone = Store.open(root).segment_digests(space())[5]
    lost = Segment.open(root / "spaces" / space().key / "segments" / gone, space()).array("image_id").tolist()
    shutil.rmtree(root / "spaces" / space().key / "segments" / gone)
    with pytest.raises(MissingRows) as caught:
        read(root)
    assert sorted(caught.value.image_ids) == sorted(lost)


@pytest.mark.parametrize("lie", ["row", "segment", "far row", "far segment", "negative", "words", "zeros"])
def test_an_index_that_lies_is_thrown_away(root, lie, believed):
    read(root)
    (file,) = index_files(root)
    good = file.read_bytes()
    words, segment, row = columns(file)
    m = N * 4
    raw = np.frombuffer(good[segment:], "<i4").reshape(2, N)
    change = {
        "row": (row, ((raw[1] + 1) % 3).astype("<i4").tobytes()),
        "segment": (segment, ((raw[0] + 1) % (N // 3)).astype("<i4").tobytes()),
        "far row": (row, b"\xff\xff\xff\x7f" * N),
        "far segment": (segment, b"\xff\xff\xff\x7f" * N),
        "negative": (segment, b"\xff" * 2 * m),
        "words": (words, os.urandom(8 * N)),
        "zeros": (words, bytes(len(good) - words)),
    }[lie]
    changed(file, *change)
    assert read(root).tobytes() == X.tobytes()
    assert [path.read_bytes() for path in index_files(root)] == [good]


def test_an_index_of_segments_that_are_not_is_built_again_where_more_come(root, believed):
    read(root)
    (file,) = index_files(root)
    changed(file, columns(file)[1], b"\xff\xff\xff\x7f" * N)
    assert Store.open(root).adopted_from(space(), images(N).all_digests()) == []
    read(root)
    (file,) = index_files(root)
    changed(file, columns(file)[1], b"\xff\xff\xff\x7f" * N)
    writer = SegmentWriter(Store.open(root), space(), {})
    writer.add(images(N + 3).all_digests()[N:], ["a", "b", "c"], features(space(), N + 3)[N:])
    writer.close()
    assert read(root).tobytes() == X.tobytes()


@pytest.mark.parametrize("damage", ["cut", "empty", "no rows", "magic", "counts", "name", "link", "folder"])
def test_a_malformed_index_is_passed_over(root, tmp_path, damage, believed):
    read(root)
    (file,) = index_files(root)
    good = file.read_bytes()
    if damage == "cut":
        file.write_bytes(good[:-1])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "no rows":
        file.write_bytes(good[:24] + bytes(8) + good[32 : 32 + 32 * (N // 3)])
    elif damage == "magic":
        changed(file, 0, b"x")
    elif damage == "counts":
        changed(file, 16, b"\xff" * 16)
    elif damage == "name":
        changed(file, 40, b"\0\0\0\0")
    elif damage == "link":
        shutil.move(file, tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
    else:
        file.unlink()
        file.mkdir()
    assert read(root).tobytes() == X.tobytes()


def test_a_store_that_cannot_be_written_is_read(root, monkeypatch):
    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("bb.store.files.directory.os.rename", refuse)
    assert read(root).tobytes() == X.tobytes()
    assert index_files(root) == [] and list((root / "tmp").iterdir()) == []


def test_a_name_that_is_no_digest_is_refused_as_ever(root):
    segments = root / "spaces" / space().key / "segments"
    (segments / Store.open(root).segment_digests(space())[0]).rename(segments / "x")
    with pytest.raises(Exception, match="is damaged: its zarr.json does not have the digest in its name"):
        read(root)


def made_of(tmp_path, keys_of_segments):
    """An index of segments in the order given."""
    store = Store.create(tmp_path / "made.bb")
    found = []
    for i, keys in enumerate(keys_of_segments):
        x = np.full((len(keys), 6), i, np.float16)
        digest = store.put_segment(space(), np.stack(keys), ["i"] * len(keys), x, {"i": i})
        found.append(store._segment(space(), digest))
    return found


def key(*parts):
    """A key that begins and ends with given bytes."""
    first, last = parts
    return np.frombuffer(bytes([first]) * 16 + bytes(15) + bytes([last]), np.uint8)


def test_the_order_given_is_the_precedence(tmp_path):
    a, b = made_of(tmp_path, [[key(1, 1), key(2, 2)], [key(2, 2), key(3, 3)]])
    wanted = np.stack([key(1, 1), key(2, 2), key(3, 3)])
    for order, expected in [((a, b), [0, 0, 1]), ((b, a), [0, 1, 1])]:
        for index in (RowIndex.build(order), RowIndex.join([RowIndex.build([s]) for s in order])):
            assert len(index) == 3
            assert index.gather(index.find(wanted), "img_features")[:, 0].tolist() == expected
            assert [s.digest for s in index.segments] == [s.digest for s in order]


def test_keys_that_agree_in_their_first_word_are_told_apart(tmp_path):
    keys = [key(7, i) for i in range(40)]
    (a,) = made_of(tmp_path, [keys[::2]])
    index = RowIndex.build([a])
    found = index.find(np.stack(keys))
    assert (found[1::2] == -1).all()
    assert index.row[found[::2]].tolist() == list(range(20))


def test_words_sort_like_bytes():
    keys = np.random.default_rng(0).integers(0, 3, (500, 32), dtype=np.uint8)
    order = np.lexsort(words_of(keys)[::-1])
    assert [keys[i].tobytes() for i in order] == sorted(k.tobytes() for k in keys)


def test_an_unchecked_index_is_held_against_the_segments(tmp_path):
    (a,) = made_of(tmp_path, [[key(1, 1), key(2, 2)]])
    true = RowIndex.build([a])
    false = RowIndex(true.segments, true.words, true.segment, true.row[::-1].copy(), checked=False)
    with pytest.raises(StaleIndex):
        false.gather(np.array([0]), "img_features")


# Only an index that this machine wrote is used


def replicates(root):
    """Adds a replicate of some rows, of this machine too; the store has the index of all of it."""
    Store.open(root).put_segment(
        space(), images(N).all_digests()[:50], ["i"] * 50, features(space(), 50, 7), {"lab": 1}
    )
    shutil.rmtree(root / "index", ignore_errors=True)
    read(root)
    return read(root)


def forged(root):
    """An index that leaves out the rows that are read, so that the others are all there are."""
    (file,) = index_files(root)
    raw = file.read_bytes()
    n, m = (int.from_bytes(raw[at : at + 8], "little") for at in (16, 24))
    start = 32 + 32 * n
    segment, row = (np.frombuffer(raw[start + at * m : start + (at + 4) * m], "<i4").copy() for at in (32, 36))
    again = raw[start + 40 * m :]
    k = len(again) // 16
    assert k == 50
    position = np.frombuffer(again[: 8 * k], "<i8")
    segment[position] = np.frombuffer(again[8 * k : 12 * k], "<i4")
    row[position] = np.frombuffer(again[12 * k :], "<i4")
    return raw[: start + 32 * m] + segment.tobytes() + row.tobytes()


def test_a_forged_index_would_choose_the_replicate_that_is_read(root, believed):
    right = replicates(root)
    index_files(root)[0].write_bytes(forged(root))
    assert read(root).tobytes() != right.tobytes()


@pytest.mark.parametrize("way", ["in place", "copy", "copy with times", "renamed over", "no mark", "another's mark"])
def test_an_index_that_came_with_a_store_is_built_again(root, tmp_path, monkeypatch, way):
    """However it came: the mark beside it is one that this machine made."""
    right = replicates(root)
    (file,) = index_files(root)
    good, mark, new = file.read_bytes(), file.with_suffix(".mark"), tmp_path / "new"
    new.write_bytes(forged(root))
    os.utime(new, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    if way == "in place":
        file.write_bytes(new.read_bytes())
    elif way == "copy":
        shutil.copyfile(new, file)
    elif way == "copy with times":
        shutil.copy2(new, file)
    elif way == "renamed over":
        os.replace(new, file)
    else:
        os.replace(new, file)
        with monkeypatch.context() as patch:
            patch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config of another machine"))
            theirs = machine_key.mark(row_index._identity(file.name, file.stat()))
        mark.unlink() if way == "no mark" else mark.write_text(theirs)
    assert read(root).tobytes() == right.tobytes()
    assert index_files(root)[0].read_bytes() == good, "and the right one is in its place"


def test_a_copied_store_builds_its_index_anew_and_uses_it_then(root, tmp_path, opened):
    read(root)
    shutil.copytree(root, tmp_path / "copy.bb")
    assert read(tmp_path / "copy.bb").tobytes() == X.tobytes() and len(opened) == 2 * (N // 3)
    assert read(tmp_path / "copy.bb", IDS[:3]).tobytes() == X[:3].tobytes() and len(opened) == 2 * (N // 3) + 1


def test_without_a_machine_key_no_index_is_kept(root, tmp_path, monkeypatch):
    (tmp_path / "no folder").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "no folder"))
    for _ in range(2):
        assert read(root).tobytes() == X.tobytes() and index_files(root) == []
