"""How often the forecast of a learning curve holds: `python scripts/bench/learning_curve.py [--json FILE] [--quick]`.

From a quarter of the labels the accuracy with all of them is forecast, and compared with that of ridge on all
these included, measured on some thousand further images. Keys, each for a world (digits, and Gaussian classes near and
far apart) and a number of all labels N: coverage_WORLD_N, the share of 95 % intervals that hold that accuracy;
width_WORLD_N, their mean width; bias_WORLD_N, forecast less truth. coverage is over all.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

sys.path[0] = str(Path(__file__).resolve().parents[2])  # not this folder, where a file may hide a package

from bb.probe.classifiers.multiclass.ridge import Ridge  # noqa: E402
from bb.probe.classifiers.preprocess import preprocess  # noqa: E402
from bb.probe.labelling.active_learning.learning_curve import learning_curve  # noqa: E402

TOTALS = (120, 240, 480)


def digits(rng):
    from sklearn.datasets import load_digits

    found = load_digits()
    order = rng.permutation(len(found.target))
    return found.data[order].astype(np.float32), found.target[order].astype(np.int64)


def gaussian(classes, noise):
    def draw(rng):
        y = rng.integers(0, classes, 3000)
        centres = rng.normal(size=(classes, 32))
        return (centres[y] + noise * rng.normal(size=(3000, 32))).astype(np.float32), y.astype(np.int64)

    return draw


WORLDS = {"digits": digits, "easy": gaussian(4, 1.5), "hard": gaussian(8, 2.5), "many": gaussian(20, 1.2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures")
    parser.add_argument("--replays", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="two replays, to see that it runs")
    arguments = parser.parse_args()
    replays = 2 if arguments.quick else arguments.replays
    figures, held = {"replays": replays}, []
    for name, draw in WORLDS.items():
        for total in TOTALS:
            found = []
            for seed in range(replays):
                rng = np.random.default_rng([seed, total])
                x, y = draw(rng)
                few = total // 4
                curve = learning_curve(x[:few], y[:few], (total - few,), seed=seed)
                train, test = preprocess("center-l2", x[:total], x[total:])
                truth = (Ridge().fit(train, y[:total]).predict(test) == y[total:]).mean()
                (point,) = curve.forecast
                found.append((point.low <= truth <= point.high, point.high - point.low, point.value - truth))
            coverage, width, bias = np.mean(found, axis=0).tolist()
            held += [each for each, _, _ in found]
            each = {"coverage": coverage, "width": width, "bias": bias}
            figures |= {f"{key}_{name}_{total}": value for key, value in each.items()}
            print(
                f"{name}, {few} of {total} labels: in {100 * coverage:.0f} %, width {width:.3f}, bias {bias:+.3f}",
                flush=True,
            )
    figures["coverage"] = float(np.mean(held))
    print(f"all: {100 * figures['coverage']:.1f} % of {len(held)}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
