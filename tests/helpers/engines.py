"""A collection to extract on several machines, and the features of two stores compared."""

import numpy as np
from PIL import Image

from bb.store import Store
from bb.store.format.tolerance import relative_distance, tolerance_of

VIT, RESNET = "timm:test_vit/untrained", "timm:test_resnet/untrained"


def make_images(folder, n=60):
    """Noise, of which each image is different, and one file that is no image."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(n):
        Image.fromarray(rng.integers(0, 255, (40, 56, 3), dtype=np.uint8)).save(folder / f"{i:03d}.png")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def check_equal(one: Store, other: Store, name: str, image_ids: list[str]) -> None:
    """All spaces of a store are in the other, and their rows of those images are the same features; with speeds."""
    collection = one.collection(name, image_ids)
    assert list(one.spaces())
    for space in one.spaces():
        assert all(float(origin["images_per_second"]) > 0 for part in other.segments(space) for origin in part.origins)
        a = one.read(space, collection, image_ids)
        b = other.read(other.space(space.key), collection, image_ids)
        # Batches have the same shape, and so the same kernels; only the number of threads may be another.
        assert relative_distance(a, b).max() <= tolerance_of(space) / 100
