"""On which file system a store lies, of made-up mount tables; and what a person is told."""

import sys
from pathlib import Path

import pytest

import bb.stores
from bb.store.files.filesystem import filesystem_of
from bb.store.store import Store

TABLE = r"""
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw
22 21 0:20 / /home rw - nfs4 server:/home rw,vers=4.2
23 21 0:21 / /mnt/c rw,noatime - 9p C:\134 rw
24 21 0:22 / /mnt/my\040share rw - cifs //server/share rw
25 22 8:2 / /home/scratch rw shared:2 master:1 - xfs /dev/sdb1 rw
26 21 0:23 / /cloud rw - fuse.sshfs host:/ rw
27 21 8:3 / /windows rw - fuseblk /dev/sdc1 rw
28 21 0:24 / /twice rw - ext4 /dev/sdd rw
29 28 0:25 / /twice rw - tmpfs tmpfs rw
30 21 0:26 / /layer rw - overlay overlay rw
a line that is none
"""


@pytest.mark.parametrize(
    ("folder", "name", "said"),
    [
        ("/features.bb", "ext4", ""),
        ("/homes/a", "ext4", ""),
        ("/home/a/features.bb", "nfs4", "Write to it from one machine at a time"),
        ("/home/scratch/features.bb", "xfs", ""),
        ("/mnt/c/features.bb", "9p", "as /mnt/c in WSL"),
        ("/mnt/my share/features.bb", "cifs", "a name in use may not be renamed"),
        ("/cloud/features.bb", "fuse.sshfs", "a file system in a program: whether a rename is atomic there"),
        ("/windows/features.bb", "fuseblk", ""),
        ("/twice/features.bb", "tmpfs", "memory, which a restart empties"),
        ("/layer", "overlay", "a container's own layer"),
    ],
)
def test_the_kind_and_what_is_not_sure(folder, name, said):
    found = filesystem_of(Path(folder), TABLE)
    assert found.name == name
    assert said in found.caution and bool(said) == bool(found.caution)


def test_where_the_system_says_nothing(tmp_path, monkeypatch):
    assert filesystem_of(tmp_path, "") is None
    monkeypatch.setattr("bb.store.files.filesystem.MOUNTINFO", tmp_path / "none")
    assert filesystem_of(tmp_path) is None


def test_a_link_is_followed(tmp_path):
    (tmp_path / "link").symlink_to("/home/a")
    assert filesystem_of(tmp_path / "link", TABLE).name == "nfs4"


@pytest.fixture
def on_nfs(tmp_path, monkeypatch):
    table = tmp_path / "mountinfo"
    table.write_text("21 1 8:1 / / rw - ext4 /dev/root rw\n22 21 0:20 / / rw - nfs server:/ rw\n")
    monkeypatch.setattr("bb.store.files.filesystem.MOUNTINFO", table)


def test_opening_for_writing_warns_and_reading_does_not(tmp_path, on_nfs, capsys):
    bb.stores.open_store(tmp_path / "s.bb", create=True)
    err = capsys.readouterr().err
    assert err.count("note: ") == 1
    assert f"note: {tmp_path / 's.bb'} is on nfs, another machine may see a new segment late" in err
    bb.stores.open_store(tmp_path / "s.bb")
    assert capsys.readouterr().err == ""


def test_doctor_shows_it(tmp_path, on_nfs, monkeypatch, capsys):
    Store.create(tmp_path / "s.bb")
    monkeypatch.setattr(sys, "argv", ["bb", "doctor", "--store", str(tmp_path / "s.bb")])
    with pytest.raises(SystemExit):
        bb.main()
    assert "nfs: another machine may see a new segment late" in capsys.readouterr().out
