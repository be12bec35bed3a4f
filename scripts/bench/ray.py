"""Ray with two workers against one process, on two cores: images a second of the whole stream, decoding and all.

    python scripts/bench/ray.py [--images 3000] [--rounds 3] [--json FILE]          (about 6 minutes)

Both sides embed the same generated photographs (500 × 375, JPEG) with one small network into a store of their own. What
is compared is the work: from the first image to the last segment, once networks are built and workers are up, as
`bb extract` has them after its first batch; starting Ray and importing torch on its workers is told beside it. The
sides take turns, and the ratio is that of their best rounds. `ray_ratio` is one process's seconds over Ray's.
"""

import argparse
import json
import logging
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from extract.collection import HashMemory, Scan, find_images, scan
from extract.decoder import find_decoder
from extract.device import Numerics
from extract.extractor import Extractor
from extract.name import BackboneName
from extract.spread import Work, plant
from store import Store
from store.cluster.engine import Resources
from store.cluster.ray import Cluster, connected
from store.cluster.stream import Stream

BACKBONE = "timm:test_vit/untrained"
WARM = 256  # images before the clock is started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        found = make_photographs(work / "images", options.images)
        numerics = Numerics.resolve("cpu")
        extractor = Extractor.load(
            BackboneName.parse(BACKBONE), find_decoder("auto", numerics.device), numerics,
            patch=False, batch_size=None, compile=False,
        )  # fmt: skip
        began = time.perf_counter()
        with connected(None, Resources(workers=2)) as cluster:
            up = time.perf_counter() - began
            ones: list[float] = []
            rays: list[float] = []
            for number in range(options.rounds):
                ones.append(one_process(Store.create(work / f"one{number}.bb"), extractor, found))
                rays.append(on_ray(Store.create(work / f"ray{number}.bb"), extractor, found, cluster))
                print(f"one process {ones[-1]:.2f} s, Ray {rays[-1]:.2f} s", flush=True)
    ratio = min(ones) / min(rays)
    figures = {
        "ray_ratio": ratio,
        "one_process_images_per_s": options.images / min(ones),
        "ray_images_per_s": (options.images - WARM) / (min(rays) * (options.images - WARM) / options.images),
        "ray_up_s": up,
    }
    print("\n".join(f"{name}: {value:.3f}" for name, value in figures.items()))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def make_photographs(folder: Path, n: int) -> Scan:
    """Smooth noise of a photograph's size; about 40 kB each."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(n):
        small = Image.fromarray(rng.integers(0, 255, (94, 125, 3), dtype=np.uint8))
        picture = small.resize((500, 375), Image.Resampling.BICUBIC).filter(ImageFilter.SHARPEN)
        picture.save(folder / f"{i:05d}.jpg", quality=85)
    return scan(find_images(folder), HashMemory.open(None))


def one_process(store: Store, extractor: Extractor, found: Scan) -> float:
    """Seconds of what `bb extract` does after its network is built, for all images."""
    from extract.embed import Work as Share
    from extract.embed import embed

    work = [Share.of(store, extractor, found.entries)]
    began = time.perf_counter()
    embed(store, work, "noise", found)
    return time.perf_counter() - began


def on_ray(store: Store, extractor: Extractor, found: Scan, cluster: Cluster) -> float:
    """Seconds of the stream for as many images, at the rate that it has once the first have been through."""
    work = Work.of(store, [extractor], {"noise": found})
    absent = work.absent()
    load, made_by = plant(work, cluster, 2, "cpu", len(found.entries))
    done, began, before = 0, 0.0, 0

    def hear(told: object) -> None:
        nonlocal done, began, before
        done += told.computed  # type: ignore[attr-defined]
        if not began and done >= WARM:
            began, before = time.perf_counter(), done

    Stream(cluster, load, made_by.open, 2, hear).run(work.pieces(absent, 32))
    seconds = time.perf_counter() - began
    assert not work.features(work.absent())
    return seconds * len(found.entries) / (done - before)


if __name__ == "__main__":
    main()
