"""`bb demo`: go the whole way offline, from images to a page of results: hand-written digits, or a folder of images."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bb.console import ConsoleReporter, say, stop_gracefully, warn
from bb.probe.tasks.digits import digits_labels
from bb.settings import NEWT_LABELS
from bb.store.text.command import command
from bb.store.text.size import counted
from bb.stores import open_store, parse_names, require_extract
from bb.texts.classify import show_board
from bb.texts.demo import PIXELS, digits_story
from bb.texts.report import show_boards, write_file, write_report

if TYPE_CHECKING:
    from bb.extract.extract_options import Summary
    from bb.store import Collection, FeatureSpace, Store

UNTRAINED = ("timm:test_vit/untrained", "timm:test_resnet/untrained")
SHOTS = (4, 10)
FIRST = 20  # images to label first, of a folder without classes


def verb(
    to: Annotated[Path, typer.Option("--to", help="The folder for labels, weights, store and page.")] = Path("bb-demo"),
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="With three small ImageNet networks, from the extra `demo`.")
    ] = False,
    images: Annotated[
        Path | None, typer.Option("--images", help="A folder of images in place of digits; its folders are classes.")
    ] = None,
) -> None:
    require_extract("bb demo")
    from bb.extract.weights.lite_networks import write_weights
    from bb.store.errors import UsageError
    from bb.store.files.regular_file import refuse_in_store

    refuse_in_store(to, f"--to {to}")
    if images is not None and not images.is_dir():
        raise UsageError(f"--images {images} is not a folder: name one that holds images.")
    lites = write_weights(to / "weights") if pretrained else []
    if images is None:
        _digits(to, [*lites, *UNTRAINED])
    else:
        _photographs(to, images, lites or list(UNTRAINED))


def _digits(to: Path, ckpts: list[str]) -> None:
    """scikit-learn's digits as NeWT-like tasks."""
    from bb.probe.classifiers.protocol import parse_protocol
    from bb.probe.facade import find_or_make
    from bb.probe.report.build import boards
    from bb.probe.report.leaderboard import KINDS
    from bb.probe.report.options import ReportOptions
    from bb.probe.run import FamilyInputs, FamilySpec, prepare
    from bb.probe.tasks.newt import read_labels

    root, store = to / "digits", open_store(str(to / "features.bb"), create=True)
    write_digits(root)
    summaries = _extract(to, store, ckpts, "digits", root)
    labels = read_labels(root / NEWT_LABELS)
    warn(f"2. probe: {len(labels.tasks)} one-against-one tasks at n_train {' and '.join(map(str, SHOTS))}")
    collection = store.collection("digits", labels.image_ids)
    pixels = import_pixels(store, collection, root)
    spaces = [pixels, *(store.space(each.spaces[0]) for each in summaries)]
    inputs = [FamilyInputs.read(store, space, collection, labels, "newt") for space in spaces]
    specs = [FamilySpec(parse_protocol("biobench"), shot, 0, "auto", "auto", warn) for shot in SHOTS]
    with ConsoleReporter("note: ") as reporter:
        prepared = [prepare(each, spec) for each in inputs for spec in specs]
        results = [find_or_make(each, jobs=None, force=False, reporter=reporter) for each in prepared]
    warn("3. report")
    found = boards(store.runs(), "newt", ReportOptions(kinds=KINDS, details=True))
    page = to / "report.html"
    show_boards(found)
    write_report(found, {"--html": page}, store, {"digits": root})
    say("", *digits_story(found[0]), "", _computed(summaries, sum(fresh for _, fresh in results)))
    _next(
        to,
        {
            "bb report newt -v": "the runs behind each cell",
            "bb store ls": "the feature spaces",
            "bb probe newt --data digits --n-train 2,20 --seed 1": "more runs",
            "bb demo --images DIR": "and with images of yours",
        },
    )


