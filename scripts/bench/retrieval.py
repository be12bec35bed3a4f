"""Retrieval beside Open Metric Learning: `python scripts/bench/retrieval.py [--oml PYTHON] [--json FILE] [--quick]`.

60,000 features of 384 dimensions, each asked against all others; CMC, precision and MAP at 1, 5 and 10. Each side runs
in a process of its own, in turn, so that memory is its own too; the least times count. The other side is
open-metric-learning 4.0.0, which needs numpy < 2: `--oml` names the interpreter of an environment that has it; without
it one is made for the occasion, but with --quick, where the other side is then left out.

knn_ratio      seconds of OML's search and metrics over those of ours
metrics_ratio  the same for the metrics alone, from the same hits
peak_gb        our peak memory, in 10^9 bytes, data included
categories     how many times as long our metrics take with 50 categories
head_steps_ratio   of scripts/bench/heads.py, which runs by itself
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])  # not this folder, where store.py would hide the package

OML = ("open-metric-learning==4.0.0", "omegaconf", "numpy<2")
KS = (1, 5, 10)
ROUNDS = 3
QUICK = {"n": 600, "dim": 16, "rounds": 1}


def data(n: int, dim: int):
    """(n, dim) float32 unit vectors, ten to a label, so that searches neither always hit nor always miss; labels."""
    import numpy as np

    rng = np.random.default_rng(0)
    labels = np.arange(n) % (n // 10)
    x = rng.standard_normal((n // 10, dim), dtype=np.float32)[labels]
    x += np.float32(2.5) * rng.standard_normal((n, dim), dtype=np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True), labels


def ours(n: int, dim: int) -> dict:
    import numpy as np
    import polars as pl

    from bb.probe.retrieval.labels import parse_items
    from bb.probe.retrieval.metrics import per_query, summarise
    from bb.probe.retrieval.ranking import hits
    from bb.probe.retrieval.search import search

    x, labels = data(n, dim)
    table = {"image_id": [f"{i:07}" for i in range(n)], "label": labels.astype(str)}
    items = parse_items(pl.DataFrame(table | {"category": [f"c{i % 50}" for i in range(n)]}))
    search(x[:500], items.rows(np.arange(n) < 500), 10)  # compiled code is loaded once

    searched = []
    for _ in range(3):
        start = time.perf_counter()
        ranking = search(x, items, max(KS), distance="euclidean")
        searched.append(time.perf_counter() - start)
    _ = items.category_codes  # like the labels' codes, made when the table is read
    metrics, by_category = [], []
    for _ in range(20):
        start = time.perf_counter()
        values = per_query(
            hits(items, ranking), ranking.relevant, ks=KS, metrics=("cmc", "precision", "map"), convention="oml"
        )
        means = summarise(values)
        metrics.append(time.perf_counter() - start)
        start = time.perf_counter()
        values = per_query(
            hits(items, ranking), ranking.relevant, ks=KS, metrics=("cmc", "precision", "map"), convention="oml"
        )
        summarise(values, items.category_codes[ranking.query], items.categories)
        by_category.append(time.perf_counter() - start)
    return {
        "search": min(searched),
        "metrics": min(metrics),
        "metrics_by_category": min(by_category),
        "means": means["overall"],
    }


def theirs(n: int, dim: int) -> dict:
    import numpy as np
    import torch
    from oml.functional.knn import batched_knn
    from oml.metrics.embeddings import calc_retrieval_metrics_rr
    from oml.retrieval.retrieval_results import RetrievalResults

    x, labels = data(n, dim)
    x, labels, ids = torch.from_numpy(x), torch.from_numpy(labels), torch.arange(n)
    how = {"cmc_top_k": KS, "precision_top_k": KS, "map_top_k": KS, "verbose": False}
    start = time.perf_counter()
    found = RetrievalResults(*batched_knn(x, ids, ids, max(KS), labels_gt=labels))
    searched = time.perf_counter() - start
    start = time.perf_counter()
    means = calc_retrieval_metrics_rr(found, **how)
    metrics = time.perf_counter() - start
    start = time.perf_counter()
    calc_retrieval_metrics_rr(found, query_categories=np.arange(n) % 50, **how)
    return {
        "search": searched,
        "metrics": metrics,
        "metrics_by_category": time.perf_counter() - start,
        "means": {f"{name}@{k}": float(v) for name, by_k in means.items() for k, v in by_k.items()},
    }


def one_side(side: str, python: str, args: argparse.Namespace) -> dict:
    command = [python, __file__, "--side", side, "--n", str(args.n), "--dim", str(args.dim)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def environment(folder: str) -> str:
    """The interpreter of a fresh environment with OML."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = str(Path(folder, "bin", "python"))
    subprocess.run([python, "-m", "pip", "install", "-q", *OML], check=True)
    return python


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--oml", metavar="PYTHON", help="an interpreter that has open-metric-learning 4.0.0")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--n", type=int, default=60_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--side", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="smallest sizes: does everything run?")
    args = parser.parse_args()
    if args.quick:
        args = argparse.Namespace(**{**vars(args), **QUICK})
    if args.side:
        found = {"ours": ours, "theirs": theirs}[args.side](args.n, args.dim)
        # Linux counts in KiB, macOS in bytes.
        unit = 1 if sys.platform == "darwin" else 1024
        print(json.dumps({**found, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}))
        return
    with tempfile.TemporaryDirectory() as folder:
        sides = {"ours": sys.executable}
        if args.oml or not args.quick:
            sides["theirs"] = args.oml or environment(folder)
        rounds = [{side: one_side(side, python, args) for side, python in sides.items()} for _ in range(args.rounds)]

    def least(side: str, *names: str) -> float:
        return min(sum(both[side][name] for name in names) for both in rounds)

    def ratio(*names: str) -> float:
        return least("theirs", *names) / least("ours", *names)

    figures = {"n": args.n, "dim": args.dim}
    for side, ending in {"ours": "", "theirs": "_oml"}.items():
        if side in sides:
            figures |= {
                f"seconds_search{ending}": least(side, "search"),
                f"seconds_metrics{ending}": least(side, "metrics"),
                f"categories{ending}": least(side, "metrics_by_category") / least(side, "metrics"),
                f"peak_gb{ending}": max(both[side]["peak"] for both in rounds) / 1e9,
            }
    if "theirs" in sides:
        mine, other = rounds[0]["ours"]["means"], rounds[0]["theirs"]["means"]
        figures |= {
            "knn_ratio": ratio("search", "metrics"),
            "search_ratio": ratio("search"),
            "metrics_ratio": ratio("metrics"),
            "greatest_difference": max(abs(mine[name] - other[name]) for name in other),
        }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "heads.json")
        heads = [sys.executable, Path(__file__).with_name("heads.py"), "--json", file]
        subprocess.run([*heads, *(["--quick"] if args.quick else [])], check=True)
        figures["head_steps_ratio"] = json.loads(file.read_text())["head_steps_ratio"]
    for name, value in figures.items():
        print(f"{name:22} {value:,.4g}")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
