"""From predictions to the numbers of a run."""

from typing import Any

import polars as pl

from bb.store.errors import BBError

CHANCE = 0.5  # what guessing scores: the expected accuracy of a fair coin, whatever the classes' shares


def score(predictions: pl.DataFrame) -> dict[str, Any]:
    """Summarise predictions, a row for each (task, test image) with the columns of predictions.parquet.

    Returns, JSON-ready, all shares between 0 and 1:
      mean             over all rows: biobench's number, in which large tasks weigh more
      mean_over_tasks  mean of the tasks' means: every task weighs the same
      chance           0.5, what guessing scores
      majority         over all rows: what answering each task's commoner test class would score
      n                rows
      clusters, subclusters ("cluster/subcluster"; tasks without one are left out), tasks
                       {name: {"mean", "n"}}, means over rows, names sorted; tasks have "majority" too

    Errors: BBError where there is nothing to score or a (task, image) stands twice.
    """
    if predictions.is_empty():
        raise BBError("found no predictions to score; does the labels file have test images?")
    twice = predictions.filter(pl.struct("task", "image_id").is_duplicated())
    if not twice.is_empty():
        task, image_id = twice.select("task", "image_id").row(0)
        raise BBError(f"task {task!r} has more than one prediction for image {image_id!r}; it needs exactly one.")

    predictions = predictions.with_columns(pl.col("score").cast(pl.Float64))
    mean = pl.col("score").mean()
    n = pl.len().alias("n")
    ones = pl.col("y_true").cast(pl.Float64).mean()
    majority = pl.max_horizontal(ones, 1 - ones).alias("majority")
    tasks = predictions.group_by("task").agg(mean.alias("mean"), n, majority).sort("task")
    clusters = predictions.group_by("cluster").agg(mean.alias("mean"), n).sort("cluster")
    subcluster = pl.format("{}/{}", "cluster", "subcluster").alias("subcluster")
    subclusters = predictions.drop_nulls("subcluster").group_by(subcluster).agg(mean.alias("mean"), n)
    return {
        "mean": predictions["score"].mean(),
        "mean_over_tasks": tasks["mean"].mean(),
        "chance": CHANCE,
        "majority": (tasks["majority"] * tasks["n"]).sum() / len(predictions),
        "n": len(predictions),
        "clusters": _by_name(clusters),
        "subclusters": _by_name(subclusters.sort("subcluster")),
        "tasks": _by_name(tasks),
    }


def _by_name(table: pl.DataFrame) -> dict[str, dict[str, Any]]:
    name, *columns = table.columns
    return {row[name]: {column: row[column] for column in columns} for row in table.iter_rows(named=True)}
