"""`bb demo`: go the whole way offline: hand-written digits, two untrained networks, two shot counts, a table."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from bb.console import Reporter, say, stop_gracefully, warn
from bb.probe.tasks.digits import digits_labels
from bb.runs import probe_all
from bb.settings import NEWT_LABELS
from bb.stores import open_store, parse_names, require_extract
from bb.texts.report import show_boards

DEMO_BACKBONES = ("timm:test_vit/untrained", "timm:test_resnet/untrained")
DEMO_SHOTS = (4, 10)


def verb(
    to: Annotated[Path, typer.Option("--to", help="The folder for images, labels and store.")] = Path("bb-demo"),
) -> None:
    require_extract("bb demo")
    from bb.extract.extraction import ExtractOptions, extract
    from bb.extract.scan_collection import find_files
    from bb.probe.classifiers.protocol import parse_protocol
    from bb.probe.report.build import boards
    from bb.probe.run import Inputs, Spec
    from bb.probe.tasks.newt import read_labels
    from bb.store import BBError

    root, store = to / "digits", open_store(str(to / "features.bb"), create=True)
    write_digits(root)
    (to / "bb.toml").write_text('store = "features.bb"\n\n[data.digits]\nroot = "digits"\n', encoding="utf-8")
    (to / "bb.toml").chmod(0o644)  # one that others can change would be passed over
    warn(f"1. extract: {' and '.join(DEMO_BACKBONES)}")
    files = {"digits": find_files(root)}
    with Reporter() as reporter:
        summaries = extract(store, parse_names(DEMO_BACKBONES), files, ExtractOptions(), reporter, stop_gracefully)
    if any(summary.incomplete for summary in summaries):
        raise BBError("the demo was not embedded whole; bb demo goes on from there.")
    labels = read_labels(root / NEWT_LABELS)
    warn(f"2. probe: {len(labels.tasks)} one-against-one tasks at n_train {' and '.join(map(str, DEMO_SHOTS))}")
    collection = store.collection("digits", labels.image_ids)
    keys = [summary.spaces[0] for summary in summaries]
    inputs = [Inputs.read(store, store.space(key), collection, labels, "newt") for key in keys]
    specs = [Spec(parse_protocol("biobench"), shot, 0, "auto", "auto", warn) for shot in DEMO_SHOTS]
    results = probe_all(inputs, specs, jobs=None)
    warn("3. report")
    show_boards(boards(store.runs(), "newt"))
    computed = sum(summary.computed for summary in summaries)
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

    pixels, targets = (values[::every] for values in load_digits(return_X_y=True))
    ids = [f"digit-{i:04d}" for i in range(len(targets))]
    folder = root / "newt2021_images"
    folder.mkdir(parents=True, exist_ok=True)
    for image_id, values in zip(ids, pixels, strict=True):
        path = folder / f"{image_id}.png"
        if not path.exists():
            Image.fromarray((values.reshape(8, 8) * 255 / 16).astype(np.uint8)).save(path)
    digits_labels(ids, targets).write_csv(root / NEWT_LABELS)
