"""What --on and its options say, and what a person hears who says it wrongly. Ray and Slurm have tests of their own."""

import importlib.util
import json
import pickle
import shutil
import signal
import sys
import threading
import time

import numpy as np
import pytest
import torch

from bb.cluster import slurm
from bb.cluster.command import Ended, run
from bb.cluster.engine import Job, OnRay, OnSlurm, Resources, parse_on, until_done
from bb.cluster.extract_worker import BackboneQueue, ExtractWorker, Network, WorkerConfig, WorkItem, decode_item
from bb.extract.backbones.code_hash import tree_hash
from bb.extract.backbones.decoders import find_decoder
from bb.extract.backbones.device import Numerics
from bb.extract.backbones.name import BackboneName
from bb.extract.backbones.registry import load
from bb.extract.data.image_source import ImageFile
from bb.extract.data.scan import HashMemory, find_images, scan
from bb.extract.data.shards import find_shards, scan_shards
from bb.extract.data.source_spec import parse_root
from bb.extract.embedding.decoder import DecodeOptions
from bb.extract.pipeline.extractor import Extractor
from bb.extract.pipeline.feature_writer import FeatureWriter
from bb.store import BBError, Entry, Store, UsageError
from tests.contracts.engine import check_engine, python
from tests.helpers.command_line import call, own_place, run_here
from tests.helpers.engines import VIT, check_equal, make_images
from tests.helpers.servers import GUARD, serving, static
from tests.helpers.shards import picture, pictures, write_table, write_tar

__all__ = ["call", "own_place"]


class Here:
    """An engine that runs its command lines one after the other, in threads of this process."""

    def run(self, jobs, *, say, tick):
        say(f"{len(jobs)} here")
        ended = []
        for job in jobs:
            ended.append(run(job.command))
            tick(len(ended))
        return ended


def test_the_suite_of_engines():
    check_engine(Here())


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("ray", OnRay()),
        ("ray:auto", OnRay("auto")),
        ("ray:10.0.0.1:6379", OnRay("10.0.0.1:6379")),
        ("slurm", OnSlurm()),
    ],
)
def test_what_on_means(text, means):
    assert parse_on(text) == means


@pytest.mark.parametrize("text", ["", "Ray", "ray:", "slurm:x", "dask"])
def test_what_is_no_engine(text):
    with pytest.raises(UsageError, match=f"--on {text} is not an engine: write ray, ray:HOST:PORT, ray:auto or slurm."):
        parse_on(text)


def test_rays_client_is_refused():
    with pytest.raises(UsageError, match="--on ray:ray://host:1: bb does not go through Ray's client."):
        parse_on("ray:ray://host:1")


@pytest.mark.parametrize(("name", "value", "least"), [("workers", 0, 1), ("cpus", -1, 1), ("gpus", -1, 0)])
def test_impossible_resources(name, value, least):
    with pytest.raises(UsageError, match=f"--{name} {value}: give a number from {least} up."):
        Resources(**{name: value})


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("90", 90),
        ("0:30:00", 30),
        ("4:00:00", 240),
        ("1-0", 1440),
        ("2-12:30", 3630),
        ("1-00:00:01", 1441),
        ("5:30", 6),
    ],
)
def test_times(text, minutes):
    assert slurm.minutes(text) == minutes


@pytest.mark.parametrize("text", ["", "soon", "1h", "1:2:3:4", "-5"])
def test_what_is_no_time(text):
    with pytest.raises(UsageError, match=f"--time {text} is not a time: write minutes, H:MM:SS or D-HH:MM:SS."):
        slurm.minutes(text)


def test_no_time_at_all():
    with pytest.raises(UsageError, match="--time 0 leaves no time to work in: give a minute at least."):
        slurm.minutes("0")


# Rounds


def counted(path, succeed_at):
    """A command that fails until it has been run so many times."""
    return python(f"import pathlib; p = pathlib.Path({str(path)!r}); n = len(p.read_text()) if p.exists() else 0; "
                  f"p.write_text('x' * (n + 1)); raise SystemExit(n + 1 < {succeed_at})")  # fmt: skip


