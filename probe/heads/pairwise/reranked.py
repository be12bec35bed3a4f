"""What a pairwise model changes: the runs before and after it, and the differences between them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import polars as pl

from bb.probe.heads.pairwise.learn import Learned
from bb.probe.heads.pairwise.model import encode
from bb.probe.retrieval.statistics.paired_tests import Change, QueryEstimate, change, claim, of_runs
from bb.probe.tables.html_table import html_table
from bb.store import FeatureSpace
from bb.store.files.canonical_json import sha256_hex
from bb.store.local.runs import Run

SHOWN = ("cmc@1", "cmc@5", "precision@5", "map@10", "r_precision", "map@r")


@dataclass(frozen=True, eq=False, repr=False)
class Reranked:
    """What a pairwise model changes on one feature space.

    learned  the model, and how it was chosen
    before   the run by distance alone; after: the same with the nearest `top_n` in a new order
    changes  by metric
    """

    backbone: str
    space: FeatureSpace
    top_n: int
    learned: Learned
    before: Run
    after: Run
    changes: Mapping[str, Change]

    @property
    def model(self) -> str:
        """SHA-256 of the model's file."""
        return digest(self.learned)

    @property
    def claim(self) -> str:
        """What intervals and tests are for, in words."""
        return claim(self.after.record.get("units"))

    def __repr__(self) -> str:
        return f"Reranked({self.backbone}: {self.learned.chosen})"

    def _repr_html_(self) -> str:
        return html_table(self.frame(), repr(self))

    def frame(self) -> pl.DataFrame:
        """A row for each metric: means before and after, their difference with its 95% interval (null where there is
        none), p, and the number of queries."""
        return pl.DataFrame(
            [
                {
                    "metric": metric,
                    "before": each.before.mean,
                    "after": each.after.mean,
                    "difference": each.difference.mean,
                    "low": each.difference.low,
                    "high": each.difference.high,
                    "p": each.p,
                    "queries": each.queries,
                }
                for metric, each in self.changes.items()
            ]
        )

    def record(self) -> dict[str, Any]:
        """All of it, JSON-ready."""
        return {
            "backbone": self.backbone,
            "space": self.space.key,
            "model": self.model,
            "chosen": self.learned.chosen,
            "top_n": self.top_n,
            "held_out": self.learned.scores,
            "runs": {"before": self.before.run_id, "after": self.after.run_id},
            "refused": self.learned.refused,
            "claim": self.claim,
            "changes": {metric: asdict(each) for metric, each in self.changes.items()},
        }


def digest(found: Learned) -> str:
    """SHA-256 of the model's file."""
    return sha256_hex(encode(found.model))


def compared(before: Run, after: Run, metrics: Sequence[str] = SHOWN) -> dict[str, Change]:
    """What changed from one run to another of the same test set, by metric; nothing where they are the same run."""
    both = [metric for metric in metrics if metric in before.record["scores"]["tasks"]]
    found = {metric: of_runs([before, after], metric) for metric in both}
    changes = {metric: change(each) for metric, each in found.items() if each is not None}
    if before.run_id == after.run_id:
        nothing = QueryEstimate(0.0, 0.0, 0.0)
        return {metric: replace(each, difference=nothing, p=1.0) for metric, each in changes.items()}
    return changes
