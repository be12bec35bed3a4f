"""From image files to rows of a store: what is computed, what is reported, and what survives."""

import dataclasses
import os
import threading

import numpy as np
import pytest
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from bb.extract.backbones.device import Numerics
from bb.extract.backbones.name import BackboneName, shared_name
from bb.extract.data.image_source import ImageFile
from bb.extract.data.scan import HashMemory, find_images, scan
from bb.extract.embedding.backbone import EncodedImgBatch
from bb.extract.embedding.pillow_decoder import Pillow
from bb.extract.encoder.encoder import Encoder, parse_batch_size
from bb.extract.pipeline.embed import BackboneWork, EmbedPlan, embed
from bb.store import BBError, Collection, Store, UsageError
from tests.helpers.toys import Toy, extractor, look, make_images, noise


def run(store, job, folder, **options):
    found = look(folder)
    plan = EmbedPlan.make(store, job.spaces, found.entries)
    (outcome,), _ = embed(store, [BackboneWork(job, plan.wanted)], "pics", found, **options)
    return outcome


def features(store, job, folder, kind="img"):
    found = look(folder)
    pics = Collection.from_entries("pics", found.entries)
    space = job.spaces.img if kind == "img" else job.spaces.patch
    return store.read(space, pics, list(found.sources))


def expected(folder):
    toy = Toy()
    pictures = [toy.make_img_transform()(Image.open(path)) for path in find_images(folder).values()]
    return toy.img_encode(torch.stack(pictures)).img_features.numpy()


@pytest.fixture
def store(tmp_path):
    return Store.create(tmp_path / "store.bb")


def test_features_of_every_image(tmp_path, store):
    folder, job = make_images(tmp_path / "pics", 37), extractor(Toy())
    outcome = run(store, job, folder)
    assert (outcome.computed, outcome.failed, outcome.stopped) == (37, {}, False)
    np.testing.assert_allclose(features(store, job, folder), expected(folder), atol=1e-6)
    (segment,) = store.segments(job.spaces.img)
    assert segment.provenance["backbone"] == "timm:toy/untrained"
    assert segment.provenance["versions"]["torch"] == torch.__version__.partition("+")[0]
    parameters = sum(parameter.numel() for parameter in job.backbone.parameters())
    assert segment.provenance["parameters"] == parameters and float(segment.provenance["gflops"]) >= 0
    assert float(segment.provenance["images_per_second"]) > 0


def test_only_what_is_missing_is_computed(tmp_path, store):
    folder, toy = make_images(tmp_path / "pics", 20), Toy()
    job = extractor(toy, batch_size=1)
    run(store, job, folder)
    before = features(store, job, folder)
    make_images(folder, 23)
    toy.seen = 0
    assert run(store, job, folder).computed == 3
    assert toy.seen == 3
    np.testing.assert_array_equal(features(store, job, folder)[:20], before)


def test_images_are_known_by_their_bytes(tmp_path, store):
    """A copy, a new name and a new time compute nothing; new bytes under an old name do."""
    folder, job = make_images(tmp_path / "pics", 4), extractor(Toy(), batch_size=1)
    (folder / "copy.png").write_bytes((folder / "000.png").read_bytes())
    assert run(store, job, folder).computed == 4
    (folder / "001.png").rename(folder / "renamed.png")
    os.utime(folder / "002.png", (1, 1))
    assert run(store, job, folder).computed == 0
    (folder / "003.png").write_bytes((folder / "000.png").read_bytes() + b"more")
    assert run(store, job, folder).computed == 1


