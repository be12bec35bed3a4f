"""`--devices`: processes that share what is missing, and what is left when one of them ends."""

import multiprocessing
import threading
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from bb.extract.backbones.decoders import find_decoder
from bb.extract.backbones.device import Numerics
from bb.extract.backbones.name import BackboneName
from bb.extract.data.scan import HashMemory, find_images, scan
from bb.extract.embedding.decoder import DecodeOptions
from bb.extract.pipeline import multi_gpu as devices
from bb.extract.pipeline.embed import BackboneWork, EmbedPlan, embed
from bb.extract.pipeline.extractor import Extractor
from bb.extract.pipeline.multi_gpu import Share, embed_on, parse_devices, shares
from bb.extract.pipeline.partition import WHOLE
from bb.store import BBError, Collection, Store, UsageError
from tests.helpers.command_line import VIT, call, make_newt, own_place
from tests.helpers.servers import GUARD

__all__ = ["call", "own_place"]  # fixtures


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,cpu", "--devices 0,cpu names devices of several kinds, which make features of several kinds"),
        ("0,1,0", "--devices 0,1,0 names cuda:0 twice: give each once"),
        ("cuda,0", "--devices cuda,0 names cuda:0 twice: give each once"),
        ("0,,1", "--devices '0,,1' leaves a device out: write, for example, 0,1 for the first two GPUs"),
        ("", "--devices '' leaves a device out"),
    ],
)
def test_devices_that_do_not_go_together(text, message):
    with pytest.raises(UsageError) as caught:
        parse_devices(text)
    assert message in str(caught.value)


def test_devices_as_torch_writes_them():
    assert parse_devices("0, 1") == ["cuda:0", "cuda:1"]
    assert parse_devices("cuda:2,cuda") == ["cuda:2", "cuda:0"]
    assert parse_devices("cpu,cpu") == ["cpu", "cpu"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--devices", "0,tpu"], "--devices 0,tpu names devices of several kinds"),
        (["--devices", "tpu"], "--device tpu is unknown: choose auto, cpu, cuda, cuda:N or mps."),
        (["--devices", "76,77"], "--device cuda:76: torch sees"),
        (["--devices", "cpu", "--device", "cpu"], "--device cpu and --devices cpu: give one of them."),
        (["--devices", "cpu,cpu", "--on", "ray"], "--devices splits the work on one machine: with --on, give"),
    ],
)
def test_devices_that_a_command_cannot_have(call, tmp_path, given, message):
    newt = make_newt(tmp_path / "newt", n=1)
    status, _, err = call("extract", "--ckpt", VIT, "--data", f"newt={newt}", *given)
    assert status == 2 and message in err


# Processes


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("pics"), np.random.default_rng(0)
    for i in range(1500):
        Image.fromarray(rng.integers(0, 256, (9, 11, 3), dtype=np.uint8)).save(folder / f"{i:04d}.png")
    return scan(find_images(folder), HashMemory.open(None))


@pytest.fixture
def store(tmp_path):
    return Store.create(tmp_path / "store.bb")


@pytest.fixture(scope="module")
def vit():
    numerics = Numerics.resolve("cpu")
    return Extractor.load(
        BackboneName.parse(VIT), find_decoder(DecodeOptions(), numerics.device), numerics,
        patch=False, batch_size=None, compile=False,
    )  # fmt: skip


def work_of(store, vit, collection, n=None):
    return [BackboneWork(vit, EmbedPlan.make(store, vit.spaces, collection.entries[:n]).wanted)]


def rows(store, vit, collection, n=None):
    entries = collection.entries[:n]
    ids = [entry.image_id for entry in entries]
    return store.read(vit.spaces.img, Collection.from_entries("pics", entries), ids)


