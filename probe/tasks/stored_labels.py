"""Labels out of the store: what a probe takes where there are neither images nor a file of labels."""

from bb.probe.tasks.newt import Labels, parse_labels
from bb.store import Store, UsageError
from bb.store.format.labels import LabelTable
from bb.store.format.space import short


def find_labels(store: Store, tasks: str, collection: str) -> LabelTable | None:
    """The table of a task family on a collection, by name; None where the store has none.

    Several that say the same serve as one. Raises UsageError where they do not: which one is for a person to say.
    """
    found = [table for table in store.labels(tasks) if table.collection == collection]
    if any(not table.same_labels(found[0]) for table in found[1:]):
        raise UsageError(f"{store.name} has several labels of {collection}; {_choice(found)}")
    return found[0] if found else None


def find_labels_by_digest(store: Store, tasks: str, digest: str) -> LabelTable:
    """The table whose digest begins so. Raises UsageError where that is none or several."""
    tables = store.labels(tasks)
    found = [table for table in tables if table.digest.startswith(digest)]
    if len(found) == 1:
        return found[0]
    what = f"begins {len(found)} label tables" if found else "names no label table"
    there = _choice(found or tables) if tables else "there are none."
    raise UsageError(f"--labels @{digest} {what} of {store.name}; {there}")


def labels_of(table: LabelTable) -> Labels:
    """The checked task family. Raises BBError, naming the table, where its rows make none."""
    return parse_labels(table.table, source=f"the store's labels {short(table.digest)}")


def _choice(tables: list[LabelTable]) -> str:
    listed = "\n".join(f"  --labels @{short(table.digest)}  {table.describe()}" for table in tables)
    return f"choose one:\n{listed}"