def test_what_cannot_be_read_is_reported_and_the_rest_is_kept(tmp_path, store):
    folder, job = make_images(tmp_path / "pics", 6), extractor(Toy())
    whole = (folder / "001.png").read_bytes()
    (folder / "001.png").write_bytes(whole[: len(whole) // 2])
    (folder / "002.png").write_bytes(b"no image at all")
    outcome = run(store, job, folder)
    assert outcome.computed == 4
    assert outcome.failed.keys() == {"001.png", "002.png"}
    assert "truncated" in outcome.failed["001.png"] or "unreadable" in outcome.failed["001.png"]
    assert outcome.failed["002.png"].startswith("no JPEG")


def test_strict_stops_at_the_first_and_keeps_what_was_done(tmp_path, store, monkeypatch):
    monkeypatch.setattr("secrets.randbelow", lambda n: 0)
    folder, job = make_images(tmp_path / "pics", 400), extractor(Toy(), batch_size=4)
    for i in range(200, 400, 2):
        (folder / f"{i:03d}.png").write_bytes(b"%d" % i)
    outcome = run(store, job, folder, strict=True)
    assert outcome.stopped and len(outcome.failed) == 1
    assert 0 < outcome.computed <= 300
    assert len(store.rows(job.spaces.img)) == outcome.computed


def test_a_file_that_changes_after_it_was_hashed_is_never_stored_under_the_old_key(tmp_path, store):
    folder, job = make_images(tmp_path / "pics", 3), extractor(Toy())
    found = look(folder)
    make_images(folder, 1, seed=9)
    (outcome,), _ = embed(store, [BackboneWork(job, found.entries)], "pics", found)
    assert outcome.failed == {"000.png": "changed while bb ran; run again"}
    assert outcome.computed == 2


def test_a_feature_that_is_not_finite_is_never_stored(tmp_path, store):
    folder, job = make_images(tmp_path / "pics", 3), extractor(Toy(scale=float("nan")))
    outcome = run(store, job, folder)
    assert outcome.computed == 0
    assert set(outcome.failed.values()) == {"its feature is NaN or infinite; the weights may be damaged"}
    assert store.segments(job.spaces.img) == []


def test_a_nan_of_low_precision_has_another_remedy(tmp_path, store):
    outcome = run(store, extractor(Toy(scale=float("nan")), precision="bf16"), make_images(tmp_path / "pics", 1))
    assert set(outcome.failed.values()) == {"its feature is NaN or infinite; try --precision fp32"}


def test_a_picture_that_cannot_be_transformed_is_reported(tmp_path, store):
    class Picky(Pillow):
        def cut(self, picture, geometry):
            if picture.width == 5:
                raise RuntimeError("can't allocate memory")
            return super().cut(picture, geometry)

    folder = make_images(tmp_path / "pics", 2)
    Image.new("RGB", (5, 5)).save(folder / "odd.png")
    outcome = run(store, extractor(Toy(), decoder=Picky()), folder)
    assert outcome.failed == {"odd.png": "can't be transformed: can't allocate memory"} and outcome.computed == 2


def test_what_float16_cannot_hold_is_reported_with_the_remedy(tmp_path, store):
    folder = make_images(tmp_path / "pics", 3)
    outcome = run(store, extractor(Toy(scale=1e6), store_dtype="float16"), folder)
    assert outcome.computed == 0
    for reason in outcome.failed.values():
        assert "which float16 can't hold; use --store-dtype float32" in reason
    assert run(store, extractor(Toy(scale=1e6), store_dtype="float32"), folder).computed == 3


def test_patch_features_fill_a_space_of_their_own_in_the_same_pass(tmp_path, store):
    folder, toy = make_images(tmp_path / "pics", 5), Toy()
    run(store, extractor(toy), folder)
    job = extractor(toy, patch=True)
    toy.seen = 0
    assert run(store, job, folder).computed == 5
    assert features(store, job, folder, "patch").shape == (5, 4, 3)
    np.testing.assert_allclose(features(store, job, folder, "patch").reshape(5, 12), expected(folder), atol=1e-6)
    assert [segment.rows for segment in store.segments(job.spaces.img)] == [5]  # not stored twice


def test_patch_features_of_a_network_without_patches(tmp_path):
    toy = Toy()
    toy.patch_output = None
    with pytest.raises(UsageError, match="toy has no patch features: its tokens form no grid of patches. Leave out"):
        extractor(toy, patch=True)


def test_precision_and_stored_dtype_are_part_of_the_space():
    keys = {
        extractor(Toy(), precision=p, store_dtype=d).spaces.img.key
        for p, d in (("fp32", "auto"), ("fp32", "float16"), ("bf16", "auto"), ("fp16", "auto"), ("bf16", "float32"))
    }
    assert len(keys) == 5
    assert Numerics.resolve("cpu").record() == {"compute": "fp32", "stored": "float32"}
    assert Numerics.resolve("cpu", "bf16").record() == {"compute": "bf16", "stored": "float16"}
    assert Numerics.resolve("cpu", "fp32", "float16").record() == {"compute": "fp32", "stored": "float16"}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_runs_through_autocast_on_the_cpu(precision):
    seen = []

    class Linear(Toy):
        def img_encode(self, batch: Float[Tensor, "b 3 h w"]) -> EncodedImgBatch:
            product = batch.flatten(1) @ torch.ones(192, 12)
            seen.append(product.dtype)
            return EncodedImgBatch(product, None)

    encoder = Encoder.prepare(Linear(), Numerics.resolve("cpu", precision), batch_size=2)
    img, patch = encoder(torch.full((2, 3, 8, 8), 255, dtype=torch.uint8))
    assert seen == [{"bf16": torch.bfloat16, "fp16": torch.float16}[precision]]
    assert img.dtype == np.float32 and patch is None


def test_weights_view_architecture_and_code_decide_the_space(monkeypatch):
    base = extractor(Toy()).spaces.img
    assert extractor(Toy()).spaces.img.key == base.key
    assert extractor(Toy(scale=1.0000001)).spaces.img.key != base.key
    other_view, other_network = Toy(), Toy()
    other_view.view = dataclasses.replace(Toy.view, interpolation="bicubic")
    other_network.architecture = {"name": "toy", "depth": 2}
    assert extractor(other_view).spaces.img.key != base.key
    assert extractor(other_network).spaces.img.key != base.key
    monkeypatch.setattr("bb.extract.backbones.feature_spaces.tree_hash", lambda: "f" * 40)
    monkeypatch.setattr("bb.extract.backbones.feature_spaces.AT_START", "f" * 40)
    assert extractor(Toy()).spaces.img.key != base.key


def test_code_that_changed_while_it_ran_makes_nothing(monkeypatch):
    monkeypatch.setattr("bb.extract.backbones.feature_spaces.tree_hash", lambda: "f" * 40)
    with pytest.raises(BBError, match="the files of extract/ changed while bb ran, so what it makes has no name"):
        extractor(Toy())


def test_the_batch_size_hangs_on_memory_alone(monkeypatch):
    """On a GPU it is found once, whatever the first collection lacks: one shape, one set of kernels, one feature."""
    toy = Toy(fits=300)
    numerics = Numerics.resolve("cpu")
    encoder = Encoder(toy.img_encode, toy.view.normalise, numerics, 1024, auto=True)
    encoder.search((3, 8, 8))
    assert encoder.size in (16, 32, 64, 128, 256)


def test_the_encoder_halves_its_batch_until_it_fits():
    toy = Toy(fits=5)
    encoder = Encoder.prepare(toy, Numerics.resolve("cpu"), batch_size=None)
    assert encoder.size == 16
    pixels = noise(20)
    img, patch = encoder(pixels)
    assert encoder.size == 4
    np.testing.assert_allclose(img, Toy().img_encode(Toy.view.normalise(pixels)).img_features.numpy(), atol=1e-6)
    assert patch is not None and patch.shape == (20, 4, 3)
    encoder.search((3, 8, 8))
    assert encoder.size in (1, 2, 4)


def test_a_batch_that_does_not_fit_is_said():
    numerics = Numerics.resolve("cpu")
    fixed = Encoder.prepare(Toy(fits=5), numerics, batch_size=8)
    with pytest.raises(BBError, match="not enough memory for --batch-size 8: give a smaller one, or auto"):
        fixed(noise(8))
    none = Encoder.prepare(Toy(fits=0), numerics, batch_size=None)
    with pytest.raises(BBError, match="not enough memory for a single image: free some"):
        none(noise(8))
    assert parse_batch_size("auto") is None and parse_batch_size("8") == 8
    for text in ("0", "-1", "many"):
        with pytest.raises(UsageError, match=f"--batch-size {text} is not a number of images"):
            parse_batch_size(text)


def test_an_error_in_the_network_is_not_taken_for_want_of_memory():
    class Broken(Toy):
        def img_encode(self, batch: Float[Tensor, "b 3 h w"]) -> EncodedImgBatch:
            raise RuntimeError("shapes do not match")

    encoder = Encoder.prepare(Broken(), Numerics.resolve("cpu"), batch_size=None)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        encoder(noise(1))


def test_every_forward_pass_has_one_shape():
    shapes = set()

    class Watched(Toy):
        def img_encode(self, batch: Float[Tensor, "b 3 h w"]) -> EncodedImgBatch:
            shapes.add(len(batch))
            return super().img_encode(batch)

    encoder = Encoder.prepare(Watched(), Numerics.resolve("cpu"), batch_size=8)
    for n in (8, 8, 5):
        assert encoder(noise(n))[0].shape == (n, 12)
    assert shapes == {8}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tpu",), "--device tpu is unknown: choose auto, cpu, cuda, cuda:N or mps"),
        (("meta",), "--device meta is unknown"),
        (("cuda:77",), "--device cuda:77: torch sees \\d+ CUDA devices"),
        (("cpu", "fp8"), "--precision fp8 is unknown: choose auto, fp32, bf16, fp16"),
        (("cpu", "fp32", "int8"), "--store-dtype int8 is unknown: choose auto, float16, float32"),
    ],
)
def test_unknown_numerics(arguments, message):
    with pytest.raises(UsageError, match=message):
        Numerics.resolve(*arguments)


