"""bb's classifiers beside scikit-learn's: `python scripts/bench/classify.py [--quick] [--json FILE]`.

Synthetic features: class means and noise whose variance falls along the axes, rotated, then center-l2. Each side runs
in a process of its own on the same file of features, with as many BLAS threads as there are cores.

logistic_ratio       seconds of 45 fits of LogisticRegression (lbfgs, tol 1e-12, float64) over those of bb's path over
                     the same C, at n = 10,000, d = 768, 100 classes. Within --seconds as many C are fitted as there is
                     time for, spread evenly, and the others are interpolated over log C: see logistic_fitted
logistic_agreement   share of 2,000 test rows for which both predict the same class, the mean over the C that both
                     fitted; logistic_agreement_least is that of the C where they agree least. Below C = 0.01
                     scikit-learn's are newton-cg's coefficients, untimed, and the intercept that belongs to them: there
                     both solvers stop after a few steps with an intercept that is not solved for, and decides many rows
logistic_certificate the largest of bb's 45 certificates
logistic_peak        bb's peak memory beyond the features, over the features' bytes
logistic_small_*     the same at n = 1,000: 200 classes of 5 shots
knn_ratio            seconds of KNeighborsClassifier(algorithm="brute", metric="cosine").kneighbors over those of bb,
                     for the 20 nearest of 50,000 rows to 10,000 queries; knn_ratio_euclidean is that of
                     metric="euclidean" on unit vectors, for which scikit-learn has compiled code
knn_agreement        share of equal neighbours, places included; scikit-learn computes in float32
cells_per_hour       runs that two processes make in an hour on two free cores, reading, scoring and publishing
                     included: by CPU time, since they share nothing but the disk (`bb bench --jobs 2`). The grid has 10
                     backbones x 20 tasks x 10 shots x 5 seeds; "all" images are one run for all seeds, so it is 9,200
                     runs. GRID has the tasks' sizes. A third each are simpleshot, ridge and knn; cells_per_hour_ridge …
                     are of a grid of one classifier, and logistic, which fits 6 paths of 45 C a cell, is stated apart.
                     Runs of each size and classifier are timed at 1 and 10 shots (two seeds in one call) and with all
                     images, as long as --seconds last: cells_timed is the share of these. Other shots are interpolated
                     over the training rows; what is not timed is taken to need as long for each row (and class, of
                     logistic) as the largest timed
cells_per_hour_wall  runs that one process makes in an hour, by the clock; cells_load is the load average meanwhile
ridge_path_ratio     seconds of one RidgeClassifierCV for each of 41 l2 over those of bb's path with left-out errors
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])  # not this folder, where store.py would hide the package

CS = [10 ** (-6 + 11 * i / 44) for i in range(45)]
SIZES = {  # n, m, d, k
    "logistic": (10_000, 2_000, 768, 100),
    "logistic_small": (1_000, 2_000, 768, 200),
    "knn": (50_000, 10_000, 768, 100),
    "ridge": (10_000, 2_000, 768, 100),
}
QUICK = {
    "logistic": (1_000, 500, 96, 20),
    "logistic_small": (200, 200, 96, 40),
    "knn": (4_000, 1_000, 96, 20),
    "ridge": (1_000, 500, 96, 20),
}
NEIGHBOURS = 20
# Training and test rows together, classes, and how many of the 20 tasks are of about this size: binary tasks of NeWT,
# flowers and camera traps, CUB and plankton, herbaria, and iNat-like ones up to 50,000 rows. Half of each is tested.
GRID = ((400, 2, 8), (2_000, 20, 5), (6_000, 100, 3), (20_000, 200, 2), (50_000, 500, 1), (50_000, 50, 1))
QUICK_GRID = ((200, 2, 12), (600, 10, 8))
SHOTS = (1, 2, 3, 4, 5, 8, 10, 16, 32, "all")
TIMED = (1, 10, "all")
SEEDS = 5
MIX = ("simpleshot", "ridge", "knn")  # a third of the cells each; logistic is stated apart
CONVERGES_FROM = 0.01


def make_features(n: int, m: int, d: int, k: int, folder: Path) -> None:
    import numpy as np

    from bb.probe.classifiers.preprocess import preprocess

    rng = np.random.default_rng(0)
    axes = np.arange(1, d + 1)
    y = np.arange(n + m) % k
    x = (3.5 * rng.standard_normal((k, d)) / axes)[y] + 2 * rng.standard_normal((n + m, d)) / np.sqrt(axes)
    x = x @ np.linalg.qr(rng.standard_normal((d, d)))[0] + 0.3 * rng.standard_normal(d)
    train, test = preprocess("center-l2", x[:n].astype(np.float32), x[n:].astype(np.float32))
    for name, array in {"train": train, "test": test, "y": y[:n]}.items():
        np.save(folder / f"{name}.npy", array)


def peak() -> int:
    """Bytes of this program alone: ru_maxrss would count the parent that it was forked from."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def our_logistic(x, y, x_test, seconds):
    import numpy as np

    from bb.probe.classifiers.multiclass.softmax_path import SoftmaxPath

    list(SoftmaxPath(x[:300], y[:300], int(y.max()) + 1).solve(CS[:30]))  # compiled code is loaded once
    before, predicted, certificates = peak(), [], []
    start = time.perf_counter()
    for solution in SoftmaxPath(x, y, int(y.max()) + 1).solve(CS):
        blocks = (x_test[first : first + 256] for first in range(0, len(x_test), 256))  # float64 in the product
        predicted.append([int(i) for x in blocks for i in (x @ solution.coef.T + solution.intercept).argmax(axis=1)])
        certificates.append(solution.certificate)
    took = time.perf_counter() - start
    return {
        "seconds": took,
        "predicted": predicted,
        "certificate": float(np.max(certificates)),
        "peak": (peak() - before) / x.nbytes,
    }


