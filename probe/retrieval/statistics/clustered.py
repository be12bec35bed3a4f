"""How sure a mean over queries is, where what was sampled comes in units: labels with all of their images, for example.

Spread. Unit u has n_u queries whose scores add up to t_u; of N queries and K units the mean is m = Σ t_u / N. What the
units' scores vary by (a ratio estimate, Cochran, "Sampling Techniques", 1977, section 2.11) is

    V_s = K / (K - 1) Σ r_u²,    r_u = (t_u - m n_u) / N.

Where queries stand in the gallery too, that is not all: a unit also takes places in the lists of the others. Let e_u be
the sum of the changes in the others' scores when the images of u leave the gallery. The jackknife, which leaves units
out of queries and gallery alike, has

    V_j = (K - 1) / K Σ (m_-u - mean)²,    m_-u = (Σ t - t_u + e_u) / (N - n_u).

Say that m is made of parts of single units, of variance a, and of parts of pairs of units that take each other's
places, of variance b: Var m = a + b. A pair's part stands half in the scores of each of the two, so E V_s = a + b/2;
and it goes with either of them, so E V_j = a + 2b (the jackknife counts parts of k units k times: Efron and Stein,
Annals of Statistics 9, 1981). Hence V = (2 V_s + V_j) / 3.

Interval. Scores are between 0 and c, which is taken from the highest one (precision@5 can't exceed 4/5 where there are
4 to be found). Of μ = m/c the interval is Agresti and Coull's (The American Statistician 52, 1998), t with K - 1
degrees of freedom, with the effective number of queries n = μ (1 - μ) c² / V: that many independent right or wrong
answers would vary as much (for clustered samples: Korn and Graubard, Survey Methodology 24, 1998; Dean and Pagano,
Journal of Survey Statistics and Methodology 3, 2015). Its centre is p = (n μ + t²/2) / (n + t²), its half width
t √(p (1 - p) / (n + t²)). It leans to the side where there is room, contains Wilson's and so always m, and grows with
t. Wilson's is as good in the middle, but too short near 0 and c: of 100 answers that are right with chance 0.99 it
contains the chance in 92%.

Near 0 or c few units say anything of V. With f the number of units that share in what is missing to c, as
(Σ x_u)² / Σ x_u², n is computed as if there were half a unit more of score 0, weighted by 1 / (1 + f); likewise at the
other end. For K units without a single miss that leaves n = K - 1: were units all right or all wrong, no more is known.

Difference. From Wilson's interval of both and the correlation ρ of the means, by Newcombe's square-and-add (Statistics
in Medicine 17, 1998, method 10; Zou and Donner, Statistics in Medicine 27, 2008): with l, u the distances to the
bounds,

    d - √(l₁² + u₂² - 2 ρ l₁ u₂),    d + √(u₁² + l₂² - 2 ρ u₁ l₂).

p is 1 less the level at which that interval begins to hold 0, so a test never says otherwise than its interval.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int
from scipy.special import stdtr, stdtrit

LEVEL = 0.95
MIN_UNITS = 5  # with fewer, nothing was shown to hold
ENDS = 1e-12  # a variance or a distance to an end below this is rounding


class Bounds(NamedTuple):
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Clustered:
    """One metric's scores of some models on the same queries, added up by unit.

    total   (models, units) t
    count   (units,) n
    effect  (models, units) e; zeros where the gallery stays as it is
    top     (models,) c
    """

    total: Float64[np.ndarray, "models units"]
    count: Float64[np.ndarray, " units"]
    effect: Float64[np.ndarray, "models units"]
    top: Float64[np.ndarray, " models"]

    @classmethod
    def of(
        cls,
        unit: Int[np.ndarray, " q"],
        scores: Float64[np.ndarray, "models q"],
        effect: Float64[np.ndarray, "models q"] | None = None,
    ) -> "Clustered":
        """From queries.

        unit    any codes
        scores  between 0 and 1, none NaN
        effect  e of the unit, dealt to its queries in any way
        """
        _, place = np.unique(unit, return_inverse=True)
        units = int(place.max(initial=-1)) + 1

        def added(values: Float64[np.ndarray, "models q"]) -> Float64[np.ndarray, "models units"]:
            return np.stack([np.bincount(place, weights=row, minlength=units).astype(float) for row in values])

        count = np.bincount(place, minlength=units).astype(float)
        effects = np.zeros((len(scores), units)) if effect is None else added(effect)
        return cls(added(scores), count, effects, scores.max(axis=1, initial=0))

    @property
    def units(self) -> int:
        return len(self.count)

    @property
    def enough(self) -> bool:
        """Whether there are units enough for any interval or test."""
        return self.units >= MIN_UNITS

    @cached_property
    def mean(self) -> Float64[np.ndarray, " models"]:
        return self.total.sum(axis=1) / self.count.sum()

    def variance(self, sign: Float64[np.ndarray, " models"]) -> tuple[float, float]:
        """V, and V_s, of the sum of the means by these signs: one model, or one less another."""
        total, effect, count, k = sign @ self.total, sign @ self.effect, self.count, self.units
        of_scores = (total - total.sum() / count.sum() * count) / count.sum()
        v_s = k / (k - 1) * float((of_scores**2).sum())
        if not effect.any():
            return v_s, v_s
        without = (total.sum() - total + effect) / (count.sum() - count)
        v_j = (k - 1) / k * float(((without - without.mean()) ** 2).sum())
        return (2 * v_s + v_j) / 3, v_s

    @cached_property
    def effective(self) -> Float64[np.ndarray, " models"]:
        """n of each model."""
        return np.array([self._effective(model) for model in range(len(self.mean))])

    def _effective(self, model: int) -> float:
        k, mean_count = self.units, self.count.mean()
        share = self.total[model] / max(self.top[model], ENDS) / mean_count
        weight = self.count / mean_count
        at_0, at_1 = (0.5 / (1 + _participation(part)) for part in (weight - share, share))
        mean = (share.sum() + at_1) / (k + at_0 + at_1)
        spread = ((share - weight * mean) ** 2).sum() + at_0 * mean**2 + at_1 * (1 - mean) ** 2
        variance, of_scores = self.variance(np.eye(len(self.mean))[model])
        gallery = variance / of_scores if of_scores > ENDS**2 else 1.0
        return float((k - 1) * (k + at_0 + at_1) * mean * (1 - mean) / (spread * gallery))

    def interval(self, model: int, level: float = LEVEL) -> Bounds:
        """Of a model's mean."""
        return self._at(model, self._t(level))

    def difference(self, first: int, second: int, level: float = LEVEL) -> Bounds:
        """Of one model's mean less another's."""
        return self._apart(first, second, self.correlation(first, second), self._t(level))

    def p(self, first: int, second: int) -> float:
        """Of the two being equally good, two-sided."""
        if abs(self.mean[first] - self.mean[second]) < ENDS:
            return 1.0
        rho = self.correlation(first, second)
        low, high = 0.0, 1e6
        for _ in range(80):
            t = (low + high) / 2
            bounds = self._apart(first, second, rho, t)
            low, high = (low, t) if bounds.low <= 0 <= bounds.high else (t, high)
        return float(2 * stdtr(self.units - 1, -high))

    def correlation(self, first: int, second: int) -> float:
        """ρ; 0 where one of the two does not vary."""
        eye = np.eye(len(self.mean))
        one, other, both = (self.variance(sign)[0] for sign in (eye[first], eye[second], eye[first] - eye[second]))
        scale = float(np.sqrt(one * other))
        return float(np.clip((one + other - both) / 2 / scale, -1, 1)) if scale > ENDS**2 else 0.0

    def _t(self, level: float) -> float:
        return float(stdtrit(self.units - 1, (1 + level) / 2))

    def _at(self, model: int, t: float) -> Bounds:
        n, top, p = self._share(model)
        centre = (n * p + t * t / 2) / (n + t * t)
        half = t * float(np.sqrt(centre * (1 - centre) / (n + t * t)))
        return Bounds(top * max(0.0, min(centre - half, p)), top * min(1.0, max(centre + half, p)))

    def _wilson(self, model: int, t: float) -> Bounds:
        n, top, p = self._share(model)
        centre = (n * p + t * t / 2) / (n + t * t)
        half = t * float(np.sqrt(p * (1 - p) * n + t * t / 4)) / (n + t * t)
        return Bounds(top * max(0.0, min(centre - half, p)), top * min(1.0, max(centre + half, p)))

    def _share(self, model: int) -> tuple[float, float, float]:
        """The effective number of queries, the highest score, and the mean's share of it."""
        top = float(self.top[model])
        top = top if top > ENDS else 1.0  # where every score is 0, nothing says what could be reached
        return float(self.effective[model]), top, min(1.0, float(self.mean[model]) / top)

    def _apart(self, first: int, second: int, rho: float, t: float) -> Bounds:
        d = float(self.mean[first] - self.mean[second])
        one, other = self._wilson(first, t), self._wilson(second, t)
        down = self.mean[first] - one.low, other.high - self.mean[second]
        up = one.high - self.mean[first], self.mean[second] - other.low
        below, above = (float(np.sqrt(max(a * a + b * b - 2 * rho * a * b, 0))) for a, b in (down, up))
        return Bounds(max(-1.0, d - below), min(1.0, d + above))


def _participation(values: Float64[np.ndarray, " units"]) -> float:
    """How many share in the sum: all if they are equal, one if the others are 0; 0 if all are."""
    values = values.clip(0)
    total = float(values.sum())
    return total**2 / float((values**2).sum()) if total > ENDS * len(values) else 0.0
