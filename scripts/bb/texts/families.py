"""What `bb data list` and `bb data check` say of task families."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bb.console import say, show_table, warn
from bb.labels import shards_folder

if TYPE_CHECKING:
    from bb.extract.data.source_spec import Root
    from bb.probe.tasks.task_table import TaskTable


def family_rows(data: "Mapping[str, Root]", stored: "list[str]") -> list[dict[str, Any]]:
    """Every task family that can be loaded: what it is, what it needs, and where it was found. JSON-ready."""
    from bb.probe.tasks.family import about
    from bb.probe.tasks.registry import TASKS

    rows = []
    for name, family in TASKS.usable().items():
        of, root = about(family), data.get(name)
        rows.append(
            {"name": name, "title": family.title, "needs": of.needs, "size": of.size, "licence": of.licence,
             "home": of.home, "citation": of.citation, "probe": of.probe, "classifier": of.classifier,
             "metrics": list(of.metrics), "pool": of.pool, "published": of.published, "protocols": list(of.protocols),
             "root": str(root) if root else None, "found": bool(root) and Path(str(root)).is_dir(),
             "in_store": name in stored}
        )  # fmt: skip
    return rows


def show_families(rows: list[dict[str, Any]], *, whole: bool) -> None:
    """A line each; with `whole` all that is known of each."""
    if not whole:
        cells = [[row["name"], row["title"], row["size"], row["licence"], found_words(row)] for row in rows]
        show_table(["task family", "what it is", "size", "licence", "found"], cells)
        return
    for row in rows:
        say(f"{row['name']}: {row['title']}")
        facts = {
            **{fact: row[fact] for fact in ("needs", "size", "licence")},
            **{"from": row["home"], "published": row["published"], "protocols": ", ".join(row["protocols"])},
            "found": found_words(row),
        }
        say(*(f"  {fact:10}{value}" for fact, value in facts.items() if value))
        say(*(f"  {line}" for line in row["citation"].splitlines()), "")


def found_words(row: Mapping[str, Any]) -> str:
    """Where a family is, in words."""
    there = [row["root"] if row["found"] else f"{row['root']}, which is not there"] if row["root"] else []
    return ", ".join([*there, *(["in the store"] if row["in_store"] else [])]) or "no"


def check_family(name: str, root: "Root") -> "TaskTable | None":
    """Says what is in the labels of a family's folder, or what is wrong with its layout; then None.

    Errors: those of `family_labels` but for a wrong layout.
    """
    from bb.probe.tasks.families.layout import pickles
    from bb.probe.tasks.family import as_task_table
    from bb.probe.tasks.registry import family_labels, layout_problems
    from bb.store import UsageError

    folder = root if isinstance(root, Path) else shards_folder(root)
    if folder is None:
        raise UsageError(f"the labels of {name} are read from a folder, and {root} is none on this machine.")
    if problems := layout_problems(name, folder):
        say(f"{name}: {folder} does not have its layout", *(f"  {problem}" for problem in problems))
        return None
    table = as_task_table(family_labels(name, folder), name)
    warn(*(f"note: {note}" for note in (*table.notes, *pickles(folder))))
    for task in table.tasks:
        say(f"{name}: {task_words(table, task)}")
        warn(*(f"note: {note}" for note in one_sided(table, task)))
    return table


def one_sided(table: "TaskTable", task: str) -> list[str]:
    """Classes that are on the training side alone, or not on it: a download may have stopped early."""
    import polars as pl

    from bb.store.format.collection import some

    if table.target != "classes" or "split" not in table.frame.columns:
        return []
    named = table.frame.filter(pl.col("task") == task).drop_nulls(["label", "split"])
    trained, others = (
        set(named.filter((pl.col("split") == "train") == training)["label"]) for training in (True, False)
    )
    of = f"of {len(trained | others)} classes"
    sides = ((others - trained, "are not on side train"), (trained - others, "are on side train alone"))
    return [f"{len(names)} {of} {words}: {some(sorted(names))}" for names, words in sides if names]


def task_words(table: "TaskTable", task: str) -> str:
    """ "3 classes; train 12 images, val 6 images, 2 without a label"."""
    import polars as pl

    frame = table.frame.filter(pl.col("task") == task)
    kinds = f"{len(table.traits)} traits" if table.traits else f"{len(table.classes(task))} classes"
    split = frame["split"] if "split" in frame.columns else pl.repeat("all", frame.height, eager=True)
    sides = ", ".join(
        f"{side or 'no side'} {n} images" for side, n in sorted(split.fill_null("").value_counts().rows())
    )
    named = "" if len(table.tasks) == 1 else f"task {task}: "
    grouped = f"; {frame['group'].n_unique()} groups" if "group" in frame.columns else ""
    return f"{named}{kinds}; {sides}{grouped}"


def write_labels(name: str, root: "Root | None", csv: Path) -> None:
    """A family's labels as CSV, as `--labels` reads it; - is standard output. Errors: those of `family_labels`."""
    from bb.probe.tasks.families.layout import as_csv
    from bb.probe.tasks.family import as_task_table
    from bb.probe.tasks.registry import family_labels
    from bb.texts.report import check_files, write_file

    check_files({"--csv": csv})
    folder = root if isinstance(root, Path) else shards_folder(root)
    text = as_csv(as_task_table(family_labels(name, folder), name))
    if str(csv) == "-":
        print(text, end="")
    else:
        write_file(csv, text.encode())
