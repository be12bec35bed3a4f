"""The command line. Each verb turns words into a library call and its result into words; work is done in the layers.

Nothing heavy is imported before a verb needs it, so that `bb --help` answers at once and without torch.
"""

import gc
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

if TYPE_CHECKING:
    from extract.collection import Scan
    from extract.embed import Outcome as Embedded
    from extract.extractor import Extractor
    from extract.forecast import Forecast
    from extract.name import BackboneName
    from extract.part import Part as ImagePart
    from extract.recompute import Recomputed
    from extract.root import Root
    from extract.sample import Images
    from extract.shards import Files
    from extract.spread import Work
    from probe.board import Board
    from probe.heads.derive import Derived
    from probe.heads.derive import Prepared as PreparedHead
    from probe.newt import Labels as ProbeLabels
    from probe.retrieval.run import Prepared
    from probe.retrieval.thumbnail import Thumbnail
    from probe.run import Inputs, Spec
    from store import Collection, FeatureSpace, Store
    from store.cluster.engine import Engine, Job, OnRay, OnSlurm, Resources
    from store.cluster.slurm import Slurm
    from store.paths import Part
    from store.plan import Plan
    from store.runs import Run
    from store.transfer import Outcome

OWN_PACKAGES = ("extract", "probe", "store")
NEEDED_TO_EXTRACT = ("torch", "torchvision", "timm", "open_clip", "PIL", "safetensors")
SPDX = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}")
INTERRUPTED = 130  # what typer makes of Ctrl-C
HERE = Path(__file__).resolve().parent
SETTINGS = (
    "store",
    "device",
    "precision",
    "store_dtype",
    "batch_size",
    "decode",
    "protocol",
    "backend",
    "n_train",
    "seed",
    "jobs",
    "cache_size",
)

# What [slurm] of bb.toml may say: kinds of values, and what they are in words.
SLURM_SETTINGS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "partition": (str, "text"),
    "account": (str, "text"),
    "time": ((str, int), "text such as 4:00:00, or minutes"),
    "workers": (int, "a whole number"),
    "cpus": (int, "a whole number"),
    "gpus": (int, "a whole number"),
    "memory": ((int, float), "a number of GB"),
    "rounds": (int, "a whole number"),
    "setup": (list, "a list of shell lines"),
    "sbatch": (dict, "a table of sbatch's options"),
}

app = typer.Typer(
    help="Which frozen vision backbone to use for images of the natural world, and how sure one can be.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
probe_app = typer.Typer(help="Fit and score probes on stored features; only heads need torch.", no_args_is_help=True)
data_app = typer.Typer(help="Image collections: list, download, check.", no_args_is_help=True)
store_app = typer.Typer(help="Look into a feature store, and keep it in order.", no_args_is_help=True)
app.add_typer(probe_app, name="probe")
app.add_typer(data_app, name="data")
app.add_typer(store_app, name="store")


def main() -> None:
    """Runs the command line; a person's mistake ends in a message and status 1 or 2, never in a traceback."""
    hidden = _hidden_package()
    if hidden:
        warn(f"bb: {hidden}")
        sys.exit(2)
    try:
        from store import BBError
    except KeyboardInterrupt:  # these imports take a good part of a second
        warn("bb: stopped before anything was done.")
        sys.exit(1)

    try:
        app()
    except SystemExit as done:
        if done.code != INTERRUPTED:
            raise
        warn("bb: stopped. What was finished is in the store; the same command goes on from there.")
        sys.exit(1)
    except BBError as error:
        warn(f"bb: {error}")
        sys.exit(error.exit_status)
    except BrokenPipeError:  # `bb … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        warn(f"bb: {where}{error.strerror or error}. Mend that and run the same command again.")
        sys.exit(1)


def _hidden_package() -> str | None:
    """Says which file hides one of bb's own packages, where one does."""
    home = HERE if (HERE / "store" / "store.py").exists() else HERE.parent
    for name in OWN_PACKAGES:
        spec = importlib.util.find_spec(name)
        found = Path((spec.origin if spec else None) or "nothing").resolve()
        if found != home / name / "__init__.py":
            return (
                f"{found} stands where bb's own package {name!r} should ({home / name}). "
                f"Rename it, start bb from another folder, or take its folder out of PYTHONPATH."
            )
    return None


# Settings: flags, then BB_… variables, then bb.toml found upward, then the user's own


@dataclass(frozen=True)
class Settings:
    """What bb.toml says: values for options by name, the roots of collections, the licences of their labels, and how
    to submit to Slurm."""

    options: dict[str, Any] = field(default_factory=dict)
    data: "dict[str, Root]" = field(default_factory=dict)
    licences: dict[str, str] = field(default_factory=dict)
    slurm: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls) -> "Settings":
        settings = cls()
        for path in _settings_files():
            nearer = cls._read(path)
            settings = cls(
                settings.options | nearer.options,
                settings.data | nearer.data,
                settings.licences | nearer.licences,
                settings.slurm | nearer.slurm,
            )
        # Only before the next NAME= does a separator end a root: URLs have colons too.
        texts = re.split(rf"{os.pathsep}(?=[\w.-]+=|$)", os.environ.get("BB_DATA", ""))
        pairs = [text.partition("=") for text in texts if text]
        data = settings.data | {name: _parse_root(root) for name, _, root in pairs}
        return replace(settings, data=data)

    @classmethod
    def _read(cls, path: Path) -> "Settings":
        from store import UsageError

        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{path} is no TOML: {error}. Mend it, or move it away.") from None
        data = content.pop("data", {})
        if not isinstance(data, dict):
            raise UsageError(f'{path} sets data = {data!r}: write [data.NAME] and below it root = "/folder/of/images".')
        slurm = _slurm_settings(path, content.pop("slurm", {}))
        unknown = sorted(content.keys() - set(SETTINGS))
        if unknown:
            raise UsageError(
                f"{path} sets {', '.join(unknown)}, which bb does not know; it knows {', '.join(SETTINGS)}."
            )
        if "store" in content:
            if not isinstance(content["store"], str):
                raise UsageError(f'{path} sets store = {content["store"]!r}: write a folder, store = "features.bb".')
            from store.url import is_url

            if not is_url(content["store"]):
                content["store"] = os.path.normpath(path.parent / Path(content["store"]).expanduser())
        for option in ("n_train", "seed"):
            if option in content and not isinstance(content[option], list):
                content[option] = [content[option]]
        for option, value in content.items():
            if not all(isinstance(part, str | int) for part in (value if isinstance(value, list) else [value])):
                raise UsageError(f"{path} sets {option} = {value!r}, which is neither text nor a whole number.")
        roots, licences = {}, {}
        for name, entry in data.items():
            root, licence = (entry.get("root"), entry.get("licence")) if isinstance(entry, dict) else (None, None)
            if not isinstance(root, str) and (root is not None or licence is None):
                raise UsageError(f'{path}: [data.{name}] needs a line root = "/folder/of/images".')
            if licence is not None and not (isinstance(licence, str) and SPDX.fullmatch(licence)):
                raise UsageError(
                    f"{path}: [data.{name}] sets licence = {licence!r}, which is no SPDX identifier: "
                    f'write licence = "CC-BY-4.0", say (https://spdx.org/licenses).'
                )
            if root is not None:
                roots[name] = _parse_root(root, path.parent)
            if licence is not None:
                licences[name] = licence
        return cls(content, roots, licences, slurm)


def _slurm_settings(path: Path, said: Any) -> dict[str, Any]:
    """The table [slurm] of a settings file, each value of the kind that it has to be."""
    from store import UsageError

    if not isinstance(said, dict):
        raise UsageError(f'{path} sets slurm = {said!r}: write [slurm] and below it partition = "gpu", say.')
    unknown = sorted(said.keys() - set(SLURM_SETTINGS))
    if unknown:
        raise UsageError(
            f"{path}: [slurm] sets {', '.join(unknown)}, which bb does not know; it knows {', '.join(SLURM_SETTINGS)}."
        )
    for name, value in said.items():
        kind, words = SLURM_SETTINGS[name]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise UsageError(f"{path}: [slurm] sets {name} = {value!r}, which is not {words}.")
        if isinstance(value, list) and not all(isinstance(line, str) for line in value):
            raise UsageError(f"{path}: [slurm] sets setup = {value!r}, which is not {words}.")
    return said


def _parse_root(text: str, base: Path = Path()) -> "Root":
    from extract.root import parse_root

    return parse_root(text, base)


def labels_beside(root: "Root | None") -> Path | None:
    """Where NeWT's labels would lie, in a folder of images."""
    return root / NEWT_LABELS if isinstance(root, Path) else None


def _settings_files() -> list[Path]:
    """Settings files, the nearest last. One that another user owns could name any store, so it is passed over."""
    files = [Path(typer.get_app_dir("bb")) / "bb.toml"]
    for folder in (Path.cwd(), *Path.cwd().parents):
        path = folder / "bb.toml"
        if path.is_file():
            if hasattr(os, "getuid") and path.stat().st_uid != os.getuid():
                warn(f"{path} is another user's and is passed over.")
            else:
                files.append(path)
            break
    return [path for path in files if path.is_file()]


def _print_version(wanted: bool) -> None:
    if wanted:
        from store.versions import installed

        say(f"bb {installed('backbone-bench')}")
        raise typer.Exit


