"""The state of a training run, and the file from which it goes on: safetensors, written aside and renamed."""

import copy
import json
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from bb.probe.heads.losses import FeatureLoss
from bb.probe.heads.model import Head, metadata
from bb.store.errors import BBError
from bb.store.files.directory import Directory
from bb.store.files.ownership import token

FORMAT = "training 1"
STEPS = 2  # from a store's root to the folder of states: tmp/heads
MAX_BYTES = 2**32


@dataclass
class Checkpoint:
    """file: None keeps nothing on disk; every: seconds between two writings"""

    head: Head
    loss: FeatureLoss
    optimiser: torch.optim.Optimizer
    file: Path | None
    every: float
    epoch: int = 0
    best_epoch: int = 0
    history: list[float] = field(default_factory=list)
    _best: dict[str, Tensor] = field(default_factory=dict, repr=False)
    _saved: float = field(default_factory=time.monotonic, repr=False)

    def record(self, epoch: int, score: float) -> None:
        """Notes an epoch that is done with its validation; of equal ones the first is the best."""
        self.epoch = epoch
        if not self.history or score > self.history[self.best_epoch]:
            self.best_epoch = epoch
            self._best = {name: tensor.clone() for name, tensor in self.head.state_dict().items()}
        self.history.append(score)
        if time.monotonic() - self._saved >= self.every:
            self.save()

    def best_head(self) -> Head:
        head = copy.deepcopy(self.head)
        head.load_state_dict(self._best)
        head.freeze()
        return head

    def save(self) -> None:
        """Leaves the state in the file; a process that is killed meanwhile leaves the older one."""
        if self.file is None:
            return
        from safetensors.torch import save

        header = {"format": FORMAT, "epoch": self.epoch, "best_epoch": self.best_epoch, "history": self.history}
        folder, temporary = _folder_of(self.file), f"{self.file.name}.{secrets.token_hex(8)}"
        header |= {"owner": token(folder.root, folder.at)}
        data = save({name: t.detach().clone() for name, t in self._tensors().items()}, {"bb": json.dumps(header)})
        folder.make_folder("")
        folder.write(temporary, data)
        folder.rename(temporary, self.file.name)
        self._saved = time.monotonic()

    def resume(self) -> bool:
        """Takes over the file's state; False where this machine left none. Errors: BBError where it is damaged."""
        if self.file is None or not can_resume(self.file):
            return False
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            data = _read(self.file)
            header, tensors = metadata(data), load(data)
            if header["format"] != FORMAT or len(header["history"]) != header["epoch"] + 1:
                raise ValueError("it is of another format")
            self._take(tensors)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
            fact = " ".join(str(error).split())[:200]
            raise BBError(
                f"{self.file} is not a training state to resume from ({fact}): delete it, and training starts again."
            ) from None
        self.epoch, self.best_epoch, self.history = header["epoch"], header["best_epoch"], header["history"]
        return True

    def _tensors(self) -> dict[str, Tensor]:
        """All that changes, by name: head, best head, the loss's own, and the optimiser's moments by parameter."""
        moments = {
            f"optimiser.{place}.{name}": value
            for place, values in self.optimiser.state_dict()["state"].items()
            for name, value in values.items()
        }
        return {
            **{f"head.{name}": tensor for name, tensor in self.head.state_dict().items()},
            **{f"best.{name}": tensor for name, tensor in self._best.items()},
            **{f"loss.{name}": tensor for name, tensor in cast(nn.Module, self.loss).state_dict().items()},
            **moments,
        }

    def _take(self, tensors: dict[str, Tensor]) -> None:
        def below(kind: str) -> dict[str, Tensor]:
            return {name.removeprefix(kind): t for name, t in tensors.items() if name.startswith(kind)}

        self.head.load_state_dict(below("head."))
        self._best = below("best.")
        cast(nn.Module, self.loss).load_state_dict(below("loss."))
        whole: dict[str, Any] = self.optimiser.state_dict()
        whole["state"] = {}
        for name, tensor in below("optimiser.").items():
            place, _, moment = name.partition(".")
            whole["state"].setdefault(int(place), {})[moment] = tensor
        self.optimiser.load_state_dict(whole)


def can_resume(file: Path) -> bool:
    """Whether there is a state that training on this machine left: one that came with a store is not gone on with.

    A damaged state counts, so that it is not trained over without a word.
    """
    folder = _folder_of(file)
    try:
        header = metadata(_read(file))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except ValueError:
        return True
    return isinstance(header, dict) and header.get("owner") == token(folder.root, folder.at)


def _folder_of(file: Path) -> Directory:
    return Directory.within(file.parent, STEPS)


def _read(file: Path) -> bytes:
    data = _folder_of(file).read(file.name, MAX_BYTES)
    if data is None:
        raise ValueError(f"it has more than {MAX_BYTES} bytes")
    return data
