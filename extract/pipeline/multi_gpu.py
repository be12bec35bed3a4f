"""Several devices of one machine: a process for each, which embeds its share of what is missing.

The share depends on the image digests, as that of a machine among several does, and each process publishes segments of
its own: nothing is coordinated but by the store. Processes, since the interpreter lock would hold several GPUs up.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context
from pathlib import Path
from typing import Any

from joblib import cpu_count

from bb.extract.backbones.decoders import find_decoder
from bb.extract.backbones.device import Numerics
from bb.extract.backbones.name import BackboneName
from bb.extract.backbones.pool_grid import Patches, patches_of
from bb.extract.data.scan import Scan
from bb.extract.embedding.decoder import DecodeOptions
from bb.extract.pipeline.embed import BackboneWork, EmbedResult, Progress, embed
from bb.extract.pipeline.extractor import Extractor
from bb.extract.pipeline.partition import Partition
from bb.extract.pipeline.profile import Profile
from bb.store import BBError, Entry, Store, UsageError

TICK = 0.2  # seconds after which it is looked whether a person wants to stop, and progress is reported


def parse_devices(text: str) -> list[str]:
    """`--devices` as devices that torch knows: 0,1 are CUDA's. Raises UsageError where they don't go together."""
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise UsageError(f"--devices {text!r} leaves a device out: write, for example, 0,1 for the first two GPUs.")
    names = [f"cuda:{name}" if name.isdecimal() else "cuda:0" if name == "cuda" else name for name in parts]
    if len({name.partition(":")[0] for name in names}) > 1:
        raise UsageError(f"--devices {text} names devices of several kinds, which make features of several kinds.")
    if twice := sorted({name for name in names if name != "cpu" and names.count(name) > 1}):
        raise UsageError(f"--devices {text} names {twice[0]} twice: give each once.")
    return names


@dataclass(frozen=True)
class Share:
    """What one process is to do.

    wanted  of each backbone, what it does not have of this process's images
    spaces  of each backbone, the keys of the spaces that it must fill
    cores   that the process may use
    """

    store: Path
    names: list[BackboneName]
    spaces: list[list[str]]
    decode: DecodeOptions
    numerics: tuple[str, str, str]
    patch: Patches
    batch_size: int | None
    compile: bool
    collection: str
    scan: Scan
    wanted: list[list[Entry]]
    strict: bool
    cores: int


@dataclass(frozen=True)
class ProcessMessage:
    """What a process says: how far it is, that it is done (with a profile), or why it can't go on (with a fault)."""

    outcomes: list[EmbedResult]
    images: int = 0
    profile: Profile | None = None
    fault: str = ""


