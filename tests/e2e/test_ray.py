"""Ray: its own suite, streams that lose workers, and `bb extract` and `bb probe` on a cluster of three local nodes."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from functools import partial

import pytest

from bb.cluster.engine import Resources
from bb.cluster.ray import _ray, connected
from bb.cluster.ray_stream import RayStream
from bb.store import BBError, Store, UsageError
from tests.contracts.engine import check_engine
from tests.helpers.benches import bench_store
from tests.helpers.command_line import call, make_newt, own_place
from tests.helpers.engines import RESNET, VIT, check_equal, make_images
from tests.helpers.ray_nodes import missing, ray_nodes
from tests.helpers.ray_streams import Sum, deadly, double, unable
from tests.helpers.shards import pictures, write_tar

__all__ = ["call", "own_place"]
pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture(scope="module")
def nodes():
    with ray_nodes(3) as cluster:
        yield cluster


@pytest.fixture(scope="class")
def cluster(nodes):
    with connected(nodes.address, Resources()) as cluster:
        yield cluster


def flow(cluster, prepare, make, items, **options):
    heard = []
    stream = RayStream(cluster, prepare, make, 2, heard.append)
    stream.run(items, **options)
    totals = [each["total"] for each in heard if isinstance(each, dict)]
    return stream, heard.count(1), totals


class TestConnected:
    """All by one connection, so that workers are started once."""

    def test_the_suite_of_engines(self, cluster):
        assert (cluster.nodes, cluster.cpus, cluster.gpus) == (3, 3, 0)
        check_engine(cluster)

    def test_all_that_goes_in_comes_out(self, cluster):
        stream, taken, totals = flow(cluster, double, Sum, range(200))
        assert taken == 200 and sum(totals) == 2 * sum(range(200))
        assert len(totals) <= 2 and stream.lost == []

    def test_nothing_goes_in(self, cluster):
        _, taken, totals = flow(cluster, double, Sum, [])
        assert taken == 0 and sum(totals) == 0

    def test_a_lost_actor_is_replaced(self, cluster, tmp_path):
        stream, taken, totals = flow(cluster, double, partial(Sum, tmp_path / "died"), range(100))
        assert len(totals) <= 2
        assert 100 - 4 <= taken < 100  # what was under way to it is lost, and known to be
        assert len(stream.lost) == 1 and "died" in stream.lost[0]

    def test_an_item_that_kills_its_worker_costs_no_other(self, cluster):
        stream, taken, totals = flow(cluster, deadly, Sum, range(30))
        assert taken == 29 and sum(totals) == 2 * (sum(range(30)) - 13)
        assert len(stream.lost) == 1

    def test_a_sink_that_says_what_is_wrong_ends_the_stream(self, cluster):
        with pytest.raises(BBError, match=r"^-6 is negative$"):
            flow(cluster, double, Sum, [1, 2, -3])

    def test_a_worker_that_can_t_import_says_so(self, cluster):
        with pytest.raises(
            BBError, match="^a worker does not have what it needs: No module named 'lacking'. Every machine needs"
        ):
            flow(cluster, unable, Sum, [1])

    def test_a_stream_that_is_stopped_closes_its_sinks(self, cluster):
        begun = time.monotonic()
        _, taken, totals = flow(cluster, double, Sum, range(10**9), stop=lambda: time.monotonic() > begun + 3)
        assert len(totals) <= 2 and taken < 10**9


# bb on the cluster


def test_extraction_equals_that_of_one_process(nodes, call, tmp_path):
    images = make_images(tmp_path / "images")
    arguments = ["extract", "--ckpt", VIT, "--ckpt", RESNET, "--data", f"noise={images}", "--json"]
    status, out, _ = call(*arguments, "--store", "one.bb")
    here = json.loads(out)
    assert status == 1  # one file is no image
    status, out, err = call(*arguments, "--store", "ray.bb", "--on", f"ray:{nodes.address}", "--workers", "2")
    there = json.loads(out)
    assert status == 1, err
    timing = ("seconds", "images_per_second", "store")
    assert [{k: v for k, v in each.items() if k not in timing} for each in there] == [
        {k: v for k, v in each.items() if k not in timing} for each in here
    ]
    assert there[0]["computed"] == 60 and list(there[0]["failed"]) == ["broken.png"]
    check_equal(Store.open("one.bb"), Store.open("ray.bb"), "noise", [f"{i:03d}.png" for i in range(60)])
    status, out, err = call(*arguments, "--store", "ray.bb", "--on", f"ray:{nodes.address}")
    assert [each["computed"] for each in json.loads(out)] == [0, 0]
    assert "Ray on 3 machines with 3 CPUs and 0 GPUs" in err


def test_probes_are_spread(nodes, call, tmp_path):
    newt = make_newt(tmp_path / "newt")
    assert call("extract", "--ckpt", VIT, "--data", f"newt={newt}")[0] == 0
    arguments = ["probe", "newt", "--data", f"newt={newt}", "--n-train", "4", "--seed", "0", "--seed", "1", "--json"]
    status, out, err = call(*arguments, "--on", f"ray:{nodes.address}")
    assert status == 0, err
    runs = json.loads(out)
    assert [(run["n_train"], run["seed"], run["fresh"]) for run in runs] == [(4, 0, True), (4, 1, True)]
    assert "2 commands go to Ray" in err
    status, out, _ = call(*arguments)
    assert [run["fresh"] for run in json.loads(out)] == [False, False]
    again = json.loads(call(*arguments, "--on", f"ray:{nodes.address}")[1])
    assert [run["run_id"] for run in again] == [run["run_id"] for run in runs]


def test_a_board_is_spread(nodes, call, own_place):
    families = {"ponds": (48, 3), "birds": (60, 4)}
    text = 'protocols = ["biobench-simpleshot", "dinov2-knn"]\n'
    text += "".join(f'[families.{name}]\nlabels = "{name}.csv"\n' for name in families)
    (own_place / "board.toml").write_text(text)
    bench_store(own_place, families)
    shutil.copytree("features.bb", "here.bb")
    status, out, err = call("bench", "board.toml", "--store", "here.bb", "--out", "here.html", "--jobs", 1, "--json")
    here = json.loads(out)
    assert status == 0, err
    on = ("--on", f"ray:{nodes.address}", "--workers", "3")
    status, out, err = call("bench", "board.toml", "--store", "features.bb", *on, "--json")
    there = json.loads(out)
    assert status == 0, err
    assert "3 commands go to Ray on 3 machines" in err
    assert there == here and len(there["fresh"]) == there["runs"] == 2 * 2 * (1 + 4)
    made, same = ((own_place / name).read_text() for name in ("board.html", "here.html"))
    digest = re.compile(r"/[0-9a-f]{12}\b")  # of a run, whose record says when it was made
    assert digest.sub("", made) == digest.sub("", same)
    status, out, err = call("bench", "board.toml", "--store", "features.bb", *on, "--json")
    assert status == 0 and json.loads(out) == {**here, "fresh": []}, err


def test_a_worker_that_lacks_what_it_needs_says_where(nodes, call, tmp_path):
    images = make_images(tmp_path / "images", n=3)
    on = ("--on", f"ray:{nodes.address}")
    status, _, err = call("extract", "--ckpt", VIT, "--data", f"noise={images}", *on, "--device", "cuda")
    assert status == 2 or status == 1
    assert "a worker on" in err and "can't begin: --device cuda: torch sees 0 CUDA devices." in err


def test_shards_and_strictness(nodes, call, own_place):
    """Members of an archive reach workers; the first that fails ends it, and what was in hand is kept."""
    write_tar(own_place / "s.tar", pictures(12) | {"broken.jpg": b"no image"})
    arguments = ("extract", "--ckpt", VIT, "--data", "pics=s.tar", "--on", f"ray:{nodes.address}", "--strict", "--json")
    status, out, err = call(*arguments)
    (told,) = json.loads(out)
    assert (status, told["computed"], list(told["failed"]), told["stopped"]) == (1, 12, ["broken.jpg"], True), err


# Messages


def test_more_is_asked_for_than_there_is(nodes):
    message = "--gpus 1 and --cpus 1 for each worker are more than there are: Ray on 3 machines with 3 CPUs and 0 GPUs."
    with pytest.raises(UsageError, match=message), connected(nodes.address, Resources(gpus=1)):
        pass


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "127.0.0.1:1",
            r"--on ray:127.0.0.1:1: nobody answers at 127.0.0.1:1 \(Connection refused\). Look with `ray status`",
        )
    ],
)
def test_nobody_answers(address, message):
    with pytest.raises(BBError, match=message), connected(address, Resources()):
        pass


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError("Timed out after 30 seconds while waiting for node to startup."),
        Exception("The current node timed out during startup."),
    ],
)
def test_a_start_that_takes_too_long(monkeypatch, call, own_place, tmp_path, error):
    """As Ray says it: in two ways, neither of which has a type of its own. No cluster is needed to hear of it."""

    def init(**arguments):
        raise error

    monkeypatch.setattr(_ray(on_loopback=True), "init", init)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    bench_store(own_place, {"ponds": (24, 3)})
    (own_place / "board.toml").write_text('classifiers = ["simpleshot"]\n[families.ponds]\nlabels = "ponds.csv"\n')
    status, _, err = call("bench", "board.toml", "--on", "ray")
    assert status == 1 and "Traceback" not in err
    assert f"--on ray: Ray did not start on this machine: {error} A machine that is busy" in err
    assert f"Ray's logs: {tmp_path / 'ray' / 'session_latest' / 'logs'}" in err
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        message = re.escape(f"--on ray:{address}: {error} Look with `ray status`.")
        with pytest.raises(BBError, match=message), connected(address, Resources()):
            pass


@pytest.mark.parametrize("address", ["here", "127.0.0.1:x", "127.0.0.1:99999", ":5"])
def test_what_is_no_address(address):
    message = f"--on ray:{address}: that is neither HOST:PORT nor auto."
    with pytest.raises(UsageError, match=message), connected(address, Resources()):
        pass


def test_the_cluster_that_runs_here(nodes, monkeypatch, tmp_path):
    """As `ray start` notes it; a note of one that is gone is no use."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    message = "--on ray:auto: no cluster runs here: start one, or give --on ray:HOST:PORT."
    with pytest.raises(BBError, match=message), connected("auto", Resources()):
        pass
    (tmp_path / "ray").mkdir()
    note = tmp_path / "ray" / "ray_current_cluster"
    note.write_text("127.0.0.1:1\n")
    with pytest.raises(BBError, match="--on ray:auto: nobody answers at 127.0.0.1:1"), connected("auto", Resources()):
        pass
    note.write_text(nodes.address)
    with connected("auto", Resources()) as cluster:
        assert cluster.describe() == "Ray on 3 machines with 3 CPUs and 0 GPUs"


def test_the_first_interrupt_publishes_and_stops(tmp_path, nodes):
    """One that is sent while the stream runs leaves a store that the same command completes."""
    images = make_images(tmp_path / "images", n=400)
    command = [sys.executable, "-P", "-m", "bb", "extract", "--ckpt", VIT, "--data", f"noise={images}"]
    command += ["--store", str(tmp_path / "ray.bb"), "--on", f"ray:{nodes.address}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    said = ""
    for line in process.stderr:
        said += line
        if "features to compute" in line:
            break
    time.sleep(1)  # the handler is set right after that line
    process.send_signal(signal.SIGINT)
    out, rest = process.communicate(timeout=120)
    assert "Traceback" not in rest and process.returncode == 1, said + rest
    assert "stopping; what the workers have in hand will be kept" in rest
    assert "stopped early" in out
