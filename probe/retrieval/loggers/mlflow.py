"""Runs for MLflow: in a local folder, or wherever a tracking URI leads."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from bb.probe.retrieval.loggers.base import Figure, config_text, png
from bb.store.errors import BBError

EXPERIMENT = "bb"
LONGEST = 500  # characters of a parameter; config.json has it whole


class MLflowLogger:
    """One run of the experiment `bb`: metrics, figures/TITLE-IDX.png, config.json and its values as parameters.

    MLflow's names know neither `@` nor most other signs: `map@10` is logged as `map_at_10`, other signs become `_`.

    place   a folder (MLflow's own file store, which needs no database), or a tracking URI with a scheme
    Errors: BBError where MLflow can't use the place.
    """

    needs: ClassVar = (("mlflow", "mlflow"),)

    def __init__(self, place: str) -> None:
        # Unless they are set: no usage statistics are sent, and a folder is a store, which MLflow asks to confirm.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        uri = place if "://" in place else Path(place).absolute().as_uri()
        try:
            self._client = MlflowClient(tracking_uri=uri)
            found = self._client.get_experiment_by_name(EXPERIMENT)
            experiment = found.experiment_id if found else self._client.create_experiment(EXPERIMENT)
            self._run: str | None = self._client.create_run(experiment).info.run_id
        except (MlflowException, ImportError, OSError) as error:
            first = str(error).partition("\n")[0]
            raise BBError(f"MLflow can't log to {place} ({first[:300]}). Name a folder or another URI.") from None

    def log_figure(self, fig: Figure, title: str, idx: int) -> None:
        with TemporaryDirectory() as folder:
            file = Path(folder) / f"{_name(title).replace('/', '_')}-{idx}.png"
            file.write_bytes(png(fig))
            self._client.log_artifact(self._open(), str(file), "figures")

    def log_pipeline_info(self, cfg: Mapping[str, Any]) -> None:
        self._client.log_text(self._open(), config_text(cfg), "config.json")
        for name, value in _flat(cfg):
            self._client.log_param(self._open(), _name(name), str(value)[:LONGEST])

    def log_scalars(self, scalars: Mapping[str, float], step: int) -> None:
        for name, value in scalars.items():
            self._client.log_metric(self._open(), _name(name), float(value), step=step)

    def close(self) -> None:
        if self._run is not None:
            self._client.set_terminated(self._run)
            self._run = None

    def _open(self) -> str:
        if self._run is None:
            raise ValueError("this logger is closed")
        return self._run


def _name(text: str) -> str:
    return re.sub(r"[^\w.\- :/]", "_", text.replace("@", "_at_"), flags=re.ASCII)


def _flat(cfg: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Values by dotted name."""
    for key, value in cfg.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value
