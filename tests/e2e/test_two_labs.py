"""Two labs that share nothing but a bucket: A has images and torch, B has neither. As docs/sharing.md tells it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import obstore
import pytest
from jaxtyping import Float
from numpy import ndarray
from obstore.store import S3Store

from bb.store import Store
from tests.helpers.photographs import PHOTOS, ROOT, needs_photographs

BACKBONE = "timm:test_vit/untrained"
# What lab B has not installed: nobody finds any of these.
WITHOUT_TORCH = """
import sys

class Absent:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "timm", "open_clip", "PIL", "safetensors"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent)
import bb
bb.main()
"""


class Lab:
    """A folder with settings, keys, caches and a store of its own, and bb as it is installed there."""

    def __init__(self, folder: Path, bucket: dict[str, str], program: list[str]) -> None:
        folder.mkdir()
        self.folder, self.program = folder, program
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("BB_", "AWS_"))}
        own = {"BB_CACHE": str(folder / "cache"), "XDG_CONFIG_HOME": str(folder / "config"), "OMP_NUM_THREADS": "1"}
        python = os.pathsep.join([str(ROOT), str(ROOT / "scripts")])
        self.environment = {**kept, **bucket, **own, "PYTHONPATH": python}

    def bb(self, *arguments: str, status: int = 0) -> str:
        """Runs a command line in the lab's folder; what it printed to standard output, and errors too if it failed."""
        command = [sys.executable, *self.program, *arguments]
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + (done.stderr if status else "")

    def predictions(self) -> Float[ndarray, " n"]:
        """Decision values of the lab's only run."""
        (run,) = Store.open(self.folder / "features.bb").runs()
        return run.predictions().sort("task", "image_id")["decision"].to_numpy()


@pytest.fixture
def labs(tmp_path, s3):
    a = Lab(tmp_path / "a", s3.environment, ["-m", "bb"])
    (a.folder / "bb.toml").write_text(f'[data.newt]\nroot = "{PHOTOS}"\nlicence = "CC-BY-4.0"\n')
    return a, Lab(tmp_path / "b", s3.environment, ["-c", WITHOUT_TORCH])


@needs_photographs
def test_a_lab_without_images_or_torch_gets_the_same_scores_and_notices_a_flipped_byte(labs, s3):
    a, b = labs
    url = f"{s3.url}/features"
    a.bb("extract", "--ckpt", BACKBONE, "--ckpt", "timm:test_resnet/untrained")
    a.bb("probe", "newt", "--n-train", "10", "--ckpt", BACKBONE)
    key = a.bb("store", "keygen", "--name", "Lab A").strip()
    a.bb("store", "sign")
    a.bb("store", "push", url)

    pull = ("store", "pull", url, "--for", "newt", "--ckpt", BACKBONE, "--require-signed")
    assert "you trust none" in b.bb(*pull, status=2)
    b.bb("store", "trust", key, "--name", "Lab A")
    b.bb(*pull)
    assert not list((b.folder / "features.bb").glob("runs/*/*")), "B computes its own"
    (space,) = json.loads(b.bb("store", "ls", "--json"))
    assert space["backbones"] == [BACKBONE], "the other backbone was not asked for"
    b.bb("probe", "newt", "--n-train", "10")
    assert b.predictions().tobytes() == a.predictions().tobytes()
    (ours,), (theirs,) = (Store.open(lab.folder / "features.bb").runs() for lab in labs)
    assert ours.run_id == theirs.run_id and ours.record["scores"] == theirs.record["scores"]
    assert "0 faults" in b.bb("store", "verify")

    shutil.rmtree(b.folder / "features.bb")
    name = flip_a_byte(s3, space["key"])
    assert name[:12] in b.bb(*pull, status=1)
    assert not list((b.folder / "features.bb").glob("spaces/*/segments/*/zarr.json"))
    assert name[:12] in b.bb("store", "verify", "--store", url, status=1)


def flip_a_byte(s3, key: str) -> str:
    """Changes the features of one segment in the bucket, past bb; the segment's name."""
    bucket = S3Store(s3.name, client_options={"allow_http": True})
    paths = [found["path"] for page in obstore.list(bucket, f"features/spaces/{key}/segments") for found in page]
    (path,) = [path for path in paths if path.endswith("img_features/c/0/0")]
    data = bytearray(bytes(obstore.get(bucket, path).bytes()))
    data[1000] ^= 1
    obstore.put(bucket, path, bytes(data))
    return path.split("/")[4]
