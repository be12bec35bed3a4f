"""What a pipeline tells a person who watches it: scalars, figures, its configuration.

The contract, and how a logger is named. The libraries behind it are extras. A logger is opened by `open_logger` and
closed by `close`: with `contextlib.closing`, for example.
"""

import json
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from bb.store.errors import UsageError
from bb.store.files.regular_file import refuse_in_store
from bb.store.plugins import Registry


@runtime_checkable
class Figure(Protocol):
    """Whatever can save itself as PNG: the figures of `bb.probe.retrieval.report.figures`, and matplotlib's."""

    def savefig(self, fname: BufferedIOBase, *, format: str) -> Any:
        """Writes the picture; `format` is "png"."""


@runtime_checkable
class PipelineLogger(Protocol):
    """Where a pipeline's progress goes. What is logged after `close` is an error; closing again is none."""

    def log_figure(self, fig: Figure, title: str, idx: int) -> None:
        """A figure, the `idx`-th under its title: of the step it belongs to, or of the place in a list."""

    def log_pipeline_info(self, cfg: Mapping[str, Any]) -> None:
        """What the pipeline was asked to do: of what JSON has words for. Once for each logger."""

    def log_scalars(self, scalars: Mapping[str, float], step: int) -> None:
        """Values by name, NaN and infinities included, at a step; steps may come in any order."""

    def close(self) -> None:
        """Writes all that is left."""


# Openers by name: each makes a logger of what follows the colon in NAME:PLACE. `needs`, if an opener has it, are pairs
# of a library that it imports and bb's extra that brings it.
LOGGERS: Registry[Callable[[str], PipelineLogger]] = Registry(
    "bb.loggers",
    "logger",
    {
        "tensorboard": "bb.probe.retrieval.loggers.tensorboard:TensorBoardLogger",
        "mlflow": "bb.probe.retrieval.loggers.mlflow:MLflowLogger",
        "wandb": "bb.probe.retrieval.loggers.wandb:WandbLogger",
    },
)


def open_logger(name: str) -> PipelineLogger:
    """The logger of a name: tensorboard:DIR, mlflow:DIR (or mlflow:URI), wandb:DIR (offline), or a
    plug-in's NAME:PLACE.

    Errors: UsageError where there is no such logger, its library is not installed, or DIR is in a store; BBError where
    it can't be opened.
    """
    kind, _, place = name.partition(":")
    if kind not in LOGGERS or not place:
        known = ", ".join(f"{known}:DIR" for known in LOGGERS.names())
        raise UsageError(f"{name!r} names no logger: choose {known}.")
    if "://" not in place:
        refuse_in_store(Path(place), f"--log {name}")
    opener = LOGGERS.load(kind)
    for library, extra in getattr(opener, "needs", ()):
        if find_spec(library) is None:
            raise UsageError(f"{name} needs {library}: pip install 'backbone-bench[{extra}]'")
    return opener(place)


def png(fig: Figure) -> bytes:
    """A figure's PNG file."""
    buffer = BytesIO()
    fig.savefig(buffer, format="png")
    return buffer.getvalue()


def config_text(cfg: Mapping[str, Any]) -> str:
    """A configuration as JSON, keys in order. Errors: TypeError for what JSON has no word for."""
    return json.dumps(cfg, indent=1, sort_keys=True, ensure_ascii=False)
