"""Search by text over stored features: `python scripts/bench/text.py [--quick] [--json FILE]`.

Synthetic: n images of 512 float16 in a store, and 20 queries whose vectors are stored. The other side is the plain way
of NumPy: all rows as float32 unit vectors in memory, one product with the queries, a sort. Each side runs in a process
of its own, so its memory is its own; both with two threads.

search_cpu_seconds, search_seconds, search_mb   the 20 queries, from opening the store to the 50 best images of each
numpy_cpu_seconds, numpy_seconds, numpy_mb      the same by NumPy, from the same store
differing           of the 20 × 50 places, those with another image
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)  # not this folder, where store.py would hide the package
DIM, QUERIES, BEST = 512, 20, 50


def make(folder: Path, n: int) -> None:
    import numpy as np

    from bb.store import Store
    from tests.helpers.texts import image_space, put_images, put_texts, texts_for

    rng = np.random.default_rng(0)
    x = np.empty((n, DIM), np.float32)
    for start in range(0, n, 50_000):
        x[start : start + 50_000] = rng.standard_normal((min(50_000, n - start), DIM), dtype=np.float32)
    store, space = Store.create(folder / "s.bb"), image_space(DIM, numerics={"compute": "fp32", "stored": "float16"})
    put_images(store, space, x, [f"{i:07d}.jpg" for i in range(n)], dtype=np.float16)
    w = rng.standard_normal((QUERIES, DIM))
    put_texts(store, texts_for(space), {f"query {q}": f"query {q}" for q in range(QUERIES)}, w)


def by_bb(folder: Path) -> list[list[str]]:
    from bb.probe.text.search import Gallery, query_vectors
    from bb.store import Store

    gallery = Gallery.find(Store.open(folder / "s.bb"), "pics")
    _, w = query_vectors(gallery, [f"query {q}" for q in range(QUERIES)], text_space=None, encode=None)
    places, _ = gallery.nearest(w, BEST)
    ids = gallery.collection.table["image_id"]
    return [ids[place].to_list() for place in places]


def by_numpy(folder: Path) -> list[list[str]]:
    import numpy as np

    from bb.store import Store

    store = Store.open(folder / "s.bb")
    text = next(space for space in store.spaces() if space.org == "text")
    ids, features = store.features("open_clip:Tiny/untrained", "pics")
    names, texts = store.features(data="texts.birds", space=text.key)
    x = np.asarray(features, np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    w = np.asarray(texts)[[list(names).index(f"query {q}") for q in range(QUERIES)]]
    best = np.argsort(-(w @ x.T), axis=1, kind="stable")[:, :BEST]
    return [[ids[i] for i in row] for row in best]


SIDES = {"search": by_bb, "numpy": by_numpy}


def side(name: str, folder: Path) -> dict:
    """Run in a process of its own: what it found, its seconds and the most memory that it had."""
    import time

    from threadpoolctl import threadpool_limits

    with threadpool_limits(2, "blas"):
        start, used = time.perf_counter(), time.process_time()
        found = SIDES[name](folder)
        seconds, used = time.perf_counter() - start, time.process_time() - used
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    # Not getrusage, whose maximum a process inherits from the one that started it.
    return {"found": found, "seconds": seconds, "cpu_seconds": used, "mb": int(status["VmHWM"].split()[0]) / 1024}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        print(json.dumps(side(given.side, given.folder)))
        return
    n = given.rows or (5_000 if given.quick else 1_000_000)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), n)
        for name in SIDES:
            words = [sys.executable, __file__, "--side", name, "--folder", folder]
            done = subprocess.run(words, capture_output=True, text=True, check=True, env={**os.environ})
            found[name] = json.loads(done.stdout.splitlines()[-1])
    differing = sum(
        a != b
        for mine, theirs in zip(found["search"]["found"], found["numpy"]["found"], strict=True)
        for a, b in zip(mine, theirs, strict=True)
    )
    figures = {
        f"{name}_{what}": round(found[name][what], 3) for name in SIDES for what in ("seconds", "cpu_seconds", "mb")
    }
    whole = {"rows": n, **figures, "differing": differing}
    print(json.dumps(whole, indent=1))
    if given.json:
        given.json.write_text(json.dumps(whole))


if __name__ == "__main__":
    main()
