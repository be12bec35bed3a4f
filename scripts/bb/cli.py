"""The tree of verbs. A verb's module is imported when the verb runs, so that `bb --help` imports none."""

import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup

# Each group's verbs with the first line of their help. The module of `bb store ls` is bb/verbs/store/ls.py.
VERBS: Mapping[str, Mapping[str, str]] = {
    "": {
        "extract": "Embed the images that are missing from the store.",
        "bench": "Score every complete backbone on every family on disk by the classifiers of a file, in one page.",
        "predict": "Label the other images: a table of predictions with probabilities, and how far to trust it.",
        "search": "Find the images of a collection that fit a text best.",
        "suggest": "Say which images to label next: the least certain, different from each other, or a cover of all.",
        "label": "Label images in the browser, with a suggestion for each; every answer is saved at once.",
        "status": "Show what is in this folder and its store, and the next command; bb alone is the same.",
        "models": "List what can be extracted, as --ckpt takes it.",
        "doctor": "Show versions, devices, store and caches, and what is missing.",
        "demo": "Go the whole way offline: hand-written digits, two untrained networks, two shot counts, a table.",
    },
    "probe": {
        "newt": "Score stored features on NeWT's two-class tasks.",
        "classify": "Score stored features on any table of labels: classes, traits or numbers.",
        "zeroshot": "Score stored features on classes of which only the names are known.",
        "search": "Score text queries whose relevant images are known: AP@k, nDCG@k, MRR.",
        "retrieval": "Score stored features on finding images of the same label: re-identification, retrieval.",
        "rerank": "Learn to put the nearest images into a better order, and say what that changes.",
        "head": "Train a projection head on stored features; what it makes of them is a feature space of its own.",
    },
    "data": {
        "list": "List collections: folders and shards from bb.toml, and versions in the store.",
        "download": "Fetch a task family's images and labels from their publishers; resumes, checks and unpacks.",
        "check": (
            "Read every image's header and NeWT's labels, and say what is wrong; with --duplicates, list images that "
            "look alike."
        ),
    },
    "store": {
        "ls": "List feature spaces: backbone, rows, bytes.",
        "info": "Show a feature space whole, and where its rows come from.",
        "verify": "Read all of the store and say what is wrong with it.",
        "index": (
            "Write the index.json by which a store on a plain web server is read; anew whenever the store has changed."
        ),
        "gc": "Show, and with --yes remove, remains older than a day and what was set aside.",
        "compact": "Merge small segments into full ones; features stay the same to the last bit.",
        "du": "Show bytes by backbone and collection.",
        "why": "Say in what two feature spaces differ, field by field.",
        "push": "Copy to another place what is missing there.",
        "pull": "Copy from another place what is missing here, all of it checked.",
        "import": "Take in features that were made elsewhere, in a feature space of their own.",
        "keygen": "Make a key to sign stores with, and trust it yourself.",
        "sign": "Verify the store, and vouch with your key for what is in it.",
        "revoke": "Take back, for good, what is wrong; read, pull and merge leave it out from then on.",
        "trust": "List the public keys that you trust, add one, or remove one.",
    },
    "report": {
        "newt": "Compare runs: backbones by shot count, with 95% intervals.",
        "classify": "Compare runs of bb probe classify: scores, classes, confused pairs.",
        "retrieval": "Show the queries that retrieval did worst on, with what they got.",
        "diff": "Say in what two runs differ: inputs, tasks, images.",
    },
}
HELP = "Which frozen vision backbone to use for images of the natural world, and how sure one can be."


