"""Task families by name: NeWT passes the contract's suite, and a family that is wrong is refused with its name."""

import polars as pl
import pytest

from bb.probe.tasks.newt import ARCHIVES
from bb.probe.tasks.registry import TASKS, family_labels
from bb.store.errors import BBError, UsageError
from tests.contracts.family import check
from tests.helpers.labelled import labelled


def test_newt_is_a_family(tmp_path):
    labelled(tmp_path)
    check(TASKS.load("newt"), tmp_path)
    assert TASKS.load("newt").archives == ARCHIVES
    assert family_labels("newt", tmp_path) == tmp_path / "newt2021_labels.csv"


def test_labels_that_are_not_there(tmp_path):
    with pytest.raises(UsageError, match=r"^where are the labels of newt\? Give --data newt=DIR with its images and "):
        family_labels("newt", None)
    with pytest.raises(UsageError, match=r"has no labels of newt: .*newt2021_labels.csv is not there. Fetch it again"):
        family_labels("newt", tmp_path)
    with pytest.raises(UsageError, match=r"^Unknown task family 'coins': choose newt"):
        family_labels("coins", tmp_path)


class Family:
    title, archives = "letters", ()

    def __init__(self, error=None):
        self.error = error

    def labels(self, root):
        if self.error:
            raise self.error
        return pl.DataFrame({"image_id": ["a", "b"], "label": ["x", "y"]})


def test_what_a_family_raises_names_it(monkeypatch, tmp_path):
    family = Family()
    monkeypatch.setattr(TASKS, "load", lambda name: family)
    check(family, tmp_path)
    assert family_labels("newt", tmp_path).height == 2
    family.error = KeyError("letter")
    with pytest.raises(BBError, match=r"can't read the labels in .*: KeyError: 'letter'. Update it, or give --labels "):
        family_labels("newt", tmp_path)
    family.error = BBError("as it is")
    with pytest.raises(BBError, match="^as it is$"):
        family_labels("newt", tmp_path)
