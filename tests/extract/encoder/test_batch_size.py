"""The search for a batch size, compiling, and the streams of a GPU, with stand-ins for the GPU."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from bb.extract.backbones.device import Numerics
from bb.extract.encoder import batch_size
from bb.extract.encoder import compile as compiled
from bb.extract.encoder.batch_size import on_cpu, search
from bb.extract.encoder.cuda_streams import Streams
from bb.extract.encoder.encoder import Encoder
from bb.store import BBError
from tests.helpers.toys import Toy, noise


def timed(rates, fits=10**9):
    """What batches take at these rates; past those given, at the last."""

    def seconds(size):
        if size > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return size / rates.get(size, rates[max(rates)])

    return seconds


def test_the_smallest_size_that_is_about_as_quick_as_the_best():
    assert search(timed({16: 100, 32: 190, 64: 300, 128: 390, 256: 399, 512: 400})) == 128
    assert search(timed({16: 100, 32: 100})) == 16
    assert search(timed({16: 100, 32: 200, 64: 400}, fits=40)) == 32, "memory ends it"
    assert search(timed({16: 100}, fits=10)) == 0, "not even the smallest"
    asked = []

    def worse(size):
        asked.append(size)
        return timed({16: 100, 32: 200, 64: 150, 128: 900})(size)

    assert search(worse) == 32 and asked == [16, 32, 64], "no larger ones, once they are slower"


def test_timings_that_waver_a_little_give_the_same_size():
    rates = {16: 100, 32: 180, 64: 260, 128: 340, 256: 349, 512: 350}
    for odd, even in itertools.product((0.99, 1.0, 1.01), repeat=2):
        shaken = {size: rate * (odd if i % 2 else even) for i, (size, rate) in enumerate(rates.items())}
        assert search(timed(shaken)) == 128


def test_an_error_that_is_no_want_of_memory_ends_the_search():
    def broken(size):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        search(broken)


def test_the_size_that_a_small_gpu_holds():
    encoder = Encoder(Toy(fits=5).img_encode, Toy.view.normalise, Numerics.resolve("cpu"), 1, auto=True)
    encoder.search((3, 8, 8))
    assert encoder.size in (1, 2, 4)
    encoder.run = Toy(fits=0).img_encode
    with pytest.raises(BBError, match="not enough memory for a single image"):
        encoder.search((3, 8, 8))


def test_a_batch_on_a_cpu_has_as_many_pixels_as_sixteen_usual_images():
    sizes = {160: 16, 224: 16, 256: 12, 336: 7, 384: 5, 518: 2, 896: 1, 2048: 1}
    assert {size: on_cpu(size, size) for size in sizes} == sizes
    assert on_cpu(224, 448) == 8


def test_four_large_images_are_two_batches_and_a_resumed_run_has_the_same_bits():
    """One size throughout: that of the view, whatever is left."""
    numerics, toy = Numerics.resolve("cpu"), Toy()
    toy.view = dataclasses.replace(toy.view, resize=(518, 518), crop=(518, 518))
    encoder = Encoder.prepare(toy, numerics, batch_size=None)
    shapes, run = [], encoder.run
    encoder.run = lambda pixels: (shapes.append(tuple(pixels.shape)), run(pixels))[1]
    pixels = torch.randint(0, 256, (4, 3, 518, 518), dtype=torch.uint8)
    whole, _ = encoder(pixels)
    assert shapes == [(2, 3, 518, 518)] * 2
    for left in range(1, 4):  # a run that was stopped goes on with what is left
        rest, _ = encoder(pixels[4 - left :])
        assert np.array_equal(rest, whole[4 - left :])
    assert set(shapes) == {(2, 3, 518, 518)}


# Compiling


def encoder_of(times):
    """Whose batches take these seconds, one after the other."""
    toy, given = Toy(), iter(times)
    encoder = Encoder.prepare(toy, Numerics.resolve("cpu"), batch_size=4)
    encoder.seconds = lambda batch: next(given)
    return encoder


def off_by(factor):
    def compile_(run):
        def changed(pixels):
            encoded = run(pixels)
            return type(encoded)(encoded.img_features * factor, encoded.patch_features)

        return changed

    return compile_


def no_compiler(run):
    raise RuntimeError("no C++ compiler\n  was found")


@pytest.mark.parametrize(
    ("times", "images", "made", "said"),
    [
        ([0.1], 100, off_by(1.0), "not compiled: 100 images take 2 s as it is, which a compilation can't repay"),
        ([0.1], 10**6, no_compiler, "not compiled: torch.compile failed (no C++ compiler was found)"),
        ([0.1, 0.05], 10**6, off_by(1.1), "not compiled: its features would differ by 0.091, where 0.001 is allowed"),
        ([0.1, 0.2], 10**6, off_by(1.0), "not compiled: a batch would take 0.200 s instead of 0.100 s"),
        ([0.1, 0.05], 10**6, off_by(1.0), "compiled: a batch takes 0.050 s instead of 0.100 s"),
    ],
)
def test_compiled_where_that_repays_itself(monkeypatch, times, images, made, said):
    monkeypatch.setattr(torch, "compile", made)
    encoder = encoder_of(times)
    as_it_was = encoder.run
    assert compiled.compile_if_it_repays(encoder, (3, 8, 8), images, 1e-3) == said
    assert encoder.compiled == said.startswith("compiled")
    assert (encoder.run == as_it_was) != encoder.compiled


# Streams


class Cuda:
    """In place of torch.cuda: writes down what would be waited for."""

    def __init__(self):
        self.said, self.on = [], "computing"

    def Stream(self, device):
        stream = Stream(self, f"stream{sum(name == 'new' for name, *_ in self.said)}")
        self.said.append(("new",))
        return stream

    def Event(self, enable_timing=False):
        return Event(self)

    def current_stream(self, device):
        return Stream(self, "computing")

    def stream(self, stream):
        return stream


class Stream:
    def __init__(self, cuda, name):
        self.cuda, self.name = cuda, name

    def wait_stream(self, other):
        self.cuda.said.append(("wait", self.name, other.name))

    def __enter__(self):
        self.cuda.said.append(("on", self.name))

    def __exit__(self, *_):
        self.cuda.said.append(("off", self.name))


class Event:
    def __init__(self, cuda):
        self.cuda = cuda

    def record(self, stream):
        self.cuda.said.append(("record", stream.name))

    def synchronize(self):
        self.cuda.said.append(("synchronize",))

    def elapsed_time(self, other):
        return 5.0


def test_streams_wait_for_each_other_and_nobody_for_them():
    cuda = Cuda()
    toy = Toy()
    encoder = Encoder.prepare(toy, Numerics.resolve("cpu"), batch_size=4)
    encoder.streams = Streams.of(torch.device("cpu"), cuda)
    cuda.said.clear()
    coming = encoder.start(noise(4))
    there, back, computing = "stream0", "stream1", "computing"
    assert cuda.said == [
        ("on", there), ("off", there), ("wait", computing, there),  # kernels wait for the copy
        ("record", computing), ("record", computing),  # their time
        ("wait", back, computing), ("on", back), ("record", back), ("off", back),  # features go when they are there
    ]  # fmt: skip
    cuda.said.clear()
    img, _ = coming.wait()
    assert cuda.said == [("synchronize",)] and img.shape == (4, 12)
    assert coming.seconds() == pytest.approx(0.005)


def test_what_a_gpu_takes_is_the_least_of_some():
    cuda, calls = Cuda(), []
    assert Streams.of(torch.device("cpu"), cuda).seconds(lambda: calls.append(1)) == pytest.approx(0.005)
    assert len(calls) == 4, "once to warm up"
    assert batch_size.seconds(lambda: None) >= 0