def failed(jobs, ended):
    return [job for job, end in zip(jobs, ended, strict=True) if end.status != 0]


def test_only_what_is_left_is_done_again(tmp_path):
    jobs = [Job("one", counted(tmp_path / "one", 1)), Job("three", counted(tmp_path / "three", 3))]
    said, counts = [], []
    until_done(Here(), jobs, failed, say=said.append, tick=counts.append)
    assert (tmp_path / "one").read_text() == "x" and (tmp_path / "three").read_text() == "xxx"
    assert said[-1] == "1 here" and counts == [1, 2, 2, 2]
    assert "1 of the jobs have work left, and are sent again:\n  three: it ended with status 1" in said


def test_work_that_never_ends_is_given_up():
    job = Job("part 2/3", python("import sys; sys.exit('bb: the disk is full.')"))
    with pytest.raises(BBError) as caught:
        until_done(Here(), [job], failed, rounds=2, say=lambda line: None)
    assert "1 jobs have work left after 2 rounds:\n  part 2/3: the disk is full." in str(caught.value)
    assert "Fix what they say and rerun the command." in str(caught.value)


def test_nonsense_is_not_tried_again(tmp_path):
    job = Job("one", python("import sys; print('bb: no such thing.', file=sys.stderr); sys.exit(2)"))
    with pytest.raises(UsageError, match="^one: no such thing.$"):
        until_done(Here(), [job], failed, say=lambda line: None)


def test_a_command_that_is_asked_to_end_is_waited_for(tmp_path):
    """As Slurm asks before a time limit; what it still does is not cut short."""
    ready = tmp_path / "ready"
    code = (
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.1), print('published', flush=True), sys.exit(1)))\n"
        f"pathlib.Path({str(ready)!r}).touch()\n"
        f"time.sleep({GUARD})"
    )

    def ask():
        while not ready.exists():
            time.sleep(0.02)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR2)

    before = signal.getsignal(signal.SIGUSR2)
    asking = threading.Thread(target=ask)
    asking.start()
    ended = run(python(code))
    asking.join()
    assert (ended.status, ended.out) == (1, "published\n")
    assert signal.getsignal(signal.SIGUSR2) is before


# What a worker does


def test_a_piece_tells_what_could_not_be_decoded(tmp_path):
    images = make_images(tmp_path / "images", n=2)
    names = ["000.png", "broken.png", "001.png", "gone.png"]
    entries = [Entry(f"noise/{name}", _sha256(images / name), 1, None, None) for name in names]
    entries[2] = entries[2]._replace(image_sha256=bytes(32))
    item = WorkItem(entries, [ImageFile(images / name) for name in names], {"space": np.ones(4, dtype=bool)})
    numerics = Numerics.resolve("cpu")
    geometry = load(VIT).view.geometry()
    decoded = decode_item(item, find_decoder(DecodeOptions(), numerics.device), [geometry])
    assert decoded.good == [0] and decoded.pixels[0].shape == (1, 3, *geometry.crop)
    assert decoded.pixels[0].dtype == np.uint8
    assert list(decoded.failed) == [entry.image_sha256 for entry in entries[1:]]
    reasons = list(decoded.failed.values())
    assert reasons[1] == "changed while bb ran; run again" and reasons[2] == "can't be read: No such file or directory"


