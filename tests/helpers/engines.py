"""What every engine has to do: the suite that Ray and Slurm both pass, and a collection to extract with them."""

import sys

import numpy as np
from PIL import Image

from store import Store
from store.cluster.engine import Engine, Job
from store.tolerance import relative_distance, tolerance_of

VIT, RESNET = "timm:test_vit/untrained", "timm:test_resnet/untrained"


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def check_engine(engine: Engine) -> None:
    """Command lines run, come back in order, and say how they ended; one that is ended from outside does too."""
    assert isinstance(engine, Engine)
    failing = "import sys; print('warning', file=sys.stderr); sys.exit('bb: no such store.')"
    jobs = [
        Job("well", python("print('done')")),
        Job("badly", python(failing)),
        Job("killed", python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")),
        Job("long", python("print('x' * 300_000)")),
    ]
    said: list[str] = []
    counts: list[int] = []
    well, badly, killed, long = engine.run(jobs, say=said.append, tick=counts.append)
    assert (well.status, well.out, well.why) == (0, "done\n", "")
    assert badly.status == 1 and "no such store." in badly.why and "warning" not in badly.why
    assert killed.status == -9
    assert long.out == "x" * 300_000 + "\n"
    assert said and counts[-1] == len(jobs) and counts == sorted(counts)


def make_images(folder, n=60):
    """Noise, of which each image is different, and one file that is no image."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(n):
        Image.fromarray(rng.integers(0, 255, (40, 56, 3), dtype=np.uint8)).save(folder / f"{i:03d}.png")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def check_equal(one: Store, other: Store, name: str, image_ids: list[str]) -> None:
    """All spaces of a store are in the other, and their rows of those images are the same features."""
    collection = one.collection(name, image_ids)
    assert list(one.spaces())
    for space in one.spaces():
        a = one.read(space, collection, image_ids)
        b = other.read(other.space(space.key), collection, image_ids)
        # Batches have the same shape, and so the same kernels; only the number of threads may be another.
        assert relative_distance(a, b).max() <= tolerance_of(space) / 100
