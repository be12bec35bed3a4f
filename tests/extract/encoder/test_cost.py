"""Parameters and operations of networks that a person can count by hand."""

import pytest
import torch
from torch import nn

from bb.extract.encoder.cost import cost_of


class Looks(nn.Module):
    """Decides by its pixels, which do not exist on the meta device."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, batch):
        return self.layer(batch.mean(dim=(2, 3))) if batch.max() > 0 else batch


def test_a_convolution_and_a_layer_are_counted():
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    operations = 2 * 3 * 3 * 3 * 4 * 8 * 6 + 2 * 4 * 5
    assert cost_of(network, (8, 6)) == {
        "parameters": 3 * 4 * 9 + 4 + 4 * 5 + 5,
        "gflops": pytest.approx(operations / 1e9, rel=1e-3),
    }
    assert all(not parameter.is_meta for parameter in network.parameters())
    network(torch.zeros(1, 3, 8, 6))  # it still has its weights


def test_what_cannot_be_counted_is_left_out():
    assert cost_of(Looks(), (4, 4)) == {"parameters": 8}
