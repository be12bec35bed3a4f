"""`bb.probe.retrieve`: the verb `bb probe retrieval` as a call that prints nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsIndex

import polars as pl

from bb.probe.computed_runs import ComputedRuns, existing_run, report_other_scores
from bb.probe.features.find_features import FindCollection, find_spaces, in_collection
from bb.probe.features.missing import MissingPolicy
from bb.probe.features.select_spaces import space_name
from bb.probe.retrieval.evaluate import Retrieval
from bb.probe.retrieval.faiss_search import Faiss, parse_index
from bb.probe.retrieval.labels import RetrievalLabels, assign, parse_items, read_items
from bb.probe.retrieval.run import PreparedRetrieval, execute, prepare
from bb.probe.retrieval.statistics.paired_tests import of_models
from bb.probe.tasks.few_shot import check_jobs, listed
from bb.store import Store
from bb.store.format.space import short
from bb.store.local.runs import Run
from bb.store.reporter import Reporter, Silent


@dataclass(frozen=True, eq=False, repr=False)
class Retrieved(ComputedRuns):
    """Runs of retrieval on one table, one for each feature space."""

    def frame(self) -> pl.DataFrame:
        """A row for each run and metric: backbone, space, metric, score, low and high of its 95% interval (null where
        there is none), n queries, claim, which says what the interval is of, and run_id."""
        metrics = list(self.runs[0].record["scores"]["tasks"]) if self.runs else []
        rows = []
        for metric in metrics:
            estimates, _, claim = of_models(self.runs, metric)
            for run, found in zip(self.runs, estimates, strict=True):
                rows.append(
                    {
                        "backbone": ", ".join(run.record["backbones"]),
                        "space": short(run.record["space"]),
                        "metric": metric,
                        "score": found.mean,
                        "low": found.low,
                        "high": found.high,
                        "n": run.record["scores"]["tasks"][metric]["n"],
                        "claim": claim,
                        "run_id": run.run_id,
                    }
                )
        return pl.DataFrame(rows)


def retrieve(
    store: Store | str | Path,
    labels: str | Path | pl.DataFrame | RetrievalLabels,
    data: str | None = None,
    *,
    tasks: str | None = None,
    not_missing: Sequence[str] = (),
    split: str | None = None,
    against: str | None = None,
    folds: int | None = None,
    seed: SupportsIndex = 0,
    distance: str = Retrieval.distance,
    convention: str = Retrieval.convention,
    k: Sequence[int] = Retrieval.ks,
    knn: Sequence[int] = Retrieval.knn,
    pairs: bool = True,
    fmr: Sequence[float] = Retrieval.fmrs,
    index: str = "exact",
    ckpt: str | Sequence[str] = (),
    space: str | Sequence[str] = (),
    missing: str = "error",
    max_missing: float | None = None,
    same_images_as: Sequence[str] = (),
    jobs: int | None = None,
    force: bool = False,
    reporter: Reporter | None = None,
) -> Retrieved:
    """Scores stored features on finding images of the same label; runs that exist are not computed again.

    labels    a table with the columns image_id and label, and what docs/retrieval.md says may be; or its file
    data      the collection, NAME or NAME@DIGEST; the store's only one if None
    tasks     what runs and reports call the table; by default as its file
    reporter  gets notes and progress

    The other arguments are the options of `bb probe retrieval`. Raises UsageError and BBError.
    """
    reporter = reporter or Silent()
    check_jobs(jobs)
    how = Retrieval(distance=distance, convention=convention, ks=tuple(k), knn=tuple(knn), pairs=pairs, fmrs=tuple(fmr))
    policy = MissingPolicy.parse(missing, max_missing, same_images_as)
    faiss, table = parse_index(index), items_of(labels, not_missing)
    opened = store if isinstance(store, Store) else Store.open(store)
    prepared, left_out = prepare_all(
        opened, table, in_collection(opened, data, policy), tasks=tasks or name_of(labels), how=how, faiss=faiss,
        roles={"split": split, "against": against, "folds": folds, "seed": seed}, ckpt=listed(ckpt),
        space=listed(space), policy=policy, reporter=reporter,
    )  # fmt: skip
    found = [find_or_make(each, jobs=jobs, force=force, reporter=reporter) for each in prepared]
    return Retrieved(
        tuple(run for run, _ in found), frozenset(run.run_id for run, is_fresh in found if is_fresh), left_out
    )


def prepare_all(
    store: Store,
    table: RetrievalLabels,
    find: FindCollection,
    *,
    tasks: str,
    how: Retrieval,
    roles: Mapping[str, Any],
    faiss: Faiss | None,
    ckpt: Sequence[str],
    space: Sequence[str],
    policy: MissingPolicy,
    reporter: Reporter,
) -> tuple[list[PreparedRetrieval], dict[str, str]]:
    """A run for each feature space, to be looked up or made, and the images that are left out, with reasons.

    roles  arguments of `assign`
    Errors: those of `assign`, `find`, `find_spaces` and `prepare`.
    """
    items, chosen, warnings = assign(table, **roles)
    collection, match = find(items.image_ids.tolist())
    if match.note:  # folds are drawn by the collection's IDs, however the table writes them
        items, chosen, warnings = assign(table.renamed(match), **roles)
    spaces, left_out = find_spaces(
        store, collection, items.image_ids.tolist(), ckpt=ckpt, space=space, policy=policy, reporter=reporter
    )
    items = items.without(left_out, policy.unusual, policy.keys(store, spaces))
    return [
        prepare(store, each, collection, items, tasks=tasks, how=how, roles=chosen, faiss=faiss, warnings=warnings)
        for each in spaces
    ], left_out


def find_or_make(prepared: PreparedRetrieval, *, jobs: int | None, force: bool, reporter: Reporter) -> tuple[Run, bool]:
    """The run, and whether it was computed now; where runs of its ID disagree, the reporter says so."""
    existing, what = prepared.existing(), space_name(prepared.store, prepared.space)
    if existing and not force:
        return existing_run(what, existing, reporter), False
    run = execute(prepared, jobs=jobs, progress=lambda done, total: reporter.progress(what, done, total, "steps"))
    report_other_scores(what, run, existing, reporter)
    return run, True


def items_of(labels: str | Path | pl.DataFrame | RetrievalLabels, not_missing: Sequence[str] = ()) -> RetrievalLabels:
    """The table of labels. Errors: those of `read_items` and `parse_items`."""
    if isinstance(labels, RetrievalLabels):
        return labels
    if isinstance(labels, pl.DataFrame):
        return parse_items(labels, not_missing=not_missing)
    return read_items(labels, not_missing=not_missing)


def name_of(labels: str | Path | pl.DataFrame | RetrievalLabels) -> str:
    """What runs call a table of labels: as its file."""
    return Path(labels).stem if isinstance(labels, str | Path) else "labels"
