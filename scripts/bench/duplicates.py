"""Near-duplicates by features: `python scripts/bench/duplicates.py [--quick] [--json FILE]`.

Synthetic: n rows of 768 float16 in a file that is mapped, in 1,000 clusters as photographs of species are (two rows of
one have a cosine of 1/3), with planted copies of cosines from 0.62 up. The other side is every cosine by a float32
matrix product, on as many rows as take it a few seconds, scaled by the square of n; both with two threads.

Photographs (at BB_PHOTOS or ../shared/data/newt-mini, if there are any): their features and those of re-encoded,
resized and cropped copies, by EfficientNet-Lite 0 with its ImageNet weights. A copy with its original, or with another
copy of it, is a true pair.

duplicates_seconds  of n rows; n is `rows`, 10^6 unless it is said otherwise
duplicates_cpu_seconds  the same of both cores together, which a busy machine does not change
duplicates_ratio    CPU seconds of all float32 products, scaled to n, over duplicates_cpu_seconds
planted_recall      of the planted pairs whose cosine reaches the threshold
recall, precision   of original-copy pairs of the photographs, and of all pairs found there
cosine_0, recall_0, precision_0  a threshold that is chosen on every other photograph, and how it does on the rest; _1
                    the other way round
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)  # not this folder, where store.py would hide the package

PHOTOS = Path(os.environ.get("BB_PHOTOS") or ROOT.parent / "shared" / "data" / "newt-mini")
DIM, THREADS = 768, 2


def synthetic(folder: str, n: int):
    """A memory map of (n, 768) float16 with n / 100 planted pairs, and these (m, 2)."""
    import numpy as np

    rng = np.random.default_rng(0)
    rows = np.lib.format.open_memmap(f"{folder}/x.npy", "w+", np.float16, (n, DIM))
    centres = rng.standard_normal((1000, DIM), dtype=np.float32)
    for start in range(0, n, 10_000):
        stop = min(start + 10_000, n)
        noise = rng.standard_normal((stop - start, DIM), dtype=np.float32)
        rows[start:stop] = 1 + np.float32(0.7) * centres[rng.integers(0, 1000, stop - start)] + noise
    pairs = rng.permutation(n)[: n // 100 * 2].reshape(-1, 2)
    # Rows have a squared length of 1.49 d about the mean, noise of variance s adds s d: cosine √(1.49 / (1.49 + s)).
    spread = rng.uniform(0.01, 2.4, len(pairs)).astype(np.float32)
    noise = rng.standard_normal((len(pairs), DIM), dtype=np.float32)
    rows[pairs[:, 1]] = rows[pairs[:, 0]] + np.sqrt(spread)[:, None] * noise
    return rows, np.sort(pairs, axis=1)


def measure_rows(n: int, dense_n: int) -> dict:
    import numpy as np
    from threadpoolctl import threadpool_limits

    from bb.probe.features.duplicates import COSINE, near_duplicates

    with tempfile.TemporaryDirectory() as folder, threadpool_limits(THREADS, "blas"):
        x, pairs = synthetic(folder, n)
        near_duplicates(x[:100], jobs=THREADS)  # compiled code is loaded once
        start, used = time.perf_counter(), time.process_time()
        found = near_duplicates(x, jobs=THREADS)
        seconds, used = time.perf_counter() - start, time.process_time() - used

        unit = x[:dense_n].astype(np.float32)
        start = time.process_time()
        unit -= unit.mean(0)
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        for begin in range(0, dense_n, 2048):
            np.count_nonzero(unit[begin : begin + 2048] @ unit[begin:].T >= COSINE)
        dense = (time.process_time() - start) * (n / dense_n) ** 2

        centre = x.mean(0, dtype=np.float64)
        a, b = (x[pairs[:, side]].astype(float) - centre for side in (0, 1))
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        near = {tuple(pair) for pair in pairs[cosine >= COSINE].tolist()}
        got = set(map(tuple, found.rows.tolist()))
        return {
            "rows": n,
            "duplicates_seconds": seconds,
            "duplicates_cpu_seconds": used,
            "duplicates_ratio": dense / used,
            "planted": len(near),
            "planted_recall": len(near & got) / len(near),
        }


def measure_photographs(n: int | None) -> dict:
    import numpy as np
    import timm
    import torch
    from PIL import Image

    from bb.extract.weights.lite_networks import renamed
    from bb.probe.features.duplicates import COSINE, near_duplicates
    from tests.helpers.copies import copies, midway

    torch.set_num_threads(THREADS)
    network = timm.create_model("tf_efficientnet_lite0")
    network.load_state_dict(renamed(0))
    network.eval()
    view = timm.data.create_transform(**timm.data.resolve_data_config({}, model=network))
    files = sorted((PHOTOS / "newt2021_images").iterdir())[:n]
    features, owner = [], []
    with torch.inference_mode():
        for place, file in enumerate(files):
            image = Image.open(file).convert("RGB")
            batch = torch.stack([view(picture) for picture in (image, *copies(image, place))])
            features.append(network.forward_head(network.forward_features(batch), pre_logits=True).half().numpy())
            owner += [place] * len(batch)
    x, owner = np.concatenate(features), np.array(owner)
    each, n = len(features[0]), len(files)

    def scores(photographs, cosine: float = COSINE) -> tuple[float, float]:
        chosen = np.isin(owner, photographs)
        found, of = near_duplicates(x[chosen], cosine=cosine, jobs=THREADS), owner[chosen]
        true = (of[found.rows[:, 0]] == of[found.rows[:, 1]]).sum()
        return float(true / (len(photographs) * each * (each - 1) / 2)), float(true / len(found.rows))

    figures: dict = {"photographs": n}
    figures["recall"], figures["precision"] = scores(np.arange(n))
    for half in (0, 1):
        calibrate = owner % 2 == half
        unit, of = x[calibrate].astype(np.float32), owner[calibrate]
        unit -= unit.mean(0)
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        i, j = np.triu_indices(len(unit), 1)
        cosines, same = (unit @ unit.T)[i, j], of[i] == of[j]
        cosine = float(midway(cosines[same].tolist(), cosines[~same].tolist()))
        recall, precision = scores(np.arange(1 - half, n, 2), cosine)
        figures |= {f"cosine_{half}": cosine, f"recall_{half}": recall, f"precision_{half}": precision}
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--quick", action="store_true", help="20,000 rows and 20 photographs")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--photographs", type=int, metavar="N", help="that many photographs alone")
    args = parser.parse_args()
    n = 20_000 if args.quick else args.rows
    figures = {} if args.photographs else measure_rows(n, min(n, 10_000 if args.quick else 20_000))
    if (PHOTOS / "newt2021_images").is_dir():
        figures |= measure_photographs(20 if args.quick else args.photographs)
    for name, value in figures.items():
        print(f"{name:20} {value:,.4g}")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
