"""FungiCLEF's loss against examples counted by hand."""

import numpy as np
import pytest

from bb.probe.statistics.multiclass.user_loss import user_loss

EDIBLE, FLY_AGARIC, DEATH_CAP, UNKNOWN = range(4)
POISONOUS = np.array([False, True, True, False])


def test_an_example_counted_by_hand():
    y_true = np.array([EDIBLE, EDIBLE, FLY_AGARIC, DEATH_CAP, DEATH_CAP, UNKNOWN, UNKNOWN, EDIBLE])
    y_pred = np.array([EDIBLE, FLY_AGARIC, DEATH_CAP, EDIBLE, UNKNOWN, UNKNOWN, FLY_AGARIC, UNKNOWN])
    found = user_loss(y_true, y_pred, UNKNOWN, POISONOUS)
    # Wrong among known: edible as fly agaric, fly agaric as death cap, death cap as edible. One unknown was named; two
    # known were not. A death cap was eaten twice (as edible, as unknown); two that are not poisonous were feared.
    assert found.classification == pytest.approx((3 + 10 * 1 + 0.1 * 2) / 8)
    assert found.poison == pytest.approx((100 * 2 + 1 * 2) / 8)
    assert found.worst == pytest.approx(9 * 2 / 8 + 1 + (100 * 3 + 1 * 5) / 8)
    assert found.score == pytest.approx(1 - (13.2 + 202) / (18 + 8 + 305))


def test_all_right_is_one():
    y = np.array([EDIBLE, DEATH_CAP, UNKNOWN])
    assert user_loss(y, y, UNKNOWN, POISONOUS).score == 1.0
