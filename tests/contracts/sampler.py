"""What every batch sampler keeps."""

from collections import Counter
from dataclasses import replace

import numpy as np

from bb.probe.heads.samplers import BatchSampler


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
