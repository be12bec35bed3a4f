"""Whether the intervals and tests hold what they promise, where the truth is known; and how long they take.

    python scripts/bench/coverage.py [--json FILE] [--repetitions N]

A world has tasks, images and few-shot draws; a model answers item i of task t after draw s rightly where

    m + A_t + D_ts + I_i + e_tis > 0,

all normal, e with variance 1, so that the true accuracy, given any of them, is Φ of a ratio. Each repetition is a
world of its own, with a table, an interval and a test as `bb report` makes them. An interval covers where it holds the
truth that its level claims; a test is wrong where it calls equal models different at 5%.

What docs/statistics.md claims to hold is marked `claimed`, and only that is in worst_coverage, best_coverage and
worst_false_positive; the others show where theory promises nothing. The ± is twice the standard error of a share over
that many repetitions, and the extremes of many shares lie further out than each.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.special import ndtr, ndtri

from probe.bootstrap import Average, Level, resample
from probe.compare import adjust, differences
from probe.table import Table

LEVEL = 0.95
RESAMPLES = 1_000  # a repetition's, and flips; a report takes ten times as many
BATCH = 500  # repetitions that share resamples, as the models of a report do
FAMILY = 6  # equal models compared with each other


@dataclass(frozen=True)
class World:
    """accuracy  expected over everything
    tasks, images  how many tasks, of how many images each
    task_sd, draw_sd, image_sd  standard deviations of A, D and I; e's is 1
    apart    standard deviation of a model's own part of A: how much models differ in what they are good at
    serves   how many tasks each image serves
    groups   images come in groups of so many that share I
    metric   of labels that are a fair coin's; a decision is the sum above, negated for class 0
    """

    name: str
    accuracy: float
    tasks: int
    images: int
    task_sd: float = 0.4
    draw_sd: float = 0.0
    image_sd: float = 1.0
    apart: float = 0.0
    draws: int = 1
    serves: int = 1
    groups: int = 1
    metric: str = "accuracy"
    average: Average = "tasks"
    over: tuple[Level, ...] = ("images",)
    claimed: bool = True

    @property
    def middle(self) -> float:
        return float(ndtri(self.accuracy)) * float(np.sqrt(self._variance))

    @property
    def _variance(self) -> float:
        return 1 + self.image_sd**2 + self.draw_sd**2 + self.task_sd**2 + self.apart**2

    def simulate(self, rng: np.random.Generator, models: int, of_a_world: int) -> tuple[Table, np.ndarray]:
        """A table of models, so many in each world, and the true score of each that `over` claims.

        Tasks (but for a claim about tasks) are the same in all worlds, as they are the same in all reports.
        """
        worlds, t, n, s = models // of_a_world, self.tasks, self.images, self.draws
        task = self.task_sd * rng.normal(size=(worlds if "tasks" in self.over else 1, 1, t))
        own = self.apart * rng.normal(size=(worlds, of_a_world, t))
        draw = self.draw_sd * rng.normal(size=(worlds, of_a_world, s, t))
        units = t * n // self.serves // self.groups
        # An image that serves several tasks is in neighbouring ones, in the same place.
        unit_TN = (np.arange(t)[:, None] // self.serves * n + np.arange(n)) // self.groups % units
        image = (self.image_sd * rng.normal(size=(worlds, units)).astype(np.float32))[:, None, None, unit_TN]
        margin = (self.middle + task + own)[:, :, None] + draw
        noise = rng.normal(size=(worlds, of_a_world, s, t, n)).astype(np.float32)
        total = (margin[..., None].astype(np.float32) + image + noise).reshape(models * s, t * n)
        y = rng.integers(0, 2, t * n)
        fields = {"score": (total > 0).astype(np.float32)}
        if self.metric != "accuracy":
            fields |= {"y_pred": np.where(total > 0, y, 1 - y), "decision": total * (2 * y - 1)}
        if "tasks" in self.over:
            truth = np.full((worlds, of_a_world), self.accuracy)
        elif "draws" in self.over:
            truth = ndtr((self.middle + task + own) / np.sqrt(1 + self.image_sd**2 + self.draw_sd**2)).mean(axis=2)
        else:
            # Two normals whose means are 2 margins apart are in order with this chance.
            apart = np.sqrt(2) if self.metric == "auroc" else 1
            truth = ndtr(apart * margin / np.sqrt(1 + self.image_sd**2)).mean(axis=(2, 3))
        table = Table(
            models=tuple(map(str, range(models))),
            model=np.repeat(np.arange(models), s),
            seeds=tuple(range(s)) * models,
            tasks=tuple(map(str, range(t))),
            starts=np.arange(t + 1) * n,
            image_ids=unit_TN.ravel().astype(str),
            units=tuple(map(str, range(units))),
            unit=unit_TN.ravel(),
            y_true=y,
            fields=fields,
        )
        return table, np.broadcast_to(truth.reshape(-1, of_a_world), (worlds, of_a_world)).ravel()


SCORES = [
    *(World(f"accuracy {a}", a, 40, 40) for a in (0.6, 0.75, 0.9, 0.95)),
    World("mean over images", 0.8, 40, 40, average="images"),
    World("one task of 500", 0.8, 1, 500),
    World("each image in 4 tasks", 0.8, 40, 40, serves=4),
    World("groups of 5 images", 0.8, 40, 40, groups=5),
    World("3 draws, as they are", 0.8, 40, 40, draws=3, draw_sd=0.4),
    *(World(f"{s} draws, resampled", 0.8, 40, 40, draws=s, draw_sd=0.4, over=("draws", "images")) for s in (3, 5)),
    *(World(f"{t} tasks, resampled", 0.8, t, 40, over=("tasks", "images")) for t in (20, 40, 160)),
    World("each image in 4 tasks, resampled", 0.8, 40, 40, serves=4, over=("tasks", "images")),
    World("tasks and 3 draws", 0.8, 40, 40, draws=3, draw_sd=0.4, over=("tasks", "draws", "images")),
    World("NeWT's shape", 0.8, 164, 110, average="images"),
    *(World(f"{metric}", 0.8, 10, 100, metric=metric) for metric in ("balanced_accuracy", "auroc")),
    # Where theory promises nothing.
    World("macro_f1, 10 tasks of 100", 0.8, 10, 100, metric="macro_f1", claimed=False),
    World("macro_f1, 40 tasks of 20", 0.8, 40, 20, metric="macro_f1", claimed=False),
    World("average over tasks that are alike, resampled", 0.8, 40, 40, 0.1, over=("tasks", "images"), claimed=False),
    World("accuracy 0.98, 1 task of 100", 0.98, 1, 100, claimed=False),
    World("accuracy 0.9, 1 task of 30", 0.9, 1, 30, claimed=False),
    World("5 tasks, resampled", 0.8, 5, 40, over=("tasks", "images"), claimed=False),
    World("10 tasks, resampled", 0.8, 10, 40, over=("tasks", "images"), claimed=False),
    World("accuracy 0.98, 40 tasks, resampled", 0.98, 40, 40, over=("tasks", "images"), claimed=False),
    World("2 draws of 1 task", 0.8, 1, 500, draws=2, draw_sd=0.4, over=("draws", "images"), claimed=False),
    World("3 draws of 1 task", 0.8, 1, 500, draws=3, draw_sd=0.4, over=("draws", "images"), claimed=False),
]

PAIRS = [
    World("accuracy 0.6", 0.6, 40, 40),
    World("accuracy 0.95", 0.95, 40, 40),
    World("mean over images", 0.8, 40, 40, average="images"),
    World("each image in 4 tasks", 0.8, 40, 40, serves=4),
    World("groups of 5 images", 0.8, 40, 40, groups=5),
    World("3 draws, resampled", 0.8, 40, 40, draws=3, draw_sd=0.4, over=("draws", "images")),
    World("20 tasks, resampled", 0.8, 20, 40, apart=0.2, over=("tasks", "images")),
    World("40 tasks, resampled", 0.8, 40, 40, apart=0.2, over=("tasks", "images")),
    World("40 tasks, all models alike", 0.8, 40, 40, over=("tasks", "images"), claimed=False),
]


def coverage(world: World, repetitions: int) -> float:
    """The share of repetitions whose interval holds the truth."""
    held = []
    for seed, table, truth in _worlds(world, repetitions, 1):
        done = resample(table, world.metric, average=world.average, over=world.over, resamples=RESAMPLES, seed=seed)
        found = done.interval(LEVEL)
        held.append((found.low <= truth) & (truth <= found.high))
    return float(np.concatenate(held).mean())


def pairs(world: World, repetitions: int) -> dict[str, float]:
    """Of equal models: the coverage of a difference's interval, the false positives of each test, and of families."""
    held, hits = [], {"permutation": [], "McNemar": [], "family, Holm": []}
    for seed, table, truth in _worlds(world, repetitions, FAMILY):
        families = np.arange(len(truth)).reshape(-1, FAMILY)
        i, j = np.triu_indices(FAMILY, 1)
        chosen = list(zip(families[:, i].ravel().tolist(), families[:, j].ravel().tolist(), strict=True))
        done = resample(table, average=world.average, over=world.over, resamples=RESAMPLES, seed=seed)
        found = differences(table, done, pairs=chosen, permutations=RESAMPLES, seed=seed)
        true = truth[found.first] - truth[found.second]
        held.append((found.interval.low <= true) & (true <= found.interval.high))
        p = found.p.reshape(len(families), -1)
        hits["permutation"].append(found.p <= 1 - LEVEL)
        if found.mcnemar is not None:
            hits["McNemar"].append(found.mcnemar <= 1 - LEVEL)
        hits["family, Holm"].append(np.array([adjust(row, "holm").min() <= 1 - LEVEL for row in p]))
    rates = {name: float(np.concatenate(found).mean()) for name, found in hits.items() if found}
    return {"coverage": float(np.concatenate(held).mean()), **rates}


