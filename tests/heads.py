"""Suites that whatever keeps a contract of probe/heads/ passes; see the files test_….py for what keeps them."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from probe.heads.batches import BatchSampler
from probe.heads.extractor import Extractor
from probe.heads.freezable import Freezable
from probe.heads.loss import FeatureLoss
from probe.heads.triplets import Miner
from store import UsageError


def clusters(labels, dim=8, seed=0, spread=1.0):
    """Rows around a centre for each label, float32."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(max(labels) + 1, dim))
    return (centres[labels] + spread * rng.normal(size=(len(labels), dim))).astype(np.float32)


def check_extractor(extractor, x, unknown):
    """`x`: four or more inputs; `unknown`: a name that is none."""
    assert isinstance(extractor, Extractor)
    found = extractor.extract(x)
    assert found.shape == (len(x), extractor.feat_dim) and found.dtype == torch.float32
    assert not found.requires_grad and found.isfinite().all()
    torch.testing.assert_close(extractor.extract(x[1:3]), found[1:3], rtol=1e-4, atol=1e-5)
    with pytest.raises(UsageError) as caught:
        type(extractor).from_pretrained(unknown)
    return str(caught.value)


def check_freezable(freezable, parameters):
    """`parameters`: gives those of the freezable, at any time."""
    assert isinstance(freezable, Freezable)
    assert parameters()
    for _ in range(2):
        freezable.freeze()
        assert not any(parameter.requires_grad for parameter in parameters())
    for _ in range(2):
        freezable.unfreeze()
        assert all(parameter.requires_grad for parameter in parameters())


def check_batch_sampler(sampler, labels):
    """`labels`: the label of each row; two in a batch at least."""
    assert isinstance(sampler, BatchSampler)
    batches = list(sampler)
    assert len(batches) == len(sampler) > 0
    assert batches == list(sampler), "iterated again, it gives the same again"
    assert batches != list(replace(sampler, seed=7)) and batches != list(replace(sampler, seed=(0, 1)))
    assert list(replace(sampler, seed=(0, 1))) != list(replace(sampler, seed=(0, 2)))
    size = Counter(np.asarray(labels).tolist())
    for batch in batches:
        assert all(type(row) is int and 0 <= row < len(labels) for row in batch)
        there = Counter(int(labels[row]) for row in batch)
        assert len(there) > 1 and min(there.values()) > 1
        for row, times in Counter(batch).items():
            label = int(labels[row])
            assert times == 1 or times <= -(-there[label] // size[label]), "again only where there are too few"
    return batches


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


def check_loss(loss):
    """Labels are below 4, features have 8 dimensions."""
    assert isinstance(loss, FeatureLoss)
    assert loss.last_logs == {}
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 2, 3])
    x = torch.nn.functional.normalize(torch.tensor(clusters(labels.tolist()))).requires_grad_()
    value = loss(x, labels)
    assert value.shape == () and value.isfinite() and value > 0
    value.backward()
    assert x.grad is not None and x.grad.isfinite().all() and x.grad.abs().sum() > 0
    assert loss.last_logs["loss"] == pytest.approx(float(value.detach()), rel=1e-5)
    assert all(isinstance(number, float) for number in loss.last_logs.values())
    # The features of a bank ask for nothing by themselves, so those at the end change no label's turn as anchor.
    assert torch.equal(loss(x, labels, len(x)), loss(x, labels))
    # It can be gone down.
    y = x.detach().clone().requires_grad_()
    optimiser = torch.optim.Adam([y, *loss.parameters()], lr=0.05)
    for _ in range(60):
        optimiser.zero_grad()
        loss(y, labels).backward()
        optimiser.step()
    assert loss(y, labels) < 0.5 * value
    # One label, or one feature of each: a loss that can be gone down all the same.
    for few in (torch.zeros(8, dtype=torch.long), torch.arange(8) % 4):
        rows = slice(0, 4)
        z = x.detach()[rows].clone().requires_grad_()
        nothing = loss(z, few[rows])
        assert nothing.isfinite()
        nothing.backward()
        assert z.grad is not None and z.grad.isfinite().all()
