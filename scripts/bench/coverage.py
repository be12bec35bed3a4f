"""Whether the intervals and tests hold what they promise, where the truth is known; and how long they take.

    python scripts/bench/coverage.py [--json FILE] [--repetitions N] [--quick] [--only WORDS]

Each repetition is a simulated world with a table, an interval and a test as bb makes them. An interval covers where it
holds the truth that it claims to hold; a test is wrong where it calls equal models different at 5%. worlds/ has the
kinds of world, and the range that each share is held to. The ± is twice the standard error of a share over that many
repetitions; a share that is outside its range by more than that is marked with "!", and the exit status is 1. `--quick`
only shows that everything runs.
"""

import argparse
import importlib
import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

# numba imports a package that is called as this file is, and bb one that is called as store.py beside it.
FOLDER = Path(__file__).resolve().parent
sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != FOLDER]

import bb.probe.statistics.rank_metrics  # noqa: E402, F401  (numba is imported before the folder is back)
from bb.probe.statistics.bootstrap import resample  # noqa: E402
from bb.probe.statistics.comparison import differences  # noqa: E402
from bb.probe.statistics.predictions import Table  # noqa: E402

sys.path.append(str(FOLDER))
from worlds import World  # noqa: E402

MODULES = (
    "worlds.multiclass",
    "worlds.numbers",
    "worlds.tasks",
    "worlds.pairs",
    "worlds.ranks",
    "worlds.retrieval",
    "worlds.boards",
    "worlds.forecasts",
)
QUICK = 50


def newt_table(models: int) -> Table:
    """Random scores of NeWT's shape: 18,024 images in 164 tasks."""
    rng = np.random.default_rng(0)
    starts = np.linspace(0, 18_024, 165).astype(np.int64)
    ids = np.arange(18_024).astype(str)
    return Table(
        models=tuple(map(str, range(models))),
        model=np.arange(models),
        seeds=(0,) * models,
        tasks=tuple(map(str, range(164))),
        starts=starts,
        image_ids=ids,
        units=tuple(ids.tolist()),
        unit=np.arange(18_024),
        y_true=rng.integers(0, 2, 18_024),
        fields={"score": (rng.random((models, 18_024)) < 0.8).astype(np.float32)},
    )


def cost() -> dict[str, float]:
    """85 models × 18,024 images in 164 tasks: intervals of all models, and of all 3,570 pairs with their tests."""
    table = newt_table(85)
    start = time.perf_counter()
    resampled = resample(table)
    resampled.interval()
    seconds = time.perf_counter() - start
    differences(table, resampled)
    return {
        "bootstrap_s": seconds,
        "pairs_s": time.perf_counter() - start - seconds,
        "bootstrap_peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }


def chosen(only: str) -> Iterator[World]:
    for module in MODULES:
        for world in importlib.import_module(module).worlds():
            if all(word in f"{module} {world.name}" for word in only.split()):
                yield world


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as one flat object")
    parser.add_argument("--repetitions", type=int, default=5_000, help="worlds of each kind (default 5,000)")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} worlds of each kind: does everything run?")
    parser.add_argument(
        "--only", default="", metavar="WORDS", help="worlds whose module and name contain each of these words"
    )
    options = parser.parse_args()
    repetitions = QUICK if options.quick else options.repetitions
    figures: dict[str, float] = {}
    if not options.only and not options.quick:
        figures |= cost()
        print(
            "{bootstrap_s:.1f} s, {bootstrap_peak_gb:.2f} GB for 85 x 18,024; all pairs {pairs_s:.1f} s".format(
                **figures
            )
        )
    missed = 0
    for world in chosen(options.only):
        for got in world.measure(repetitions):
            figures[f"{world.name}: {got.what}"] = got.share
            held = f"{100 * got.low:g}-{100 * got.high:g}" if got.claimed else ""
            holds = got.holds or options.quick
            missed += not holds
            words = f"{world.name}: {got.what}"
            print(
                f"{words:70} {100 * got.share:6.2f} ± {100 * got.error:.2f}  {held}{'' if holds else ' !'}", flush=True
            )
    if not figures:
        parser.error(f"--only {options.only!r}: no world has these words; the modules are {', '.join(MODULES)}")
    figures["missed"] = missed
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
