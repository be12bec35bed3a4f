"""How fast a store is read, written, opened, pushed and pulled, against plain numpy and a plain copy.

    python scripts/bench/store.py [--json FILE] [--dir DIR] [--rounds N] [--rows N] [--only read,write,…] [--quick]

Both sides of a ratio run in this one process, in turns; a ratio is the other side's least time over ours, so that 1
is as fast and 2 twice as fast. What is read was just written or read: the page cache is warm for both. Nothing is
said about cold disks. `open` runs in fresh processes; the imports are not counted, but shown."""

import argparse
import hashlib
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count as counter
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np

sys.path[0] = str(Path(__file__).resolve().parents[2])  # not this folder, where this file would hide the package

from bb.store import Collection, Entry, FeatureSpace, SegmentWriter, Store  # noqa: E402
from bb.store.files.filesystem import filesystem_of  # noqa: E402
from bb.store.local.segment import encode_segment  # noqa: E402

DIM = 768
BATCH = 256  # rows that a network gives at once
GATHERED = 20_000
WANTED = 36_000
SEGMENT_COUNTS = (100, 1_000, 10_000)
QUICK_COUNTS = (10, 20)
SMALL_ROWS, SMALL_DIM = 100, 8  # of the segments of a store of very many
QUICK = {"rows": 2_000, "rounds": 1}
PARTS = ("read", "gather", "write", "open", "push", "pull")

FRESH = """
import sys, time
start = time.perf_counter()
import polars
import bb.store.store
imported = time.perf_counter()
opened = bb.store.store.Store.open(sys.argv[1])
space = opened.space(sys.argv[2])
collection = opened.collections("pics")[0]
image_ids = collection.table["image_id"].to_list()
position = opened.rows(space).find(collection.digests(image_ids))
done = time.perf_counter()
assert len(position) == int(sys.argv[3]) and (position >= 0).all()
print(imported - start, done - imported)
"""


def make_space(dim: int) -> FeatureSpace:
    return FeatureSpace(
        org="timm",
        architecture={"name": "bench"},
        weights="0" * 64,
        view={},
        output={"kind": "img", "pooling": "cls", "dim": dim},
        numerics={"compute": "fp32", "stored": "float16"},
        code="0" * 40,
    )


def make_collection(n: int) -> Collection:
    ids = [f"{i:08d}.jpg" for i in range(n)]
    return Collection.from_entries("pics", [Entry(i, hashlib.sha256(i.encode()).digest(), 1, 8, 8) for i in ids])


def in_turns(rounds: int, **sides: Callable[[], float]) -> dict[str, float]:
    """The least seconds of each side, all run in turns so that whatever else the machine does strikes all."""
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            spent[name].append(side())
    return {name: min(times) for name, times in spent.items()}


def seconds(call: Callable[[], object]) -> float:
    """How long it takes; what it returns is freed afterwards."""
    start = time.perf_counter()
    result = call()
    spent = time.perf_counter() - start
    del result
    return spent


def write_ours(root: Path, space: FeatureSpace, collection: Collection, x: np.ndarray) -> None:
    """As extraction does: a batch at a time, with digests and everything synced."""
    writer = SegmentWriter(Store.create(root), space, {"backbone": "bench"})
    keys, ids = collection.all_digests(), [f"pics/{i}" for i in collection.table["image_id"]]
    for start in range(0, len(x), BATCH):
        rows = slice(start, start + BATCH)
        writer.add(keys[rows], ids[rows], x[rows])
    writer.close()


def write_numpy(path: Path, x: np.ndarray) -> None:
    with open(path, "wb") as file:
        np.save(file, x)
        file.flush()
        os.fsync(file.fileno())


