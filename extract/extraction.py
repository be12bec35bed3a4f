"""One extraction on one machine: several backbones embed several collections, and each image is decoded once."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from bb.extract.backbones.decoders import find_decoder
from bb.extract.backbones.device import Numerics
from bb.extract.backbones.hub import cache_folder, download_bytes
from bb.extract.backbones.name import BackboneName, parse_pool, shared_name
from bb.extract.backbones.registry import check_known
from bb.extract.data.scan import Scan
from bb.extract.data.shards import Files
from bb.extract.data.source_spec import parse_root
from bb.extract.encoder.encoder import parse_batch_size
from bb.extract.extract_options import ExtractOptions, Summary
from bb.extract.pipeline.embed import BackboneWork, EmbedPlan, embed
from bb.extract.pipeline.extractor import Extractor
from bb.extract.pipeline.memory_groups import group_by_memory
from bb.extract.pipeline.missing import keys_of
from bb.extract.pipeline.multi_gpu import embed_on
from bb.extract.pipeline.partition import WHOLE
from bb.extract.reproduce.adopt import adopt
from bb.extract.reproduce.sample import Images
from bb.extract.scan_collection import find_files, hash_images
from bb.store import BBError, Collection, Store
from bb.store.arguments import parse_arguments
from bb.store.files.filesystem import free_bytes
from bb.store.format.collection import check_name
from bb.store.local.failures import Failures
from bb.store.reporter import Reporter, Silent
from bb.store.text.size import size_text

MIN_SECONDS = 1.0  # of work, before a rate means something
LISTED = 20  # images that a message names, at most

T = TypeVar("T")


def run(
    store: Store | str | Path,
    ckpt: str | Sequence[str],
    data: Mapping[str, str | Path],
    *,
    pool: str = "own",
    follow_links: bool = False,
    reporter: Reporter | None = None,
    **options: Any,
) -> list[Summary]:
    """Embeds the images that a store does not have, as `bb extract` does; the store is made where there is none.

    ckpt      backbones, as `bb models` lists them
    data      collections by name: folders of images, or shards
    pool      pooling of timm networks
    reporter  gets notes and progress
    options   fields of ExtractOptions: device, precision, batch_size, patch, limit, …

    Raises UsageError and BBError, which name what to change. Images that fail stand in each summary's `failed`.
    """
    reporter = reporter or Silent()
    opened = store if isinstance(store, Store) else Store.create(store)
    parsed = [BackboneName.parse(text) for text in ([ckpt] if isinstance(ckpt, str) else ckpt)]
    names = [replace(name, pool=parse_pool(pool)) for name in dict.fromkeys(parsed)]
    for name in names:
        check_known(name)
    files = {}
    for collection, root in data.items():
        check_name(collection)
        files[collection] = find_files(parse_root(str(root)), follow_links=follow_links, announce=reporter.info)
    return extract(opened, names, files, parse_arguments(ExtractOptions)(**options), reporter)


def extract(
    store: Store,
    names: list[BackboneName],
    found: dict[str, Files],
    options: ExtractOptions,
    reporter: Reporter,
    stopping: Callable[[], AbstractContextManager[threading.Event]] = lambda: nullcontext(threading.Event()),
) -> list[Summary]:
    """Embeds collections with backbones; a summary of each pair.

    stopping  gives the event that ends a pass after the batch at work; entered once for each pass
    """
    numerics = Numerics.resolve(options.device, options.precision, options.store_dtype)
    decoder = find_decoder(options.decoding(), numerics.device)
    batch_size, patches = parse_batch_size(options.batch_size), options.patches()
    scans = {name: scan_collection(store, name, images, options, reporter) for name, images in found.items()}
    images = Images.of(scans)
    left_out = LeftOut(reporter, alone=len(names) == 1 or options.strict)
    available = left_out.announce_downloads(names)

    def load(name: BackboneName) -> Extractor | None:
        return left_out.attempt(name, partial(load_and_adopt, name))

    def load_and_adopt(name: BackboneName) -> Extractor:
        reporter.info(f"loading {name}")
        extractor = Extractor.load(
            name, decoder, numerics, patch=patches, batch_size=batch_size, compile=options.compile
        )
        for note in extractor.notes():
            reporter.info(note)
        if options.adopt == "auto" and options.limit is None:  # a try is not a basis for what lasts
            for trial in adopt(store, extractor, images):
                reporter.info(f"{name}: {trial.describe()}")
            extractor.offload()
        return extractor

    summaries: list[Summary] = []
    for group in group_by_memory(available, load, processes=max(1, len(options.devices))):
        for collection, scan in scans.items():
            with stopping() as stop:
                made = _extract_group(store, group, collection, scan, options, reporter, stop)
            undone = len(summaries) + len(made) < (len(names) - len(left_out.reasons)) * len(scans)
            if undone and (stop.is_set() or (options.strict and any(summary.failed for summary in made))):
                made = [replace(summary, stopped=True) for summary in made]
            summaries += made
            if any(summary.stopped for summary in made):
                break
        else:
            continue
        break
    order = [str(name) for name in names]
    summaries += left_out.summaries(scans, store)
    return sorted(summaries, key=lambda summary: order.index(summary.backbone))


def scan_collection(store: Store, name: str, images: Files, options: ExtractOptions, reporter: Reporter) -> Scan:
    """Hashes a collection, and publishes the version unless only the first images are looked at; what is to be done."""
    found = hash_images(name, images, options.limit, reporter=reporter)
    if options.limit is None:
        store.put_collection(Collection.from_entries(name, found.entries))
    else:
        reporter.info(
            f"{name}: the first {len(found.sources)} images only, so no version of the collection is recorded"
        )
    return part_of(found, options)


def part_of(scan: Scan, options: ExtractOptions) -> Scan:
    """With --part, the images of that part alone."""
    part = options.part
    return replace(scan, entries=[e for e in scan.entries if part.holds(e.image_sha256)]) if part else scan


@dataclass
class LeftOut:
    """Backbones that can't be loaded: of several, the others are extracted all the same.

    alone    a failure is raised, since nothing else is to be done
    reasons  by name
    """

    reporter: Reporter
    alone: bool
    reasons: dict[str, str] = field(default_factory=dict)

    def attempt(self, name: BackboneName, load: Callable[[], T]) -> T | None:
        """What `load` gives, or None where it failed."""
        try:
            return load()
        except BBError as error:
            if self.alone:
                raise
            self.reporter.info(f"{name} is left out: {error}")
            self.reasons[str(name)] = str(error)
            return None

    def announce_downloads(self, names: list[BackboneName]) -> list[BackboneName]:
        """Says what will be downloaded; those that can be."""
        for name in names:
            self.attempt(name, partial(_announce_download, name, self.reporter))
        return [name for name in names if str(name) not in self.reasons]

    def summaries(self, scans: dict[str, Scan], store: Store) -> Iterator[Summary]:
        """A summary of each and each collection, with the reason as `error`."""
        for name, reason in self.reasons.items():
            for collection, scan in scans.items():
                yield Summary(
                    name, collection, [], [], len(scan.sources), 0, 0, {}, {}, {}, False, 0.0, None, str(store.root),
                    error=reason,
                )  # fmt: skip


def _announce_download(name: BackboneName, reporter: Reporter) -> None:
    """Says what will be downloaded, and refuses where it can't fit."""
    size = download_bytes(name)
    if size == 0:
        return
    folder = cache_folder(name)
    free = free_bytes(folder)
    what = "something of unknown size" if size is None else size_text(size)
    reporter.info(f"{name}: {what} to download to {folder}, where {size_text(free)} are free")
    if size and size > free:
        raise BBError(
            f"{name} needs {what} in {folder}, where {size_text(free)} are free: "
            f"make room, or set HF_HOME to a folder that has it."
        )


