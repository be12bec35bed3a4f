"""Versions of a collection: which one is meant when an image was replaced."""

import hashlib
import os
import re
from datetime import datetime

import pytest

from bb.store import BBError, Collection, Entry, Store
from bb.store.local.choose_version import SeveralVersions, choose_version, version_with

IDS = [f"{i}.jpg" for i in range(8)]


def version(replaced=(), without=()):
    """The eight images; some replaced, some left out."""
    data = {image_id: f"new {image_id}" if image_id in replaced else image_id for image_id in IDS}
    return Collection.from_entries(
        "p",
        [
            Entry(image_id, hashlib.sha256(text.encode()).digest(), 1, 8, 8)
            for image_id, text in data.items()
            if image_id not in without
        ],
    )


OLD, NEW = version(), version(replaced=["3.jpg"])
DAYS = {OLD.digest: datetime(2026, 1, 1, 9, 5), NEW.digest: datetime(2026, 1, 2)}


def recorded(version):
    return DAYS.get(version.digest)


def test_versions_that_agree_serve_as_one_and_the_newest_is_taken():
    for versions in ([OLD, NEW], [NEW, OLD]):
        assert choose_version(versions, ["1.jpg", "2.jpg"], recorded=recorded) is NEW


def test_versions_that_disagree_are_listed_newest_first_with_dates_and_what_differs():
    with pytest.raises(SeveralVersions) as caught:
        choose_version([OLD, NEW], IDS, recorded=recorded)
    assert caught.value.versions == (NEW, OLD)
    head, *lines = str(caught.value).splitlines()
    assert head == (
        "2 versions of collection p disagree on the images asked for. Name the folder, --data p=DIR, for the version "
        "that it holds, or choose one (newest first):"
    )
    assert lines == [
        f"  --data p@{NEW.digest[:12]}  8 images, recorded 2026-01-02 00:00",
        f"  --data p@{OLD.digest[:12]}  8 images, recorded 2026-01-01 09:05, 1 image not as in the first: 3.jpg",
    ]


def test_without_dates_nothing_is_said_of_newest():
    with pytest.raises(SeveralVersions) as caught:
        choose_version([OLD, NEW], IDS)
    assert "newest" not in str(caught.value) and "recorded" not in str(caught.value)


def test_the_version_that_lacks_fewest_is_preferred_and_none_beyond_what_is_tolerated():
    small, smaller = version(without=["0.jpg"]), version(without=["0.jpg", "1.jpg"])
    assert choose_version([small, OLD], IDS) is OLD
    assert choose_version([smaller, small], IDS, tolerated=1) is small
    with pytest.raises(BBError, match="is missing 1 of 8 images: 0.jpg"):
        choose_version([smaller, small], IDS)


def test_the_version_that_a_folder_holds():
    keys = [bytes(key) for key in OLD.digests(IDS)]
    assert version_with([NEW, OLD], IDS, keys) is OLD
    assert version_with([NEW, OLD], IDS, [*keys[:3], None, *keys[4:]]) is NEW  # the one that differs can't be read
    assert version_with([NEW, OLD], IDS, [b"x" * 32, *keys[1:]]) is None


def test_a_store_dates_its_versions_by_their_files(tmp_path):
    store = Store.create(tmp_path / "s.bb")
    for each, when in ((NEW, 2_000_000_000), (OLD, 1_000_000_000)):
        store.put_collection(each)
        os.utime(tmp_path / "s.bb" / "collections" / "p" / f"{each.digest}.parquet", (when, when))
    with pytest.raises(SeveralVersions) as caught:
        store.collection("p", IDS)
    assert re.search(rf"(?s){NEW.digest[:12]}.*recorded 2033.*{OLD.digest[:12]}.*recorded 2001", str(caught.value))
    assert store.collection(f"p@{OLD.digest}", IDS).digest == OLD.digest


def test_a_pull_for_a_probe_names_versions_that_disagree(tmp_path):
    from bb.store.storage.url import open_place
    from bb.store.sync.plan import plan_pull
    from bb.store.sync.selection import Selection
    from tests.helpers.stores import features, fill, space

    source = Store.create(tmp_path / "s.bb")
    for each in (OLD, NEW):
        source.put_collection(each)
        fill(source, space(), each, features(space(), len(each)))

    def notes(data, ids):
        wanted = Selection(data=(data,), task="newt", image_ids=tuple(ids))
        return plan_pull(open_place(source.root), tmp_path / "here.bb", wanted).notes

    (note,) = notes("p", IDS)
    assert "2 versions of collection p disagree on the images of the labels, and the rows of all are copied: p@" in note
    assert not notes("p", IDS[:2]) and not notes(f"p@{OLD.digest}", IDS)
