"""Runs of one table of labels side by side: scores with intervals, and which can't be distinguished from the best."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from typing import Any, get_args

import numpy as np
import polars as pl
from jaxtyping import Shaped

from bb.probe.classification.run import PROTOCOL
from bb.probe.features.extraction import Cost
from bb.probe.run_records import classification_problem
from bb.probe.statistics.comparison import letters
from bb.probe.statistics.multiclass.by_class import Confused, OfClass, by_class, most_confused
from bb.probe.statistics.multiclass.intervals import difference
from bb.probe.statistics.multiclass.metrics import METRICS, MulticlassMetric
from bb.probe.statistics.multiclass.predictions import Predictions
from bb.probe.statistics.multilabel import Traits
from bb.probe.tasks.fold import By
from bb.probe.tasks.registry import family_metrics
from bb.store.errors import BBError, UsageError
from bb.store.format.space import short
from bb.store.local.runs import Run, by_precedence

LEVEL = 0.95
MAX_PAIRS = 1_000  # of runs on a board: where there are more, each is compared with the best alone


@dataclass(frozen=True)
class Row:
    """One run on a board.

    tied   whether the difference to the best run's main metric has an interval that holds 0; None where that is not
           known, and for the best itself. These intervals hold for all compared pairs together (Bonferroni)
    group  letters: two runs share one if their difference's interval holds 0; empty where that is not known of all
    ranks  the best and the worst rank among the runs that those intervals leave; None likewise
    """

    run: Run
    name: str
    metrics: dict[str, dict[str, Any]]
    best: bool = False
    tied: bool | None = None
    group: str = ""
    ranks: tuple[int, int] | None = None

    @property
    def cost(self) -> Cost:
        return Cost.of(self.run.record)

    @property
    def classifier(self) -> str:
        """Its name, with what distinguishes it from others of a protocol: "knn k=20"."""
        setting = (self.run.record.get("published") or {}).get("setting")
        return " ".join(filter(None, (str(self.run.record["classifier"]), setting)))

    @property
    def shots(self) -> Any:
        """Training images of each class that were really used: "all" too where no class has more than asked for."""
        return shots_used(self.run)


@dataclass(frozen=True)
class Board:
    """Runs of one task and side that may be compared: tested on the same images, trained on one pool of labelled ones,
    of one protocol or none. Rows have the best first.

    metric      the main one
    train_pool  a digest of the labelled images that training sets were drawn from; empty where runs do not record it
    title_pool  the beginning of that digest, where boards differ in nothing else that a title says
    protocol    the published one's name; empty for runs of bb's own
    """

    tasks: str
    task: str
    side: str
    split_by: str
    target: str
    metric: str
    n: int
    chance: float | None
    majority: float | None
    classes: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    train_pool: str = ""
    title_pool: str = ""
    protocol: str = ""

    @property
    def guesses(self) -> tuple[tuple[str, float], ...]:
        """What the main metric is to be held against, in words, and what that scores."""
        if self.chance is None or not self.metric.endswith("accuracy"):
            return ()
        common = self.metric == "accuracy" and self.majority is not None and self.majority > self.chance
        return ("chance", self.chance), *([("always the commonest class", float(self.majority or 0))] if common else [])

    @property
    def title(self) -> str:
        where = self.tasks if self.task in (self.tasks, "classify") else f"{self.tasks}, {self.task}"
        record = self.rows[0].run.record
        how = {"column": f"side {self.side}", "time": self.side}.get(self.split_by, f"{self.side}, {self.split_by}")
        seed = record["seed"] if self.split_by in ("random", "group") and not self.protocol else None
        if self.split_by == "protocol":
            how, seed = f"shots {record['n_train']}, seed {record['seed']}", None
        if self.protocol:
            how += f", protocol {self.protocol}"
        of = f", training images and labels {self.title_pool}" if self.title_pool else ""
        return f"{where}: {self.n} images tested, {how}{f', seed {seed}' if seed else ''}{of}"

    def unstated(self, metrics: Sequence[str]) -> list[str]:
        """Why there is no interval of some metrics, and no value of the main one or of numbers, a sentence for each."""
        found = [(name, row.metrics[name]) for row in self.rows for name in metrics if name in row.metrics]
        needed = {self.metric, *(metrics if self.target == "values" else ())}
        without = [
            f"{'no value' if each['value'] is None else 'no interval'}: {each['reason']}"
            for name, each in found
            if each["low"] is None and (each["value"] is not None or name in needed)
        ]
        return list(dict.fromkeys(without))

    def label(self, row: Row) -> str:
        """A run in words: its backbone, and what else tells it from the others of this board."""
        words = [row.name]
        if len({each.classifier for each in self.rows}) > 1:
            words.append(row.classifier)
        for key, name in (("n_train", "shots"), ("seed", "seed")):
            if len({str(each.run.record[key]) for each in self.rows}) > 1:
                words.append(f"{name} {row.run.record[key]}")
        return ", ".join(words)

    def record(self) -> dict[str, Any]:
        """JSON-ready."""
        rows = [
            {
                "name": row.name,
                "run": row.run.run_id,
                "space": row.run.record["space"],
                "classifier": row.classifier,
                "shots": row.shots,
                "seed": row.run.record["seed"],
                "best": row.best,
                "tied": row.tied,
                "group": row.group,
                "ranks": row.ranks,
                "cost": vars(row.cost),
                "metrics": row.metrics,
            }
            for row in self.rows
        ]
        return {
            "tasks": self.tasks,
            "task": self.task,
            "side": self.side,
            "split_by": self.split_by,
            "train_pool": self.train_pool,
            "protocol": self.protocol,
            "target": self.target,
            "metric": self.metric,
            "n": self.n,
            "chance": self.chance,
            "majority": self.majority,
            "classes": list(self.classes),
            "rows": rows,
            "notes": list(self.notes),
        }

    def frame(self) -> pl.DataFrame:
        """A row for each run and metric."""
        rows = [
            {
                "tasks": self.tasks,
                "task": self.task,
                "side": self.side,
                "split_by": self.split_by,
                "backbone": row.name,
                "protocol": self.protocol,
                "classifier": row.classifier,
                "shots": str(row.shots),
                "seed": row.run.record["seed"],
                "metric": name,
                "value": found["value"],
                "low": found["low"],
                "high": found["high"],
                "claim": found["claim"],
                "reason": found["reason"],
                "run_id": row.run.run_id,
            }
            for row in self.rows
            for name, found in row.metrics.items()
        ]
        return pl.DataFrame(rows, schema_overrides={"value": pl.Float64, "low": pl.Float64, "high": pl.Float64})


def boards(
    runs: Sequence[Run], tasks: str | None = None, on_damage: Callable[[str], None] = lambda note: None
) -> list[Board]:
    """A board for each table, task, set of test images, pool of training images and published protocol.

    A run whose record is damaged is left out, with a message to `on_damage`.
    Errors: UsageError where no run is of what is asked for.
    """
    mine = []
    for run in runs:
        if run.record["protocol"] != PROTOCOL:
            continue
        if note := classification_problem(run.record):
            on_damage(f"left out: run {short(run.run_id)} is damaged: {note}")
        else:
            mine.append(run)
    wanted = [run for run in mine if tasks is None or run.record["tasks"] == tasks]
    if not wanted:
        known = sorted({str(run.record["tasks"]) for run in mine})
        raise UsageError(
            f"found no runs of bb probe classify on {tasks!r}: they are on {', '.join(known)}."
            if tasks and known
            else "found no runs of bb probe classify: make some with `bb probe classify --labels FILE`."
        )
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in wanted:
        names = ("tasks", "test_set", "train_pool")
        key = (*(str(run.record.get(name, "")) for name in names), protocol_of(run))
        groups.setdefault(key, []).append(run)
    found = _in_order([board for _, each in sorted(groups.items()) for board in _boards(each)])
    titles = Counter(board.title for board in found)
    return [
        replace(board, title_pool=short(board.train_pool) or "not recorded") if titles[board.title] > 1 else board
        for board in found
    ]


def _in_order(found: Sequence[Board]) -> list[Board]:
    """Boards of a table and task together: those of bb before a protocol's, ways of splitting and seeds in order."""
    tasks = list(dict.fromkeys(board.task for board in found))
    ways = (*get_args(By), "protocol")

    def place(board: Board) -> tuple[Any, ...]:
        way = ways.index(board.split_by) if board.split_by in ways else len(ways)
        record = board.rows[0].run.record
        shots = record["n_train"] if board.split_by == "protocol" else 0
        seed = record["seed"] if board.split_by in ("random", "group", "protocol") else 0
        at = (0, int(shots)) if str(shots).isdigit() else (1, 0)  # "all" is last
        return board.tasks, tasks.index(board.task), board.protocol, way, *at, int(seed)

    return sorted(found, key=place)


