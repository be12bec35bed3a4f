"""Losses over features: the contract's suite, the triplet loss by hand and against pytorch-metric-learning, ArcFace."""

import numpy as np
import pytest
import torch
from pytorch_metric_learning import losses as pml
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.reducers import MeanReducer, SumReducer

from bb.probe.heads.losses import ArcFace, TripletLoss
from bb.probe.heads.miners import All, HardCluster, HardMiner, NHard
from bb.store import UsageError
from tests.contracts.loss import check_loss
from tests.helpers.heads import clusters

LOSSES = {
    "hard": lambda: TripletLoss(HardMiner()),
    "all": lambda: TripletLoss(All(), 1.0),
    "soft": lambda: TripletLoss(HardMiner(), None),
    "n-hard": lambda: TripletLoss(NHard(), 0.5),
    "cluster": lambda: TripletLoss(HardCluster(), 1.0),
    "arcface": lambda: ArcFace(4, 8, generator=torch.Generator().manual_seed(0)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_keeps_the_contract(name):
    check_loss(LOSSES[name]())


class Fixed:
    """Triplets that stand already."""

    def __init__(self, anchors, *triplets):
        self.anchors, self.triplets = anchors, torch.tensor(triplets)

    def __call__(self, features, labels, anchors=None):
        from bb.probe.heads.miners import Triplets

        return Triplets(features, self.anchors, *self.triplets.T)


def test_the_triplet_loss_by_hand():
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0], [6.0, 8.0]])
    labels = torch.tensor([0, 0, 1, 2])
    miner = Fixed(2, (0, 1, 2), (0, 1, 3), (1, 0, 3))  # distances 5 and 1, 5 and 10, 5 and 5
    each = TripletLoss(miner, 0.5, "none")(x, labels)
    torch.testing.assert_close(each, torch.tensor([4.5, 0.0, 0.5]))
    assert float(TripletLoss(miner, 0.5, "sum")(x, labels)) == pytest.approx(5.0)
    loss = TripletLoss(miner, 0.5)
    assert float(loss(x, labels)) == pytest.approx(5 / 3)
    assert loss.last_logs == pytest.approx(
        {"loss": 5 / 3, "triplets": 3, "active": 2 / 3, "positive_distance": 5, "negative_distance": 16 / 3}
    )
    soft = TripletLoss(miner, None, "none")(x, labels)
    np.testing.assert_allclose(soft, np.log1p(np.exp([4.0, -5.0, 0.0])), rtol=1e-5)


@pytest.mark.parametrize("margin", [0.3, None])
@pytest.mark.parametrize("reduction, reducer", [("mean", MeanReducer()), ("sum", SumReducer())])
def test_the_triplet_loss_is_that_of_pytorch_metric_learning(margin, reduction, reducer):
    labels = torch.tensor(np.random.default_rng(0).integers(0, 4, 24))
    x = torch.tensor(clusters(labels.tolist()))
    other = pml.TripletMarginLoss(
        margin=margin or 0.0, smooth_loss=margin is None, distance=LpDistance(normalize_embeddings=False),
        reducer=reducer,
    )  # fmt: skip
    ours = [x.clone().requires_grad_() for _ in range(2)]
    value = TripletLoss(All(), margin, reduction)(ours[0], labels)
    expected = other(ours[1], labels)
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)
    value.backward()
    expected.backward()
    torch.testing.assert_close(ours[0].grad, ours[1].grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("reduction, shape", [("mean", ()), ("sum", ()), ("none", (0,))])
def test_no_triplets_are_a_loss_of_nothing(reduction, shape):
    x = torch.ones(3, 4, requires_grad=True)
    loss = TripletLoss(HardMiner(), 0.2, reduction)
    value = loss(x, torch.arange(3))
    assert value.shape == shape and float(value.detach().sum()) == 0
    value.sum().backward()
    assert (x.grad == 0).all() and loss.last_logs == {"loss": 0.0, "triplets": 0.0}


def test_equal_features_have_gradients_that_are_numbers():
    x = torch.zeros(4, 3, requires_grad=True)
    TripletLoss(HardMiner())(x, torch.tensor([0, 0, 1, 1])).backward()
    assert x.grad.isfinite().all()


def test_a_bank_gives_positives_and_negatives_and_no_anchors():
    x = torch.tensor(clusters([0, 1, 0, 1, 2]))
    labels = torch.tensor([0, 1, 0, 1, 2])
    loss = TripletLoss(All(), 0.2, "none")
    assert len(loss(x, labels, 2)) == 2 * 1 * 3 and len(loss(x, labels)) == 4 * 1 * 3
    arcface = ArcFace(3, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(arcface(x, labels, 2), arcface(x[:2], labels[:2]))


def test_arcface_learns_directions_that_tell_labels_apart():
    labels = torch.tensor([0, 1, 2, 3] * 8)
    x = torch.tensor(clusters(labels.tolist(), spread=0.2))
    loss = ArcFace(4, 8, generator=torch.Generator().manual_seed(0))
    optimiser = torch.optim.Adam(loss.parameters(), lr=0.1)
    for _ in range(100):
        optimiser.zero_grad()
        loss(x, labels).backward()
        optimiser.step()
    assert loss.last_logs["accuracy"] == 1.0


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: TripletLoss(HardMiner(), -0.1),
            "a margin of -0.1 makes no sense: choose 0 or more, or the soft margin.",
        ),
        (lambda: TripletLoss(HardMiner(), float("nan")), "a margin of nan makes no sense"),
        (lambda: TripletLoss(HardMiner(), 0.1, "median"), "unknown reduction 'median': choose mean, sum, none."),
        (lambda: ArcFace(4, 8, margin=90.0, generator=torch.Generator()), "a margin of 90 degrees makes no sense"),
    ],
)
def test_what_makes_no_loss_is_said(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def test_labels_may_be_a_list():
    features, labels = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 0, 1, 1, 2, 2])
    loss = TripletLoss(All())
    assert loss(features, labels.tolist()) == loss(features, labels)