def compare_local(folder: Path, parts: set[str], n: int, rounds: int) -> dict[str, float]:
    space, collection = make_space(DIM), make_collection(n)
    x = np.random.default_rng(0).normal(size=(n, DIM)).astype(np.float16)
    root, plain = folder / "s.bb", folder / "x.npy"
    figures: dict[str, float] = {"rows": n, "megabytes": x.nbytes / 1e6}

    def ours() -> float:
        shutil.rmtree(root, ignore_errors=True)
        os.sync()  # so that what was removed is not cleared away on our time
        return seconds(lambda: write_ours(root, space, collection, x))

    def numpys() -> float:
        plain.unlink(missing_ok=True)
        os.sync()
        return seconds(lambda: write_numpy(plain, x))

    if "write" in parts:
        least = in_turns(rounds, ours=ours, numpy=numpys)
        figures |= {"write_ratio": least["numpy"] / least["ours"]}
        figures |= {"write_s": least["ours"], "np_save_fsync_s": least["numpy"]}
        figures["sha256_gb_s"] = x.nbytes / 1e9 / min(seconds(lambda: hashlib.sha256(x)) for _ in range(3))
    else:
        ours(), numpys()
    figures["segments"] = len(Store.open(root).segment_digests(space))

    ids = collection.table["image_id"].to_list()
    known = Store.open(root)
    if "read" in parts:
        assert known.read(space, collection, ids).tobytes() == x.tobytes()
        least = in_turns(
            3 * rounds,
            ours=lambda: seconds(lambda: known.read(space, collection, ids)),
            opening=lambda: seconds(lambda: Store.open(root).read(space, collection, ids)),
            numpy=lambda: seconds(lambda: np.load(plain)),
        )
        figures |= {"read_ratio": least["numpy"] / least["ours"]}
        figures |= {"read_opening_ratio": least["numpy"] / least["opening"]}
        figures |= {"read_s": least["ours"], "read_opening_s": least["opening"], "np_load_s": least["numpy"]}
    if "gather" in parts:
        chosen = np.random.default_rng(1).permutation(n)[: min(n, GATHERED)]
        some = [ids[i] for i in chosen]
        assert known.read(space, collection, some).tobytes() == x[chosen].tobytes()
        digests = collection.digests(some)

        def gather() -> np.ndarray:
            rows = known.rows(space)
            return rows.gather(rows.find(digests), space.array)

        least = in_turns(
            3 * rounds,
            ours=lambda: seconds(gather),
            opening=lambda: seconds(lambda: Store.open(root).read(space, collection, some)),
            numpy=lambda: seconds(lambda: np.array(np.load(plain, mmap_mode="r")[chosen])),
        )
        figures |= {
            "gather_ratio": least["numpy"] / least["ours"],
            "gather_opening_ratio": least["numpy"] / least["opening"],
        }
        figures |= {"gather_s": least["ours"], "gather_opening_s": least["opening"], "memmap_gather_s": least["numpy"]}
    return figures


def compare_open(folder: Path, rounds: int, counts: tuple[int, ...]) -> dict[str, float]:
    """Seconds from a fresh process's imports to the rows of 36,000 images, by number of segments."""
    figures: dict[str, float] = {}
    space, root = make_space(SMALL_DIM), folder / "many.bb"
    store = Store.create(root)
    store.put_space(space)
    segments = root / "spaces" / space.key / "segments"
    everything = make_collection(SMALL_ROWS * max(counts))
    keys, ids = everything.all_digests(), everything.table["image_id"].to_list()
    x = np.zeros((SMALL_ROWS, SMALL_DIM), np.float16)
    laid = 0
    for count in counts:
        for i in range(laid, count):  # laid as put_segment does, but unsynced: a million syncs take an hour
            rows = slice(i * SMALL_ROWS, (i + 1) * SMALL_ROWS)
            digest, objects = encode_segment(space, keys[rows], [f"pics/{name}" for name in ids[rows]], x, {})
            for path, data in objects.items():
                (segments / digest / path).parent.mkdir(parents=True, exist_ok=True)
                (segments / digest / path).write_bytes(data)
        laid = count
        shutil.rmtree(root / "collections", ignore_errors=True)
        take = np.random.default_rng(2).permutation(count * SMALL_ROWS)[:WANTED]
        wanted = [Entry(ids[i], keys[i].tobytes(), 1, 8, 8) for i in take]
        store.put_collection(Collection.from_entries("pics", wanted))
        arguments = [sys.executable, "-c", FRESH, str(root), space.key, str(len(wanted))]
        shutil.rmtree(root / "index", ignore_errors=True)
        first = fresh(arguments)
        later = [fresh(arguments) for _ in range(max(3, rounds))]
        figures |= {
            f"open_{count}_s": min(run[1] for run in later),
            f"open_first_{count}_s": first[1],
            f"index_{count}_mb": sum(p.stat().st_size for p in (root / "index").rglob("*.rows")) / 1e6,
        }
        figures["import_s"] = min(run[0] for run in later)
    return figures


def fresh(arguments: list[str]) -> list[float]:
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    return [float(figure) for figure in done.stdout.split()]


