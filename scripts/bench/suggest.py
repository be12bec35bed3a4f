"""How many labels `bb suggest` saves, and how long it takes: `python scripts/bench/suggest.py [--json FILE] [--quick]`.

Labels are given in batches as somebody would who asks `bb suggest` for each, until ridge regression on them reaches
95 % of the macro-F1 that it has with all labels, on images held out. Each seed draws another split; all ways start from
the same split. Keys of a data set: NAME_random, NAME_margin and NAME_cluster, the mean number of labels; NAME_ratio,
random's mean over margin's, with NAME_ratio_low and NAME_ratio_high, a 95 % interval from resampling the seeds;
NAME_full, the F1 with all labels. A fifth of what margin and cluster ask for is drawn at random, as `bb suggest` does;
NAME_margin_alone is without.

digits           1,797 digits, 10 classes, their pixels
newt             newt-mini by EfficientNet-Lite 0, pretrained, 8 kinds of animals (--photographs, or BB_PHOTOS)
synthetic        30 Gaussian classes, 3,000 rows
…_tail           the same, with class sizes that fall geometrically to 2 % (at least 5 images)

margin_s, cluster_s, rare_s: seconds for 50 of --rows × 768 float16 rows in a memory map with 500 labels of 20 classes,
the best of three; peak_mb: memory beyond the process before that.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)  # not this folder, where a file may have the name of a package that numba imports

from bb.probe.classifiers.multiclass.ridge import Ridge  # noqa: E402
from bb.probe.classifiers.preprocess import preprocess  # noqa: E402
from bb.probe.labelling.active_learning.choose_images import RANDOM_SHARE, Strategy, choose, fitted_on  # noqa: E402

GOAL = 0.95
WAYS = ("random", "margin", "cluster", "margin_alone")
DOGS = dict.fromkeys(("hound", "terrier", "gundog", "working_dog"), "dog")
MAMMALS = dict.fromkeys(("primate", "ungulate", "felid", "canid"), "mammal")
KINDS = {**DOGS, **MAMMALS, "waterbird": "bird", "landbird": "bird"}
BATCH = {"digits": 10, "newt": 10, "synthetic": 50}


def digits(rng):
    from sklearn.datasets import load_digits

    found = load_digits()
    return found.data.astype(np.float32), found.target.astype(np.int64)


def synthetic(rng):
    y = rng.integers(0, 30, 6000)
    return (rng.normal(size=(30, 64))[y] + 1.3 * rng.normal(size=(6000, 64))).astype(np.float32), y.astype(np.int64)


def newt(photographs, folder):
    """Features of newt-mini, embedded once, and kinds of animals."""
    import polars as pl
    import torch

    from bb.extract import run as extract
    from bb.extract.weights.lite_networks import renamed
    from bb.store import Store

    torch.save(renamed(0), folder / "lite0.pth")
    store = Store.create(folder / "features.bb")
    extract(store, [f"timm:tf_efficientnet_lite0@{folder}/lite0.pth"], {"newt": photographs}, device="cpu")
    ids, x = store.features(data="newt")
    table = pl.read_csv(Path(photographs) / "newt2021_labels.csv")
    names = dict(zip(table["id"], table["text_label"], strict=True))
    kinds = [KINDS.get(name := names[image_id], name) for image_id in ids]
    made = np.asarray(x, np.float32), np.unique(kinds, return_inverse=True)[1].astype(np.int64)
    return lambda rng: made


def split(load, rng, tail, share):
    """(pool, its classes, held-out rows, their classes)"""
    x, y = load(rng)
    order = rng.permutation(len(x))
    cut = int(share * len(x))
    pool, held_out = order[:cut], order[cut:]
    if tail:
        classes = y.max() + 1
        kept = []
        for c, rank in enumerate(rng.permutation(classes)):
            rows = pool[y[pool] == c]
            kept.append(rows[: max(5, round(0.02 ** (rank / (classes - 1)) * len(rows)))])
        pool = rng.permutation(np.concatenate(kept))
    return x[pool], y[pool], x[held_out], y[held_out]


def macro_f1(x, y, x_test, y_test):
    from sklearn.metrics import f1_score

    train, test = preprocess("center-l2", x, x_test)
    return f1_score(y_test, Ridge().fit(train, y).predict(test), average="macro", zero_division=0)


def labels_needed(way, data, batch, seed, full):
    x, y, x_test, y_test = data
    labelled, drawn = np.empty(0, np.int64), np.empty(0, bool)
    strategy, share = Strategy(way.removesuffix("_alone")), 0.0 if way.endswith("_alone") else RANDOM_SHARE
    while len(labelled) < len(x):
        free = np.setdiff1d(np.arange(len(x)), labelled)
        known = labelled[fitted_on(y[labelled], drawn)]
        made = choose(
            x.__getitem__, free, x[known], y[known], batch, strategy, seed=seed + len(labelled), random_share=share,
            before=(len(labelled), int(drawn.sum())),
        )  # fmt: skip
        labelled, drawn = np.concatenate([labelled, made.rows]), np.concatenate([drawn, made.drawn])
        if len(np.unique(y[labelled])) > 1 and macro_f1(x[labelled], y[labelled], x_test, y_test) >= GOAL * full:
            break
    return len(labelled)


def replay(name, load, tail, seeds):
    """Figures of one data set."""
    needed, fulls = [], []
    for seed in range(seeds):
        data = split(load, np.random.default_rng(seed), tail, 2 / 3 if name == "newt" else 1 / 2)
        fulls.append(macro_f1(*data))
        needed.append([labels_needed(way, data, BATCH[name], 1000 * seed, fulls[-1]) for way in WAYS])
    needed = np.array(needed)
    means = needed.mean(axis=0)
    drawn = needed[np.random.default_rng(0).integers(0, seeds, (10_000, seeds))].mean(axis=1)
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975])
    key = f"{name}_tail" if tail else name
    figures = {f"{key}_{way}": float(mean) for way, mean in zip(WAYS, means, strict=True)}
    ratio = {"ratio": means[0] / means[1], "ratio_low": low, "ratio_high": high, "full": np.mean(fulls)}
    figures |= {f"{key}_{name}": float(value) for name, value in ratio.items()}
    print(
        f"{key}: {means[0]:.0f} labels at random, {means[1]:.0f} by margin, {means[2]:.0f} by cluster, "
        f"{means[3]:.0f} by margin alone, of "
        f"{len(data[0])}: {means[0] / means[1]:.2f} [{low:.2f}, {high:.2f}] times fewer; F1 with all labels "
        f"{np.mean(fulls):.3f}",
        flush=True,
    )
    return figures


def timings(n, folder):
    """Seconds and memory at full size."""
    d, known = 768, 500
    path = folder / "rows.f16"
    written = np.memmap(path, np.float16, "w+", shape=(n, d))
    rng = np.random.default_rng(0)
    centre = rng.normal(size=(20, d)).astype(np.float32)
    for start in range(0, n, 20_000):
        rows = np.arange(start, min(start + 20_000, n))
        written[rows] = centre[rows % 20] + rng.standard_normal((len(rows), d), np.float32)
    del written
    x = np.memmap(path, np.float16, "r", shape=(n, d))
    y, free = np.arange(known) % 20, np.arange(known, n)

    def read(rows):
        whole = rows[-1] - rows[0] + 1 == len(rows)
        return x[rows[0] : rows[-1] + 1] if whole else x[rows]

    figures = {"rows": n}
    choose(read, free[:5000], x[:known], y, 50, Strategy("margin"))  # compiles
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for way in ("margin", "cluster", "rare"):
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            choose(read, free, x[:known], y, 50, Strategy(way), rare=3 if way == "rare" else -1)
            seconds.append(time.perf_counter() - start)
        figures[f"{way}_s"] = min(seconds)
        print(f"{way}: {min(seconds):.2f} s for 50 of {n:,} rows of {d}", flush=True)
    # Pages of the map count as resident; the kernel drops them when it needs room.
    figures["peak_mb"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--photographs", type=Path, default=os.environ.get("BB_PHOTOS"), help="newt-mini's folder")
    parser.add_argument("--quick", action="store_true", help="one seed, few rows, no photographs: to see that it runs")
    arguments = parser.parse_args()
    seeds = 1 if arguments.quick else arguments.seeds
    warnings.filterwarnings("ignore", message="The number of unique classes")
    figures = {"seeds": seeds}
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        loads = {"digits": digits, "synthetic": synthetic}
        if arguments.photographs and not arguments.quick:
            loads["newt"] = newt(arguments.photographs, folder)
        for name, load in loads.items():
            for tail in (False, True):
                figures |= replay(name, load, tail, seeds)
        figures |= timings(20_000 if arguments.quick else arguments.rows, folder)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
