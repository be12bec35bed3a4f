"""Two runs side by side: in what their inputs differ, and on which tasks and images their outcomes do."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from bb.store.errors import BBError, UsageError
from bb.store.files.canonical_json import canonical_json
from bb.store.format.space import short
from bb.store.local.runs import Run, by_precedence

INPUTS = (
    *("tasks", "collection_name", "collection", "test_set", "backbones", "space", "adopted", "protocol", "parameters"),
    *("classifier", "n_train", "seed", "backend", "backend_version"),
)
PROVENANCE = ("commit", "versions", "extraction")
LISTED = 20  # images in words; JSON has all
OUTCOME = ("y_pred", "score")


@dataclass(frozen=True)
class Difference:
    """Of the second run from the first.

    inputs    field → (theirs, ours) in words, of those that differ; provenance likewise
    train     training rows (task, image) that only one of them has: (first alone, second alone)
    common    (task, image) pairs that both were tested on; alone: of the first and of the second only
    tasks     a row for each task of both: task, first and second (mean scores), changed (predictions that differ)
    images    a row for each common pair whose outcome differs: task, image_id, y_true, first, second (y_pred)
    decision  the greatest distance between decisions on common pairs
    """

    a: Run
    b: Run
    inputs: dict[str, tuple[str, str]]
    provenance: dict[str, tuple[str, str]]
    train: tuple[int, int]
    common: int
    alone: tuple[int, int]
    tasks: pl.DataFrame
    images: pl.DataFrame
    decision: float

    def record(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "runs": [self.a.run_id, self.b.run_id],
            "digests": [self.a.digest, self.b.digest],
            "inputs": {name: list(pair) for name, pair in self.inputs.items()},
            "provenance": {name: list(pair) for name, pair in self.provenance.items()},
            "train_alone": list(self.train),
            "test_common": self.common,
            "test_alone": list(self.alone),
            "greatest_difference_of_decisions": self.decision,
            "tasks": self.tasks.to_dicts(),
            "images": self.images.to_dicts(),
        }

    def _class(self, task: str, value: int | float) -> str:
        """A class by its name, where the run knows it; its number else."""
        names = _dict(self.a.record.get("class_names")).get(task)
        if isinstance(names, list) and value == int(value) and 0 <= value < len(names):
            return str(names[int(value)])
        return f"{value:g}"

    def lines(self) -> Iterator[str]:
        """In words for a person."""
        yield f"run {short(self.a.run_id)} against {short(self.b.run_id)}"
        if self.a.digest == self.b.digest:
            yield "they are the same file"
        for what, found in (("inputs", self.inputs), ("provenance", self.provenance)):
            yield f"{what}: {'no field differs' if not found else f'{len(found)} differ'}"
            yield from (f"  {name}: {first} against {second}" for name, (first, second) in found.items())
        yield f"training rows: {_alone(self.train)}"
        yield f"test rows: {self.common} in both; {_alone(self.alone)}"
        changed = self.tasks.filter(pl.col("changed") > 0)
        if changed.is_empty():
            yield f"outcomes: the same on all; decisions differ by {self.decision:.3g} at most"
            return
        yield f"outcomes differ on {len(self.images)} rows of {len(changed)} tasks (of {len(self.tasks)}):"
        for task, first, second, count in changed.sort("changed", "task", descending=[True, False]).iter_rows():
            yield f"  {task}: {count} predictions; score {first:.3f} against {second:.3f}"
        for task, image_id, y_true, first, second in self.images.head(LISTED).iter_rows():
            known, one, other = (self._class(task, value) for value in (y_true, first, second))
            yield f"    {task}, {image_id}: class {known}, predicted {one} against {other}"
        if len(self.images) > LISTED:
            yield f"    and {len(self.images) - LISTED} more, which --json lists"


def find_run(runs: Sequence[Run], word: str) -> Run:
    """The run whose ID or digest begins so; of several files of one run the first by precedence.

    Errors: UsageError where that is none or several.
    """
    found = [run for run in runs if word and run.run_id.startswith(word)]
    found = found or [run for run in runs if word and run.digest.startswith(word)]
    if len({run.run_id for run in found}) != 1:
        what = f"begins the IDs of {len({run.run_id for run in found})} runs" if found else "begins no run's ID"
        raise UsageError(f"{word!r} {what}: `bb report -v` shows them.")
    return by_precedence(found)[0]


def compare(a: Run, b: Run) -> Difference:
    """Errors: BBError where a run is damaged."""
    ours, theirs = ({**run.record, **_dict(run.record["provenance"])} for run in (a, b))
    keys = ["task", "image_id"]
    first, second = (_answers(run, keys) for run in (a, b))
    both = first.join(second, on=keys, suffix="_b").sort(keys)
    both = both.with_columns(changed=pl.any_horizontal(pl.col(c).ne_missing(pl.col(f"{c}_b")) for c in OUTCOME))
    tasks = both.group_by("task").agg(
        pl.col("score").mean().alias("first"), pl.col("score_b").mean().alias("second"), pl.col("changed").sum()
    )
    images = both.filter("changed").select(
        "task", "image_id", "y_true", pl.col("y_pred").alias("first"), pl.col("y_pred_b").alias("second")
    )
    apart = (both["decision"] - both["decision_b"]).abs().max()
    return Difference(
        a,
        b,
        inputs=_differing(ours, theirs, INPUTS),
        provenance=_differing(ours, theirs, PROVENANCE),
        train=_only(a.train(keys), b.train(keys), keys),
        common=len(both),
        alone=_only(first, second, keys),
        tasks=tasks.sort("task"),
        images=images,
        decision=float(apart) if isinstance(apart, float) else 0.0,
    )


def _answers(run: Run, keys: list[str]) -> pl.DataFrame:
    """Errors: BBError where a key is there twice, of which a join would make any number of rows."""
    table = run.predictions((*keys, "y_true", "y_pred", "score", "decision"))
    if table.select(keys).is_duplicated().any():
        raise BBError(f"run {run.describe()} is damaged: it has two answers for one image. Move {run.folder} away.")
    return table


def _only(one: pl.DataFrame, other: pl.DataFrame, keys: list[str]) -> tuple[int, int]:
    return len(one.join(other, on=keys, how="anti")), len(other.join(one, on=keys, how="anti"))


def _alone(counts: tuple[int, int]) -> str:
    first, second = counts
    return "the same" if not first and not second else f"{first} in the first only, {second} in the second only"


def _differing(ours: dict[str, Any], theirs: dict[str, Any], fields: Sequence[str]) -> dict[str, tuple[str, str]]:
    found = {}
    for field in fields:
        for name, one, other in _leaves(field, ours.get(field), theirs.get(field)):
            found[name] = (_words(one), _words(other))
    return found


def _leaves(name: str, one: Any, other: Any) -> Iterator[tuple[str, Any, Any]]:
    """The parts that differ, by path."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys(), key=str):
            yield from _leaves(f"{name}.{key}", one.get(key), other.get(key))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for place, (first, second) in enumerate(zip(one, other, strict=True)):
            yield from _leaves(f"{name}[{place}]" if len(one) > 1 else name, first, second)
    elif canonical_json(one) != canonical_json(other):
        yield name, one, other


def _words(value: Any) -> str:
    return "nothing" if value is None else value if isinstance(value, str) else canonical_json(value).decode()


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