def test_what_a_worker_publishes_says_how_it_was_made(tmp_path):
    images, store = make_images(tmp_path / "images", n=2), Store.create(tmp_path / "s.bb")
    numerics = Numerics.resolve("cpu")
    decoder = find_decoder(DecodeOptions(), numerics.device)
    name = BackboneName.parse(VIT)
    extractor = Extractor.load(name, decoder, numerics, patch=False, batch_size=3, compile=False)
    entries = [Entry(f"noise/{name}", _sha256(images / name), 1, None, None) for name in ("000.png", "001.png")]
    sources = [ImageFile(images / "000.png"), ImageFile(images / "001.png")]
    item = WorkItem(entries, sources, {extractor.spaces.img.key: np.ones(2, dtype=bool)})
    worker = ExtractWorker([BackboneQueue(FeatureWriter.open(store, extractor), 0)])
    told = [worker.take(decode_item(item, decoder, [extractor.backbone.view.geometry()])), worker.close()]
    assert [each.computed for each in told] == [0, 2], "a batch is three, so the rest comes last"
    (segment,) = store.segments(extractor.spaces.img)
    assert segment.provenance["batch_size"] == 3 and segment.provenance["compile"] is False


def test_weights_of_another_resolution_are_said():
    name, numerics = BackboneName.parse(VIT), Numerics.resolve("cpu")
    decoder = find_decoder(DecodeOptions(), numerics.device)
    extractor = Extractor.load(name, decoder, numerics, patch=False, batch_size=3, compile=False)
    assert extractor.notes() == []
    extractor.backbone.architecture["resampled"] = True
    assert extractor.notes() == [
        f"{VIT}: weights of another resolution, interpolated by timm; the feature space says so"
    ]


def _sha256(path):
    import hashlib

    return hashlib.sha256(path.read_bytes() if path.exists() else b"gone").digest()


def config(store, **changed):
    networks = [Network(BackboneName.parse(VIT), 0, ["0" * 64])]
    values = {
        "store": store, "networks": networks, "decode": DecodeOptions(), "device": "cpu", "compute": "fp32",
        "stored": "float32", "patch": False, "batch_size": None, "compile": False, "threads": 1, "images": 1,
    }  # fmt: skip
    return WorkerConfig(**values | changed)


def test_a_worker_with_another_bb_is_refused(tmp_path):
    Store.create(tmp_path / "s.bb")
    with pytest.raises(BBError) as caught:
        config(tmp_path / "s.bb").open()
    assert "a worker on " in str(caught.value) and "can't begin: " in str(caught.value)
    assert f"{VIT} fills space " in str(caught.value) and "there and 000000000000 here" in str(caught.value)
    assert "Every machine needs the same bb and the same weights" in str(caught.value)
    assert tree_hash()  # what would differ


def test_a_worker_that_does_not_see_the_store_says_so(tmp_path):
    with pytest.raises(BBError, match="a worker on .* can't begin: .*nowhere.bb"):
        config(tmp_path / "nowhere.bb").open()


# The command line


@pytest.fixture
def images(tmp_path):
    return make_images(tmp_path / "images", n=12)


def test_parts_make_a_whole(call, images):
    arguments = ["extract", "--ckpt", VIT, "--data", f"noise={images}", "--store", "s.bb", "--json"]
    (images / "broken.png").unlink()
    told = [json.loads(call(*arguments, "--part", f"{i}/3")[1])[0] for i in (1, 2, 3)]
    assert sum(each["computed"] for each in told) == 12 and all(each["computed"] < 12 for each in told)
    assert json.loads(call(*arguments)[1])[0]["present"] == 12
    dry = json.loads(call(*arguments[:-3], "--store", "other.bb", "--json", "--dry-run", "--part", "1/3")[1])
    assert dry[0]["missing"] == told[0]["computed"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--part", "4/3"], "--part 4/3 is not a part: write, for example, --part 1/8 for the first of eight."),
        (["--on", "dask"], "--on dask is not an engine: write ray, ray:HOST:PORT, ray:auto or slurm."),
        (["--workers", "2"], "--workers without --on: say where to run it, --on ray or --on slurm."),
        (["--time", "9"], "--time without --on: say where to run it"),
        (["--on", "ray", "--partition", "gpu"], "--partition is for --on slurm: leave it out."),
        (["--on", "ray", "--time", "9"], "--time is for --on slurm: leave it out."),
        (["--on", "ray", "--workers", "0"], "--workers 0: give a number from 1 up."),
        (["--on", "ray", "--profile"], "--profile times the stages on one machine: leave it out with --on."),
        (
            ["--on", "ray", "--dry-run"],
            "--dry-run says what would be done on this machine: leave out one of it and --on.",
        ),
        (
            ["--on", "ray", "--devices", "0,1"],
            "--devices splits the work on one machine: with --on, give --workers, and --gpus for each.",
        ),
        (
            ["--on", "ray", "--decode", "nvjpeg"],
            "--decode nvjpeg is for one machine: with --on, CPUs decode",
        ),
        (["--on", "ray", "--store", "s3://bucket/x"], "s3://bucket/x is read only in place: work on a local store"),
        (["--on", "ray:here"], "--on ray:here: that is neither HOST:PORT nor auto."),
    ],
)
def test_bad_usage(call, images, monkeypatch, options, message):
    if "--devices" in options:
        monkeypatch.setattr("torch.cuda.is_available", lambda: True)
        monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    if "ray:here" in options and importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed (the extra `ray`)")
    status, out, err = call("extract", "--ckpt", VIT, "--data", f"noise={images}", *options)
    assert (status, out) == (2, "") and f"bb: {message}" in err


