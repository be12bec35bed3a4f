"""What all decoders hold together is bounded, whatever the files are."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from PIL import Image

from bb.extract.backbones.decoders import find_decoder
from bb.extract.embedding import images
from bb.extract.embedding.decoder import DecodeOptions
from bb.extract.embedding.geometry import Geometry
from bb.extract.embedding.images import UnreadableImage
from bb.extract.embedding.nvjpeg_decoder import NvJpeg
from bb.extract.embedding.pillow_decoder import Pillow
from bb.extract.pipeline import decode_memory as memory
from bb.extract.pipeline import reading
from bb.extract.pipeline.decode_memory import Budget
from bb.extract.pipeline.reading import make_all_pixels, make_pixels
from tests.helpers.pictures import encode

GEOMETRY = Geometry("shortest", (32, 32), (32, 32), "bicubic")


def test_no_more_is_held_at_once_than_fits_but_for_one_that_is_larger():
    budget, lock, held, seen = Budget(10), threading.Lock(), [], []

    def work(n: int) -> None:
        with budget.hold(n):
            with lock:
                held.append(n)
                seen.append(list(held))
            time.sleep(0.001)
            with lock:
                held.remove(n)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [3, 4, 5, 1, 25, 2, 9, 10, 1, 30, 4] * 6))
    assert len(seen) == 66 and all(sum(each) <= 10 or len(each) == 1 for each in seen)
    assert any(len(each) > 1 for each in seen)


def test_a_large_picture_is_not_overtaken_by_small_ones_that_ask_later():
    budget, order, first = Budget(10), [], threading.Event()

    def work(name: str, n: int) -> None:
        with budget.hold(n):
            order.append(name)

    with budget.hold(6):
        large = threading.Thread(target=work, args=("large", 8))
        large.start()
        while not budget._queue:
            first.wait(0.001)
        small = threading.Thread(target=work, args=("small", 1))
        small.start()
        while len(budget._queue) < 2:
            first.wait(0.001)
    large.join()
    small.join()
    assert order == ["large", "small"]


def test_an_error_gives_back_what_was_held():
    budget = Budget(1)
    with pytest.raises(ValueError), budget.hold(9):
        raise ValueError
    with budget.hold(1):
        pass
    assert budget._held == 0 and not budget._queue


@pytest.mark.parametrize(
    "decoder", [Pillow(), find_decoder(DecodeOptions(), torch.device("cpu"))], ids=["pillow", "auto"]
)
def test_threads_decode_within_the_budget(decoder, monkeypatch):
    """Six pictures that would fit one by one are never in memory together."""
    monkeypatch.setattr(reading, "DECODING", Budget(1_000_000))
    files = [encode(Image.new(mode, (600, 400)), "PNG") for mode in ("1", "L", "P", "RGB", "RGBA", "I;16")]
    lock, under_way, most = threading.Lock(), set(), []

    class Watching(type(decoder)):
        def decode(self, data, header=None):
            with lock:
                under_way.add(data)
                most.append(len(under_way))
            time.sleep(0.002)
            return super().decode(data, header)

        def cut(self, picture, geometry):
            made = super().cut(picture, geometry)
            with lock:
                under_way.clear()
            return made

    watching = Watching()
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda data: make_pixels(watching, data, [GEOMETRY]), files * 2))
    assert max(most) == 1 and all(each.cuts[GEOMETRY].shape == (3, 32, 32) for each in made)


def test_a_decoder_of_batches_gets_as_many_as_fit(monkeypatch):
    """Pictures of 600 x 400 take 960,000 bytes each as JPEG and three times that as PNG."""
    monkeypatch.setattr(reading, "DECODING", Budget(2_000_000))
    asked = []

    class Watching(NvJpeg):
        def decode_batch(self, files):
            asked.append(len(files))
            return super().decode_batch(files)

    jpeg, png = (encode(Image.new("RGB", (600, 400)), format) for format in ("JPEG", "PNG"))
    files = [jpeg, jpeg, jpeg, b"no image", png, jpeg]
    made = make_all_pixels(Watching(torch.device("cpu")), files, [[GEOMETRY]] * 6)
    assert asked == [2, 2, 1, 1]
    assert [isinstance(each, UnreadableImage) for each in made] == [False] * 3 + [True] + [False] * 2


def test_the_header_says_what_a_picture_takes():
    small = {format: images.header(encode(Image.new("RGB", (10, 10)), format)) for format in ("JPEG", "PNG", "TIFF")}
    assert small["JPEG"].n_bytes == 400 and small["PNG"].n_bytes == small["TIFF"].n_bytes == 1200
    assert images.header(encode(Image.new("RGB", (10, 10)), "JPEG", progressive=True)).n_bytes == 1200
    assert images.header(encode(Image.new("CMYK", (10, 10)), "JPEG")).n_bytes == 1200
    assert memory.DECODING.n_bytes >= 2**30
