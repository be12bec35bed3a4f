"""Whether the accuracy that `bb predict` states, and the error of what it accepts, hold where the truth is known.

    python scripts/bench/predict.py [--json FILE] [--replays N] [--quick]

Each replay draws Gaussian classes, labels some images, states an accuracy and a threshold as `bb predict` does, and
compares them with 4,000 further images. Keys, each for _images and _groups (images of further groups): coverage, the
share of 95 % intervals that hold the accuracy; accepted, the share of images accepted with a target error of 0.1, and
accepted_error, the share of these that is wrong. And _individuals, of `bb predict --retrieve`: intervals of the share
of wrong answers, where half of the further images show individuals that are not labelled.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

# A file beside this one may have the name of a package that numba imports.
FOLDER = Path(__file__).resolve().parent
sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != FOLDER]

from bb.probe.labelling.abstention import accept  # noqa: E402
from bb.probe.labelling.cross_validation import WIDENING, Folds, Setting, cross_validated, fit  # noqa: E402
from bb.probe.labelling.open_set import Calibration, answer, cross_fitted, error_of, evidence_of, replays  # noqa: E402
from bb.probe.statistics.multiclass.intervals import estimate  # noqa: E402
from bb.probe.statistics.multiclass.metrics import METRICS  # noqa: E402
from bb.probe.statistics.multiclass.predictions import Predictions  # noqa: E402

CLASSES, DIM, LABELLED, FOLDS, FURTHER, TARGET = 5, 12, 200, 5, 4000, 0.1
SETTING = Setting("ridge", "standard")


class World:
    """Classes around centres; with groups, each group moves its images."""

    def __init__(self, rng, shift):
        self.rng, self.shift = rng, shift
        self.centres = rng.normal(size=(CLASSES, DIM))

    def images(self, n, groups):
        y = self.rng.integers(0, CLASSES, n)
        group = self.rng.integers(0, groups, n)
        moved = self.shift * self.rng.normal(size=(groups, DIM))
        x = self.centres[y] + moved[group] + 1.3 * self.rng.normal(size=(n, DIM))
        return x.astype(np.float32), y.astype(np.int64), group.astype(np.int64)


def replay(rng, shift, groups):
    """(interval, true accuracy, acceptance, error of accepted further images)."""
    world = World(rng, shift)
    x, y, group = world.images(LABELLED, groups)
    fold = group % FOLDS if shift else rng.permutation(LABELLED) % FOLDS
    labelled = Folds(y, fold, CLASSES)
    (given,) = cross_validated([x], labelled, SETTING)
    answers = Predictions(y, given.argmax(axis=1), CLASSES, given, group if shift else None, fold)
    interval = estimate(answers, METRICS["accuracy"], widening=WIDENING).interval
    acceptance = accept(answers.confidence, answers.hit, TARGET, group=group if shift else None)
    further, truth, _ = world.images(FURTHER, 400 if shift else 1)
    # What is stated is of the classifiers of the folds.
    right = []
    for k in range(FOLDS):
        rows, others = labelled.outside(k)
        model = fit(x[rows], others, SETTING)
        right.append((model.probabilities(further).argmax(axis=1) == truth).mean())
    model = fit(x, labelled, SETTING)
    p = model.probabilities(further)
    taken = p.max(axis=1) >= (np.inf if acceptance.threshold is None else acceptance.threshold)
    error = (p.argmax(axis=1) != truth)[taken].mean() if taken.any() else None
    return interval, float(np.average(right, weights=np.bincount(fold, minlength=FOLDS))), taken.mean(), error


def replay_individuals(rng):
    """(interval, true share of wrong answers, share accepted, error of accepted further images)."""
    individuals, strangers = 40, 400
    centres = rng.normal(size=(individuals + strangers, DIM))

    def images(of):
        return (centres[of] + 0.45 * rng.normal(size=(len(of), DIM))).astype(np.float32)

    y = np.repeat(np.arange(individuals), rng.integers(1, 8, individuals))
    x = images(y)
    made = replays(x, y, None)
    _, answers, tested = cross_fitted([made], FOLDS, 0, 0.5)
    weight = tested.weights(0.5)
    interval = error_of(~answers.hit, weight, tested.individual, "").interval
    acceptance = accept(answers.confidence, answers.hit, TARGET, group=tested.individual, weight=weight)
    truth = np.concatenate([np.resize(np.arange(individuals), FURTHER // 2),
                            individuals + np.resize(np.arange(strangers), FURTHER // 2)])  # fmt: skip
    similar = evidence_of(images(truth), x, y)
    near = np.sort(similar, axis=1)[:, ::-1][:, :2]
    p = Calibration.fit(made, 0.5).probabilities(np.stack([near[:, 0], near[:, 0] - near[:, 1]], axis=1))
    none, sure = answer(p)
    wrong = np.where(none, truth < individuals, similar.argmax(axis=1) != truth)
    taken = sure >= (np.inf if acceptance.threshold is None else acceptance.threshold)
    return interval, float(wrong.mean()), taken.mean(), wrong[taken].mean() if taken.any() else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures")
    parser.add_argument("--replays", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="a few replays, to see that it runs")
    arguments = parser.parse_args()
    replays_asked = 10 if arguments.quick else arguments.replays
    rng = np.random.default_rng(0)
    figures: dict[str, float] = {"replays": replays_asked}
    kinds = {
        "images": lambda: replay(rng, 0.0, 1),
        "groups": lambda: replay(rng, 0.6, 20),
        "individuals": lambda: replay_individuals(rng),
    }
    for name, once in kinds.items():
        found = [once() for _ in range(replays_asked)]
        stated = [(interval, truth) for interval, truth, _, _ in found if interval]
        errors = [error for *_, error in found if error is not None]
        figures[f"coverage_{name}"] = float(np.mean([low <= truth <= high for (low, high), truth in stated]))
        figures[f"accepted_error_{name}"] = float(np.mean(errors)) if errors else float("nan")
        figures[f"accepted_{name}"] = float(np.mean([taken for _, _, taken, _ in found]))
        print(
            f"{name}: 95 % intervals hold the truth in {100 * figures[f'coverage_{name}']:.1f} % of {len(stated)} "
            f"replays; {100 * figures[f'accepted_{name}']:.1f} % of images accepted, of which "
            f"{100 * figures[f'accepted_error_{name}']:.1f} % are wrong (asked: {100 * TARGET:.0f} %)"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
