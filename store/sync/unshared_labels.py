"""Which labels a push or a pull leaves behind, and why."""

from collections.abc import Iterable, Mapping

from bb.store.format.labels import not_allowed, shareable
from bb.store.store import Store


def unshared(store: Store, names: Iterable[str], licences: Mapping[str, str] | None = None) -> list[str]:
    """Sentences that say of which collections a store holds no labels, and why; for where it is pushed or pulled.

    licences  the `licence` of each collection in bb.toml, where there is one
    """
    there = {table.collection for tasks in store.label_families() for table in store.labels(tasks)}
    sentences = []
    for name in sorted(set(names) - there):
        licence = (licences or {}).get(name)
        if licence is not None and shareable(licence):
            why = f"`bb extract --data {name}=DIR` puts them there, from the labels' file in DIR"
        else:
            why = not_allowed(name, licence)
        sentences.append(
            f"labels of {name} are not in {store.name}, so others need a file of their own to probe: {why}"
        )
    return sentences
