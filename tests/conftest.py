"""Fixtures for all tests, and which of them are heavy by construction."""

import os

import pytest

from tests.helpers import examples
from tests.helpers.pretrained import pretrained, pretrained_newt
from tests.helpers.servers import faults, moto_endpoint, s3, s3_rclone

pytest.register_assert_rewrite("tests.contracts")
HEAVY = {"browser", "moto_endpoint", "s3_rclone", "pretrained_newt"}


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(items):
    """Marks with `e2e` what is in tests/e2e or needs a browser, a server of another project or pretrained networks.

    Other tests say it themselves.
    """
    for item in items:
        if "e2e" in item.path.relative_to(item.config.rootpath).parts or HEAVY & set(item.fixturenames):
            item.add_marker("e2e")


@pytest.fixture(scope="session", autouse=True)
def segments_close_when_full():
    """However slow the machine is; a test of the time sets it itself."""
    import bb.store.segment_writer  # not at the top: shapes are checked in modules that are imported from here on

    bb.store.segment_writer.MAX_SECONDS = float("inf")


@pytest.fixture(scope="session", autouse=True)
def own_configuration(tmp_path_factory):
    """No test reads or writes the settings and keys of who runs it."""
    os.environ["XDG_CONFIG_HOME"] = str(tmp_path_factory.mktemp("configuration"))


__all__ = ["examples", "faults", "moto_endpoint", "pretrained", "pretrained_newt", "s3", "s3_rclone"]
