"""Options that several verbs share, and values that several verbs parse."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer


def named(param: typer.CallbackParam, value: Any) -> Any:
    """The value of an option that names something. Errors: UsageError for no text, such as of an unset variable."""
    given = value if isinstance(value, list | tuple) else [value]
    if any(isinstance(each, str) and not each.strip() for each in given):
        from bb.store.errors import UsageError

        raise UsageError(f"{param.opts[0]} '' names nothing: give a name, or leave {param.opts[0]} out.")
    return value


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
        "--data",
        help="A collection: NAME=DIR, NAME=SHARDS (a-{00..99}.tar, URL), or a NAME from bb.toml or BB_DATA.",
        callback=named,
    ),
]
FollowOption = Annotated[
    bool,
    typer.Option(
        "--follow-links", envvar="BB_FOLLOW_LINKS", help="Follow links that lead out of an image folder, too."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
CkptOption = Annotated[
    list[str] | None,
    typer.Option("--ckpt", help="A backbone, as `bb models` lists them; may be given several times.", callback=named),
]
NotMissingOption = Annotated[
    list[str] | None,
    typer.Option("--not-missing", help="A text such as NA that is a name in the labels; repeatable."),
]
MissingOption = Annotated[
    str, typer.Option("--missing", help="Images that have no features: error, or skip to leave them out and say so.")
]
MaxMissingOption = Annotated[
    float | None, typer.Option("--max-missing", help="With --missing skip: the largest share left out; 0.01.")
]
SameImagesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--same-images-as",
        help="With --missing skip: also leave out images missing from this feature space.",
        callback=named,
    ),
]
KeyOption = Annotated[Path | None, typer.Option("--key", help="Your private key's file; else what keygen made.")]
SpaceOption = Annotated[
    str | None, typer.Option("--space", help="A feature space's key, or its beginning.", callback=named)
]
TextOption = Annotated[
    str | None,
    typer.Option(
        "--text", help="[NAME=]FILE: encode its names instead of images; a name on each line, or a CSV.", callback=named
    ),
]
TemplatesOption = Annotated[
    str, typer.Option("--templates", help="With --text: openai (80), plain (the name alone), or a file of templates.")
]
TextTypeOption = Annotated[
    str, typer.Option("--text-type", help="With --text and a CSV: asis, common, sci, taxon, sci_com or taxon_com.")
]
TextSpaceOption = Annotated[
    str | None,
    typer.Option("--text-space", help="The text vectors: a feature space's key, or its beginning.", callback=named),
]
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
GlobOption = Annotated[
    list[str] | None,
    typer.Option("--ckpt", help="A backbone's name, with * and ?; may be given several times.", callback=named),
]
SpacesOption = Annotated[
    list[str] | None,
    typer.Option("--space", help="A feature space's key, or its beginning; several times for several.", callback=named),
]
CollectionsOption = Annotated[
    list[str] | None,
    typer.Option("--data", help="A collection, NAME or NAME@DIGEST: with its rows, labels and runs.", callback=named),
]
RunsOption = Annotated[bool, typer.Option("--runs", help="Runs only.")]
ModelsOption = Annotated[
    list[str] | None,
    typer.Option("--model", help="Only this fitted classifier: a digest or its beginning; several times for several."),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be copied, and copy nothing.")]
TransfersOption = Annotated[int, typer.Option("--jobs", min=1, max=64, help="How many transfers at once.")]
ProbedSpacesOption = Annotated[
    list[str] | None, typer.Option("--space", help="A feature space's key, or its beginning.", callback=named)
]
RunsToOption = Annotated[
    str | None, typer.Option("--runs-to", help="The local store for runs, where --store is a URL; features.bb.")
]
IdOption = Annotated[str | None, typer.Option("--id", help="The column of image IDs or file names.", callback=named)]
ForceOption = Annotated[bool, typer.Option("--force", help="Compute runs again that exist.")]
ImagesOption = Annotated[
    str | None,
    typer.Option("--data", help="The collection, NAME or NAME=DIR; the store's only one by default.", callback=named),
]
CollectionOption = Annotated[
    str | None,
    typer.Option(
        "--data", help="The collection, NAME or NAME@DIGEST; the store's only one by default.", callback=named
    ),
]
LabelOption = Annotated[str | None, typer.Option("--label", help="The column of labels.")]
PageOption = Annotated[Path | None, typer.Option("--html", help="Write a page that works offline.")]
OpenOption = Annotated[
    bool, typer.Option("--open", help="Show the page in the browser; without --html it is written to report.html.")
]
FiguresOption = Annotated[Path | None, typer.Option("--csv", help="Write every figure; - is standard output.")]
ProcessesOption = Annotated[
    int | None, typer.Option(envvar="BB_JOBS", min=1, help="Processes; all cores if it is not said.")
]
StrategyOption = Annotated[
    str, typer.Option("--strategy", help="margin, cluster, random, or rare:CLASS to look for one class.")
]
RandomShareOption = Annotated[
    float, typer.Option("--random-share", help="The share of images drawn at random, to measure accuracy on.")
]
TableOption = Annotated[
    Path | None, typer.Option("--labels", help="CSV or Parquet of images and labels; without it, folders are classes.")
]
SideOption = Annotated[str | None, typer.Option("--split", help="The column of sides; '' ignores it.")]
TaskOption = Annotated[str | None, typer.Option("--task", help="The column of tasks.")]
DropLeaksOption = Annotated[
    bool, typer.Option("--drop-leaks", help="Leave out test images that equal a training image, byte for byte.")
]
LogOption = Annotated[list[str] | None, typer.Option("--log", help="tensorboard:DIR, mlflow:DIR or wandb:DIR.")]
TextDeviceOption = Annotated[
    str, typer.Option(envvar="BB_DEVICE", help="For texts that are not stored: auto, cpu, cuda, cuda:N or mps.")
]
VerboseOption = Annotated[bool, typer.Option("-v", "--verbose", help="Show the run IDs.")]
DEFAULT_STORE = "features.bb"


def listed(option: str, given: Sequence[str]) -> list[str]:
    """The values of an option that may be given several times, with commas or both."""
    from bb.store import UsageError

    values = [part.strip() for text in given for part in str(text).split(",")]
    if not all(values):
        text = ",".join(map(str, given))
        raise UsageError(f"{option} {text!r} has an empty value: write one value, or several with single commas.")
    return values


def numbers(
    option: str, given: Sequence[str], kind: Callable[[str], Any], *, least: int, below: float = math.inf
) -> tuple[Any, ...]:
    """The numbers of such an option, each at least `least` and less than `below`."""
    from bb.store import UsageError

    found = []
    for text in listed(option, given):
        try:
            found.append(kind(text))
        except ValueError:
            raise UsageError(f"{option} {text} is not a list of numbers: write for example {option} 1,5,10.") from None
        if not least <= found[-1] < below:
            most = "or more" if below == math.inf else f"to {below - 1}"
            raise UsageError(f"{option} {text} makes no sense: choose {least} {most}.")
    return tuple(found)
