"""`bb report diff`: say in what two runs differ: inputs, tasks, images."""

from typing import Annotated

import typer

from bb.console import ConsoleReporter, say, show_json
from bb.options import DEFAULT_STORE, CacheOption, JsonOption, StoreOption
from bb.probe.facade import compare_runs
from bb.stores import open_store


def verb(
    a: Annotated[str, typer.Argument(help="A run's ID, or its beginning.")],
    b: Annotated[str, typer.Argument(help="Another's.")],
    store: StoreOption = DEFAULT_STORE,
    cache_size: CacheOption = None,
    json_: JsonOption = False,
) -> None:
    opened = open_store(store, cache_size=cache_size)
    with ConsoleReporter("note: ") as reporter:
        found = compare_runs(opened, a, b, reporter=reporter)
    if json_:
        show_json(found.record())
    else:
        say(*found.lines())