def shares(
    devices: Sequence[str],
    part: Partition,
    store: Store,
    work: Sequence[BackboneWork],
    collection: str,
    scan: Scan,
    *,
    strict: bool,
) -> list[Share]:
    """One for each device. Each image is in one share.

    part  which `work` was already narrowed to
    """
    found = []
    for share, device in zip(part.split(len(devices)), devices, strict=True):
        wanted = [[entry for entry in each.wanted if share.holds(entry.image_sha256)] for each in work]
        ids = {entry.image_id for some in wanted for entry in some}
        first = work[0].extractor
        found.append(
            Share(
                store.root,
                [each.extractor.name for each in work],
                [[space.key for space in each.extractor.spaces] for each in work],
                first.decoder.options,
                (device, first.numerics.compute, first.numerics.stored),
                patches_of(first.spaces.patch),
                first.batch_size,
                first.compile,
                collection,
                Scan({image_id: scan.sources[image_id] for image_id in ids}, [], {}),
                wanted,
                strict,
                max(1, cpu_count() // len(devices)),
            )
        )
    return found


def embed_on(
    devices: Sequence[str],
    part: Partition,
    store: Store,
    work: Sequence[BackboneWork],
    collection: str,
    scan: Scan,
    *,
    strict: bool = False,
    stop: threading.Event | None = None,
    progress: Progress = lambda outcomes, images: None,
    announce: Callable[[str], None] = lambda words: None,
) -> tuple[list[EmbedResult], Profile]:
    """As `bb.extract.pipeline.embed.embed`, on several devices. An error of one stops the others, which keep what
    they have.
    """
    processes = get_context("spawn")
    running: dict[Any, Any] = {}
    latest: dict[Any, ProcessMessage] = {}

    halted = False

    def halt() -> None:
        nonlocal halted
        for hears in () if halted else running:
            with suppress(OSError):  # of one that ended
                hears.send(None)
        halted = True

    try:
        for share in shares(devices, part, store, work, collection, scan, strict=strict):
            if any(share.wanted):
                hears, says = processes.Pipe()
                process = processes.Process(target=_serve, args=(share, says), daemon=True)
                with _no_signals():
                    process.start()
                says.close()
                running[hears] = (process, share.numerics[0])
                latest[hears] = ProcessMessage([EmbedResult() for _ in work])
        open_ = set(running)
        while open_:
            for ready in connection.wait(open_, TICK):
                ours: Any = ready
                try:
                    message = ours.recv()
                except (EOFError, OSError):
                    open_.remove(ours)
                    process, device = running[ours]
                    process.join()
                    if latest[ours].profile is None and not latest[ours].fault:
                        words = f"the process on {device} ended with status {process.exitcode}; what it published stays"
                        latest[ours] = ProcessMessage(
                            latest[ours].outcomes, latest[ours].images, fault=f"{words}, and the same command goes on."
                        )
                        halt()
                    continue
                if isinstance(message, str):
                    announce(f"{running[ours][1]}: {message}")
                    continue
                latest[ours] = message
                progress(_together(list(latest.values()), len(work)), sum(each.images for each in latest.values()))
                if message.fault or (strict and any(outcome.failed for outcome in message.outcomes)):
                    halt()
            if stop and stop.is_set():
                halt()
    except KeyboardInterrupt:  # the second one: what is not published is lost
        for process, _ in running.values():
            process.kill()
        raise
    finally:
        halt()
        for hears, (process, _) in running.items():
            hears.close()
            process.join()
    if faults := [each.fault for each in latest.values() if each.fault]:
        raise BBError(faults[0])
    profiles = [each.profile for each in latest.values() if each.profile]
    return _together(list(latest.values()), len(work)), Profile.merged(profiles, work[0].extractor.numerics.device.type)


def _together(latest: Sequence[ProcessMessage], backbones: int) -> list[EmbedResult]:
    """Of each backbone, what all processes made of it."""
    return [
        EmbedResult(
            sum(each.outcomes[i].computed for each in latest),
            {image_id: reason for each in latest for image_id, reason in each.outcomes[i].failed.items()},
            {image_id: note for each in latest for image_id, note in each.outcomes[i].notes.items()},
            any(each.outcomes[i].stopped for each in latest),
        )
        for i in range(backbones)
    ]


@contextmanager
def _no_signals() -> Iterator[None]:
    """A process started here never gets the signals of Ctrl-C and of ending; here they are only put off."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(share: Share, answers: Any) -> None:
    """In a process of its own. The first process decides when it stops, and it stops when that is gone."""
    halt = threading.Event()

    def listen() -> None:
        with suppress(EOFError, OSError):
            answers.recv()
        halt.set()

    threading.Thread(target=listen, daemon=True).start()
    outcomes = [EmbedResult() for _ in share.names]
    try:
        device, compute, stored = share.numerics
        numerics = Numerics.resolve(device, compute, stored)
        decoder = find_decoder(share.decode, numerics.device)
        work = []
        for name, wanted, keys in zip(share.names, share.wanted, share.spaces, strict=True):
            extractor = Extractor.load(
                name, decoder, numerics, patch=share.patch, batch_size=share.batch_size, compile=share.compile
            )
            if [space.key for space in extractor.spaces] != keys:
                raise BBError(f"the files of {name} changed while bb ran: run it again.")
            work.append(BackboneWork(extractor, wanted))

        reported, done = 0.0, 0

        def tell(now: Sequence[EmbedResult], images: int) -> None:
            nonlocal reported, done
            outcomes[:], done = now, images
            if time.monotonic() - reported > TICK or (share.strict and any(outcome.failed for outcome in now)):
                reported = time.monotonic()
                answers.send(ProcessMessage(list(now), images))

        outcomes, profile = embed(
            Store.open(share.store),
            work,
            share.collection,
            share.scan,
            strict=share.strict,
            stop=halt,
            progress=tell,
            announce=answers.send,
            cores=share.cores,
        )
        answers.send(ProcessMessage(outcomes, done, profile))
    except BrokenPipeError:
        pass  # nobody hears it; what was embedded is published
    except BBError as error:
        answers.send(ProcessMessage(outcomes, fault=f"{share.numerics[0]}: {error}"))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        words = f"{where}{error.strerror or error}. Fix this and rerun the command."
        answers.send(ProcessMessage(outcomes, fault=f"{share.numerics[0]}: {words}"))
