"""What is said of work under way: each image counts once, and a rate is one of work that was done."""

import dataclasses

import numpy as np
import pytest

import bb.console
from bb.extract.data.scan import HashMemory, find_images, scan
from bb.extract.embedding.pillow_decoder import Pillow
from bb.extract.extraction import images_per_second
from bb.store import Store
from tests.helpers.toys import Toy, look, make_images, run_all, several


@pytest.fixture
def store(tmp_path):
    return Store.create(tmp_path / "store.bb")


@pytest.fixture
def at(monkeypatch):
    """Sets the clock."""
    now = [0.0]
    monkeypatch.setattr(bb.console.time, "monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, seconds)


def test_no_rate_before_a_second_of_work(at, capsys):
    with bb.console.Progress("fitting", 164, "tasks") as meter:
        at(30)
        meter(1)
        at(30.002)
        meter(138)  # 68,500 a second
        assert not capsys.readouterr().err
        at(32)
        meter(141)
    assert capsys.readouterr().err == "fitting: 141/164 tasks, 70.0 tasks/s, 0 s left\n"


def test_hashing_tells_what_it_remembered(tmp_path):
    folder, memory = make_images(tmp_path / "pics", 40), HashMemory.open(tmp_path / "hashes.sqlite")
    known, done = [], []
    for _ in range(2):
        scan(find_images(folder), memory, known=known.append, progress=done.append)
    assert done == [32, 40, 32, 40] and known == [0, 0, 32, 40]


def test_a_summary_has_no_rate_of_an_instant():
    assert images_per_second(314, 0.004) is None and images_per_second(0, 60.0) is None
    assert images_per_second(314, 2.0) == 157.0


def test_images_count_once_whatever_the_number_of_networks(tmp_path, store):
    folder = make_images(tmp_path / "pics", 20)
    (folder / "007.png").write_bytes(b"no picture")
    found = look(folder)
    jobs = several([Toy(1.0), Toy(2.0), Toy(3.0)], Pillow())
    run_all(store, jobs[:1], dataclasses.replace(found, entries=found.entries[:5]))  # one network lacks fewer
    told = []
    outcomes, _ = run_all(store, jobs, found, progress=lambda outcomes, images: told.append(images))
    assert np.all(np.diff(told) >= 0) and told[-1] == 20
    assert [len(outcome.failed) for outcome in outcomes] == [1, 1, 1]
