"""`bb models`: list what can be extracted, as --ckpt takes it."""

from typing import Annotated

import typer

from bb.console import show_json, show_table
from bb.options import JsonOption
from bb.stores import require_extract


def verb(
    pattern: Annotated[str, typer.Argument(help="Part of a name, or a pattern such as '*dinov2*'.")] = "",
    json_: JsonOption = False,
) -> None:
    require_extract("bb models")
    from bb.extract.backbones.catalog import entries
    from bb.store import BBError

    found = entries(pattern)
    if json_:
        show_json(found)
    elif found:
        show_table(["--ckpt", "state"], [[row["name"], row["lacks"]] for row in found])
    else:
        raise BBError(f"no backbone is like {pattern!r}: `bb models` lists all.")
