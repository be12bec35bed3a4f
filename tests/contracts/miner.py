"""What every miner keeps."""

import torch

from bb.probe.heads.miners import Miner
from tests.helpers.heads import clusters


def check_miner(miner, *, in_batch=True):
    """`in_batch`: whether its pool is the features themselves."""
    assert isinstance(miner, Miner)
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 3])
    x = torch.tensor(clusters(labels.tolist()), requires_grad=True)
    for anchors in (None, 10, 4):
        found = miner(x, labels, anchors)
        assert len(found) > 0 and found.anchor.dtype == torch.int64
        check_triplets(found, x, labels, anchors or 10, in_batch)
        again = miner(x, labels, anchors)
        assert all(torch.equal(getattr(found, n), getattr(again, n)) for n in ("anchor", "positive", "negative"))
    found.pool.sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()
    with torch.no_grad():
        same = x[:1].expand(10, -1)  # duplicates: all distances are 0, the anchor's to itself among them
        check_triplets(miner(same, labels), same, labels, 10, in_batch)
        for nothing in ([0] * 10, list(range(10))):  # no negatives, no positives
            assert len(miner(x, torch.tensor(nothing))) == 0
        assert len(miner(x[:1], labels[:1])) == 0


def check_triplets(found, x, labels, anchors, in_batch):
    if not in_batch:
        return
    assert found.pool is x and found.anchors == anchors
    assert (found.anchor < anchors).all()
    assert (found.anchor != found.positive).all(), "never the anchor itself"
    assert (labels[found.anchor] == labels[found.positive]).all()
    assert (labels[found.anchor] != labels[found.negative]).all()
    triplets = torch.stack([found.anchor, found.positive, found.negative]).T.tolist()
    assert len({tuple(triplet) for triplet in triplets}) == len(triplets)
