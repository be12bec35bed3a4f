"""Runs for Weights & Biases, offline: nothing leaves the machine until a person runs `wandb sync`."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from bb.probe.retrieval.loggers.base import Figure, png
from bb.store.errors import BBError

PROJECT = "bb"


class WandbLogger:
    """One offline run, in FOLDER/wandb/offline-run-…

    The library's own service writes the file, whole a moment after `close` and at the process's end at the latest.
    Its steps may only ascend, so ours stand next to the values, as `step`, which the charts have as their axis.
    Errors: BBError where the folder can't be written to.
    """

    needs: ClassVar = (("wandb", "wandb"), ("PIL", "wandb"))  # which takes figures through Pillow

    def __init__(self, place: str | Path) -> None:
        import wandb

        folder = Path(place)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            settings = wandb.Settings(
                silent=True, console="off", disable_git=True, save_code=False, x_disable_stats=True
            )
            self._run = wandb.init(
                mode="offline", dir=str(folder.absolute()), project=PROJECT, settings=settings, reinit="create_new"
            )
        except (OSError, wandb.Error) as error:
            raise BBError(f"can't write runs of Weights & Biases to {folder}: {error}. Name another folder.") from None
        self._run.define_metric("*", step_metric="step")

    def log_figure(self, fig: Figure, title: str, idx: int) -> None:
        import wandb

        with TemporaryDirectory() as folder:  # the run has a copy of its own
            file = Path(folder) / "figure.png"
            file.write_bytes(png(fig))
            self._run.log({title: wandb.Image(str(file)), "step": idx})

    def log_pipeline_info(self, cfg: Mapping[str, Any]) -> None:
        self._run.config.update(dict(cfg))

    def log_scalars(self, scalars: Mapping[str, float], step: int) -> None:
        self._run.log({**{name: float(value) for name, value in scalars.items()}, "step": step})

    def close(self) -> None:
        self._run.finish()
