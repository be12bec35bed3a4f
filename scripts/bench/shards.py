"""What it costs that images lie in shards: the first pass, and reading, against the same images in a folder.

    python scripts/bench/shards.py [--json FILE] [--images N] [--bytes N] [--latency SECONDS] [--quick]

Files of noise of a photograph's size, in a folder, in tar archives and in tables, on disk and on a web server on this
machine that waits before each answer. Both sides of a ratio are interleaved, three times; the best of each counts. All
is in the page cache. Peak memory is that of a process which makes the first pass alone."""

import argparse
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)  # not this folder, where store.py would hide the package

from bb.extract.data.scan import HashMemory, Scan, find_images, scan  # noqa: E402
from bb.extract.data.shards import find_shards, scan_shards  # noqa: E402
from bb.extract.data.source_spec import parse_root  # noqa: E402

PER_SHARD = 1000
QUICK = {"images": 20, "bytes": 2_000, "latency": 0.001}
KINDS = {"folder": "", "tar": "*.tar", "table": "*.parquet"}


def write(folder: Path, images: int, size: int) -> None:
    rng = np.random.default_rng(0)
    (folder / "folder").mkdir()
    for shard in range(-(-images // PER_SHARD)):
        rows = []
        with tarfile.open(folder / f"{shard:04d}.tar", "w") as tar:
            for i in range(shard * PER_SHARD, min(images, (shard + 1) * PER_SHARD)):
                name, data = f"{i:08d}.jpg", rng.bytes(size)
                (folder / "folder" / name).write_bytes(data)
                info = tarfile.TarInfo(name)
                info.size = size
                tar.addfile(info, io.BytesIO(data))
                rows.append({"bytes": data, "path": name})
        pl.DataFrame({"image": rows}).write_parquet(
            folder / f"{shard:04d}.parquet", row_group_size=100, compression="snappy"
        )


def first_pass(folder: str, kind: str) -> Scan:
    memory = HashMemory.open(None)
    if kind == "folder":
        return scan(find_images(Path(folder) / "folder"), memory)
    root = parse_root(f"{folder}/{KINDS[kind]}")
    return scan_shards(find_shards(root), memory)  # type: ignore[arg-type]


def read(found: Scan) -> None:
    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(lambda source: len(source.read()), found.sources.values()):
            pass


def peak(folder: str, kind: str) -> float:
    """MiB of a process that makes the first pass, over one that only imports."""

    def mib(*words: str) -> float:
        done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=True)
        return float(done.stdout) / 1024

    return mib("--peak", folder, kind) - mib("--peak", folder, "")


def best(work: dict[str, object]) -> dict[str, float]:
    """Seconds of each, the best of three, interleaved."""
    seconds = {name: float("inf") for name in work}
    for _ in range(3):
        for name, call in work.items():
            start = time.perf_counter()
            call()  # type: ignore[operator]
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as one flat object")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--bytes", type=int, default=50_000)
    parser.add_argument("--latency", type=float, default=0.03, help="seconds that the web server waits")
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="smallest sizes: does everything run?")
    options = parser.parse_args()
    if options.quick:
        options = argparse.Namespace(**{**vars(options), **QUICK})
    if options.peak:
        if options.peak[1]:
            first_pass(*options.peak)
        # What getrusage says would begin with the parent's.
        print(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])  # type: ignore[index]
        return
    figures: dict[str, float] = {"images": options.images, "bytes": options.bytes, "latency_s": options.latency}
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), options.images, options.bytes)
        passes = best({kind: lambda kind=kind: first_pass(folder, kind) for kind in KINDS})
        scans = {kind: first_pass(folder, kind) for kind in KINDS}
        reads = best({kind: lambda kind=kind: read(scans[kind]) for kind in KINDS})
        for kind in KINDS:
            figures[f"first_pass_{kind}_images_per_s"] = options.images / passes[kind]
            figures[f"read_{kind}_images_per_s"] = options.images / reads[kind]
            figures[f"peak_{kind}_mib"] = peak(folder, kind)
        figures |= over_http(Path(folder), options)
    for name, value in figures.items():
        print(f"{name:>32} {value:,.2f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def over_http(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    from tests.helpers.servers import Asked, Fault, proxy_to, serving, static

    def wait(request: Asked, number: int) -> Fault:
        return Fault(stall=options.latency)

    figures = {}
    with serving(static(folder)) as url, proxy_to(url) as proxy:
        count = min(5, -(-options.images // PER_SHARD))
        for kind, ending in (("tar", "tar"), ("table", "parquet")):
            root = parse_root("::".join(f"{proxy.url}/{i:04d}.{ending}" for i in range(count)))
            found = scan_shards(find_shards(root), HashMemory.open(None))  # type: ignore[arg-type]
            proxy.rule = wait
            before, start = len(proxy.asked), time.perf_counter()
            read(found)
            seconds = time.perf_counter() - start
            proxy.rule = lambda request, number: None
            figures[f"read_{kind}_http_images_per_s"] = len(found.entries) / seconds
            figures[f"read_{kind}_http_images_per_request"] = len(found.entries) / max(1, len(proxy.asked) - before)
    return figures


if __name__ == "__main__":
    main()