@app.callback()
def _root(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    settings = Settings.load()
    ctx.obj = settings
    options = settings.options
    retrieval = {k: v for k, v in options.items() if k in ("store", "cache_size", "jobs")}
    stored = {k: v for k, v in options.items() if k == "store"}
    ctx.default_map = {
        **{verb: options for verb in ("extract", "doctor")},
        "report": {
            **{
                verb: {k: v for k, v in options.items() if k in ("store", "cache_size")}
                for verb in ("newt", "retrieval")
            },
            "diff": options,
        },
        "probe": {
            "newt": options,
            "retrieval": retrieval,
            "head": stored,
            "rerank": {k: v for k, v in retrieval.items() if k != "jobs"},
        },
        "data": {"list": options},
        "store": {
            **{
                verb: options
                for verb in ("ls", "info", "verify", "index", "gc", "compact", "du", "why", "sign", "revoke")
            },
            **{verb: stored for verb in ("push", "pull")},
        },
    }


# Words to a person


def say(*lines: object) -> None:
    """Results, to standard output."""
    for line in lines:
        print(printable(line))


def warn(*lines: object) -> None:
    """Progress, warnings and everything that is not the result, to standard error."""
    for line in lines:
        print(printable(line), file=sys.stderr)


def printable(text: object) -> str:
    """Without the control characters by which a name out of somebody's store could steer a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in str(text))


def show_json(value: Any) -> None:
    text = json.dumps(value, indent=1, ensure_ascii=sys.stdout.isatty(), allow_nan=False)
    print(text.encode(errors="replace").decode())  # half a surrogate pair, out of somebody's store, has no UTF-8


def show_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """A table as wide as the terminal, or as it needs where nobody looks at it."""
    console = Console(width=None if sys.stdout.isatty() else 10_000, highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(printable(cell).replace("\n", " ")) for cell in row))
    for line in console.render_lines(table, pad=False):
        console.print(Text.assemble(*((segment.text, segment.style or "") for segment in line)), soft_wrap=True)


def size_text(n_bytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} TB"


class Meter:
    """Progress on standard error: a bar with rate and time left on a terminal, a line every ten seconds elsewhere.

    The unit "B" means bytes, shown as 12.3 MB.
    """

    def __init__(self, what: str, total: int, unit: str) -> None:
        self.what, self.total, self.unit = printable(what), total, unit
        self.said = time.monotonic()
        self.first: tuple[float, int] | None = None
        self.bar: Any = None
        if sys.stderr.isatty():
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )  # fmt: skip

            columns = (
                TextColumn("{task.description}", markup=False), BarColumn(),
                DownloadColumn() if unit == "B" else MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
            )  # fmt: skip
            self.bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self.task = self.bar.add_task(self.what, total=total, rate="")

    def __enter__(self) -> "Meter":
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()

    def __call__(self, done: int, total: int | None = None) -> None:
        """How many are done, and of how many, should that turn out on the way.

        The rate counts from the first call: what came before may have been a start (a compilation, say).
        """
        now, self.total = time.monotonic(), total or self.total
        if self.first is None:
            self.first = (now, done)
        since, before = self.first
        rate = (done - before) / (now - since) if now > since else 0.0
        in_bytes = self.unit == "B"
        shown = "" if not rate else f"{size_text(rate)}/s" if in_bytes else f"{rate:.1f} {self.unit}/s"
        if self.bar:
            self.bar.update(self.task, completed=done, total=self.total, rate=shown)
        elif rate and now - self.said >= 10:
            self.said = now
            parts = f"{size_text(done)} of {size_text(self.total)}" if in_bytes else f"{done}/{self.total} {self.unit}"
            warn(f"{self.what}: {parts}, {shown}, {(self.total - done) / rate:.0f} s left")


@contextmanager
def gentle_stop(
    words: str = "stopping after this batch; what is embedded will be kept",
) -> Iterator[threading.Event]:
    """An event that the first Ctrl-C (or SIGTERM, as Slurm sends it) sets; the second Ctrl-C quits."""
    stop = threading.Event()

    def first(number: int, frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        warn(f"{words} (Ctrl-C again quits at once)")

    before = {number: signal.signal(number, first) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# Options that several verbs share

StoreOption = Annotated[
    str, typer.Option("--store", envvar="BB_STORE", help="The feature store: a folder or, to read it in place, a URL.")
]
CacheOption = Annotated[
    str | None,
    typer.Option("--cache-size", envvar="BB_CACHE_SIZE", help="Room for what is read of URLs; 10GB if not said."),
]
DataOption = Annotated[
    list[str] | None,
    typer.Option(
        "--data", help="A collection: NAME=DIR, NAME=SHARDS (a-{00..99}.tar, URL), or a NAME from bb.toml or BB_DATA."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
CkptOption = Annotated[
    list[str] | None, typer.Option("--ckpt", help="A backbone, as `bb models` lists them; may be given several times.")
]
KeyOption = Annotated[Path | None, typer.Option("--key", help="Your private key's file; else what keygen made.")]
OnOption = Annotated[
    str | None, typer.Option("--on", help="Where to run it: ray, ray:HOST:PORT, ray:auto or slurm; here, if not said.")
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", help="With --on: jobs in Slurm's array (8), or actors on Ray.")
]
CpusOption = Annotated[int | None, typer.Option("--cpus", help="With --on: CPUs of each worker.")]
GpusOption = Annotated[int | None, typer.Option("--gpus", help="With --on: GPUs of each worker.")]
MemoryOption = Annotated[float | None, typer.Option("--memory", help="With --on slurm: GB of each job.")]
TimeOption = Annotated[
    str | None, typer.Option("--time", help="With --on slurm: a job's limit, minutes or H:MM:SS; 4:00:00.")
]
PartitionOption = Annotated[str | None, typer.Option("--partition", help="With --on slurm: the partition.")]
AccountOption = Annotated[str | None, typer.Option("--account", help="With --on slurm: who pays.")]
ENGINE_OPTIONS = ("workers", "cpus", "gpus", "memory", "time_limit", "partition", "account")
DEFAULT_STORE = "features.bb"
NEWT_LABELS = "newt2021_labels.csv"
THUMBNAIL = (192, 192)  # pixels, at most


def open_store(place: str, *, create: bool = False, write: bool = False, cache_size: str | None = None) -> "Store":
    """The store at a path or, where it is only read, at a URL. `create` makes it where there is none."""
    from store import Store
    from store.filesystem import caution
    from store.mirror import parse_size
    from store.trust import Trust
    from store.url import is_url

    if not is_url(place):
        place = str(local_folder(place))
    elif create or write:
        local_folder(place)
    trusted = Trust.load(trust_file()).keys
    new = create and not (Path(place) / "zarr.json").exists()
    size = parse_size(cache_size) if cache_size else None
    store = Store.create(place) if create else Store.open(place, cache_size=size)
    if create and (said := caution(Path(place))):
        warn(f"note: {place} lies on {said}")
    if new:
        warn(f"made a new store at {place}")
    return replace(store, trusted=trusted)


def local_folder(place: str) -> Path:
    """The folder of a store, of a path or a `file://` URL. Raises UsageError for any other URL."""
    from store import UsageError
    from store.folder import Folder
    from store.url import is_url, open_place

    if is_url(place):
        raise UsageError(
            f"{place} is read only in place: work on a local store (`bb store pull {shlex.quote(place)}`), and push."
        )
    found = open_place(place)
    return found.root if isinstance(found, Folder) else Path(place)


def trust_file() -> Path:
    """The public keys that this user trusts."""
    return Path(typer.get_app_dir("bb")) / "trust.json"


def key_file() -> Path:
    """This user's private key, where no other is named."""
    return Path(typer.get_app_dir("bb")) / "key.pem"


def parse_data(given: Sequence[str] | None, settings: Settings) -> "dict[str, Root | None]":
    """Collections by name, each with its folder or shards where they are known; all of bb.toml where none is given."""
    if not given:
        return dict(settings.data)
    from store import UsageError

    found: dict[str, Root | None] = {}
    for text in given:
        name, equals, folder = text.partition("=")
        if equals and not folder:
            raise UsageError(f"--data {text} names no folder: write {name}=DIR.")
        if name in found:
            raise UsageError(f"--data names {name} twice: give each collection a name of its own.")
        found[name] = _parse_root(folder) if equals else settings.data.get(name.partition("@")[0])
    return found


# engines: what --on means


@dataclass(frozen=True)
class Elsewhere:
    """--on with all that goes with it. `slurm` is the engine where that is meant; a Ray cluster is connected later."""

    on: "OnRay | OnSlurm"
    resources: "Resources"
    slurm: "Slurm | None"
    rounds: int

    @classmethod
    def of(cls, ctx: typer.Context, on: str | None, place: str) -> "Elsewhere | None":
        """What the options of a verb say; None where it runs here. `place` is the store, beside which logs go.

        Raises UsageError where they don't go together, or where the engine can't be had.
        """
        from store import UsageError
        from store.cluster.engine import ROUNDS, OnSlurm, Resources, parse_on

        given = {name: ctx.params[name] for name in ENGINE_OPTIONS if ctx.params.get(name) is not None}
        options = {"time_limit": "--time"}
        if on is None:
            if given:
                named = ", ".join(options.get(name, f"--{name}") for name in given)
                raise UsageError(f"{named} without --on: say where to run it, --on ray or --on slurm.")
            return None
        parsed = parse_on(on)
        if not isinstance(parsed, OnSlurm):
            if of_slurm := [name for name in ("partition", "account", "time_limit", "memory") if name in given]:
                raise UsageError(f"{options.get(of_slurm[0], '--' + of_slurm[0])} is for --on slurm: leave it out.")
            return cls(parsed, Resources(**given), None, ROUNDS)
        from store.cluster.slurm import TIME, Slurm

        settings: Settings = ctx.obj
        said = settings.slurm | {("time" if name == "time_limit" else name): value for name, value in given.items()}
        resources = Resources(**{name: said[name] for name in ("workers", "cpus", "gpus", "memory") if name in said})
        slurm = Slurm(
            Path(f"{place.rstrip('/')}.slurm"),
            resources,
            said.get("partition"),
            said.get("account"),
            str(said.get("time", TIME)),
            tuple(said.get("setup", ())),
            said.get("sbatch", {}),
            f"bb-{ctx.command.name}",
        )
        return cls(parsed, resources, slurm, said.get("rounds", ROUNDS))


def command_line(ctx: typer.Context, **changed: Any) -> tuple[str, ...]:
    """The command line of this verb as a worker is to run it: every option as it came out here, but where changed."""
    verb: list[str] = []
    at: Any = ctx
    while at.parent:
        verb, at = [at.info_name, *verb], at.parent
    words = [sys.executable, "-P", "-m", "bb", *verb]
    for parameter in ctx.command.params:
        name = parameter.name or ""
        value = changed[name] if name in changed else ctx.params.get(name)
        if name in ("on", *ENGINE_OPTIONS) or value is None:
            continue
        option = parameter.opts[0]
        if isinstance(value, bool):
            words += [option] if value else parameter.secondary_opts[:1]
        else:
            words += [f"{option}={each}" for each in (value if isinstance(value, list | tuple) else [value])]
    return tuple(words)


def run_elsewhere(
    elsewhere: Elsewhere, prepared: "Sequence[Any]", job: "Callable[[Any], Job]", *, force: bool
) -> "list[tuple[Run, bool]]":
    """The run of each, and whether it was computed now: by its job's command line, unless it exists.

    Raises BBError or UsageError as `until_done` does, and where a machine makes other runs than were asked for.
    """
    from store import BBError
    from store.cluster.engine import OnRay, until_done
    from store.cluster.ray import connected

    lacking = [force or not each.existing() for each in prepared]
    jobs = [job(each) for each, lacks in zip(prepared, lacking, strict=True) if lacks]
    if jobs:
        with ExitStack() as stack:
            engine: Engine | None = elsewhere.slurm
            if isinstance(elsewhere.on, OnRay):
                engine = stack.enter_context(connected(elsewhere.on.address, elsewhere.resources))
            assert engine
            until_done(
                engine,
                jobs,
                lambda sent, ended: [job for job, end in zip(sent, ended, strict=True) if end.status != 0],
                rounds=elsewhere.rounds,
                say=warn,
                tick=stack.enter_context(Meter("probing", len(jobs), "commands")),
            )
    found = [each.existing() for each in prepared]
    if other := [job(each).name for each, runs in zip(prepared, found, strict=True) if not runs]:
        raise BBError(
            f"{len(other)} runs came out as others than were asked for ({other[0]}, say), since a run is known by "
            f"what computed it: install the same versions everywhere."
        )
    return [(runs[0], lacks) for runs, lacks in zip(found, lacking, strict=True)]


def _space_words(inputs: "Inputs | Prepared") -> str:
    from store.space import short

    return ", ".join(inputs.store.backbones(inputs.space)) or short(inputs.space.key)


def _common(
    ctx: typer.Context, elsewhere: Elsewhere, store: "Store", labels: Path | None, data: str | None
) -> dict[str, Any]:
    """What a probe's command line says otherwise on a worker: whole paths, and as many processes as it has CPUs."""
    params, runs_to = ctx.params, store.runs_to
    return {
        "ckpt": [],
        "data": data,
        "labels": labels if labels is None or str(labels).startswith("@") else labels.resolve(),
        "store": params["store"] if runs_to else str(store.root.resolve()),
        "runs_to": str(runs_to.root.resolve()) if runs_to else None,
        "jobs": params["jobs"] or elsewhere.resources.cpus or 1,
        "json_": True,
    }


def parse_names(ckpts: Sequence[str] | None) -> "list[BackboneName]":
    from extract.name import BackboneName

    return list(dict.fromkeys(BackboneName.parse(text) for text in ckpts or []))


# extract


def require_extract(verb: str) -> None:
    from store import UsageError

    missing = [name for name in NEEDED_TO_EXTRACT if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"{verb} needs {', '.join(missing)}: pip install 'backbone-bench[extract]'")


@dataclass(frozen=True)
class ExtractOptions:
    device: str = "auto"
    precision: str = "auto"
    store_dtype: str = "auto"
    batch_size: str = "auto"
    compile: bool = False
    patch: bool = False
    limit: int | None = None
    strict: bool = False
    adopt: str = "auto"
    decode: str = "auto"
    profile: bool = False
    devices: tuple[str, ...] = ()
    part: "ImagePart | None" = None


@app.command("extract")
def extract_verb(
    ctx: typer.Context,
    ckpt: CkptOption = None,
    data: DataOption = None,
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
    """Embed the images that the store lacks."""
    from store import UsageError

    elsewhere = Elsewhere.of(ctx, on, store)

    if elsewhere and profile:
        raise UsageError("--profile times the stages on one machine: leave it out with --on.")
    if elsewhere and dry_run:
        raise UsageError("--dry-run says what would be done on this machine: leave out one of it and --on.")
    if adopt not in ("auto", "never"):
        raise UsageError(f"--adopt {adopt} is unknown: choose auto or never.")

    collections = parse_data(data, ctx.obj)
    nowhere = [name for name, root in collections.items() if root is None]
    if not collections or nowhere:
        command = "bb extract" + "".join(f" --ckpt {shlex.quote(c)}" for c in ckpt or ["ViT-B-16/openai"])
        name = nowhere[0] if nowhere else "newt"
        raise UsageError(
            (f"where are the images of {name}?" if nowhere else "which images? No collection is given.")
            + f" Say it:\n  {command} --data {name}=DIR\nNeWT's images and labels come with:\n"
            f"  bb data download newt --to DIR"
        )
    if not ckpt:
        raise UsageError("which backbone? Give --ckpt ViT-B-16/openai, say; `bb models` lists them.")
    names = parse_names(ckpt)
    require_extract("bb extract")
    from extract.backbone import check_known
    from extract.decoder import find_decoder
    from extract.device import Numerics
    from extract.devices import parse_devices
    from extract.encoder import parse_batch_size
    from extract.part import Part
    from store.collection import check_name

    several = parse_devices(devices) if devices is not None else []
    if several and device != "auto":
        raise UsageError(f"--device {device} and --devices {devices}: give one of them.")
    if several and elsewhere:
        raise UsageError("--devices splits the work on one machine: with --on, say --workers, and --gpus for each.")
    if elsewhere and decode == "nvjpeg":
        raise UsageError("--decode nvjpeg is for one machine: with --on, CPUs decode; choose auto.")
    for where in several or ["cpu" if elsewhere else device]:
        find_decoder(decode, Numerics.resolve(where, precision, store_dtype).device)
    parse_batch_size(batch_size)
    found = {}
    for collection, root in collections.items():
        check_name(collection)
        lies = root or Path()
        found[collection] = find(lies.resolve() if elsewhere else lies)  # workers have other working directories
    for backbone in names:
        check_known(backbone)
    options = ExtractOptions(
        several[0] if several else device, precision, store_dtype, batch_size, compile, patch, limit, strict, adopt,
        decode, profile, tuple(several), None if part is None else Part.parse(part),
    )  # fmt: skip
    if dry_run:
        show_forecasts(store, names, found, options, json_=json_)
        return
    opened = open_store(store, create=True)
    if limit is None:
        for collection, root in collections.items():
            if (labels := labels_beside(root)) is not None:
                _share_labels(opened, collection, labels, ctx.obj)
    if elsewhere is None:
        summaries = extract_all(opened, names, found, options)
    else:
        roots = {name: root or Path() for name, root in collections.items()}
        summaries = extract_elsewhere(ctx, elsewhere, opened, names, found, roots, options)
    if json_:
        show_json(summaries)
    else:
        for summary in summaries:
            say(_extract_line(summary))
        if profile:
            _show_profiles(summaries)
    if any(summary["failed"] or summary["stopped"] for summary in summaries):
        raise typer.Exit(1)


def extract_all(
    store: "Store", names: "list[BackboneName]", found: "dict[str, Files]", options: ExtractOptions
) -> list[dict[str, Any]]:
    """Embeds collections with backbones, decoding once for all; a summary of each pair."""
    from extract.adopt import adopt
    from extract.crew import crews
    from extract.decoder import find_decoder
    from extract.device import Numerics
    from extract.encoder import parse_batch_size
    from extract.extractor import Extractor
    from extract.sample import Images

    numerics = Numerics.resolve(options.device, options.precision, options.store_dtype)
    decoder = find_decoder(options.decode, numerics.device)
    batch_size = parse_batch_size(options.batch_size)
    scans = {name: _scan(store, name, images, options) for name, images in found.items()}
    images = Images.of(scans)
    for name in names:
        _announce_download(name)

    def load(name: "BackboneName") -> Extractor:
        warn(f"loading {name}")
        extractor = Extractor.load(
            name, decoder, numerics, patch=options.patch, batch_size=batch_size, compile=options.compile
        )
        if options.adopt == "auto" and options.limit is None:  # a try is no ground for what lasts
            for trial in adopt(store, extractor, images):
                warn(f"{name}: {trial.words()}")
            extractor.rest()
        return extractor

    summaries: list[dict[str, Any]] = []
    for crew in crews(names, load, processes=max(1, len(options.devices))):
        for collection, scan in scans.items():
            with gentle_stop() as stop:
                told = _extract_crew(store, crew, collection, scan, options, stop)
            summaries += told
            undone = len(summaries) < len(names) * len(scans)
            if undone and (stop.is_set() or (options.strict and any(summary["failed"] for summary in told))):
                for summary in told:
                    summary["stopped"] = True
            if any(summary["stopped"] for summary in told):
                break
        else:
            continue
        break
    order = [str(name) for name in names]
    return sorted(summaries, key=lambda summary: order.index(summary["backbone"]))


def extract_elsewhere(
    ctx: typer.Context,
    elsewhere: Elsewhere,
    store: "Store",
    names: "list[BackboneName]",
    found: "dict[str, Files]",
    roots: "dict[str, Root]",
    options: ExtractOptions,
) -> list[dict[str, Any]]:
    """`bb extract --on …`: collections are hashed and older rows adopted here, images embedded there."""
    from extract.adopt import adopt
    from extract.decoder import find_decoder
    from extract.device import Numerics
    from extract.encoder import parse_batch_size
    from extract.extractor import Extractor
    from extract.part import WHOLE
    from extract.sample import Images
    from extract.spread import Work, run_parts, stream
    from store.cluster.engine import OnRay
    from store.cluster.ray import connected
    from store.cluster.slurm import WORKERS

    scans = {collection: _scan(store, collection, images, options) for collection, images in found.items()}
    if options.strict:
        for collection, scan in scans.items():
            _refuse_failed(collection, scan)
    for name in names:
        _announce_download(name)
    with ExitStack() as stack:
        cluster = None
        if isinstance(elsewhere.on, OnRay):
            cluster = stack.enter_context(connected(elsewhere.on.address, elsewhere.resources))
            warn(f"running on {cluster.words()}")
            if cluster.resources.gpus is None and options.device in ("auto", "cuda"):
                cluster = replace(cluster, resources=replace(cluster.resources, gpus=min(1, cluster.gpus)))
        resources = cluster.resources if cluster else elsewhere.resources
        device = options.device if options.device != "auto" else "cuda" if resources.gpus else "cpu"
        precision = options.precision if options.precision != "auto" else "bf16" if "cuda" in device else "fp32"
        here = Numerics.resolve("cpu", precision, options.store_dtype)
        decoder = find_decoder(options.decode, here.device)
        extractors = []
        for name in names:
            warn(f"loading {name}")
            batch_size = parse_batch_size(options.batch_size)
            extractor = Extractor.load(
                name, decoder, here, patch=options.patch, batch_size=batch_size, compile=options.compile
            )
            if options.adopt == "auto" and options.limit is None:
                warn(*(f"{name}: {trial.words()}" for trial in adopt(store, extractor, Images.of(scans))))
            extractors.append(extractor)
        work = Work.of(store, extractors, scans)
        lacked = [work.lacking(extractor, scan) for extractor in extractors for scan in scans.values()]
        absent = work.absent()
        warn(
            f"{work.features(absent)} features to compute of {len(work.images.entries)} images, on {device} in "
            f"{precision}; {size_text(work.store_bytes(absent))} to store, {size_text(free_bytes(store.root))} free"
        )
        _check_room(store, work.store_bytes(absent))
        started = time.monotonic()
        if cluster:
            with (
                gentle_stop("stopping; what the workers have in hand will be kept") as stop,
                Meter("extracting on Ray", work.features(absent), "features") as meter,
            ):
                whole = stream(work, cluster, device, stop=stop.is_set, strict=options.strict, progress=meter, say=warn)
        else:
            assert elsewhere.slurm
            common = {
                "store": str(store.root.resolve()),
                "data": [f"{name}={root.resolve()}" for name, root in roots.items()],
                "device": device,
                "precision": here.compute,
                "store_dtype": here.stored,
                "adopt": "never",
                "json_": True,
            }
            parts = (options.part or WHOLE).split(elsewhere.resources.workers or WORKERS)
            with Meter("extracting on Slurm", work.features(absent), "features") as meter:
                whole = run_parts(
                    work, elsewhere.slurm, parts, lambda part: command_line(ctx, **common, part=str(part)),
                    rounds=elsewhere.rounds, strict=options.strict, progress=meter, say=warn,
                )  # fmt: skip
    seconds = time.monotonic() - started
    pairs = [(extractor, collection) for extractor in extractors for collection in scans]
    return [
        _summary_elsewhere(work, extractor, collection, mask, whole, seconds)
        for (extractor, collection), mask in zip(pairs, lacked, strict=True)
    ]


def _summary_elsewhere(
    work: "Work", extractor: "Extractor", collection: str, lacked: Any, whole: bool, seconds: float
) -> dict[str, Any]:
    """What extract_all says of a backbone and a collection; `lacked` are the entries that were missing at first."""
    scan = work.scans[collection]
    lacking = work.lacking(extractor, scan)
    reasons = work.failed.get(str(extractor.name), {})
    left = [entry for entry, gone in zip(scan.entries, lacking, strict=True) if gone]
    failed = {entry.image_id: reasons[entry.image_sha256] for entry in left if entry.image_sha256 in reasons}
    failed = dict(sorted((scan.failed | failed).items()))
    _tell_failed(failed)
    computed = int((lacked & ~lacking).sum())
    return {
        "backbone": str(extractor.name),
        "collection": collection,
        "spaces": [space.key for space in extractor.spaces],
        "adopted": sorted({older.key for space in extractor.spaces for older in work.store.older(space)}),
        "images": len(scan.entries) + len(scan.failed),
        "present": int((~lacked).sum()),
        "computed": computed,
        "failed": failed,
        "stopped": not whole,
        "seconds": round(seconds, 3),
        "images_per_second": round(computed / seconds, 1) if computed else None,
        "store": str(work.store.root),
    }


def _scan(store: "Store", name: str, images: "Files", options: ExtractOptions) -> "Scan":
    """Hashes a collection, and publishes the version unless only the first images are looked at; what is to be done."""
    from store import Collection

    found = hash_images(name, images, options.limit)
    if options.limit is None:
        store.put_collection(Collection.from_entries(name, found.entries))
    else:
        warn(f"{name}: the first {len(found.sources)} images only, so no version of the collection is recorded")
    return _part_of(found, options)


def _part_of(scan: "Scan", options: ExtractOptions) -> "Scan":
    """With --part, the images of that part alone."""
    part = options.part
    return replace(scan, entries=[e for e in scan.entries if part.holds(e.image_sha256)]) if part else scan


def find(root: "Root") -> "Files":
    """The files of a folder, or the shards, that hold a collection's images."""
    from extract.collection import find_images
    from extract.shards import find_shards

    with unswept():
        return find_images(root) if isinstance(root, Path) else find_shards(root)


@contextmanager
def unswept() -> Iterator[None]:
    """Garbage is looked for only in what is made inside: going through torch again and again, as lists of many images
    grow, costs a third of the time that finding nothing to do takes."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def hash_images(
    name: str, images: "Files", limit: int | None = None, *, read_only: bool = False, known_only: bool = False
) -> "Scan":
    """What the images of a collection hash to; with `read_only`, nothing of it is remembered.

    known_only  of shards, only what is remembered: BBError where they would have to be read
    """
    from itertools import islice

    from joblib import cpu_count

    from extract.collection import HashMemory, scan
    from extract.shards import scan_shards

    with unswept(), HashMemory.open(_cache_folder() / "hashes.sqlite", read_only=read_only) as memory:
        if isinstance(images, dict):
            files = dict(islice(images.items(), limit))
            with Meter(f"hashing {name}", len(files), "images") as meter:
                return scan(files, memory, threads=cpu_count(), progress=meter)
        with Meter(f"reading {name}", sum(shard.blob.size for shard in images), "B") as meter:
            return scan_shards(images, memory, limit=limit, known_only=known_only, threads=cpu_count(), progress=meter)


def show_forecasts(
    place: str,
    names: "list[BackboneName]",
    found: "dict[str, Files]",
    options: ExtractOptions,
    *,
    json_: bool,
) -> None:
    """`bb extract --dry-run`."""
    from dataclasses import asdict

    from extract.decoder import find_decoder
    from extract.device import Numerics
    from extract.forecast import forecast

    store = open_store(place) if local_folder(place).exists() else None
    numerics = Numerics.resolve(options.device, options.precision, options.store_dtype)
    decoder = find_decoder(options.decode, numerics.device)
    scans = {
        name: _part_of(hash_images(name, images, options.limit, read_only=True), options)
        for name, images in found.items()
    }
    adopting = options.adopt == "auto" and options.limit is None
    told: list[Forecast] = []
    for name in names:
        warn(f"looking at {name}")
        told += forecast(store, name, decoder, numerics, scans, patch=options.patch, adopt=adopting)
    if json_:
        show_json([asdict(each) for each in told])
        return
    for each in told:
        say(*_forecast_lines(each))
    say("this was a dry run: nothing was written")


def _forecast_lines(told: "Forecast") -> Iterator[str]:
    from store.space import short

    what = f"{told.backbone} on {told.collection}"
    if told.missing is None:
        size = "weights of unknown size" if told.download is None else f"{size_text(told.download)} of weights"
        yield f"{what}: {size} to download; they decide the feature space, so what is there is known only then"
        for known in told.known:
            yield (
                f"  of this name the store has space {short(known['space'])} ({known['kind']}, {known['compute']} "
                f"stored as {known['stored']}) with {known['images']} of {told.images} images"
            )
        return
    yield (
        f"{what}: {told.present} of {told.images} images are there, {told.missing} to compute, "
        f"{size_text(told.store_bytes or 0)} to store, nothing to download; space {', '.join(map(short, told.spaces))}"
    )
    for miss in told.nearest:
        if miss["nearest"] is None:
            yield f"  the store lacks space {short(miss['space'])}, and has no space of {miss['kind']} features"
            continue
        name = f"{short(miss['nearest'])} ({', '.join(miss['backbones']) or 'no rows'})"
        yield f"  the store lacks space {short(miss['space'])}; the nearest is {name}, which differs in"
        yield from (f"    {part}: {said}" for part, said in miss["differs"].items())
    for trial in told.adopting:
        yield (
            f"  space {short(trial['older'])} differs from {short(trial['space'])} in the code alone: "
            f"{trial['sample']} images would be embedded again, to see whether its rows serve for {trial['fills']}"
        )


def _announce_download(name: "BackboneName") -> None:
    """Says what will be downloaded, and refuses where it can't fit."""
    from extract.hub import cache_folder, download_bytes
    from store import BBError

    size = download_bytes(name)
    if size == 0:
        return
    folder = cache_folder(name)
    free = free_bytes(folder)
    what = "something of unknown size" if size is None else size_text(size)
    warn(f"{name}: {what} to download to {folder}, where {size_text(free)} are free")
    if size and size > free:
        raise BBError(
            f"{name} needs {what} in {folder}, where {size_text(free)} are free: "
            f"make room, or set HF_HOME to a folder that has it."
        )


def _extract_crew(
    store: "Store",
    crew: "list[Extractor]",
    collection: str,
    scan: "Scan",
    options: ExtractOptions,
    stop: threading.Event,
) -> list[dict[str, Any]]:
    """One pass over a collection for some backbones; a summary of each."""
    from functools import partial

    from extract.devices import embed_on
    from extract.embed import Plan, Work, embed
    from extract.name import shared_name
    from extract.part import WHOLE

    if options.strict:
        _refuse_failed(collection, scan)
    plans = [Plan.make(store, extractor.spaces, scan.entries) for extractor in crew]
    needed = [plan.store_bytes(extractor.spaces) for plan, extractor in zip(plans, crew, strict=True)]
    free = free_bytes(store.root)
    for extractor, plan, size in zip(crew, plans, needed, strict=True):
        what = f"{extractor.name} on {collection}"
        warn(
            f"{what}: {plan.present} of {len(scan.entries)} images are there, {len(plan.wanted)} to compute on "
            f"{extractor.numerics.device_name()} in {extractor.numerics.compute}; {size_text(size)} to store, "
            f"{size_text(free)} free"
        )
        names = store.backbones(extractor.spaces.img)
        if not plan.wanted and names and shared_name(extractor.name) not in names:
            warn(f"{what}: these very features are known as {' and '.join(names)}; probe them with --ckpt {names[0]}")
    _check_room(store, sum(needed))
    started = time.monotonic()
    who = str(crew[0].name) if len(crew) == 1 else f"{len(crew)} backbones"
    with Meter(f"{who} on {collection}", sum(len(plan.wanted) for plan in plans), "images") as meter:

        def show(outcomes: "Sequence[Embedded]") -> None:
            meter(sum(outcome.computed + len(outcome.failed) for outcome in outcomes))

        work = [Work(extractor, plan.wanted) for extractor, plan in zip(crew, plans, strict=True)]
        run = partial(embed_on, options.devices, options.part or WHOLE) if options.devices else embed
        outcomes, profile = run(
            store, work, collection, scan, strict=options.strict, stop=stop, progress=show, announce=warn
        )
    seconds = time.monotonic() - started
    told: list[dict[str, Any]] = []
    for extractor, plan, outcome in zip(crew, plans, outcomes, strict=True):
        failed = dict(sorted((scan.failed | outcome.failed).items()))
        told.append(
            {
                "backbone": str(extractor.name),
                "collection": collection,
                "spaces": [space.key for space in extractor.spaces],
                "adopted": sorted({older.key for space in extractor.spaces for older in store.older(space)}),
                "images": len(scan.sources),
                "present": plan.present,
                "computed": outcome.computed,
                "failed": failed,
                "stopped": outcome.stopped,
                "seconds": round(seconds, 3),
                "images_per_second": round(outcome.computed / seconds, 1) if outcome.computed else None,
                "store": str(store.root),
                **({"profile": profile.record()} if options.profile else {}),
            }
        )
    _tell_failed({image_id: reason for summary in told for image_id, reason in summary["failed"].items()})
    return told


def _refuse_failed(collection: str, scan: "Scan") -> None:
    """With --strict, a file that can't be read ends it before anything is embedded."""
    from store import BBError

    for image_id, reason in scan.failed.items():
        raise BBError(f"{image_id} of {collection} {reason}. Without --strict the rest is embedded.")


def _check_room(store: "Store", needed: int) -> None:
    """Raises BBError where so many bytes don't fit."""
    from store import BBError

    free = free_bytes(store.root)
    if needed > free:
        raise BBError(
            f"{store.root} has {size_text(free)} free, and {size_text(needed)} are needed: "
            f"make room, or give --store another place."
        )


def _tell_failed(failed: dict[str, str]) -> None:
    for image_id, reason in list(failed.items())[:20]:
        warn(f"  {image_id}: {reason}")
    if len(failed) > 20:
        warn(f"  … and {len(failed) - 20} more, which --json lists")


def _extract_line(summary: dict[str, Any]) -> str:
    from store.space import short

    rate = f" at {summary['images_per_second']} images/s" if summary["images_per_second"] else ""
    stopped = "; stopped early" if summary["stopped"] else ""
    if summary["stopped"] and not summary["failed"]:
        stopped += ", the same command goes on"
    return (
        f"{summary['backbone']} on {summary['collection']}: {summary['present']} were there, "
        f"{summary['computed']} computed{rate}, {len(summary['failed'])} failed{stopped}; "
        f"space {', '.join(short(key) for key in summary['spaces'])} in {summary['store']}"
        + (f"; rows adopted from space {', '.join(map(short, summary['adopted']))}" if summary["adopted"] else "")
    )


def _show_profiles(summaries: Sequence[dict[str, Any]]) -> None:
    """A table for each pass over a collection; backbones that shared it are told together."""
    passes: dict[str, list[dict[str, Any]]] = {}
    for summary in summaries:
        passes.setdefault(json.dumps([summary["collection"], summary["profile"]]), []).append(summary)
    for shared in passes.values():
        told = shared[0]["profile"]
        names = ", ".join(summary["backbone"] for summary in shared)
        say(f"{names} on {shared[0]['collection']}, {told['seconds']:.1f} s on {told['cores']} cores:")
        rows = [[name, f"{s['seconds']:.1f}", f"{s['processor_seconds']:.1f}"] for name, s in told["stages"].items()]
        rows += [
            [f"waiting: {name} ({waited['threads']})", f"{waited['seconds']:.1f}", ""]
            for name, waited in told["waiting"].items()
        ]
        show_table(["stage", "s", "processor s"], rows, right=["s", "processor s"])
        say(told["bottleneck"])


def free_bytes(path: Path) -> int:
    """Free space where `path` is or would be made."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def _cache_folder() -> Path:
    from store.mirror import cache_folder

    return cache_folder()


# probe


@probe_app.command("newt")
def probe_newt_verb(
    ctx: typer.Context,
    n_train: Annotated[
        list[str] | None,
        typer.Option("--n-train", help="Training images per task, or all; may be given several times."),
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option("--seed", help="Which few-shot draw; several times for several.")
    ] = None,
    ckpt: CkptOption = None,
    space: Annotated[list[str] | None, typer.Option("--space", help="A feature space's key, or its beginning.")] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", help="The collection: NAME, NAME=DIR or NAME@DIGEST; newt if it is not said."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels", help="Labels in NeWT's columns; else DIR/newt2021_labels.csv, else the store's (@DIGEST)."
        ),
    ] = None,
    protocol: Annotated[str, typer.Option(envvar="BB_PROTOCOL", help="biobench or newt2021.")] = "biobench",
    svm: Annotated[str, typer.Option(help="auto, linear or search.")] = "auto",
    backend: Annotated[str, typer.Option(envvar="BB_BACKEND", help="auto, exact, sklearn or cuml.")] = "auto",
    jobs: Annotated[
        int | None, typer.Option(envvar="BB_JOBS", min=1, help="Processes; all cores if it is not said.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Compute runs again that exist.")] = False,
    runs_to: Annotated[
        str | None, typer.Option("--runs-to", help="The local store for runs, where --store is a URL; features.bb.")
    ] = None,
    on: OnOption = None,
    workers: WorkersOption = None,
    cpus: CpusOption = None,
    gpus: GpusOption = None,
    memory: MemoryOption = None,
    time_limit: TimeOption = None,
    partition: PartitionOption = None,
    account: AccountOption = None,
    store: StoreOption = DEFAULT_STORE,
    cache_size: CacheOption = None,
    json_: JsonOption = False,
) -> None:
    """Score stored features on NeWT's two-class tasks."""
    from probe.engine import choose
    from probe.protocol import parse_protocol
    from probe.run import Inputs, Spec, prepare
    from probe.sampling import parse_n_train
    from probe.spaces import choose_spaces
    from store.cluster.engine import Job
    from store.head import SEEN, has_seen, head_name

    elsewhere = Elsewhere.of(ctx, on, runs_to or (DEFAULT_STORE if "://" in store else store))
    shots = [parse_n_train(part) for text in n_train or ["all"] for part in text.split(",")]
    backbones = backbone_names(ckpt)
    ((name, root),) = parse_data([data or "newt"], ctx.obj).items()
    opened, runs_store = _open_to_probe(store, runs_to, cache_size)
    found_labels = read_probe_labels(opened, name, root, labels, ctx.obj)
    if found_labels.note:
        warn(found_labels.note)
    collection = opened.collection(name, found_labels.image_ids)
    spaces = choose_spaces(opened, collection, found_labels.image_ids, backbones=backbones, keys=space or [])
    keys = collection.digests(sorted({image_id for task in found_labels.tasks for image_id in task.test_ids.tolist()}))
    warn(*(f"note: {head_name(each.weights)} {SEEN}" for each in spaces if has_seen(opened, each, keys)))
    chosen = parse_protocol(protocol)
    choose(backend)  # one that is unknown or not there is said before anything is read
    inputs = [Inputs.read(opened, each, collection, found_labels, "newt") for each in spaces]
    specs = [
        Spec(chosen, shot, number, svm, backend, warn)
        for shot in dict.fromkeys(shots)
        for number in ([0] if shot == "all" else dict.fromkeys(seed or [0]))
    ]
    if elsewhere is None:
        results = probe_all(inputs, specs, jobs=jobs, force=force)
    else:
        prepared = [prepare(each, spec) for each in inputs for spec in specs]
        common = _common(ctx, elsewhere, opened, labels, f"{name}={root.resolve()}" if root else data)
        results = run_elsewhere(
            elsewhere,
            prepared,
            lambda each: Job(
                f"{_space_words(each.inputs)}, n_train {each.spec.n_train}, seed {each.spec.seed}",
                command_line(
                    ctx,
                    **common,
                    space=[each.inputs.space.key],
                    n_train=[each.spec.n_train],
                    seed=[each.spec.seed],
                ),
            ),
            force=force,
        )
    if json_:
        show_json([{**run.record, "fresh": fresh} for run, fresh in results])
        return
    show_table(
        ["backbone", "space", "n_train", "seed", "mean", "over tasks", "run", ""],
        [_run_line(run, fresh) for run, fresh in results],
        right=["n_train", "seed", "mean", "over tasks"],
    )
    fresh_runs = sum(fresh for _, fresh in results)
    say(f"{fresh_runs} runs computed, {len(results) - fresh_runs} were there. Next:")
    local = opened.runs_to or opened
    far = sum(next(local.runs(run.run_id), None) is None for run, _ in results)
    if far < len(results):
        say(f"  bb report newt --store {shlex.quote(runs_store)}")
    if far:
        say(f"  bb report newt --store {shlex.quote(opened.name)}")


@probe_app.command("retrieval")
def probe_retrieval_verb(
    ctx: typer.Context,
    labels: Annotated[
        Path, typer.Option("--labels", help="CSV or Parquet: image_id, label; see docs/retrieval.md for what may be.")
    ],
    ckpt: CkptOption = None,
    space: Annotated[list[str] | None, typer.Option("--space", help="A feature space's key, or its beginning.")] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", help="The collection, NAME or NAME@DIGEST; the store's only one if not said."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Rows to take: train, val, test or all; test, where there are such, if not said.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="The split that answers; else the rows answer each other.")
    ] = None,
    folds: Annotated[int | None, typer.Option(help="Cross-validation: no row answers another of its fold.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Deals the folds.")] = 0,
    distance: Annotated[str, typer.Option(help="cosine or euclidean.")] = "cosine",
    convention: Annotated[str, typer.Option(help="standard, or oml: as Open Metric Learning counts.")] = "standard",
    k: Annotated[str, typer.Option("--k", help="Cut-offs of CMC@k, precision@k, …, with commas.")] = "1,5,10",
    knn: Annotated[str, typer.Option("--knn", help="Neighbours that vote on a label, with commas.")] = "1,5,20",
    pairs: Annotated[bool, typer.Option(help="Count all pairs, for AUROC and FNMR@FMR.")] = True,
    fmr: Annotated[str, typer.Option("--fmr", help="False match rates of FNMR@FMR.")] = "0.1,0.01,0.001",
    index: Annotated[
        str, typer.Option(help="exact, or faiss: faster on large galleries, and says its recall.")
    ] = "exact",
    jobs: Annotated[
        int | None, typer.Option(envvar="BB_JOBS", min=1, help="Threads; all cores if it is not said.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Compute runs again that exist.")] = False,
    runs_to: Annotated[
        str | None, typer.Option("--runs-to", help="The local store for runs, where --store is a URL; features.bb.")
    ] = None,
    on: OnOption = None,
    workers: WorkersOption = None,
    cpus: CpusOption = None,
    gpus: GpusOption = None,
    memory: MemoryOption = None,
    time_limit: TimeOption = None,
    partition: PartitionOption = None,
    account: AccountOption = None,
    store: StoreOption = DEFAULT_STORE,
    cache_size: CacheOption = None,
    json_: JsonOption = False,
) -> None:
    """Score stored features on finding images of the same label: re-identification, retrieval."""
    from probe.retrieval.approximate import parse_index
    from probe.retrieval.evaluate import Retrieval
    from probe.retrieval.items import assign, read_items
    from probe.retrieval.run import prepare
    from probe.spaces import choose_spaces
    from store.cluster.engine import Job
    from store.collection import only_collection

    elsewhere = Elsewhere.of(ctx, on, runs_to or (DEFAULT_STORE if "://" in store else store))
    how = Retrieval(
        distance=distance, convention=convention, ks=numbers("--k", k, int), knn=numbers("--knn", knn, int),
        pairs=pairs, fmrs=numbers("--fmr", fmr, float),
    )  # fmt: skip
    faiss = parse_index(index)
    items, roles, warnings = assign(read_items(labels), split=split, against=against, folds=folds, seed=seed)
    backbones = backbone_names(ckpt)
    opened, _ = _open_to_probe(store, runs_to, cache_size)
    image_ids = items.image_ids.tolist()
    name = data.partition("=")[0] if data else only_collection(opened.collection_names())  # no image is read
    collection = opened.collection(name, image_ids)
    spaces = choose_spaces(opened, collection, image_ids, backbones=backbones, keys=space or [])
    prepared = [
        prepare(
            opened, each, collection, items, tasks=labels.stem, how=how, roles=roles, faiss=faiss, warnings=warnings
        )
        for each in spaces
    ]
    if elsewhere is None:
        results = retrieve_all(prepared, jobs=jobs, force=force)
    else:
        common = _common(ctx, elsewhere, opened, labels, data)
        results = run_elsewhere(
            elsewhere,
            prepared,
            lambda each: Job(_space_words(each), command_line(ctx, **common, space=[each.space.key])),
            force=force,
        )
    show_retrieval(results, json_=json_)


def numbers(option: str, text: str, kind: Callable[[str], Any]) -> tuple[Any, ...]:
    """The numbers of an option, between commas."""
    from store import UsageError

    try:
        return tuple(kind(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise UsageError(f"{option} {text} is not a list of numbers: write {option} 1,5,10, say.") from None


def retrieve_all(prepared: "Sequence[Prepared]", *, jobs: int | None, force: bool = False) -> "list[tuple[Run, bool]]":
    """The run of each, and whether it was computed now. Finished runs stay if it is broken off."""
    from probe.retrieval.run import execute
    from store.space import short

    results = []
    for each in prepared:
        existing = each.existing()
        if existing and not force:
            results.append((existing[0], False))
            continue
        what = ", ".join(each.store.backbones(each.space)) or short(each.space.key)
        with Meter(what, 1, "steps") as meter:
            run = execute(each, jobs=jobs, progress=meter)
        if any(other.record["scores"] != run.record["scores"] for other in existing):
            warn(f"{what}: run {short(run.run_id)} came out otherwise than before; both are kept")
        results.append((run, True))
    return results


def show_retrieval(results: "list[tuple[Run, bool]]", *, json_: bool) -> None:
    """Runs of one test set, the best first: the main metric with its interval, some others, categories, and notes."""
    from probe.retrieval.run import intervals
    from store.space import short

    if json_:
        show_json([{**run.record, "fresh": fresh} for run, fresh in results])
        return
    results = sorted(results, key=lambda one: -one[0].record["scores"]["mean"])
    records = [run.record for run, _ in results]
    scores, how = records[0]["scores"], records[0]["parameters"]
    main, ks = scores["main"], how["ks"]
    warn(*dict.fromkeys(note for record in records for notes in record["notes"].values() for note in notes))
    bounds = intervals([run for run, _ in results], main)
    more = [f"{name}@{k}" for name in ("cmc", "map") for k in dict.fromkeys((ks[0], ks[-1]))]
    more += ["r_precision", *(f"knn@{k}" for k in how["knn"][:1]), "auroc"]
    columns = [name for name in more if name in scores["overall"]]
    say(
        f"{records[0]['tasks']} on {records[0]['collection_name']}: {scores['queries']} queries, {scores['gallery']} "
        f"in the gallery, {how['distance']}, convention {how['convention']}; {main} with its 95% interval over queries"
    )
    rows = []
    for place, (run, fresh) in enumerate(results):
        record, overall = run.record, run.record["scores"]["overall"]
        interval = f"{bounds.estimate[place]:.4f} [{bounds.low[place]:.4f}, {bounds.high[place]:.4f}]"
        rows.append(
            [", ".join(record["backbones"]), short(record["space"]), interval,
             *(f"{overall[name]:.4f}" if name in overall else "" for name in columns),
             short(run.run_id), "" if fresh else "was there"]
        )  # fmt: skip
    show_table(["backbone", "space", main, *columns, "run", ""], rows, right=columns)
    for record in records:
        if record["index_recall"]:
            shares = ", ".join(f"{name} {share:.4f}" for name, share in record["index_recall"].items() if "@" in name)
            say(f"{', '.join(record['backbones'])}: of the exact search faiss finds {shares}")
    if names := sorted(scores["categories"]):
        body = [
            [", ".join(record["backbones"]), name, clusters[name]["n"], f"{clusters[name]['mean']:.4f}"]
            for record in records for clusters in [record["scores"]["clusters"]] for name in names if name in clusters
        ]  # fmt: skip
        show_table(["backbone", "category", "queries", main], body, right=["queries", main])


@probe_app.command("rerank")
def probe_rerank_verb(
    ctx: typer.Context,
    labels: Annotated[Path, typer.Option("--labels", help="The labelled table: image_id, label, split, …")],
    learn_on: Annotated[str, typer.Option("--learn-on", help="The split that the model is learned on.")] = "train",
    test_on: Annotated[
        str | None, typer.Option("--test-on", help="The split it is tested on: test, but all with --load.")
    ] = None,
    top_n: Annotated[int, typer.Option("--top-n", min=2, help="How many of the nearest get a new order.")] = 100,
    distance: Annotated[
        str, typer.Option("--distance", help="What finds the nearest: cosine or euclidean.")
    ] = "cosine",
    convention: Annotated[str, typer.Option("--convention", help="Of the metrics: standard or oml.")] = "standard",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of folds and pairs.")] = 0,
    save: Annotated[Path | None, typer.Option("--save", help="Write the model (safetensors).")] = None,
    load: Annotated[Path | None, typer.Option("--load", help="Take a model that was saved, and learn none.")] = None,
    ckpt: CkptOption = None,
    space: Annotated[list[str] | None, typer.Option("--space", help="A feature space's key, or its beginning.")] = None,
    data: Annotated[str | None, typer.Option("--data", help="The collection: NAME, or NAME@DIGEST.")] = None,
    log: Annotated[list[str] | None, typer.Option("--log", help="tensorboard:DIR, mlflow:DIR or wandb:DIR.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Compute runs again that exist.")] = False,
    runs_to: Annotated[
        str | None, typer.Option("--runs-to", help="The local store for runs, where --store is a URL; features.bb.")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    cache_size: CacheOption = None,
    json_: JsonOption = False,
) -> None:
    """Learn to put the nearest images into a better order, and say what that changes."""
    from contextlib import closing
    from dataclasses import asdict
    from functools import partial

    from probe.retrieval.items import assign, read_items
    from probe.retrieval.logger import open_logger
    from probe.retrieval.pairwise import Distance
    from store import UsageError
    from store.space import short

    check_named(distance, convention)
    if save and load:
        raise UsageError("--save writes a model that is learned, and --load takes one: give one of them.")
    if save:
        check_files({"--save": save})
    if importlib.util.find_spec("torch") is None:
        raise UsageError("bb probe rerank needs torch: pip install 'backbone-bench[heads]'")
    from probe.heads.pairs import learn
    from probe.heads.pairwise import save as save_model
    from probe.heads.reranking import compared, digest, loaded, steps, training
    from probe.retrieval.evaluate import Retrieval
    from probe.retrieval.run import prepare

    table = read_items(labels)
    train = None if load else training(table, learn_on)
    test, roles, warnings = assign(table, split=test_on or ("all" if load else "test"))
    warn(*(f"note: {said}" for said in warnings))
    every = sorted({*test.image_ids.tolist(), *(train.image_ids.tolist() if train else ())})
    opened, _ = _open_to_probe(store, runs_to, cache_size)
    name, _ = collection_of(opened, data, every, ctx.obj)
    collection, spaces = retrieval_spaces(opened, name, every, ckpt, space)
    if (save or load) and len(spaces) > 1:
        listed = "\n".join(f"  --space {short(s.key)}  {', '.join(opened.backbones(s))}" for s in spaces)
        raise UsageError(f"a file holds the model of one feature space, and {len(spaces)} are there; choose:\n{listed}")
    how = Retrieval(distance=distance, convention=convention, pairs=False)
    trivial = Distance(distance)  # type: ignore[arg-type]  # checked above
    told: list[dict[str, Any]] = []
    with ExitStack() as stack:
        loggers = [stack.enter_context(closing(open_logger(text))) for text in log or ()]
        for step, (backbone, each) in enumerate(space_names(opened, spaces).items()):
            make = partial(
                prepare, opened, each, collection, test, tasks=labels.stem, how=how, roles=roles, warnings=warnings
            )
            before = make()
            if train is None:
                found = loaded(load or Path(), before.features.shape[1])
            else:
                examples = opened.read(each, collection, train.image_ids.tolist())
                with Meter(f"{backbone}: learning from {len(train)} images", 1, "steps") as meter:
                    found = learn(
                        examples, train.label_codes, train.sequence,
                        trivial=trivial, top_n=top_n, seed=seed, progress=meter,
                    )  # fmt: skip
            after = make(steps=steps(found, before, top_n))
            (one, _), (other, _) = retrieve_all([before, after], jobs=None, force=force)
            result = compared(one, other)
            told.append(
                {"backbone": backbone, "space": each.key, "model": digest(found), "chosen": found.chosen,
                 "top_n": top_n, "held_out": found.scores, "runs": {"before": one.run_id, "after": other.run_id},
                 "changes": {metric: asdict(change) for metric, change in result.items()}}
            )  # fmt: skip
            if save:
                save_model(found.model, save)
                warn(f"wrote {save}: {found.chosen}, {short(digest(found))}")
            for logger in loggers:
                for metric, change in result.items():
                    logger.log_scalars(
                        {
                            f"{backbone}/before/{metric}": change.before.mean,
                            f"{backbone}/after/{metric}": change.after.mean,
                        },
                        step,
                    )
        for logger in loggers:
            logger.log_pipeline_info(
                {"labels": labels.name, "learn_on": None if load else learn_on, "top_n": top_n, "seed": seed,
                 "how": how.parameters(), "roles": roles, "runs": {line["space"]: line["runs"] for line in told},
                 "models": {line["space"]: line["model"] for line in told}}
            )  # fmt: skip
    if json_:
        show_json(told)
        return
    for line in told:
        some = line["changes"].values()
        n = max(change["queries"] for change in some)
        say(f"{line['backbone']}, space {short(line['space'])}: {line['chosen']}; the nearest {top_n} of {n} queries")
        show_table(
            ["metric", "before", "after", "difference", "p"],
            [
                [metric, f"{c['before']['mean']:.4f}", f"{c['after']['mean']:.4f}",
                 "{mean:+.4f} [{low:+.4f}, {high:+.4f}]".format(**c["difference"]), f"{c['p']:.4f}"]
                for metric, c in line["changes"].items()
            ],
        )  # fmt: skip


@probe_app.command("head")
def probe_head_verb(
    ctx: typer.Context,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="CSV or Parquet: image_id, label, split; see docs/heads.md.")
    ] = None,
    ckpt: CkptOption = None,
    space: Annotated[list[str] | None, typer.Option("--space", help="A feature space's key, or its beginning.")] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", help="The collection, NAME or NAME@DIGEST; the store's only one if not said."),
    ] = None,
    loss: Annotated[str, typer.Option(help="triplet or arcface.")] = "triplet",
    miner: Annotated[
        str | None, typer.Option(help="Of triplets: hard, if not said; all, n-hard[:NxM], hard-cluster.")
    ] = None,
    margin: Annotated[
        str | None, typer.Option(help="Of the triplet loss, 0.2, or soft; of ArcFace in degrees, 28.6.")
    ] = None,
    bank: Annotated[int, typer.Option(help="Rows beside each batch, among which triplets are mined too.")] = 0,
    sampler: Annotated[
        str, typer.Option(help="balanced[:LABELSxIMAGES]; category or distinct-categories[:CATEGORIESxLABELSxIMAGES].")
    ] = "balanced",
    dim: Annotated[int | None, typer.Option(help="Length of the new features; the parent's, but 128 at most.")] = None,
    hidden: Annotated[int | None, typer.Option(help="Width of a hidden layer; without it the head is linear.")] = None,
    start: Annotated[str, typer.Option(help="The first layer before training: whitened or plain.")] = "whitened",
    epochs: Annotated[int, typer.Option(help="At most so many.")] = 100,
    patience: Annotated[int, typer.Option(help="End after so many epochs without a better validation.")] = 10,
    lr: Annotated[float, typer.Option("--lr", help="Learning rate of AdamW.")] = 1e-3,
    decay: Annotated[float, typer.Option(help="Weight decay of AdamW.")] = 1e-4,
    warmup: Annotated[int, typer.Option(help="Epochs in which only what began by chance is trained.")] = 0,
    seed: Annotated[int, typer.Option("--seed", help="Of batches, of what is drawn, and of labels held out.")] = 0,
    load: Annotated[
        str | None,
        typer.Option("--load", help="Train nothing; send rows through a head that is there: its name, or a file."),
    ] = None,
    log: Annotated[list[str] | None, typer.Option("--log", help="tensorboard:DIR, mlflow:DIR or wandb:DIR.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Train again what was trained.")] = False,
    store: StoreOption = DEFAULT_STORE,
    json_: JsonOption = False,
) -> None:
    """Train a projection head on stored features; what it makes of them is a feature space of its own."""
    from store import UsageError

    missing = [name for name in ("torch", "safetensors") if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"bb probe head needs {', '.join(missing)}: pip install 'backbone-bench[heads]'")
    from probe.heads.derive import extend, prepare
    from probe.heads.derive import load as load_head
    from probe.heads.recipe import Recipe, parse_loss, parse_sampling
    from probe.retrieval.items import read_items
    from probe.spaces import choose_spaces
    from store.collection import only_collection
    from store.head import is_derived

    if load is not None and (labels or ckpt or space):
        raise UsageError(
            "--load trains nothing, and the head says what it is for: leave out --labels, --ckpt and --space."
        )
    if load is None and labels is None:
        raise UsageError("which labels? Give --labels FILE to train a head, or --load HEAD to use one that is there.")
    recipe = Recipe(
        parse_loss(loss, miner, margin, bank), parse_sampling(sampler), dim, hidden, start, epochs, patience, lr, decay,
        warmup, seed,
    )  # fmt: skip
    items = read_items(labels) if labels else None
    opened = open_store(store, write=True)
    name = data.partition("=")[0] if data else only_collection(opened.collection_names())  # no image is read
    if items is None or labels is None:
        head = load_head(opened, str(load))
        show_heads([(extend(opened, head, opened.collection(name, [])), True)], opened, None, json_=json_)
        return
    image_ids = items.image_ids.tolist()
    collection = opened.collection(name, image_ids)
    spaces = choose_spaces(opened, collection, image_ids, backbones=backbone_names(ckpt), keys=space or [])
    if not ckpt and not space:
        spaces = [each for each in spaces if not is_derived(each)]
    prepared = [prepare(opened, each, collection, items, tasks=labels.stem, recipe=recipe) for each in spaces]
    show_heads(train_all(prepared, log or [], force=force), opened, labels, json_=json_)


def backbone_names(ckpt: Sequence[str] | None) -> list[str]:
    """What --ckpt names, as provenance has it: backbones, and heads of derived spaces."""
    from extract.name import shared_name
    from store.head import check_head_name, is_head_name

    heads = [check_head_name(text) for text in ckpt or [] if is_head_name(text)]
    return [*(shared_name(name) for name in parse_names([c for c in ckpt or [] if not is_head_name(c)])), *heads]


def train_all(prepared: "Sequence[PreparedHead]", log: Sequence[str], *, force: bool) -> "list[tuple[Derived, bool]]":
    """What came of each training, and whether it was done now. Every epoch is told to the loggers."""
    from contextlib import closing

    from probe.heads.derive import execute, existing
    from probe.retrieval.logger import open_logger
    from store.space import short

    results = []
    with ExitStack() as stack:
        loggers = [stack.enter_context(closing(open_logger(text))) for text in log]
        for logger in loggers:
            logger.log_pipeline_info({"verb": "bb probe head", **prepared[0].recipe.record()})
        for each in prepared:
            found = None if force else existing(each)
            if found:
                results.append((found, False))
                continue
            name = ", ".join(each.store.backbones(each.parent)) or short(each.parent.key)
            if each.checkpoint.exists():
                warn(f"head of {name}: going on from {each.checkpoint}")
            words = "stopping after this epoch; the state is kept, and the same command goes on"
            with gentle_stop(words) as stop, Meter(f"head of {name}", each.recipe.epochs, "epochs") as meter:

                def told(epoch: int, values: Mapping[str, float], name: str = name, meter: Meter = meter) -> None:
                    meter(epoch)
                    for logger in loggers:
                        logger.log_scalars({f"{name}/{value}": number for value, number in values.items()}, epoch)

                made = execute(each, stop=stop, progress=told)
            results.append((made, True))
            if made.space is None:
                break
    return results


def show_heads(results: "list[tuple[Derived, bool]]", opened: "Store", labels: Path | None, *, json_: bool) -> None:
    """Heads with their validation, and what to do next. Ends with status 1 where training was stopped."""
    from store.head import head_name, parent_key
    from store.space import short

    found = [(made.space, made, made.training, fresh) for made, fresh in results if made.space is not None]
    if json_:
        show_json([
            {"head": head_name(space.weights), "space": space.key, "parent_space": parent_key(space),
             "rows": made.rows, "fresh": fresh, "training": training.record() if training else None}
            for space, made, training, fresh in found
        ])  # fmt: skip
    else:
        rows = []
        for space, made, training, fresh in found:
            scores = [training.parent, training.start, training.best] if training else []
            rows.append([
                head_name(space.weights), short(space.key), *([f"{score:.4f}" for score in scores] or [""] * 3),
                f"{training.best_epoch} of {training.epochs}" if training else "", made.rows,
                "" if fresh else "was there",
            ])  # fmt: skip
        for held_out in dict.fromkeys(training.held_out for _, _, training, _ in found if training):
            say(f"MAP@R on {held_out}: of the parent, of the head before training, and of its best epoch")
        show_table(["head", "space", "parent", "start", "best", "epoch", "new rows", ""], rows, right=["new rows"])
    for space, _, training, _ in found:
        if training and training.best <= training.parent:
            warn(f"note: {head_name(space.weights)} is no better than its parent where it was validated")
    if len(found) < len(results):
        warn("stopped: nothing is written of what was being trained; the same command goes on from there")
        raise typer.Exit(1)
    if labels and not json_:
        say("Next:")
        for space, *_ in found:
            spaces = f"--space {short(parent_key(space))} --space {short(space.key)}"
            at = shlex.quote(opened.name)
            say(f"  bb probe retrieval --labels {shlex.quote(str(labels))} {spaces} --store {at}")


def probe_all(
    inputs: "Sequence[Inputs]", specs: "Sequence[Spec]", *, jobs: int | None, force: bool = False
) -> "list[tuple[Run, bool]]":
    """Each input with each spec: the run, and whether it was computed now. Finished runs stay if it is broken off."""
    from joblib import cpu_count

    from probe.run import execute, prepare
    from store.space import short

    results = []
    for prepared in [prepare(each, spec) for each in inputs for spec in specs]:  # what can't be fitted is said first
        each, spec = prepared.inputs, prepared.spec
        existing = prepared.existing()
        if existing and not force:
            results.append((existing[0], False))
            continue
        name = ", ".join(each.store.backbones(each.space)) or short(each.space.key)
        what = f"{name}, n_train {spec.n_train}, seed {spec.seed}"
        with Meter(what, len(each.labels.tasks), "tasks") as meter:
            run = execute(prepared, jobs=jobs or cpu_count(), progress=meter)
        notes = [f"{what}, {task}: {note}" for task, notes in run.record["notes"].items() for note in notes]
        warn(*notes[:5], *([f"{what}: {len(notes) - 5} more notes, which run.json lists"] if len(notes) > 5 else []))
        if any(other.record["scores"] != run.record["scores"] for other in existing):
            warn(f"{what}: run {short(run.run_id)} came out otherwise than before; both are kept, see `bb report -v`")
        results.append((run, True))
    return results


def _open_to_probe(place: str, runs_to: str | None, cache_size: str | None) -> "tuple[Store, str]":
    """The store that features are read from, and the name of that into which runs go: itself where it is local."""
    from store import UsageError
    from store.url import is_url

    if not is_url(place):
        if runs_to:
            raise UsageError(f"--runs-to is for a --store that is a URL; the runs of {place} go into it.")
        return open_store(place), place
    local = runs_to or DEFAULT_STORE
    if is_url(local):
        raise UsageError(f"--runs-to takes a local folder, not {local}: from there, `bb store push` copies the runs.")
    opened = open_store(place, cache_size=cache_size)
    beside = open_store(local, create=True)
    warn(f"{place} is only read: runs go to {local}")
    return replace(opened, runs_to=beside), local


def _run_line(run: "Run", fresh: bool) -> list[object]:
    from store.space import short

    record, scores = run.record, run.record["scores"]
    return [
        ", ".join(record["backbones"]), short(record["space"]), record["n_train"],
        "" if record["seed"] is None else record["seed"],
        f"{scores['mean']:.4f}", f"{scores['mean_over_tasks']:.4f}", short(run.run_id), "" if fresh else "was there",
    ]  # fmt: skip


def read_probe_labels(
    store: "Store", name: str, root: "Root | None", given: Path | None, settings: Settings
) -> "ProbeLabels":
    """The labels of a collection: of the file given, of that in its folder, or of the store.

    Those of a file are put into the store, where their licence allows it.
    """
    from probe.labels import find_labels, find_labels_by_digest, labels_of
    from probe.newt import read_labels
    from store import UsageError

    plain = name.partition("@")[0]
    if given is not None and str(given).startswith("@"):
        return labels_of(find_labels_by_digest(store, "newt", str(given)[1:]))
    file = given or labels_beside(root)
    if given is None and (file is None or not file.exists()):
        found = find_labels(store, "newt", plain)
        if found:
            warn(f"labels from the store: {found.words()}")
            return labels_of(found)
    if file is None:
        raise UsageError(
            f"where are the labels of {plain}? Give --data {plain}=DIR that holds {NEWT_LABELS}, or --labels FILE. "
            f"NeWT's come with: bb data download newt --to DIR"
        )
    labels = read_labels(file)
    if not store.source:
        _share_labels(store, plain, file, settings)
    return labels


def _share_labels(store: "Store", name: str, file: Path, settings: Settings) -> None:
    """Puts a file of labels into the store, where their licence lets them be passed on; bad ones stop nothing else."""
    from probe.newt import read_labels
    from store import BBError
    from store.labels import shareable

    licence = settings.licences.get(name)
    if licence is None or not shareable(licence) or not file.exists():
        return
    try:
        store.put_labels("newt", read_labels(file).table, collection=name, licence=licence)
    except BBError as error:
        warn(f"the labels of {name} are not put into the store: {error}")


# report


def _withdrawn_notes(opened: "Store", runs: "Sequence[Run]") -> Iterator[str]:
    """The spaces of these runs of which rows were revoked: a run does not say in which segments its rows lay."""
    from store.space import short

    lenders = [older for run in runs if isinstance(older := run.record.get("adopted"), list)]
    read = {str(run.record["space"]) for run in runs} | {str(key) for older in lenders for key in older}
    for key in sorted(read & {part.owner for part in _revoked_texts(opened) if part.kind == "segment"}):
        yield (
            f"note: rows of space {short(key)} were revoked (`bb store info {short(key)}`): runs from before may rest "
            f"on them. Probe again, and `bb store revoke RUN_ID` takes such a run out."
        )


class _Report(TyperGroup):
    """`bb report` alone, or with options alone, is `bb report newt`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(
            ctx, args if args and (args[0] == "--help" or args[0][:1] != "-") else ["newt", *args]
        )

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            from store import UsageError

            raise UsageError(f"there is no report on {args[0]!r}: the task families are newt, retrieval.")
        return super().resolve_command(ctx, args)


report_app = typer.Typer(help="Compare runs: tables, pages, pictures.", no_args_is_help=True, cls=_Report)
app.add_typer(report_app, name="report")


@report_app.command("newt")
def report_newt_verb(
    ctx: typer.Context,
    metric: Annotated[
        str,
        typer.Option("--metric", help="accuracy, balanced-accuracy, macro-f1, average-precision or auroc."),
    ] = "accuracy",
    average: Annotated[
        str | None, typer.Option("--average", help="images or tasks; images for accuracy, tasks for the others.")
    ] = None,
    over: Annotated[
        str, typer.Option("--over", help="What the intervals are for further ones of: images, draws or tasks.")
    ] = "images",
    cluster: Annotated[
        str | None, typer.Option("--cluster", help="Resample groups of images: a column of the labels.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option("--baseline", help="The backbone that the others are compared with.")
    ] = None,
    correction: Annotated[
        str, typer.Option("--correction", help="Of p-values for many comparisons: holm or bh.")
    ] = "holm",
    by: Annotated[str | None, typer.Option("--by", help="A table of each cluster, subcluster or task.")] = None,
    n_train: Annotated[list[str] | None, typer.Option("--n-train", help="These columns only.")] = None,
    sort: Annotated[str, typer.Option("--sort", help="score, name, or an n_train.")] = "score",
    reference: Annotated[
        Path | None, typer.Option("--reference", help="A published table to lay beside: task, ckpt, score.")
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page that works offline.")] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write every figure; - is standard output.")] = None,
    latex: Annotated[Path | None, typer.Option("--latex", help="Write booktabs tables; - is standard output.")] = None,
    markdown: Annotated[Path | None, typer.Option("--markdown", help="Write Markdown; - is standard output.")] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw learning curves and leaderboard: .svg, .png or .pdf.")
    ] = None,
    data: DataOption = None,
    labels: Annotated[Path | None, typer.Option("--labels", help="The file that has --cluster's column.")] = None,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Show the run IDs behind each cell.")] = False,
    store: StoreOption = DEFAULT_STORE,
    cache_size: CacheOption = None,
    json_: JsonOption = False,
) -> None:
    """Compare runs: backbones by shot count, with 95% bootstrap intervals."""
    from probe.board import KINDS
    from probe.plot import check_format
    from probe.protocol import PROTOCOLS
    from probe.question import Question
    from probe.reference import read_reference
    from probe.report import boards
    from probe.sampling import parse_n_train
    from store import BBError, UsageError

    files = {"--html": html, "--csv": csv, "--latex": latex, "--markdown": markdown, "--plot": plot}
    check_files({option: path for option, path in files.items() if path})
    if plot:
        check_format(plot.suffix)
    for option, value, known in (
        ("--average", average, ("images", "tasks")), ("--over", over, ("images", "draws", "tasks")),
        ("--correction", correction, ("holm", "bh")), ("--by", by, KINDS),
    ):  # fmt: skip
        if value is not None and value not in known:
            raise UsageError(f"{option} {value} is unknown: choose {', '.join(known)}.")
    opened = open_store(store, cache_size=cache_size)
    roots = parse_data(data, ctx.obj)
    question = Question(
        metric=metric.replace("-", "_"),
        average=average,  # type: ignore[arg-type]  # checked above, as are the next three
        over=over,  # type: ignore[arg-type]
        baseline=baseline and canonical_name(baseline),
        correction=correction,  # type: ignore[arg-type]
        groups=(lambda name: read_groups(name, cluster, labels, roots)) if cluster else None,
        units=f"groups of test images ({cluster})" if cluster else "test images",
        kinds=KINDS if html or csv or json_ else (by,) if by else (),  # type: ignore[arg-type]
        details=bool(html or json_),
        n_train=tuple(parse_n_train(part) for text in n_train or () for part in text.split(",")),
        sort=sort if sort in ("score", "name") else parse_n_train(sort),  # type: ignore[arg-type]
        reference=read_reference(reference, canonical_name) if reference else None,
    )
    runs = list(opened.runs(on_damage=lambda error: warn(f"note: left out: {error}")))
    found = boards(runs, "newt", question, on_damage=lambda said: warn(f"note: {said}"))
    warn(*_withdrawn_notes(opened, runs))
    for protocol in sorted(
        {str(run.record["protocol"]) for run in runs if run.record["tasks"] == "newt"} - PROTOCOLS.keys()
    ):
        warn(f"note: runs of protocol {protocol!r}, which this bb does not know, are left out")
    if not found:
        raise BBError(f"{store} has no runs yet: bb probe newt --n-train 10 --store {store}")
    write_report(found, files, opened, roots)
    if json_:
        show_json([board.record() for board in found])
    elif not any(files.values()):
        show_boards(found, by=by, verbose=verbose)
    if json_ or any(files.values()):
        warn(*(f"note: {note}" for board in found for note in board.notes))


def canonical_name(text: str) -> str:
    """A backbone as runs have it, where it is the name of one; else as it is."""
    from extract.name import BackboneName, shared_name
    from store import UsageError

    try:
        return shared_name(BackboneName.parse(text))
    except UsageError:
        return text


def check_files(files: dict[str, Path]) -> None:
    """What is to be written can be: said before anything is computed."""
    from store import UsageError

    for option, path in files.items():
        if str(path) == "-" and option in ("--csv", "--latex", "--markdown"):
            continue
        if path.is_dir():
            raise UsageError(f"{option} {path} is a folder: name a file.")
        if not path.absolute().parent.is_dir():
            raise UsageError(f"{option} {path}: there is no folder {path.absolute().parent}. Make it first.")


def write_report(
    found: "list[Board]", files: dict[str, Path | None], opened: "Store", roots: "dict[str, Root | None]"
) -> None:
    """Writes the files that are asked for, each whole or not at all."""
    from probe.latex import latex_tables
    from probe.markdown import markdown_tables
    from probe.page import page
    from probe.plot import plot
    from probe.sheet import sheet

    made: dict[str, Callable[[Path], str | bytes]] = {
        "--html": lambda path: page(found, make_thumbnails(found, opened, roots)),
        "--csv": lambda path: sheet(found),
        "--latex": lambda path: latex_tables(found),
        "--markdown": lambda path: markdown_tables(found),
        "--plot": lambda path: plot(found, path.suffix),
    }
    for option, path in files.items():
        if path is None:
            continue
        content = made[option](path)
        content = content.encode() if isinstance(content, str) else content
        if str(path) == "-":
            print(content.decode(), end="")
            continue
        write_file(path, content)


def write_file(path: Path, content: bytes) -> None:
    """Writes a file, whole or not at all."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_bytes(content)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    warn(f"wrote {path} ({size_text(len(content))})")


def show_boards(found: "Sequence[Board]", *, by: str | None = None, verbose: bool = False) -> None:
    """Boards in the terminal, an empty line between them."""
    from probe.terminal import show_board

    console = Console(width=None if sys.stdout.isatty() else 10_000, highlight=False)
    for number, board in enumerate(found):
        if number:
            say("")
        show_board(board, console, by=by, verbose=verbose)  # type: ignore[arg-type]
        warn(*(f"note: {note}" for note in board.notes))


def read_groups(name: str, column: str, labels: Path | None, roots: "dict[str, Root | None]") -> dict[str, str]:
    """The group of each image of a collection, from a file of labels that has the column."""
    import polars as pl

    from probe.newt import read_labels
    from probe.table import groups_of
    from store import UsageError

    root = roots.get(name)
    file = labels or labels_beside(root)
    if file is None:
        raise UsageError(
            f"--cluster {column} is read from the labels of {name}: give --data {name}=DIR or --labels FILE."
        )
    read_labels(file)  # says what is wrong with it
    return groups_of(
        pl.read_parquet(file) if file.suffix == ".parquet" else pl.read_csv(file, infer_schema=False), column
    )


def make_thumbnails(
    found: "Sequence[Board]", opened: "Store", roots: "dict[str, Root | None]"
) -> dict[tuple[str, str], bytes]:
    """Small JPEG files of the hardest images, by collection and ID: those at hand that are the ones tested on."""
    wanted: dict[tuple[str, str], set[str]] = {}
    for board in found:
        ids = {hard.image_id for task in board.task_list for hard in task.hardest}
        wanted.setdefault((board.collection, board.collection_digest), set()).update(ids)
    names = sorted({name for name, _ in wanted if roots.get(name)})
    if not names:
        warn("note: no images are at hand, so the page names the hardest ones: --data NAME=DIR shows them")
        return {}
    if importlib.util.find_spec("PIL") is None:
        warn("note: without Pillow the page names the hardest images: pip install 'backbone-bench[extract]' shows them")
        return {}
    return {
        (name, image_id): picture.jpeg
        for (name, digest), ids in wanted.items()
        if (root := roots.get(name)) is not None
        for image_id, picture in thumbnails_of(opened, f"{name}@{digest}", root, ids).items()
    }


def thumbnails_of(
    opened: "Store",
    name: str,
    root: "Root",
    ids: set[str],
    boxes: "Mapping[str, tuple[float, float, float, float]] | None" = None,
) -> "dict[str, Thumbnail]":
    """Small pictures of some images of a collection, by ID: of those at hand that have the collection's bytes.

    boxes  to be framed, by ID, in pixels of the images
    """
    from hashlib import sha256
    from io import BytesIO

    from extract.images import UnreadableImage, decode
    from extract.source import File, Source
    from probe.retrieval.thumbnail import Thumbnail
    from store import BBError

    try:
        listed, images = opened.collection(name, sorted(ids)), find(root)
        sources: dict[str, Source]
        if isinstance(images, dict):
            sources = {image_id: File(path) for image_id, path in images.items()}
        else:
            sources = hash_images(name.partition("@")[0], images, read_only=True, known_only=True).sources
        digests = dict(zip(sorted(ids), listed.digests(sorted(ids)), strict=True))
    except BBError as error:
        warn(f"note: no thumbnails of {name.partition('@')[0]}: {error}")
        return {}
    made, other, beyond = {}, 0, []
    for image_id in sorted(ids & sources.keys()):
        try:
            data = sources[image_id].read()
        except (BBError, OSError):
            continue
        if sha256(data).digest() != bytes(digests[image_id]):
            other += 1
            continue
        try:
            picture = decode(data)
        except UnreadableImage:
            continue
        size = picture.size
        picture.thumbnail(THUMBNAIL)
        buffer = BytesIO()
        picture.save(buffer, "JPEG", quality=80, optimize=True)
        made[image_id] = Thumbnail(buffer.getvalue(), *picture.size)
        if boxes and image_id in boxes:
            try:
                made[image_id] = made[image_id].framed(boxes[image_id], *size)
            except ValueError as fact:
                beyond.append(f"{image_id}: {fact}")
    if beyond:
        warn(
            f"note: {len(beyond)} boxes are not drawn, such as that of {beyond[0]}; x1, y1, x2 and y2 count pixels of "
            "the image the right way up"
        )
    if other:
        warn(f"note: {other} images in {root} are not those that were tested on, and are not shown")
    return made


@report_app.command("retrieval")
def report_retrieval_verb(
    ctx: typer.Context,
    labels: Annotated[Path, typer.Option("--labels", help="The labelled table that `bb probe retrieval` was given.")],
    html: Annotated[Path | None, typer.Option("--html", help="Write a page that works offline.")] = None,
    log: Annotated[
        list[str] | None, typer.Option("--log", help="tensorboard:DIR, mlflow:DIR or wandb:DIR, for the figures too.")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option("--metric", help="What the worst queries are chosen by; the runs' main one if not said."),
    ] = None,
    queries: Annotated[int, typer.Option("--queries", min=1, help="How many of the worst are shown.")] = 20,
    top: Annotated[int, typer.Option("--top", min=1, help="How many images are shown of what each got.")] = 10,
    ckpt: CkptOption = None,
    data: Annotated[str | None, typer.Option("--data", help="NAME=DIR, where the images are, for thumbnails.")] = None,
    store: StoreOption = DEFAULT_STORE,
    cache_size: CacheOption = None,
    json_: JsonOption = False,
) -> None:
    """Show the queries that retrieval did worst on, with what they got."""
    from contextlib import closing

    from probe.retrieval.items import assign, read_items
    from probe.retrieval.logger import open_logger
    from probe.retrieval.page import image_ids, page
    from probe.retrieval.report import log_sheet, newest, roles, sheets
    from store import BBError

    if html:
        check_files({"--html": html})
    table = read_items(labels)
    backbones = set(backbone_names(ckpt))
    opened = open_store(store, cache_size=cache_size)
    runs = opened.runs(on_damage=lambda error: warn(f"note: left out: {error}"))
    wanted = [run for run in runs if not backbones or backbones & set(run.record["backbones"])]
    chosen, notes = newest(wanted, labels.stem)
    warn(*_withdrawn_notes(opened, chosen), *(f"note: {note}" for note in notes))
    if not chosen:
        raise BBError(
            f"{store} has no runs of retrieval on {labels.stem}{' by these backbones' if backbones else ''}: "
            f"bb probe retrieval --labels {shlex.quote(str(labels))} --store {shlex.quote(store)}"
        )
    items, _, _ = assign(table, **roles(chosen[0]))
    with ExitStack() as stack:
        loggers = [stack.enter_context(closing(open_logger(text))) for text in log or ()]
        made = list(sheets(chosen, items, metric=metric, queries=queries, top=top))
        thumbnails: dict[str, Thumbnail] = {}
        if html or loggers:
            record = chosen[0].record
            name = str(record["collection_name"])
            root = parse_data([data] if data else None, ctx.obj).get(name)
            if root is None:
                warn(f"note: no images are at hand, so they are only named: --data {name}=DIR shows them")
            elif importlib.util.find_spec("PIL") is None:
                warn("note: without Pillow images are only named: pip install 'backbone-bench[extract]' shows them")
            else:
                shown = set().union(*map(image_ids, made))
                thumbnails = thumbnails_of(opened, f"{name}@{record['collection']}", root, shown, items.boxes())
        for logger in loggers:
            logger.log_pipeline_info({"labels": labels.name, "runs": [run.run_id for run in chosen]})
            for place, each in enumerate(made):
                log_sheet(logger, each, place, thumbnails)
    if html:
        write_file(html, page(made, labels.stem, thumbnails).encode())
    if json_:
        show_json([each.record() for each in made])
    elif not html and not log:
        rows = []
        for each in made:
            lead, *others = (f"{s.mean:.3f} [{s.low:.3f}, {s.high:.3f}]" for s in each.scores.values())
            less, p = "", ""
            if each.behind is not None:
                d = each.behind.difference
                less, p = f"{d.mean:+.3f} [{d.low:+.3f}, {d.high:+.3f}]", f"{each.behind.p:.4f}"
            rows.append([each.name, each.space[:12], lead, less, p, *others])
        lead, *others = made[0].scores
        show_table(["backbone", "space", lead, "less the first", "p", *others], rows)


def check_named(distance: str, convention: str) -> None:
    """Errors: UsageError where there is no such distance or convention."""
    from probe.retrieval.metrics import CONVENTIONS
    from probe.retrieval.search import DISTANCES
    from store import UsageError

    for option, value, known in (("--distance", distance, DISTANCES), ("--convention", convention, CONVENTIONS)):
        if value not in known:
            raise UsageError(f"{option} {value} is unknown: choose {' or '.join(known)}.")


def collection_of(
    opened: "Store", data: str | None, image_ids: list[str], settings: Settings
) -> "tuple[str, Root | None]":
    """The collection that labels are of, and its folder if known: the one named, or the only one that fits."""
    from store import BBError, UsageError

    if data:
        ((name, root),) = parse_data([data], settings).items()
        return name, root
    fitting = []
    for name in opened.collection_names():
        try:
            opened.collection(name, image_ids)
            fitting.append(name)
        except BBError:
            continue
    if len(fitting) != 1:
        what = f"{' and '.join(fitting)} hold" if fitting else f"none of {opened.name}'s collections holds"
        raise UsageError(f"{what} all {len(image_ids)} images of the labels: name the collection with --data NAME.")
    return fitting[0], settings.data.get(fitting[0])


def space_names(opened: "Store", spaces: "Sequence[FeatureSpace]") -> "dict[str, FeatureSpace]":
    """Spaces by what they are called: their backbone, with the key where that does not tell them apart."""
    from store.space import short

    named = [(", ".join(opened.backbones(each)), each) for each in spaces]
    names = [name for name, _ in named]
    return {
        name if name and names.count(name) == 1 else f"{name} {short(each.key)}".strip(): each for name, each in named
    }


def retrieval_spaces(
    opened: "Store", name: str, image_ids: list[str], ckpt: Sequence[str] | None, space: Sequence[str] | None
) -> "tuple[Collection, list[FeatureSpace]]":
    """The version of a collection that holds the images, and the feature spaces that are asked for."""
    from probe.spaces import choose_spaces

    collection = opened.collection(name, image_ids)
    return collection, choose_spaces(opened, collection, image_ids, backbones=backbone_names(ckpt), keys=space or [])


@report_app.command("diff")
def report_diff_verb(
    a: Annotated[str, typer.Argument(help="A run's ID, or its beginning.")],
    b: Annotated[str, typer.Argument(help="Another's.")],
    store: StoreOption = DEFAULT_STORE,
    cache_size: CacheOption = None,
    json_: JsonOption = False,
) -> None:
    """Say in what two runs differ: inputs, tasks, images."""
    from probe.difference import compare, find_run

    opened = open_store(store, cache_size=cache_size)
    runs = list(opened.runs(on_damage=lambda error: warn(f"note: left out: {error}")))
    found = compare(find_run(runs, a), find_run(runs, b))
    if json_:
        show_json(found.record())
    else:
        say(*found.lines())


# models


@app.command("models")
def models_verb(
    pattern: Annotated[str, typer.Argument(help="Part of a name, or a pattern such as '*dinov2*'.")] = "",
    json_: JsonOption = False,
) -> None:
    """List what can be extracted, as --ckpt takes it."""
    require_extract("bb models")
    from extract.catalog import entries
    from store import BBError

    found = entries(pattern)
    if json_:
        show_json(found)
    elif found:
        show_table(["--ckpt", "state"], [[row["name"], row["lacks"]] for row in found])
    else:
        raise BBError(f"no backbone is like {pattern!r}: `bb models` lists all.")


# data


@data_app.command("list")
def data_list_verb(ctx: typer.Context, store: StoreOption = DEFAULT_STORE, json_: JsonOption = False) -> None:
    """List collections: folders and shards from bb.toml, and versions in the store."""
    from store.url import is_url

    opened = open_store(store) if is_url(store) or (Path(store) / "zarr.json").exists() else None
    names = sorted({*ctx.obj.data, *(opened.collection_names() if opened else [])})
    rows = []
    for name in names:
        root = ctx.obj.data.get(name)
        versions = opened.collections(name) if opened else []
        rows.append(
            {"name": name, "root": str(root) if root else None,
             "versions": [{"digest": version.digest, "images": len(version)} for version in versions]}
        )  # fmt: skip
    if json_:
        show_json(rows)
    elif not rows:
        say('no collections: put [data.NAME] root = "DIR" into bb.toml, or run bb extract --data NAME=DIR')
    else:
        show_table(
            ["name", "folder", "versions in the store"],
            [[row["name"], row["root"] or "", _versions_text(row["versions"])] for row in rows],
        )


def _versions_text(versions: list[dict[str, Any]]) -> str:
    return ", ".join(f"{version['digest'][:12]} ({version['images']} images)" for version in versions)


@data_app.command("download")
def data_download_verb(
    name: Annotated[str, typer.Argument(help="What to fetch: newt.")],
    to: Annotated[Path, typer.Option("--to", help="The folder to lay it in; 9 GB are needed for newt.")],
) -> None:
    """Fetch NeWT's images and labels from their publishers; resumes, checks and unpacks."""
    from probe.newt import ARCHIVES
    from store import UsageError
    from store.fetch import download, is_unpacked, unpack

    if name != "newt":
        raise UsageError(f"bb can't download {name!r}, only newt. For images of yours: --data {name}=DIR")
    for archive in ARCHIVES:
        if is_unpacked(to / archive.name, to):
            warn(f"{archive.name} was unpacked into {to} before")
            continue
        warn(f"{archive.name} from {archive.url}")
        with Meter(archive.name, archive.bytes or 0, "bytes") as meter:
            path = download(archive, to, progress=meter)
        with Meter(f"unpacking {archive.name}", path.stat().st_size, "bytes") as meter:
            unpack(path, to, progress=meter)
    say(f"NeWT lies in {to}. Next: bb extract --ckpt ViT-B-16/openai --data newt={shlex.quote(str(to))}")


@data_app.command("check")
def data_check_verb(
    ctx: typer.Context, data: Annotated[list[str] | None, typer.Argument(help="NAME, NAME=DIR or NAME=SHARDS.")] = None
) -> None:
    """Read every image's header and NeWT's labels, and say what is wrong."""
    require_extract("bb data check")
    from probe.newt import read_labels
    from store import UsageError

    collections = parse_data(data, ctx.obj)
    if not collections:
        raise UsageError("which collection? bb data check NAME=DIR, or a NAME from bb.toml.")
    wrong = 0
    for name, root in collections.items():
        if root is None:
            raise UsageError(f"where are the images of {name}? bb data check {name}=DIR")
        found = hash_images(name, find(root))
        problems = [f"{image_id}: {reason}" for image_id, reason in found.failed.items()]
        problems += [f"{entry.image_id}: no image that can be read" for entry in found.entries if entry.width is None]
        copies = len(found.entries) - len({entry.image_sha256 for entry in found.entries})
        if (file := labels_beside(root)) and file.exists():
            labels = read_labels(file)
            problems += [
                f"{image_id}: named by the labels, but not there"
                for image_id in labels.image_ids
                if image_id not in found.sources
            ]
            say(f"{name}: {labels.note or 'all 164 tasks'}, {len(labels.image_ids)} images named by the labels")
        count = f"{len(found.sources)} images in {root}"
        say(f"{name}: {count}, {copies} of them copies of others, {len(problems)} problems")
        say(*(f"  {problem}" for problem in problems))
        wrong += len(problems)
    if wrong:
        raise typer.Exit(1)


# store


@store_app.command("ls")
def store_ls_verb(
    store: StoreOption = DEFAULT_STORE, cache_size: CacheOption = None, json_: JsonOption = False
) -> None:
    """List feature spaces: backbone, rows, bytes."""
    from store.space import short

    opened = open_store(store, cache_size=cache_size)
    rows = [_space_record(opened, space) for space in opened.spaces()]
    if json_:
        show_json(rows)
        return
    show_table(
        ["space", "backbone", "kind", "shape", "compute", "stored", "rows", "segments", "size"],
        [
            [short(r["key"]), ", ".join(r["backbones"]), r["kind"], " x ".join(map(str, r["row_shape"])), r["compute"],
             r["stored"], r["rows"], r["segments"], size_text(r["bytes"])]
            for r in rows
        ],
        right=["rows", "segments", "size"],
    )  # fmt: skip
    say(*(words for r in rows for words in _adopted_lines(r)))
    for name in opened.collection_names():
        for version in opened.collections(name):
            say(f"collection {name}@{short(version.digest)}: {len(version)} images")
    for tasks in opened.label_families():
        say(*(f"labels {tasks}@{short(table.digest)}: {table.words()}" for table in opened.labels(tasks)))
    say(*(f"{part.kind} {part.digest}: {why}" for part, why in _revoked_texts(opened).items()))


@store_app.command("info")
def store_info_verb(
    space: Annotated[str, typer.Argument(help="A feature space's key, or its beginning.")],
    store: StoreOption = DEFAULT_STORE,
    cache_size: CacheOption = None,
    json_: JsonOption = False,
) -> None:
    """Show a feature space whole, and where its rows come from."""
    from store.space import short

    opened = open_store(store, cache_size=cache_size)
    found = opened.space(space)
    segments: list[dict[str, Any]] = [
        {
            "digest": s.digest,
            "rows": s.rows,
            "bytes": s.n_bytes,
            "provenance": s.provenance,
            "local": opened.local(s.digest),
        }
        for s in opened.segments(found)
    ]
    record = {**_space_record(opened, found), "space": found.record(), "parts": segments}
    if json_:
        show_json(record)
        return
    say(
        f"space {found.key}", f"  {', '.join(record['backbones'])}: {record['rows']} rows, {size_text(record['bytes'])}"
    )
    say(*(f"  {words}" for words in _adopted_lines(record)))
    for name, value in found.record().items():
        say(f"  {name}: {json.dumps(value, ensure_ascii=False)}")
    for part in segments:
        local = part["local"]
        for made in part["provenance"].get("merged", [part["provenance"]]):
            versions = ", ".join(f"{name} {v}" for name, v in made.get("versions", {}).items())
            say(
                f"segment {short(part['digest'])}: {part['rows']} rows, {size_text(part['bytes'])}, "
                f"{made.get('made', '')}, {made.get('device', '')}; {versions}"
            )
        if local:
            say(f"  made here by {local['user']} on {local['host']}: {shlex.join(local['argv'])}")
    say(*(f"segment {digest}: {why}" for digest, why in record["revoked"].items()))


@store_app.command("verify")
def store_verify_verb(
    ctx: typer.Context,
    store: StoreOption = DEFAULT_STORE,
    cache_size: CacheOption = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Move what is bad to STORE/aside/; nothing is deleted.")
    ] = False,
    recompute: Annotated[
        int | None,
        typer.Option("--recompute", min=1, help="Embed N images of each space anew, here, and compare; needs --data."),
    ] = None,
    data: DataOption = None,
    ckpt: CkptOption = None,
    space: Annotated[list[str] | None, typer.Option("--space", help="With --recompute: only these spaces.")] = None,
    sample_seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Which sample --recompute draws; a fresh one if it is not said.")
    ] = None,
    device: Annotated[str, typer.Option(help="With --recompute: auto, cpu, cuda, cuda:N or mps.")] = "auto",
    batch_size: Annotated[str, typer.Option(help="With --recompute: images in a batch.")] = "auto",
    json_: JsonOption = False,
) -> None:
    """Read all of the store and say what is wrong with it."""
    from dataclasses import asdict

    from store import UsageError
    from store.signing import coverage
    from store.verify import repair as set_bad_aside
    from store.verify import verify

    if recompute is None and (data or ckpt or space or sample_seed is not None):
        raise UsageError("--data, --ckpt, --space and --seed say what --recompute N compares: give that, too.")
    opened = open_store(store, write=repair, cache_size=cache_size)
    images = _images_to_recompute(opened, data, ctx.obj) if recompute is not None else None
    total = opened.count_segments()
    with Meter("verifying", total, "segments") as meter:
        found = verify(opened, progress=meter)
    if repair:
        set_bad_aside(opened, found)
    compared: list[Recomputed] = []
    if images is not None and recompute is not None:
        seed = int.from_bytes(os.urandom(4)) if sample_seed is None else sample_seed
        compared = recompute_all(opened, images, recompute, seed, ckpt, space, device, batch_size)
    if json_:
        record = {
            **asdict(found),
            "faults": [{**asdict(f), "bad": str(f.bad) if f.bad else None} for f in found.faults],
            "signed": asdict(coverage(opened)) if found.signatures else None,
            "revoked": {part.digest: why for part, why in _revoked_texts(opened).items()},
        }
        if images is not None:
            record |= {"seed": seed, "recompute": [each.record() for each in compared]}
        show_json(record)
    else:
        if found.signatures:
            say(*_signed_texts(opened))
        for fault in found.faults:
            say(fault.what)
            if str(fault.bad) in found.moved:
                say(f"  moved to {found.moved[str(fault.bad)]}; to make it again: {fault.remedy}")
        say(
            f"checked {found.spaces} spaces, {found.segments} segments ({found.rows} rows, {found.replicates} of them "
            f"replicates, {size_text(found.n_bytes)}), {found.collections} collections, "
            + (f"{found.labels} label tables, " if found.labels else "")
            + f"{found.runs} runs: {len(found.faults)} faults"
        )
        say(*found.adopted)
        if any(fault.bad for fault in found.faults) and not repair:
            say("bb store verify --repair moves what is bad aside and says what to make again")
        if images is not None:
            say(f"sample drawn with --seed {seed}")
        for each in compared:
            say(each.words(), *(f"  {fault}" for fault in each.faults), *(f"  note: {note}" for note in each.notes))
    if found.faults or any(each.faults for each in compared):
        raise typer.Exit(1)


