"""`bb store du`: show bytes by backbone and collection."""

from bb.console import say, show_json, show_table
from bb.options import DEFAULT_STORE, CacheOption, JsonOption, StoreOption
from bb.store.format.space import short
from bb.store.maintenance.disk_usage import other_bytes, usage
from bb.store.text.size import size_text
from bb.stores import open_store


def verb(store: StoreOption = DEFAULT_STORE, cache_size: CacheOption = None, json_: JsonOption = False) -> None:
    opened = open_store(store, cache_size=cache_size)
    rows, others = usage(opened), other_bytes(opened)
    if json_:
        features = [
            {"backbone": u.backbone, "space": u.space, "collection": u.collection, "rows": u.rows, "bytes": u.n_bytes}
            for u in rows
        ]
        show_json({"features": features, "others": others})
        return
    show_table(
        ["backbone", "space", "collection", "rows", "size"],
        [[u.backbone, short(u.space), u.collection, u.rows, size_text(u.n_bytes)] for u in rows],
        right=["rows", "size"],
    )
    say(*(f"{part}: {size_text(n_bytes)}" for part, n_bytes in others.items() if n_bytes))
    say(f"{size_text(sum(u.n_bytes for u in rows) + sum(others.values()))} in all")
