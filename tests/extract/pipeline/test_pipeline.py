"""The stages of a pass over a collection: what they share, what bounds them, and what happens when one fails."""

import dataclasses
import errno
import gc
import os
import threading
import time
import weakref
from collections import Counter

import numpy as np
import pytest
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from bb.extract.backbones.feature_spaces import feature_spaces
from bb.extract.backbones.name import BackboneName
from bb.extract.embedding.backbone import EncodedImgBatch
from bb.extract.embedding.pillow_decoder import Pillow
from bb.extract.embedding.view import View
from bb.extract.encoder.encoder import Encoder
from bb.extract.encoder.offload import groups
from bb.extract.pipeline.memory_groups import group_by_memory
from bb.extract.pipeline.pipeline import Threads
from bb.store import BBError, Collection, Store
from tests.helpers.servers import GUARD
from tests.helpers.toys import Toy, extractor, look, make_images, run_all, several


class Wide(Toy):
    """Of another geometry."""

    view = View("squash", (16, 16), (8, 8), "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


class Shifted(Toy):
    """Of the same geometry, normalised otherwise."""

    view = View("squash", (8, 8), (8, 8), "bilinear", (0.5, 0.5, 0.5), (1.0, 1.0, 1.0))


class Counting(Pillow):
    """Pillow, which counts what it is asked for."""

    def __init__(self):
        super().__init__()
        object.__setattr__(self, "calls", Counter())

    def decode(self, data, header=None):
        self.calls["decode"] += 1
        return super().decode(data, header)

    def cut(self, picture, geometry):
        self.calls[geometry] += 1
        return super().cut(picture, geometry)


@dataclasses.dataclass(frozen=True)
class CountedFile:
    path: os.PathLike
    read_of: Counter

    def read(self):
        self.read_of[self.path] += 1
        return self.path.read_bytes()

    def describe(self):
        return str(self.path)


@pytest.fixture
def store(tmp_path):
    return Store.create(tmp_path / "store.bb")


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    stages = ("reader", "decoder", "device", "processor")
    left = [thread for thread in set(threading.enumerate()) - before if thread.name in stages]
    for thread in left:
        thread.join(GUARD)
    assert not [thread.name for thread in left if thread.is_alive()]


def counted(folder):
    found, read_of = look(folder), Counter()
    sources = {image_id: CountedFile(source.path, read_of) for image_id, source in found.sources.items()}
    return dataclasses.replace(found, sources=sources), read_of


def rows(store, job, found):
    pics = Collection.from_entries("pics", found.entries)
    return store.read(job.spaces.img, pics, list(found.sources))


def alone(tmp_path, toy, found):
    """What a network makes of a collection by itself."""
    (job,), store = several([toy], Pillow()), Store.create(tmp_path / f"{id(toy)}.bb")
    run_all(store, [job], found)
    return rows(store, job, found)


def toys():
    return [Toy(1.0), Wide(2.0), Shifted(3.0), Toy(4.0)]


# Each image once


def test_several_networks_share_every_reading_decoding_and_cut(tmp_path, store):
    found, read_of = counted(make_images(tmp_path / "pics", 50))
    decoder = Counting()
    jobs = several(toys(), decoder)
    outcomes, profile = run_all(store, jobs, found)
    assert [outcome.computed for outcome in outcomes] == [50] * 4 and profile.features == 200
    assert set(read_of.values()) == {1} and len(read_of) == 50
    assert decoder.calls == {"decode": 50, Toy.view.geometry(): 50, Wide.view.geometry(): 50}
    for job, toy in zip(jobs, toys(), strict=True):
        np.testing.assert_array_equal(rows(store, job, found), alone(tmp_path, toy, found))


def test_many_cores_decode_and_compute_beside_each_other(tmp_path, store):
    found, read_of = counted(make_images(tmp_path / "pics", 50))
    jobs = several(toys(), Pillow())
    assert Threads.of("cpu", jobs[0].decoder, 2).lanes == 0 and Threads.of("cpu", jobs[0].decoder, 16).lanes == 8
    _, profile = run_all(store, jobs, found, cores=16)
    assert {clock.worker for clock in profile.clocks} == {"reader", "decoder", "device", "writer"}
    assert set(read_of.values()) == {1} and len(read_of) == 50
    for job, toy in zip(jobs, toys(), strict=True):
        np.testing.assert_array_equal(rows(store, job, found), alone(tmp_path, toy, found))


def test_a_network_that_lacks_less_gets_less(tmp_path, store):
    found, _ = counted(make_images(tmp_path / "pics", 30))
    decoder = Counting()
    first, second = several([Toy(), Wide(2.0)], decoder)
    run_all(store, [first], dataclasses.replace(found, entries=found.entries[:20]))
    decoder.calls.clear()
    outcomes, _ = run_all(store, [first, second], found)
    assert [outcome.computed for outcome in outcomes] == [10, 30]
    assert decoder.calls == {"decode": 30, Toy.view.geometry(): 10, Wide.view.geometry(): 30}


@pytest.fixture
def crowded(monkeypatch):
    """A device on which one network finds room at a time; says which are there, and how often they came."""
    there, came = set(), []

    def to_device(encoder):
        there.add(id(encoder))
        came.append(id(encoder))
        assert len(there) == 1

    real = Encoder._forward

    def forward(encoder, *arguments):
        assert id(encoder) in there, "it computes while it is away"
        real(encoder, *arguments)

    monkeypatch.setattr(Encoder, "to_device", to_device)
    monkeypatch.setattr(Encoder, "offload", lambda encoder: there.discard(id(encoder)))
    monkeypatch.setattr(Encoder, "room", lambda encoder: 100)
    monkeypatch.setattr(Encoder, "_forward", forward)
    prepare = Encoder.prepare

    def prepared(*arguments, **options):
        encoder = prepare(*arguments, **options)
        encoder.weights, encoder.work = 50, 30
        return encoder

    monkeypatch.setattr(Encoder, "prepare", prepared)
    monkeypatch.setattr(Threads, "of", classmethod(lambda cls, *_: cls(2, 2, 1, 1)))
    return came


@pytest.mark.parametrize("cache", [1, 40 * 3 * 64, 2**30])
def test_networks_that_take_turns_decode_nothing_twice(tmp_path, store, crowded, monkeypatch, cache):
    monkeypatch.setattr("bb.extract.pipeline.pipeline.CACHE", cache)
    found, read_of = counted(make_images(tmp_path / "pics", 90))
    decoder, networks = Counting(), [Toy(1.0), Shifted(3.0), Toy(4.0)]
    jobs = several(networks, decoder)
    outcomes, _ = run_all(store, jobs, found)
    assert [outcome.computed for outcome in outcomes] == [90] * 3
    assert set(read_of.values()) == {1} and decoder.calls["decode"] == 90
    turns = len(crowded) - 3  # each came once to be prepared
    assert turns >= 3 and (turns == 3) == (cache == 2**30), "the larger the cache, the longer the turns"
    for job, toy in zip(jobs, networks, strict=True):
        pictures = [toy.make_img_transform()(Image.open(source.path)) for source in found.sources.values()]
        expected = toy.img_encode(torch.stack(pictures)).img_features.numpy()
        np.testing.assert_allclose(rows(store, job, found), expected, atol=1e-6)


def test_networks_are_grouped_by_what_they_take():
    assert groups([10, 10, 10], [5, 7, 5], 40) == [{0, 1, 2}]
    assert groups([10, 10, 10], [5, 7, 5], 36) == [{0, 1}, {2}]
    assert groups([10, 90, 10], [5, 5, 5], 36) == [{0}, {1}, {2}]


@pytest.mark.e2e
def test_crews_share_the_memory_and_are_gone_before_the_next():
    names = [BackboneName.parse(f"timm:toy{i}/untrained") for i in (0, 1, 2, 3, 3)]
    loaded, alive = [], []

    def load(name):
        gc.collect()
        alive.append(sum(there() is not None for there in loaded))
        made = extractor(Toy(1.0 + int(name.architecture[-1])))  # of 4 bytes
        loaded.append(weakref.ref(made))
        return made

    seen = [
        [float(each.backbone.scale) for each in group] for group in group_by_memory(names, load, memory=16, processes=2)
    ]
    assert seen == [[1, 2], [3, 4], [4]], "two names of one feature space never work together"
    assert alive == [0, 1, 2, 1, 2]


# Bounds


def test_no_more_images_are_there_than_there_is_room_for(tmp_path, store, monkeypatch):
    folder = make_images(tmp_path / "pics", 300)
    begun, seen, lock = Counter(), [], threading.Lock()

    class Watching(Pillow):
        def decode(self, data, header=None):
            with lock:
                begun["decoded"] += 1
            return super().decode(data, header)

    class Slow(Toy):
        def img_encode(self, batch: Float[Tensor, "b 3 h w"]) -> EncodedImgBatch:
            time.sleep(0.002)
            with lock:
                seen.append(begun["decoded"] - begun["computed"])
                begun["computed"] += len(batch)
            return super().img_encode(batch)

    (job,), found = several([Slow()], Watching()), look(folder)
    threads = Threads.of("cpu", job.decoder)
    run_all(store, [job], found)
    room = 2 * 4 + threads.readers + 3 * threads.decoders
    assert max(seen) <= room + 4 * threads.decoders < 300, "the window, and a batch in each thread"


def test_a_crop_does_not_keep_a_large_picture(tmp_path, store):
    sizes = []

    class Panorama(Pillow):
        def cut(self, picture, geometry):
            return torch.zeros(3, 800, 800, dtype=torch.uint8)[:, :8, :8]

    (job,) = several([Toy()], Panorama())
    stack = Encoder.stack

    def watch(encoder, pixels):
        sizes.extend(image.untyped_storage().nbytes() for image in pixels)
        return stack(encoder, pixels)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Encoder, "stack", watch)
        run_all(store, [job], look(make_images(tmp_path / "pics", 8)))
    assert sizes == [3 * 64] * 8