@pytest.mark.parametrize(
    "verb", [("extract", "--ckpt", VIT), ("probe", "newt"), ("probe", "retrieval", "--labels", "x")]
)
def test_without_slurm(call, images, tmp_path, monkeypatch, verb):
    monkeypatch.setenv("PATH", str(tmp_path))
    status, _, err = call(*verb, "--data", f"noise={images}", "--on", "slurm")
    assert status == 2
    assert "bb: --on slurm: sbatch is not on this machine. Run this on a machine that can submit to Slurm" in err


@pytest.mark.parametrize(("engine", "library"), [("slurm", "submitit"), ("ray", "ray")])
def test_without_the_extra(call, images, monkeypatch, engine, library):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == library else find(name, *rest))
    monkeypatch.setattr(shutil, "which", lambda name: name)
    status, _, err = call("extract", "--ckpt", VIT, "--data", f"noise={images}", "--on", engine)
    assert status == 2 and f"bb: --on {engine} needs {library}: pip install 'backbone-bench[{engine}]'" in err


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("slurm = 1", 'sets slurm = 1: write [slurm] and below it, for example, partition = "gpu".'),
        ("[slurm]\nqueue = 'x'", "[slurm] sets queue, which bb does not know; it knows partition, account, time,"),
        ("[slurm]\nworkers = 'x'", "[slurm] sets workers = 'x', which is not a whole number."),
        ("[slurm]\ngpus = true", "[slurm] sets gpus = True, which is not a whole number."),
        ("[slurm]\nsetup = [1]", "[slurm] sets setup = [1], which is not a list of shell lines."),
        ("[slurm]\nsbatch = 'x'", "[slurm] sets sbatch = 'x', which is not a table of sbatch's options."),
    ],
)
def test_bad_settings(call, own_place, said, message):
    (own_place / "bb.toml").write_text(said + "\n")
    status, _, err = call("models", "nothing")
    assert status == 2 and message in err


@pytest.fixture
def sent(monkeypatch):
    """The jobs that Slurm would be given; this process runs them, without starting another that imports torch."""
    sent = []

    class Spy:
        def __init__(self, *values):
            self.values = values

        def run(self, jobs, *, say, tick):
            sent.extend(jobs)
            ended = []
            for job in jobs:
                python, *words = job.command
                assert (python, words[:3]) == (sys.executable, ["-P", "-m", "bb"])
                status, out, err = run_here(".", *words[3:])
                ended.append(Ended(status, out, err))
                tick(len(ended))
            return ended

    monkeypatch.setattr(slurm, "Slurm", Spy)
    return sent


