"""What was sampled from the world, and so what an interval is for further ones of: labels, sequences or images.

Where queries stand in the gallery too (leave-one-out), the images of a label are answers to each other, so a unit is a
label, with all of its images. It is not resampled image by image: that further images of the same labels would score
within some bounds can't be distinguished from one set of images a label, and the interval for further labels, which
vary more, holds for them too. Against a gallery of its own, a unit is a query, or the queries of one sequence. The
column `unit` of the labels says otherwise: a site, for example.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float64, Int64

from bb.probe.retrieval.labels import RetrievalLabels
from bb.probe.retrieval.ranking import NO_MATCH, Ranking
from bb.store.errors import BBError

CELLS = 2**24  # of lists that are scored anew; beyond that, of an even sample of queries


@dataclass(frozen=True, eq=False)
class Units:
    """Of some items.

    code     (n,) the unit of each row
    names    by code
    kind     "label", "sequence", "image", or "unit" where the table has such a column
    shared   whether a unit brings images of the gallery along, so that one more or less changes what others get
    """

    code: Int64[np.ndarray, " n"]
    names: tuple[str, ...]
    kind: str
    shared: bool

    @classmethod
    def of(cls, items: RetrievalLabels) -> "Units":
        """Errors: BBError where queries stand in the gallery and the column `unit` parts a label."""
        frame = items.frame
        shared = bool(frame.select((pl.col("is_query") & pl.col("is_gallery")).any()).item())
        image = pl.col("image_id")
        if "unit" in frame.columns:
            kind, name = "unit", pl.coalesce("unit", image)
            parted = frame.select("label", name.alias("unit")).unique().filter(pl.col("label").is_duplicated())
            if shared and not parted.is_empty():
                label, one, other = parted.sort("label", "unit")["label"][0], *parted.sort("label", "unit")["unit"][:2]
                raise BBError(
                    f"{items.source}: label {label!r} has images in the units {one!r} and {other!r}. Where queries "
                    "are searched among each other, a unit must hold all images of its labels: name coarser units, or "
                    "leave out the column unit, so that labels are the units."
                )
            shared = shared or parted.is_empty()
        elif shared:
            kind, name = "label", pl.col("label")
        elif "sequence" in frame.columns:
            kind, name = "sequence", pl.coalesce("sequence", image)
        else:
            kind, name = "image", image
        values = frame.select(name.alias("unit"))["unit"]
        names = values.unique().sort()
        code = values.replace_strict(names, np.arange(len(names)), return_dtype=pl.Int64).to_numpy()
        return cls(code, tuple(names.to_list()), kind, shared)

    @property
    def largest(self) -> int:
        """Rows of the largest unit."""
        return int(np.bincount(self.code).max())


Score = Callable[[Ranking], Mapping[str, Float64[np.ndarray, " q"]]]


def effects(
    units: Units,
    ranking: Ranking,
    values: Mapping[str, Float64[np.ndarray, " q"]],
    score: Score,
    depth: int,
    every: int,
) -> dict[str, Float64[np.ndarray, " units"]]:
    """By metric, how much the sum of the others' scores changes when a unit's images leave the gallery.

    ranking  at least `depth` plus the largest unit deep, or all there is; values are its scores
    score    scores any ranking
    depth    how far down the metrics look
    every    1 looks at every query, 2 at every second one, which then counts for two
    """
    unit = np.where(ranking.nearest == NO_MATCH, -1, units.code[ranking.nearest])
    own = units.code[ranking.query]
    seen = unit[:, :depth]
    rows, places = np.nonzero((seen >= 0) & (seen != own[:, None]) & (np.arange(len(own)) % every == 0)[:, None])
    pairs = np.unique(rows * len(units.names) + seen[rows, places])
    row, gone = np.divmod(pairs, len(units.names))
    found = {name: np.zeros(len(units.names)) for name in values}
    step = max(1, CELLS // max(1, ranking.nearest.shape[1]) // 16)
    for start in range(0, len(pairs), step):
        part, left = row[start : start + step], gone[start : start + step]
        out = unit[part] == left[:, None]
        order = np.argsort(out, axis=1, kind="stable")[:, :depth]
        nearest = np.take_along_axis(np.where(out, NO_MATCH, ranking.nearest[part]), order, axis=1)
        distance = np.take_along_axis(ranking.distance[part], order, axis=1)
        after = score(Ranking(ranking.query[part], nearest, distance, ranking.relevant[part]))
        for name, value in after.items():
            change = np.nan_to_num(value - values[name][part])
            found[name] += every * np.bincount(left, weights=change, minlength=len(units.names))
    return found


def sample_every(queries: int, units: int, depth: int, deep: int) -> int:
    """What `every` of `effects` keeps its work within CELLS."""
    return max(1, -(-queries * min(units, depth) * deep // CELLS))