def _images_to_recompute(opened: "Store", data: Sequence[str] | None, settings: Settings) -> "Images":
    """The images at hand of the collections asked for; says which are not those that the store's collection lists."""
    from store import UsageError

    require_extract("bb store verify --recompute")
    from extract.recompute import changed
    from extract.sample import Images
    from store.collection import check_name, some

    collections = parse_data(data, settings)
    nowhere = [name for name, root in collections.items() if root is None]
    if not collections or nowhere:
        name = nowhere[0] if nowhere else "newt"
        raise UsageError(f"--recompute embeds images, and where are they? Give --data {name}=DIR.")
    scans = {}
    for name, root in collections.items():
        check_name(name)
        scans[name] = hash_images(name, find(root or Path()))
        if other := changed(opened, name, scans[name]):
            warn(f"{len(other)} images at hand are others than the store's collection {name} lists: {some(other)}")
        if not opened.collections(name):
            warn(f"the store has no collection {name}: its rows are found by the images' bytes alone")
    return Images.of(scans)


def recompute_all(
    opened: "Store",
    images: "Images",
    n: int,
    seed: int,
    ckpt: Sequence[str] | None,
    keys: Sequence[str] | None,
    device: str,
    batch_size: str,
) -> "list[Recomputed]":
    """A sample of each space's images embedded anew. Raises BBError where no space has a row of any of them."""
    from extract.device import Numerics
    from extract.encoder import parse_batch_size
    from extract.recompute import recompute
    from store import BBError, UsageError
    from store.head import is_derived
    from store.space import short

    Numerics.resolve(device)
    size = parse_batch_size(batch_size)
    # Rows of derived spaces are made of other rows, not of images.
    spaces = [opened.space(key) for key in keys] if keys else [s for s in opened.spaces() if not is_derived(s)]
    if named := [short(space.key) for space in spaces if is_derived(space)]:
        raise UsageError(f"space {', '.join(named)} is derived by a head, not embedded: --recompute its parent.")
    found = recompute(
        opened, images, spaces, n, seed=seed, names=parse_names(ckpt), device=device, batch_size=size, announce=warn
    )
    compared = list(found)
    if not compared:
        raise BBError(
            f"none of the {len(images.entries)} images at hand has a row in the feature spaces of {opened.name} that "
            f"are asked for: are they the images of this collection?"
        )
    return compared


