"""Published protocols beside their sources: `python scripts/bench/protocols.py [--quick] [--json FILE]`.

Synthetic features: class means and noise, float32, whose classes overlap. For each protocol bb and a reference that is
written from the source with scikit-learn, NumPy and torch (tests/helpers/protocol_oracles.py) draw, fit and predict
all runs of the grid on the same features; bb's side is what a run does between reading features and scoring.

NAME_differing  predictions that differ
NAME_compared   predictions that were compared, of all runs of the grid: about 100,000, or 20,000 where torch trains
NAME_agree, NAME_reference_agree  of protocols that torch trains, whose seeds are 0 and 1 here: the share of predictions
                that two seeds agree in, of bb and of the reference (tests/helpers/trained_oracles.py)
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
QUICK = {"train": 300, "val": 60, "compared": 2_000, "d": 24, "classes": 5}
CELLS = {"bioclip2-fewshot": 10, "dinov2-knn": 4, "mieb-linear": 5, "bigvision-fewshot": 12}
SEEDS, TRAITS, TOKENS = (0, 1), 9, 9  # of protocols that torch trains; as many traits as FishNet has
TRAINED_SIZES = {"train": 1_000, "compared": 20_000, "d": 64}
MANY_STEPS = ("biobench-linear", "biobench-fishnet")  # 10,000 and 30,000, whatever the size: not in a quick run
OWN_SIZES = {
    "biobench-fishnet": {"train": 200, "d": 32},  # 30,000 steps
    "aim-attentive": {"train": 300, "d": 48, "classes": 10},  # 9 fits of 9 tokens an image
}


def size_of(protocol, quick: bool) -> dict[str, int]:
    trained = TRAINED_SIZES if protocol.seeded else {}
    return QUICK if quick else {**SIZES, **trained, **OWN_SIZES.get(protocol.name, {})}


def labelled(protocol, train: int, val: int, compared: int, d: int, classes: int):
    """Features, labels, and sides; a protocol that draws its tests has them all for a pool.

    Of traits the labels are zeros and ones; of an open set the last class is of test images alone.
    """
    import numpy as np

    rng, cells = np.random.default_rng(0), CELLS.get(protocol.name, 1)
    if protocol.seeded:
        cells = len(SEEDS) * (TRAITS if protocol.target == "traits" else 1)
    sides = ["train"] * train + ["val"] * val + ["test"] * (compared // cells)
    if protocol.pool == "all":
        sides = ["train"] * (compared // cells + 3 * classes)
    y, side = np.arange(len(sides)) % classes, np.array(sides)
    if is_open(protocol):
        y = np.where(side == "test", y, np.arange(len(sides)) % (classes - 1))
    x = rng.standard_normal((classes, d))[y] + 2.5 * rng.standard_normal((len(y), d))
    if protocol.target == "traits":
        trait = np.arange(TRAITS)
        y = ((y[:, None] + trait) % (2 + trait % 3) == 0).astype(np.int64)
    if protocol.classifier == "attentive":
        x = x[:, None] * (rng.random((len(x), TOKENS)) < 0.3)[..., None] + rng.standard_normal((len(x), TOKENS, d))
    return x.astype(np.float32), y, side


def is_open(protocol) -> bool:
    return protocol.classifier == "mahalanobis"


def ours(protocol, x, y, side):
    """As a run does: draw, fit and predict. Yields what an oracle yields."""
    import numpy as np

    from bb.probe.classification.open_set import UNKNOWN
    from bb.probe.classification.published.protocol import NONE
    from bb.probe.classification.run import answer
    from bb.probe.classification.run_inputs import Inputs
    from bb.probe.classification.spec import Spec
    from bb.probe.tasks.fold import Fold, Split, TaskImages

    ids = np.array([f"{i:07}" for i in range(len(y))])
    names = [str(k) for k in range(y.shape[1] if y.ndim == 2 else int(y.max()) + 1)]
    if is_open(protocol):
        names[-1] = UNKNOWN
    labels = y.astype(np.int8) if y.ndim == 2 else y
    task = TaskImages("task", protocol.target, ids, labels, tuple(names))
    rows = {name: np.flatnonzero(side == name) for name in ("train", "val", "test")}
    val = rows["val"] if protocol.name == "clip-linear" else NONE
    split = Split(task, "column", (Fold("test", task, rows["train"], rows["test"], val),), len(y))
    inputs = Inputs(None, None, None, "bench", (split,), ids, x)  # type: ignore[arg-type]
    for shots, seed, setting in protocol.grid(None, SEEDS if protocol.seeded else None):
        spec = Spec.of(protocol, shots, seed, setting)
        (fold,) = spec.draw(split).folds
        answered, _ = answer(inputs, spec, fold)
        yield shots, seed, setting, fold.test, answered.predicted


def theirs(protocol, x, y, side):
    """The reference, as its oracle has it."""
    import numpy as np

    from tests.helpers.protocol_oracles import OPEN, ORACLES
    from tests.helpers.trained_oracles import TRAINED

    if protocol.name not in TRAINED:
        yield from {**ORACLES, **OPEN}[protocol.name](x, y, side)
        return
    train, test = np.flatnonzero(side == "train"), np.flatnonzero(side == "test")
    for seed in SEEDS:
        yield "all", seed, "", test, TRAINED[protocol.name](x[train], y[train], x[test], seed)


def timed(runs) -> tuple[dict, float]:
    """By cell the prediction of each row, and CPU seconds."""
    start, found = time.process_time(), {}
    for shots, seed, setting, rows, predicted in runs:
        found[shots, seed, setting] = (rows, predicted)
    return found, time.process_time() - start


def agree(found) -> float:
    """The share of predictions that the first two seeds agree in."""
    import numpy as np

    one, other = (predicted for _, predicted in found.values())
    return float(np.mean(one == other))


def compare(name: str, quick: bool) -> dict[str, float]:
    import numpy as np

    from bb.probe.classification.published.protocol import parse_protocol

    protocol = parse_protocol(name)
    if protocol.seeded:
        import torch

        import bb.probe.classifiers.trained.torch_attention  # noqa: F401

        torch.optim.AdamW([torch.zeros(1, requires_grad=True)])  # the first imports for seconds
    else:
        warm = labelled(protocol, **{**QUICK, "compared": 500})
        timed(ours(protocol, *warm))
        timed(theirs(protocol, *warm))
    given = labelled(protocol, **size_of(protocol, quick))
    mine, seconds = timed(ours(protocol, *given))
    other, reference_seconds = timed(theirs(protocol, *given))
    assert mine.keys() == other.keys()
    differing = compared = 0
    for cell, (rows, predicted) in mine.items():
        order, as_theirs = np.argsort(rows), np.argsort(other[cell][0])
        np.testing.assert_array_equal(rows[order], other[cell][0][as_theirs])
        differing += int((predicted[order] != other[cell][1][as_theirs]).sum())
        compared += predicted.size
    spread = {f"{name}_agree": agree(mine), f"{name}_reference_agree": agree(other)} if protocol.seeded else {}
    return {
        f"{name}_differing": differing,
        f"{name}_compared": compared,
        **spread,
        f"{name}_seconds": seconds,
        f"{name}_reference_seconds": reference_seconds,
    }


def main() -> None:
    from tests.helpers.protocol_oracles import OPEN, ORACLES
    from tests.helpers.trained_oracles import TRAINED

    every = [*ORACLES, *OPEN, *TRAINED]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, a few seconds: that it runs, not how fast")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--only", metavar="NAMES", help=f"some of {', '.join(every)}, with commas")
    args = parser.parse_args()
    figures: dict[str, float] = {}
    chosen = args.only.split(",") if args.only else [name for name in every if not args.quick or name not in MANY_STEPS]
    for name in chosen:
        found = compare(name, args.quick)
        for figure, value in found.items():
            print(f"{figure:40} {value:,.4g}", flush=True)
        figures |= found
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
