"""Where torch comes in: only to fit, and with the remedy where it is not installed."""

from importlib import import_module
from types import ModuleType

from bb.store.errors import BBError


def torch_training(name: str, module: str = "torch_loops") -> ModuleType:
    """A module of training loops, for a classifier of this name. Errors: BBError where torch is not installed."""
    try:
        return import_module(f"bb.probe.classifiers.trained.{module}")
    except ImportError:
        raise BBError(
            f"classifier {name!r} is trained with torch, which is not installed: pip install 'backbone-bench[heads]'."
        ) from None