def test_a_command_line_for_a_worker_says_every_option(call, images, sent):
    (images / "broken.png").unlink()
    status, out, err = call(
        "extract", "--ckpt", VIT, "--data", f"noise={images}", "--store", "s.bb", "--on", "slurm", "--workers", "2"
    )
    assert status == 0, err
    assert "12 computed" in out and [job.name for job in sent] == ["part 1/2", "part 2/2"]
    words = sent[0].command
    assert words[:5] == (sys.executable, "-P", "-m", "bb", "extract")
    for word in (
        f"--ckpt={VIT}",
        f"--data=noise={images}",
        "--part=1/2",
        "--adopt=never",
        "--precision=fp32",
        "--json",
    ):
        assert word in words
    assert any(word.startswith("--store=/") for word in words)
    assert not any(word.startswith(("--on", "--workers")) for word in words)


def test_shards_are_named_so_that_a_worker_finds_them(call, own_place, sent):
    """Relative ones; and each part takes its share of them."""
    write_tar(own_place / "s-0.tar", pictures(8))
    write_tar(own_place / "s-1.tar", pictures(8, first=8))
    status, out, err = call(
        "extract", "--ckpt", VIT, "--data", "pics=s-{0..1}.tar", "--store", "s.bb", "--on", "slurm", "--workers", "1"
    )
    assert status == 0 and "16 computed" in out, err
    assert f"--data=pics={own_place}/s-{{0..1}}.tar" in sent[0].command
    arguments = ["extract", "--ckpt", VIT, "--data", "pics=s-{0..1}.tar", "--store", "parts.bb", "--json"]
    told = [json.loads(call(*arguments, "--part", f"{i}/2")[1])[0]["computed"] for i in (1, 2)]
    assert sum(told) == 16 and 0 < told[0] < 16
    one, parts = Store.open("s.bb"), Store.open("parts.bb")
    check_equal(one, parts, "pics", sorted(pictures(16)))


def test_with_strict_nothing_is_sent_again(call, images, sent):
    status, out, _ = call(
        "extract", "--ckpt", VIT, "--data", f"noise={images}", "--store", "s.bb", "--on", "slurm", "--workers", "1",
        "--strict",
    )  # fmt: skip
    assert status == 1 and len(sent) == 1 and "1 failed; stopped early" in out


def test_every_kind_of_source_reaches_a_worker(tmp_path):
    """Through pickle, as Ray sends them: files, members of archives, cells of tables, on disk and on a server."""
    files = pictures(6)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.jpg").write_bytes(picture(6))
    write_tar(tmp_path / "s.tar", files)
    write_table(tmp_path / "t.parquet", [(data, None) for data in files.values()])
    decoder = find_decoder(DecodeOptions(), torch.device("cpu"))
    geometry = load(VIT).view.geometry()
    with serving(static(tmp_path)) as url:
        roots = ("s.tar", "t.parquet", f"{url}/s.tar", f"{url}/t.parquet")
        scans = {f"pics{i}": scan_shards(find_shards(parse_root(text, tmp_path)), HashMemory.open(None))
                 for i, text in enumerate(roots)}  # fmt: skip
        scans["folder"] = scan(find_images(tmp_path / "folder"), HashMemory.open(None))
        batches = []
        for found in scans.values():
            item = WorkItem(found.entries, list(found.sources.values()), {"space": np.ones(len(found.entries), bool)})
            sent = pickle.loads(pickle.dumps((item, decoder, [geometry])))
            batches.append(pickle.loads(pickle.dumps(decode_item(*sent))))
    kinds = [type(source).__name__ for found in scans.values() for source in list(found.sources.values())[:1]]
    assert kinds == ["Member", "ParquetImage", "Member", "ParquetImage", "ImageFile"]
    assert [decoded.good for decoded in batches] == [[*range(6)]] * 4 + [[0]] and not any(
        decoded.failed for decoded in batches
    )
    for decoded in batches[1:4]:
        assert np.array_equal(decoded.pixels[0], batches[0].pixels[0])
