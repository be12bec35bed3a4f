"""Event files for TensorBoard, written without TensorFlow and torch."""

import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from bb.probe.retrieval.loggers.base import Figure, config_text, png
from bb.store.errors import BBError


class TensorBoardLogger:
    """One event file in a folder, which `tensorboard --logdir` shows.

    Errors: BBError where the folder can't be written to.
    """

    needs: ClassVar = (("tensorboard", "tensorboard"),)

    def __init__(self, place: str | Path) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder = Path(place)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._writer = EventFileWriter(str(folder))
        except OSError as error:
            raise BBError(f"can't write event files to {folder}: {error.strerror}. Name another folder.") from None

    def log_figure(self, fig: Figure, title: str, idx: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        data = png(fig)
        width, height = struct.unpack(">II", data[16:24])  # of the header, which is a PNG's first chunk
        image = Summary.Image(encoded_image_string=data, width=width, height=height)
        self._add(Summary(value=[Summary.Value(tag=title, image=image)]), idx)

    def log_pipeline_info(self, cfg: Mapping[str, Any]) -> None:
        from tensorboard.plugins.text.summary_v2 import text_pb

        self._add(text_pb("config", f"```json\n{config_text(cfg)}\n```"), 0)

    def log_scalars(self, scalars: Mapping[str, float], step: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._add(Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]), step)

    def close(self) -> None:
        self._writer.close()

    def _add(self, summary: Any, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))
