"""From runs to boards: which runs may be compared, and what is shown of them."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from bb.probe.classifiers.protocol import PROTOCOLS, kind_of, parse_protocol
from bb.probe.features.damaged_images import damage_notes
from bb.probe.features.missing import missing_of, note_on
from bb.probe.report.entries import TableModel, cells, resampled_parts
from bb.probe.report.leaderboard import HardImage, Leaderboard, LeaderboardRow, Task, size
from bb.probe.report.options import ReportOptions, Sort
from bb.probe.report.provenance import origin
from bb.probe.run_records import newt_problem
from bb.probe.statistics.metrics import METRICS
from bb.probe.statistics.predictions import Table, read_table
from bb.probe.statistics.shares import constant_notes, is_uneven, majority
from bb.probe.tasks.few_shot import NTrain
from bb.store.format.space import short
from bb.store.local.runs import Run, by_precedence, disagreement

HARDEST = 12  # images of a task
ONE_COIN = ("accuracy", "balanced_accuracy", "auroc")  # guessing scores 0.5 there, whatever the classes' shares
_RowKey = tuple[str, str, str]  # space, engine, and the classifier requested: empty for the protocol's own
_ModelKey = tuple[str, str, str, NTrain]  # space, engine, classifier used, n_train


def boards(
    runs: Iterable[Run],
    tasks: str,
    question: ReportOptions | None = None,
    on_damage: Callable[[str], None] = lambda reason: None,
) -> list[Leaderboard]:
    """One board for each collection, protocol, test set and training pool of a task family's runs, in this order.

    A run whose record is damaged is left out, with a message to `on_damage`.
    Errors: UsageError where no run is of what is asked for; those of `resample`.
    """
    question = question or ReportOptions()
    found: dict[tuple[str, str, str, str], list[Run]] = defaultdict(list)
    for run in runs:
        if run.record["tasks"] != tasks or run.record["protocol"] not in tuple(PROTOCOLS):
            continue
        if reason := newt_problem(run.record):
            on_damage(f"left out: run {short(run.run_id)} is damaged: {reason}")
        else:
            record = run.record
            key = (record["collection_name"], record["protocol"], record["test_set"], record.get("train_pool", ""))
            found[key].append(run)
    if found:
        question.check([run for group in found.values() for run in group])
    made = [_board(tasks, group, question) for _, group in sorted(found.items())]
    return [board for board in made if board is not None]


def _board(tasks: str, runs: list[Run], question: ReportOptions) -> Leaderboard | None:
    chosen, notes = _one_each(runs)
    groups: dict[_ModelKey, list[Run]] = defaultdict(list)
    for run in chosen:
        if not question.n_train or run.record["n_train"] in question.n_train:
            groups[_model(run)].append(run)
    if not groups:
        return None
    shown = by_precedence(run for group in groups.values() for run in group)
    notes += [*_tier_notes(groups.values()), *_adopted_notes(shown), *_image_notes(shown)]
    notes += [*_labels_notes(shown), *_missing_notes(shown), *_damaged_notes(shown)]
    rows_of = _rows(groups, runs[0].record["protocol"])
    labels = _labels(rows_of, groups, chosen)
    by_seed = {key: sorted(group, key=_seed) for key, group in groups.items()}
    models = [
        TableModel(tuple(labels[row] for row, keys in rows_of.items() if key in keys.values()), key[-1], origin(group))
        for key, group in by_seed.items()
    ]
    table = read_table(
        {
            f"{model.rows[0]} at n_train {model.n_train}": group
            for model, group in zip(models, by_seed.values(), strict=True)
        },
        tuple(dict.fromkeys(("score", "y_pred", *METRICS.get(question.metric, METRICS["accuracy"]).fields))),
    )
    if question.metric == "auto":
        uneven = is_uneven(table) and question.average != "images"
        question = replace(question, metric="balanced_accuracy" if uneven else "accuracy")
        if uneven:
            rate = majority(table, "tasks")
            notes.append(
                f"always naming the commonest class has an accuracy of {rate:.3f}, so scores are balanced accuracy; "
                "--metric accuracy shows accuracy"
            )
    notes += constant_notes(table, table.models)
    first = shown[0].record  # what others say of the tasks counts less
    if question.groups is not None:
        table = table.grouped(question.groups(first["collection_name"]))
    task_list = _tasks(shown[0])
    backbones = {row: tuple(groups[next(iter(keys.values()))][0].record["backbones"]) for row, keys in rows_of.items()}
    baseline = _baseline(question.baseline, labels, backbones, notes)
    parts = resampled_parts(table, models, question)
    made, test = cells(parts, question, tasks, task_list, baseline)
    columns = tuple(sorted({key[-1] for key in groups}, key=size))
    rows = [
        LeaderboardRow(label, backbones[row], row[0], {n: made[label, n] for n in columns if (label, n) in made})
        for row, label in labels.items()
    ]
    notes += _further_notes(rows, columns, question, (tasks, *table.tasks))
    if question.details:
        hard_at = [place for place, model in enumerate(models) if model.n_train == columns[-1]]
        task_list = _hardest(task_list, table.some(hard_at), [models[place].rows[0] for place in hard_at])
    return Leaderboard(
        tasks=tasks,
        collection=first["collection_name"],
        collection_digest=first["collection"],
        protocol=first["protocol"],
        test_set=first["test_set"],
        train_pool=first.get("train_pool", ""),
        labels=" or ".join(sorted({run.record.get("labels_name") or "" for run in shown} - {""})) or None,
        metric=question.metric,
        average=parts[0].resampled.average,
        over=tuple(parts[0].resampled.over),
        correction=question.correction,
        test=test,
        chance=float(first["scores"]["chance"]) if question.metric in ONE_COIN else None,
        majority=majority(table, parts[0].resampled.average) if question.metric == "accuracy" else None,
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


def _order(row: LeaderboardRow, columns: Sequence[NTrain], sort: Sort) -> tuple[Any, ...]:
    if sort == "name":
        return (row.label,)
    first = [] if sort == "score" else [sort]
    return (*(-row.cells[n].mean if n in row.cells else 0.0 for n in (*first, *reversed(columns))), row.label)


def _one_each(runs: list[Run]) -> tuple[list[Run], list[str]]:
    """The run to use of each space, variant, n_train and seed; notes say where others disagree with it."""
    by_cell: dict[tuple[Any, ...], list[Run]] = defaultdict(list)
    for run in runs:
        record = run.record
        by_cell[*_model(run), record["seed"]].append(run)
    chosen, notes = [], []
    for same in by_cell.values():
        used, *_ = ordered = by_precedence(same)
        chosen.append(used)
        if found := disagreement(ordered):
            n_train, seed = used.record["n_train"], used.record["seed"]
            notes.append(f"{len(same)} runs of {_name(used)} at n_train {n_train}, seed {seed} disagree: {found}")
    return chosen, notes


def _tier_notes(groups: Iterable[list[Run]]) -> list[str]:
    """Which means are over runs of which some come from elsewhere: seeds that were not run here, for example."""
    notes = []
    for group in groups:
        best = min(run.tier for run in group)
        if seeds := sorted(run.record["seed"] for run in group if run.tier > best):
            notes.append(
                f"{_name(group[0])} at n_train {group[0].record['n_train']}: the runs of seed "
                f"{', '.join(map(str, seeds))} were not {best.describe()}, the others were"
            )
    return notes


def _damaged_notes(runs: list[Run]) -> list[str]:
    """Which backbones were scored on images that were damaged: of several n_train, those of the largest."""
    by_size = sorted(runs, key=lambda run: size(run.record["n_train"]))
    return damage_notes((_name(run), run.record.get("damaged")) for run in by_size)


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


def _image_notes(runs: list[Run]) -> list[str]:
    """What to know of the images: their versions, the training pool, and where it holds fewer than n_train."""
    notes = []
    if len(versions := sorted({short(run.record["collection"]) for run in runs})) > 1:
        notes.append(
            f"runs on several versions of the collection are compared, {', '.join(versions)}: an image that was "
            "replaced between them is another image under the same ID"
        )
    if any("train_pool" not in run.record for run in runs):
        notes.append(
            "these runs were made before bb recorded the labelled images that training sets are drawn from: runs on "
            "other training images may be among them; `bb probe newt --force` makes them again"
        )
    used = {run.record["n_train"]: run.record["n_used"] for run in runs if "n_used" in run.record}
    notes += [
        f"at n_train {n} some tasks have fewer training images: {least} to {most} are used"
        for n, (least, most) in sorted(used.items(), key=lambda item: size(item[0]))
        if n != "all" and least < n
    ]
    return notes


def _missing_notes(runs: list[Run]) -> list[str]:
    """Which images were left out: runs that leave out others are on a board of their own."""
    found = {image_id: reason for run in runs for image_id, reason in missing_of(run.record).items()}
    return [f"{note_on(found)}; runs that leave out other test images are in a table of their own"] if found else []


def _labels_notes(runs: list[Run]) -> list[str]:
    """What to know of the labels: test images that equal training images, with the scores without them, and others."""
    notes = list(dict.fromkeys(note for run in runs for note in run.record.get("labels_notes", ())))[:5]
    for run in runs:
        if (without := run.record.get("scores_without_leaks")) and len(notes) < 10:
            seed = "" if run.record["seed"] is None else f", seed {run.record['seed']}"
            notes.append(
                f"{_name(run)} at n_train {run.record['n_train']}{seed}: accuracy {run.record['scores']['mean']:.3f}, "
                f"and {without['mean']:.3f} without the {run.record['scores']['n'] - without['n']} test images that "
                "equal training images"
            )
    return notes


def _further_notes(
    rows: list[LeaderboardRow], columns: Sequence[NTrain], question: ReportOptions, tasks: Sequence[str]
) -> list[str]:
    notes = []
    made = [cell for row in rows for cell in row.cells.values()]
    if question.over == "draws" and "all" in columns:
        notes.append("n_train all has no draws: its intervals are for further test images alone")
    if not all(cell.estimate.holds for cell in made):
        notes.append("! marks an interval that was extended to hold its score: see docs/statistics.md")
    if len({cell.origin.seeds for cell in made if cell.origin.n_train != "all"}) > 1:
        notes.append("not every score is a mean over the same seeds")
    if question.reference is not None:
        unknown = question.reference.unknown_tasks(tasks)
        if unknown:
            more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
            notes.append(f"{question.reference.name} has the task {unknown[0]!r}{more}, which is none of ours")
        if not any(cell.beside for cell in made):
            notes.append(f"{question.reference.name} has no score of these backbones on these tasks")
        obstacles = Counter(why for cell in made for why in (cell.beside.obstacles if cell.beside else ()))
        notes += [
            f"~ {question.reference.name} does not compare in {n} cell{'s' * (n != 1)}: {why}"
            for why, n in obstacles.items()
        ]
    return notes


def _tasks(run: Run) -> list[Task]:
    rows = (
        run.predictions(("task", "cluster", "subcluster"))
        .group_by("task")
        .agg(pl.col("cluster").first(), pl.col("subcluster").first(), pl.len())
    )
    names = run.record.get("class_names", {})
    return [
        Task(task, cluster, subcluster, n, class_names=tuple(names[task]) if task in names else None)
        for task, cluster, subcluster, n in rows.sort("task").iter_rows()
    ]


def _hardest(tasks: list[Task], table: Table, labels: Sequence[str]) -> list[Task]:
    """The images that most backbones get wrong, of one n_train; ties in order of ID. labels: of the table's models."""
    of_each = 1 - table.averaged().fields["score"]
    wrong = of_each.mean(axis=0)
    found = []
    for place, task in enumerate(tasks):
        items = table.of_task(place)
        order = sorted(range(items.start, items.stop), key=lambda item: (-wrong[item], table.image_ids[item]))[:HARDEST]
        hardest = tuple(
            HardImage(
                str(table.image_ids[item]),
                int(table.y_true[item]),
                float(wrong[item]),
                dict(zip(labels, map(float, of_each[:, item]), strict=True)),
            )
            for item in order
            if wrong[item] > 0
        )
        found.append(replace(task, hardest=hardest))
    return found