def test_mps_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UsageError, match="--device mps: this torch has no Metal"):
        Numerics.resolve("mps")


def test_a_set_stop_publishes_and_returns(tmp_path, store):
    folder, job = make_images(tmp_path / "pics", 100), extractor(Toy(), batch_size=4)
    stop = threading.Event()
    stop.set()
    outcome = run(store, job, folder, stop=stop)
    assert outcome.stopped and 4 <= outcome.computed < 100
    assert len(store.rows(job.spaces.img)) == outcome.computed
    assert run(store, job, folder).computed == 100 - outcome.computed


def test_an_error_publishes_what_was_computed(tmp_path, store):
    folder, toy = make_images(tmp_path / "pics", 40), Toy()
    job = extractor(toy, batch_size=4)

    def fail(outcomes, images):
        (outcome,) = outcomes
        if outcome.computed >= 12:
            raise OSError(5, "the network drive has gone")

    with pytest.raises(OSError, match="the network drive"):
        run(store, job, folder, progress=fail)
    assert len(store.rows(job.spaces.img)) == 12


def test_what_another_process_published_meanwhile_is_not_published_again(tmp_path, store, monkeypatch):
    folder, ours, theirs = make_images(tmp_path / "pics", 60), Toy(), Toy()
    monkeypatch.setattr("bb.store.segment_writer.MAX_SECONDS", 0.0)  # every batch closes a segment
    job = extractor(ours, batch_size=4)
    other = Store.open(store.root)

    def interfere(outcomes, images):
        if outcomes[0].computed == 8:
            run(other, extractor(theirs, batch_size=4), folder)

    run(store, job, folder, progress=interfere)
    assert ours.seen < 60
    np.testing.assert_allclose(features(Store.open(store.root), job, folder), expected(folder), atol=1e-6)


