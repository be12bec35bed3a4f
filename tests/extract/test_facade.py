"""`bb.extract.load_backbone`, as a user would call it."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from huggingface_hub.utils import are_progress_bars_disabled
from PIL import Image

import bb.extract
import bb.extract.pipeline.extractor
from bb.extract.data.scan import HashMemory, find_images, scan
from bb.extract.pipeline.embed import BackboneWork, embed
from bb.store import Collection, Store, UsageError

VIT, RESNET = "timm:test_vit/untrained", "timm:test_resnet/untrained"


def test_it_fills_the_spaces_that_it_names_with_what_the_network_makes(tmp_path):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (160, 160, 3), dtype=np.uint8))
    (tmp_path / "pics").mkdir()
    picture.save(tmp_path / "pics" / "a.png")
    loaded = bb.extract.load_backbone(VIT, patch=True, device="cpu", decode="pillow")
    store, found = Store.create(tmp_path / "s.bb"), scan(find_images(tmp_path / "pics"), HashMemory.open(None))
    embed(store, [BackboneWork(loaded, found.entries)], "pics", found)
    pixels = loaded.backbone.make_img_transform()(picture)[None]
    with torch.inference_mode():
        expected = loaded.backbone.img_encode(pixels)
    for space, rows in zip(loaded.spaces, expected, strict=True):
        stored = store.read(space, Collection.from_entries("pics", found.entries), ["a.png"])
        np.testing.assert_allclose(stored, rows.numpy(), rtol=1e-4, atol=1e-5)


def test_options_are_those_of_the_verb():
    loaded = bb.extract.load_backbone(RESNET, pool="max", precision="bf16", device="cpu", depth=12, batch_size=3)
    assert loaded.spaces.img.numerics == {"compute": "bf16", "stored": "float16"} and loaded.spaces.patch is None
    assert loaded.spaces.img.output["pooling"] == "max over positions" and loaded.encoder().size == 3
    assert loaded.spaces.img.view["depth_16_bit"] == "12 bits"
    assert repr(loaded) == f"Extractor({RESNET}, bf16 on cpu, img space {loaded.spaces.img.key[:12]})"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool": "sum"}, "--pool 'sum' is unknown"),
        ({"decode": "dali"}, "--decode dali is unknown"),
        ({"precision": "fp8"}, "--precision fp8 is unknown"),
        ({"damaged": "skip"}, "--damaged 'skip' is unknown"),
    ],
)
def test_unknown_values(options, message):
    with pytest.raises(UsageError, match=message):
        bb.extract.load_backbone(VIT, **options)


def test_notes_go_to_the_reporter_and_downloads_draw_no_bars(monkeypatch):
    said, disabled = [], []

    class Reporter:
        def info(self, message):
            said.append(message)

        def progress(self, task, done, total, unit):
            raise AssertionError(task)

    real = bb.extract.pipeline.extractor.load

    def load(name):
        disabled.append(are_progress_bars_disabled())
        backbone = real(name)
        backbone.architecture["resampled"] = True
        return backbone

    monkeypatch.setattr("bb.extract.pipeline.extractor.load", load)
    before = are_progress_bars_disabled()
    bb.extract.load_backbone(VIT, device="cpu", reporter=Reporter())
    assert disabled == [True] and are_progress_bars_disabled() == before
    assert said == [f"{VIT}: weights of another resolution, interpolated by timm; the feature space says so"]


@pytest.mark.e2e
def test_importing_the_package_imports_no_torch_and_loading_prints_nothing(tmp_path):
    code = (
        "import sys, bb.extract\n"
        "assert not {'torch', 'numpy', 'timm', 'open_clip', 'PIL'} & set(sys.modules)\n"
        "for name in ('open_clip:ViT-S-32-alt/untrained', 'timm:test_resnet/untrained'):\n"
        "    bb.extract.load_backbone(name)\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_other_names_are_none():
    with pytest.raises(AttributeError, match="module 'bb.extract' has no attribute 'nothing'"):
        _ = bb.extract.nothing


def test_a_reporter_needs_no_more_than_two_methods(tmp_path):
    class Plain:
        def __init__(self):
            self.said, self.steps = [], []

        def info(self, message):
            self.said.append(message)

        def progress(self, task, done, total, unit):
            self.steps.append((task, done, total, unit))

    (tmp_path / "pics").mkdir()
    for name in "abc":
        pixels = np.random.default_rng(ord(name)).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pics" / f"{name}.png")
    first, second = Plain(), Plain()
    for reporter in (first, second):
        bb.extract.run(
            tmp_path / "s.bb", VIT, {"pics": tmp_path / "pics"}, device="cpu", limit=np.int64(3), reporter=reporter
        )
    assert ("hashing pics", 3, 3, "images") in first.steps
    assert not [step for step in second.steps if step[0] == "hashing pics"]  # hashes of unchanged files are remembered


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": "3"}, "limit='3' is of type str: give a whole number."),
        ({"patch": 3}, "patch=3 is of type int: give True or False."),
        ({"depth": "x"}, "depth='x' is of type str: give a whole number."),
        ({"batch_size": 0}, "--batch-size 0 is not a number of images"),
        ({"strict": "no"}, "strict='no' is of type str: give True or False."),
    ],
)
def test_options_of_a_run_are_checked(tmp_path, options, message):
    (tmp_path / "pics").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "pics" / "a.png")
    with pytest.raises(UsageError, match=message):
        bb.extract.run(tmp_path / "s.bb", VIT, {"pics": tmp_path / "pics"}, **{"device": "cpu", **options})


def test_broken_images_of_equal_bytes_are_all_named(tmp_path):
    (tmp_path / "pics").mkdir()
    Image.new("RGB", (20, 16), "red").save(tmp_path / "pics" / "sound.png")
    broken = (tmp_path / "pics" / "sound.png").read_bytes()[:60]  # the size is known, no pixel is
    for name in ("one.png", "other.png"):
        (tmp_path / "pics" / name).write_bytes(broken)
    (summary,) = bb.extract.run(tmp_path / "s.bb", VIT, {"pics": tmp_path / "pics"})
    assert summary.computed == 1 and list(summary.failed) == ["one.png", "other.png"]
    assert summary.failed["one.png"] == summary.failed["other.png"]
