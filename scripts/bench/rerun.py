"""What it costs to find that nothing is missing: `bb extract` again on a complete store of 36,000 images.

    python scripts/bench/rerun.py [--json FILE] [--images N] [--rounds N] [--quick]

Seconds of the whole process beyond those of one that imports torch and the library and builds the backbone, each the
least of rounds in turns; by the clock, and of the processor, which other work on the machine hardly changes. The images
are tiny JPEGs in one folder, hashed by a first run; an audit hook counts how many of them the timed run opens (none).
The rows are written into the store without a forward pass.
"""

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)  # not this folder, where store.py would hide the package

import numpy as np  # noqa: E402

CKPT = "timm:test_vit/untrained"
IMAGES, ROWS = 36_000, 8_192  # rows of a segment
QUICK = {"images": 100, "rounds": 1}

BUILD = f"""
import torch
from bb.extract.backbones.registry import load
load({CKPT!r})
"""
EXTRACT = """
import sys
opened = []
sys.addaudithook(lambda event, words: opened.append(1) if event == "open" and str(words[0]).endswith(".jpg") else None)
import bb
try:
    bb.main()
except SystemExit as done:
    assert not done.code, done.code
print("opened", len(opened), file=sys.stderr)
"""


def write_images(folder: Path, n: int) -> None:
    """One small JPEG, and after its end a number that makes each file another."""
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), "green").save(buffer, "JPEG")
    folder.mkdir()
    for i in range(n):
        (folder / f"{i:06d}.jpg").write_bytes(buffer.getvalue() + i.to_bytes(4))


def fill(store: Path, folder: Path) -> None:
    """Rows for every image in the very space that the command fills."""
    import torch

    from bb.extract.backbones.decoders import find_decoder
    from bb.extract.backbones.device import Numerics
    from bb.extract.backbones.name import BackboneName
    from bb.extract.embedding.decoder import DecodeOptions
    from bb.extract.pipeline.extractor import Extractor
    from bb.store import Store

    decoder, numerics = find_decoder(DecodeOptions(), torch.device("cpu")), Numerics.resolve("cpu")
    name = BackboneName.parse(CKPT)
    extractor = Extractor.load(name, decoder, numerics, patch=False, batch_size=None, compile=False)
    space, files = extractor.spaces.img, sorted(folder.iterdir())
    made, rng = Store.create(store), np.random.default_rng(0)
    for start in range(0, len(files), ROWS):
        part = files[start : start + ROWS]
        keys = np.stack([np.frombuffer(hashlib.sha256(file.read_bytes()).digest(), np.uint8) for file in part])
        rows = rng.normal(size=(len(part), *space.row_shape)).astype(space.dtype)
        made.put_segment(space, keys, [f"pics/{file.name}" for file in part], rows, extractor.provenance)


def measure(images: int = IMAGES, rounds: int = 5) -> dict[str, float]:
    """`rerun_36000_s` (seconds beyond) and `rerun_processor_s`, with the seconds of both processes."""
    with tempfile.TemporaryDirectory() as name:
        folder, store = Path(name, "pics"), Path(name, "store.bb")
        env = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'scripts'}",
            "PYTHONPYCACHEPREFIX": f"{name}/compiled",  # modules are compiled once, as where they are installed
            "BB_CACHE": f"{name}/cache",
        }
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        write_images(folder, images)
        fill(store, folder)
        words = [
            "extract",
            "--ckpt",
            CKPT,
            "--data",
            f"pics={folder}",
            "--store",
            str(store),
            "--device",
            "cpu",
            "--json",
        ]

        def run(script: str) -> tuple[tuple[float, float], str, str]:
            start, before = time.perf_counter(), processor_seconds()
            command = [sys.executable, "-c", script, *words]
            done = subprocess.run(command, env=env, cwd=name, capture_output=True, text=True, check=True)
            return (time.perf_counter() - start, processor_seconds() - before), done.stdout, done.stderr

        run(EXTRACT)  # hashes the files
        build, again = [], []
        for _ in range(rounds):
            build.append(run(BUILD)[0])
            spent, out, err = run(EXTRACT)
            (summary,) = json.loads(out)
            assert (summary["present"], summary["computed"]) == (images, 0), summary
            assert "opened 0" in err, err
            again.append(spent)
    (build_s, build_processor_s), (whole_s, whole_processor_s) = (
        map(min, zip(*each, strict=True)) for each in (build, again)
    )
    return {
        "rerun_36000_s": whole_s - build_s,
        "rerun_processor_s": whole_processor_s - build_processor_s,
        "rerun_build_s": build_s,
        "rerun_whole_s": whole_s,
    }


def processor_seconds() -> float:
    """Of all processes that were started and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as one flat object")
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="smallest sizes: does everything run?")
    options = parser.parse_args()
    if options.quick:
        options = argparse.Namespace(**{**vars(options), **QUICK})
    figures = measure(options.images, options.rounds)
    for name, value in figures.items():
        print(f"{name:>18} {value:.2f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
