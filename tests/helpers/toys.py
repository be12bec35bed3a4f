"""Toy networks, and images for them."""

import dataclasses

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from bb.extract.backbones.device import Numerics
from bb.extract.backbones.feature_spaces import feature_spaces
from bb.extract.backbones.name import BackboneName
from bb.extract.data.scan import HashMemory, find_images, scan
from bb.extract.embedding.backbone import EncodedImgBatch
from bb.extract.embedding.pillow_decoder import Pillow
from bb.extract.embedding.view import View
from bb.extract.pipeline.embed import BackboneWork, EmbedPlan, embed
from bb.extract.pipeline.extractor import Extractor

PILLOW = Pillow()


class Toy(nn.Module):
    """A backbone small enough to know its features by heart: means of the four quarters of an 8 × 8 image."""

    org = "timm"
    feat_dim = 12
    view = View("squash", (8, 8), (8, 8), "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    architecture = {"name": "toy"}
    img_output = {"kind": "img", "pooling": "quarters", "projected": False, "dim": 12}
    patch_output = {"kind": "patch", "patches": 4, "grid": [2, 2], "stage": "raw", "dim": 3}

    def __init__(self, scale: float = 1.0, fits: int = 10**9):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale), requires_grad=False)
        self.fits, self.seen = fits, 0

    @classmethod
    def from_pretrained(cls, weights, *, seed=0):
        return cls()

    def img_encode(self, batch: Float[Tensor, "b 3 h w"]) -> EncodedImgBatch:
        if len(batch) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate more than there is")
        self.seen += len(batch)
        quarters = nn.functional.avg_pool2d(batch, 4).flatten(2).transpose(1, 2) * self.scale
        return EncodedImgBatch(quarters.flatten(1), quarters)

    forward = img_encode

    def extract(self, x):
        return self.img_encode(x).img_features

    def make_img_transform(self):
        return self.view.transform()

    def vision_state(self):
        return self.state_dict()


def extractor(backbone, *, decoder=PILLOW, precision="fp32", store_dtype="auto", patch=False, batch_size=None):
    numerics = Numerics.resolve("cpu", precision, store_dtype)
    spaces = feature_spaces("toy", backbone, decoder, numerics, patch=patch)
    return Extractor(BackboneName.parse("timm:toy/untrained"), backbone, decoder, numerics, spaces, batch_size, False)


def make_images(folder, n, seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for i in range(n):
        Image.fromarray(rng.integers(0, 256, (9, 11, 3), dtype=np.uint8)).save(folder / f"{i:03d}.png")
    return folder


def noise(n):
    return torch.randint(256, (n, 3, 8, 8), dtype=torch.uint8)


def look(folder):
    return scan(find_images(folder), HashMemory.open(None))


def several(toys, decoder, **options):
    """An extractor for each network, all of one decoder; by name, so that their weights may be alike."""
    made = []
    for i, toy in enumerate(toys):
        job = extractor(toy, decoder=decoder, batch_size=4, **options)
        made.append(dataclasses.replace(job, name=BackboneName.parse(f"timm:toy{i}/untrained")))
    return made


def run_all(store, jobs, found, **options):
    work = [BackboneWork(job, EmbedPlan.make(store, job.spaces, found.entries).wanted) for job in jobs]
    return embed(store, work, "pics", found, **options)
