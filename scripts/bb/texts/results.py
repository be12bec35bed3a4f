"""Tables of the results of `bb probe retrieval` and `bb probe head`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from bb.console import say, show_json, show_table, warn
from bb.runs import when_made

if TYPE_CHECKING:
    from bb.probe.heads.facade import Heads
    from bb.store import Store
    from bb.store.local.runs import Run


def show_retrieval(results: "list[tuple[Run, bool]]", *, json_: bool) -> None:
    """Runs of one test set, the best first: the main metric with its interval, some others, categories, and notes."""
    from dataclasses import asdict

    from bb.probe.retrieval.statistics.paired_tests import of_models
    from bb.store.format.space import short

    main = results[0][0].record["scores"]["main"]
    if json_:
        estimates, _, claim = of_models([run for run, _ in results], main)
        show_json([
            {**run.record, "fresh": fresh, "interval": {**asdict(estimate), "claim": claim}}
            for (run, fresh), estimate in zip(results, estimates, strict=True)
        ])  # fmt: skip
        return
    results = sorted(results, key=lambda one: -one[0].record["scores"]["mean"])
    records = [run.record for run, _ in results]
    scores, how = records[0]["scores"], records[0]["parameters"]
    ks = how["ks"]
    warn(*dict.fromkeys(note for record in records for notes in record["notes"].values() for note in notes))
    estimates, _, claim = of_models([run for run, _ in results], main)
    more = [f"{name}@{k}" for name in ("cmc", "map") for k in dict.fromkeys((ks[0], ks[-1]))]
    more += ["r_precision", *(f"knn@{k}" for k in how["knn"][:1]), "auroc"]
    columns = [name for name in more if name in scores["overall"]]
    say(
        f"{records[0]['tasks']} on {records[0]['collection_name']}: {scores['queries']} queries, {scores['gallery']} "
        f"in the gallery, {how['distance']}, convention {how['convention']}; {claim}"
    )
    rows = []
    for place, (run, fresh) in enumerate(results):
        record, overall = run.record, run.record["scores"]["overall"]
        rows.append(
            [", ".join(record["backbones"]), short(record["space"]), estimates[place].text(4),
             *(f"{overall[name]:.4f}" if name in overall else "" for name in columns),
             short(run.run_id), when_made(run, fresh)]
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


def show_heads(
    heads: "Heads",
    opened: "Store",
    labels: Path | None,
    *,
    json_: bool,
    again: Mapping[str, object] | None = None,
) -> None:
    """Heads with their validation, and what to do next. Ends with status 1 where training was stopped.

    again  options of this command that the next one needs, too
    """
    from bb.probe.heads.derive import unproven
    from bb.store.format.derived import head_name, parent_key
    from bb.store.format.space import short
    from bb.store.text.command import command

    results = list(zip(heads.made, heads.fresh, strict=True))
    done = [(made, made.training, fresh) for made, fresh in results if made.space is not None or made.kept]
    if json_:
        show_json([
            {"head": head_name(made.space.weights) if made.space else None,
             "space": made.space.key if made.space else None,
             "parent_space": parent_key(made.space) if made.space else None, "rows": made.rows, "fresh": fresh,
             "kept": made.kept, "training": training.record() if training else None}
            for made, training, fresh in done
        ])  # fmt: skip
    else:
        rows = []
        for made, training, fresh in done:
            scores = [training.parent, training.start, training.best] if training else []
            name, key = (
                (head_name(made.space.weights), short(made.space.key)) if made.space else ("none: parent kept", "")
            )
            rows.append([
                name, key, *([f"{score:.4f}" for score in scores] or [""] * 3),
                f"{training.best_epoch} of {training.epochs}" if training else "", made.rows,
                "" if fresh else "was there",
            ])  # fmt: skip
        for held_out in dict.fromkeys(training.held_out for _, training, _ in done if training):
            say(f"MAP@R on {held_out}: of the parent, of the head before training, and of its best epoch")
        show_table(["head", "space", "parent", "start", "best", "epoch", "new rows", ""], rows, right=["new rows"])
    for made, training, _ in done:
        if made.kept:
            warn(f"note: no head is written, {made.kept} (--accept any writes it)")
        elif made.space and training and (doubt := unproven(training)):
            warn(f"note: {head_name(made.space.weights)}: {doubt}")
    if len(done) < len(results):
        warn("stopped: nothing is written of what was being trained; the same command goes on from there")
        raise typer.Exit(1)
    spaces = [made.space for made, _, _ in done if made.space]
    if labels and spaces and not json_:
        say("Next:")
        for space in spaces:
            both = [short(parent_key(space)), short(space.key)]
            words = command("probe retrieval", labels=labels, space=both, **(again or {}), store=opened.name)
            say(f"  {words}")
