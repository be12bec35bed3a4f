"""Which models lead in each part of a board, and where the data say that one is the best.

The highest score of a part is compared with every other one there. That it was chosen by the data costs nothing: where
models are equally good, the difference between the first and the second by rank is significant at level alpha in no
more than alpha of all cases, as if the two had been named before (Hung and Fithian, Annals of Statistics 47, 2019).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np

from bb.probe.statistics.bootstrap import Resampled
from bb.probe.statistics.comparison import PERMUTATIONS, PERMUTATIONS_A_PAIR, Correction, adjust, differences
from bb.probe.statistics.predictions import Table

Lead = Literal["best", "tied"]


def leaders(
    parts: Mapping[str, tuple[Table, Resampled]],
    columns: Iterable[Sequence[int]],
    correction: Correction = "holm",
    alpha: float = 0.05,
) -> dict[int, dict[str, Lead]]:
    """Of each model, by its place, the parts that it leads: "best" where all others of its column are called different
    from it, "tied" where the highest score or one that is not called different from it.

    parts    what is compared in each, by name; one without intervals has no leader
    columns  places of the models that are compared with each other; p-values are corrected for all parts of a column
    """
    found: dict[int, dict[str, Lead]] = defaultdict(dict)
    known = {name: part for name, part in parts.items() if not part[1].reason and not np.isnan(part[1].estimate).any()}
    for places in columns:
        tops = {name: max(places, key=lambda m: some.estimate[m]) for name, (_, some) in known.items()}
        others = {name: [place for place in places if place != top] for name, top in tops.items()}
        flips = max(PERMUTATIONS, PERMUTATIONS_A_PAIR * sum(map(len, others.values())))
        p = [
            differences(*known[name], pairs=[(place, top) for place in others[name]], permutations=flips).p
            for name, top in tops.items()
            if others[name]
        ]
        if not p:
            continue
        same = np.split(adjust(np.concatenate(p), correction) > alpha, np.cumsum([len(each) for each in p])[:-1])
        for (name, top), tied in zip(tops.items(), same, strict=True):
            found[top][name] = "tied" if tied.any() else "best"
            for place in np.array(others[name])[tied].tolist():
                found[place][name] = "tied"
    return dict(found)
