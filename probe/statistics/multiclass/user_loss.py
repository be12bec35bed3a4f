"""FungiCLEF's user-focused loss: an unknown species named and a poisonous one taken for edible cost most.

Of n images, with unknown as a class of its own:

loss   (wrong + 10 x unknown taken for known + 0.1 x known taken for unknown
        + 100 x poisonous taken for not poisonous + 1 x not poisonous taken for poisonous) / n
worst  (10 - 1) x unknown / n + 1 + (100 x poisonous + 1 x not poisonous) / n
score  1 - loss / worst

Source: samuelstevens/biobench, src/biobench/fungiclef/metrics.py, after BohemianVRA's FungiCLEF2023/evaluate.py. There
as here "wrong" are images of known classes that are taken for another known class.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

UNKNOWN_AS_KNOWN, KNOWN_AS_UNKNOWN = 10.0, 0.1
POISONOUS_AS_EDIBLE, EDIBLE_AS_POISONOUS = 100.0, 1.0


@dataclass(frozen=True)
class UserLoss:
    """The loss in its two parts, and the greatest that these test images could have had."""

    classification: float
    poison: float
    worst: float

    @property
    def loss(self) -> float:
        return self.classification + self.poison

    @property
    def score(self) -> float:
        return 1 - self.loss / self.worst


def user_loss(
    y_true: Int[np.ndarray, " n"], y_pred: Int[np.ndarray, " n"], unknown: int, poisonous: Bool[np.ndarray, " classes"]
) -> UserLoss:
    """Of at least one image.

    unknown    the class that stands for all unknown ones
    poisonous  of each class; False for unknown
    """
    n = len(y_true)
    is_unknown, says_unknown = y_true == unknown, y_pred == unknown
    wrong = (y_true != y_pred) & ~is_unknown & ~says_unknown
    classification = (
        wrong.sum()
        + UNKNOWN_AS_KNOWN * (is_unknown & ~says_unknown).sum()
        + KNOWN_AS_UNKNOWN * (~is_unknown & says_unknown).sum()
    ) / n
    is_poisonous, says_poisonous = poisonous[y_true], poisonous[y_pred]
    poison = (
        POISONOUS_AS_EDIBLE * (is_poisonous & ~says_poisonous).sum()
        + EDIBLE_AS_POISONOUS * (~is_poisonous & says_poisonous).sum()
    ) / n
    worst = (UNKNOWN_AS_KNOWN - 1) * is_unknown.mean() + 1
    worst += (POISONOUS_AS_EDIBLE * is_poisonous.sum() + EDIBLE_AS_POISONOUS * (~is_poisonous).sum()) / n
    return UserLoss(float(classification), float(poison), float(worst))
