"""`bb predict`: label the other images: a table of predictions with probabilities, and how far to trust it."""

import io
import json
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from bb.console import Reporter, say, show_json, warn
from bb.options import (
    DEFAULT_STORE,
    CacheOption,
    CkptOption,
    JsonOption,
    MaxMissingOption,
    NotMissingOption,
    StoreOption,
)
from bb.probe.labelling.predict import predict
from bb.probe.tasks.splits import FOLDS
from bb.store import UsageError
from bb.stores import backbone_names, one_collection, open_store
from bb.texts.classify import score_text
from bb.texts.report import check_files, write_file


def verb(
    ctx: typer.Context,
    labels: Annotated[Path, typer.Option("--labels", help="CSV or Parquet of images and labels; see docs/labels.md.")],
    out: Annotated[
        Path,
        typer.Option(
            "--out", help="The table to write: .csv or .parquet; figures go into a .json file of the same name."
        ),
    ],
    data: Annotated[
        str | None, typer.Option("--data", help="The collection, NAME or NAME=DIR; the store's only one by default.")
    ] = None,
    id_: Annotated[str | None, typer.Option("--id", help="The column of image IDs or file names.")] = None,
    label: Annotated[str | None, typer.Option("--label", help="The column of labels.")] = None,
    group: Annotated[
        str | None,
        typer.Option("--group", help="The column whose images are not independent: site, individual, sequence."),
    ] = None,
    not_missing: NotMissingOption = None,
    ckpt: CkptOption = None,
    space: Annotated[list[str] | None, typer.Option("--space", help="A feature space's key, or its beginning.")] = None,
    max_missing: MaxMissingOption = None,
    classifier: Annotated[str, typer.Option("--classifier", help="logistic, knn, simpleshot or ridge.")] = "logistic",
    preprocessing: Annotated[
        str,
        typer.Option("--preprocessing", help="none, l2, center-l2 or standard; auto is the classifier's usual one."),
    ] = "auto",
    ensemble: Annotated[bool, typer.Option("--ensemble", help="Average the probabilities of all backbones.")] = False,
    target_error: Annotated[
        float, typer.Option("--target-error", help="The share of accepted predictions that may be wrong.")
    ] = 0.05,
    everything: Annotated[bool, typer.Option("--all", help="Predict labelled images, too.")] = False,
    folds: Annotated[int, typer.Option("--folds", min=2, help="Folds of the cross-validation.")] = FOLDS,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the folds.")] = 0,
    store: StoreOption = DEFAULT_STORE,
    cache_size: CacheOption = None,
    json_: JsonOption = False,
) -> None:
    check_files({"--out": out})
    if out.suffix not in (".csv", ".parquet"):
        raise UsageError(f"--out {out} must end in .csv or .parquet.")
    opened = open_store(store, cache_size=cache_size)
    name, root = one_collection(opened, data, ctx.obj)
    with Reporter("note: ") as reporter:
        found = predict(
            opened, labels, name, id=id_, label=label, group=group, not_missing=not_missing or (),
            ckpt=backbone_names(ckpt, opened), space=space or (), max_missing=max_missing, classifier=classifier,
            preprocessing=preprocessing, ensemble=ensemble, target_error=target_error, everything=everything,
            folds=folds, seed=seed, reporter=reporter,
        )  # fmt: skip
    frame = found.frame
    if isinstance(root, Path):
        frame = frame.with_columns(path=pl.Series([str(root / image_id) for image_id in frame["image_id"]]))
    figures = found.record()
    content = frame.write_csv().encode() if out.suffix == ".csv" else _parquet(frame)
    write_file(out, content)
    write_file(out.with_suffix(".json"), (json.dumps(figures, indent=1, ensure_ascii=False) + "\n").encode())
    if json_:
        show_json(figures)
        return
    best = " and ".join(name for name, _ in found.backbones) if ensemble else found.backbones[0][0]
    say(f"{len(frame)} images predicted from {found.labelled} labels with {best}, {classifier}")
    say(f"accuracy of further images like the labelled ones: {score_text(figures['accuracy'])}")
    if figures["accuracy_of_new_groups"]:
        say(f"accuracy of images of a further group: {score_text(figures['accuracy_of_new_groups'])}")
    if found.acceptance.threshold is None:
        say(f"no prediction is accepted: none is sure enough for an error of {target_error:g}; label more images")
    else:
        say(
            f"{figures['accepted']} accepted, with a probability of {found.acceptance.threshold:.3f} or more; of "
            f"labelled images like these {found.acceptance.error:.3f} were wrong (--target-error {target_error:g})"
        )
    warn(*(f"note: {note}" for note in found.notes))


def _parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()