def _extract_group(
    store: Store,
    group: list[Extractor],
    collection: str,
    scan: Scan,
    options: ExtractOptions,
    reporter: Reporter,
    stop: threading.Event,
) -> list[Summary]:
    """One pass over a collection for some backbones; a summary of each."""
    if options.strict:
        refuse_failed(collection, scan)
    plans = [EmbedPlan.make(store, extractor.spaces, scan.entries) for extractor in group]
    needed = [plan.store_bytes(extractor.spaces) for plan, extractor in zip(plans, group, strict=True)]
    free = free_bytes(store.root)
    for extractor, plan, size in zip(group, plans, needed, strict=True):
        what = f"{extractor.name} on {collection}"
        reporter.info(
            f"{what}: {plan.present} of {len(scan.entries)} images are there, {len(plan.wanted)} to compute on "
            f"{extractor.numerics.device_name()} in {extractor.numerics.compute}; {size_text(size)} to store, "
            f"{size_text(free)} free"
        )
        names = store.backbones(extractor.spaces.img)
        if not plan.wanted and names and shared_name(extractor.name) not in names:
            reporter.info(
                f"{what}: these very features are known as {' and '.join(names)}; probe them with --ckpt {names[0]}"
            )
    check_room(store, sum(needed))
    started = time.monotonic()
    who = str(group[0].name) if len(group) == 1 else f"{len(group)} backbones"
    wanted = {entry.image_sha256 for plan in plans for entry in plan.wanted}
    work = [BackboneWork(extractor, plan.wanted) for extractor, plan in zip(group, plans, strict=True)]
    embed_all = partial(embed_on, options.devices, options.part or WHOLE) if options.devices else embed
    outcomes, profile = embed_all(
        store,
        work,
        collection,
        scan,
        strict=options.strict,
        stop=stop,
        announce=reporter.info,
        progress=lambda outcomes, images: reporter.progress(f"{who} on {collection}", images, len(wanted), "images"),
    )
    seconds = time.monotonic() - started
    summaries = [
        Summary(
            backbone=str(extractor.name),
            collection=collection,
            spaces=[space.key for space in extractor.spaces],
            adopted=sorted({older.key for space in extractor.spaces for older in store.predecessors(space)}),
            images=len(scan.sources),
            present=plan.present,
            computed=outcome.computed,
            failed=dict(sorted((scan.failed | _of_equal_files(scan, outcome.failed)).items())),
            damaged=damaged_images(store, extractor, scan),
            notes=dict(sorted(_of_equal_files(scan, outcome.notes).items())),
            stopped=outcome.stopped,
            seconds=round(seconds, 3),
            images_per_second=images_per_second(outcome.computed, seconds),
            store=str(store.root),
            profile=profile.record() if options.profile else None,
        )
        for extractor, plan, outcome in zip(group, plans, outcomes, strict=True)
    ]
    digests = {entry.image_id: entry.image_sha256.hex() for entry in scan.entries}
    for extractor, outcome in zip(group, outcomes, strict=True):
        remember_failures(store, extractor, collection, scan, {digests[i]: why for i, why in outcome.failed.items()})
    report_images(summaries, options, reporter)
    return summaries


