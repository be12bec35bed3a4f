"""Steps of head training a second, beside a DataLoader of single items.

    python scripts/bench/heads.py [--json FILE] [--quick]

20,000 features of 384 dimensions in a store, 500 labels; batches of 16 labels with 8 images each, a linear head to 128
dimensions, hard triplets, AdamW. All sides take the very same steps, and reach the same weights; they differ in how
rows come to the optimiser. One thread; the sides take turns, and the median of all turns counts.

bb      all rows are read from the store at once, which is part of the time; a step gathers its own
store   a DataLoader whose data set reads one item from the store: what the data set's interface asks for
zarr    the same through plain zarr, one row of the open array
memory  a DataLoader whose data set takes one item from an array in memory

head_steps_ratio         steps per second of bb over those of `store`
head_steps_ratio_zarr, head_steps_ratio_memory   the same over the other two
steps_per_second_bare    of the steps alone, on one batch that is there: what no way of reading can exceed
"""

import argparse
import hashlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from torch.utils.data import DataLoader, Dataset

sys.path[0] = str(Path(__file__).resolve().parents[2])  # not this folder, where store.py would hide the package

from bb.probe.heads.examples import Examples  # noqa: E402
from bb.probe.heads.initialisation import start  # noqa: E402
from bb.probe.heads.recipe import HeadRecipe  # noqa: E402
from bb.probe.heads.train import run_epoch  # noqa: E402
from bb.store import Collection, Entry, FeatureSpace, SegmentWriter, Store  # noqa: E402

ROUNDS = 5
STEPS = 300  # of a turn, where they are quick
QUICK = {"n": 4_000, "dim": 16, "rounds": 1, "steps": 10}
RECIPE = HeadRecipe(start="plain", dim=128)


def make_store(root: Path, n: int, dim: int) -> tuple[Store, FeatureSpace, Collection]:
    """A store with n rows around 500 centres."""
    space = FeatureSpace(
        "timm", {"name": "bench"}, "0" * 64, {"size": [8, 8]}, {"kind": "img", "pooling": "cls", "dim": dim},
        {"compute": "fp32", "stored": "float32"}, "1" * 40,
    )  # fmt: skip
    store = Store.create(root)
    entries = [Entry(f"{i:06}.png", hashlib.sha256(str(i).encode()).digest(), i, 8, 8) for i in range(n)]
    collection = store.put_collection(Collection.from_entries("bench", entries))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, dim))[np.arange(n) % 500] + 2.5 * rng.normal(size=(n, dim))
    writer = SegmentWriter(store, space, {"backbone": "timm:bench"})
    writer.add(collection.all_digests(), [f"bench/{e.image_id}" for e in entries], x.astype(np.float32))
    writer.close()
    return store, space, collection


class Items(Dataset):
    """One item at a time, as data sets are."""

    def __init__(self, item: Callable[[int], np.ndarray], labels: np.ndarray) -> None:
        self.item, self.labels = item, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return torch.tensor(self.item(i)), int(self.labels[i])