@store_app.command("index")
def store_index_verb(
    url: Annotated[str | None, typer.Argument(help="Where the store lies: a URL or a folder; else --store.")] = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Write the index.json by which a store on a plain web server is read; anew whenever the store has changed."""
    from store import BBError, UsageError
    from store.index import INDEX, read_index, write_index
    from store.layout import MAX_JSON_BYTES
    from store.url import open_place

    place = open_place(url or store)
    if not place.writable:
        raise UsageError(f"{place.url} can only be read: run `bb store index` where the store's files lie.")
    try:
        place.read("zarr.json", MAX_JSON_BYTES)
    except FileNotFoundError:
        raise BBError(f"there is no store at {place.url}: give its URL or folder.") from None
    write_index(place)
    say(f"{place.url}/{INDEX}: {sum(1 for _ in read_index(place))} files")


@store_app.command("gc")
def store_gc_verb(
    store: StoreOption = DEFAULT_STORE,
    unreferenced: Annotated[
        bool, typer.Option("--unreferenced", help="Take feature spaces that no run names, too.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it; otherwise it is only shown.")] = False,
    json_: JsonOption = False,
) -> None:
    """Show, and with --yes remove, remains older than a day and what was set aside."""
    from store.gc import find_garbage, remove_garbage

    opened = open_store(store, write=True)
    found = find_garbage(opened, unreferenced=unreferenced, note=lambda text: warn(f"note: {text}"))
    if yes:
        for garbage in found:
            remove_garbage(opened, garbage)
    if json_:
        show_json([{"path": str(g.path), "bytes": g.n_bytes, "why": g.why, "removed": yes} for g in found])
        return
    say(*(f"{g.path.relative_to(opened.root)}: {size_text(g.n_bytes)}, {g.why}" for g in found))
    total = size_text(sum(g.n_bytes for g in found))
    if not found:
        say("nothing to remove")
    else:
        say(f"removed {total}" if yes else f"{total} in all; bb store gc --yes removes it for good")


@store_app.command("compact")
def store_compact_verb(
    space: Annotated[str | None, typer.Argument(help="A feature space's key, or its beginning; else all.")] = None,
    store: StoreOption = DEFAULT_STORE,
    json_: JsonOption = False,
) -> None:
    """Merge small segments into full ones; features stay the same to the last bit."""
    from store.compact import compact
    from store.space import short

    opened = open_store(store, write=True)
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


@store_app.command("du")
def store_du_verb(
    store: StoreOption = DEFAULT_STORE, cache_size: CacheOption = None, json_: JsonOption = False
) -> None:
    """Show bytes by backbone and collection."""
    from store.du import other_bytes, usage
    from store.space import short

    opened = open_store(store, cache_size=cache_size)
    rows, others = usage(opened), other_bytes(opened)
    if json_:
        features = [
            {"backbone": u.backbone, "space": u.space, "collection": u.collection, "rows": u.rows, "bytes": u.n_bytes}
            for u in rows
        ]
        show_json({"features": features, "others": others})
        return
    show_table(
        ["backbone", "space", "collection", "rows", "size"],
        [[u.backbone, short(u.space), u.collection, u.rows, size_text(u.n_bytes)] for u in rows],
        right=["rows", "size"],
    )
    say(*(f"{part}: {size_text(n_bytes)}" for part, n_bytes in others.items() if n_bytes))
    say(f"{size_text(sum(u.n_bytes for u in rows) + sum(others.values()))} in all")


@store_app.command("why")
def store_why_verb(
    spaces: Annotated[
        list[str], typer.Argument(help="Two keys of feature spaces (or their beginnings), or one backbone.")
    ],
    store: StoreOption = DEFAULT_STORE,
    cache_size: CacheOption = None,
    json_: JsonOption = False,
) -> None:
    """Say in what two feature spaces differ, field by field."""
    from store.space import short
    from store.why import compare, find_pairs

    opened = open_store(store, cache_size=cache_size)
    found = [compare(a, b) for a, b in find_pairs(opened, spaces)]
    adopted = [
        [record.words() for one, other in ((c.a, c.b), (c.b, c.a)) for record in opened.adopted(one)
         if record.older == other.key]
        for c in found
    ]  # fmt: skip
    if json_:
        show_json(
            [
                {"a": c.a.key, "b": c.b.key, "fields": c.fields, "adopted": a}
                for c, a in zip(found, adopted, strict=True)
            ]
        )
        return
    for c, words in zip(found, adopted, strict=True):
        say(f"{short(c.a.key)} against {short(c.b.key)}", *(f"  {name}: {said}" for name, said in c.fields.items()))
        say(*(f"  {said}" for said in words))


def _adopted_lines(record: dict[str, Any]) -> Iterator[str]:
    """What a space, as `_space_record` gives it, adopted, and how many of its rows are such."""
    for number, adopted in enumerate(record["adopted"]):
        yield adopted["words"] + (
            f"; {record['adopted_rows']} rows of {record['rows']} are adopted" if number == 0 else ""
        )


GlobOption = Annotated[
    list[str] | None, typer.Option("--ckpt", help="A backbone's name, with * and ?; may be given several times.")
]
SpacesOption = Annotated[
    list[str] | None,
    typer.Option("--space", help="A feature space's key, or its beginning; several times for several."),
]
CollectionsOption = Annotated[
    list[str] | None, typer.Option("--data", help="A collection, NAME or NAME@DIGEST: with its rows, labels and runs.")
]
RunsOption = Annotated[bool, typer.Option("--runs", help="Runs only.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be copied, and copy nothing.")]
TransfersOption = Annotated[int, typer.Option("--jobs", min=1, max=64, help="How many transfers at once.")]


@store_app.command("push")
def store_push_verb(
    ctx: typer.Context,
    url: Annotated[str, typer.Argument(help="Where to: a folder, s3://…, hf://datasets/…")],
    ckpt: GlobOption = None,
    space: SpacesOption = None,
    data: CollectionsOption = None,
    runs: RunsOption = False,
    dry_run: DryRunOption = False,
    jobs: TransfersOption = 8,
    store: StoreOption = DEFAULT_STORE,
    json_: JsonOption = False,
) -> None:
    """Copy to another place what it lacks."""
    from store.collection import check_name
    from store.index import write_index
    from store.labels import unshared
    from store.plan import plan_push
    from store.selection import Selection
    from store.transfer import push
    from store.url import open_place

    target, opened = open_place(url), open_store(store, write=True)
    for text in data or []:
        check_name(text.partition("@")[0])
    selection = Selection(backbone_globs(ckpt), tuple(space or ()), tuple(data or ()), runs)
    if not runs:
        names = [text.partition("@")[0] for text in data or opened.collection_names()]
        warn(*(f"note: {said}" for said in unshared(opened, names, ctx.obj.licences)))
    plan = plan_push(opened.root, target, selection, trusted=opened.trusted, jobs=jobs)
    transfer(plan, None if dry_run else push, jobs, json_, then=lambda: write_index(target))


@store_app.command("pull")
def store_pull_verb(
    url: Annotated[str, typer.Argument(help="Where from: a folder, s3://…, hf://datasets/…, https://…")],
    ckpt: GlobOption = None,
    space: SpacesOption = None,
    data: CollectionsOption = None,
    runs: RunsOption = False,
    for_: Annotated[
        str | None, typer.Option("--for", help="Just what one probe needs: newt; --data names another collection.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="With --for: labels of yours, where the store has none.")
    ] = None,
    replicates: Annotated[bool, typer.Option("--replicates", help="Segments all of whose rows are here, too.")] = False,
    require_signed: Annotated[
        bool, typer.Option("--require-signed", help="Only what a key that you trust has signed.")
    ] = False,
    dry_run: DryRunOption = False,
    jobs: TransfersOption = 8,
    store: StoreOption = DEFAULT_STORE,
    json_: JsonOption = False,
) -> None:
    """Copy from another place what is lacking here, all of it checked."""
    from probe.newt import read_labels
    from store import UsageError
    from store.plan import plan_pull
    from store.selection import Selection
    from store.transfer import pull
    from store.trust import Trust
    from store.url import open_place

    if for_ not in (None, "newt"):
        raise UsageError(f"--for {for_}: there is no such probe, the task families are newt.")
    if for_ and runs:
        raise UsageError("--for newt brings rows, --runs brings runs: give one of them.")
    if labels and not for_:
        raise UsageError("--labels says which images a probe needs: give --for newt with it.")
    selection = Selection(
        backbone_globs(ckpt), tuple(space or ()), tuple(data or ()), runs, for_,
        tuple(read_labels(labels).image_ids) if labels else (),
    )  # fmt: skip
    trusted = Trust.load(trust_file()).keys
    if require_signed and not trusted:
        raise UsageError(
            "--require-signed takes what keys have signed that you trust, and you trust none: `bb store trust KEY` "
            "with a public key that you have from its owner."
        )
    plan = plan_pull(
        open_place(url),
        local_folder(store),
        selection,
        replicates=replicates,
        trusted=trusted,
        require_signed=require_signed,
        jobs=jobs,
    )
    transfer(plan, None if dry_run else pull, jobs, json_)


def transfer(
    plan: "Plan", work: "Callable[..., Outcome] | None", jobs: int, json_: bool, then: Callable[[], None] | None = None
) -> None:
    """Says what is planned, does the work if there is one, then what follows it, and says what came of it."""
    from store.collection import some
    from store.plan import summary
    from store.transfer import Outcome

    source, target = plan.source.place.url, plan.target.place.url
    warn(*(f"note: {note}" for note in plan.notes))
    outcome = Outcome()
    if work:
        with gentle_stop("stopping; what has come is kept") as stop, Meter("copying", plan.n_bytes, "B") as meter:
            outcome = work(plan, jobs=jobs, stop=stop, tick=meter)
        if then and not outcome.stopped:
            then()
    faults = plan.faults + outcome.faults
    kinds = summary(plan.items if work is None else outcome.copied)
    if json_:
        show_json(
            {
                **{"from": source, "to": target, "dry_run": work is None, "stopped": outcome.stopped},
                **{"parts": kinds, "bytes": sum(kind["bytes"] for kind in kinds), "there": plan.there},
                "passed_over": [{"path": left.part.path, "why": left.why} for left in plan.passed_over],
                "faults": [{"path": left.part.path, "why": left.why} for left in faults],
                "notes": plan.notes,
            }
        )
    else:
        if work is None and kinds:
            show_table(
                ["what", "space", "backbone", "parts", "rows", "size"],
                [[k["kind"], k["space"][:12], ", ".join(k["backbones"]), k["parts"], k["rows"] or "",
                  size_text(k["bytes"])] for k in kinds],
                right=["parts", "rows", "size"],
            )  # fmt: skip
        for why in dict.fromkeys(left.why for left in plan.passed_over):
            paths = [left.part.path for left in plan.passed_over if left.why == why]
            say(f"passed over, {why}: {len(paths)} parts ({some(paths)})")
        say(*(f"left out: {left.part.path}: {left.why}" for left in faults))
        n_parts, n_bytes = sum(k["parts"] for k in kinds), size_text(sum(k["bytes"] for k in kinds))
        done = "to copy" if work is None else "copied"
        say(f"{n_parts} parts {done}, {n_bytes}; {plan.there} were there, {len(faults)} left out: {source} to {target}")
    if outcome.stopped:
        warn("stopped: the same command goes on from there")
    if faults or outcome.stopped:
        raise typer.Exit(1)


def backbone_globs(ckpts: Sequence[str] | None) -> tuple[str, ...]:
    """Patterns of canonical names: a bare one is open_clip's, or any library's where it begins with a star."""
    globs = []
    for text in ckpts or ():
        org, colon, model = text.partition(":")
        if colon and org == "timm-vit":
            text = f"timm:{model}"
        elif (not colon or org == "hf-hub") and not text.startswith("*"):
            text = f"open_clip:{text}"
        globs.append(text)
    return tuple(globs)


def _space_record(opened: "Store", space: "FeatureSpace") -> dict[str, Any]:
    from store.trust import revoked_text

    segments, revoked, rows = opened.segments(space), opened.revoked(), opened.rows(space)
    return {
        "key": space.key,
        "backbones": opened.backbones(space),
        "kind": space.kind,
        "row_shape": list(space.row_shape),
        "compute": space.numerics["compute"],
        "stored": space.numerics["stored"],
        "rows": len(rows),
        "adopted": [
            {
                "space": record.older,
                "words": record.words(),
                "sample": len(record.sample),
                "greatest_difference": record.greatest_difference,
                "tolerance": record.tolerance,
                "provenance": record.provenance,
            }
            for record in opened.adopted(space)
        ],
        "adopted_rows": int((rows.segment >= len(segments)).sum()),  # the index has its own segments first
        "segments": len(segments),
        "bytes": sum(segment.n_bytes for segment in segments),
        "revoked": {
            path.name: revoked_text(revoked[path.name], opened.trusted)
            for path in sorted((opened.root / "spaces" / space.key / "segments").glob("*") if revoked else [])
            if path.name in revoked
        },
    }


def _revoked_texts(opened: "Store") -> "dict[Part, str]":
    """What lies here and is not read any more: who revoked it, when and why."""
    from store.signing import lying_here
    from store.trust import revoked_text

    return {part: revoked_text(r, opened.trusted) for part, r in lying_here(opened, opened.revoked()).items()}


def _signed_texts(opened: "Store") -> Iterator[str]:
    """Who vouches for how much of a store, for what nobody does, and what is revoked, by whom, with what effect."""
    from store.collection import some
    from store.signing import coverage, lying_here
    from store.trust import revoked_text, signer_text

    found = coverage(opened)
    names = {signature.public_key: signature.signer for signature in opened.statements().signatures}
    for key, count in found.by_key.items():
        known = "whom you trust" if key in opened.trusted else f"whom you don't trust (bb store trust {key})"
        who = signer_text(key, names[key], opened.trusted)
        yield f"{count} of {found.objects} objects are signed by {who}, {known}"
    if found.unsigned:
        yield f"{len(found.unsigned)} of {found.objects} objects are signed by nobody: {some(found.unsigned)}"
    yield from (f"{part.kind} {part.digest}: {why}" for part, why in _revoked_texts(opened).items())
    for part, revocation in lying_here(opened, opened.judged().unheeded).items():
        yield (
            f"{part.kind} {part.digest}: {revoked_text(revocation, opened.trusted)}; not heeded, since you don't "
            f"trust the key, and it is not the object's only signer: `bb store trust {revocation.public_key}` heeds it"
        )


@store_app.command("keygen")
def store_keygen_verb(
    to: Annotated[Path | None, typer.Option("--to", help="The new file; else key.pem beside your bb.toml.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="The name to sign with: a lab's, say; else none.")] = None,
) -> None:
    """Make a key to sign stores with, and trust it yourself."""
    from store.key import make_key, public_file
    from store.trust import Trust

    path, trust = to or key_file(), Trust.load(trust_file())
    key = make_key(path, name)
    trust.with_key(key.public, name or "").save(trust_file())
    say(key.public)
    warn(
        f"The private key is {path} (mode 600): give it to nobody, and keep a copy where it can't be lost.",
        f"The public key is above and in {public_file(path)}. You trust it already; others do by either of:",
        f"  bb store trust {key.public}" + (f" --name {shlex.quote(name)}" if name else ""),
        f"  bb store trust {shlex.quote(public_file(path).name)}",
        "Tell it them on a way of its own (a web page of yours, say), not in the store that it signs.",
    )


@store_app.command("sign")
def store_sign_verb(
    key: KeyOption = None,
    space: Annotated[list[str] | None, typer.Option("--space", help="Only this space's rows and runs.")] = None,
    ckpt: Annotated[list[str] | None, typer.Option("--ckpt", help="Only this backbone's rows and runs.")] = None,
    store: StoreOption = DEFAULT_STORE,
    json_: JsonOption = False,
) -> None:
    """Verify the store, and vouch with your key for what is in it."""
    from collections import Counter

    from store import UsageError
    from store.key import read_key
    from store.signing import sign

    opened, signer = open_store(store, write=True), read_key(key or key_file())
    spaces = None
    if space or ckpt:
        names = backbone_names(ckpt)
        by_name = {name: [s for s in opened.spaces() if name in opened.backbones(s)] for name in names}
        if lacking := [name for name, found in by_name.items() if not found]:
            raise UsageError(f"{opened.root} has no features of {', '.join(lacking)}: see `bb store ls`.")
        spaces = [*map(opened.space, space or []), *(s for found in by_name.values() for s in found)]
    total = opened.count_segments()
    with Meter("verifying", total, "segments") as meter:
        files, parts = sign(opened, signer, spaces, progress=meter)
    counts = dict(Counter(str(part.kind) for part in parts))
    if json_:
        show_json({"public_key": signer.public, "files": [path.name for path in files], "signed": counts})
    elif not files:
        say(f"nothing new: all of it is signed by {signer.public}")
    else:
        said = ", ".join(_counted(count, kind) for kind, count in counts.items())
        say(f"signed by {signer.public}: {said}", *(f"  {path}" for path in files))


def _counted(count: int, kind: str) -> str:
    """So many parts of a kind, in words."""
    name = {"labels": "label table", "adopted": "adopted record"}.get(kind, kind)
    return f"{count} {name}" + ("" if count == 1 else "s")


@store_app.command("revoke")
def store_revoke_verb(
    digest: Annotated[
        list[str], typer.Argument(help="Segments, collections, labels, runs, heads: digests, or their beginnings.")
    ],
    reason: Annotated[str | None, typer.Option("--reason", help="Why, in a line that all readers see.")] = None,
    key: KeyOption = None,
    store: StoreOption = DEFAULT_STORE,
    json_: JsonOption = False,
) -> None:
    """Take back, for good, what is wrong; read, pull and merge leave it out from then on."""
    from store.key import read_key
    from store.signing import resolve, revoke

    opened, signer = open_store(store, write=True), read_key(key or key_file())
    path, fresh = revoke(opened, signer, resolve(opened, digest), reason)
    unheeded = sorted(set(fresh) - opened.revoked().keys())
    if json_:
        show_json(
            {"public_key": signer.public, "file": path.name if path else None, "revoked": fresh, "unheeded": unheeded}
        )
    elif path is None:
        say(f"nothing new: {signer.public} has revoked that already")
    else:
        say(*(f"revoked {found}" for found in fresh), f"  {path}")
    if unheeded:
        warn(
            f"note: {len(unheeded)} of them are still read here, since you don't trust the key: "
            f"bb store trust {signer.public}"
        )


@store_app.command("trust")
def store_trust_verb(
    key: Annotated[str | None, typer.Argument(help="A public key or a .pub file; without one, all are listed.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="What you call its owner.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Trust it no longer.")] = False,
    json_: JsonOption = False,
) -> None:
    """List the public keys that you trust, add one, or remove one."""
    from store import UsageError
    from store.key import check_public, check_signer, read_public
    from store.trust import Trust

    path = trust_file()
    trust = Trust.load(path)
    if key is None:
        if remove or name:
            raise UsageError(f"{'--remove' if remove else '--name'} of which key? bb store trust KEY …")
    elif remove:
        trust = trust.without(key)
        trust.save(path)
    else:
        is_file = key.endswith(".pub") or Path(key).is_file()
        public, own_name = read_public(Path(key)) if is_file else (check_public(key), None)
        trust = trust.with_key(public, check_signer(name) if name else own_name or trust.keys.get(public, ""))
        trust.save(path)
    if json_:
        show_json(dict(trust.keys))
    elif not trust.keys:
        say("no key is trusted; `bb store trust KEY` trusts one, `bb store keygen` makes one")
    else:
        say(*(f"{public}  {known}".rstrip() for public, known in sorted(trust.keys.items())))


# doctor


@app.command("doctor")
def doctor_verb(store: StoreOption = DEFAULT_STORE, json_: JsonOption = False) -> None:
    """Show versions, devices, store and caches, and what is missing."""
    import platform

    from probe.cuml import missing as cuml_missing
    from store.filesystem import filesystem_of
    from store.url import is_url
    from store.versions import installed

    facts: dict[str, str] = {"python": f"{platform.python_version()} on {platform.platform()}"}
    for name in (
        "backbone-bench",
        "numpy",
        "polars",
        "scikit-learn",
        "zarr",
        "torch",
        "torchvision",
        "timm",
        "open_clip_torch",
    ):
        facts[name] = installed(name) or "not installed"
    missing = [name for name in NEEDED_TO_EXTRACT if importlib.util.find_spec(name) is None]
    if missing:
        facts["bb extract"] = f"needs {', '.join(missing)}: pip install 'backbone-bench[extract]'"
    else:
        from extract.decoder import usable
        from extract.device import Numerics
        from extract.hub import cache_folder

        here = Numerics.resolve()
        facts["bb extract"] = f"would use {here.device_name()}"
        decoders = usable(here.device)
        facts["decoders"] = ", ".join(name for name, reason in decoders.items() if not reason)
        facts |= {f"decoder {name}": reason for name, reason in decoders.items() if reason}
        facts["weights"] = f"{cache_folder()}, {size_text(free_bytes(cache_folder()))} free"
    facts["--backend cuml"] = cuml_missing() or "can be used"
    if is_url(store):
        facts["store"] = f"{store}, read in place through {_cache_folder() / 'stores'}"
    else:
        there = (Path(store) / "zarr.json").exists()
        facts["store"] = f"{store}, {'there' if there else 'not made yet'}, {size_text(free_bytes(Path(store)))} free"
        kind = filesystem_of(Path(store))
        said = kind.name + (f": {kind.caution}" if kind.caution else "") if kind else "unknown"
        facts["file system of the store"] = said
    facts["hashes of files"] = str(_cache_folder() / "hashes.sqlite")
    facts["settings"] = ", ".join(map(str, _settings_files())) or "no bb.toml"
    for name in ("HF_HOME", "HF_HUB_OFFLINE", "HTTPS_PROXY", "SSL_CERT_FILE", "BB_STORE", "BB_DATA"):
        if os.environ.get(name):
            facts[name] = os.environ[name]
    if json_:
        show_json(facts)
    else:
        show_table(["", ""], list(facts.items()))


# demo

DEMO_BACKBONES = ("timm:test_vit/untrained", "timm:test_resnet/untrained")
DEMO_SHOTS = (4, 10)


@app.command("demo")
def demo_verb(
    to: Annotated[Path, typer.Option("--to", help="The folder for images, labels and store.")] = Path("bb-demo"),
) -> None:
    """Go the whole way offline: hand-written digits, two untrained networks, two shot counts, a table."""
    require_extract("bb demo")
    from extract.collection import find_images
    from probe.newt import read_labels
    from probe.protocol import parse_protocol
    from probe.report import boards
    from probe.run import Inputs, Spec
    from store import BBError

    root, store = to / "digits", open_store(str(to / "features.bb"), create=True)
    write_digits(root)
    (to / "bb.toml").write_text('store = "features.bb"\n\n[data.digits]\nroot = "digits"\n', encoding="utf-8")
    warn(f"1. extract: {' and '.join(DEMO_BACKBONES)}")
    summaries = extract_all(store, parse_names(DEMO_BACKBONES), {"digits": find_images(root)}, ExtractOptions())
    if any(summary["stopped"] or summary["failed"] for summary in summaries):
        raise BBError("the demo was not embedded whole; bb demo goes on from there.")
    labels = read_labels(root / NEWT_LABELS)
    warn(f"2. probe: {len(labels.tasks)} one-against-one tasks at n_train {' and '.join(map(str, DEMO_SHOTS))}")
    collection = store.collection("digits", labels.image_ids)
    keys = [summary["spaces"][0] for summary in summaries]
    inputs = [Inputs.read(store, store.space(key), collection, labels, "newt") for key in keys]
    specs = [Spec(parse_protocol("biobench"), shot, 0, "auto", "auto", warn) for shot in DEMO_SHOTS]
    results = probe_all(inputs, specs, jobs=None)
    warn("3. report")
    show_boards(boards(store.runs(), "newt"))
    computed = sum(summary["computed"] for summary in summaries)
    fresh = sum(fresh for _, fresh in results)
    say(
        "",
        f"{computed} features and {fresh} runs were computed, the rest was there."
        if computed or fresh
        else "Nothing had to be computed: every feature and every run was there.",
        f"Written: {root} (images and labels), {store.root} (features and runs), {to / 'bb.toml'} (settings).",
        "Next, try:",
        f"  cd {shlex.quote(str(to))}",
        "  bb report newt -v                                 the runs behind each cell",
        "  bb store ls                                       the feature spaces",
        "  bb probe newt --data digits --n-train 2,20 --seed 1",
        "And with images of yours:",
        "  bb extract --ckpt ViT-B-16/openai --data NAME=DIR",
    )


def write_digits(root: Path, every: int = 1) -> None:
    """scikit-learn's 1,797 hand-written digits (or every so many of them) as PNG files, labels in NeWT's columns."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    from probe.digits import digits_labels

    pixels, targets = (values[::every] for values in load_digits(return_X_y=True))
    ids = [f"digit-{i:04d}" for i in range(len(targets))]
    folder = root / "newt2021_images"
    folder.mkdir(parents=True, exist_ok=True)
    for image_id, values in zip(ids, pixels, strict=True):
        path = folder / f"{image_id}.png"
        if not path.exists():
            Image.fromarray((values.reshape(8, 8) * 255 / 16).astype(np.uint8)).save(path)
    digits_labels(ids, targets).write_csv(root / NEWT_LABELS)


if __name__ == "__main__":
    main()
