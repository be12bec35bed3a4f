"""Six tiny untrained backbones × four shot counts × three seeds, on photographs and on digits: something to report on.

    python scripts/grid.py FOLDER --photographs NEWT [--shots 2,4,8,16] [--every 1]

NEWT is a folder in NeWT's layout; FOLDER gets the store, scikit-learn's digits and a bb.toml that names both
collections. What is there already is not made again. Then, in FOLDER: bb report --html report.html
"""

import argparse
import subprocess
import sys
from pathlib import Path

import bb

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
    options = parser.parse_args()
    make_grid(options.folder, options.photographs, options.shots, options.every)


def make_grid(folder: Path, photographs: Path, shots: str, every: int) -> None:
    """Extracts and probes; a store and a bb.toml in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    bb.write_digits(folder / "digits", every)
    (folder / "bb.toml").write_text(
        f'store = "features.bb"\n[data.newt]\nroot = "{photographs.resolve()}"\n[data.digits]\nroot = "digits"\n'
    )
    ckpts = [word for name in BACKBONES for word in ("--ckpt", name)]
    run_bb(folder, "extract", *ckpts, "--data", "newt", "--data", "digits")
    numbers = [word for seed in range(SEEDS) for word in ("--seed", seed)]
    for name in ("newt", "digits"):
        run_bb(folder, "probe", "newt", "--data", name, "--n-train", shots, *numbers)


if __name__ == "__main__":
    main()
