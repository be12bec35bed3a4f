"""`bb extract --profile`: what it counts, and what it calls the bottleneck."""

import json

import pytest

from bb.extract.pipeline.profile import STAGES, WORKERS, Profile
from tests.helpers.command_line import VIT, call, make_newt, own_place

__all__ = ["call", "own_place"]  # fixtures


def profile(device="cpu", cores=2, seconds=10.0, features=100, **stages):
    """Of 4 readers, 2 that decode and compute, on a GPU 2 decoders and a device, and a writer.

    stages  (seconds, processor seconds)
    """
    made = Profile.start(device, cores)
    between = (("processor", 2),) if device == "cpu" else (("decoder", 2), ("device", 1))
    for worker, threads in (("reader", 4), *between, ("writer", 1)):
        for _ in range(threads):
            clock = made.clock(worker)
            for stage in WORKERS[worker]:
                wall, cpu = stages.get(stage, (0.0, 0.0))
                clock.wall[stage], clock.cpu[stage] = wall / threads, cpu / threads
    if features:
        made.add("toy", features, stages.get("forward", (0.0, 0.0))[0] if device == "cuda" else 0.0)
    made.seconds = seconds
    return made


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"decode": (14.0, 12.0), "transform": (4.0, 4.0), "forward": (2.0, 2.0), "read": (1.0, 0.5)},
            "the bottleneck is the processor, busy 100% of the time: 65% of its work is decoding",
        ),
        (
            {"decode": (2.0, 2.0), "forward": (17.0, 16.0)},
            "the bottleneck is the processor, busy 95% of the time: 89% of its work is the forward pass",
        ),
        (
            {"read": (38.0, 1.0), "decode": (2.0, 2.0), "forward": (4.0, 4.0)},
            "the bottleneck is reading: the readers were busy 95% of the time",
        ),
        (
            {"write": (9.0, 1.0), "decode": (2.0, 2.0), "forward": (4.0, 4.0)},
            "the bottleneck is writing: the writer was busy 90% of the time",
        ),
        (
            {"decode": (0.4, 0.4), "forward": (6.0, 6.0)},
            "nothing was busy throughout, most of all the processor, busy 32% of the time: "
            "94% of its work is the forward pass",
        ),
        (
            {"device": "cuda", "decode": (19.0, 18.0), "forward": (4.0, 0.5), "copy": (0.5, 0.5)},
            "the bottleneck is decoding: the decoders were busy 95% of the time",
        ),
        (
            {"device": "cuda", "decode": (8.0, 8.0), "forward": (9.0, 0.5), "copy": (0.5, 0.5)},
            "the bottleneck is the forward pass: the device was busy 95% of the time",
        ),
        (
            {"device": "cuda", "decode": (8.0, 8.0), "transform": (9.0, 9.0), "forward": (1.0, 0.5)},
            "the bottleneck is resizing: the decoders were busy 85% of the time",
        ),
        ({"features": 0}, "nothing was embedded, so nothing held it up"),
    ],
)
def test_the_bottleneck_in_a_sentence(given, sentence):
    assert profile(**given).bottleneck() == sentence


def test_processes_beside_each_other_are_told_together():
    both = Profile.merged([profile(decode=(4.0, 4.0)), profile(decode=(6.0, 5.0), seconds=12.0)], "cpu")
    assert (both.cores, both.features, both.seconds) == (4, 200, 12.0)
    assert both.stage("decode") == pytest.approx((10.0, 9.0))
    assert both.record()["waiting"]["reader"]["threads"] == 8


def test_of_a_pass(call, tmp_path):
    newt = make_newt(tmp_path / "newt", n=2)
    status, out, _ = call("extract", "--ckpt", VIT, "--data", f"newt={newt}", "--profile")
    assert status == 0 and f"{VIT} on newt, " in out
    shown = [line.split()[0] for line in out.splitlines() if line.strip()]
    assert shown[2:9] == ["stage", *STAGES]
    here = [worker for worker in WORKERS if f"waiting: {worker}" in out]
    assert here in (["reader", "processor", "writer"], ["reader", "decoder", "device", "writer"])
    assert "bottleneck" in out.splitlines()[-1] or "nothing was busy throughout" in out.splitlines()[-1]
    # Programs get the same; of what shares a pass each has it.
    options = ["--data", f"newt={newt}", "--profile", "--json", "--store", "other.bb"]
    status, out, _ = call("extract", "--ckpt", VIT, "--ckpt", "timm:test_resnet/untrained", *options)
    first, second = json.loads(out)
    told = first["profile"]
    assert status == 0 and told == second["profile"]
    assert told["features"] == 32 and set(told["stages"]) == set(STAGES) and list(told["waiting"]) == here
    assert all(told["stages"][stage]["seconds"] > 0 for stage in ("decode", "transform", "forward"))
    assert set(told["forward"]) == {VIT, "timm:test_resnet/untrained"}
    status, out, _ = call("extract", "--ckpt", VIT, *options)
    (done,) = json.loads(out)
    assert done["profile"]["bottleneck"] == "nothing was embedded, so nothing held it up"
