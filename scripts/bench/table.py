"""How long a report's table takes: many runs of NeWT's shape, from files to scores with intervals.

    python scripts/bench/table.py [--json FILE] [--runs N] [--quick]

Runs are synthetic: 18,024 predictions in 164 tasks, backbones with five seeds each, rows in one order as `bb probe`
writes them; every tenth run has them in another order. They are written to a temporary folder first (not timed), so
the files are in the page cache."""

import argparse
import json
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import polars as pl

sys.path[0] = str(Path(__file__).resolve().parents[2])  # not this folder, where store.py would hide the package

from bb.probe.statistics.bootstrap import resample  # noqa: E402
from bb.probe.statistics.predictions import read_table  # noqa: E402
from bb.store import Store  # noqa: E402
from bb.store.files.canonical_json import sha256_hex  # noqa: E402
from bb.store.local.runs import REQUIRED  # noqa: E402

ITEMS, TASKS, SEEDS = 18_024, 164, 5


def write(store: Store, runs: int) -> None:
    rng = np.random.default_rng(0)
    task, y = np.sort(rng.integers(0, TASKS, ITEMS)), rng.integers(0, 2, ITEMS).astype(np.uint8)
    items = pl.DataFrame(
        {
            "task": [f"task {t:03}" for t in task],
            "cluster": [f"cluster {t % 6}" for t in task],
            "subcluster": pl.Series([None if t % 2 else f"sub {t % 9}" for t in task], dtype=pl.String),
            "image_id": [f"{rng.bytes(16).hex()}" for _ in range(ITEMS)],
            "y_true": y,
        }
    )
    train = pl.DataFrame({"task": ["task 000"], "image_id": ["x"], "y": [0]})
    for i in range(runs):
        right = rng.random(ITEMS) < 0.8
        predictions = items.with_columns(
            y_pred=np.where(right, y, 1 - y).astype(np.uint8),
            decision=rng.normal(size=ITEMS),
            score=right.astype(np.float32),
        )
        if i % 10 == 9:
            predictions = predictions.sample(fraction=1, shuffle=True, seed=i)
        record = {**dict.fromkeys(REQUIRED), "run_id": sha256_hex(str(i).encode()), "seed": i % SEEDS}
        store.put_run({**record, "backbones": [f"timm:{i // SEEDS}"]}, predictions, train)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as one flat object")
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--quick", action="store_true", help="smallest sizes: does everything run?")
    options = parser.parse_args()
    runs = 10 if options.quick else options.runs
    with tempfile.TemporaryDirectory() as folder:
        store = Store.create(Path(folder) / "runs.bb")
        write(store, runs)
        start = time.perf_counter()
        models = defaultdict(list)
        for run in store.runs():
            models[run.record["backbones"][0]].append(run)
        opened = time.perf_counter()
        table = read_table(models)
        read = time.perf_counter()
        resample(table).interval()
        done = time.perf_counter()
    figures = {
        "runs": runs,
        "open_s": opened - start,
        "table_s": read - start,
        "with_intervals_s": done - start,
        "models": len(table.models),
    }
    for name, value in figures.items():
        print(f"{name:20} {value:.4g}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
