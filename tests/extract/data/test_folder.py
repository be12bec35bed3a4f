"""Folders as people have them: links that lead in, out and round, and files that never end."""

import os
import socket
import sqlite3

import pytest

from bb.extract.data.byte_range import Local, local
from bb.extract.data.scan import HashMemory, find_images, scan
from bb.store import UsageError
from bb.store.files.regular_file import open_regular
from tests.helpers.command_line import VIT, call, own_place
from tests.helpers.shards import picture, write_tar
from tests.helpers.toys import make_images

__all__ = ["call", "own_place"]  # fixtures


@pytest.fixture
def photos(tmp_path):
    """Two photographs in the folder, and two elsewhere."""
    for i, name in enumerate(("photos/a.jpg", "photos/deep/b.jpg", "elsewhere/c.jpg", "elsewhere/deep/d.jpg")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(picture(i))
    return tmp_path / "photos"


def found(folder, **options):
    """Image IDs, and what was said."""
    notes = []
    return list(find_images(folder, announce=notes.append, **options)), notes


def test_links_within_the_folder_are_followed(photos):
    (photos / "again.jpg").symlink_to("a.jpg")
    (photos / ".hidden").mkdir()
    (photos / ".hidden" / "h.jpg").write_bytes(picture(9))
    (photos / "annexed.jpg").symlink_to(".hidden/h.jpg")
    (photos / "shown").symlink_to(".hidden")
    assert found(photos) == (["a.jpg", "again.jpg", "annexed.jpg", "deep/b.jpg", "shown/h.jpg"], [])


def test_links_out_of_the_folder_are_named_and_followed_when_asked(photos, tmp_path):
    (photos / "c.jpg").symlink_to(tmp_path / "elsewhere" / "c.jpg")
    (photos / "more").symlink_to("../elsewhere")
    (photos / "notes.txt").symlink_to("/etc/hostname")  # no image, so nobody misses it
    ids, notes = found(photos)
    assert ids == ["a.jpg", "deep/b.jpg"]
    assert notes == [
        f"2 links not followed, as the target is outside {photos}: c.jpg, more. --follow-links follows them",
        "1 other file passed over (1 .txt)",
    ]
    assert found(photos, follow_links=True) == (
        ["a.jpg", "c.jpg", "deep/b.jpg", "more/c.jpg", "more/deep/d.jpg"], ["1 other file passed over (1 .txt)"]
    )  # fmt: skip


def test_a_folder_whose_name_begins_alike_is_outside(photos):
    (photos.parent / "photos2").mkdir()
    (photos.parent / "photos2" / "x.jpg").write_bytes(picture(0))
    (photos / "x.jpg").symlink_to("../photos2/x.jpg")
    assert found(photos)[0] == ["a.jpg", "deep/b.jpg"]


def test_a_folder_of_nothing_but_links_out_is_said(tmp_path, photos):
    (tmp_path / "farm").mkdir()
    (tmp_path / "farm" / "a.jpg").symlink_to(photos / "a.jpg")
    with pytest.raises(UsageError, match=r"farm holds no image .* 1 link not followed, .*: a.jpg. --follow-links"):
        find_images(tmp_path / "farm")
    assert found(tmp_path / "farm", follow_links=True) == (["a.jpg"], [])


def test_the_folder_itself_may_be_a_link(tmp_path, photos):
    (tmp_path / "alias").symlink_to(photos)
    (photos / "again.jpg").symlink_to(photos / "a.jpg")
    assert found(tmp_path / "alias") == (["a.jpg", "again.jpg", "deep/b.jpg"], [])
    (tmp_path / "newt").mkdir()
    (tmp_path / "newt" / "newt2021_images").symlink_to(photos)
    assert found(tmp_path / "newt") == (["a", "again", "deep/b"], [])


@pytest.mark.parametrize("follow_links", [False, True])
def test_loops_end(photos, follow_links):
    (photos / "up").symlink_to(".")
    (photos / "deep" / "round").symlink_to("../deep")
    (photos / "self").symlink_to("self")
    ids, notes = found(photos, follow_links=follow_links)
    assert ids == ["a.jpg", "deep/b.jpg"]
    assert notes == [
        "2 links to a folder that is read under another path: deep/round, up",
        "1 other file passed over (1 without ending)",
    ]


def test_linked_folders_do_not_multiply(photos):
    for level in range(40):  # 2^40 paths lead to the last of them
        (photos / f"{level}").mkdir()
        for name in ("x", "y"):
            (photos / f"{level}" / name).symlink_to(f"../{level + 1}")
    (photos / "40").mkdir()
    (photos / "40" / "end.jpg").write_bytes(picture(3))
    assert found(photos)[0] == ["40/end.jpg", "a.jpg", "deep/b.jpg"]


def unreadable_kinds(folder):
    os.mkfifo(folder / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as here:
        here.bind(os.path.relpath(folder / "socket.jpg"))
    (folder / "zero.jpg").symlink_to("/dev/zero")
    (folder / "gone.jpg").symlink_to("/nowhere/at/all.jpg")


def test_pipes_sockets_and_devices_are_failures_by_name_and_never_opened(photos):
    unreadable_kinds(photos)
    with HashMemory.open(None) as memory:
        seen = scan(find_images(photos, follow_links=True), memory)
    assert [entry.image_id for entry in seen.entries] == ["a.jpg", "deep/b.jpg"]
    assert seen.failed == {
        "gone.jpg": "can't be read: No such file or directory",
        "pipe.jpg": "is a pipe, not a file",
        "socket.jpg": "is a socket, not a file",
        "zero.jpg": "is a device, not a file",
    }
    for name in seen.failed:
        with pytest.raises(OSError):
            seen.sources[name].read()


def test_a_file_that_turns_into_a_pipe_after_the_first_look(photos, monkeypatch):
    real, regular = os.stat, os.stat(photos / "a.jpg")
    os.mkfifo(photos / "pipe.jpg")
    monkeypatch.setattr(
        os, "stat", lambda path, **how: regular if str(path).endswith("pipe.jpg") else real(path, **how)
    )
    with pytest.raises(OSError, match="is a pipe, not a file"):
        open_regular(photos / "pipe.jpg")


def test_a_file_of_absurd_size_is_a_failure_and_never_read(photos):
    with open(photos / "huge.jpg", "wb") as file:
        file.truncate(2**30 + 1)  # a hole
    with HashMemory.open(None) as memory:
        seen = scan(find_images(photos), memory)
    assert seen.failed == {"huge.jpg": "has 1,073,741,825 bytes, over the limit of 1,073,741,824"}


def test_shards_that_are_no_files_are_refused(call, tmp_path):
    os.mkfifo(tmp_path / "s.tar")
    status, _, err = call("data", "check", f"p={tmp_path / 's.tar'}")
    assert status == 2 and "s.tar': is a pipe, not a file" in err
    shard = local(write_tar(tmp_path / "t.tar", {"a.jpg": picture(0)}))
    (tmp_path / "t.tar").unlink()
    os.mkfifo(tmp_path / "t.tar")  # between the look and the reading
    for read in (lambda: next(shard.stream()), lambda: Local.read(shard, 0, 1)):
        with pytest.raises(OSError, match="is a pipe, not a file"):
            read()


def test_extract_goes_on_past_pipes_and_links(call, photos, tmp_path):
    unreadable_kinds(photos)
    (photos / "c.jpg").symlink_to(tmp_path / "elsewhere" / "c.jpg")
    status, out, err = call("extract", "--ckpt", VIT, "--data", f"p={photos}")
    assert status == 1 and "2 computed" in out
    assert "note: 2 links not followed" in err and "c.jpg, zero.jpg" in err
    assert "pipe.jpg: is a pipe, not a file" in err and "gone.jpg: can't be read" in err
    status, out, err = call("data", "check", f"p={photos}")
    assert status == 1 and "pipe.jpg: is a pipe" in out and "note: 2 links not followed" in out
    status, out, err = call("extract", "--ckpt", VIT, "--data", f"p={photos}", "--follow-links")
    assert status == 1 and "2 were there, 1 computed" in out and "zero.jpg: is a device" in err


def test_links_are_followed_where_bb_toml_says_so(call, photos, tmp_path, own_place):
    (photos / "c.jpg").symlink_to(tmp_path / "elsewhere" / "c.jpg")
    (own_place / "bb.toml").write_text(f'follow_links = true\n[data.p]\nroot = "{photos}"\n')
    status, out, err = call("extract", "--ckpt", VIT)
    assert status == 0 and "3 computed" in out and "not followed" not in err
    assert "p: 3 images in" in call("data", "check")[1]


@pytest.mark.parametrize(
    "entry", ["", "[]", '["zz", 1, 2]', '["00", 1, 2]', "null", "[" * 2000, b"\xff", f'["{"00" * 32}", "8", 8]']
)
def test_what_a_memory_can_t_have_kept_is_hashed_again(tmp_path, entry):
    folder = make_images(tmp_path / "pics", 3)
    file = tmp_path / "hashes.sqlite"
    with HashMemory.open(file) as memory:
        entries = scan(find_images(folder), memory).entries
        with memory.database:
            memory.database.execute("UPDATE file SET entry = ?", (entry,))
    recalled = []
    with HashMemory.open(file) as memory:
        assert scan(find_images(folder), memory, known=recalled.append).entries == entries and recalled[-1] == 0


def test_a_damaged_memory_forgets(tmp_path):
    folder = make_images(tmp_path / "pics", 3)
    file = tmp_path / "hashes.sqlite"
    with HashMemory.open(file) as memory:
        entries = scan(find_images(folder), memory).entries
    data = file.read_bytes()
    file.write_bytes(data[:4096] + bytes(byte ^ 0x55 for byte in data[4096:]))
    with HashMemory.open(file) as memory:
        assert scan(find_images(folder), memory).entries == entries
    file.unlink()
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE file (path TEXT, stat TEXT)")
    database.close()
    with HashMemory.open(file) as memory:
        assert scan(find_images(folder), memory).entries == entries
