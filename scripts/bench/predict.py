"""Whether the accuracy that `bb predict` states, and the error of what it accepts, hold where the truth is known.

    python scripts/bench/predict.py [--json FILE] [--replays N] [--quick]

Each replay draws Gaussian classes, labels 200 images, states an accuracy and a threshold as `bb predict` does, and
compares them with 4,000 further images. Keys, each for _images; _chosen, labels that `bb suggest` chose of 3,000 images
in five batches, a fifth at random; and _groups (images of further groups): coverage, the share of 95 % intervals that
hold the accuracy; naive, the same of intervals from all labels of _chosen. And accepted_…_5, the share of images
accepted with a target error of 5 %, and accepted_error_…_5, the share of these that is wrong; the same for 10 %. And
_individuals, of `bb predict --retrieve`: intervals of the share of wrong answers, where half of the further images show
individuals that are not labelled.
"""

import argparse
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np

# A file beside this one may have the name of a package that numba imports.
FOLDER = Path(__file__).resolve().parent
sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != FOLDER]

from bb.probe.classifiers.estimator import make  # noqa: E402
from bb.probe.classifiers.preprocess import preprocess  # noqa: E402
from bb.probe.labelling.abstention import accept  # noqa: E402
from bb.probe.labelling.active_learning.choose_images import RANDOM_SHARE, Strategy, choose, fitted_on  # noqa: E402
from bb.probe.labelling.cross_validation import Folds, Setting, cross_validated, fit  # noqa: E402
from bb.probe.labelling.open_set import Calibration, answer, cross_fitted, error_of, evidence_of, replays  # noqa: E402
from bb.probe.statistics.multiclass.intervals import estimate  # noqa: E402
from bb.probe.statistics.multiclass.metrics import METRICS  # noqa: E402
from bb.probe.statistics.multiclass.predictions import Predictions  # noqa: E402

CLASSES, DIM, LABELLED, FOLDS, FURTHER, TARGETS = 5, 12, 200, 5, 4000, (0.05, 0.1)
POOL, BATCH = 3000, 40
SEED = 0
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


def suggested(world, rng):
    """Images as `bb suggest` has them labelled, with which were drawn at random."""
    x, y, group = world.images(POOL, 1)
    rows, drawn = np.empty(0, np.int64), np.empty(0, bool)
    while len(rows) < LABELLED:
        free = np.setdiff1d(np.arange(POOL), rows)
        known = rows[fitted_on(y[rows], drawn)]
        seed = int(rng.integers(2**31))
        made = choose(
            x.__getitem__,
            free,
            x[known],
            y[known],
            BATCH,
            Strategy("margin"),
            seed=seed,
            random_share=RANDOM_SHARE,
            before=(len(rows), int(drawn.sum())),
        )
        rows, drawn = np.concatenate([rows, made.rows]), np.concatenate([drawn, made.drawn])
    return x[rows], y[rows], group[rows], drawn


def taken(sure, wrong, threshold):
    """(share of further images accepted, which of them are wrong: None where none is accepted)"""
    rows = sure >= (np.inf if threshold is None else threshold)
    return rows.mean(), wrong[rows].mean() if rows.any() else None


