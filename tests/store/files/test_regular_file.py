"""Files that a person names: read without waiting for ever, replaced whole or not at all."""

import os
import resource
from pathlib import Path

import pytest

from bb.probe.retrieval.loggers.base import open_logger
from bb.store import Store
from bb.store.errors import BBError, UsageError
from bb.store.files.regular_file import read_regular, replace_file, replace_files
from bb.store.signing.key import make_key


def test_no_more_is_read_than_asked_for_and_nothing_but_files(tmp_path):
    (tmp_path / "f").write_bytes(b"abcdef")
    assert read_regular(tmp_path / "f", 3) == b"abcd"
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match="not a file"):
            read_regular(path, 3)


def test_a_file_keeps_its_permissions_and_a_link_is_not_followed(tmp_path):
    path, link = tmp_path / "f", tmp_path / "link"
    path.write_bytes(b"old")
    path.chmod(0o640)
    link.symlink_to(path)
    replace_file(link, b"by the link")
    assert path.read_bytes() == b"old" and not link.is_symlink() and link.read_bytes() == b"by the link"
    replace_file(path, b"new")
    assert path.read_bytes() == b"new" and path.stat().st_mode & 0o777 == 0o640
    replace_file(tmp_path / ("x" * 250), b"a long name")
    assert len(list(tmp_path.iterdir())) == 3


def test_a_device_or_a_pipe_is_not_replaced(tmp_path):
    """Whose name would be lost to all of the machine where root does it."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/null")
    for name, what in (("pipe", "is a pipe"), ("link", "is a device"), (".", "is a folder")):
        with pytest.raises(BBError, match=f"{what}, not a file: name a file"):
            replace_files({tmp_path / "f": b"x", tmp_path / name: b"x"})
    assert (tmp_path / "link").is_symlink() and (tmp_path / "pipe").is_fifo() and not (tmp_path / "f").exists()


def test_several_are_written_or_none(tmp_path):
    for name in "ab":
        (tmp_path / name).write_bytes(b"old")
    _, hard = before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(BBError, match=r"/b can't be written \(File too large\): make room .* is as it was"):
            replace_files({tmp_path / "a": b"new", tmp_path / "b": bytes(200)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {"a": b"old", "b": b"old"}


def test_a_folder_that_is_gone_is_named(tmp_path):
    with pytest.raises(BBError, match="gone/f can't be written"):
        replace_file(tmp_path / "gone" / "f", b"")


def test_nothing_is_written_into_a_store(tmp_path):
    """Nor a store into another: what a store holds is read, copied and signed."""
    store = Store.create(tmp_path / "features.bb")
    (tmp_path / "link").symlink_to(store.root / "spaces")
    before = sorted(store.root.rglob("*"))
    for path in (store.root / "page.html", store.root / "spaces" / "new" / "x", tmp_path / "link" / "x"):
        with pytest.raises(UsageError, match=r"is in the store .*features\.bb, which only bb writes to"):
            replace_file(path, b"")
    with pytest.raises(UsageError, match="the new store .* is in the store"):
        Store.create(store.root / "spaces" / "inner")
    with pytest.raises(UsageError, match="the private key .* is in the store"):
        make_key(store.root / "key.pem")
    with pytest.raises(UsageError, match="--log tensorboard:.* is in the store"):
        open_logger(f"tensorboard:{store.root}/events")
    assert sorted(store.root.rglob("*")) == before
    replace_file(tmp_path / "beside", b"")


def test_links_in_a_circle_are_named_as_what_they_are(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(BBError, match=r"a/page\.html can't be written \(Too many levels of symbolic links\)"):
        replace_file(tmp_path / "a" / "page.html", b"")
