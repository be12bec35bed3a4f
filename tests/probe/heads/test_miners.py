"""Miners: the contract's suite, and each against its definition and against pytorch-metric-learning."""

import numpy as np
import pytest
import torch
from pytorch_metric_learning import miners as pml
from pytorch_metric_learning.utils.loss_and_miner_utils import get_all_triplets_indices

from bb.probe.heads.miners import All, Bank, HardCluster, HardMiner, NHard
from bb.store import UsageError
from tests.contracts.miner import check_miner
from tests.helpers.heads import clusters

MINERS = {"all": All(), "hard": HardMiner(), "n-hard": NHard(2, 3), "n-hard from": NHard((2, 3), (2, 5))}


@pytest.mark.parametrize("name", MINERS)
def test_keeps_the_contract(name):
    check_miner(MINERS[name])


def test_hard_cluster_keeps_the_contract():
    check_miner(HardCluster(), in_batch=False)


@pytest.fixture(params=range(4))
def batch(request):
    rng = np.random.default_rng(request.param)
    labels = rng.integers(0, 6, 40)
    return torch.tensor(clusters(labels, seed=request.param)), torch.tensor(labels)


def as_set(found):
    return set(zip(found.anchor.tolist(), found.positive.tolist(), found.negative.tolist(), strict=True))


def test_all_are_those_of_pytorch_metric_learning(batch):
    x, labels = batch
    expected = get_all_triplets_indices(labels)
    assert as_set(All()(x, labels)) == set(zip(*(part.tolist() for part in expected), strict=True))


def test_hard_are_those_of_pytorch_metric_learning(batch):
    x, labels = batch
    from pytorch_metric_learning.distances import LpDistance

    expected = pml.BatchHardMiner(distance=LpDistance(normalize_embeddings=False))(x, labels)
    assert as_set(HardMiner()(x, labels)) == set(zip(*(part.tolist() for part in expected), strict=True))


@pytest.mark.parametrize("anchors", [40, 12])
@pytest.mark.parametrize("p, n", [((1, 1), (1, 1)), ((1, 2), (1, 10)), ((2, 3), (4, 6)), ((1, 99), (1, 99))])
def test_n_hard_by_definition(batch, anchors, p, n):
    x, labels = batch
    distance = torch.cdist(x.double(), x.double())
    expected = set()
    for a in range(anchors):
        others = [i for i in range(40) if i != a]
        same = sorted((i for i in others if labels[i] == labels[a]), key=lambda i: -distance[a, i])
        differ = sorted((i for i in others if labels[i] != labels[a]), key=lambda i: distance[a, i])
        expected |= {(a, i, j) for i in same[p[0] - 1 : p[1]] for j in differ[n[0] - 1 : n[1]]}
    assert as_set(NHard(p, n)(x, labels, anchors)) == expected
    if p == n == (1, 1):
        assert as_set(HardMiner()(x, labels, anchors)) == expected
    if p == n == (1, 99):
        assert as_set(All()(x, labels, anchors)) == expected


def test_hard_cluster_by_definition(batch):
    x, labels = batch
    found = HardCluster()(x, labels)
    codes = labels.unique()
    means = torch.stack([x[labels == code].mean(0) for code in codes])
    torch.testing.assert_close(found.pool, torch.cat([means, x]))
    expected = set()
    for place, code in enumerate(codes):
        own = torch.nonzero(labels == code)[:, 0]
        if len(own) > 1:
            far = own[(x[own] - means[place]).norm(dim=1).argmax()]
            between = (means - means[place]).norm(dim=1)
            between[place] = torch.inf
            expected.add((place, int(far) + len(codes), int(between.argmin())))
    assert as_set(found) == expected
    # Only labels of the batch are anchors, whatever the bank brings.
    first = HardCluster()(x, labels, 3)
    assert {int(codes[a]) for a in first.anchor} <= set(labels[:3].tolist())


def test_a_miner_of_none_is_refused():
    for asked in (0, (0, 2), (3, 2)):
        with pytest.raises(UsageError, match="hardest positives are none: count from 1, the hardest, upwards"):
            NHard(asked, 2)
    with pytest.raises(UsageError, match="0 hardest negatives are none"):
        NHard(1, 0)


def test_a_bank_draws_other_rows_than_the_batch():
    rng = np.random.default_rng(0)
    batch = [3, 9, 4]
    drawn = Bank(10).draw(batch, 20, rng)
    assert len(set(drawn.tolist())) == 10 and not set(drawn.tolist()) & set(batch)
    assert set(Bank(100).draw(batch, 20, rng).tolist()) == set(range(20)) - set(batch)
    with pytest.raises(UsageError, match="a bank of 0 rows holds nothing"):
        Bank(0)
