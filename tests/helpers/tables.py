"""Tables made by hand or by chance, for tests of statistics."""

import numpy as np
import polars as pl

from bb.probe.statistics.predictions import Table
from tests.helpers.stores import run_record


def table_of(score, *, tasks=None, images=None, draws=1, y_true=None, y_pred=None, decision=None):
    """(columns, n) scores to a table; `tasks` and `images` are names by item, sorted by task."""
    score = np.asarray(score, float)
    n = score.shape[1]
    tasks = np.array(["t"] * n if tasks is None else tasks)
    images = np.array([f"{i:05d}" for i in range(n)] if images is None else images)
    names, starts = np.unique(tasks, return_index=True)
    units, unit = np.unique(images, return_inverse=True)
    models = score.shape[0] // draws
    fields = {"score": score, "y_pred": y_pred, "decision": decision}
    return Table(
        models=tuple(f"m{m}" for m in range(models)),
        model=np.repeat(np.arange(models), draws),
        seeds=tuple(range(draws)) * models,
        tasks=tuple(names.tolist()),
        starts=np.append(starts, n),
        image_ids=images,
        units=tuple(units.tolist()),
        unit=unit,
        y_true=np.zeros(n, np.int64) if y_true is None else np.asarray(y_true),
        fields={name: np.asarray(field) for name, field in fields.items() if field is not None},
    )


def by_chance(seed, models, *, tasks=5, images=30, draws=1, accuracy=0.75):
    """Models that are equally good, each task with images of its own; every field is there."""
    rng = np.random.default_rng(seed)
    n = tasks * images
    y = rng.integers(0, 2, n)
    right = rng.random((models * draws, n)) < accuracy
    decision = np.round(np.where(right, 1, -1) * np.where(y == 1, 1, -1) * rng.random(right.shape), 1)
    names = [f"t{t:02}" for t in range(tasks) for _ in range(images)]
    return table_of(right, tasks=names, draws=draws, y_true=y, y_pred=np.where(right, y, 1 - y), decision=decision)


def predictions(scores, *, tasks, images, y_true=None):
    """A run's predictions."""
    n = len(scores)
    y = [0] * n if y_true is None else y_true
    return pl.DataFrame(
        {
            "task": tasks,
            "cluster": ["c"] * n,
            "subcluster": pl.Series([None] * n, dtype=pl.String),
            "image_id": images,
            "y_true": pl.Series(y, dtype=pl.UInt8),
            "y_pred": pl.Series([int(s < 1) ^ label for s, label in zip(scores, y, strict=True)], dtype=pl.UInt8),
            "decision": pl.Series(scores, dtype=pl.Float64) - 0.5,
            "score": pl.Series(scores, dtype=pl.Float32),
        }
    )


def put_run(store, table, *, seed=0, run_id="a" * 64, **changes):
    train = pl.DataFrame({"task": ["t"], "image_id": ["x"], "y": [1]})
    return store.put_run(run_record(seed=seed, run_id=run_id, **changes), table, train)