class VerbGroup(TyperGroup):
    """Verbs that are listed from VERBS and imported one by one. A subclass names its group."""

    group: ClassVar[str] = ""

    def __init__(self, **attrs: Any) -> None:
        super().__init__(**attrs)
        for name, text in VERBS[self.group].items():
            self.add_command(TyperCommand(name, help=text))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        text = VERBS[self.group].get(cmd_name)
        return super().get_command(ctx, cmd_name) if text is None else _load(self.group, cmd_name, text)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        limit = formatter.width - 6 - max(map(len, self.commands))
        rows = [(name, command.get_short_help_str(limit)) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class _Root(VerbGroup):
    """`bb` alone, next to a store or images, is `bb status`; elsewhere it prints its help."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        from bb.here import something_here

        return super().parse_args(ctx, args or (["status"] if something_here(Path()) else []))


class _Probe(VerbGroup):
    """`bb probe FAMILY` is `bb probe classify`, or retrieval, on a task family's own labels."""

    group = "probe"

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in VERBS[self.group] or cmd_name not in _families():
            return super().get_command(ctx, cmd_name)
        verb, of = _verb_of(cmd_name)
        if ctx.default_map and verb in ctx.default_map:  # what bb.toml says holds for the family, too
            ctx.default_map.setdefault(cmd_name, ctx.default_map[verb])
        return _load(self.group, verb, f"Score stored features on {of}.", cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands and args[0] not in _families():
            from bb.store.errors import UsageError

            known = ", ".join([*self.commands, *(name for name in _families() if name not in self.commands)])
            raise UsageError(f"unknown probe {args[0]!r}: choose {known}.")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        foreign = [name for name, (_, own) in _families().items() if not own]
        for name in foreign:
            self.add_command(TyperCommand(name, help=f"Score stored features on {_families()[name][0]}."))
        super().format_commands(ctx, formatter)
        with formatter.section("Task families, which bb data list describes"):
            formatter.write_text(", ".join(name for name in _families() if name not in self.commands))


def _families() -> dict[str, tuple[str, bool]]:
    """Task families, each with words for the package that it comes from, and whether that is bb; none is imported."""
    from bb.probe.tasks.registry import TASKS

    return {name: (f"a task family of {each.distribution}", each.own) for name, each in TASKS.plugins.items()}


def _verb_of(family: str) -> tuple[str, str]:
    """The verb that probes a task family, and what help calls the family."""
    words, own = _families()[family]
    if not own:
        return "classify", f"{family}: {words}"
    from bb.probe.tasks.family import about
    from bb.probe.tasks.registry import TASKS

    found = TASKS.load(family)
    return about(found).probe, found.title


class _Data(VerbGroup):
    group = "data"


class _Store(VerbGroup):
    group = "store"


class _Report(VerbGroup):
    """`bb report` alone, or with options alone, is `bb report newt`."""

    group = "report"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(
            ctx, args if args and (args[0] == "--help" or args[0][:1] != "-") else ["newt", *args]
        )

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands and args[0] in _families():
            if _verb_of(args[0])[0] == "retrieval":
                from bb.store.errors import UsageError

                raise UsageError(f"a report on {args[0]} needs its table of labels: bb data check {args[0]}=DIR --csv "
                                 f"{args[0]}.csv, then bb report retrieval --labels {args[0]}.csv")  # fmt: skip
            return super().resolve_command(ctx, ["classify", *args])
        if args and args[0] not in self.commands:
            from bb.store.errors import UsageError

            raise UsageError(f"unknown report {args[0]!r}: the task families are newt, classify, retrieval.")
        return super().resolve_command(ctx, args)


def _load(group: str, name: str, text: str, called: str = "") -> Any:
    """The command of a verb, the function `verb` of its module; `called` where it goes by another name."""
    try:
        module = import_module(".".join(filter(None, ("bb.verbs", group, name))))
    except KeyboardInterrupt:  # these imports take a good part of a second
        print("bb: stopped before anything was done.", file=sys.stderr)
        sys.exit(1)
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    single.command(called or name, help=text)(module.verb)
    return typer.main.get_command(single)


app = typer.Typer(help=HELP, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, cls=_Root)
for _group, _text in (
    (_Probe, "Fit and score probes on stored features; only heads need torch."),
    (_Data, "Image collections: list, download, check."),
    (_Store, "Look into a feature store, and keep it in order."),
    (_Report, "Compare runs: tables, pages, pictures."),
):
    app.add_typer(typer.Typer(help=_text, no_args_is_help=True, cls=_group), name=_group.group)


def _print_version(wanted: bool) -> None:
    if wanted:
        from bb.store.versions import installed

        print(f"bb {installed('backbone-bench')}")
        raise typer.Exit


@app.callback()
def _root(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    from bb.settings import Settings

    ctx.obj = Settings.load()
    ctx.default_map = ctx.obj.defaults(VERBS)
