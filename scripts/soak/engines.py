"""Kill a node of a Ray cluster, and cancel a job of a Slurm array, in the middle of an extraction.

    python scripts/soak/engines.py [ray] [slurm] [--images 1500] [--work DIR] [--json FILE] [--quick]     (some minutes)

Ray: three local nodes, each with a worker; the one that is not the head is killed while features are made. Slurm: two
jobs; one is cancelled while it embeds. Both times the command has to go on by itself, and end with status 0 and the
features of one undisturbed process. The exit status is 1 where something failed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "scripts")])  # of all that is started here

from bb.store import Store  # noqa: E402
from tests.helpers import ray_nodes, slurm  # noqa: E402
from tests.helpers.engines import VIT, check_equal  # noqa: E402

BB = (sys.executable, "-P", "-m", "bb")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("engines", nargs="*", metavar="ENGINE", help="ray, slurm; both, if not said")
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--work", type=Path, help="an empty folder to work in; a temporary one else")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write how many features are equal, by engine")
    parser.add_argument("--quick", action="store_true", help="400 images")
    options = parser.parse_args()
    count, equal = 400 if options.quick else options.images, {}
    if unknown := set(options.engines) - {"ray", "slurm"}:
        parser.error(f"no such engine: {', '.join(sorted(unknown))}")
    work = options.work or Path(tempfile.mkdtemp(prefix="bb-engines-"))
    os.environ |= {"BB_CACHE": str(work / "cache"), "OMP_NUM_THREADS": "1", "XDG_CONFIG_HOME": str(work / "config")}
    try:
        images = make_photographs(work / "images", count)
        extract = [*BB, "extract", "--ckpt", VIT, "--data", f"noise={images}"]
        subprocess.run([*extract, "--store", work / "one.bb"], check=True)
        one, ids = Store.open(work / "one.bb"), [path.name for path in sorted(images.iterdir())]
        for engine in options.engines or ["ray", "slurm"]:
            lacking = {"ray": ray_nodes, "slurm": slurm}[engine].missing()
            if lacking:
                print(f"{engine}: left out, {lacking}")
                continue
            {"ray": kill_a_node, "slurm": cancel_a_job}[engine](work, [*extract, "--store", str(work / f"{engine}.bb")])
            check_equal(one, Store.open(work / f"{engine}.bb"), "noise", ids)
            print(f"{engine}: {len(ids)} features equal those of one process")
            equal[engine] = len(ids)
    finally:
        if not options.work:
            shutil.rmtree(work, ignore_errors=True)
    if options.json:
        options.json.write_text(json.dumps(equal) + "\n")
    return 0


def make_photographs(folder: Path, n: int) -> Path:
    """Noise that takes some time to decode."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(n):
        Image.fromarray(rng.integers(0, 255, (400, 600, 3), dtype=np.uint8)).save(folder / f"{i:05d}.jpg")
    return folder


def kill_a_node(work: Path, extract: list[str]) -> None:
    with ray_nodes.ray_nodes(3) as cluster:
        victim = sorted(cluster.worker_nodes, key=str)[0]
        process = start([*extract, "--on", f"ray:{cluster.address}", "--workers", "3"])
        said = wait_for(process, "extracting on Ray: ")  # ten seconds after the first features
        cluster.remove_node(victim, allow_graceful=False)
        print("ray: a node is killed", flush=True)
        said += finish(process)
    # Where the node had given all it worked on, Ray itself computes again what was lost with it.
    print("ray: " + next((line for line in said.splitlines() if "go again" in line), "it goes on"))


def cancel_a_job(work: Path, extract: list[str]) -> None:
    with slurm.slurm(work / "slurm"):
        process = start([*extract, "--on", "slurm", "--workers", "2", "--time", "30"])
        said = wait_for(process, "jobs are submitted as ")
        array = said.rpartition("submitted as ")[2].partition(".")[0]
        log = work / "slurm.bb.slurm" / f"{array}_1_0_log.err"
        while not (log.exists() and "to compute" in log.read_text()):
            assert process.poll() is None, finish(process)
            time.sleep(0.1)
        time.sleep(1)
        subprocess.run(["scancel", f"{array}_1"], check=True)
        print(f"slurm: job {array}_1 is cancelled", flush=True)
        said += finish(process)
    print("slurm: " + next((line.strip() for line in said.splitlines() if "part 2/2" in line), "it goes on"))


def start(command: list[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(process: "subprocess.Popen[str]", words: str) -> str:
    """Reads what a process says until it has said this; all of that."""
    said = ""
    assert process.stdout
    for line in process.stdout:
        said += line
        if words in line:
            return said
    raise AssertionError(said)


def finish(process: "subprocess.Popen[str]") -> str:
    said = process.communicate()[0]
    assert process.returncode == 0, said
    return said


if __name__ == "__main__":
    sys.exit(main())