def _boards(runs: Sequence[Run]) -> Iterator[Board]:
    distinct = _without_repeats({run.run_id: run for run in reversed(by_precedence(runs))})
    first = next(iter(distinct.values())).record
    named = () if protocol_of(runs[0]) else family_metrics(str(first["tasks"]))  # a protocol has its own
    for task, sides in first["scores"]["tasks"].items():
        for side, facts in sides.items():
            wanted = [name for name in named if name in facts["metrics"]]
            main = wanted[0] if wanted else str(first["scores"]["main"])
            rows = []
            for run in distinct.values():
                try:
                    metrics = run.record["scores"]["tasks"][task][side]["metrics"]
                    float(metrics[main]["value"] or 0)
                except (KeyError, TypeError, ValueError):
                    continue  # another bb's record, or a stranger's
                rows.append(Row(run, run_name(run), metrics))
            if not rows:
                continue
            rows.sort(
                key=lambda row: (row.metrics[main]["value"] is None, -(row.metrics[main]["value"] or 0), row.name)
            )
            yield Board(
                tasks=str(first["tasks"]),
                task=task,
                side=side,
                split_by=str(first.get("split_by")),
                target=str(first.get("target")),
                metric=main,
                n=int(facts["n"]),
                chance=facts.get("chance"),
                majority=facts.get("majority"),
                classes=tuple(map(str, first["class_names"].get(task, []))),
                rows=tuple(_compared(rows, task, side, main)),
                notes=tuple(_notes(rows, task)),
                train_pool=str(first.get("train_pool", "")),
                protocol=protocol_of(rows[0].run),
            )