def _baseline(
    asked: str | None, labels: dict[_RowKey, str], backbones: dict[_RowKey, tuple[str, ...]], notes: list[str]
) -> str | None:
    """The label of the row that is asked for, by label or by backbone; a note where it is none or several."""
    if asked is None:
        return None
    named = {label for row, label in labels.items() if asked in backbones[row]}
    found = {asked} & set(labels.values()) or named
    if len(found) == 1:
        return found.pop()
    several = f"is several rows here, {', '.join(sorted(found))}: name one" if found else "has no runs here"
    notes.append(f"the baseline {asked} {several}, so nothing is compared with it")
    return None


def _model(run: Run) -> _ModelKey:
    record = run.record
    engine = "" if record["identical_to_sklearn"] else f"--backend {record['backend']}"
    return record["space"], engine, record["classifier"], record["n_train"]


def _rows(groups: Iterable[_ModelKey], protocol: str) -> dict[_RowKey, dict[NTrain, _ModelKey]]:
    """The cells of each row: of the protocol's own classifier, and of each one that was forced somewhere.

    Both requests share the cells at which the protocol's own is the one forced. A row is left out if another one of its
    space and engine has all of its cells.
    """
    rows: dict[_RowKey, dict[NTrain, _ModelKey]] = {}
    usual = {key: kind_of(parse_protocol(protocol).classifier(key[-1])) for key in groups}
    for space, engine in dict.fromkeys(key[:2] for key in groups):
        of_space = [key for key in groups if key[:2] == (space, engine)]
        found = {(space, engine, ""): {key[-1]: key for key in of_space if key[2] == usual[key]}}
        for forced in sorted({key[2] for key in of_space if key[2] != usual[key]}):
            found[space, engine, forced] = {key[-1]: key for key in of_space if key[2] == forced}
        rows |= {
            row: shown
            for row, shown in found.items()
            if not any(shown.items() < other.items() for other in found.values())
        }
    return rows


def _labels(rows: Iterable[_RowKey], groups: dict[_ModelKey, list[Run]], runs: list[Run]) -> dict[_RowKey, str]:
    """A name for each row, and no name for two: the backbone, what is unusual, the space where there are namesakes."""
    names = {key[0]: _name(group[0]) for key, group in groups.items()}
    spaces: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        spaces[_name(run)].add(run.record["space"])
    found: dict[_RowKey, str] = {}
    for row in rows:
        space, engine, forced = row
        name = names[space]
        unusual = (f"--svm {forced}" if forced else "", engine, f"({short(space)})" if len(spaces[name]) > 1 else "")
        label = " ".join(word for word in (name, *unusual) if word)
        found[row] = f"{label} ({space})" if label in found.values() else label
    return found


def _name(run: Run) -> str:
    return ", ".join(run.record["backbones"]) or short(run.record["space"])


def _seed(run: Run) -> int:
    return -1 if run.record["seed"] is None else int(run.record["seed"])
