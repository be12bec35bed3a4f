"""Extraction beside the loop that everybody writes: `python scripts/bench/extract.py --photographs DIR [--json FILE]`.

The forerunner is that loop: a DataLoader with two workers, Pillow and the backbone's own transform, batches of 16,
autocast, features kept in memory; torch has one thread or all cores, whichever is quicker. Photographs are repeated with a comment of their own in
each file, so that each is another image to bb. Sides take turns, and the least time of each counts, since the machine
has other work too; a store is new each time.

decode_bound_ratio   images per second of bb over those of the forerunner, with a tiny network
forward_bound_ratio  the same with a network that takes most of the time
four_models_ratio    time of the first two, three and four small networks in one command, over that of the first alone
writer_overhead      time of a run over that of one whose writer does nothing, less 1
ray_ratio            two Ray workers over one process on two cores (scripts/bench/ray.py)
rerun_36000_s        seconds of a run on a complete store beyond importing torch and building the backbone (rerun.py)
peak_gb, peak_gb_10000   peak memory of a process that embeds 100,000 generated images, and a tenth of them
processor_ratio_…    the first two in processor seconds, which other work disturbs less
"""

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

sys.path[0] = str(Path(__file__).resolve().parents[2])  # not this folder, where store.py would hide the package

import extract.embed  # noqa: E402
from extract.backbone import load  # noqa: E402
from extract.collection import HashMemory, Scan, find_images, scan  # noqa: E402
from extract.decoder import find_decoder  # noqa: E402
from extract.device import Numerics  # noqa: E402
from extract.embed import Plan, Work, embed  # noqa: E402
from extract.extractor import Extractor  # noqa: E402
from extract.name import BackboneName  # noqa: E402
from store import Store  # noqa: E402

TINY = "timm:test_vit/untrained"
SMALL = [TINY, "timm:test_vit2/untrained", "timm:test_vit3/untrained", "timm:test_efficientnet/untrained"]
LARGE = "timm:vit_small_patch16_224/untrained"
BATCH, WORKERS = 16, 2


# The forerunner


class Photographs(Dataset):
    def __init__(self, files, transform):
        self.files, self.transform = files, transform

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        return self.transform(Image.open(self.files[i]).convert("RGB"))


def forerunner(files: list[Path], backbone: Any, numerics: Numerics, threads: int) -> int:
    torch.set_num_threads(threads)
    loader = DataLoader(Photographs(files, backbone.make_img_transform()), batch_size=BATCH, num_workers=WORKERS)
    kept = []
    with torch.inference_mode(), numerics.autocast():
        for pixels in loader:
            kept.append(backbone.img_encode(pixels.to(numerics.device)).img_features.float().cpu())
    return len(torch.cat(kept))


# bb


@dataclass
class Bench:
    """What all measurements need."""

    root: Path
    found: Scan
    numerics: Numerics
    decode: str
    stores: int = 0
    made: dict[str, Extractor] = field(default_factory=dict)

    def extractor(self, name: str) -> Extractor:
        if name not in self.made:
            decoder = find_decoder(self.decode, self.numerics.device)
            parsed = BackboneName.parse(name)
            self.made[name] = Extractor.load(
                parsed, decoder, self.numerics, patch=False, batch_size=None, compile=False
            )
        return self.made[name]

    def bb(self, names: list[str], n: int) -> int:
        """Embeds the first n images with these networks into a store of its own."""
        self.stores += 1
        store = Store.create(self.root / f"{self.stores}.bb")
        work = [Work(e, Plan.make(store, e.spaces, self.found.entries[:n]).wanted) for e in map(self.extractor, names)]
        outcomes, _ = embed(store, work, "bench", self.found)
        return sum(outcome.computed for outcome in outcomes)


class Nothing:
    """In place of the segment writer."""

    def __init__(self, store, space, provenance):
        self.space, self.published = space, []

    def add(self, keys, ids, rows):
        pass

    def close(self):
        pass


@contextlib.contextmanager
def no_writer() -> Iterator[None]:
    kept, extract.embed.SegmentWriter = extract.embed.SegmentWriter, Nothing
    try:
        yield
    finally:
        extract.embed.SegmentWriter = kept


# Measuring


def processor_seconds() -> float:
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def interleave(sides: dict[str, Callable[[], int]], rounds: int) -> dict[str, dict[str, Any]]:
    """Every side in turn, after one turn to warm up; wall and processor seconds of each."""
    times: dict[str, dict[str, Any]] = {side: {"seconds": [], "processor": []} for side in sides}
    for turn in range(rounds + 1):
        for side, work in sides.items():
            before, started = processor_seconds(), time.perf_counter()
            n = work()
            seconds = time.perf_counter() - started
            if turn:
                times[side]["n"] = n
                times[side]["seconds"].append(round(seconds, 3))
                times[side]["processor"].append(round(processor_seconds() - before, 3))
    return times


def ratio(times: dict[str, Any], over: str, under: str, kind: str = "seconds", of: Callable[..., float] = min) -> float:
    return round(of(times[over][kind]) / of(times[under][kind]), 3)