def _photographs(to: Path, images: Path, ckpts: list[str]) -> None:
    """A person's images: classes are folders; without them, which images to label first."""
    from bb.probe.classification.facade import classify
    from bb.probe.classification.report.page import page
    from bb.probe.labelling.active_learning.suggest import suggest
    from bb.probe.tasks.folders import NoClasses, table_from_folders
    from bb.store.local.choose_version import newest

    store = open_store(str(to / "features.bb"), create=True)
    summaries = _extract(to, store, ckpts, "photos", images)
    collection = newest(store.collections("photos"), store.recorded)
    assert collection is not None, "extract has just put it there"
    try:
        table_from_folders(collection.table["image_id"].to_list())
    except NoClasses as error:
        warn(f"2. suggest what to label first, since there is nothing to probe: {error.problem}")
        chosen = suggest(store, data="photos", n=FIRST)
        write_file(to / "next.csv", chosen.frame.rename(chosen.columns).write_csv().encode())
        say("", f"{len(chosen.frame)} images that cover the collection: label them first.", _computed(summaries, 0))
        of = {"labels": "mine.csv", "data": "photos"}
        _next(to, {command("label", **of): "label some", command("probe classify", **of): "then: which backbone"})
        return
    warn("2. probe: cross-validation, where classes are folders")
    with ConsoleReporter("note: ") as reporter:
        name = f"photos@{collection.digest}"
        found = classify(store, None, name, space=[each.spaces[0] for each in summaries], reporter=reporter)
    warn("3. report")
    show_board(found.boards[0])
    write_file(to / "report.html", page(found.boards, {}).encode())
    say("", _computed(summaries, len(found.fresh)))
    _next(
        to,
        {
            command("report classify", classes=True): "classes and confused pairs",
            command("predict", labels="LABELS.csv", data="photos", out="rest.csv"): "label the rest, from a table",
        },
    )


def _extract(to: Path, store: "Store", ckpts: list[str], name: str, root: Path) -> "list[Summary]":
    """Embeds the images, and writes settings that name them."""
    from bb.extract.extract_options import ExtractOptions
    from bb.extract.extraction import extract
    from bb.extract.scan_collection import find_files
    from bb.store import BBError

    inside = root.relative_to(to) if root.is_relative_to(to) else root.resolve()
    settings, content = to / "bb.toml", f'store = "features.bb"\n\n[data.{name}]\nroot = "{inside.as_posix()}"\n'
    if settings.exists() and settings.read_text(encoding="utf-8") != content:
        warn(f"note: {settings} is there and is left as it is: --data {name}={root} names the images")
    else:
        settings.write_text(content, encoding="utf-8")
        settings.chmod(0o644)  # one that others can change would be passed over
    warn(f"1. extract: {' and '.join(ckpts)}")
    with ConsoleReporter() as reporter:
        summaries = extract(
            store, parse_names(ckpts), {name: find_files(root)}, ExtractOptions(), reporter, stop_gracefully
        )
    if any(summary.stopped or summary.error for summary in summaries):
        raise BBError("the demo was not embedded whole; bb demo goes on from there.")
    return summaries


def import_pixels(store: "Store", collection: "Collection", root: Path) -> "FeatureSpace":
    """The 64 grey values of each digit as features of their own: what a backbone has to be better than."""
    import numpy as np
    from PIL import Image

    from bb.store.imported import import_features

    image_ids = collection.table["image_id"].to_list()
    files = [root / "newt2021_images" / f"{image_id}.png" for image_id in image_ids]
    pixels = np.stack([np.asarray(Image.open(path), np.float32).reshape(-1) for path in files])
    digests = np.asarray(collection.digests(image_ids))
    return import_features(store, pixels, digests, image_ids, name=PIXELS, collection=collection.name)


def _computed(summaries: "list[Summary]", runs: int) -> str:
    computed = sum(summary.computed for summary in summaries)
    if computed or runs:
        return f"{counted(computed, 'feature')} and {counted(runs, 'run')} were computed, the rest was there."
    return "Nothing had to be computed: every feature and every run was there."


def _next(to: Path, commands: dict[str, str]) -> None:
    width, page = max(map(len, commands)), (to / "report.html").resolve()
    say(
        f"Written: everything is in {to.resolve()}.",
        *([f"Open {page} in a browser."] if page.exists() else []),
        "Next, try:",
        *([f"  cd {shlex.quote(str(to))}"] if to.resolve() != Path.cwd() else []),
        *(f"  {text:{width}}  {what}" for text, what in commands.items()),
    )


def write_digits(root: Path, every: int = 1) -> None:
    """scikit-learn's 1,797 hand-written digits (or every n-th of them) as PNG files, labels in NeWT's columns."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    pixels, targets = (values[::every] for values in load_digits(return_X_y=True))
    ids = [f"digit-{i:04d}" for i in range(len(targets))]
    folder = root / "newt2021_images"
    folder.mkdir(parents=True, exist_ok=True)
    for image_id, values in zip(ids, pixels, strict=True):
        if not (path := folder / f"{image_id}.png").exists():
            Image.fromarray((values.reshape(8, 8) * 255 / 16).astype(np.uint8)).save(path)
    digits_labels(ids, targets).write_csv(root / NEWT_LABELS)
