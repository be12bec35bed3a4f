"""Stored features with labels as torch's Dataset."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from bb.probe.heads.examples import FeatureDataset
from bb.probe.heads.samplers import Balanced, EachEpoch
from bb.store import BBError, Store
from tests.helpers.labelled import labelled


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labelled")
    labelled(folder)
    return Store.open(folder / "features.bb").features()


def test_items_are_features_codes_and_rows(found):
    labels = {image_id: "owl" if row % 3 else "crow" for row, image_id in enumerate(found.image_ids) if row != 1}
    data = FeatureDataset.of(found, labels)
    assert (data.classes, len(data)) == (("crow", "owl"), len(found) - 1)
    feature, code, row = data[1]
    assert torch.equal(feature, torch.from_numpy(found.array[2].astype(np.float32)))
    assert (data.classes[code], data.image_ids[row]) == (labels[found.image_ids[2]], found.image_ids[2])


def test_a_loader_with_a_batch_sampler(found):
    data = FeatureDataset.of(found, {image_id: str(row % 5) for row, image_id in enumerate(found.image_ids)})
    sampler = EachEpoch(lambda seed: Balanced(data.labels, 3, 2, seed))
    for x, codes, rows in DataLoader(data, batch_sampler=sampler):
        assert x.shape == (6, data.array.shape[1]) and x.dtype == torch.float32
        assert len(set(codes.tolist())) == 3 and codes.tolist() == data.labels[rows].tolist()
    assert sampler.epoch == 1


def test_labels_without_features_are_named(found):
    with pytest.raises(BBError, match="1 labelled images have no features: nowhere.jpg. Extract them first."):
        FeatureDataset.of(found, {"nowhere.jpg": "owl"})