def against_forerunner(bench: Bench, name: str, n: int, rounds: int) -> dict[str, Any]:
    backbone = load(name)
    files = [bench.found.sources[entry.image_id].path for entry in bench.found.entries[:n]]
    times = interleave(
        {
            "forerunner": lambda: forerunner(files, backbone, bench.numerics, 1),
            "forerunner_all_threads": lambda: forerunner(files, backbone, bench.numerics, os.cpu_count() or 1),
            "bb": lambda: bench.bb([name], n),
        },
        rounds,
    )
    best = min(("forerunner", "forerunner_all_threads"), key=lambda side: min(times[side]["seconds"]))
    return {
        "ratio": ratio(times, best, "bb"),
        "median": ratio(times, best, "bb", of=statistics.median),
        "processor": ratio(times, best, "bb", "processor"),
        "forerunner": best,
        "images": n,
        **{f"{side}_images_per_s": round(n / min(times[side]["seconds"]), 1) for side in times},
    }


def several(bench: Bench, n: int, rounds: int) -> dict[str, Any]:
    def turn(k: int) -> Callable[[], int]:
        return lambda: bench.bb(SMALL[:k], n)

    times = interleave({str(k): turn(k) for k in range(1, 5)}, rounds)
    return {
        "ratio": [ratio(times, str(k), "1") for k in range(2, 5)],
        "median": [ratio(times, str(k), "1", of=statistics.median) for k in range(2, 5)],
        "processor": [ratio(times, str(k), "1", "processor") for k in range(2, 5)],
    }


def writer(bench: Bench, n: int, rounds: int) -> dict[str, Any]:
    def without() -> int:
        with no_writer():
            return bench.bb([TINY], n)

    times = interleave({"without": without, "with": lambda: bench.bb([TINY], n)}, rounds)
    return {
        "overhead": round(ratio(times, "with", "without") - 1, 4),
        "median": round(ratio(times, "with", "without", of=statistics.median) - 1, 4),
        "processor": round(ratio(times, "with", "without", "processor") - 1, 4),
    }


# Images


def repeat(photographs: Path, to: Path, n: int) -> None:
    """n files: the photographs over and over, each with a JPEG comment of its own."""
    to.mkdir(parents=True)
    files = sorted(photographs.rglob("*.jpg"))
    for i in range(n):
        data, words = files[i % len(files)].read_bytes(), b"%08d" % i
        (to / f"{i:06}.jpg").write_bytes(
            data[:2] + b"\xff\xfe" + (len(words) + 2).to_bytes(2, "big") + words + data[2:]
        )


def generate(to: Path, n: int) -> None:
    """n small pictures, no two alike, in folders of a thousand."""
    for i in range(n):
        if i % 1000 == 0:
            (to / f"{i // 1000:03}").mkdir(parents=True)
        colour = (i % 256, i // 256 % 256, i // 65536 % 256)
        Image.new("RGB", (32, 32), colour).save(to / f"{i // 1000:03}" / f"{i:06}.png", compress_level=1)


def memory(n: int, decode: str) -> float:
    """Peak memory in GB of a process that embeds n generated images."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder) / "images", n)
        command = [sys.executable, __file__, "--measure-memory", folder, "--decode", decode]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def measure_memory(folder: Path, decode: str) -> None:
    numerics = Numerics.resolve("cpu")
    found = scan(find_images(folder / "images"), HashMemory.open(None))
    bench = Bench(folder, found, numerics, decode)
    assert bench.bb([TINY], len(found.entries)) == len(found.entries)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9)


def beside(script: str, key: str, arguments: list[str]) -> Any:
    """What another benchmark of this folder says, None where it can't."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, str(Path(__file__).with_name(script)), "--json", str(answer), *arguments]
        ended = subprocess.run(command, capture_output=True, text=True)
        if ended.returncode or not answer.exists():
            print(f"{script} failed: {ended.stderr[-500:]}", file=sys.stderr)
            return None
        return json.loads(answer.read_text()).get(key)


PARTS = ("decode", "forward", "models", "writer", "memory", "ray", "rerun")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, help="a folder of JPEGs; newt-mini's where it is at hand")
    parser.add_argument("--images", type=int, default=600, help="photographs embedded in a run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--decode", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--only", action="append", choices=PARTS, help="some of the measurements")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure-memory", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure_memory:
        measure_memory(given.measure_memory, given.decode)
        return
    photographs = given.photographs or Path(__file__).parents[3] / "shared" / "data" / "newt-mini"
    parts = given.only or PARTS
    told: dict[str, Any] = {"images": given.images, "rounds": given.rounds, "cores": os.cpu_count()}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        repeat(photographs, root / "images", given.images)
        found = scan(find_images(root / "images"), HashMemory.open(None))
        bench = Bench(root, found, Numerics.resolve(given.device), given.decode)
        if "decode" in parts:
            told["decode_bound"] = against_forerunner(bench, TINY, given.images, given.rounds)
            told["decode_bound_ratio"] = told["decode_bound"]["ratio"]
        if "forward" in parts:
            told["forward_bound"] = against_forerunner(bench, LARGE, max(48, given.images // 6), given.rounds)
            told["forward_bound_ratio"] = told["forward_bound"]["ratio"]
        if "models" in parts:
            told["four_models"] = several(bench, given.images, given.rounds)
            told["four_models_ratio"] = told["four_models"]["ratio"]
        if "writer" in parts:
            told["writer"] = writer(bench, given.images, given.rounds)
            told["writer_overhead"] = told["writer"]["overhead"]
    if "memory" in parts:
        told["peak_gb_10000"], told["peak_gb"] = (memory(n, given.decode) for n in (10_000, 100_000))
    if "ray" in parts:
        told["ray_ratio"] = beside("ray.py", "ray_ratio", ["--photographs", str(photographs)])
    if "rerun" in parts:
        told["rerun_36000_s"] = beside("rerun.py", "rerun_36000_s", [])
    print(json.dumps(told, indent=1))
    if given.json:
        given.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