# Trouble


def test_a_stage_that_breaks_ends_all_and_is_told(tmp_path, store):
    folder = make_images(tmp_path / "pics", 60)

    class Broken(Pillow):
        def decode(self, data, header=None):
            raise ZeroDivisionError("in the decoder")

    class BrokenNetwork(Toy):
        def img_encode(self, batch: Float[Tensor, "b 3 h w"]) -> EncodedImgBatch:
            if self.seen >= 20:
                raise ZeroDivisionError("in the network")
            return super().img_encode(batch)

    class BrokenSource:
        def read(self):
            raise ZeroDivisionError("in the reader")

        def describe(self):
            return "broken"

    found = look(folder)
    (job,) = several([Toy()], Broken())
    with pytest.raises(ZeroDivisionError, match="in the decoder"):
        run_all(store, [job], found)
    (job,) = several([Toy()], Pillow())
    with pytest.raises(ZeroDivisionError, match="in the reader"):
        run_all(store, [job], dataclasses.replace(found, sources=dict.fromkeys(found.sources, BrokenSource())))
    assert len(store.rows(job.spaces.img)) == 0
    (job,) = several([BrokenNetwork()], Pillow())
    with pytest.raises(ZeroDivisionError, match="in the network"):
        run_all(store, [job], found)
    assert 4 <= len(store.rows(job.spaces.img)) <= 20, "what was computed before is kept"
    (job,) = several([Toy()], Pillow())
    run_all(store, [job], found)
    assert len(store.rows(job.spaces.img)) == 60


