"""`bb store why`: say in what two feature spaces differ, field by field."""

from typing import Annotated

import typer

from bb.console import say, show_json
from bb.options import DEFAULT_STORE, CacheOption, JsonOption, StoreOption
from bb.store.format.space import short
from bb.store.maintenance.diff import compare, find_pairs
from bb.stores import open_store


def verb(
    spaces: Annotated[
        list[str], typer.Argument(help="Two keys of feature spaces (or their beginnings), or one backbone.")
    ],
    store: StoreOption = DEFAULT_STORE,
    cache_size: CacheOption = None,
    json_: JsonOption = False,
) -> None:
    opened = open_store(store, cache_size=cache_size)
    found = [compare(a, b) for a, b in find_pairs(opened, spaces)]
    adopted = [
        [record.describe() for one, other in ((c.a, c.b), (c.b, c.a)) for record in opened.adopted(one)
         if record.older == other.key]
        for c in found
    ]  # fmt: skip
    if json_:
        show_json(
            [
                {"a": c.a.key, "b": c.b.key, "fields": c.fields, "adopted": a}
                for c, a in zip(found, adopted, strict=True)
            ]
        )
        return
    for c, words in zip(found, adopted, strict=True):
        say(f"{short(c.a.key)} against {short(c.b.key)}", *(f"  {name}: {change}" for name, change in c.fields.items()))
        say(*(f"  {text}" for text in words))
