"""What every pipeline logger must do, whatever stands behind it. A test module gives `logger` and `read`."""

import json
import math
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

import pytest

from bb.probe.retrieval.loggers.base import PipelineLogger

CONFIG = {"loss": "triplet", "sampler": {"labels": 8, "instances": 4}, "ks": [1, 5], "name": "Wal·Ähre", "seed": None}


@dataclass(frozen=True)
class Logged:
    """What can be read back. `name` says what a name has become."""

    scalars: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    figures: dict[tuple[str, int], bytes] = field(default_factory=dict)
    config: Any = None


@dataclass(frozen=True)
class Square:
    """A figure as any other library may make one: a grey PNG."""

    side: int

    def savefig(self, fname, *, format):
        assert format == "png"
        rows = b"".join(b"\0" + bytes([128] * self.side) for _ in range(self.side))
        parts = [(b"IHDR", struct.pack(">IIBBBBB", self.side, self.side, 8, 0, 0, 0, 0))]
        parts += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
        fname.write(b"\x89PNG\r\n\x1a\n")
        for kind, data in parts:
            fname.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))


def png(side):
    from io import BytesIO

    buffer = BytesIO()
    Square(side).savefig(buffer, format="png")
    return buffer.getvalue()


class LoggerSuite:
    """Subclasses have the fixture `opened`: (logger, function that closes it and reads what it logged)."""

    def named(self, name: str) -> str:
        """What the library's rules for names make of one."""
        return name

    def test_it_keeps_the_contract(self, opened):
        assert isinstance(opened[0], PipelineLogger)

    def test_scalars_come_back_at_their_steps_in_any_order(self, opened):
        logger, read = opened
        logger.log_scalars({"map@10": 0.25, "loss": 2.0}, 3)
        logger.log_scalars({"loss": 1.5}, 7)
        logger.log_scalars({"loss": 4.0}, 1)
        found = read().scalars
        assert sorted(found[self.named("loss")]) == [(1, 4.0), (3, 2.0), (7, 1.5)]
        assert found[self.named("map@10")] == [(3, 0.25)]

    def test_values_that_are_no_numbers_are_logged_too(self, opened):
        logger, read = opened
        logger.log_scalars({"loss": math.nan, "bound": math.inf}, 0)
        found = read().scalars
        assert math.isnan(found["loss"][0][1]) and found["bound"][0][1] > 1e300

    def test_figures_come_back_to_the_byte(self, opened):
        logger, read = opened
        for idx, side in ((0, 3), (1, 5)):
            logger.log_figure(Square(side), "worst queries", idx)
        logger.log_figure(Square(2), "a/b", 0)
        assert read().figures == {
            (self.named("worst queries"), 0): png(3),
            (self.named("worst queries"), 1): png(5),
            (self.named("a/b"), 0): png(2),
        }

    def test_the_configuration_comes_back(self, opened):
        logger, read = opened
        logger.log_pipeline_info(CONFIG)
        assert json.loads(json.dumps(read().config)) == CONFIG

    def test_closing_twice_is_no_error_and_logging_afterwards_is_one(self, opened):
        logger, read = opened
        logger.log_scalars({"loss": 1.0}, 0)
        logger.close()
        logger.close()
        with pytest.raises(Exception):  # noqa: B017  # whatever the library raises
            logger.log_scalars({"loss": 2.0}, 1)
        assert read().scalars["loss"] == [(0, 1.0)]
