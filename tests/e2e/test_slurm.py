"""Slurm, as the tests start it: the suite of engines, `bb extract` and `bb probe`, jobs cancelled or refused."""

import getpass
import json
import subprocess

import pytest

from bb.cluster.engine import Job, Resources, until_done
from bb.cluster.slurm import Slurm, queue
from bb.store import BBError, Store
from tests.contracts.engine import check_engine, python
from tests.helpers.benches import bench_store
from tests.helpers.command_line import call, make_newt, own_place
from tests.helpers.engines import RESNET, VIT, check_equal, make_images
from tests.helpers.slurm import missing, slurm

__all__ = ["call", "own_place"]
pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture(scope="module", autouse=True)
def running(tmp_path_factory):
    with slurm(tmp_path_factory.mktemp("slurm")):
        yield


@pytest.fixture
def engine(tmp_path):
    return Slurm(tmp_path / "logs", Resources(workers=4), time="5", poll=0.5)


def silent(said):
    pass


def test_the_suite_of_engines(engine):
    check_engine(engine)


def test_a_job_that_is_cancelled_says_so_and_is_sent_again(engine, tmp_path):
    marker = tmp_path / "second"
    code = f"import pathlib, time; p = pathlib.Path({str(marker)!r}); p.exists() or (p.touch(), time.sleep(600))"
    jobs = [Job("one", python("print(1)")), Job("two", python(code))]
    said, rounds = [], []

    def tick(ended):
        if ended and marker.exists() and not rounds:  # so the first has ended well
            rounds.append(1)
            subprocess.run(["scancel", "--user", getpass.getuser()], check=True)

    def undone(jobs, ended):
        return [job for job, end in zip(jobs, ended, strict=True) if end.status != 0]

    until_done(engine, jobs, undone, say=said.append, tick=tick)
    again = next(line for line in said if "sent again" in line)
    assert "1 of the jobs have work left" in again and "two: job " in again and "CANCELLED" in again
    assert "(log: " in again


def test_who_stops_looking_leaves_the_jobs_running(engine):
    def interrupt(ended):
        raise KeyboardInterrupt

    said = []
    with pytest.raises(BBError) as caught:
        engine.run([Job("long", python("import time; time.sleep(60)"))], say=said.append, tick=interrupt)
    array = said[0].split("squeue -j ")[1].split(";")[0]
    assert f"the jobs go on. Look at them: squeue -j {array}. Cancel them: scancel {array}." in str(caught.value)
    assert "the same command submits what is then still missing" in str(caught.value)
    assert set(queue(array).values()) <= {"PENDING", "CONFIGURING", "RUNNING"} != set()
    subprocess.run(["scancel", array], check=True)


def test_what_sbatch_refuses(tmp_path):
    engine = Slurm(tmp_path, partition="nosuch")
    with pytest.raises(BBError, match="sbatch refused the jobs: .*invalid partition specified: nosuch"):
        engine.run([Job("one", python(""))], say=silent, tick=silent)


def test_jobs_that_never_come_to_an_end(engine):
    jobs = [Job("part 1/1", python("import sys; sys.exit('bb: the disk is full.')"))]
    said = []
    with pytest.raises(BBError) as caught:
        until_done(engine, jobs, lambda jobs, ended: jobs, rounds=2, say=said.append)
    assert "1 jobs have work left after 2 rounds:\n  part 1/1: job " in str(caught.value)
    assert "the disk is full. (log: " in str(caught.value)
    assert [line for line in said if "sent again" in line]


def test_extraction_equals_that_of_one_process(call, tmp_path):
    images = make_images(tmp_path / "images")
    arguments = ["extract", "--ckpt", VIT, "--ckpt", RESNET, "--data", f"noise={images}", "--json"]
    status, out, _ = call(*arguments, "--store", "one.bb")
    here = json.loads(out)
    status, out, err = call(*arguments, "--store", "slurm.bb", "--on", "slurm", "--workers", "2", "--time", "10")
    there = json.loads(out)
    assert status == 1, err  # one file is no image
    timing = ("seconds", "images_per_second", "store")
    assert [{k: v for k, v in each.items() if k not in timing} for each in there] == [
        {k: v for k, v in each.items() if k not in timing} for each in here
    ]
    assert there[0]["computed"] == 60 and list(there[0]["failed"]) == ["broken.png"]
    assert "2 jobs are submitted as " in err and "squeue -j " in err and "scancel " in err and "tail -f " in err
    check_equal(Store.open("one.bb"), Store.open("slurm.bb"), "noise", [f"{i:03d}.png" for i in range(60)])


def test_probes_are_spread(call, tmp_path, own_place):
    newt = make_newt(tmp_path / "newt")
    (own_place / "bb.toml").write_text(
        '[slurm]\npartition = "all"\ntime = "0:10:00"\nworkers = 2\nsbatch = {nice = 1}\n'
    )
    assert call("extract", "--ckpt", VIT, "--data", f"newt={newt}")[0] == 0
    arguments = ["probe", "newt", "--data", f"newt={newt}", "--n-train", "4", "--seed", "0", "--seed", "1", "--json"]
    status, out, err = call(*arguments, "--on", "slurm")
    assert status == 0, err
    assert [(run["n_train"], run["seed"], run["fresh"]) for run in json.loads(out)] == [(4, 0, True), (4, 1, True)]
    assert "2 jobs are submitted" in err
    status, out, err = call(*arguments, "--on", "slurm")
    assert [run["fresh"] for run in json.loads(out)] == [False, False] and "submitted" not in err


def test_a_board_is_spread(call, own_place):
    bench_store(own_place, {"ponds": (48, 3), "birds": (60, 4)})
    families = "".join(f'[families.{name}]\nlabels = "{name}.csv"\n' for name in ("ponds", "birds", "gone"))
    (own_place / "board.toml").write_text(f'store = "features.bb"\nclassifiers = ["simpleshot"]\n{families}')
    status, out, err = call("bench", "board.toml", "--on", "slurm", "--workers", 2, "--json")
    record = json.loads(out)
    assert status == 1 and "2 jobs are submitted" in err
    assert list(record["failed"]) == ["gone"] and len(record["fresh"]) == record["runs"] == 4
    assert len(record["columns"]) == 2 and "What failed" in (own_place / "board.html").read_text()
