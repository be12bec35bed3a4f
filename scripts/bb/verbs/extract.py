"""`bb extract`: embed the images that the store does not have."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from bb.cluster.extract_all import extract_on_cluster
from bb.cluster.options import ClusterRun
from bb.console import ConsoleReporter, say, show_json, stop_gracefully, warn
from bb.labels import share_labels
from bb.options import (
    DEFAULT_STORE,
    AccountOption,
    CkptOption,
    CpusOption,
    DataOption,
    FollowOption,
    GpusOption,
    JsonOption,
    MemoryOption,
    OnOption,
    PartitionOption,
    StoreOption,
    TemplatesOption,
    TextOption,
    TextTypeOption,
    TimeOption,
    WorkersOption,
)
from bb.settings import labels_beside
from bb.store import UsageError
from bb.store.text.command import command
from bb.stores import open_store, parse_data, parse_names, require_extract
from bb.texts.extract import show_forecasts, show_profiles
from bb.texts.text import extract_texts


def verb(
    ctx: typer.Context,
    ckpt: CkptOption = None,
    data: DataOption = None,
    follow_links: FollowOption = False,
    store: StoreOption = DEFAULT_STORE,
    device: Annotated[str, typer.Option(envvar="BB_DEVICE", help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    devices: Annotated[
        str | None, typer.Option(help="Several GPUs, 0,1 say: a process on each embeds its share of the images.")
    ] = None,
    precision: Annotated[
        str, typer.Option(envvar="BB_PRECISION", help="fp32, bf16, fp16; auto is bf16 on CUDA and fp32 elsewhere.")
    ] = "auto",
    store_dtype: Annotated[
        str, typer.Option(envvar="BB_STORE_DTYPE", help="float16, float32; auto is float32 for fp32, else float16.")
    ] = "auto",
    batch_size: Annotated[
        str, typer.Option(envvar="BB_BATCH_SIZE", help="Images in a batch; auto finds what fits a GPU.")
    ] = "auto",
    compile: Annotated[bool, typer.Option("--compile", help="Compile the network, where that repays itself.")] = False,
    patch: Annotated[bool, typer.Option("--patch", help="Store patch features too, in a space of their own.")] = False,
    pool_grid: Annotated[
        str | None, typer.Option("--pool-grid", help="With --patch: tokens averaged to a grid such as 4x4.")
    ] = None,
    text: TextOption = None,
    templates: TemplatesOption = "openai",
    text_type: TextTypeOption = "asis",
    pool: Annotated[
        str,
        typer.Option(help="Pooling of timm networks: own, or as in biobench max or token; other feature spaces."),
    ] = "own",
    limit: Annotated[int | None, typer.Option(min=1, help="Embed only the first N images, for a try.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first image that can't be embedded.")] = False,
    adopt: Annotated[
        str,
        typer.Option(help="auto: take over rows of a space that differs in the code alone, if a sample agrees; never."),
    ] = "auto",
    decode: Annotated[
        str,
        typer.Option(
            envvar="BB_DECODE", help="simplejpeg, pillow or nvjpeg; auto is simplejpeg. Part of the features."
        ),
    ] = "auto",
    depth: Annotated[
        int,
        typer.Option(
            envvar="BB_DEPTH", help="Bits in use of 16-bit images that don't say it, such as 12. Part of the features."
        ),
    ] = 16,
    damaged: Annotated[
        str,
        typer.Option(envvar="BB_DAMAGED", help="embed or refuse damaged images that can still be decoded."),
    ] = "embed",
    profile: Annotated[
        bool, typer.Option("--profile", help="Say where the time went, and what the others waited for.")
    ] = False,
    part: Annotated[
        str | None, typer.Option("--part", help="I/N: of what is missing the I-th of N parts, by image digest.")
    ] = None,
    on: OnOption = None,
    workers: WorkersOption = None,
    cpus: CpusOption = None,
    gpus: GpusOption = None,
    memory: MemoryOption = None,
    time_limit: TimeOption = None,
    partition: PartitionOption = None,
    account: AccountOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    json_: JsonOption = False,
) -> None:
    cluster_run = ClusterRun.of(ctx, on, store)

    if text:
        if cluster_run or data or dry_run or not ckpt:
            raise UsageError("--text encodes names on this machine: give --ckpt; leave out --data, --on and --dry-run.")
        extract_texts(text, ckpt, store, templates=templates, text_type=text_type, device=device, json_=json_)
        return
    if cluster_run and profile:
        raise UsageError("--profile times the stages on one machine: leave it out with --on.")
    if cluster_run and dry_run:
        raise UsageError("--dry-run says what would be done on this machine: leave out one of it and --on.")
    if adopt not in ("auto", "never"):
        raise UsageError(f"--adopt {adopt} is unknown: choose auto or never.")

    collections = parse_data(data, ctx.obj)
    nowhere = [name for name, root in collections.items() if root is None]
    if not collections or nowhere:
        name = nowhere[0] if nowhere else "newt"
        raise UsageError(
            (f"where are the images of {name}?" if nowhere else "which images? No collection is given.")
            + f" Say it:\n  {command('extract', ckpt=ckpt or 'ViT-B-16/openai', data=f'{name}=DIR')}\n"
            f"NeWT's images and labels come with:\n  bb data download newt --to DIR"
        )
    if not ckpt:
        raise UsageError("which backbone? Give for example --ckpt ViT-B-16/openai; `bb models` lists them.")
    names = parse_names(ckpt)
    require_extract("bb extract")
    from bb.extract.backbones.decoders import find_decoder
    from bb.extract.backbones.device import Numerics
    from bb.extract.backbones.name import parse_pool
    from bb.extract.backbones.registry import check_known
    from bb.extract.embedding.decoder import DecodeOptions
    from bb.extract.encoder.encoder import parse_batch_size
    from bb.extract.extract_options import ExtractOptions
    from bb.extract.extraction import extract
    from bb.extract.pipeline.multi_gpu import parse_devices
    from bb.extract.pipeline.partition import Partition
    from bb.extract.scan_collection import find_files
    from bb.store.format.collection import check_name

    several = parse_devices(devices) if devices is not None else []
    if several and device != "auto":
        raise UsageError(f"--device {device} and --devices {devices}: give one of them.")
    if several and cluster_run:
        raise UsageError("--devices splits the work on one machine: with --on, give --workers, and --gpus for each.")
    if cluster_run and decode == "nvjpeg":
        raise UsageError("--decode nvjpeg is for one machine: with --on, CPUs decode; choose auto.")
    decoding = DecodeOptions.parse(decode, depth, damaged)
    for where in several or ["cpu" if cluster_run else device]:
        find_decoder(decoding, Numerics.resolve(where, precision, store_dtype).device)
    parse_batch_size(batch_size)
    found = {}
    for collection, root in collections.items():
        check_name(collection)
        folder = root or Path()
        found[collection] = find_files(
            folder.resolve() if cluster_run else folder,  # workers have other working directories
            follow_links=follow_links,
            announce=lambda left: warn(f"note: {left}"),
        )
    names = [replace(backbone, pool=parse_pool(pool)) for backbone in names]
    for backbone in names:
        check_known(backbone)
    options = ExtractOptions(
        several[0] if several else device, precision, store_dtype, batch_size, compile, patch, limit, strict, adopt,
        decode, depth, damaged, profile, tuple(several), None if part is None else Partition.parse(part), pool_grid,
    )  # fmt: skip
    options.patches()
    if dry_run:
        show_forecasts(store, names, found, options, json_=json_)
        return
    opened = open_store(store, create=True)
    opened.check_writable("spaces", "collections", "local")  # before images are hashed and weights loaded
    if limit is None:
        for collection, root in collections.items():
            if (labels := labels_beside(root)) is not None:
                share_labels(opened, collection, labels, ctx.obj)
    with ConsoleReporter() as reporter:
        if cluster_run is None:
            summaries = extract(opened, names, found, options, reporter, stop_gracefully)
        else:
            roots = {name: root or Path() for name, root in collections.items()}
            summaries = extract_on_cluster(ctx, cluster_run, opened, names, found, roots, options, reporter)
    if json_:
        show_json([summary.record() for summary in summaries])
    else:
        say(*(summary.line() for summary in summaries))
        if profile:
            show_profiles(summaries)
    if any(summary.incomplete for summary in summaries):
        raise typer.Exit(1)
