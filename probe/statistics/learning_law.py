"""What further labels bring: laws through the accuracies that fewer labels gave.

An inverse power law, a - b m^-c (Cortes et al. 1993, "Learning curves: asymptotic values and rate of convergence"), and
odds that grow as a power. An interval has three parts: the accuracies' errors, by their draws; the exponent c, of which
a few sizes say little (it is drawn from EXPONENTS, those weighted more that fit better); and the luck of more labels.
"""

import numpy as np
from jaxtyping import Float64

EXPONENTS = np.linspace(0.2, 1.2, 11)
LUCK = 0.5  # of a step between the two largest sizes


def forecast(
    sizes: list[int],
    drawn: Float64[np.ndarray, "b s"],
    spread: Float64[np.ndarray, " s"],
    target: int,
    rng: np.random.Generator,
    trainings: int = 1,
) -> Float64[np.ndarray, " b"]:
    """Accuracies at `target` labels of laws through each of b draws, one of them for each draw, by how well it fits.

    sizes   numbers of labels, ascending, at which accuracies were measured
    drawn   draws of those accuracies; spread: their standard errors
    trainings  draws of training images that each accuracy is the mean over, which share the luck of further labels

    Two kinds, half of the weight each: the power law, with an asymptote of at most 1, and odds that grow as a power
    of the number of labels, which is what curves do before they bend. Later sizes count more, as their numbers.
    """
    at, share = np.asarray(sizes, np.float64), np.asarray(sizes) / np.sum(sizes)
    laws = []
    for c in EXPONENTS:
        u, goal = at**-c, target**-c
        centre, level = share @ u, drawn @ share
        slope = np.minimum((drawn * share) @ (u - centre) / (share @ (u - centre) ** 2), 0)
        slope = np.where(level - slope * centre > 1, (level - 1) / centre, slope)  # through 1 and the middle
        top = level - slope * centre
        laws.append((top[:, None] + slope[:, None] * u, top + slope * goal, 1 / len(EXPONENTS)))
    u, goal = np.log(at), np.log(target)
    bounded = np.clip(drawn, 0.5 * spread**2, 1 - 0.5 * spread**2)
    odds = np.log(bounded / (1 - bounded))
    centre, level = share @ u, odds @ share
    slope = np.maximum((odds * share) @ (u - centre) / (share @ (u - centre) ** 2), 0)
    fitted = level[:, None] + slope[:, None] * (u - centre)
    laws.append((_share_of(fitted), _share_of(level + slope * (goal - centre)), 1.0))
    misfit = np.array([(((drawn - fit) / spread) ** 2 * share).sum(axis=1) * len(sizes) for fit, _, _ in laws])
    weight = np.exp(-0.5 * (misfit - misfit.min(axis=0))) * np.array([prior for *_, prior in laws])[:, None]
    weight /= weight.sum(axis=0)
    chosen = (np.cumsum(weight, axis=0) < rng.random(len(drawn))).sum(axis=0)
    made = np.array([value for _, value, _ in laws])[np.minimum(chosen, len(laws) - 1), np.arange(len(drawn))]
    # A classifier of other labels, as many, is a little better or worse: about as far as from one size to the next.
    luck = float(np.abs(np.diff(drawn.mean(axis=0)[-2:])).max(initial=0))
    luck *= LUCK / np.sqrt(trainings)
    return np.clip(made + luck * rng.standard_normal(len(made)), 0, 1)


def _share_of(log_odds: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    return 1 / (1 + np.exp(-log_odds))