def replay(rng, shift=0.0, groups=1, chosen=False):
    """(interval, true accuracy, of each target what is accepted, interval of all labels)."""
    world = World(rng, shift)
    x, y, group, drawn = suggested(world, rng) if chosen else (*world.images(LABELLED, groups), np.ones(LABELLED, bool))
    fold = group % FOLDS if shift else rng.permutation(LABELLED) % FOLDS
    labelled = Folds(y, fold, CLASSES, drawn, grouped=shift > 0)
    (validated,) = cross_validated([x], labelled, SETTING)
    given = validated.given
    every = Predictions(y, given.argmax(axis=1), CLASSES, given, group if shift else None, fold)
    answers = every.among(drawn)
    interval, naive = (
        estimate(each, METRICS["accuracy"], widening=labelled.widening).interval for each in (answers, every)
    )
    thresholds = [accept(answers.confidence, answers.hit, each, group=answers.group).threshold for each in TARGETS]
    further, truth, _ = world.images(FURTHER, 400 if shift else 1)
    # What is stated is of the classifiers of the folds.
    right = []
    for k in range(FOLDS):
        fitted = ~((fold == k) & drawn)
        train, ready = preprocess(SETTING.how, x[fitted], further)
        right.append((make(SETTING.classifier).fit(train, y[fitted]).predict(ready) == truth).mean())
    p = fit(x, labelled, SETTING, validated.heat).probabilities(further)
    accepted = [taken(p.max(axis=1), p.argmax(axis=1) != truth, each) for each in thresholds]
    weights = np.bincount(fold[drawn], minlength=FOLDS)
    return interval, float(np.average(right, weights=weights)), accepted, naive


def replay_individuals(rng):
    """(interval, true share of wrong answers, of each target what is accepted, None)."""
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
    thresholds = [
        accept(answers.confidence, answers.hit, each, group=tested.individual, weight=weight).threshold
        for each in TARGETS
    ]
    truth = np.concatenate([np.resize(np.arange(individuals), FURTHER // 2),
                            individuals + np.resize(np.arange(strangers), FURTHER // 2)])  # fmt: skip
    similar = evidence_of(images(truth), x, y)
    near = np.sort(similar, axis=1)[:, ::-1][:, :2]
    p = Calibration.fit(made, 0.5).probabilities(np.stack([near[:, 0], near[:, 0] - near[:, 1]], axis=1))
    none, sure = answer(p)
    wrong = np.where(none, truth < individuals, similar.argmax(axis=1) != truth)
    return interval, float(wrong.mean()), [taken(sure, wrong, each) for each in thresholds], None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures")
    parser.add_argument("--replays", type=int, default=1000)
    parser.add_argument("--only", default="", help="settings whose name contains this")
    parser.add_argument("--quick", action="store_true", help="a few replays, to see that it runs")
    arguments = parser.parse_args()
    replays_asked = 10 if arguments.quick else arguments.replays
    figures: dict[str, float] = {"replays": replays_asked}
    kinds = {
        "images": replay,
        "chosen": partial(replay, chosen=True),
        "groups": partial(replay, shift=0.6, groups=20),
        "individuals": replay_individuals,
    }
    for name, once in kinds.items():
        if arguments.only not in name:
            continue
        rng = np.random.default_rng(SEED)
        found = [once(rng) for _ in range(replays_asked)]
        stated = [each for each in found if each[0]]
        held = [low <= truth <= high for (low, high), truth, *_ in stated]
        figures[f"coverage_{name}"] = float(np.mean(held))
        print(
            f"{name}: 95 % intervals hold the truth in {100 * np.mean(held):.1f} % of {len(stated)} replays "
            f"(± {200 * (0.05 * 0.95 / len(stated)) ** 0.5:.1f})",
            flush=True,
        )
        for i, target in enumerate(TARGETS):
            key, shares = f"{name}_{100 * target:.0f}", [accepted[i][0] for _, _, accepted, _ in found]
            errors = np.array([error for _, _, accepted, _ in found if (error := accepted[i][1]) is not None])
            mean, two = (errors.mean(), 2 * errors.std() / len(errors) ** 0.5) if len(errors) else (np.nan, np.nan)
            figures[f"accepted_{key}"], figures[f"accepted_error_{key}"] = float(np.mean(shares)), float(mean)
            print(
                f"{name}: asked for {100 * target:.0f} %, {100 * np.mean(shares):.1f} % of images accepted, of which "
                f"{100 * mean:.2f} % are wrong (± {100 * two:.2f}); none in {len(found) - len(errors)} replays",
                flush=True,
            )
        if name == "chosen":
            figures["naive"] = float(np.mean([low <= truth <= high for _, truth, _, (low, high) in stated]))
            print(f"chosen: intervals from all labels hold the truth in {100 * figures['naive']:.1f} %", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