def test_a_full_disk_for_one_network_leaves_the_other_its_rows(tmp_path, store, monkeypatch):
    found = look(make_images(tmp_path / "pics", 60))
    first, second = several([Toy(1.0), Toy(2.0)], Pillow())
    put = Store.put_segment

    def full(self, space, *arguments):
        if space.key == first.spaces.img.key:
            raise OSError(errno.ENOSPC, "No space left on device")
        return put(self, space, *arguments)

    monkeypatch.setattr(Store, "put_segment", full)
    with pytest.raises(OSError, match="No space left"):
        run_all(store, [first, second], found)
    assert len(store.rows(second.spaces.img)) == 60
    monkeypatch.setattr("bb.store.segment_writer.MAX_SECONDS", 0.0)  # now it is full in the midst of the work
    with pytest.raises(OSError, match="No space left"):
        run_all(store, [first], found)
    monkeypatch.setattr(Store, "put_segment", put)
    outcomes, _ = run_all(store, [first, second], found)
    assert [outcome.computed for outcome in outcomes] == [60, 0]
    assert len(store.rows(first.spaces.img)) == 60


def test_strict_stops_all_networks_at_the_first(tmp_path, store):
    folder = make_images(tmp_path / "pics", 300)
    found = look(folder)
    next(iter(found.sources.values())).path.write_bytes(b"changed")
    outcomes, _ = run_all(store, several([Toy(1.0), Toy(2.0)], Pillow()), found, strict=True)
    assert all(outcome.stopped for outcome in outcomes)
    assert [list(outcome.failed.values()) for outcome in outcomes] == [["changed while bb ran; run again"]] * 2


def test_who_quits_does_not_wait_for_a_reader_that_hangs(tmp_path, store, monkeypatch):
    """The second Ctrl-C: a network drive may never answer."""
    monkeypatch.setattr("bb.extract.pipeline.pipeline.PARTING", 0.1)
    found = look(make_images(tmp_path / "pics", 40))
    back = threading.Event()

    class Hanging:
        def read(self):
            back.wait()
            raise OSError("the drive has gone")

        def describe(self):
            return "hanging"

    def quit_(outcomes, images):
        raise KeyboardInterrupt

    sources = {image_id: source if i else Hanging() for i, (image_id, source) in enumerate(found.sources.items())}
    (job,) = several([Toy()], Pillow())
    try:
        with pytest.raises(KeyboardInterrupt):
            run_all(store, [job], dataclasses.replace(found, sources=sources), progress=quit_)
    finally:
        back.set()


def test_the_batch_size_stands_in_each_segment(tmp_path, store):
    (job,) = several([Toy(fits=2)], Pillow())
    job = dataclasses.replace(job, batch_size=None)
    run_all(store, [job], look(make_images(tmp_path / "pics", 20)))
    (segment,) = store.segments(job.spaces.img)
    assert segment.provenance["batch_size"] == 2 and segment.provenance["compile"] is False


def test_weights_that_do_not_fit_are_said():
    class Heavy(Toy):
        def to(self, *arguments, **options):
            raise torch.OutOfMemoryError("CUDA out of memory")

    toy = Heavy()
    numerics = extractor(Toy()).numerics
    assert feature_spaces("toy", toy, Pillow(), numerics, patch=False)
    with pytest.raises(BBError, match="not enough memory for the weights of a network: free some, or choose another"):
        Encoder.prepare(toy, numerics, batch_size=None)