# Collections


def test_ids_of_a_folder_are_relative_posix_paths_in_nfc(tmp_path):
    for name in ("b/Ärger.PNG", "b/a.jpeg", "z.tif", ".hidden.png", ".git/x.png", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "b" / "e\u0301.gif").write_bytes(b"")
    assert list(find_images(tmp_path)) == ["b/a.jpeg", "b/Ärger.PNG", "b/\u00e9.gif", "z.tif"]


def test_ids_in_newts_layout_are_stems(tmp_path):
    make_images(tmp_path / "newt2021_images", 2)
    assert list(find_images(tmp_path)) == ["000", "001"]
    (tmp_path / "newt2021_images" / "000.jpg").write_bytes(b"")
    with pytest.raises(BBError, match="are both image '000'. Rename one of them"):
        find_images(tmp_path)


def test_names_that_are_no_utf8_become_text(tmp_path):
    folder = make_images(tmp_path / "pics", 1)
    os.rename(os.fsencode(folder / "000.png"), os.fsencode(folder) + b"/caf\xe9.png")
    with HashMemory.open(tmp_path / "cache.sqlite") as memory:
        found = scan(find_images(folder), memory)
    assert [entry.image_id for entry in found.entries] == ["caf\\xe9.png"]
    Collection.from_entries("pics", found.entries)


