"""`bb store gc`: show, and with --yes remove, remains older than a day and what was set aside."""

from typing import Annotated

import typer

from bb.console import say, show_json, warn
from bb.options import DEFAULT_STORE, JsonOption, StoreOption
from bb.store.maintenance.gc import find_garbage, remove_garbage
from bb.store.text.size import size_text
from bb.stores import open_store


def verb(
    store: StoreOption = DEFAULT_STORE,
    unreferenced: Annotated[
        bool, typer.Option("--unreferenced", help="Take feature spaces that no run names, too.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it; otherwise it is only shown.")] = False,
    json_: JsonOption = False,
) -> None:
    opened = open_store(store, write=True)
    if yes:
        opened.check_writable("aside", "spaces", "index", "heads")
    found = find_garbage(opened, unreferenced=unreferenced, note=lambda text: warn(f"note: {text}"))
    if yes:
        for garbage in found:
            remove_garbage(opened, garbage)
    if json_:
        show_json([{"path": str(g.path), "bytes": g.n_bytes, "why": g.why, "removed": yes} for g in found])
        return
    say(*(f"{g.path.relative_to(opened.root)}: {size_text(g.n_bytes)}, {g.why}" for g in found))
    total = size_text(sum(g.n_bytes for g in found))
    if not found:
        say("nothing to remove")
    else:
        say(f"removed {total}" if yes else f"{total} in all; bb store gc --yes removes it for good")
