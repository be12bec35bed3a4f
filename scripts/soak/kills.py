"""Kill extract, push, pull and compact at random moments, and see what is left.

    python scripts/soak/kills.py [--kills 50] [--seed 0] [--work DIR] [--json FILE] [--quick]

It takes about 8 s a kill on two cores. Each verb in turn is started, sent SIGKILL when a random share of its work is
published and a moment later, and what it worked on is looked at: `bb store verify` must find nothing wrong, and nothing
that was published before may be gone. The same command goes on from there, is killed again, and so on; at the end each
runs through, and the features must be those of an undisturbed run to the last bit. Push and pull go over HTTP to moto's
S3 server on loopback. A line per kill goes to standard output; the exit status is 1 where something failed.
"""

import argparse
import json
import os
import random
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
from PIL import Image

from bb.store import Collection, Entry, FeatureSpace, Store
from bb.store.files import paths
from bb.store.segment_writer import MAX_ROWS
from bb.store.storage.local import Folder
from bb.store.storage.url import open_place

BACKBONE = "timm:test_vit/untrained"
IMAGES = 300
SEGMENTS, ROWS, DIM = 48, 1024, 512  # 1 MB each
BB = (sys.executable, "-m", "bb")
# Segments of 16 rows, so that extraction publishes many, and kills come between them.
SMALL_SEGMENTS = (
    sys.executable,
    "-c",
    "import bb.store.segment_writer; bb.store.segment_writer.MAX_ROWS = 16; import bb; bb.main()",
)


@dataclass
class Scene:
    """One verb at work.

    command     the command line, from the program on
    published   names of all that is published where it works
    whole       how many names that are when all is done
    check       raises AssertionError where what is there is damaged
    start_over  makes an empty place for it
    """

    command: list[str]
    published: Callable[[], set[str]]
    whole: int
    check: Callable[[], None]
    start_over: Callable[[], None]
    kills: int = 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="an empty folder to work in; a temporary one else")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the number of kills by verb")
    parser.add_argument("--quick", action="store_true", help="five kills")
    options = parser.parse_args()
    kills = 5 if options.quick else options.kills
    work = options.work or Path(tempfile.mkdtemp(prefix="bb-kills-"))
    rng = random.Random(options.seed)
    os.environ |= {"BB_CACHE": str(work / "cache"), "OMP_NUM_THREADS": "1", "XDG_CONFIG_HOME": str(work / "config")}
    try:
        with s3_server() as bucket:
            scenes = {
                "extract": extract_scene(work),
                "push": push_scene(work, bucket),
                "pull": pull_scene(work, bucket),
                "compact": compact_scene(work),
            }
            names = list(scenes)
            while sum(scene.kills for scene in scenes.values()) < kills:
                name = min(names, key=lambda name: scenes[name].kills)
                kill_once(name, scenes[name], rng)
            for name, scene in scenes.items():
                finish(name, scene)
    finally:
        if not options.work:
            shutil.rmtree(work, ignore_errors=True)
    if options.json:
        options.json.write_text(json.dumps({name: scene.kills for name, scene in scenes.items()}) + "\n")
    print(f"{kills} kills survived: " + ", ".join(f"{name} {scene.kills}" for name, scene in scenes.items()))
    return 0


