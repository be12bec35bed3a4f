"""Kill extract, push, pull and compact at random moments, and see what is left.

    python scripts/soak/kills.py [--kills 50] [--seed 0] [--work DIR]          (about 10 s a kill on two cores)

Each verb in turn is started, sent SIGKILL after a random time, and what it worked on is looked at: `bb store verify`
must find nothing wrong, and nothing that was published before may be gone. Then, at the end, each command is run once
more without a kill, and the features must be those of the undisturbed run to the last bit. Push and pull go over HTTP
to moto's S3 server on loopback. A line per kill goes to standard output; the exit status is 1 where something failed.
"""

import argparse
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
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
from PIL import Image

from store import Collection, Entry, FeatureSpace, Store, paths
from store.url import open_place

BACKBONE = "timm:test_vit/untrained"
IMAGES = 300
SEGMENTS, ROWS, DIM = 48, 1024, 512  # 1 MB each
BB = (sys.executable, "-m", "bb")
# Segments of 16 rows, so that extraction publishes many, and kills come between them.
SMALL_SEGMENTS = (sys.executable, "-c", "import store.writer; store.writer.MAX_ROWS = 16; import bb; bb.main()")


@dataclass
class Scene:
    """One verb at work: how to start it, what must hold after a kill, and what it has brought forth when it is done.

    command     the command line, from the program on
    published   names of all that is published where it works
    check       raises AssertionError where what is there is damaged
    start_over  called when the command finished before it was killed
    """

    command: list[str]
    published: Callable[[], set[str]]
    check: Callable[[], None]
    start_over: Callable[[], None]
    seconds: float = 0.0
    kills: int = 0
    before: set[str] = field(default_factory=set)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="an empty folder to work in; a temporary one else")
    options = parser.parse_args()
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
            for scene in scenes.values():
                rehearse(scene)
            names = list(scenes)
            while sum(scene.kills for scene in scenes.values()) < options.kills:
                name = min(names, key=lambda name: scenes[name].kills)
                kill_once(name, scenes[name], rng)
            for name, scene in scenes.items():
                finish(name, scene)
    finally:
        if not options.work:
            shutil.rmtree(work, ignore_errors=True)
    print(f"{options.kills} kills survived: " + ", ".join(f"{name} {scene.kills}" for name, scene in scenes.items()))
    return 0


def rehearse(scene: Scene) -> None:
    """Runs a command once undisturbed, to know how long it takes, and starts over."""
    started = time.monotonic()
    run(*scene.command)
    scene.seconds = time.monotonic() - started
    scene.check()
    scene.start_over()


def kill_once(name: str, scene: Scene, rng: random.Random) -> None:
    """One kill at a random moment of the time that the command takes; none where it was done before that."""
    scene.before = scene.published()
    wait = rng.uniform(0.2, 1.0) * scene.seconds
    process = subprocess.Popen(scene.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        status = process.wait(timeout=wait)
        assert status == 0, f"{name} failed with status {status}: {' '.join(scene.command)}"
        scene.check()
        scene.start_over()
        return
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    scene.kills += 1
    after = scene.published()
    scene.check()
    lost = scene.before - after
    assert name == "compact" or not lost, f"{name} lost {sorted(lost)[:3]}"
    print(f"{name}: killed after {wait:.2f} s with {len(after)} published, {len(after - scene.before)} of them new")


def finish(name: str, scene: Scene) -> None:
    run(*scene.command)
    scene.check()
    print(f"{name}: finished by the same command, {len(scene.published())} published")


# The four scenes


def extract_scene(work: Path) -> Scene:
    images, root, whole = work / "images", work / "extract.bb", work / "whole.bb"
    images.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(IMAGES):
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(images / f"{i:03d}.png")
    arguments = ["extract", "--ckpt", BACKBONE, "--data", f"noise={images}"]
    bb(*arguments, "--store", str(whole))
    expected = features_of(whole)

    def check() -> None:
        if not (root / "zarr.json").exists():
            return
        assert_clean(root)
        found = features_of(root)
        assert found.keys() <= expected.keys() and all(found[key] == expected[key] for key in found)

    return Scene(
        [*SMALL_SEGMENTS, *arguments, "--store", str(root)], lambda: segments_of(root), check, lambda: remove(root)
    )


def push_scene(work: Path, bucket: str) -> Scene:
    source = made_store(work / "push.bb", SEGMENTS)
    url = [""]
    scene = Scene([], lambda: set(), lambda: None, lambda: None)

    def start_over() -> None:
        url[0] = f"{bucket}/push-{secrets.token_hex(4)}"
        scene.command = [*BB, "store", "push", url[0], "--store", str(source)]

    def published() -> set[str]:
        return {part.path for part in paths.published(o.path for o in open_place(url[0]).list())}

    def check() -> None:
        if any(path.startswith("spaces/") for path in published()):
            bb("store", "verify", "--store", url[0])

    start_over()
    scene.published, scene.check, scene.start_over = published, check, start_over
    return scene


def pull_scene(work: Path, bucket: str) -> Scene:
    source, root = made_store(work / "pull-source.bb", SEGMENTS), work / "pulled.bb"
    url = f"{bucket}/pull"
    bb("store", "push", url, "--store", str(source))
    expected = features_of(source)

    def check() -> None:
        if not (root / "zarr.json").exists():
            return
        assert_clean(root)
        found = features_of(root)
        assert found.keys() <= expected.keys() and all(found[key] == expected[key] for key in found)

    return Scene(
        [*BB, "store", "pull", url, "--store", str(root)], lambda: segments_of(root), check, lambda: remove(root)
    )


def compact_scene(work: Path) -> Scene:
    original, root = made_store(work / "small.bb", SEGMENTS), work / "compact.bb"
    expected = features_of(original)

    def start_over() -> None:
        remove(root)
        shutil.copytree(original, root)

    def check() -> None:
        assert_clean(root)
        assert features_of(root) == expected, "compact changed what is read"

    start_over()
    return Scene([*BB, "store", "compact", "--store", str(root)], lambda: segments_of(root), check, start_over)


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


def assert_clean(root: Path) -> None:
    bb("store", "verify", "--store", str(root))


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
        for _ in range(100):
            try:
                urlopen(Request(f"{endpoint}/kills", method="PUT"), timeout=5)
                break
            except OSError:
                time.sleep(0.1)
        yield "s3://kills"
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    sys.exit(main())