def shots_used(run: Run) -> Any:
    """Shots as asked for, or "all" where that many were all that there are; 0 where nothing is trained; of a stranger's
    record anything."""
    used, pool, asked = (run.record.get(name) for name in ("train_used", "train_pool", "n_train"))
    return "all" if used is not None and used == pool and asked != 0 else asked


def _without_repeats(runs: dict[str, Run]) -> dict[str, Run]:
    """Without runs that asked for a number of images and got all, where one is there that asked for all."""

    def kind(run: Run) -> str:
        names = ("space", "classifier", "parameters", "published")
        return json.dumps([run.record.get(name) for name in names], sort_keys=True)

    whole = {kind(run) for run in runs.values() if run.record["n_train"] == "all"}
    return {
        run_id: run
        for run_id, run in runs.items()
        if run.record["n_train"] == "all" or shots_used(run) != "all" or kind(run) not in whole
    }


def protocol_of(run: Run) -> str:
    """The name of the published protocol; empty where the run has none."""
    return str((run.record.get("published") or {}).get("name", ""))


def run_name(run: Run) -> str:
    """Its backbones, else the beginning of its space's key."""
    return ", ".join(map(str, run.record["backbones"])) or short(str(run.record["space"]))


def _compared(rows: list[Row], task: str, side: str, main: str) -> Iterator[Row]:
    """The best first; of each whether it can be distinguished from the best, and from the others where they are not too
    many."""
    n, metric = len(rows), METRICS.get(main)
    usable = metric and not metric.needs_probabilities and n > 1
    found = [answers(row.run, task, side) if usable else None for row in rows]
    pairs = list(combinations(range(n), 2))
    lettered = len(pairs) <= MAX_PAIRS
    pairs = pairs if lettered else [(0, k) for k in range(1, n)]
    different: dict[tuple[int, int], bool | None] = {}
    if metric and usable:
        each = replace(metric, value=cache(metric.value), contributions=cache(metric.contributions))
        different = {(i, j): _differ(found[i], found[j], each, 1 - (1 - LEVEL) / len(pairs)) for i, j in pairs}
    lettered = lettered and n > 1 and None not in different.values() and bool(different)
    apart = np.zeros((n, n), bool)
    for (i, j), differ in different.items():
        apart[i, j] = apart[j, i] = bool(differ)
    names = letters(apart) if lettered else [""] * n
    for k, row in enumerate(rows):
        differ = different.get((0, k))
        above, below = int(apart[k, :k].sum()), int(apart[k, k + 1 :].sum())
        yield Row(
            row.run, row.name, row.metrics, best=k == 0, tied=None if k == 0 or differ is None else not differ,
            group=names[k], ranks=(1 + above, n - below) if lettered else None,
        )  # fmt: skip


