"""`bb store compact`: merge small segments into full ones; features stay the same to the last bit."""

from typing import Annotated

import typer

from bb.console import say, show_json
from bb.options import DEFAULT_STORE, JsonOption, StoreOption
from bb.store.format.space import short
from bb.store.maintenance.compact import compact
from bb.stores import open_store


def verb(
    space: Annotated[str | None, typer.Argument(help="A feature space's key, or its beginning; else all.")] = None,
    store: StoreOption = DEFAULT_STORE,
    json_: JsonOption = False,
) -> None:
    opened = open_store(store, write=True)
    opened.check_writable("spaces", "aside")
    done = [compact(opened, found) for found in ([opened.space(space)] if space else opened.spaces())]
    if json_:
        show_json([{"space": c.space.key, "merged": list(c.merged), "made": list(c.made)} for c in done])
        return
    for c in done:
        if c.merged:
            say(f"space {short(c.space.key)}: {len(c.merged)} segments merged into {len(c.made)}")
    if any(c.merged for c in done):
        say("the old ones are set aside: bb store gc shows them, bb store gc --yes removes them")
    else:
        say("nothing to merge")
