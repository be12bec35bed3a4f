"""Where torch comes in: only to fit, and with the remedy where it is not installed."""

from types import ModuleType

from bb.store.errors import BBError


def torch_training(name: str) -> ModuleType:
    """The module of training loops. Errors: BBError where torch is not installed."""
    try:
        from bb.probe.classifiers.trained import torch_loops
    except ImportError:
        raise BBError(
            f"classifier {name!r} is trained with torch, which is not installed: pip install 'backbone-bench[heads]'."
        ) from None
    return torch_loops