def _worlds(world: World, repetitions: int, of_a_world: int) -> Iterator[tuple[int, Table, np.ndarray]]:
    models = BATCH // of_a_world * of_a_world
    for seed in range(-(-repetitions // (models // of_a_world))):
        rng = np.random.default_rng([len(world.name), world.tasks, world.images, seed])
        yield seed, *world.simulate(rng, models, of_a_world)


def bootstrap_cost() -> dict[str, float]:
    """85 models × 18,024 images in 164 tasks × 10,000 resamples, from scores to bounds; the process's peak memory."""
    table, _ = World("NeWT", 0.8, 164, 110).simulate(np.random.default_rng(0), 85, 85)
    n = 18_024
    table = replace(
        table,
        starts=np.minimum(table.starts, n),
        image_ids=table.image_ids[:n],
        unit=table.unit[:n],
        units=table.units[:n],
        y_true=table.y_true[:n],
        fields={"score": table.fields["score"][:, :n]},
    )
    start = time.perf_counter()
    resample(table).interval()
    seconds = time.perf_counter() - start
    return {
        "bootstrap_s": seconds,
        "bootstrap_peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as one flat object")
    parser.add_argument("--repetitions", type=int, default=5_000, help="worlds of each kind (default 5,000)")
    options = parser.parse_args()
    # numba imports a package that is called as this file is.
    sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != Path(__file__).resolve().parent]
    figures: dict[str, float] = bootstrap_cost()
    print("{bootstrap_s:.1f} s, {bootstrap_peak_gb:.2f} GB for 85 x 18,024 x 10,000".format(**figures))
    covered, wrong = {}, {}

    print(f"\n{'coverage of 95% intervals':40} {'%':>5}")
    scores, worlds = _whole(options.repetitions, BATCH), _whole(options.repetitions // 3, BATCH // FAMILY)
    for world in SCORES:
        got = coverage(world, scores)
        figures[f"coverage, {world.name}"] = got
        if world.claimed:
            covered[world.name] = got
        print(f"{world.name:40} {_percent(got, scores)} {'claimed' * world.claimed}", flush=True)

    print(f"\n{'equal models: difference, tests at 5%':40} {'%':>5}")
    for world in PAIRS:
        for what, got in pairs(world, worlds).items():
            name = f"{world.name}: {what}"
            figures[name] = got
            # A share of pairs is at least as sure as one of worlds, each of which has several.
            print(f"{name:60} {_percent(got, worlds)} {'claimed' * world.claimed}", flush=True)
            if world.claimed:
                (covered if what == "coverage" else wrong)[name] = got
    figures["worst_coverage"] = min(covered.values())
    figures["best_coverage"] = max(covered.values())
    figures["worst_false_positive"] = max(wrong.values())
    for name in ("worst_coverage", "best_coverage", "worst_false_positive"):
        print(f"{name:40} {100 * figures[name]:.2f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def _whole(n: int, batch: int) -> int:
    """The next number of repetitions that whole batches make up."""
    return -(-n // batch) * batch or batch


def _percent(share: float, n: int) -> str:
    return f"{100 * share:5.2f} ± {200 * float(np.sqrt(share * (1 - share) / n)):.2f}"


if __name__ == "__main__":
    main()
