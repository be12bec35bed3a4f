"""How fast files become a network's pixels: Pillow, torchvision's decode_jpeg, simplejpeg; in one thread and in two.

    python scripts/bench/decode.py [--json FILE] [--photos DIR] [--images N] [--rounds N] [--quick]

Each decodes the same JPEGs, and decodes and cuts them to open_clip's view of ViT-B-16 (shortest side to 224, bicubic,
centre). Sides take turns; of each the best round counts. Images a second by the clock, which the machine's other work
slows down, and by the processor's time, which it hardly does. torch has one thread in an operation. Further libraries
take part in decoding alone, where they are installed: PyTurboJPEG, OpenCV, torchcodec.
"""

import argparse
import importlib.util
import io
import json
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)  # not this folder, where store.py would hide the package

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from torchvision.io import ImageReadMode, decode_jpeg  # noqa: E402
from torchvision.transforms.v2 import functional  # noqa: E402

from bb.extract.embedding.decoder import Decoder  # noqa: E402
from bb.extract.embedding.geometry import Geometry  # noqa: E402
from bb.extract.embedding.pillow_decoder import Pillow  # noqa: E402
from bb.extract.embedding.simplejpeg_decoder import SimpleJpeg  # noqa: E402

GEOMETRY = Geometry("shortest", (224, 224), (224, 224), "bicubic")
SIZE = (500, 375)  # iNaturalist's photographs, at most
THREADS = (1, 2)
QUICK = {"images": 4, "rounds": 1}

Work = Callable[[bytes], Any]


def generated(n: int) -> list[bytes]:
    """JPEGs about as large as photographs of that size, where no photographs are at hand."""
    files = []
    for seed in range(n):
        rng = np.random.default_rng(seed)
        coarse = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).resize(
            SIZE, Image.Resampling.BICUBIC
        )
        noisy = np.asarray(coarse).astype(int) + rng.integers(-14, 15, (*SIZE[::-1], 3))
        buffer = io.BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files


def photographs(folder: Path, n: int) -> list[bytes]:
    found = folder / "newt2021_images"
    return [file.read_bytes() for file in sorted(found.iterdir())[:n]] if found.is_dir() else generated(n)


def with_torchvision(data: bytes) -> torch.Tensor:
    return decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode=ImageReadMode.RGB)


def cut_with_torchvision(data: bytes) -> torch.Tensor:
    resized = functional.resize(with_torchvision(data), [224], functional.InterpolationMode.BICUBIC, antialias=True)
    return functional.center_crop(resized, [224, 224])


def whole(decoder: Decoder) -> Work:
    return lambda data: decoder.cut(decoder.decode(data).picture, GEOMETRY)


def others() -> dict[str, Work]:
    """Decoding alone, by what else is installed."""
    found: dict[str, Work] = {}
    if importlib.util.find_spec("cv2"):
        import cv2

        cv2.setNumThreads(1)
        found["opencv"] = lambda data: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if importlib.util.find_spec("turbojpeg"):
        import turbojpeg

        found["pyturbojpeg"] = turbojpeg.TurboJPEG().decode
    if importlib.util.find_spec("torchcodec"):
        from torchcodec import decoders

        if hasattr(decoders, "decode_jpeg"):  # since 0.16
            found["torchcodec"] = lambda data: decoders.decode_jpeg(
                torch.frombuffer(bytearray(data), dtype=torch.uint8)
            )
    return found


def rate(work: Work, files: list[bytes], threads: int) -> tuple[float, float]:
    """Images a second by the clock, and by the processor's time."""
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        list(pool.map(work, files[: 2 * threads]))
        clock, processor = time.perf_counter(), time.process_time()
        for _ in pool.map(work, files):
            pass
        return len(files) / (time.perf_counter() - clock), len(files) / (time.process_time() - processor)


def measure(files: list[bytes], rounds: int) -> dict[str, float]:
    pillow, fast = Pillow(), SimpleJpeg()
    sides: dict[str, Work] = {
        "pillow_decode": pillow.decode,
        "torchvision_decode": with_torchvision,
        "simplejpeg_decode": fast.decode,
        **{f"{name}_decode": work for name, work in others().items()},
        "pillow": whole(pillow),
        "torchvision": cut_with_torchvision,
        "simplejpeg": whole(fast),
    }
    best: dict[str, float] = {}
    for _ in range(rounds):
        for name, work in sides.items():
            for threads in THREADS:
                clock, processor = rate(work, files, threads)
                for key, value in ((f"{name}_{threads}", clock), (f"{name}_{threads}_processor", processor)):
                    best[key] = max(best.get(key, 0.0), value)
    for name in ("torchvision", "simplejpeg"):
        best[f"{name}_ratio"] = best[f"{name}_1_processor"] / best["pillow_1_processor"]
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as one flat object")
    parser.add_argument("--photos", type=Path, default=ROOT.parent / "shared" / "data" / "newt-mini")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="smallest sizes: does everything run?")
    options = parser.parse_args()
    if options.quick:
        options = argparse.Namespace(**{**vars(options), **QUICK})
    warnings.filterwarnings("ignore", message=".*superseded.*|.*deprecated.*", category=DeprecationWarning)
    torch.set_num_threads(1)
    figures = measure(photographs(options.photos, options.images), options.rounds)
    for name, value in figures.items():
        print(f"{name:>32} {value:8.2f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
