"""Damaged images, camera raw files and formats of phones, from a folder to the notes of a run."""

import hashlib
import io
import json

import numpy as np
import polars as pl
import pytest
from PIL import Image

import bb.settings
from bb.store import Store
from bb.store.format.damaged import group_damage, read_damage
from bb.store.maintenance.compact import compact
from bb.store.segment_writer import SegmentWriter
from tests.helpers.command_line import VIT, call, own_place
from tests.helpers.shards import picture, write_tar
from tests.helpers.stores import space

__all__ = ["call", "own_place"]  # fixtures

PREMATURE = "Premature end of JPEG file"


def photograph(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((160, 120), 3)
    buffer = io.BytesIO()
    coarse.save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Four sound images, and three damaged ones: half of it lost with and without the end mark, and the mark alone."""
    for i in range(4):
        (tmp_path / "im" / f"{i}.jpg").parent.mkdir(exist_ok=True)
        (tmp_path / "im" / f"{i}.jpg").write_bytes(photograph(i))
    whole = photograph(9)
    half = whole[: len(whole) // 2]
    (tmp_path / "im" / "cut.jpg").write_bytes(half)
    (tmp_path / "im" / "half.jpg").write_bytes(half + b"\xff\xd9")
    (tmp_path / "im" / "mark.jpg").write_bytes(whole[:-2])
    return tmp_path / "im"


def extract(call, folder, *more):
    return call("extract", "--ckpt", VIT, "--data", f"pics={folder}", "--device", "cpu", *more)


def test_what_decodes_is_embedded_and_named(call, folder):
    status, out, err = extract(call, folder)
    assert status == 0 and "7 computed" in out and "0 failed, 3 damaged" in out
    assert "3 images are damaged and embedded as decoded; --damaged refuse leaves them out" in err
    for name in ("cut.jpg", "mark.jpg"):
        assert f"  {name}: {PREMATURE}" in err
    assert "  half.jpg: Corrupt JPEG data: premature end of data segment" in err
    status, out, err = extract(call, folder)
    assert status == 0 and "7 were there, 0 computed" in out and f"  cut.jpg: {PREMATURE}" in err
    store = Store.open("features.bb")
    (feature_space,) = store.spaces()
    (segment,) = store.segments(feature_space)
    assert len(segment.damaged) == 3 and all("damaged" not in origin for origin in segment.origins)


def test_refused_they_are_named_like_unreadable_ones(call, folder):
    status, out, err = extract(call, folder, "--damaged", "refuse")
    assert status == 1 and "4 computed" in out and "3 failed" in out
    assert f"  cut.jpg: damaged: {PREMATURE}" in err and "embedded as decoded" not in err
    status, out, _ = extract(call, folder)
    assert status == 0 and "4 were there, 3 computed" in out
    _, _, err = extract(call, folder, "--damaged", "refuse")
    assert "3 images are damaged and embedded before, without --damaged refuse; the rows stay" in err


def test_all_decoders_embed_and_name_the_same(call, folder):
    said = {}
    for decoder in ("simplejpeg", "pillow"):
        status, out, _ = extract(call, folder, "--decode", decoder, "--json")
        said[decoder] = [json.loads(out)[0][key] for key in ("computed", "failed", "damaged")]
        assert status == 0 and said[decoder][2].keys() == {"cut.jpg", "half.jpg", "mark.jpg"}
    assert said["simplejpeg"] == said["pillow"]


def test_the_settings_file_may_refuse_them(call, folder, own_place, monkeypatch):
    (own_place / "bb.toml").write_text('damaged = "refuse"\n')
    assert "3 failed" in extract(call, folder)[1]
    monkeypatch.setenv("BB_DAMAGED", "embed")
    assert "3 damaged" in extract(call, folder)[1]


@pytest.mark.parametrize("option, value", [("--damaged", "keep"), ("--depth", "7"), ("--depth", "17")])
def test_other_words_are_refused(call, folder, option, value):
    status, _, err = extract(call, folder, option, value)
    assert status == 2 and f"'{value}'" in err


def test_data_check_finds_what_extract_would(call, folder):
    (folder / "text.jpg").write_bytes(b"no image")
    status, out, _ = call("data", "check", f"pics={folder}")
    assert status == 1 and "1 problems" in out and "text.jpg: no JPEG, PNG" in out
    status, out, _ = call("data", "check", f"pics={folder}", "--decode")
    assert status == 1 and "8 images" in out and "4 problems" in out
    assert f"  mark.jpg: damaged: {PREMATURE}" in out and "  text.jpg: no JPEG, PNG" in out


def test_a_run_says_which_of_its_images_are_damaged(call, folder, tmp_path):
    extract(call, folder)
    names = sorted(path.name for path in folder.iterdir())
    pl.DataFrame({"image_id": names, "label": ["a", "b"] * 3 + ["a"]}).write_csv(tmp_path / "l.csv")
    status, out, err = call("probe", "retrieval", "--labels", tmp_path / "l.csv", "--data", "pics", "--no-pairs")
    assert status == 0
    assert f"3 of its images are damaged and embedded as decoded: cut.jpg ({PREMATURE})" in out + err
    (run,) = Store.open("features.bb").runs()
    assert run.record["damaged"]["count"] == 3 and run.record["damaged"]["images"]["mark.jpg"] == PREMATURE
    status, out, err = call("report", "retrieval", "--labels", tmp_path / "l.csv")
    assert status == 0 and f"{VIT}: 3 of its images are damaged and embedded as decoded: cut.jpg" in out + err


@pytest.mark.parametrize("verb", ["head", "rerank"])
def test_what_is_learned_from_damaged_images_says_so_first(call, folder, tmp_path, verb):
    extract(call, folder)
    names = sorted(path.name for path in folder.iterdir())
    split = ["train"] * 4 + ["test"] * 3
    pl.DataFrame({"image_id": names, "label": ["a", "b"] * 3 + ["a"], "split": split}).write_csv(tmp_path / "l.csv")
    _, _, err = call("probe", verb, "--labels", tmp_path / "l.csv", "--data", "pics")
    assert f"note: 3 of its images are damaged and embedded as decoded: cut.jpg ({PREMATURE})" in err


def test_sound_images_have_no_such_words(call, folder):
    for name in ("cut.jpg", "half.jpg", "mark.jpg"):
        (folder / name).unlink()
    status, out, err = extract(call, folder)
    assert status == 0 and "damaged" not in out + err


def test_twelve_bits_in_sixteen_are_said_and_a_space_of_their_own(call, tmp_path):
    (tmp_path / "im").mkdir()
    grey = np.random.default_rng(0).integers(0, 4000, (60, 60)).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "im" / "x.png")
    _, _, err = extract(call, tmp_path / "im")
    assert "x.png: 16-bit samples go up to" in err and "give --depth 12" in err
    status, out, err = extract(call, tmp_path / "im", "--depth", "12")
    assert status == 0 and "1 computed" in out and "16-bit samples" not in err
    store = Store.open("features.bb")
    assert {each.view["depth_16_bit"] for each in store.spaces()} == {"high byte", "12 bits"}
    status, out, _ = call("store", "verify", "--recompute", 1, "--data", f"pics={tmp_path / 'im'}")
    assert status == 0, out


MIXED = {
    "a.JPG": photograph(0),
    "b.jfif": photograph(1),
    "c.jpe": photograph(2),
    "noending": photograph(3),
    "d.data": picture(4),
    "e.CR2": b"II*\0\x10\0\0\0CR" + bytes(90),
    "f.nef": b"II*\0" + bytes(90),
    "g": b"II*\0\x10\0\0\0CR" + bytes(90),
    "h.jp2": bytes(30),
    "labels.csv": b"image_id,label\n",
    "sub/i.xmp": b"<x/>",
    "Thumbs.db": bytes(9),
    "notes": b"BMW, not BMP",
    "empty": b"",
    ".hidden.jpg": photograph(5),
}
TAKEN = ["a.JPG", "b.jfif", "c.jpe", "d.data", "noending"]
PASSED = [
    "3 camera raw files passed over (1 without ending, 1 .cr2, 1 .nef): convert to TIFF or JPEG",
    "1 image in a format that bb does not read passed over (1 .jp2): convert to PNG or JPEG",
    "5 other files passed over (2 without ending, 1 .csv, 1 .db, 1 .xmp)",
]


def test_images_are_known_by_content_and_what_is_passed_over_is_counted(call, tmp_path):
    for name, data in MIXED.items():
        (tmp_path / "im" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "im" / name).write_bytes(data)
    status, out, err = extract(call, tmp_path / "im")
    assert status == 0 and "5 computed" in out
    assert all(f"note: {words}" in err for words in PASSED)
    (version,) = Store.open("features.bb").collections("pics")
    assert version.table["image_id"].to_list() == TAKEN
    status, out, _ = call("data", "check", f"pics={tmp_path / 'im'}")
    assert status == 0 and all(f"note: {words}" in out for words in PASSED)


def test_archives_hold_the_same_images_and_say_the_same_twice(call, tmp_path):
    write_tar(tmp_path / "s.tar", MIXED, beside=False)
    for expected in ("5 computed", "5 were there, 0 computed"):
        status, out, err = call("extract", "--ckpt", VIT, "--data", f"pics={tmp_path / 's.tar'}")
        assert status == 0 and expected in out
        assert all(words in err for words in PASSED)
    (version,) = Store.open("features.bb").collections("pics")
    assert sorted(version.table["image_id"].to_list()) == TAKEN


def test_a_folder_of_raw_files_alone_says_what_to_do(call, tmp_path):
    (tmp_path / "im").mkdir()
    (tmp_path / "im" / "x.NEF").write_bytes(bytes(99))
    status, _, err = extract(call, tmp_path / "im")
    assert status == 2 and "holds no image" in err and "1 camera raw file passed over (1 .nef): convert to TIFF" in err


def test_heic_without_its_extra_is_an_image_that_fails(call, tmp_path, monkeypatch):
    from bb.extract.embedding import images

    images.formats()
    (tmp_path / "im").mkdir()
    Image.new("RGB", (64, 48), "red").save(tmp_path / "im" / "x.HEIC", "HEIF")
    (tmp_path / "im" / "y.jpg").write_bytes(photograph(0))
    monkeypatch.setattr(images, "formats", lambda: images.FORMATS[:7])
    status, out, err = extract(call, tmp_path / "im")
    assert status == 1 and "1 computed" in out
    assert "x.HEIC: a HEIC image, which needs pillow-heif: pip install 'backbone-bench[heif]'" in err


# The store


def digests(n):
    return np.frombuffer(b"".join(hashlib.sha256(bytes([i])).digest() for i in range(n)), np.uint8).reshape(-1, 32)


def test_damage_stays_with_its_rows_through_compaction(tmp_path):
    store, where = Store.create(tmp_path / "s.bb"), space()
    keys = digests(6)
    rows = np.zeros((6, *where.row_shape), where.dtype)
    for begin, damaged in ((0, {1: "one"}), (3, {0: "two", 2: "one"})):
        writer = SegmentWriter(store, where, {"backbone": "x"})
        writer.add(keys[begin : begin + 3], [f"c/{i}" for i in range(3)], rows[begin : begin + 3], damaged)
        writer.close()
    expected = {bytes(keys[1]): "one", bytes(keys[3]): "two", bytes(keys[5]): "one"}
    assert store.damaged(where, keys) == expected
    assert store.damaged(where, keys[:3]) == {bytes(keys[1]): "one"}
    (made,) = compact(store, where).made
    (segment,) = Store.open(store.root).segments(where)
    assert segment.digest == made and Store.open(store.root).damaged(where, keys) == expected
    assert segment.origins[0]["backbone"] == "x" and len(segment.origins) == 1


def test_a_segment_that_is_cut_in_two_keeps_each_rows_damage(tmp_path, monkeypatch):
    monkeypatch.setattr("bb.store.segment_writer.MAX_ROWS", 2)
    store, where = Store.create(tmp_path / "s.bb"), space()
    keys = digests(5)
    writer = SegmentWriter(store, where, {})
    writer.add(
        keys, [f"c/{i}" for i in range(5)], np.zeros((5, *where.row_shape), where.dtype), {0: "a", 3: "b", 4: "c"}
    )
    writer.close()
    assert store.damaged(where, keys) == {bytes(keys[0]): "a", bytes(keys[3]): "b", bytes(keys[4]): "c"}


@pytest.mark.parametrize("said", [None, 3, [], {"x": 3}, {"x": ["1", -1, 9, True, None, 1.0]}, {"x": [{}]}])
def test_what_a_strangers_segment_says_of_damage_is_read_with_care(said):
    assert read_damage({"damaged": said}, 9) == {}


def test_words_of_a_strangers_segment_are_short_and_plain():
    assert read_damage({"damaged": {"\x1b[2J" + "x" * 999: [0]}}, 1) == {0: "?[2J" + "x" * 76}
    assert group_damage({}) == {} and group_damage({3: "b", 1: "b"}) == {"damaged": {"b": [1, 3]}}


def test_the_options_stand_in_the_help():
    assert {"depth", "damaged"} <= set(bb.settings.SETTINGS)
