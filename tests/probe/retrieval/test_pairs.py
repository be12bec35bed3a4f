"""Tables of pairs: a pairwise model says how far apart two images are, of features and of the images themselves."""

from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import bb.extract
from bb.extract.scan_collection import find_files, hash_images
from bb.probe.heads.examples import PairDataset
from bb.probe.retrieval.pairs import ImagePairs
from bb.probe.retrieval.pairwise_model import Distance
from bb.probe.retrieval.ranking import Ranking
from bb.probe.retrieval.rerank import Rerank
from bb.store import BBError, Collection, Store, UsageError
from tests.helpers.labelled import labelled

TABLE = pl.DataFrame({"image_id_1": ["a.png", "c.png", "a.png"], "image_id_2": ["b.png", "b.png", "a.png"], "same": 0})


@dataclass(frozen=True)
class Brightness:
    """A user's own model over pixels: how much two images differ in their mean."""

    def forward(self, x1, x2):
        return abs(x1.mean((1, 2, 3)) - x2.mean((1, 2, 3)))

    predict = forward


class SeparableBrightness(Brightness):
    def project(self, x):
        return x.mean((1, 2, 3))[:, None]

    def compare(self, z1, z2):
        return abs(z1 - z2)[:, 0]


def pixels(picture):
    return np.asarray(picture, np.float32).transpose(2, 0, 1)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    (folder / "pics").mkdir()
    for i, name in enumerate(("a", "b", "c")):
        Image.new("RGB", (5, 4), (30 * i**2,) * 3).save(folder / "pics" / f"{name}.png")
    store = Store.create(folder / "s.bb")
    scan = hash_images("pics", find_files(folder / "pics"), read_only=True)
    store.put_collection(Collection.from_entries("pics", scan.entries))
    return bb.extract.open_images(store, "pics", folder / "pics").transformed(pixels)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labelled")
    labelled(folder)
    return Store.open(folder / "features.bb").features()


@pytest.mark.parametrize("model", [Brightness(), SeparableBrightness()])
@pytest.mark.parametrize("floats", [1, 70, 2**23])
def test_pairs_of_images_are_compared(images, model, floats, monkeypatch):
    monkeypatch.setattr("bb.probe.retrieval.pairwise_model.FLOATS", floats)
    pairs = ImagePairs.of(images, TABLE)
    distances = pairs.distances(model)
    assert distances.tolist() == [30, 90, 0] and distances.dtype == np.float32
    assert pairs.table.with_columns(distance=distances)["distance"].to_list() == [30, 90, 0]


def test_pairs_of_features_are_compared_by_the_same_contract(found):
    ids = found.image_ids
    table = pl.DataFrame({"image_id_1": ids[:5], "image_id_2": ids[5:10]})
    distances = ImagePairs.of(found, table).distances(Distance("euclidean"))
    np.testing.assert_allclose(distances, np.linalg.norm(found.array[:5] - found.array[5:10], axis=1), rtol=1e-6)


def test_a_loader_gives_batches_of_pairs(images, found):
    for x1, x2, pair in DataLoader(PairDataset(ImagePairs.of(images, TABLE)), batch_size=2):
        assert x1.shape == x2.shape == (len(pair), 3, 4, 5) and x1.dtype == torch.float32
        assert x1[:, 0, 0, 0].tolist() == [{"a.png": 0, "c.png": 120}[TABLE["image_id_1"][int(row)]] for row in pair]
    table = pl.DataFrame({"image_id_1": found.image_ids[:1], "image_id_2": found.image_ids[1:2]})
    ((x1, x2, pair),) = DataLoader(PairDataset(ImagePairs.of(found, table)))
    assert x1.shape == (1, 8) and np.array_equal(x2[0], found.array[1]) and pair.tolist() == [0]


@pytest.mark.parametrize("model", [Brightness(), SeparableBrightness()])
def test_a_ranking_is_put_in_order_by_the_images(images, model):
    ranking = Ranking(np.array([0]), np.array([[2, 1]]), np.array([[0.1, 0.2]], np.float32), np.array([1]))
    reranked = Rerank(model, images, top_n=2)(ranking)
    assert reranked.nearest.tolist() == [[1, 2]] and reranked.distance.tolist() == [[30, 120]]


def test_a_table_without_its_columns_is_refused(images):
    with pytest.raises(UsageError, match="a table of pairs has the columns image_id_1 and image_id_2; image_id_2 is"):
        ImagePairs.of(images, pl.DataFrame({"image_id_1": ["a.png"]}))


def test_images_without_rows_are_named(images, found):
    table = pl.DataFrame({"image_id_1": ["z.png"], "image_id_2": ["b.png"]})
    with pytest.raises(
        BBError, match="1 images of the pairs have no files here: z.png. Add them, or drop these pairs."
    ):
        ImagePairs.of(images, table)
    with pytest.raises(BBError, match="2 images of the pairs have no features: b.png, z.png."):
        ImagePairs.of(found, table)