def _differ(one: Predictions | None, other: Predictions | None, metric: MulticlassMetric, level: float) -> bool | None:
    """Whether two runs' difference has an interval without 0; None where it has no interval."""
    if one is None or other is None:
        return None
    try:
        interval = difference(one, other, metric, level).interval
    except BBError:  # other images
        return None
    return None if interval is None else not interval[0] <= 0 <= interval[1]


def answers(run: Run, task: str, side: str, rows: pl.DataFrame | None = None) -> Predictions | None:
    """A run's predicted classes, in order of image ID; None of traits and numbers.

    rows  those of this task and side, where they are known
    """
    names = run.record["class_names"].get(task, [])
    if run.record.get("target") != "classes" or not names:
        return None
    if rows is None:
        columns = ("task", "cluster", "image_id", "y_true", "y_pred", "group")
        rows = run.predictions(columns).filter((pl.col("task") == task) & (pl.col("cluster") == side))
    table = rows.sort("image_id")
    if table.is_empty():
        return None
    group = None if table["group"].null_count() else table["group"].to_numpy()
    y_true, y_pred = (table[name].to_numpy().astype(np.int64) for name in ("y_true", "y_pred"))
    return Predictions(y_true, y_pred, len(names), None, group)


def trait_answers(run: Run, task: str, rows: pl.DataFrame) -> tuple[Shaped[np.ndarray, " n"], Traits]:
    """Image IDs in order, and a run's answers for the traits that are known of them.

    rows  the run's predictions, of one side
    """
    names = [f"{task}:{trait}" for trait in run.record["class_names"][task]]
    table = rows.filter(pl.col("task").is_in(names))
    ids, row = np.unique(table["image_id"].to_numpy(), return_inverse=True)
    trait = table["task"].replace_strict({name: number for number, name in enumerate(names)}).to_numpy()
    seen, decisions = np.zeros((len(ids), len(names)), bool), np.zeros((len(ids), len(names)))
    true, predicted = np.zeros_like(seen), np.zeros_like(seen)
    seen[row, trait], decisions[row, trait] = True, table["decision"].to_numpy()
    true[row, trait], predicted[row, trait] = (table[name].to_numpy() > 0 for name in ("y_true", "y_pred"))
    groups = table.unique("image_id", keep="first").sort("image_id")["group"]
    group = None if groups.null_count() else groups.to_numpy().astype(np.int64)
    return ids, Traits(true, predicted, decisions, group, seen)


def details(board: Board, row: Row) -> tuple[list[OfClass], list[Confused], Predictions] | None:
    """Of a run the table of classes, the pairs most confused, and the answers; None of traits and numbers."""
    found = answers(row.run, board.task, board.side)
    return (by_class(found), most_confused(found), found) if found else None


def _notes_of(published: dict[str, Any]) -> list[str]:
    """Whether a protocol is a replica, the faults that it keeps, and why published scores may differ."""
    name = published["name"]
    kind = f"a replica of {published['source']}" if published["replica"] else f"bb's own, after {published['source']}"
    return [
        f"protocol {name} is {kind}",
        *([f"{name} keeps faults of its source: {'; '.join(published['faults'])}"] if published["faults"] else []),
        *(
            [f"published scores of {name} may differ: {'; '.join(published['differs'])}"]
            if published["differs"]
            else []
        ),
    ]


def _notes(rows: Sequence[Row], task: str) -> Iterator[str]:
    """Everything that a reader of the scores should know, each once."""
    seen: dict[str, None] = {}
    for row in rows:
        record = row.run.record
        found = record.get("notes", {})
        published = _notes_of(record["published"]) if record.get("published") else []
        for words in (*published, *record.get("labels_notes", []), *found.get(task, []), *found.get("all tasks", [])):
            seen[str(words)] = None
        without = record.get("scores_without_leaks")
        if isinstance(without, dict) and isinstance(without.get("mean"), float):
            seen[f"{row.name}: {record['scores']['mean']:.3f}, and {without['mean']:.3f} without leaked images"] = None
    yield from seen
