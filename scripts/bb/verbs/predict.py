"""`bb predict`: label the other images: a table of predictions with probabilities, and how far to trust it."""

import io
import json
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from bb import options
from bb.console import ConsoleReporter, show_json
from bb.labels import with_paths
from bb.probe.labelling.finder import TOP
from bb.probe.labelling.group_thresholds import read_groups
from bb.probe.labelling.identify import Identified, identify
from bb.probe.labelling.predict import predict
from bb.probe.labelling.result import Labelled
from bb.probe.labelling.use_model import Applied, use_model
from bb.probe.tasks.splits import FOLDS
from bb.store import UsageError
from bb.store.text.command import command
from bb.stores import backbone_names, one_collection, open_store, store_to_name
from bb.texts.predict import show_applied, show_identified, show_labelled
from bb.texts.report import check_files, write_files

KEPT = (
    "model",
    "data",
    "out",
    "groups",
    "id_",
    "group",
    "store",
    "cache_size",
    "json_",
)  # options that go with --model


def verb(
    ctx: typer.Context,
    out: Annotated[
        Path,
        typer.Option(
            "--out", help="The table to write: .csv or .parquet; figures go into a .json file of the same name."
        ),
    ],
    labels: Annotated[
        Path | None, typer.Option("--labels", help="CSV or Parquet of images and labels; see docs/labels.md.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="In place of labels: a classifier kept in the store, by digest or its beginning."),
    ] = None,
    groups: Annotated[
        Path | None,
        typer.Option("--groups", help="With --model: a table of images and their --group, for thresholds by group."),
    ] = None,
    data: options.ImagesOption = None,
    id_: options.IdOption = None,
    label: options.LabelOption = None,
    group: Annotated[
        str | None,
        typer.Option("--group", help="The column whose images are not independent: site, individual, sequence."),
    ] = None,
    not_missing: options.NotMissingOption = None,
    ckpt: options.CkptOption = None,
    space: options.ProbedSpacesOption = None,
    max_missing: options.MaxMissingOption = None,
    classifier: Annotated[str, typer.Option("--classifier", help="logistic, knn, simpleshot or ridge.")] = "logistic",
    preprocessing: Annotated[
        str,
        typer.Option("--preprocessing", help="none, l2, center-l2 or standard; auto is the classifier's usual one."),
    ] = "auto",
    ensemble: Annotated[bool, typer.Option("--ensemble", help="Average the probabilities of all backbones.")] = False,
    target_error: Annotated[
        float, typer.Option("--target-error", help="The share of accepted predictions that may be wrong.")
    ] = 0.05,
    retrieve: Annotated[
        bool, typer.Option("--retrieve", help="Labels are individuals: name the nearest known ones, or none of these.")
    ] = False,
    top: Annotated[int, typer.Option("--top", help="With --retrieve: how many individuals to name.")] = TOP,
    none_share: Annotated[
        float, typer.Option("--none-share", help="With --retrieve: the share of images that show no known individual.")
    ] = 0.5,
    everything: Annotated[bool, typer.Option("--all", help="Predict labelled images, too.")] = False,
    folds: Annotated[int, typer.Option("--folds", min=2, help="Folds of the cross-validation.")] = FOLDS,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the folds.")] = 0,
    store: options.StoreOption = options.DEFAULT_STORE,
    cache_size: options.CacheOption = None,
    json_: options.JsonOption = False,
) -> None:
    if out.suffix not in (".csv", ".parquet"):
        raise UsageError(f"--out {out} must end in .csv or .parquet.")
    beside = out.with_suffix(".json")
    check_files({"--out": out, "the figures of --out": beside}, labels, groups)
    if beside.exists() and not out.exists():  # nobody named it: it may be anything, such as a COCO file
        raise UsageError(f"--out {out} comes with {beside}, which is there already: name another file.")
    if (labels is None) == (model is None):
        raise UsageError("give either --labels FILE, to fit a classifier, or --model DIGEST, to use one that is kept.")
    opened = open_store(store, cache_size=cache_size)
    name, root = one_collection(opened, data, ctx.obj)
    found: Labelled | Identified | Applied
    _refuse(ctx, model=model is not None, retrieve=retrieve)
    if labels is None:
        found = use_model(opened, model or "", name, groups=read_groups(groups, id_, group) if groups else None)
    else:
        with ConsoleReporter("note: ") as reporter:
            asked: dict[str, Any] = {
                "id": id_, "label": label, "group": group, "not_missing": not_missing or (),
                "ckpt": backbone_names(ckpt, opened), "space": space or (), "max_missing": max_missing,
                "target_error": target_error, "folds": folds, "seed": seed, "reporter": reporter,
            }  # fmt: skip
            if retrieve:
                found = identify(opened, labels, name, top=top, none_share=none_share, **asked)
            else:
                found = predict(
                    opened, labels, name, classifier=classifier, preprocessing=preprocessing, ensemble=ensemble,
                    everything=everything, **asked,
                )  # fmt: skip
    frame = with_paths(found.frame, root)
    content = frame.write_csv().encode() if out.suffix == ".csv" else _parquet(frame)
    figures = found.record()
    said = (json.dumps(figures, indent=1, ensure_ascii=False) + "\n").encode()
    write_files({out: content, beside: said})
    if json_:
        show_json(figures)
    elif isinstance(found, Applied):
        show_applied(found)
    else:
        short = found.model[:12] if found.model else None
        again = command("predict", model=short, data="NEW", out="FILE", store=store_to_name(ctx, store))
        if isinstance(found, Identified):
            show_identified(found, again)
        else:
            show_labelled(found, again)


def _refuse(ctx: typer.Context, *, model: bool, retrieve: bool) -> None:
    """Errors: UsageError for options that have no meaning with --model, with --retrieve or without it."""
    sources = {p: ctx.get_parameter_source(str(p.name)) for p in ctx.command.params}
    given = {p.name: p.opts[0] for p, source in sources.items() if source and source.name == "COMMANDLINE"}
    fits = [
        option
        for name, option in given.items()
        if name not in KEPT or (name in ("id_", "group") and "groups" not in given)
    ]
    if model and fits:
        raise UsageError(f"--model uses a classifier as it was fitted: leave out {', '.join(fits)}.")
    if not model and "groups" in given:
        raise UsageError("--groups goes with --model; with --labels, --group names the table's column.")
    classifies = [given[name] for name in ("classifier", "preprocessing", "ensemble", "everything") if name in given]
    if retrieve and classifies:
        raise UsageError(f"--retrieve compares features by cosine and fits nothing: leave out {', '.join(classifies)}.")
    if not retrieve and (retrieves := [given[name] for name in ("top", "none_share") if name in given]):
        raise UsageError(f"{', '.join(retrieves)} goes with --retrieve: give that, too.")


def _parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()
