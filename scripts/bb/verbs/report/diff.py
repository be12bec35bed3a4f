"""`bb report diff`: say in what two runs differ: inputs, tasks, images."""

from typing import Annotated

import typer

from bb.console import say, show_json, warn
from bb.options import DEFAULT_STORE, CacheOption, JsonOption, StoreOption
from bb.probe.report.run_diff import compare, find_run
from bb.stores import open_store


def verb(
    a: Annotated[str, typer.Argument(help="A run's ID, or its beginning.")],
    b: Annotated[str, typer.Argument(help="Another's.")],
    store: StoreOption = DEFAULT_STORE,
    cache_size: CacheOption = None,
    json_: JsonOption = False,
) -> None:
    opened = open_store(store, cache_size=cache_size)
    runs = list(opened.runs(on_damage=lambda error: warn(f"note: left out: {error}")))
    found = compare(find_run(runs, a), find_run(runs, b))
    if json_:
        show_json(found.record())
    else:
        say(*found.lines())
