"""A Ray cluster of some local nodes, bound to 127.0.0.1, started and stopped by the tests."""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.helpers.photographs import ROOT


def missing() -> str:
    """Why no Ray can be started here; empty where it can."""
    return "" if importlib.util.find_spec("ray") else "ray is not installed (the extra `ray`)"


@contextmanager
def ray_nodes(n: int = 3) -> Iterator[Any]:
    """Ray's own Cluster of n nodes with a CPU each; the first is the head. `address` says where it is."""
    # As scripts/bb/cluster/ray.py has it, and before ray is imported.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])  # workers import tests
    from ray._private import ray_constants
    from ray.cluster_utils import Cluster

    assert not ray_constants.ENABLE_RAY_CLUSTER, "ray was imported before, and listens elsewhere than on 127.0.0.1"

    node = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        for _ in range(n - 1):
            cluster.add_node(**node)
        yield cluster
    finally:
        cluster.shutdown()