def test_a_folder_that_cannot_be_listed_is_refused(tmp_path, monkeypatch):
    folder = make_images(tmp_path / "pics", 1)
    (folder / "closed").mkdir()
    real = os.scandir

    def scandir(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(BBError, match="can't read the folder .*closed: Permission denied. Change its permissions"):
        find_images(folder)


def test_hashes_are_kept_on_the_way(tmp_path, monkeypatch):
    monkeypatch.setattr("bb.extract.data.scan.KEEP_EVERY", 3)
    monkeypatch.setattr("bb.extract.data.scan.AT_ONCE", 1)
    folder = make_images(tmp_path / "pics", 10)

    def die(done):
        if done == 8:
            raise SystemExit

    kept = []
    with HashMemory.open(None) as memory:
        real = memory.keep
        monkeypatch.setattr(memory, "keep", lambda rows: kept.append(len(rows)) or real(rows))
        with pytest.raises(SystemExit):
            scan(find_images(folder), memory, progress=die)
    assert kept[:2] == [3, 3]


def test_a_folder_that_is_none_or_empty(tmp_path):
    with pytest.raises(UsageError, match="nowhere is not a folder: give --data NAME=DIR"):
        find_images(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="holds no image .* is it the right folder"):
        find_images(tmp_path)


def test_hashing_is_remembered_by_path_size_and_time(tmp_path, monkeypatch):
    folder, memory = make_images(tmp_path / "pics", 3), tmp_path / "cache" / "hashes.sqlite"

    def hashed():
        count = []
        real = ImageFile.read
        with monkeypatch.context() as patch, HashMemory.open(memory) as opened:
            patch.setattr(ImageFile, "read", lambda self: count.append(self.path) or real(self))
            found = scan(find_images(folder), opened)
        return len(count), [entry.image_sha256 for entry in found.entries]

    assert hashed()[0] == 3
    assert hashed()[0] == 0
    before = hashed()[1]
    make_images(folder, 1, seed=5)
    os.utime(folder / "000.png", (5, 5))
    n, after = hashed()
    assert n == 1 and after[0] != before[0] and after[1:] == before[1:]
    stat = os.stat(folder / "001.png")
    make_images(tmp_path / "other", 2, seed=6)
    (folder / "001.png").write_bytes((tmp_path / "other" / "001.png").read_bytes()[: stat.st_size].ljust(stat.st_size))
    os.utime(folder / "001.png", ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as a tool does that copies times
    n, last = hashed()
    assert n == 1 and last[1] != after[1]


def test_a_memory_that_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    folder = make_images(tmp_path / "pics", 2)
    with HashMemory.open(tmp_path / "file" / "below.sqlite") as memory:
        assert len(scan(find_images(folder), memory).entries) == 2
    (tmp_path / "broken.sqlite").write_bytes(b"this is no database" * 100)
    with HashMemory.open(tmp_path / "broken.sqlite") as memory:
        assert len(scan(find_images(folder), memory).entries) == 2


def test_a_file_that_cannot_be_read_is_reported(tmp_path):
    folder = make_images(tmp_path / "pics", 2)
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    found = look(folder)
    assert [entry.image_id for entry in found.entries] == ["000.png", "001.png"]
    assert found.failed == {"gone.png": "can't be read: No such file or directory"}


def test_a_path_does_not_leave_the_machine_in_a_name():
    name = BackboneName.parse("timm:resnet18@/home/me/secret/weights.safetensors")
    assert shared_name(name) == "timm:resnet18@weights.safetensors"