def kill_once(name: str, scene: Scene, rng: random.Random) -> None:
    """One kill; none where the command was done before it."""
    before = scene.published()
    if len(before) >= scene.whole:
        scene.start_over()
        before = scene.published()
    goal, moment = rng.randint(len(before), scene.whole), rng.uniform(0, 0.1)
    process = subprocess.Popen(scene.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(scene.published()) < goal:
        time.sleep(0.005)
    time.sleep(moment)
    if process.poll() is not None:
        assert process.returncode == 0, f"{name} failed with status {process.returncode}: {' '.join(scene.command)}"
        scene.check()
        return
    process.kill()
    process.wait()
    scene.kills += 1
    after = scene.published()
    scene.check()
    assert before <= after, f"{name} lost {sorted(before - after)[:3]}"
    print(f"{name}: killed with {len(after)} of {scene.whole} published, {len(after - before)} of them new", flush=True)


def finish(name: str, scene: Scene) -> None:
    run(*scene.command)
    scene.check()
    assert len(scene.published()) == scene.whole, f"{name} brought forth {len(scene.published())} of {scene.whole}"
    print(f"{name}: finished by the same command")


# The four scenes


def extract_scene(work: Path) -> Scene:
    images, root, whole = work / "images", work / "extract.bb", work / "whole.bb"
    images.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(IMAGES):
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(images / f"{i:03d}.png")
    arguments = [*SMALL_SEGMENTS, "extract", "--ckpt", BACKBONE, "--data", f"noise={images}"]
    run(*arguments, "--store", str(whole))
    command = [*arguments, "--store", str(root)]
    return Scene(
        command, lambda: segments_of(root), len(segments_of(whole)), part_of(whole, root), lambda: remove(root)
    )


def push_scene(work: Path, bucket: str) -> Scene:
    source = made_store(work / "push.bb", SEGMENTS)
    command = [*BB, "store", "push", "", "--store", str(source)]

    def start_over() -> None:
        command[-3] = f"{bucket}/push-{secrets.token_hex(4)}"

    def published() -> set[str]:
        return {part.path for part in paths.published(o.path for o in open_place(command[-3]).list())}

    def check() -> None:
        if any(path.startswith("spaces/") for path in published()):
            bb("store", "verify", "--store", command[-3])

    start_over()
    whole = len(paths.published(found.path for found in Folder(source).list()))
    return Scene(command, published, whole, check, start_over)


def pull_scene(work: Path, bucket: str) -> Scene:
    source, root = made_store(work / "pull-source.bb", SEGMENTS), work / "pulled.bb"
    url = f"{bucket}/pull"
    bb("store", "push", url, "--store", str(source))
    command = [*BB, "store", "pull", url, "--store", str(root)]
    return Scene(command, lambda: segments_of(root), SEGMENTS, part_of(source, root), lambda: remove(root))


def compact_scene(work: Path) -> Scene:
    original, root = made_store(work / "small.bb", SEGMENTS), work / "compact.bb"
    expected = features_of(original)

    def start_over() -> None:
        remove(root)
        shutil.copytree(original, root)

    def published() -> set[str]:
        """Merged segments, and what is set aside: either only grows."""
        aside = {path.parent.name for path in root.glob("aside/spaces/*/segments/*/zarr.json")}
        return (segments_of(root) - segments_of(original)) | aside

    def check() -> None:
        bb("store", "verify", "--store", str(root))
        assert features_of(root) == expected, "compact changed what is read"

    start_over()
    whole = SEGMENTS + -(-SEGMENTS * ROWS // MAX_ROWS)
    return Scene([*BB, "store", "compact", "--store", str(root)], published, whole, check, start_over)


def part_of(whole: Path, root: Path) -> Callable[[], None]:
    """A check that a store, if there is one yet, is clean, and holds features of another one to the last bit."""
    expected = features_of(whole)

    def check() -> None:
        if (root / "zarr.json").exists():
            bb("store", "verify", "--store", str(root))
            found = features_of(root)
            assert all(expected.get(key) == feature for key, feature in found.items()), "features differ"

    return check


# Stores


def made_store(root: Path, segments: int) -> Path:
    """A store of random features in small segments, and their collection."""
    space = FeatureSpace(
        org="timm",
        architecture={"name": "noise"},
        weights="0" * 64,
        view={"crop": [224, 224]},
        output={"kind": "img", "pooling": "avg", "dim": DIM},
        numerics={"compute": "fp32", "stored": "float16"},
        code="0" * 40,
    )
    store, rng, entries = Store.create(root), np.random.default_rng(1), []
    for s in range(segments):
        ids = [f"{s:03d}-{i:04d}" for i in range(ROWS)]
        keys = rng.integers(0, 256, (ROWS, 32), dtype=np.uint8)
        features = rng.standard_normal((ROWS, DIM)).astype(np.float16)
        store.put_segment(space, keys, [f"noise/{i}" for i in ids], features, {"backbone": "timm:noise"})
        entries += [Entry(i, key.tobytes(), 1, 8, 8) for i, key in zip(ids, keys, strict=True)]
    store.put_collection(Collection.from_entries("noise", entries))
    return root


def segments_of(root: Path) -> set[str]:
    return {path.parent.name for path in root.glob("spaces/*/segments/*/zarr.json")}


def features_of(root: Path) -> dict[bytes, bytes]:
    """Image digest: the bytes of its feature, as a reader of the store gets them."""
    store = Store.open(root)
    found = {}
    for space in store.spaces():
        rows = store.rows(space)
        keys = np.concatenate([segment.keys for segment in store.segments(space)] or [np.empty((0, 32), np.uint8)])
        if len(keys):
            features = rows.gather(rows.find(keys), space.array)
            found |= {key.tobytes(): row.tobytes() for key, row in zip(keys, features, strict=True)}
    return found


def remove(root: Path) -> None:
    if root.exists():
        shutil.rmtree(root)


# Processes


def bb(*arguments: str) -> None:
    run(*BB, *arguments)


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-500:]}{done.stderr[-500:]}"


@contextmanager
def s3_server():
    """moto's S3 server on loopback; the URL of a bucket in it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    endpoint = f"http://127.0.0.1:{port}"
    os.environ |= {"AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1"}
    os.environ |= {"AWS_ACCESS_KEY_ID": "kills", "AWS_SECRET_ACCESS_KEY": "kills"}
    try:
        while True:  # a busy machine takes its time
            assert server.poll() is None, "moto's server ended"
            try:
                urlopen(Request(f"{endpoint}/kills", method="PUT"))
                break
            except OSError:
                time.sleep(0.1)
        yield "s3://kills"
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    sys.exit(main())