@contextmanager
def s3_server() -> Iterator[str]:
    """The URL of moto's S3 server on loopback, which has a bucket `bench`; the environment leads there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.environ |= {"AWS_ENDPOINT_URL": url, "AWS_REGION": "us-east-1"}
    os.environ |= {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}
    try:
        while True:  # a busy machine takes its time
            assert server.poll() is None, "moto's server ended"
            try:
                urlopen(Request(f"{url}/bench", method="PUT"))
                break
            except OSError:
                time.sleep(0.1)
        yield url
    finally:
        server.terminate()
        server.wait()


def compare_moves(folder: Path, parts: set[str], n: int, rounds: int) -> dict[str, float]:
    """Push and pull against putting and getting the same files from as many threads, to and from one server."""
    from obstore.store import S3Store

    from bb.store.storage.url import open_place
    from bb.store.sync.plan import JOBS, plan_pull, plan_push
    from bb.store.sync.selection import Selection
    from bb.store.sync.transfer import pull, push

    root, collection = folder / "moved.bb", make_collection(n)
    x = np.random.default_rng(0).normal(size=(n, DIM)).astype(np.float16)
    write_ours(root, make_space(DIM), collection, x)
    Store.open(root).put_collection(collection)
    shared = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    shared = [path for path in shared if path.partition("/")[0] not in ("local", "tmp", "index")]
    number = counter()

    def plain(prefix: str) -> S3Store:
        options = {"allow_http": True}
        return S3Store("bench", prefix=prefix, endpoint=url, client_options=options, virtual_hosted_style_request=False)

    def put_all() -> None:
        there = plain(f"plain{next(number)}")
        with ThreadPoolExecutor(JOBS) as pool:
            list(pool.map(lambda path: there.put(path, root / path), shared))

    def get_all() -> None:
        there, target = plain("whole"), folder / f"plain{next(number)}"

        def get(path: str) -> None:
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (target / path).write_bytes(there.get(path).bytes())

        with ThreadPoolExecutor(JOBS) as pool:
            list(pool.map(get, shared))

    def push_all(prefix: str) -> None:
        outcome = push(plan_push(root, open_place(f"s3://bench/{prefix}"), Selection()))
        assert outcome.n_bytes >= x.nbytes and not outcome.faults

    def pull_all() -> None:
        outcome = pull(plan_pull(open_place("s3://bench/whole"), folder / f"pulled{next(number)}", Selection()))
        assert outcome.n_bytes >= x.nbytes and not outcome.faults

    figures: dict[str, float] = {}
    with s3_server() as url:
        push_all("whole")
        if "push" in parts:
            least = in_turns(
                rounds, ours=lambda: seconds(lambda: push_all(f"ours{next(number)}")), plain=lambda: seconds(put_all)
            )
            figures |= {"push_ratio": least["plain"] / least["ours"], "push_s": least["ours"], "put_s": least["plain"]}
        if "pull" in parts:
            least = in_turns(rounds, ours=lambda: seconds(pull_all), plain=lambda: seconds(get_all))
            figures |= {"pull_ratio": least["plain"] / least["ours"], "pull_s": least["ours"], "get_s": least["plain"]}
    return figures | {"moved_megabytes": x.nbytes / 1e6, "moved_files": len(shared)}


SAID = {
    "read": "Store.read of all image IDs, in an open store, against np.load; opening: and Store.open; page cache warm",
    "gather": f"{GATHERED} random image digests in an open store against indexing numpy's memory map; opening: by IDs",
    "write": f"SegmentWriter, {BATCH} rows at a time, digests and fsync, against np.save and fsync",
    "open": f"fresh process opens, finds {WANTED} images of a collection; segments of {SMALL_ROWS} rows; warm",
    "push": "all rows to moto's S3 server, planned and checked, against putting the files by as many threads",
    "pull": "the same back, planned, checked and synced, against getting the files",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as one flat object")
    parser.add_argument("--dir", type=Path, help="where to make the stores (default: the system's temporary folder)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--only", default=",".join(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="smallest sizes: does everything run?")
    options = parser.parse_args()
    if options.quick:
        options = argparse.Namespace(**{**vars(options), **QUICK})
    parts = set(options.only.split(","))
    if parts - set(PARTS):
        parser.error(f"--only takes {', '.join(PARTS)}")

    figures: dict[str, float | str] = {"machine": platform.processor() or platform.machine()}
    with tempfile.TemporaryDirectory(dir=options.dir) as name:
        kind = filesystem_of(Path(name))
        figures |= {"file_system": kind.name if kind else "unknown", "cores": os.cpu_count() or 1}
        if parts & {"push", "pull"}:
            figures |= compare_moves(Path(name), parts, options.rows, options.rounds)
        if parts & {"read", "gather", "write"}:
            figures |= compare_local(Path(name), parts, options.rows, options.rounds)
        if "open" in parts:
            figures |= compare_open(Path(name), options.rounds, QUICK_COUNTS if options.quick else SEGMENT_COUNTS)
    for part in sorted(parts):
        print(f"{part}: {SAID[part]}")
    for key, value in figures.items():
        print(f"{key:24} {value:.4g}" if isinstance(value, float) else f"{key:24} {value}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
