"""`bb label`: a page on which a person labels images."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from bb import options
from bb.console import ConsoleReporter, say, warn
from bb.probe.labelling.active_learning.choose_images import RANDOM_SHARE, Strategy, check_random_share
from bb.store import UsageError
from bb.stores import backbone_names, one_collection, open_store, require


def verb(
    ctx: typer.Context,
    labels: Annotated[Path, typer.Option("--labels", help="The .csv that gets the answers; made if it is missing.")],
    data: options.ImagesOption = None,
    every: Annotated[int, typer.Option("--every", min=1, help="Fit again after this many answers.")] = 10,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port; 0 is any free one.")] = 0,
    strategy: options.StrategyOption = "margin",
    random_share: options.RandomShareOption = RANDOM_SHARE,
    id_: options.IdOption = None,
    label: options.LabelOption = None,
    not_missing: options.NotMissingOption = None,
    ckpt: options.CkptOption = None,
    space: options.ProbedSpacesOption = None,
    max_missing: options.MaxMissingOption = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed draws the same images.")] = 0,
    store: options.StoreOption = options.DEFAULT_STORE,
    cache_size: options.CacheOption = None,
) -> None:
    require("bb label", ("starlette", "uvicorn", "PIL", "simplejpeg"), "label")
    from bb.labeller.app import listen, make_app, new_token, serve
    from bb.labeller.open_session import open_session

    how = Strategy.parse(strategy)
    check_random_share(random_share)
    opened = open_store(store, cache_size=cache_size)
    name, root = one_collection(opened, data, ctx.obj)
    if root is None:
        raise UsageError(f"bb label shows images: say where they are with --data {name}=DIR.")
    with ConsoleReporter("note: ") as reporter:
        session, pictures = open_session(
            opened, labels, name, root, strategy=how, random_share=random_share, every=every, id=id_, label=label,
            not_missing=not_missing or (),
            ckpt=backbone_names(ckpt, opened), space=space or (), max_missing=max_missing, seed=seed,
            reporter=reporter,
        )  # fmt: skip
    listening = listen(port)
    token, at = new_token(), listening.getsockname()[1]
    say(f"http://127.0.0.1:{at}/{token}/")
    sys.stdout.flush()  # the reader of a pipe waits for it
    warn(f"open this address in a browser; answers go to {labels}; Ctrl-C stops")
    try:
        serve(make_app(session, pictures, name, token=token, port=at), listening)
    except KeyboardInterrupt:
        pass
    finally:
        session.close()
        listening.close()