def loaded(items: Items, labels: np.ndarray, steps: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of a DataLoader by the same sampler, epoch after epoch."""
    done, epoch = 0, 0
    while done < steps:
        epoch += 1
        sampler = RECIPE.sampling.build(labels, None, (RECIPE.seed, epoch))
        for batch in DataLoader(items, batch_sampler=sampler):
            yield batch
            done += 1
            if done == steps:
                return


class Side:
    """A head and all that trains it, as at the start."""

    def __init__(self, dim: int, labels: np.ndarray) -> None:
        few = np.random.default_rng(1).normal(size=(1000, dim)).astype(np.float32)
        generator = torch.Generator().manual_seed(0)
        self.labels = labels
        self.head = start(Examples(few, np.arange(1000) % 10), RECIPE, "a" * 64, generator)
        self.loss = RECIPE.build_loss(500, self.head.feat_dim, generator)
        self.optimiser = torch.optim.AdamW(self.head.parameters(), lr=RECIPE.rate, weight_decay=RECIPE.decay)

    def step(self, x: torch.Tensor, y: torch.Tensor) -> None:
        value = self.loss(self.head(x), y)
        self.optimiser.zero_grad()
        value.backward()
        self.optimiser.step()


def ours(side: Side, read: Callable[[], np.ndarray], epochs: int) -> tuple[int, float]:
    began = time.perf_counter()
    examples = Examples(np.array(read(), np.float32), side.labels)
    data = torch.from_numpy(examples.features), torch.from_numpy(examples.labels)
    for epoch in range(1, epochs + 1):
        run_epoch(side.head, side.loss, side.optimiser, RECIPE, data, examples, epoch)
    seconds = time.perf_counter() - began
    return epochs * len(RECIPE.sampling.build(side.labels, None, 0)), seconds


def theirs(side: Side, item: Callable[[int], np.ndarray], steps: int) -> tuple[int, float]:
    began = time.perf_counter()
    for x, y in loaded(Items(item, side.labels), side.labels, steps):
        side.step(x, y)
    return steps, time.perf_counter() - began


def measure(n: int = 20_000, dim: int = 384, rounds: int = ROUNDS, several: int = STEPS) -> dict[str, Any]:
    """The figures, by name."""
    torch.set_num_threads(1)
    labels = (np.arange(n) % 500).astype(np.int64)
    with tempfile.TemporaryDirectory() as folder:
        store, space, collection = make_store(Path(folder) / "s.bb", n, dim)
        ids = [f"{i:06}.png" for i in range(n)]
        arrays = [
            segment["img_features"]
            for _, segment in sorted(
                zarr.open_group(folder, path="s.bb", mode="r")[f"spaces/{space.key}/segments"].groups()
            )
        ]
        segments = store.segments(space)
        place = {  # image ID -> segment and row, which plain zarr leaves to its reader
            str(name).partition("/")[2]: (at, row)
            for at, segment in enumerate(segments)
            for row, name in enumerate(segment.array("image_id"))
        }
        in_memory = np.array(store.read(space, collection, ids))

        def of_zarr(i: int) -> np.ndarray:
            at, row = place[ids[i]]
            return np.asarray(arrays[at][row])

        items: dict[str, tuple[Callable[[int], np.ndarray], int]] = {
            "store": (lambda i: store.read(space, collection, [ids[i]])[0], max(1, several // 40)),
            "zarr": (of_zarr, max(1, several // 75)),
            "memory": (lambda i: in_memory[i], several),
        }
        epoch = len(RECIPE.sampling.build(labels, None, 0))
        one, other = Side(dim, labels), Side(dim, labels)
        ours(one, lambda: in_memory, 1)
        theirs(other, items["memory"][0], epoch)
        same = torch.allclose(one.head.stages[0].weight, other.head.stages[0].weight, atol=1e-4)
        assert same, "the sides take other steps"
        rates: dict[str, list[float]] = {name: [] for name in ("bb", "bare", *items)}
        for _ in range(rounds):
            steps, seconds = ours(Side(dim, labels), lambda: store.read(space, collection, ids), 4)
            rates["bb"].append(steps / seconds)
            for name, (item, asked) in items.items():
                steps, seconds = theirs(Side(dim, labels), item, asked)
                rates[name].append(steps / seconds)
            side = Side(dim, labels)
            batch = torch.from_numpy(in_memory[:128]), torch.from_numpy(labels[:128] % 16)
            began = time.perf_counter()
            for _ in range(several):
                side.step(*batch)
            rates["bare"].append(several / (time.perf_counter() - began))
    median = {name: statistics.median(found) for name, found in rates.items()}
    return {
        "n": n,
        "dim": dim,
        **{f"steps_per_second_{name}": rate for name, rate in median.items()},
        "head_steps_ratio": median["bb"] / median["store"],
        "head_steps_ratio_zarr": median["bb"] / median["zarr"],
        "head_steps_ratio_memory": median["bb"] / median["memory"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--quick", action="store_true", help="smallest sizes: does everything run?")
    args = parser.parse_args()
    if args.quick:
        args = argparse.Namespace(**{**vars(args), **QUICK})
    figures = measure(args.n, args.dim, args.rounds, args.steps)
    for name, value in figures.items():
        print(f"{name:26} {value:,.4g}")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
