"""A network of one's own as a backbone."""

import pytest
from torch import nn

from bb.extract import ModuleBackbone, View
from bb.store import BBError
from tests.contracts.backbone import BackboneSuite

VIEW = View("shortest", (32, 32), (32, 32), "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def pooled():
    return nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.GELU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())


class TestModuleBackbone(BackboneSuite):
    @pytest.fixture(scope="class")
    def backbone(self):
        return ModuleBackbone("example", pooled(), VIEW, {"name": "tiny"})


def test_a_network_that_gives_maps_is_refused():
    with pytest.raises(BBError, match=r"gives \[2, 8, 8, 8\] for 2 pictures; it must give a tensor of shape \[2, d\]"):
        ModuleBackbone("example", pooled()[:1], VIEW, {"name": "tiny"})
