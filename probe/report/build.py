"""From runs to boards: which runs may be compared, and what is shown of them."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import polars as pl

from probe.board import Board, Hard, Row, Task, size
from probe.cells import Model, cells, resampled_parts
from probe.metrics import METRICS
from probe.origin import origin, problem
from probe.protocol import PROTOCOLS, kind_of, parse_protocol
from probe.question import Question, Sort
from probe.sampling import NTrain
from probe.table import Table, read_table
from store.runs import Run
from store.space import short

HARDEST = 12  # images of a task
ONE_COIN = ("accuracy", "balanced_accuracy", "auroc")  # guessing scores 0.5 there, whatever the classes' shares
_RowKey = tuple[str, str]


def boards(
    runs: Iterable[Run],
    tasks: str,
    question: Question | None = None,
    on_damage: Callable[[str], None] = lambda said: None,
) -> list[Board]:
    """One board for each collection, protocol and test set among the runs of a task family, in this order.

    A run whose record can't be is told to `on_damage` and left out.
    Errors: UsageError where no run is of what is asked for; those of `resample`.
    """
    question = question or Question()
    found: dict[tuple[str, str, str], list[Run]] = defaultdict(list)
    for run in runs:
        if run.record["tasks"] != tasks or run.record["protocol"] not in tuple(PROTOCOLS):
            continue
        if said := problem(run.record):
            on_damage(f"left out: run {short(run.run_id)} is damaged: {said}")
        else:
            found[run.record["collection_name"], run.record["protocol"], run.record["test_set"]].append(run)
    if found:
        question.check([run for group in found.values() for run in group])
    made = [_board(tasks, group, question) for _, group in sorted(found.items())]
    return [board for board in made if board is not None]


def _board(tasks: str, runs: list[Run], question: Question) -> Board | None:
    chosen, notes = _one_each(runs)
    groups: dict[tuple[_RowKey, NTrain], list[Run]] = defaultdict(list)
    for run in chosen:
        if not question.n_train or run.record["n_train"] in question.n_train:
            groups[(run.record["space"], _variant(run)), run.record["n_train"]].append(run)
    if not groups:
        return None
    shown = [run for group in groups.values() for run in group]
    notes += _adopted_notes(shown)
    labels = _labels(groups, chosen)
    by_seed = {key: sorted(group, key=_seed) for key, group in groups.items()}
    models = [Model(labels[row], n, origin(group)) for (row, n), group in by_seed.items()]
    table = read_table(
        {
            f"{model.row} at n_train {model.n_train}": group
            for model, group in zip(models, by_seed.values(), strict=True)
        },
        tuple(dict.fromkeys(("score", *METRICS[question.metric].fields))),
    )
    first = shown[0].record
    if question.groups is not None:
        table = table.grouped(question.groups(first["collection_name"]))
    task_list = _tasks(shown[0])
    baseline = _baseline(question.baseline, labels, groups, notes)
    parts = resampled_parts(table, models, question)
    made, test = cells(parts, question, tasks, task_list, baseline)
    columns = tuple(sorted({n for _, n in groups}, key=size))
    rows = [
        Row(
            label,
            tuple(next(group for (key, _), group in groups.items() if key == row)[0].record["backbones"]),
            row[0],
            {n: made[label, n] for n in columns if (label, n) in made},
        )
        for row, label in labels.items()
    ]
    notes += _further_notes(rows, columns, question, (tasks, *table.tasks))
    if question.details:
        hard_at = [place for place, model in enumerate(models) if model.n_train == columns[-1]]
        task_list = _hardest(task_list, table.some(hard_at))
    return Board(
        tasks=tasks,
        collection=first["collection_name"],
        collection_digest=first["collection"],
        protocol=first["protocol"],
        test_set=first["test_set"],
        metric=question.metric,
        average=parts[0].resampled.average,
        over=tuple(parts[0].resampled.over),
        correction=question.correction,
        test=test,
        chance=float(first["scores"]["chance"]) if question.metric in ONE_COIN else None,
        n_tasks=len(table.tasks),
        n_images=len(set(table.image_ids.tolist())),
        units=question.units,
        columns=columns,
        rows=tuple(sorted(rows, key=lambda row: _order(row, columns, question.sort))),
        task_list=tuple(task_list),
        hard_at=columns[-1],
        baseline=baseline,
        reference=None if question.reference is None else question.reference.name,
        notes=tuple(notes),
    )


def _order(row: Row, columns: Sequence[NTrain], sort: Sort) -> tuple[Any, ...]:
    if sort == "name":
        return (row.label,)
    first = [] if sort == "score" else [sort]
    return (*(-row.cells[n].mean if n in row.cells else 0.0 for n in (*first, *reversed(columns))), row.label)


def _one_each(runs: list[Run]) -> tuple[list[Run], list[str]]:
    """The newest run of each space, variant, n_train and seed; notes say where there were others."""
    by_cell: dict[tuple[Any, ...], list[Run]] = defaultdict(list)
    for run in runs:
        record = run.record
        by_cell[record["space"], _variant(run), str(record["n_train"]), record["seed"]].append(run)
    chosen, notes = [], []
    for same in by_cell.values():
        same.sort(key=lambda run: (run.record["provenance"]["made"], run.digest))
        chosen.append(same[-1])
        if any(run.record["scores"] != same[-1].record["scores"] for run in same):
            record = same[-1].record
            notes.append(
                f"{len(same)} runs of {_name(same[-1])} at n_train {record['n_train']}, seed {record['seed']} "
                f"disagree; the newest, {short(same[-1].run_id)}, is shown"
            )
    return chosen, notes


def _adopted_notes(runs: list[Run]) -> list[str]:
    """Which backbones were scored on rows that another version of the code made."""
    adopted: dict[tuple[str, str], set[str]] = defaultdict(set)
    for run in runs:
        older = run.record.get("adopted")
        adopted[_name(run), str(run.record["space"])] |= set(map(str, older)) if isinstance(older, list) else set()
    return [
        f"{name}: rows of space {', '.join(map(short, sorted(older)))}, of other code, serve in {short(space)}, which "
        f"adopted them (`bb store info {short(space)}`)"
        for (name, space), older in sorted(adopted.items())
        if older
    ]


def _further_notes(rows: list[Row], columns: Sequence[NTrain], question: Question, tasks: Sequence[str]) -> list[str]:
    notes = []
    made = [cell for row in rows for cell in row.cells.values()]
    if question.over == "draws" and "all" in columns:
        notes.append("n_train all has no draws: its intervals are for further test images alone")
    if not all(cell.estimate.holds for cell in made):
        notes.append("! marks an interval that does not hold its score: see docs/statistics.md")
    if len({cell.origin.seeds for cell in made if cell.origin.n_train != "all"}) > 1:
        notes.append("not every score is a mean over the same seeds")
    if question.reference is not None:
        unknown = question.reference.unknown_tasks(tasks)
        if unknown:
            more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
            notes.append(f"{question.reference.name} has the task {unknown[0]!r}{more}, which is none of ours")
        if not any(cell.beside for cell in made):
            notes.append(f"{question.reference.name} has no score of these backbones on these tasks")
    return notes


def _tasks(run: Run) -> list[Task]:
    rows = run.predictions().group_by("task").agg(pl.col("cluster").first(), pl.col("subcluster").first(), pl.len())
    return [Task(*row) for row in rows.sort("task").iter_rows()]


def _hardest(tasks: list[Task], table: Table) -> list[Task]:
    """The images that most backbones get wrong, of one n_train; ties in order of ID."""
    wrong = 1 - table.averaged().fields["score"].mean(axis=0)
    found = []
    for place, task in enumerate(tasks):
        items = table.of_task(place)
        rows = sorted(zip(-wrong[items], table.image_ids[items], table.y_true[items], strict=True))[:HARDEST]
        hardest = tuple(Hard(str(image_id), int(y), float(-share)) for share, image_id, y in rows if share < 0)
        found.append(Task(task.name, task.cluster, task.subcluster, task.n, hardest))
    return found


def _baseline(
    asked: str | None, labels: dict[_RowKey, str], groups: dict[tuple[_RowKey, NTrain], list[Run]], notes: list[str]
) -> str | None:
    """The label of the row that is asked for, by label or by backbone; a note where it is none or several."""
    if asked is None:
        return None
    named = {
        label for (row, _), runs in groups.items() for label in [labels[row]] if asked in runs[0].record["backbones"]
    }
    found = {asked} & set(labels.values()) or named
    if len(found) == 1:
        return found.pop()
    several = f"is several rows here, {', '.join(sorted(found))}: name one" if found else "has no runs here"
    notes.append(f"the baseline {asked} {several}, so nothing is compared with it")
    return None


def _variant(run: Run) -> str:
    """How a run departs from its protocol's default, in the words of the command line; empty where it does not."""
    record = run.record
    usual = parse_protocol(record["protocol"]).classifier(record["n_train"])
    words = [] if record["svm"] == kind_of(usual) else [f"--svm {record['svm']}"]
    words += [] if record["identical_to_sklearn"] else [f"--backend {record['backend']}"]
    return " ".join(words)


def _labels(groups: dict[tuple[_RowKey, NTrain], list[Run]], runs: list[Run]) -> dict[_RowKey, str]:
    """A name for each row, and no name for two: the backbone, what is unusual, the space where there are namesakes."""
    found: dict[_RowKey, str] = {}
    for (row, _), group in groups.items():
        if row not in found:
            namesakes = {other.record["space"] for other in runs if _name(other) == _name(group[0])}
            words = [_name(group[0]), row[1], f"({short(row[0])})" if len(namesakes) > 1 else ""]
            label = " ".join(word for word in words if word)
            found[row] = f"{label} ({row[0]})" if label in found.values() else label
    return found


def _name(run: Run) -> str:
    return ", ".join(run.record["backbones"]) or short(run.record["space"])


def _seed(run: Run) -> int:
    return -1 if run.record["seed"] is None else int(run.record["seed"])
