"""Loggers as they are: event files, MLflow's local store, an offline run of Weights & Biases, each read back."""

import json
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bb.probe.retrieval.loggers.base import open_logger
from bb.store.errors import BBError, UsageError
from tests.contracts.logger import Logged, LoggerSuite, Square
from tests.helpers.servers import GUARD
from tests.helpers.tensorboard import read_events


class TestTensorBoard(LoggerSuite):
    @pytest.fixture
    def opened(self, tmp_path):
        from bb.probe.retrieval.loggers.tensorboard import TensorBoardLogger

        logger = TensorBoardLogger(tmp_path / "tb")
        return logger, lambda: (logger.close(), read_events(tmp_path / "tb"))[1]


def test_event_files_say_how_large_a_figure_is(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = open_logger(f"tensorboard:{tmp_path / 'tb'}")
    logger.log_figure(Square(7), "worst", 2)
    logger.close()
    (image,) = EventAccumulator(str(tmp_path / "tb")).Reload().Images("worst")
    assert (image.width, image.height, image.step) == (7, 7, 2)


def test_event_files_need_neither_torch_nor_tensorflow(tmp_path):
    absent = "sys.modules.update(dict.fromkeys(('torch', 'tensorflow', 'PIL')))"
    script = (
        f"import sys; {absent}; from bb.probe.retrieval.loggers.base import open_logger; "
        f"logger = open_logger('tensorboard:{tmp_path / 'tb'}'); logger.log_scalars({{'loss': 1.0}}, 2); "
        "logger.log_pipeline_info({'a': 1}); logger.close()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert read_events(tmp_path / "tb").scalars == {"loss": [(2, 1.0)]}


class TestMLflow(LoggerSuite):
    def named(self, name):
        return {"map@10": "map_at_10", "a/b": "a_b"}.get(name, name)

    @pytest.fixture
    def opened(self, tmp_path):
        from bb.probe.retrieval.loggers.mlflow import MLflowLogger

        logger = MLflowLogger(str(tmp_path / "ml"))
        return logger, lambda: (logger.close(), read_mlflow(tmp_path / "ml"))[1]


def read_mlflow(folder):
    """Through MLflow's own client."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=folder.as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("bb").experiment_id])
    assert run.info.status == "FINISHED"
    scalars = {
        name: [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }
    figures, config = {}, None
    for item in client.list_artifacts(run.info.run_id, "figures"):
        title, _, idx = item.path.removeprefix("figures/").removesuffix(".png").rpartition("-")
        figures[title, int(idx)] = Path(client.download_artifacts(run.info.run_id, item.path)).read_bytes()
    if any(item.path == "config.json" for item in client.list_artifacts(run.info.run_id)):
        config = json.loads(Path(client.download_artifacts(run.info.run_id, "config.json")).read_text("utf-8"))
        assert run.data.params["sampler.labels"] == "8"
    return Logged(scalars, figures, config)


def test_a_place_that_mlflow_can_not_use_is_said(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(BBError, match=r"^MLflow can't log to .*file \(.*\)\. Name a folder or another URI\.$"):
        open_logger(f"mlflow:{tmp_path / 'file'}")


class TestWandb(LoggerSuite):
    @pytest.fixture
    def opened(self, tmp_path, monkeypatch):
        from bb.probe.retrieval.loggers.wandb import WandbLogger

        monkeypatch.setenv("WANDB_API_KEY", "")
        logger = WandbLogger(tmp_path / "wb")
        yield logger, lambda: (logger.close(), read_wandb(tmp_path / "wb"))[1]
        logger.close()


def read_wandb(folder):
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    for _ in range(50 * GUARD):  # the library's service may write a moment after the run is finished
        records = list(read_records(file.read_bytes()))
        if records and records[-1].HasField("exit"):
            break
        time.sleep(0.02)
    logged = Logged({}, {}, {})
    for record in records:
        said = record.config if record.HasField("config") else record.run.config
        logged.config.update((item.key or item.nested_key[0], json.loads(item.value_json)) for item in said.update)
        row = {tuple(item.nested_key) or (item.key,): json.loads(item.value_json) for item in record.history.item}
        for (name, *inner), value in row.items():
            if inner == ["path"]:
                logged.figures[name, row["step",]] = (file.parent / "files" / value).read_bytes()
            elif not inner and name != "step" and not name.startswith("_"):
                logged.scalars.setdefault(name, []).append((row["step",], float(value)))
    logged.config.pop("_wandb", None)
    return logged


def read_records(data):
    """Those of a run's transaction log: LevelDB's log format (github.com/google/leveldb, doc/log_format.md)."""
    from wandb.proto.wandb_internal_pb2 import Record

    block, header = 32768, 7
    place, whole = header, b""
    while place + header <= len(data):
        if block - place % block < header:  # no header fits in the rest of the block
            place += block - place % block
            continue
        length, kind = struct.unpack("<HB", data[place + 4 : place + header])
        whole += data[place + header : place + header + length]
        place += header + length
        if kind in (1, 4):  # whole, or its last part
            yield Record.FromString(whole)
            whole = b""


@pytest.mark.parametrize("name", ["", "tensorboard", "tensorboard:", "clearml:here", "Mlflow:x"])
def test_a_name_that_names_no_logger(name):
    with pytest.raises(UsageError) as said:
        open_logger(name)
    assert str(said.value) == f"{name!r} names no logger: choose tensorboard:DIR, mlflow:DIR, wandb:DIR."


@pytest.mark.parametrize(("kind", "library"), [("tensorboard",) * 2, ("mlflow",) * 2, ("wandb",) * 2, ("wandb", "PIL")])
def test_a_logger_whose_library_is_not_installed(kind, library, monkeypatch):
    monkeypatch.setattr("bb.probe.retrieval.loggers.base.find_spec", lambda name: None if name == library else name)
    with pytest.raises(UsageError) as said:
        open_logger(f"{kind}:here")
    assert str(said.value) == f"{kind}:here needs {library}: pip install 'backbone-bench[{kind}]'"


@pytest.mark.parametrize("kind", ["tensorboard", "wandb"])
def test_a_file_where_the_folder_should_be(kind, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(BBError, match=r"^can't write .* to .*file: .*\. Name another folder\.$"):
        open_logger(f"{kind}:{tmp_path / 'file'}")
