"""Published protocols beside their sources: `python scripts/bench/protocols.py [--quick] [--json FILE]`.

Synthetic features: class means and noise, float32, whose classes overlap. For each protocol bb and a reference that is
written from the source with scikit-learn, NumPy and torch (tests/helpers/protocol_oracles.py) draw, fit and predict
all runs of the grid on the same features; bb's side is what a run does between reading features and scoring.

NAME_differing  predictions that differ
NAME_compared   predictions that were compared, of all runs of the grid: about 100,000
NAME_seconds, NAME_reference_seconds  CPU seconds of draws, fits and predictions of both, over all threads, after a
                first small one: on a machine that others use, these differ less than wall time
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])  # not this folder, where store.py would hide the package

SIZES = {"train": 2_000, "val": 400, "compared": 100_000, "d": 128, "classes": 20}
QUICK = {"train": 300, "val": 60, "compared": 2_000, "d": 16, "classes": 5}
CELLS = {"bioclip2-fewshot": 10, "dinov2-knn": 4, "mieb-linear": 5, "bigvision-fewshot": 12}


def labelled(train: int, val: int, compared: int, d: int, classes: int, cells: int, pool: str):
    """Features, class numbers, and sides; a protocol that draws its tests has them all for a pool."""
    import numpy as np

    rng = np.random.default_rng(0)
    sides = ["train"] * train + ["val"] * val + ["test"] * (compared // cells)
    if pool == "all":
        sides = ["train"] * (compared // cells + 3 * classes)
    y = np.arange(len(sides)) % classes
    x = rng.standard_normal((classes, d))[y] + 2.5 * rng.standard_normal((len(y), d))
    return x.astype(np.float32), y, np.array(sides)


def ours(protocol, x, y, side):
    """As a run does: draw, fit and predict. Yields what an oracle yields."""
    import numpy as np

    from bb.probe.classification.published.protocol import NONE
    from bb.probe.classification.run import answer
    from bb.probe.classification.run_inputs import Inputs
    from bb.probe.classification.spec import Spec
    from bb.probe.tasks.fold import Fold, Split, TaskImages

    ids = np.array([f"{i:07}" for i in range(len(y))])
    task = TaskImages("task", "classes", ids, y, tuple(map(str, range(int(y.max()) + 1))))
    rows = {name: np.flatnonzero(side == name) for name in ("train", "val", "test")}
    val = rows["val"] if protocol.name == "clip-linear" else NONE
    split = Split(task, "column", (Fold("test", task, rows["train"], rows["test"], val),), len(y))
    inputs = Inputs(None, None, None, "bench", (split,), ids, x)  # type: ignore[arg-type]
    for shots, seed, setting in protocol.grid(None, None):
        spec = Spec.of(protocol, shots, seed, setting)
        (fold,) = spec.draw(split).folds
        answered, _ = answer(inputs, spec, fold)
        yield shots, seed, setting, fold.test, answered.predicted


def timed(runs) -> tuple[dict, float]:
    """By cell the prediction of each row, and CPU seconds."""
    start, found = time.process_time(), {}
    for shots, seed, setting, rows, predicted in runs:
        found[shots, seed, setting] = (rows, predicted)
    return found, time.process_time() - start


def compare(name: str, size: dict[str, int]) -> dict[str, float]:
    import numpy as np

    from bb.probe.classification.published.protocol import parse_protocol
    from tests.helpers.protocol_oracles import ORACLES

    protocol = parse_protocol(name)

    def data(size):
        return labelled(**size, cells=CELLS.get(name, 1), pool=protocol.pool)

    warm = data({**QUICK, "compared": 500})
    timed(ours(protocol, *warm))
    timed(ORACLES[name](*warm))
    given = data(size)
    mine, seconds = timed(ours(protocol, *given))
    theirs, reference_seconds = timed(ORACLES[name](*given))
    assert mine.keys() == theirs.keys()
    differing = compared = 0
    for cell, (rows, predicted) in mine.items():
        order, other = np.argsort(rows), np.argsort(theirs[cell][0])
        np.testing.assert_array_equal(rows[order], theirs[cell][0][other])
        differing += int((predicted[order] != theirs[cell][1][other]).sum())
        compared += len(rows)
    return {
        f"{name}_differing": differing,
        f"{name}_compared": compared,
        f"{name}_seconds": seconds,
        f"{name}_reference_seconds": reference_seconds,
    }


def main() -> None:
    from tests.helpers.protocol_oracles import ORACLES

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, a few seconds: that it runs, not how fast")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--only", choices=list(ORACLES), help="one protocol")
    args = parser.parse_args()
    figures: dict[str, float] = {}
    for name in [args.only] if args.only else ORACLES:
        figures |= compare(name, QUICK if args.quick else SIZES)
        for figure in ("differing", "compared", "seconds", "reference_seconds"):
            print(f"{name + '_' + figure:40} {figures[f'{name}_{figure}']:,.4g}", flush=True)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
