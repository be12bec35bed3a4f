"""Six tiny untrained backbones × four shot counts × three seeds, on photographs and on digits: something to report on.

    python scripts/grid.py FOLDER --photographs NEWT [--shots 2,4,8,16] [--every 1] [--json FILE] [--quick]

NEWT is a folder in NeWT's layout; FOLDER gets the store, scikit-learn's digits and a bb.toml that names both
collections. What is there already is not made again. `--json` writes the seconds that it took; `--quick` takes two
backbones, one shot count and one seed, and every fiftieth digit. Then, in FOLDER: bb report --html report.html
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import bb.verbs.demo

BACKBONES = (
    "timm:test_vit/untrained",
    "timm:test_resnet/untrained",
    "timm:test_efficientnet/untrained",
    "timm:test_convnext/untrained",
    "timm:test_mambaout/untrained",
    "timm:test_vit3/untrained",
)
SEEDS = 3


def run_bb(folder: Path, *words: object) -> None:
    subprocess.run([sys.executable, "-m", "bb", *map(str, words)], cwd=folder, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photographs", type=Path, required=True, metavar="NEWT")
    parser.add_argument("--shots", default="2,4,8,16")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every Nth digit only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as one flat object")
    parser.add_argument("--quick", action="store_true", help="smallest sizes: does everything run?")
    options = parser.parse_args()
    started = time.perf_counter()
    if options.quick:
        make_grid(options.folder, options.photographs, "2", 25, backbones=BACKBONES[:2], seeds=1)
    else:
        make_grid(options.folder, options.photographs, options.shots, options.every)
    if options.json:
        options.json.write_text(json.dumps({"seconds": time.perf_counter() - started}) + "\n")


def make_grid(
    folder: Path,
    photographs: Path,
    shots: str,
    every: int,
    *,
    backbones: tuple[str, ...] = BACKBONES,
    seeds: int = SEEDS,
) -> None:
    """Extracts and probes; a store and a bb.toml in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    bb.verbs.demo.write_digits(folder / "digits", every)
    (folder / "bb.toml").write_text(
        f'store = "features.bb"\n[data.newt]\nroot = "{photographs.resolve()}"\n[data.digits]\nroot = "digits"\n'
    )
    ckpts = [word for name in backbones for word in ("--ckpt", name)]
    run_bb(folder, "extract", *ckpts, "--data", "newt", "--data", "digits")
    numbers = [word for seed in range(seeds) for word in ("--seed", seed)]
    for name in ("newt", "digits"):
        run_bb(folder, "probe", "newt", "--data", name, "--n-train", shots, *numbers)


if __name__ == "__main__":
    main()
