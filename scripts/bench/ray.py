"""Ray with two workers against one process, on two cores: images a second, from the files to the features.

    python scripts/bench/ray.py [--json FILE] [--images 4000] [--rounds 3] [--quick]          (about 4 minutes)

Both sides embed the same generated photographs (500 × 375, JPEG, smooth noise) with one small network into a store of
their own, in turns; a side's best round counts. Clocked is the middle of a run, without the first and the last 512
images: there no stage waits for another to begin, and as much lies ready between them at the end as at the beginning.
What Ray costs before (its processes, torch imported by each worker) is told beside it. `ray_ratio` is Ray's images a
second over one process's, `ray_processor_ratio` the processor seconds that one process spends on an image over those
that all processes with Ray do, which a busy machine disturbs less.
"""

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)  # not this folder, where ray.py would hide the library
os.environ["PYTHONPATH"] = str(ROOT)  # of Ray's workers

import numpy as np  # noqa: E402
from PIL import Image, ImageFilter  # noqa: E402

from bb.cluster.engine import Resources  # noqa: E402
from bb.cluster.extract_driver import ClusterWork, stream  # noqa: E402
from bb.cluster.ray import Cluster, connected  # noqa: E402
from bb.extract.backbones.decoders import find_decoder  # noqa: E402
from bb.extract.backbones.device import Numerics  # noqa: E402
from bb.extract.backbones.name import BackboneName  # noqa: E402
from bb.extract.data.scan import HashMemory, Scan, find_images, scan  # noqa: E402
from bb.extract.embedding.decoder import DecodeOptions  # noqa: E402
from bb.extract.pipeline.embed import BackboneWork, embed  # noqa: E402
from bb.extract.pipeline.extractor import Extractor  # noqa: E402
from bb.store import Store  # noqa: E402

BACKBONE = "timm:test_vit/untrained"
EDGE = 512  # images at each end that are not clocked, but no more than a quarter of all
QUICK = {"images": 96, "rounds": 1}


class Clock:
    """Seconds an image, of the clock and of processors, in the middle of a run."""

    def __init__(self, images: int) -> None:
        self.images, self.edge = images, min(EDGE, images // 4)
        self.marks: list[tuple[int, float, float]] = []

    def __call__(self, done: int) -> None:
        if (not self.marks and done >= self.edge) or (len(self.marks) == 1 and done >= self.images - self.edge):
            self.marks.append((done, time.perf_counter(), processor_seconds()))

    def each(self) -> tuple[float, float]:
        (done, began, spent), (done_then, ended, spent_then) = self.marks
        return (ended - began) / (done_then - done), (spent_then - spent) / (done_then - done)


def processor_seconds() -> float:
    """Of this process and all that came of it, as /proc has them."""
    spent: dict[int, float] = {}
    parent: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        pid = int(path.parent.name)
        parent[pid], spent[pid] = int(fields[1]), int(fields[11]) + int(fields[12])
    ours = more = {os.getpid()}
    while more:
        more = {pid for pid, above in parent.items() if above in ours} - ours
        ours |= more
    return sum(spent[pid] for pid in ours) / os.sysconf("SC_CLK_TCK")


def make_photographs(folder: Path, n: int) -> Scan:
    """Smooth noise of a photograph's size; about 40 kB each."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(n):
        small = Image.fromarray(rng.integers(0, 255, (94, 125, 3), dtype=np.uint8))
        picture = small.resize((500, 375), Image.Resampling.BICUBIC).filter(ImageFilter.SHARPEN)
        picture.save(folder / f"{i:05d}.jpg", quality=85)
    return scan(find_images(folder), HashMemory.open(None))


def one_process(store: Store, extractor: Extractor, found: Scan, clock: Callable[[int], None]) -> None:
    """As `bb extract` does it."""
    embed(
        store, [BackboneWork(extractor, found.entries)], "noise", found,
        progress=lambda outcomes, images: clock(images),
    )  # fmt: skip


def on_ray(store: Store, extractor: Extractor, found: Scan, cluster: Cluster, clock: Callable[[int], None]) -> None:
    """As `bb extract --on ray` does it."""
    work = ClusterWork.of(store, [extractor], {"noise": found})
    stream(work, cluster, "cpu", stop=lambda: False, progress=lambda done, total: clock(done), say=print)
    assert not work.features(work.absent())


def measure(images: int, rounds: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = make_photographs(folder / "images", images)
        numerics = Numerics.resolve("cpu")
        extractor = Extractor.load(
            BackboneName.parse(BACKBONE), find_decoder(DecodeOptions(), numerics.device), numerics,
            patch=False, batch_size=None, compile=False,
        )  # fmt: skip
        ones: list[tuple[float, float]] = []
        rays: list[tuple[float, float]] = []
        wait: list[float] = []
        began = time.perf_counter()
        with connected(None, Resources(workers=2)) as cluster:
            up = time.perf_counter() - began
            for number in range(rounds):
                clock = Clock(images)
                one_process(Store.create(folder / f"one{number}.bb"), extractor, found, clock)
                ones.append(clock.each())
                clock, began = Clock(images), time.perf_counter()
                on_ray(Store.create(folder / f"ray{number}.bb"), extractor, found, cluster, clock)
                rays.append(clock.each())
                wait.append(clock.marks[0][1] - began)
                words = (
                    f"{1 / wall:.0f} images/s ({1000 * spent:.2f} processor ms each)"
                    for wall, spent in (ones[-1], rays[-1])
                )
                print("one process {}, Ray {}".format(*words), flush=True)
    one, ray = min(ones), min(rays)
    return {
        "ray_ratio": one[0] / ray[0],
        "ray_processor_ratio": min(spent for _, spent in ones) / min(spent for _, spent in rays),
        "one_process_images_per_s": 1 / one[0],
        "ray_images_per_s": 1 / ray[0],
        "ray_up_s": up,
        "ray_first_512_images_s": min(wait),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as one flat object")
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="smallest sizes: does everything run?")
    options = parser.parse_args()
    if options.quick:
        options = argparse.Namespace(**{**vars(options), **QUICK})
    logging.disable(logging.WARNING)
    figures = measure(options.images, options.rounds)
    for name, value in figures.items():
        print(f"{name:>26} {value:.3f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
