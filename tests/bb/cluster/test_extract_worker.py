"""Workers of a cluster make the features that one process makes, to the bit, and so do all other ways to embed."""

import dataclasses
import multiprocessing
import shutil

import numpy as np
import pytest

from bb.cluster.extract_driver import ClusterWork
from bb.cluster.extract_worker import Network, WorkerConfig, decode_item
from bb.extract.backbones.code_hash import EXTRACT_AT_START
from bb.extract.backbones.decoders import find_decoder
from bb.extract.backbones.device import Numerics
from bb.extract.backbones.name import BackboneName
from bb.extract.backbones.pool_grid import patches_of
from bb.extract.data.scan import HashMemory, find_images, scan
from bb.extract.embedding.decoder import DecodeOptions
from bb.extract.pipeline import multi_gpu
from bb.extract.pipeline.embed import BackboneWork, EmbedPlan, embed
from bb.extract.pipeline.extractor import Extractor
from bb.extract.pipeline.missing import keys_of
from bb.extract.pipeline.partition import WHOLE
from bb.extract.pipeline.pipeline import torch_threads
from bb.extract.reproduce.adopt import adopt
from bb.extract.reproduce.recompute import recompute
from bb.extract.reproduce.sample import Images
from bb.store import Store
from tests.helpers.photographs import ROOT

BATCH = 5  # so that images meet other batch-mates, and some batches are filled up
VIT, RESNET = "timm:test_vit/untrained", "timm:test_resnet/untrained"


@pytest.fixture
def awkward(tmp_path):
    return shutil.copytree(ROOT / "tests" / "data" / "before" / "images", tmp_path / "awkward")


@pytest.fixture
def one_thread(monkeypatch):
    """Kernels may sum in another order with other numbers of threads."""
    for user in ("pipeline", "multi_gpu"):
        monkeypatch.setattr(f"bb.extract.pipeline.{user}.cpu_count", lambda: 2)
    with torch_threads(1):
        yield


def look(folder):
    return scan(find_images(folder), HashMemory.open(None))


def load(network, decoder="simplejpeg", patch=False):
    numerics = Numerics.resolve("cpu")
    made_by = find_decoder(DecodeOptions(decoder), numerics.device)
    name = BackboneName.parse(network)
    return Extractor.load(name, made_by, numerics, patch=patch, batch_size=BATCH, compile=False)


def in_one_process(store, extractors, found):
    work = [BackboneWork(each, EmbedPlan.make(store, each.spaces, found.entries).wanted) for each in extractors]
    embed(store, work, "awkward", found)


def on_several_devices(store, extractors, found):
    """What each of two processes does, in this one."""
    work = [BackboneWork(each, EmbedPlan.make(store, each.spaces, found.entries).wanted) for each in extractors]
    for share in multi_gpu.shares(["cpu", "cpu"], WHOLE, store, work, "awkward", found, strict=False):
        here, there = multiprocessing.Pipe()
        multi_gpu._serve(share, there)
        told = [here.recv()]
        while here.poll():
            told.append(here.recv())
        here.close()
        assert told[-1].fault == ""


def by_workers(store, extractors, found):
    """What decoding tasks and a worker do, without Ray."""
    work = ClusterWork.of(store, extractors, {"awkward": found})
    worker = config(store, extractors).open()
    for item in work.items(work.absent(), 7):
        geometries = [each.backbone.view.geometry() for each in extractors]
        worker.take(decode_item(item, extractors[0].decoder, geometries))
    worker.close()


def config(store, extractors):
    networks = [Network(each.name, i, [space.key for space in each.spaces]) for i, each in enumerate(extractors)]
    options = extractors[0].decoder.options
    patch = patches_of(extractors[0].spaces.patch)
    return WorkerConfig(store.root, networks, options, "cpu", "fp32", "float32", patch, BATCH, False, 1, 12)


def rows(store, space, found):
    index = store.rows(space)
    return np.array(index.gather(index.find(keys_of(found.entries)), space.array))


@pytest.mark.parametrize(
    ("networks", "decoder", "patch"),
    [([VIT, RESNET], "simplejpeg", False), ([VIT], "pillow", True), ([VIT], "simplejpeg", (4, 3))],
)
def test_all_ways_make_the_same_bits(tmp_path, awkward, one_thread, networks, decoder, patch):
    extractors, found = [load(network, decoder, patch) for network in networks], look(awkward)
    spaces = [space for extractor in extractors for space in extractor.spaces]
    made = {}
    for way in (in_one_process, on_several_devices, by_workers):
        store = made[way] = Store.create(tmp_path / way.__name__)
        way(store, extractors, found)
        for space in spaces:
            expected = rows(made[in_one_process], space, found)
            assert len(expected) == 12 and rows(store, space, found).tobytes() == expected.tobytes()
            said = [segment.provenance for segment in store.segments(space)]
            assert all(each["batch_size"] == BATCH and each["extract"] == EXTRACT_AT_START for each in said)
            assert all(float(each["images_per_second"]) > 0 for each in said)
            assert len({tuple(each) for each in said}) == 1

    images = Images.of({"awkward": found})
    for result in recompute(made[by_workers], images, spaces, 12, seed=0, batch_size=BATCH):
        assert (result.compared, result.relative_max, result.faults) == (12, 0.0, [])

    older = Store.create(tmp_path / "older")
    for space in spaces:
        x = rows(made[in_one_process], space, found)
        older.put_segment(dataclasses.replace(space, code="1" * 40), images.digests(), ["a"] * 12, x, {})
    trials = [trial for extractor in extractors for trial in adopt(older, extractor, images)]
    assert [(trial.compared, trial.greatest, trial.adopted) for trial in trials] == [(12, 0.0, True)] * len(spaces)


def test_an_image_fails_only_for_networks_that_miss_it(tmp_path, awkward):
    extractors = [load(RESNET), load(VIT)]
    store, found = Store.create(tmp_path / "s.bb"), look(awkward)
    in_one_process(store, extractors[:1], found)
    (awkward / "grey.jpg").write_bytes(b"overwritten")
    work = ClusterWork.of(store, extractors, {"awkward": found})
    worker = config(store, extractors).open()
    (item,) = work.items(work.absent(), 12)
    told = worker.take(decode_item(item, extractors[0].decoder, [each.backbone.view.geometry() for each in extractors]))
    grey = next(entry.image_sha256 for entry in found.entries if entry.image_id == "grey.jpg")
    assert told.failed == {str(extractors[1].name): {grey: "changed while bb ran; run again"}}
    assert told.computed + worker.close().computed == 11
