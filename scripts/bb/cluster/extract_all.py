"""`bb extract --on …`: collections are hashed here, images are embedded on other machines."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from bb.cluster.options import ClusterRun, command_line
from bb.console import Progress, stop_gracefully, warn
from bb.store.text.size import size_text

if TYPE_CHECKING:
    from bb.cluster.extract_driver import ClusterWork
    from bb.cluster.ray import Cluster
    from bb.extract.backbones.device import Numerics
    from bb.extract.backbones.name import BackboneName
    from bb.extract.data.scan import Scan
    from bb.extract.data.shards import Files
    from bb.extract.data.source_spec import Root
    from bb.extract.extract_options import ExtractOptions, Summary
    from bb.extract.extraction import LeftOut
    from bb.extract.pipeline.extractor import Extractor
    from bb.store import Store
    from bb.store.reporter import Reporter


def extract_on_cluster(
    ctx: Any,
    cluster_run: ClusterRun,
    store: "Store",
    names: "list[BackboneName]",
    found: "dict[str, Files]",
    roots: "dict[str, Root]",
    options: "ExtractOptions",
    reporter: "Reporter",
) -> "list[Summary]":
    """`bb extract --on …`: collections are hashed and older rows adopted here, images embedded there."""
    from bb.cluster.extract_driver import ClusterWork
    from bb.extract.backbones.device import Numerics
    from bb.extract.extraction import LeftOut, check_room, refuse_failed, scan_collection
    from bb.store.files.filesystem import free_bytes

    scans = {
        collection: scan_collection(store, collection, images, options, reporter)
        for collection, images in found.items()
    }
    if options.strict:
        for collection, scan in scans.items():
            refuse_failed(collection, scan)
    left_out = LeftOut(reporter, alone=len(names) == 1 or options.strict)
    available = left_out.announce_downloads(names)
    with ExitStack() as stack:
        cluster = _connected(stack, cluster_run, options)
        resources = cluster.resources if cluster else cluster_run.resources
        device = options.device if options.device != "auto" else "cuda" if resources.gpus else "cpu"
        precision = options.precision if options.precision != "auto" else "bf16" if "cuda" in device else "fp32"
        here = Numerics.resolve("cpu", precision, options.store_dtype)
        extractors = list(_extractors(available, left_out, store, scans, options, here))
        if not extractors:
            return list(left_out.summaries(scans, store))
        work = ClusterWork.of(store, extractors, scans)
        lacked = [work.lacking(extractor, scan) for extractor in extractors for scan in scans.values()]
        absent = work.absent()
        warn(
            f"{work.features(absent)} features to compute of {len(work.images.entries)} images, on {device} in "
            f"{precision}; {size_text(work.store_bytes(absent))} to store, {size_text(free_bytes(store.root))} free"
        )
        check_room(store, work.store_bytes(absent))
        started = time.monotonic()
        if cluster:
            whole = _on_ray(work, cluster, device, options)
        else:
            whole = _on_slurm(ctx, cluster_run, work, roots, device, here, options)
    seconds = time.monotonic() - started
    pairs = [(extractor, collection) for extractor in extractors for collection in scans]
    return [
        *(
            _summary(work, extractor, collection, mask, whole, seconds, options, reporter)
            for (extractor, collection), mask in zip(pairs, lacked, strict=True)
        ),
        *left_out.summaries(scans, store),
    ]


def _connected(stack: ExitStack, cluster_run: ClusterRun, options: "ExtractOptions") -> "Cluster | None":
    """The Ray cluster that does the work, with a GPU for each worker where there are any; None for Slurm."""
    from bb.cluster.engine import OnRay
    from bb.cluster.ray import connected

    if not isinstance(cluster_run.on, OnRay):
        return None
    cluster = stack.enter_context(connected(cluster_run.on.address, cluster_run.resources))
    warn(f"running on {cluster.describe()}")
    if cluster.resources.gpus is None and options.device in ("auto", "cuda"):
        return replace(cluster, resources=replace(cluster.resources, gpus=min(1, cluster.gpus)))
    return cluster


def _extractors(
    names: "Sequence[BackboneName]",
    left_out: "LeftOut",
    store: "Store",
    scans: "dict[str, Scan]",
    options: "ExtractOptions",
    here: "Numerics",
) -> "Iterator[Extractor]":
    """Those that can be loaded; the rows of older code are adopted first."""
    from bb.extract.backbones.decoders import find_decoder
    from bb.extract.encoder.encoder import parse_batch_size
    from bb.extract.pipeline.extractor import Extractor
    from bb.extract.reproduce.adopt import adopt
    from bb.extract.reproduce.sample import Images

    decoder, batch_size = find_decoder(options.decoding(), here.device), parse_batch_size(options.batch_size)
    load = partial(Extractor.load, patch=options.patches(), batch_size=batch_size, compile=options.compile)
    for name in names:
        warn(f"loading {name}")
        if (extractor := left_out.attempt(name, partial(load, name, decoder, here))) is None:
            continue
        warn(*extractor.notes())
        if options.adopt == "auto" and options.limit is None:
            warn(*(f"{name}: {trial.describe()}" for trial in adopt(store, extractor, Images.of(scans))))
        yield extractor


def _on_ray(work: "ClusterWork", cluster: "Cluster", device: str, options: "ExtractOptions") -> bool:
    """Whether all was embedded."""
    from bb.cluster.extract_driver import stream

    with (
        stop_gracefully("stopping; what the workers have in hand will be kept") as stop,
        Progress("extracting on Ray", work.features(work.absent()), "features") as meter,
    ):
        return stream(work, cluster, device, stop=stop.is_set, strict=options.strict, progress=meter, say=warn)


def _on_slurm(
    ctx: Any,
    cluster_run: ClusterRun,
    work: "ClusterWork",
    roots: "dict[str, Root]",
    device: str,
    here: "Numerics",
    options: "ExtractOptions",
) -> bool:
    """Whether all was embedded: a job for each part runs this command."""
    from bb.cluster.extract_driver import run_parts
    from bb.cluster.slurm import WORKERS
    from bb.extract.pipeline.partition import WHOLE

    assert cluster_run.slurm
    common = {
        "store": str(work.store.root.resolve()),
        "data": [f"{name}={root.resolve()}" for name, root in roots.items()],
        "device": device,
        "precision": here.compute,
        "store_dtype": here.stored,
        "adopt": "never",
        "json_": True,
    }
    parts = (options.part or WHOLE).split(cluster_run.resources.workers or WORKERS)
    with Progress("extracting on Slurm", work.features(work.absent()), "features") as meter:
        return run_parts(
            work, cluster_run.slurm, parts, lambda part: command_line(ctx, **common, part=str(part)),
            rounds=cluster_run.rounds, strict=options.strict, progress=meter, say=warn,
        )  # fmt: skip


def _summary(
    work: "ClusterWork",
    extractor: "Extractor",
    collection: str,
    lacked: Any,
    whole: bool,
    seconds: float,
    options: "ExtractOptions",
    reporter: "Reporter",
) -> "Summary":
    """What was done for a backbone and a collection; `lacked` are the entries that were missing at first."""
    from bb.extract.extract_options import Summary
    from bb.extract.extraction import damaged_images, images_per_second, remember_failures, report_images

    scan = work.scans[collection]
    lacking = work.lacking(extractor, scan)
    reasons = work.failed.get(str(extractor.name), {})
    left = [entry for entry, gone in zip(scan.entries, lacking, strict=True) if gone]
    failed = {entry.image_id: reasons[entry.image_sha256] for entry in left if entry.image_sha256 in reasons}
    remember_failures(work.store, extractor, collection, scan, {digest.hex(): why for digest, why in reasons.items()})
    computed = int((lacked & ~lacking).sum())
    summary = Summary(
        backbone=str(extractor.name),
        collection=collection,
        spaces=[space.key for space in extractor.spaces],
        adopted=sorted({older.key for space in extractor.spaces for older in work.store.predecessors(space)}),
        images=len(scan.sources),
        present=int((~lacked).sum()),
        computed=computed,
        failed=dict(sorted((scan.failed | failed).items())),
        damaged=damaged_images(work.store, extractor, scan),
        notes={entry.image_id: note for entry in scan.entries if (note := work.notes.get(entry.image_sha256))},
        stopped=not whole,
        seconds=round(seconds, 3),
        images_per_second=images_per_second(computed, seconds),
        store=str(work.store.root),
    )
    report_images([summary], options, reporter)
    return summary
