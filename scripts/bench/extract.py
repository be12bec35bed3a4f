"""Extraction beside the loop that everybody writes: `python scripts/bench/extract.py [--json FILE] [--quick]`.

The forerunner is that loop: a DataLoader with two workers, Pillow and the backbone's own transform, batches of 16,
autocast, features kept in memory; torch has one thread or all cores, whichever is quicker. Photographs are repeated
with a comment of their own in each file, so that each is another image to bb. Sides take turns, and the least time of
each counts, since the machine has other work too; a store is new each time. Beside each ratio stand its median over
rounds (…_median) and the same of processor seconds (…_processor), which other work disturbs less.

decode_bound_ratio     images per second of bb over those of the forerunner, with a tiny network at the usual 224
                       pixels
test_vit_ratio         the same with timm's test_vit at 160 pixels, of whose time a third is the forward pass
forward_bound_ratio    the same with a network that takes most of the time
two_models_ratio, three_models_ratio, four_models_ratio
                       time of so many small networks in one command, over that of the first alone
writer_overhead        time of a run over that of one whose writer does nothing, less 1
peak_gb, peak_10000_gb   peak memory of a process that embeds 100,000 generated images, and a tenth of them
ray_ratio              two Ray workers over one process on two cores (ray.py)
rerun_36000_s          seconds of a run on a complete store beyond importing torch and building the backbone (rerun.py)
gpu_ratio, gpu_share_of_limit
                       where there is CUDA: ViT-B-16 in bf16 over the forerunner with one worker for each core, and over
                       the slower of decoding alone on all cores and the forward pass alone on batches that are there

A part that fails is said, and the exit status is 1.
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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

sys.path[0] = str(Path(__file__).resolve().parents[2])  # not this folder, where store.py would hide the package

from bb.extract.backbones.decoders import find_decoder  # noqa: E402
from bb.extract.backbones.device import Numerics  # noqa: E402
from bb.extract.backbones.feature_spaces import feature_spaces  # noqa: E402
from bb.extract.backbones.name import BackboneName  # noqa: E402
from bb.extract.backbones.registry import load  # noqa: E402
from bb.extract.data.scan import HashMemory, Scan, find_images, scan  # noqa: E402
from bb.extract.embedding.decoder import DecodeOptions  # noqa: E402
from bb.extract.embedding.forward import autocast  # noqa: E402
from bb.extract.embedding.timm import TimmBackbone  # noqa: E402
from bb.extract.pipeline import feature_writer  # noqa: E402
from bb.extract.pipeline.embed import BackboneWork, EmbedPlan, embed  # noqa: E402
from bb.extract.pipeline.extractor import Extractor  # noqa: E402
from bb.store import Store  # noqa: E402

TINY = "timm:test_vit/untrained"
SMALL = [f"timm:small{i}/untrained" for i in range(4)]  # see `small`
LARGE = "timm:vit_small_patch16_224/untrained"
GPU = "open_clip:ViT-B-16/untrained"
BATCH, WORKERS = 16, 2
QUICK = {"images": 16, "gpu_images": 64, "rounds": 1}


# The forerunner


class Photographs(Dataset):
    def __init__(self, files, transform):
        self.files, self.transform = files, transform

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        return self.transform(Image.open(self.files[i]).convert("RGB"))


def forerunner(
    files: list[Path], backbone: Any, numerics: Numerics, threads: int, workers: int = WORKERS, batch: int = BATCH
) -> int:
    torch.set_num_threads(threads)
    photographs = Photographs(files, backbone.make_img_transform())
    on_gpu = numerics.device.type == "cuda"
    loader = DataLoader(photographs, batch_size=batch, num_workers=workers, pin_memory=on_gpu)
    kept = []
    with torch.inference_mode(), autocast(numerics.device, numerics.compute):
        for pixels in loader:
            kept.append(backbone.img_encode(pixels.to(numerics.device, non_blocking=on_gpu)).img_features.float().cpu())
    return len(torch.cat(kept))


# bb


def small(seed: int) -> TimmBackbone:
    """A ViT of one block 32 wide on 49 patches of a picture of 224 pixels: little more than what goes through it."""
    torch.manual_seed(seed)
    kind = {"depth": 1, "embed_dim": 32, "num_heads": 1, "patch_size": 32, "img_size": 224, "num_classes": 0}
    network = timm.create_model("test_vit", **kind)
    network.pretrained_cfg = {**network.pretrained_cfg, "input_size": (3, 224, 224), "crop_pct": 0.9}
    return TimmBackbone(network)


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
            decoder = find_decoder(DecodeOptions(self.decode), self.numerics.device)
            parsed = BackboneName.parse(name)
            backbone = small(SMALL.index(name)) if name in SMALL else load(parsed)
            spaces = feature_spaces(name, backbone, decoder, self.numerics, patch=False)
            self.made[name] = Extractor(parsed, backbone, decoder, self.numerics, spaces, None, False)
        return self.made[name]

    def bb(self, names: list[str], n: int) -> int:
        """Embeds the first n images with these networks into a store of its own."""
        self.stores += 1
        store = Store.create(self.root / f"{self.stores}.bb")
        work = [
            BackboneWork(e, EmbedPlan.make(store, e.spaces, self.found.entries[:n]).wanted)
            for e in map(self.extractor, names)
        ]
        outcomes, _ = embed(store, work, "bench", self.found)
        return sum(outcome.computed for outcome in outcomes)


class Nothing:
    """In place of the segment writer."""

    def __init__(self, store, space, provenance):
        self.space, self.published = space, []

    def add(self, keys, ids, rows, damaged):
        pass

    def close(self):
        pass


@contextlib.contextmanager
def no_writer() -> Iterator[None]:
    kept, feature_writer.SegmentWriter = feature_writer.SegmentWriter, Nothing
    try:
        yield
    finally:
        feature_writer.SegmentWriter = kept


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


def told_of(key: str, times: dict[str, Any], over: str, under: str, less: float = 0.0) -> dict[str, float]:
    """The ratio of two sides under that key, and beside it its median and that of processor seconds."""
    return {
        key: round(ratio(times, over, under) - less, 4),
        f"{key}_median": round(ratio(times, over, under, of=statistics.median) - less, 4),
        f"{key}_processor": round(ratio(times, over, under, "processor") - less, 4),
    }


def against_forerunner(bench: Bench, key: str, name: str, n: int, rounds: int) -> dict[str, Any]:
    backbone = bench.extractor(name).backbone
    files = [bench.found.sources[entry.image_id].path for entry in bench.found.entries[:n]]
    cores = os.cpu_count() or 1
    times = interleave(
        {
            "one_thread": lambda: forerunner(files, backbone, bench.numerics, 1),
            "all_threads": lambda: forerunner(files, backbone, bench.numerics, cores),
            "bb": lambda: bench.bb([name], n),
        },
        rounds,
    )
    best = min(("one_thread", "all_threads"), key=lambda side: min(times[side]["seconds"]))
    rates = {side: round(n / min(times[side]["seconds"]), 1) for side in times}
    return {
        **told_of(f"{key}_ratio", times, best, "bb"),
        f"{key}_forerunner_threads": 1 if best == "one_thread" else cores,
        f"{key}_forerunner_images_per_s": rates[best],
        f"{key}_bb_images_per_s": rates["bb"],
    }


def several(bench: Bench, n: int, rounds: int) -> dict[str, Any]:
    def turn(k: int) -> Callable[[], int]:
        return lambda: bench.bb(SMALL[:k], n)

    times = interleave({str(k): turn(k) for k in range(1, 5)}, rounds)
    words = {2: "two", 3: "three", 4: "four"}
    return {
        key: value
        for k, word in words.items()
        for key, value in told_of(f"{word}_models_ratio", times, str(k), "1").items()
    }


def writer(bench: Bench, n: int, rounds: int) -> dict[str, Any]:
    def without() -> int:
        with no_writer():
            return bench.bb([TINY], n)

    times = interleave({"without": without, "with": lambda: bench.bb([TINY], n)}, rounds)
    return told_of("writer_overhead", times, "with", "without", less=1.0)


# A GPU


def gpu(photographs: Path, root: Path, n: int, rounds: int, decode: str) -> dict[str, Any]:
    """ViT-B-16 in bf16; n photographs, of which there should be enough for half a minute."""
    repeat(photographs, root / "many", n)
    found = scan(find_images(root / "many"), HashMemory.open(None))
    bench = Bench(root, found, Numerics.resolve("cuda", "bf16"), decode)
    extractor, cores = bench.extractor(GPU), os.cpu_count() or 1
    encoder = extractor.encoder()
    files = [found.sources[entry.image_id].path for entry in found.entries]
    geometry = extractor.backbone.view.geometry()

    def decode_alone() -> int:
        def pixels(path: Path) -> None:
            extractor.decoder.cut(extractor.decoder.decode(path.read_bytes()).picture, geometry)

        torch.set_num_threads(1)
        with ThreadPoolExecutor(cores) as pool:
            return sum(1 for _ in pool.map(pixels, files))

    def forerunners() -> int:
        encoder.to_device()  # bb leaves the device to others once it is done
        return forerunner(files, extractor.backbone, bench.numerics, 1, workers=cores, batch=encoder.size)

    times = interleave({"forerunner": forerunners, "decode": decode_alone, "bb": lambda: bench.bb([GPU], n)}, rounds)
    encoder.to_device()
    resident = torch.zeros(encoder.size, 3, *geometry.crop, dtype=torch.uint8, device=bench.numerics.device)
    rates = {side: n / min(times[side]["seconds"]) for side in times}
    rates["forward"] = encoder.size / encoder.seconds(resident)
    return {
        **told_of("gpu_ratio", times, "forerunner", "bb"),
        "gpu_share_of_limit": round(rates["bb"] / min(rates["decode"], rates["forward"]), 3),
        "gpu_batch_size": encoder.size,
        **{f"gpu_{side}_images_per_s": round(rate, 1) for side, rate in rates.items()},
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


def beside(script: str, key: str, quick: bool) -> dict[str, Any]:
    """What another benchmark of this folder says."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, str(Path(__file__).with_name(script)), "--json", str(answer)]
        command += ["--quick"] if quick else []
        ended = subprocess.run(command, capture_output=True, text=True)
        if ended.returncode or not answer.exists():
            raise RuntimeError(f"{script} ended with status {ended.returncode}: {ended.stderr.strip()[-500:]}")
        return {key: json.loads(answer.read_text())[key]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, help="a folder of JPEGs; newt-mini's where it is at hand")
    parser.add_argument("--images", type=int, default=1200, help="photographs embedded in a run")
    parser.add_argument("--gpu-images", type=int, default=30_000, help="the same on a GPU")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--decode", default="auto")
    parser.add_argument("--only", action="append", help="some of the parts, by name; repeatable")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as one flat object")
    parser.add_argument("--quick", action="store_true", help="smallest sizes: does everything run?")
    parser.add_argument("--measure-memory", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.quick:
        given = argparse.Namespace(**{**vars(given), **QUICK})
    if given.measure_memory:
        measure_memory(given.measure_memory, given.decode)
        return
    photographs = given.photographs or Path(__file__).resolve().parents[3] / "shared" / "data" / "newt-mini"
    n, rounds = given.images, given.rounds
    if not any(photographs.rglob("*.jpg")):
        parser.error(f"{photographs} holds no photographs (*.jpg): give --photographs a folder that does")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        repeat(photographs, root / "images", n)
        found = scan(find_images(root / "images"), HashMemory.open(None))
        bench = Bench(root, found, Numerics.resolve("cpu"), given.decode)
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "decode": lambda: against_forerunner(bench, "decode_bound", SMALL[0], n, rounds),
            "vit": lambda: against_forerunner(bench, "test_vit", TINY, n, rounds),
            "forward": lambda: against_forerunner(
                bench, "forward_bound", LARGE, n if given.quick else max(48, n // 6), rounds
            ),
            "models": lambda: several(bench, n, rounds),
            "writer": lambda: writer(bench, n, rounds),
            "memory": lambda: {
                "peak_10000_gb": memory(50 if given.quick else 10_000, given.decode),
                "peak_gb": memory(100 if given.quick else 100_000, given.decode),
            },
            "ray": lambda: beside("ray.py", "ray_ratio", given.quick),
            "rerun": lambda: beside("rerun.py", "rerun_36000_s", given.quick),
            "gpu": lambda: gpu(photographs, root, given.gpu_images, rounds, given.decode),
        }
        chosen = given.only or [part for part in parts if part != "gpu" or torch.cuda.is_available()]
        if unknown := set(chosen) - set(parts):
            parser.error(f"--only {', '.join(sorted(unknown))} is unknown: choose {', '.join(parts)}")
        told: dict[str, Any] = {"images": n, "rounds": rounds, "cores": os.cpu_count()}
        failed: list[str] = []
        for part in chosen:
            try:
                made = parts[part]()
            except Exception as error:  # the other parts are worth their minutes all the same
                failed.append(part)
                print(f"{part} failed: {type(error).__name__}: {error}", file=sys.stderr)
                continue
            print(f"{part}: {json.dumps(made)}", file=sys.stderr, flush=True)
            told |= made
    print(json.dumps(told, indent=1))
    if given.json:
        given.json.write_text(json.dumps(told, indent=1) + "\n")
    if failed:
        print(f"not measured: {', '.join(failed)}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
