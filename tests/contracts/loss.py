"""What every loss on features keeps."""

import pytest
import torch

from bb.probe.heads.losses import FeatureLoss
from tests.helpers.heads import clusters


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
