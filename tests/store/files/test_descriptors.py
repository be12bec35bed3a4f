"""Few descriptors (`ulimit -n 64`): fewer things at a time, never "Too many open files"."""

import errno
import json
import os
import resource
import subprocess
import sys
import threading
from contextlib import contextmanager

import numpy as np
import pytest

from bb.store import BBError, Store
from bb.store.files.descriptors import LONGEST_WAIT, RESERVED, fitting, in_use, limit, retry
from tests.helpers.full_store import tree
from tests.helpers.stores import features, images, space

LIMITED = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
import bb
for words in json.loads(sys.argv[2]):
    sys.argv = ["bb", *map(str, words)]
    try:
        bb.main()
    except SystemExit as ended:
        if ended.code:
            raise
"""


def limited(descriptors, *verbs):
    """Command lines of bb, one after another, in a process that may have so many files open."""
    command = [sys.executable, "-c", LIMITED, str(descriptors), json.dumps(verbs, default=str)]
    return subprocess.run(command, capture_output=True, text=True)


@contextmanager
def at_most(descriptors, *, held=0):
    """So many files beside those that are open now and the `held` that this opens."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    kept = [os.open("/", os.O_RDONLY) for _ in range(held)]
    free = [os.open("/", os.O_RDONLY) for _ in range(descriptors)]
    for descriptor in free:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(free) + 1, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in kept:
            os.close(descriptor)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """120 segments of one row each."""
    made = Store.create(tmp_path_factory.mktemp("many") / "a.bb")
    pics = made.put_collection(images(120))
    for i, key in enumerate(pics.all_digests()):
        made.put_segment(space(), key[None], [f"pics/{i}"], features(space(), 1, seed=i), {"backbone": "timm:x"})
    return made


@pytest.mark.e2e
def test_push_and_pull_with_more_jobs_than_descriptors(many, tmp_path):
    there, here = tmp_path / "there.bb", tmp_path / "here.bb"
    done = limited(
        64,
        ("store", "push", there, "--store", many.root, "--jobs", 32),
        ("store", "pull", there, "--store", here, "--jobs", 32),
        ("store", "verify", "--store", here),
        ("store", "compact", "--store", here),
    )
    assert done.returncode == 0, done.stderr
    assert tree(there) == tree(many.root)


@pytest.mark.parametrize("held", [0, 60])
def test_arrays_of_many_segments_at_once(many, held):
    """Memory maps hold descriptors; what has no room is read into memory, however much else is open."""
    with at_most(30, held=held):
        segments = many.segments(space())
        arrays = [segment.array(space().array) for segment in segments]
        ids = many.collections("pics")[0].table["image_id"].to_list()
        rows = Store.open(many.root).read(space(), many.collections("pics")[0], ids)
    assert len(arrays) == 120 and len(rows) == 120
    expected = {features(space(), 1, seed=i).tobytes() for i in range(120)}
    assert {np.asarray(array).tobytes() for array in arrays} == expected
    assert not any(array.flags.writeable for array in arrays)


def test_a_folder_of_images_is_scanned_by_fewer_threads(tmp_path):
    from bb.extract.data.scan import HashMemory, scan

    for i in range(300):
        (tmp_path / f"{i:03d}.png").write_bytes(b"no image %d" % i)
    files = {f"{i:03d}.png": tmp_path / f"{i:03d}.png" for i in range(300)}
    with at_most(25), HashMemory.open(None) as memory:
        found = scan(files, memory, threads=64)
    assert len(found.entries) == 300 and not found.failed


def test_threads_fit_the_descriptors_that_are_free(monkeypatch):
    assert 3 <= in_use() < limit()
    monkeypatch.setattr("bb.store.files.descriptors.limit", lambda: 64)
    monkeypatch.setattr("bb.store.files.descriptors.in_use", lambda: 64 - RESERVED - 43)
    assert [fitting(100, each=8), fitting(3, each=8), fitting(100, each=44), fitting(0, each=1)] == [5, 3, 1, 1]


def test_a_shortage_that_passes_is_waited_for():
    held, tried = [], []

    def acquire():
        tried.append(None)
        if len(tried) < 5:
            raise OSError(errno.EMFILE, "Too many open files")
        return os.open("/", os.O_RDONLY)

    held.append(retry(acquire))
    os.close(held[0])
    assert len(tried) == 5
    with at_most(5):
        full = [os.open("/", os.O_RDONLY) for _ in range(5)]
        timer = threading.Timer(0.2, lambda: [os.close(descriptor) for descriptor in full])
        timer.start()
        os.close(retry(lambda: os.open("/", os.O_RDONLY)))
        timer.join()


def test_a_shortage_that_lasts_is_said(monkeypatch):
    def acquire():
        raise OSError(errno.EMFILE, "Too many open files")

    moments = iter(range(0, 1000, int(LONGEST_WAIT) + 1))
    monkeypatch.setattr("bb.store.files.descriptors.time.monotonic", lambda: next(moments))
    with pytest.raises(BBError, match=r"too many open files: .* may have \d+. Raise the limit \(`ulimit -n 1024`\)"):
        retry(acquire)
    with pytest.raises(OSError, match="another"):
        retry(lambda: (_ for _ in ()).throw(OSError(errno.EIO, "another")))
