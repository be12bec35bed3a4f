"""Predict again, without bb: plain zarr, polars and scikit-learn on a store's arrays and a run's stored training IDs.

    python scripts/recompute.py STORE RUN_ID [RUN_ID …] [--json FILE] [--quick]

Prints how many predictions differ from the stored ones, and exits 1 if any does; with `--quick` of the first task
alone. It is what a reader of somebody else's run can hold it against, so it imports nothing of bb and repeats what
docs/probe.md says in its own words.
"""

import argparse
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import polars as pl
import zarr
from scipy.stats import loguniform
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, normalize
from sklearn.svm import SVC, LinearSVC

warnings.simplefilter("ignore", ConvergenceWarning)
warnings.filterwarnings("ignore", module="zarr")
warnings.filterwarnings("ignore", message="The least populated class")


def read_features(store, run):
    """Image ID → feature, through the collection's digests; of replicates the lowest segment's.

    Spaces that the run's space adopted come after its own rows, by key.
    """
    (collection,) = Path(store).glob(f"collections/*/{run['collection']}.parquet")
    digest_of = dict(pl.read_parquet(collection).select("image_id", "image_sha256").iter_rows())
    by_digest = {}
    spaces = [run["space"], *run.get("adopted", [])]
    for space in reversed([space for space in spaces if (Path(store) / "spaces" / space / "segments").is_dir()]):
        segments = zarr.open_group(store, mode="r")[f"spaces/{space}/segments"]
        for _, segment in sorted(segments.groups(), reverse=True):
            keys, features = segment["image_sha256"][:], segment["img_features"][:]
            by_digest |= {key.tobytes(): feature for key, feature in zip(keys, features, strict=True)}
    return {image_id: by_digest[digest] for image_id, digest in digest_of.items() if digest in by_digest}


def predict(run, x_train, y_train, x_test):
    x_train, x_test = x_train.astype(np.float32), x_test.astype(np.float32)
    if run["protocol"] == "newt2021":
        scaler = StandardScaler().fit(x_train)
        x_train, x_test = normalize(scaler.transform(x_train)), normalize(scaler.transform(x_test))
        svm = LinearSVC(dual=False, tol=1e-5, random_state=0, max_iter=1000)
        model = GridSearchCV(svm, {"C": [10.0**power for power in range(-4, 4)]}, cv=3)
    else:
        x_train, x_test = normalize(x_train), normalize(x_test)
        mean = x_train.mean(axis=0)
        x_train, x_test = normalize(x_train - mean), normalize(x_test - mean)
        if run.get("classifier", run.get("svm")) == "linear":  # "svm" in runs made before
            model = SVC(kernel="linear")
        else:
            distributions = {
                "svc__C": loguniform(1e-3, 1e1),
                "svc__kernel": ["rbf", "linear", "sigmoid", "poly"],
                "svc__gamma": loguniform(1e-4, 1e-3),
            }
            model = RandomizedSearchCV(
                make_pipeline(StandardScaler(), SVC()), distributions, n_iter=100, cv=5, random_state=42
            )
    return model.fit(x_train, y_train).predict(x_test)


def differing(store, run_id, tasks=None):
    """(predictions that differ, predictions in all) of a run, or of so many of its tasks."""
    folder = next(Path(store).glob(f"runs/{run_id}*/*/run.json")).parent
    run = json.loads((folder / "run.json").read_text())
    stored, train = (pl.read_parquet(folder / f"{name}.parquet") for name in ("predictions", "train"))
    features = read_features(store, run)
    if tasks:
        stored = stored.filter(pl.col("task").is_in(stored["task"].unique().sort().head(tasks)))
    differ = 0
    for (task,), rows in stored.group_by("task"):
        fitted = train.filter(pl.col("task") == task)
        x_train = np.stack([features[i] for i in fitted["image_id"]])
        x_test = np.stack([features[i] for i in rows["image_id"]])
        differ += int((predict(run, x_train, fitted["y"].to_numpy(), x_test) != rows["y_pred"].to_numpy()).sum())
    return differ, stored.height


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("store", metavar="STORE")
    parser.add_argument("run_ids", nargs="+", metavar="RUN_ID")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers of differing predictions")
    parser.add_argument("--quick", action="store_true", help="of each run the first task alone")
    options = parser.parse_args()
    tasks = 1 if options.quick else None
    results = {run_id: differing(options.store, run_id, tasks) for run_id in options.run_ids}
    if options.json:
        options.json.write_text(json.dumps({run_id: differ for run_id, (differ, _) in results.items()}) + "\n")
    for run_id, (differ, n) in results.items():
        print(f"{run_id[:12]}: {differ} of {n} predictions differ")
    sys.exit(any(differ for differ, _ in results.values()))