def finish_intercept(fitted, x, y) -> None:
    """Newton's steps for the intercept alone: solvers stop before, as the loss hardly changes with it."""
    import numpy as np
    from scipy.special import softmax

    for _ in range(5):
        p = softmax(x @ fitted.coef_.T + fitted.intercept_, axis=1)
        hessian = np.diag(p.sum(axis=0)) - p.T @ p
        fitted.intercept_ -= np.linalg.lstsq(hessian, p.sum(axis=0) - np.bincount(y))[0]


def their_logistic(x, y, x_test, seconds):
    """The ends of the path and its middle first, then the middles between."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    warnings.simplefilter("ignore")
    order = [44, 0, 22, 33, 11, 38, 27, 16, 5, 41, 35, 30, 24, 19, 13, 8, 2]
    order += [i for i in range(45) if i not in order]
    took, predicted = {}, {}
    for i in order:
        if len(took) > 4 and sum(took.values()) > seconds:
            break
        start = time.perf_counter()
        fitted = LogisticRegression(C=CS[i], tol=1e-12, max_iter=1000).fit(x.astype(np.float64), y)
        took[i] = time.perf_counter() - start
        if CS[i] < CONVERGES_FROM:
            fitted = LogisticRegression(C=CS[i], solver="newton-cg", tol=1e-10).fit(x.astype(np.float64), y)
            finish_intercept(fitted, x.astype(np.float64), y)
        predicted[i] = fitted.predict(x_test.astype(np.float64)).tolist()
    known = sorted(took)
    total = np.interp(np.arange(45), known, [took[i] for i in known]).sum()
    return {"seconds": float(total), "predicted": predicted, "fitted": len(took)}


def our_knn(x, y, x_test, seconds):
    from bb.probe.classifiers.multiclass.knn import nearest_rows

    nearest_rows(x[:12_000], x_test[:300], NEIGHBOURS)  # compiled code is loaded once
    start = time.perf_counter()
    rows, _ = nearest_rows(x, x_test, NEIGHBOURS)
    return {"seconds": time.perf_counter() - start, "rows": rows.tolist()}


def their_knn(x, y, x_test, seconds):
    from sklearn.neighbors import KNeighborsClassifier

    found = {}
    for metric in ("cosine", "euclidean"):  # rows have unit norm, so both have the same neighbours
        fitted = KNeighborsClassifier(NEIGHBOURS, algorithm="brute", metric=metric).fit(x, y)
        start = time.perf_counter()
        found["rows"] = fitted.kneighbors(x_test, return_distance=False).tolist()
        found[metric] = time.perf_counter() - start
    return found


def our_ridge(x, y, x_test, seconds):
    import numpy as np

    from bb.probe.classifiers.multiclass.ridge import L2, RidgePath

    columns = np.where(y[:, None] == np.arange(int(y.max()) + 1), 1.0, -1.0)
    start = time.perf_counter()
    path = RidgePath(x)
    errors = [float((error**2).mean()) for error in path.errors(columns, L2)]
    best = L2[int(np.argmin(errors))]
    path.coefficients(columns, best)
    return {"seconds": time.perf_counter() - start, "best": best}


def their_ridge(x, y, x_test, seconds):
    import numpy as np
    from sklearn.linear_model import RidgeClassifierCV

    from bb.probe.classifiers.multiclass.ridge import L2

    started, scores = time.perf_counter(), []
    for l2 in L2:
        scores.append(RidgeClassifierCV(alphas=[l2]).fit(x.astype(np.float64), y).best_score_)
        if time.perf_counter() - started > seconds:
            break
    took = (time.perf_counter() - started) * len(L2) / len(scores)  # equally long each
    return {"seconds": took, "fitted": len(scores)}


def time_cells(grid, seconds: float) -> dict:
    """(wall, CPU) seconds of one run of each size and classifier at TIMED shots, cheap classifiers first."""
    import numpy as np
    import polars as pl

    from bb import probe
    from tests.helpers.synthetic import cluster_store

    began, timed = time.perf_counter(), {}
    with tempfile.TemporaryDirectory() as folder:
        tasks = []
        for rows, classes, _ in grid:
            d = 96 if grid is QUICK_GRID else 768
            place = Path(folder, f"{rows}-{classes}.bb")
            store, ids, y, _ = cluster_store(place, n=rows, classes=classes, d=d, spread=8.0)
            sides = np.where(np.arange(rows) % (2 * classes) < classes, "train", "test")
            table = pl.DataFrame({"image_id": ids, "label": y, "split": sides})
            tasks.append((rows, classes, store, table))
        for classifier in (*MIX, "logistic"):
            probe.classify(*tasks[0][2:], classifier=classifier, shots=10)  # what is imported or compiled once
            for rows, classes, store, table in tasks:
                for shots in TIMED:
                    if time.perf_counter() - began > seconds:
                        continue
                    seeds = [0] if shots == "all" or classifier == "logistic" else [0, 1]
                    wall, cpu = time.perf_counter(), time.process_time()
                    found = probe.classify(store, table, classifier=classifier, shots=shots, seed=seeds, force=True)
                    spent = time.perf_counter() - wall, time.process_time() - cpu
                    timed[rows, classes, shots, classifier] = tuple(each / len(found) for each in spent)
    return timed


def measure_cells(grid, seconds: float) -> dict[str, float]:
    """Cells of the grid that fit an hour, and those of logistic alone."""
    import numpy as np

    timed = time_cells(grid, seconds)

    def trained(rows: int, classes: int, shots) -> int:
        return rows // 2 if shots == "all" else min(shots * classes, rows // 2)

    def took(rows: int, classes: int, shots, classifier: str, which: int) -> float:
        """Linear between the timed numbers of training rows; of an untimed task as long as the largest timed one for
        each row, or for each row and class where it is logistic.
        """
        known = [each for each in timed if each[:2] == (rows, classes) and each[3] == classifier]
        n = trained(rows, classes, shots)
        if known and n <= max(trained(*each[:3]) for each in known):
            return float(np.interp(n, [trained(*each[:3]) for each in known], [timed[each][which] for each in known]))
        size = classes if classifier == "logistic" else 1
        like = max((each for each in timed if each[3] == classifier), key=lambda each: trained(*each[:3]) * each[1])
        before = trained(*like[:3]) * (like[1] if classifier == "logistic" else 1)
        return timed[like][which] * max(1.0, n * size / before)

    def mean(classifier: str, which: int) -> float:
        """Seconds of a cell of the grid."""
        total = cells = 0.0
        for rows, classes, tasks in grid:
            for shots in SHOTS:
                count = tasks * (1 if shots == "all" else SEEDS)
                total, cells = total + count * took(rows, classes, shots, classifier, which), cells + count
        return total / cells

    kinds = [name for name in (*MIX, "logistic") if any(cell[3] == name for cell in timed)]
    wall, cpu = ({name: mean(name, which) for name in kinds} for which in (0, 1))
    mix, wanted = [name for name in kinds if name != "logistic"], len(TIMED) * len(grid)
    return {
        "cells_per_hour": 2 * 3600 / float(np.mean([cpu[name] for name in mix])),
        "cells_per_hour_wall": 3600 / float(np.mean([wall[name] for name in mix])),
        "cells_timed": sum(cell[3] != "logistic" for cell in timed) / (wanted * len(MIX)),
        "cells_timed_logistic": sum(cell[3] == "logistic" for cell in timed) / wanted,
        "cells_load": os.getloadavg()[1],
        **{f"cells_per_hour_{name}": 2 * 3600 / spent for name, spent in cpu.items()},
    }


def one_side(side: str, section: str, folder: Path, seconds: float) -> dict:
    command = [sys.executable, __file__, "--side", side, "--section", section, "--folder", str(folder)]
    command += ["--seconds", str(seconds)]
    environment = os.environ | {"OMP_NUM_THREADS": str(len(os.sched_getaffinity(0)))}
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment).stdout)


def compare(section: str, folder: Path, seconds: float) -> dict[str, float]:
    ours, theirs = (one_side(side, section, folder, seconds) for side in ("our", "their"))
    if section == "knn":
        equal = [a == b for rows in zip(ours["rows"], theirs["rows"], strict=True) for a, b in zip(*rows, strict=True)]
        return {
            "knn_seconds": ours["seconds"],
            "knn_ratio": theirs["cosine"] / ours["seconds"],
            "knn_ratio_euclidean": theirs["euclidean"] / ours["seconds"],
            "knn_agreement": sum(equal) / len(equal),
        }
    figures = {f"{section}_seconds": ours["seconds"], f"{section}_seconds_sklearn": theirs["seconds"]}
    figures[f"{section}_fitted"] = theirs["fitted"]
    ratio = theirs["seconds"] / ours["seconds"]
    if section == "ridge":
        return {**figures, "ridge_path_ratio": ratio}
    agree = [
        sum(a == b for a, b in zip(ours["predicted"][int(i)], theirs["predicted"][i], strict=True))
        / len(theirs["predicted"][i])
        for i in theirs["predicted"]
    ]
    return {
        **figures,
        f"{section}_ratio": ratio,
        f"{section}_agreement": sum(agree) / len(agree),
        f"{section}_agreement_least": min(agree),
        f"{section}_certificate": ours["certificate"],
        f"{section}_peak": ours["peak"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, a few seconds: that it runs, not how fast")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--seconds", type=float, default=600, help="for scikit-learn's side of a section")
    parser.add_argument("--only", choices=[*SIZES, "cells"], help="one section")
    for hidden in ("--side", "--section", "--folder"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        import numpy as np

        x, y, x_test = (np.load(Path(args.folder, f"{name}.npy")) for name in ("train", "y", "test"))
        function = globals()[f"{args.side}_{args.section.removesuffix('_small')}"]
        print(json.dumps(function(x, y, x_test, args.seconds)))
        return
    figures: dict[str, float] = {}
    for section, size in (QUICK if args.quick else SIZES).items():
        if args.only in (None, section):
            with tempfile.TemporaryDirectory() as folder:
                make_features(*size, Path(folder))
                figures |= compare(section, Path(folder), 1 if args.quick else args.seconds)
    if args.only in (None, "cells"):
        figures |= measure_cells(QUICK_GRID if args.quick else GRID, 20 if args.quick else args.seconds)
    for name, value in figures.items():
        print(f"{name:30} {value:,.4g}")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