@pytest.mark.e2e
def test_two_processes_make_what_one_makes(tmp_path, store, vit, collection):
    n = 100
    told = []
    outcomes, profile = embed_on(
        ["cpu", "cpu"],
        WHOLE,
        store,
        work_of(store, vit, collection, n),
        "pics",
        collection,
        progress=lambda *said: told.append(said),
    )
    assert outcomes[0].computed == n == profile.features and not outcomes[0].failed
    assert len(store.segments(vit.spaces.img)) == 2, "each publishes its own"
    assert told and told[-1][0][0].computed == n == told[-1][1]
    one = Store.create(tmp_path / "one.bb")
    embed(one, work_of(one, vit, collection, n), "pics", collection)
    np.testing.assert_array_equal(rows(store, vit, collection, n), rows(one, vit, collection, n))


@pytest.mark.e2e
def test_one_that_is_killed_stops_the_other_and_nothing_published_is_lost(store, vit, collection):
    killed = []

    def kill(outcomes, images):
        if not killed:
            killed.append(multiprocessing.active_children()[0])
            killed[0].kill()

    with pytest.raises(BBError) as caught:
        embed_on(["cpu", "cpu"], WHOLE, store, work_of(store, vit, collection), "pics", collection, progress=kill)
    assert "the process on cpu ended with status -9; what it published stays, and the same command goes on." in str(
        caught.value
    )
    assert not multiprocessing.active_children()
    there = len(store.rows(vit.spaces.img))
    assert 0 < there < 1500, "the other stopped, and published what it had"
    outcomes, _ = embed(store, work_of(store, vit, collection), "pics", collection)
    assert outcomes[0].computed == 1500 - there and len(rows(store, vit, collection)) == 1500


@pytest.mark.e2e
def test_quitting_leaves_no_process(store, vit, collection):
    class CtrlC(threading.Event):
        def is_set(self):
            assert len(multiprocessing.active_children()) == 2
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_on(["cpu", "cpu"], WHOLE, store, work_of(store, vit, collection), "pics", collection, stop=CtrlC())
    assert not multiprocessing.active_children()


# What one process says; here in a thread of this one, since that is all the same to it


def served(share, meanwhile=lambda pipe: None):
    here, there = multiprocessing.Pipe()
    thread = threading.Thread(target=devices._serve, args=(share, there))
    thread.start()
    meanwhile(here)
    thread.join()
    said = []
    while not here.closed and here.poll():
        said.append(here.recv())
    here.close()  # so that whoever listens in vain ends
    return said


@pytest.fixture
def share(store, vit, collection) -> Share:
    (only,) = shares(["cpu"], WHOLE, store, work_of(store, vit, collection, 64), "pics", collection, strict=False)
    return only


def test_files_of_a_backbone_that_changed(share):
    (told,) = served(replace(share, spaces=[["0" * 64]]))
    assert told.fault == f"cpu: the files of {VIT} changed while bb ran: run it again."


def test_a_full_disk_is_said_by_the_process(share, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "features.bb/tmp/x")

    monkeypatch.setattr(Store, "put_segment", full)
    told = served(share)[-1]
    assert told.fault == "cpu: features.bb/tmp/x: No space left on device. Fix this and rerun the command."
    assert told.profile is None


def test_a_process_that_is_to_stop_says_how_far_it_came(store, vit, collection):
    (share,) = shares(["cpu"], WHOLE, store, work_of(store, vit, collection), "pics", collection, strict=False)
    told = served(share, lambda pipe: (pipe.poll(GUARD), pipe.send(None)))[-1]
    assert told.profile and told.outcomes[0].stopped and not told.fault
    assert 0 < told.outcomes[0].computed == len(store.rows(vit.spaces.img)) < 1500


def test_a_process_that_nobody_hears_ends_and_keeps_what_it_has(store, vit, collection):
    (share,) = shares(["cpu"], WHOLE, store, work_of(store, vit, collection), "pics", collection, strict=False)
    assert served(share, lambda pipe: (pipe.poll(GUARD), pipe.close())) == []
    assert 0 < len(store.rows(vit.spaces.img)) < 1500
