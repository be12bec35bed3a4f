"""`bb data check --duplicates`: planted copies of photographs are found; counts, sides, files and refusals."""

import csv
import io
import re

import numpy as np
import polars as pl
import pytest
from PIL import Image

from bb.store import Store
from tests.helpers.command_line import call, own_place, run_here  # noqa: F401
from tests.helpers.copies import COPIES, copies, midway
from tests.helpers.photographs import PHOTOS, needs_photographs
from tests.helpers.synthetic import NAME, cluster_store

PHOTOGRAPHS = 60  # half to choose a threshold on, half to test it


@pytest.fixture(scope="module")
def photographs(pretrained, tmp_path_factory):
    """A store of two collections of disjoint photographs and their copies, by pretrained EfficientNet-Lite 0."""
    folder = tmp_path_factory.mktemp("copies")
    files = sorted((PHOTOS / "newt2021_images").iterdir())[::4][:PHOTOGRAPHS]
    for place, file in enumerate(files):
        into = folder / ("test" if place % 2 else "calibration")
        into.mkdir(exist_ok=True)
        image = Image.open(file).convert("RGB")
        (into / f"{place:03}-0.jpg").write_bytes(file.read_bytes())
        for number, copy in enumerate(copies(image, place), 1):
            copy.save(into / f"{place:03}-{number}.jpg", quality=95)
    data = ("--data", "calibration=calibration", "--data", "test=test")
    status, _, err = run_here(folder, "extract", "--ckpt", pretrained[0], *data, "--device", "cpu")
    assert status == 0, err
    return folder


@pytest.mark.e2e
@needs_photographs
def test_planted_copies_are_found_with_a_threshold_from_other_photographs(photographs, pretrained):
    store = Store.open(photographs / "features.bb")
    (space,) = store.spaces()
    collection = store.collection("calibration", [])
    ids = collection.table["image_id"].to_list()
    x = store.read(space, collection, ids).astype(np.float64)
    x -= x.mean(axis=0)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    photograph = np.array([image_id.partition("-")[0] for image_id in ids])
    i, j = np.triu_indices(len(x), 1)
    same, cosines = photograph[i] == photograph[j], (x @ x.T)[i, j]
    cosine = round(midway(cosines[same].tolist(), cosines[~same].tolist()), 3)
    for options in (["--cosine", cosine], []):
        words = ("data", "check", "test", "--duplicates", "--ckpt", pretrained[0], "--csv", "-", *options)
        status, out, err = run_here(photographs, *words)
        assert status == 0, err
        pairs = list(csv.DictReader(io.StringIO(out)))
        true = sum(pair["image_id"].partition("-")[0] == pair["other"].partition("-")[0] for pair in pairs)
        assert true / len(pairs) >= 0.99
        assert true >= 0.99 * PHOTOGRAPHS / 2 * COPIES * (COPIES + 1) / 2


@pytest.fixture
def twins(own_place):  # noqa: F811
    """Images 0 and 119 are one file; 1 and 118 nearly one picture. The table puts the latter on two sides."""
    store, ids, y, _ = cluster_store(own_place / "features.bb", d=64, spread=3.0, twins=[(0, 119)])
    sides = np.where(np.arange(120) % 2, "test", "train")
    species = np.array(["fox", "owl", "hare", "lynx"])[y]
    frame = pl.DataFrame({"file": ids, "species": species, "split": sides})
    frame.write_csv(own_place / "split.csv")
    frame.drop("split").write_csv(own_place / "plain.csv")
    return store, ids


def check(call, *options):  # noqa: F811
    status, out, err = call("data", "check", "pics", "--duplicates", *options)
    return status, out, err


def test_counts_examples_and_all_pairs(twins, call):  # noqa: F811
    status, out, err = check(call, "--ckpt", NAME)
    assert status == 0, err
    assert re.search(r"pics: 120 images compared by lab:clusters, cosine 0.62 or more: \d+ pairs of \d+ images", out)
    assert "1 of them equal files" in out and "  equal files  pics/000.jpg  pics/119.jpg" in out
    _, out, _ = check(call, "--ckpt", NAME, "--labels", "split.csv")
    assert "  1 pairs of a training image and one that is tested or validated on" in out
    assert "  1 pairs with different labels" in out
    assert "  equal files  pics/000.jpg (fox, train)  pics/119.jpg (lynx, test)" in out
    _, out, _ = check(call, "--ckpt", NAME, "--labels", "plain.csv", "-v")
    assert "training image" not in out and "pics/000.jpg (fox)  pics/119.jpg (lynx)" in out and "-v lists" not in out


def test_more_pairs_than_examples(twins, call):  # noqa: F811
    _, out, _ = check(call, "--ckpt", NAME, "--cosine", 0.3)
    n = int(re.search(r"(\d+) pairs of", out)[1])
    assert n > 5 and len(out.splitlines()) == 8 and f"  -v lists all {n}, --csv FILE writes them" in out
    _, out, _ = check(call, "--ckpt", NAME, "--cosine", 0.3, "-v")
    assert len(out.splitlines()) == n + 1
    _, out, _ = check(call, "--ckpt", NAME, "--cosine", 0.3, "--csv", "pairs.csv", "--labels", "split.csv")
    pairs = pl.read_csv("pairs.csv")
    assert len(pairs) == n and pairs.columns == [
        "image_id", "other", "cosine", "same_file", "label", "other_label", "side", "other_side",
    ]  # fmt: skip
    assert pairs["cosine"].is_sorted(descending=True) and "  -v lists all" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--duplicates"],
            "--duplicates compares features: name their backbone with --ckpt, or the space",
        ),
        (["--duplicates", "--ckpt", NAME, "--cosine", "0.1"], "a threshold of 0.1 finds no near-duplicates"),
        (["--duplicates", "--ckpt", NAME, "other"], "--duplicates compares the images of one collection, not of pics"),
        (["--labels", "split.csv"], "--labels is for near-duplicates: give --duplicates, too."),
        (["--duplicates", "--ckpt", NAME, "--csv", "no/pairs.csv"], "--csv no/pairs.csv: the folder"),
    ],
)
def test_what_is_refused(twins, call, options, message):  # noqa: F811
    status, _, err = call("data", "check", "pics", *options)
    assert status == 2 and message in err


def test_several_spaces_and_images_without_features(twins, call):  # noqa: F811
    store, ids = twins
    from hashlib import sha256

    from bb.store import Collection, Entry
    from bb.store.imported import import_features

    key = [sha256(name.encode()).digest() for name in ids[:60]]
    digests = np.frombuffer(b"".join(key), np.uint8).reshape(-1, 32)
    import_features(store, np.ones((60, 8), np.float32), digests, ids[:60], name="lab:half", collection="pics")
    status, out, err = check(call, "--ckpt", "lab:half")
    assert status == 0 and "61 images compared" in out
    assert "note: 59 images without features are not compared, such as 'pics/060.jpg' (not extracted)" in err, err
    status, _, err = check(call, "--ckpt", NAME, "--ckpt", "lab:half")
    assert status == 2 and "--duplicates compares features of one space, and 2 are named" in err
    store.put_collection(Collection.from_entries("new", [Entry("a.jpg", b"1" * 32, 1, 8, 8)]))
    status, _, err = call("data", "check", "new", "--duplicates", "--ckpt", NAME)
    assert status == 1 and "0 images of new have features of" in err
