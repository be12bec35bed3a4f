"""What `bb extract` prints: summaries, profiles, and what a dry run found."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import typer

from bb.console import ConsoleReporter, say, show_json, show_table, warn
from bb.store.text.size import size_text
from bb.stores import local_folder, open_store

if TYPE_CHECKING:
    from bb.extract.backbones.name import BackboneName
    from bb.extract.data.shards import Files
    from bb.extract.dry_run import Forecast
    from bb.extract.extract_options import ExtractOptions, Summary


def forecast_lines(expected: "Forecast") -> Iterator[str]:
    from bb.store.format.space import short

    what = f"{expected.backbone} on {expected.collection}"
    if expected.missing is None:
        size = "weights of unknown size" if expected.download is None else f"{size_text(expected.download)} of weights"
        yield f"{what}: {size} to download; they decide the feature space, so what is there is known only then"
        for known in expected.known:
            yield (
                f"  of this name the store has space {short(known['space'])} ({known['kind']}, {known['compute']} "
                f"stored as {known['stored']}) with {known['images']} of {expected.images} images"
            )
        return
    yield (
        f"{what}: {expected.present} of {expected.images} images are there, {expected.missing} to compute, "
        f"{size_text(expected.store_bytes or 0)} to store, nothing to download; "
        f"space {', '.join(map(short, expected.spaces))}"
    )
    for miss in expected.nearest:
        if miss["nearest"] is None:
            yield f"  the store does not have space {short(miss['space'])}, and has no space of {miss['kind']} features"
            continue
        name = f"{short(miss['nearest'])} ({', '.join(miss['backbones']) or 'no rows'})"
        yield f"  the store does not have space {short(miss['space'])}; the nearest is {name}, which differs in"
        yield from (f"    {part}: {change}" for part, change in miss["differs"].items())
    for trial in expected.adopting:
        yield (
            f"  space {short(trial['older'])} differs from {short(trial['space'])} in the code alone: "
            f"{trial['sample']} images would be embedded again, to see whether its rows serve for {trial['fills']}"
        )


def show_profiles(summaries: "Sequence[Summary]") -> None:
    """A table for each pass over a collection; backbones that shared it stand together."""
    passes: dict[str, list[Summary]] = {}
    for summary in summaries:
        passes.setdefault(json.dumps([summary.collection, summary.profile]), []).append(summary)
    for shared in passes.values():
        profile = shared[0].profile or {}
        names = ", ".join(summary.backbone for summary in shared)
        say(f"{names} on {shared[0].collection}, {profile['seconds']:.1f} s on {profile['cores']} cores:")
        rows = [[name, f"{s['seconds']:.1f}", f"{s['processor_seconds']:.1f}"] for name, s in profile["stages"].items()]
        rows += [
            [f"waiting: {name} ({waited['threads']})", f"{waited['seconds']:.1f}", ""]
            for name, waited in profile["waiting"].items()
        ]
        show_table(["stage", "s", "processor s"], rows, right=["s", "processor s"])
        say(profile["bottleneck"])


def show_forecasts(
    place: str,
    names: "list[BackboneName]",
    found: "dict[str, Files]",
    options: "ExtractOptions",
    *,
    json_: bool,
) -> None:
    """`bb extract --dry-run`."""
    from bb.extract.backbones.decoders import find_decoder
    from bb.extract.backbones.device import Numerics
    from bb.extract.dry_run import forecast
    from bb.extract.extraction import LeftOut, part_of
    from bb.extract.scan_collection import hash_images

    store = open_store(place) if local_folder(place).exists() else None
    numerics = Numerics.resolve(options.device, options.precision, options.store_dtype)
    decoder = find_decoder(options.decoding(), numerics.device)
    with ConsoleReporter() as reporter:
        scans = {
            name: part_of(hash_images(name, images, options.limit, read_only=True, reporter=reporter), options)
            for name, images in found.items()
        }
    adopting = options.adopt == "auto" and options.limit is None
    forecasts: list[Forecast] = []
    left_out = LeftOut(ConsoleReporter(), alone=len(names) == 1)
    for name in names:
        warn(f"looking at {name}")
        look = partial(forecast, store, name, decoder, numerics, scans, patch=options.patches(), adopt=adopting)
        forecasts += left_out.attempt(name, lambda look=look: list(look())) or []  # type: ignore[misc]
    if json_:
        show_json([asdict(each) for each in forecasts])
    else:
        for each in forecasts:
            say(*forecast_lines(each))
        say("this was a dry run: nothing was written")
    if left_out.reasons:
        raise typer.Exit(1)
