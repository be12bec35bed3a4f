"""A backbone for bb: a network of one's own, as `--ckpt example:tiny/untrained` and `--ckpt example:tiny@WEIGHTS`."""

import safetensors.torch
import torch
from torch import nn

from bb.extract import ModuleBackbone, View
from bb.store import UsageError

VIEW = View("shortest", (32, 32), (32, 32), "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def names():
    return {"example:tiny/untrained": ""}


def check_name(name):
    if name.architecture != "tiny":
        raise UsageError(f"{name}: bb-example has no architecture {name.architecture!r}; it has tiny.")


def load(name, *, seed=0):
    check_name(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.GELU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    if name.path:
        network.load_state_dict(safetensors.torch.load_file(name.path))
    return ModuleBackbone("example", network, VIEW, {"name": "tiny", "width": 8})
