"""`bb bench` on a board of true sizes: `python scripts/bench/board.py [--quick] [--json FILE] [--keep DIR]`.

10 backbones x 13 families of about the published families' size, images up to 50,000 in all, of synthetic features of
d = 768: a class mean and noise, more of it for each backbone. Each is scored by the --protocols, and families of up to
--logistic classes by dinov2-logreg too. Two processes of one BLAS thread each.

board_seconds          wall time of `bb.probe.bench`, page included; board_hours the same in hours
board_cpu_hours        CPU time of all its processes; board_cpu_seconds the same in seconds
board_runs             runs that it made; board_failed those that failed
share_PROTOCOL         part of all runs' seconds that the runs of a protocol took, fitting and predicting
again_seconds          the same call once more, which makes no run; again_fresh is how many it made
page_kb                the page
load_before            load average when it was begun: the machine may be shared
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])  # not this folder, where store.py would hide the package

# Images that are trained on and tested, and classes: about those of the families of biobench's board, of larger ones as
# many as 50,000 images leave. NeWT's are 164 tasks of two classes.
FAMILIES = {
    "beluga": (2_950, 2_950, 788),
    "ecdysis": (40_000, 10_000, 700),
    "fishnet": (37_500, 12_500, 463),
    "fungiclef2023": (41_000, 9_000, 1_604),
    "herbarium19": (34_225, 2_679, 683),
    "imagenet1k": (25_000, 25_000, 1_000),
    "inat21": (41_600, 8_400, 10_000),
    "iwildcam": (37_500, 12_500, 182),
    "kabr": (10_000, 2_500, 8),
    "mammalnet": (12_500, 6_250, 12),
    "newt": (16_400, 19_680, 328),
    "plankton": (25_000, 25_000, 50),
    "plantnet": (44_000, 6_000, 1_081),
}
QUICK = {"kabr": (300, 100, 8), "newt": (200, 200, 10), "plankton": (400, 200, 20)}
PROTOCOLS = "biobench-simpleshot,dinov2-knn,bigvision-fewshot"


def make_store(place: Path, families, backbones: int, d: int) -> None:
    """A store with a collection for each family, and beside it a table of labels for each."""
    import numpy as np
    import polars as pl

    from bb.store import Collection, Entry, Store
    from bb.store.imported import import_features

    store, rng = Store.create(place), np.random.default_rng(0)
    for name, (trained, tested, classes) in families.items():
        n = trained + tested
        y = np.r_[np.arange(trained) % classes, rng.integers(0, classes, tested)]
        ids = [f"{name}/{i:06d}.jpg" for i in range(n)]
        keys = [sha256(image_id.encode()).digest() for image_id in ids]
        store.put_collection(
            Collection.from_entries(name, [Entry(i, key, 1, 8, 8) for i, key in zip(ids, keys, strict=True)])
        )
        means = rng.standard_normal((classes, d), dtype=np.float32)
        noise = rng.standard_normal((n, d), dtype=np.float32)
        digests = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 32)
        for b in range(backbones):
            own = rng.standard_normal((n, d), dtype=np.float32)
            x = means[y] + (4 + 0.25 * b) * (0.8 * noise + 0.6 * own)
            import_features(store, x.astype(np.float16), digests, ids, name=f"lab:network{b}", collection=name)
        split = ["train"] * trained + ["test"] * tested
        table = pl.DataFrame({"image_id": ids, "label": [f"class {k:05d}" for k in y], "split": split})
        if name == "newt":
            table = table.with_columns(task=pl.Series([f"task {k // 2:03d}" for k in y]))
        table.write_csv(place.parent / f"{name}.csv")


def plan_of(families, folder: Path, protocols) -> dict:
    return {
        "title": "thirteen families, synthetic features",
        "protocols": list(protocols),
        "families": {name: {"labels": str(folder / f"{name}.csv")} for name in families},
    }


def cpu() -> float:
    """Seconds of this process and those that it has waited for."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def measure(folder: Path, families, backbones: int, protocols, logistic: int, jobs: int) -> dict[str, float]:
    from joblib.externals.loky import get_reusable_executor

    from bb import probe
    from bb.store import Store

    store = Store.open(folder / "features.bb")
    plans = [plan_of(families, folder, protocols)]
    few = [name for name, (*_, classes) in families.items() if classes <= logistic]
    if few:
        plans.append(plan_of(few, folder, ["dinov2-logreg"]))
    load, before, start = os.getloadavg()[0], cpu(), time.perf_counter()
    found = [probe.bench(plan, store, jobs=jobs) for plan in plans]
    (folder / "board.html").write_text(found[0].page(), encoding="utf-8")
    took = time.perf_counter() - start
    get_reusable_executor().shutdown(wait=True)  # its processes' time counts once they have ended
    spent = cpu() - before
    again = time.perf_counter()
    fresh = sum(len(probe.bench(plan, store, jobs=jobs).fresh) for plan in plans)
    runs = {run.run_id: run for each in found for of_family in each.runs.values() for run in of_family}
    seconds: dict[str, float] = {}
    for run in runs.values():
        kind = run.record["published"]["name"]
        seconds[kind] = seconds.get(kind, 0.0) + run.record["provenance"]["seconds"]
    total = sum(seconds.values())
    return {
        "board_seconds": took,
        "board_hours": took / 3600,
        "board_cpu_hours": spent / 3600,
        "board_cpu_seconds": spent,
        "board_runs": len(runs),
        "board_failed": sum(len(each.failed) for each in found),
        **{f"share_{kind.replace('-', '_')}": each / total for kind, each in sorted(seconds.items())},
        "again_seconds": time.perf_counter() - again,
        "again_fresh": fresh,
        "page_kb": (folder / "board.html").stat().st_size / 1e3,
        "load_before": load,
        "backbones": backbones,
        "families": len(families),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three small families, two backbones: that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where store and page stay; what is there is used")
    parser.add_argument("--backbones", type=int, default=10)
    parser.add_argument("--families", metavar="NAMES", help="only these, with commas; not with --quick")
    parser.add_argument("--protocols", default=PROTOCOLS, help="names, with commas")
    parser.add_argument("--logistic", type=int, default=12, help="most classes of a family for logistic regression")
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    asked = args.families.split(",") if args.families else list(FAMILIES)
    if unknown := set(asked) - set(FAMILIES):
        parser.error(f"--families {', '.join(sorted(unknown))}: unknown; there are {', '.join(FAMILIES)}")
    families, backbones, d = {name: FAMILIES[name] for name in asked}, args.backbones, 768
    if args.quick:
        families, backbones, d = QUICK, 2, 48
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "features.bb").exists():
            make_store(folder / "features.bb", families, backbones, d)
        figures = measure(folder, families, backbones, args.protocols.split(","), args.logistic, args.jobs)
    for name, value in figures.items():
        print(f"{name:20} {value:,.4g}", flush=True)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