def _of_equal_files(scan: Scan, words: dict[str, str]) -> dict[str, str]:
    """What is said of images, of all that have the same file: each file is read once."""
    digests = {entry.image_id: entry.image_sha256 for entry in scan.entries}
    said = {digests[image_id]: text for image_id, text in words.items()}
    return {entry.image_id: said[entry.image_sha256] for entry in scan.entries if entry.image_sha256 in said}


def damaged_images(store: Store, extractor: Extractor, scan: Scan) -> dict[str, str]:
    """Of the images of a collection that have features, those that are damaged: image ID → what its decoder says."""
    reasons = store.damaged(extractor.spaces.img, keys_of(scan.entries))
    return {e.image_id: reasons[e.image_sha256] for e in scan.entries if e.image_sha256 in reasons}


def report_images(summaries: Sequence[Summary], options: ExtractOptions, reporter: Reporter) -> None:
    """Names the images of one collection that failed, are damaged, or may be of another depth."""
    failed, damaged, notes = (
        {image_id: words for summary in summaries for image_id, words in getattr(summary, kind).items()}
        for kind in ("failed", "damaged", "notes")
    )
    _name_images(failed, reporter)
    collection = summaries[0].collection
    if damaged and options.damaged == "refuse":
        reporter.info(
            f"{collection}: {_images(damaged)} damaged and embedded before, without --damaged refuse; the rows stay:"
        )
    elif damaged:
        reporter.info(
            f"{collection}: {_images(damaged)} damaged and embedded as decoded; --damaged refuse leaves them out:"
        )
    _name_images(damaged, reporter)
    if notes:
        reporter.info(f"{collection}: {_images(notes)} maybe of another depth than 16 bits:")
    _name_images(notes, reporter)


def _images(named: Mapping[str, str]) -> str:
    return f"{len(named)} images are" if len(named) > 1 else "1 image is"


def _name_images(images: Mapping[str, str], reporter: Reporter) -> None:
    """Image IDs and what is to be said of each."""
    for image_id, reason in list(images.items())[:LISTED]:
        reporter.info(f"  {image_id}: {reason}")
    if len(images) > LISTED:
        reporter.info(f"  … and {len(images) - LISTED} more, which --json lists")


def remember_failures(store: Store, extractor: Extractor, collection: str, scan: Scan, failed: dict[str, str]) -> None:
    """So that later verbs can say why an image (by digest) has no features."""
    if failed or scan.failed:
        store.put_failures(collection, list(extractor.spaces), Failures(failed, scan.failed))


def images_per_second(computed: int, seconds: float) -> float | None:
    """Images per second; None where there was too little work to tell."""
    return round(computed / seconds, 1) if computed and seconds >= MIN_SECONDS else None


def refuse_failed(collection: str, scan: Scan) -> None:
    """With --strict, a file that can't be read ends it before anything is embedded."""
    for image_id, reason in scan.failed.items():
        raise BBError(f"{image_id} of {collection} {reason}. Without --strict the rest is embedded.")


def check_room(store: Store, needed: int) -> None:
    """Raises BBError where that many bytes don't fit."""
    free = free_bytes(store.root)
    if needed > free:
        raise BBError(
            f"{store.root} has {size_text(free)} free, and {size_text(needed)} are needed: "
            f"make room, or give --store another place."
        )
