"""A store that can't be written is noticed before the work."""

import errno
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from bb.store import BBError, Store
from bb.store.files.directory import Directory
from bb.store.files.writable import check_writable
from tests.helpers.command_line import VIT, call, newt, own_place

__all__ = ["call", "newt", "own_place"]  # fixtures

NOBODY = 65534


@contextmanager
def as_nobody():
    """Root may write anywhere, so another user tries."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.fixture
def store():
    """A store that its owner alone can write, in a folder that everybody can enter."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        made = Store.create(Path(folder) / "s.bb")
        for name in ("tmp", "runs"):
            (made.root / name).mkdir(exist_ok=True)
        yield made


def test_a_store_that_can_t_be_made_is_refused_before_anything_is_fetched(tmp_path, monkeypatch):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        above = Path(folder) / "theirs"
        above.mkdir()
        check_writable(above / "new" / "s.bb")
        forbid(above)
        with as_nobody(), pytest.raises(BBError, match="nothing can be written to .*theirs: Permission denied"):
            check_writable(above / "new" / "s.bb")
        assert list(above.iterdir()) == []


def test_nothing_is_left_in_a_folder_that_is_no_store(own_place):
    (own_place / "thesis.txt").write_bytes(b"")
    check_writable(own_place)
    assert [path.name for path in own_place.iterdir()] == ["thesis.txt"]


def forbid(path):
    """For whoever tries: everybody else, or the owner where the tests are not run by root."""
    path.chmod(0o755 if os.geteuid() == 0 else 0o555)


def test_a_store_that_can_be_written_is_left_as_it_was(store):
    before = sorted(store.root.rglob("*"))
    store.check_writable("runs", "local", "none")
    assert sorted(store.root.rglob("*")) == before


def test_a_folder_without_permission_is_named(store):
    forbid(store.root / "tmp")
    with (
        as_nobody(),
        pytest.raises(BBError, match=r"nothing can be written to .*s\.bb: Permission denied\. Change its perm"),
    ):
        store.check_writable()
    for name in (".", "tmp"):
        (store.root / name).chmod(0o777)
    forbid(store.root / "runs")
    with as_nobody(), pytest.raises(BBError, match=r"nothing can be written to .*s\.bb/runs: Permission denied"):
        store.check_writable("runs")
    (store.root / "runs").chmod(0o777)
    with as_nobody():
        store.check_writable("runs")


@pytest.mark.parametrize(
    "number, said",
    [
        (
            errno.EROFS,
            "Read-only file system. It is on a read-only file system: copy the store, and name the copy with",
        ),
        (errno.ENOSPC, "No space left on device. The disk is full: make room, or name another place with --store"),
        (errno.EDQUOT, "Disk quota exceeded. Your quota is used up"),
    ],
)
def test_the_remedy_fits_the_reason(store, monkeypatch, number, said):
    refuse(monkeypatch, number)
    with pytest.raises(BBError, match=said):
        check_writable(store.root)


def refuse(monkeypatch, number):
    def create(self, path):
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(Directory, "create", create)


def test_no_verb_works_for_nothing(call, newt, monkeypatch):
    extract = ("extract", "--ckpt", VIT, "--data", f"newt={newt}", "--store", "s.bb")
    assert call(*extract)[0] == 0
    assert call("store", "keygen", "--to", "k.pem")[0] == 0
    (segment,) = {path.name for path in Path("s.bb").glob("spaces/*/segments/*") if path.is_dir()}
    np.save("x.npy", np.ones((1, 4), np.float32))
    Path("ids.csv").write_text("image_id\nsome\n")
    refuse(monkeypatch, errno.EROFS)
    for name in ("hash_images", "_extract_group"):
        monkeypatch.setattr(f"bb.extract.extraction.{name}", lambda *_, **__: pytest.fail("it worked"))
    monkeypatch.setattr("bb.probe.classifiers.exact.Exact.solve", lambda *_, **__: pytest.fail("it worked"))
    for verb in (
        "compact.compact",
        "sign.sign",
        "revoke.revoke",
        "gc.find_garbage",
        "push.plan_push",
        "pull.plan_pull",
    ):
        monkeypatch.setattr(f"bb.verbs.store.{verb}", lambda *_, **__: pytest.fail("it worked"))
    for words in (
        extract,
        (
            "probe",
            "newt",
            "--data",
            "newt",
            "--labels",
            newt / "newt2021_labels.csv",
            "--store",
            "s.bb",
            "--n-train",
            4,
        ),
        *(
            ("store", *verb, "--store", "s.bb")
            for verb in (
                ("compact",),
                ("verify", "--repair"),
                ("gc", "--yes"),
                ("index",),
                ("pull", "s.bb"),
                ("push", "s.bb"),
                ("sign", "--key", "k.pem"),
                ("revoke", "--key", "k.pem", segment),
                ("import", "x.npy", "--ids", "ids.csv", "--name", "lab:net", "--data", "newt"),
            )
        ),
    ):
        status, out, err = call(*words)
        assert status == 1 and not out, words
        assert "nothing can be written to" in err and "s.bb: Read-only file system" in err, words
